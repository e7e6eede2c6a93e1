"""Constants that are made when they are read."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from webdnn_backends.te import packing
from webdnn_backends.te.packing import Constants


def test_an_array_is_made_when_it_is_read_and_kept_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "KEPT_BYTES", 100)
    made: list[str] = []

    def make(name: str, size: int) -> np.ndarray:
        made.append(name)
        return np.zeros(size, np.uint8)

    constants = Constants({}, {name: partial(make, name, size) for name, size in (("small", 60), ("large", 60))})
    assert list(constants) == ["small", "large"]
    assert made == []
    for _ in range(2):
        assert [constants[name].size for name in constants] == [60, 60]
    assert made == ["small", "large", "large"]


def test_what_is_made_takes_the_place_of_what_is_stored() -> None:
    first = Constants({"a": np.zeros(1), "b": np.ones(1)}, {"c": partial(np.full, 1, 3.0)})
    both = Constants.over(first, {"a": partial(np.full, 1, 5.0)})
    assert {name: float(both[name][0]) for name in both} == {"b": 1.0, "a": 5.0, "c": 3.0}
    assert {name: float(array[0]) for name, array in both.only({"a", "b"}).items()} == {"a": 5.0, "b": 1.0}


def test_a_name_that_there_is_not_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Constants({}, {})["a"]
