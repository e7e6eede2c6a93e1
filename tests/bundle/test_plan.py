"""The memory plan: no two live tensors overlap, and a plan that breaks this is caught."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webdnn_backends.ir.loops import Access, BufferParameter, Kernel
from webdnn_backends.te.compile import CompiledProgram
from webdnn_backends.te.tensors import Call, Tensor
from webdnn_onnx.bundle.plan import Live, Plan, check_plan, plan_arena, plan_slots
from webdnn_onnx.dtypes import DType


def chain(sizes: list[int], reads: list[int]) -> CompiledProgram:
    """A program whose call k writes tensor k+1 from tensor k and from an earlier one."""
    tensors = {f"t{k}": Tensor(f"t{k}", DType.FLOAT32, (size,)) for k, size in enumerate(sizes)}
    buffers = tuple(
        BufferParameter(name, DType.FLOAT32, access)
        for name, access in (("a", Access.READ), ("b", Access.READ), ("c", Access.WRITE))
    )
    calls = tuple(
        Call(Kernel(f"k{k}", buffers, (), ()), (f"t{k}", f"t{reads[k] % (k + 1)}", f"t{k + 1}"))
        for k in range(len(sizes) - 1)
    )
    return CompiledProgram("wasm", tensors, ("t0",), (f"t{len(sizes) - 1}",), {}, {}, {}, calls)


programs = st.lists(st.integers(1, 400), min_size=2, max_size=12).flatmap(
    lambda sizes: st.lists(st.integers(0, 50), min_size=len(sizes), max_size=len(sizes)).map(
        lambda reads: chain(sizes, reads)
    )
)


@given(programs)
@settings(max_examples=100, deadline=None)
def test_no_two_live_tensors_overlap(program: CompiledProgram) -> None:
    arena, slots = plan_arena(program), plan_slots(program)
    assert set(arena.offsets) == set(program.tensors) == set(slots.slots)
    for plan in (arena, slots):
        live = {entry.name: entry for entry in plan.ranges}
        for one in live.values():
            for other in live.values():
                if one.name < other.name and one.first <= other.last and other.first <= one.last:
                    if plan.offsets:
                        begin, end = (plan.offsets[entry.name] for entry in (one, other))
                        assert begin + int(str(one.size)) <= end or end + int(str(other.size)) <= begin
                    else:
                        assert plan.slots[one.name] != plan.slots[other.name]


def test_memory_is_reused_along_a_chain() -> None:
    program = chain([1000] * 8, [0] * 8)
    assert plan_arena(program).arena < 8 * 4000


def test_a_planted_overlap_is_caught() -> None:
    ranges = (Live("a", 0, 2, 64), Live("b", 1, 3, 64))
    with pytest.raises(AssertionError, match=r"'[ab]' and '[ab]' overlap"):
        check_plan(Plan(ranges, {"a": 0, "b": 32}, {}, 96, ()))


def test_tensors_that_never_live_together_may_share() -> None:
    check_plan(Plan((Live("a", 0, 1, 64), Live("b", 2, 3, 64)), {"a": 0, "b": 0}, {}, 64, ()))
