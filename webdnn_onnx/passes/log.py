"""What the passes did, and what they declined to do, for `--explain`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from webdnn_onnx.graph import Node

__all__ = ["Firing", "Log"]


@dataclass(frozen=True)
class Firing:
    """One decision: which pass, about which nodes of the user's model, whether it changed them, and why (not)."""

    pass_name: str
    nodes: tuple[str, ...]
    fired: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.pass_name}: {', '.join(self.nodes)}: {'' if self.fired else 'not: '}{self.reason}"


@dataclass
class Log:
    """Decisions in the order they were taken; a repeated refusal is kept once."""

    firings: list[Firing] = field(default_factory=list)

    def fired(self, pass_name: str, nodes: Iterable[Node], reason: str) -> None:
        self.firings.append(Firing(pass_name, sources(nodes), True, reason))

    def declined(self, pass_name: str, nodes: Iterable[Node], reason: str) -> None:
        firing = Firing(pass_name, sources(nodes), False, reason)
        if firing not in self.firings[-64:]:
            self.firings.append(firing)

    def count(self) -> int:
        """How many decisions changed something."""
        return sum(firing.fired for firing in self.firings)


def sources(nodes: Iterable[Node]) -> tuple[str, ...]:
    """The names in the user's model of what these nodes came from, each once."""
    return tuple(dict.fromkeys(name for node in nodes for name in node.source or (node.name or node.output(0),)))
