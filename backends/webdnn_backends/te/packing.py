"""Constants made when they are asked for (packed, widened): those of a large model would not fit in memory together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeAlias

import numpy.typing as npt

__all__ = ["KEPT_BYTES", "Constants"]

Array: TypeAlias = npt.NDArray[Any]

KEPT_BYTES = 256 * 2**20
"""As much of what was made stays in memory; what is beyond that is made again when it is asked for again."""


class Constants(Mapping[str, Array]):
    """Arrays by name. stored: those that exist. made: how the others are made."""

    def __init__(self, stored: Mapping[str, Array], made: Mapping[str, Callable[[], Array]]) -> None:
        self._stored = dict(stored)
        self._made = dict(made)
        self._names = dict.fromkeys((*stored, *made))
        self._room = KEPT_BYTES

    @classmethod
    def over(cls, arrays: Mapping[str, Array], made: Mapping[str, Callable[[], Array]]) -> Constants:
        """Other arrays beside those of a mapping, or in their place."""
        stored, before = (arrays._stored, arrays._made) if isinstance(arrays, Constants) else (arrays, {})
        return cls({name: array for name, array in stored.items() if name not in made}, {**before, **made})

    def only(self, names: Collection[str]) -> Constants:
        """Those of some names."""
        return Constants(
            {name: array for name, array in self._stored.items() if name in names},
            {name: make for name, make in self._made.items() if name in names},
        )

    def __getitem__(self, name: str) -> Array:
        if name in self._stored:
            return self._stored[name]
        array = self._made[name]()
        if array.nbytes <= self._room:
            self._room -= array.nbytes
            self._stored[name] = array
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names
