"""What a target's schedules return: kernels in order, with the tensors and packed weights that they need.

Each target offers `implement(stage, context) -> Implementation | str`; a string is the reason why it declined, and the
generic schedule takes the stage instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy.typing as npt

from webdnn_backends.te.tensors import Call, Stage, Tensor

__all__ = ["Implement", "Implementation", "Layout", "PackedConstant", "ScheduleContext"]

Layout: TypeAlias = tuple[int, ...]
"""The physical order of a tensor's axes, outermost first; (0, 2, 3, 1) is channels-last for N, C, H, W."""


@dataclass(frozen=True)
class PackedConstant:
    """A weight in the layout that a kernel reads. pack: the constant's array -> the packed array, whose flat elements
    are written to the bundle. key: names the packing, so that equal ones are written once."""

    tensor: Tensor
    constant: str
    pack: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
    key: str


@dataclass(frozen=True)
class Implementation:
    """Kernel calls in order; temporaries: tensors of their own; packed: weights of their own."""

    calls: tuple[Call, ...]
    temporaries: tuple[Tensor, ...] = ()
    packed: tuple[PackedConstant, ...] = ()


@dataclass(frozen=True)
class ScheduleContext:
    """What a schedule may look at.

    tensors: by name. layouts: physical axis order of the tensors that are not row-major. constants: arrays of the
    tensors that are, of which only shape and type may count.
    """

    tensors: Mapping[str, Tensor]
    layouts: Mapping[str, Layout]
    constants: Mapping[str, npt.NDArray[Any]]

    def layout(self, name: str) -> Layout:
        """The physical axis order of a tensor."""
        return self.layouts.get(name, tuple(range(len(self.tensors[name].shape))))


Implement: TypeAlias = Callable[[Stage, ScheduleContext], "Implementation | str"]
