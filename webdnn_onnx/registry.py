"""Implementations of ONNX operators by (domain, operator, since_version).

ONNX operators are an open, versioned set spread over many files; each stage that needs one implementation per
operator owns a Registry and offers a decorator. Lookup picks the greatest `since` not above the model's opset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from webdnn_onnx.errors import UnsupportedOpError, describe_node

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Versioned implementations; `concern` names the stage in error messages ("the reference")."""

    def __init__(self, concern: str) -> None:
        self.concern = concern
        self._entries: dict[tuple[str, str], dict[int, T]] = {}

    def add(self, op: str, since: int | tuple[int, ...], implementation: T, domain: str = "") -> None:
        """Register an implementation. Raises ValueError if that version has one already."""
        versions = self._entries.setdefault((domain, op), {})
        for version in (since,) if isinstance(since, int) else since:
            if version in versions:
                raise ValueError(f"{self.concern}: {domain or 'ai.onnx'} {op} since {version} is registered twice")
            versions[version] = implementation

    def decorate(self, op: str, since: int | tuple[int, ...], domain: str = "") -> Callable[[T], T]:
        """The decorator form of `add`."""

        def register(implementation: T) -> T:
            self.add(op, since, implementation, domain)
            return implementation

        return register

    def find(self, op: str, opset: int, domain: str = "") -> T | None:
        """The implementation for a model that imports `domain` at version `opset`, or None."""
        versions = self._entries.get((domain, op), {})
        usable = [version for version in versions if version <= opset]
        return versions[max(usable)] if usable else None

    def get(self, op: str, opset: int, domain: str = "", name: str = "") -> T:
        """As `find`. Raises UnsupportedOpError, which says what versions there are."""
        found = self.find(op, opset, domain)
        if found is not None:
            return found
        versions = self.versions(op, domain)
        have = f"versions {', '.join(map(str, versions))}" if versions else "no operator of that name"
        raise UnsupportedOpError(
            f"{describe_node(op, name, opset, domain)}: expected an operator that {self.concern} has, "
            f"got one it has not; there: {have}"
        )

    def versions(self, op: str, domain: str = "") -> tuple[int, ...]:
        """The since_versions registered for an operator, ascending."""
        return tuple(sorted(self._entries.get((domain, op), {})))

    def __iter__(self) -> Iterator[tuple[str, str, int, T]]:
        """Every entry as (domain, operator, since, implementation), sorted."""
        for (domain, op), versions in sorted(self._entries.items()):
            for since in sorted(versions):
                yield domain, op, since, versions[since]
