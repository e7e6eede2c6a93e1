"""Size symbols as kernel parameters."""

from __future__ import annotations

from webdnn_backends.ir import build
from webdnn_backends.ir.loops import Apply, Axis, Const, Expr, Read, Reduce, ReduceOp, Var, subexpressions
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.te.epilogue import Arguments
from webdnn_backends.te.generic import GenericOptions, generic
from webdnn_backends.te.implementation import ScheduleContext
from webdnn_backends.te.parameters import parameters_of
from webdnn_backends.te.tensors import Stage, Tensor
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import maximum, signed_symbols, symbol

_N, _START = symbol("n"), symbol("start", signed=True)


def _signs(expr: Expr) -> dict[str, bool]:
    return {part.name: part.signed for part in subexpressions(expr) if isinstance(part, Var)}


def test_symbols_are_numbered_as_they_are_met_and_loop_variables_are_none() -> None:
    found = parameters_of([symbol("b") * 2, symbol("a")], [build.add(Var("i"), Var("c"))], {"i"})
    assert {old: var.name for old, var in found.variables.items()} == {"b": "n0", "a": "n1", "c": "n2"}
    assert found.names == ("n0", "n1", "n2")
    assert found.sizes == (symbol("b"), symbol("a"), symbol("c"))


def test_a_symbol_that_is_signed_anywhere_is_signed_everywhere() -> None:
    found = parameters_of([_N], [build.add(Var("start", signed=True), Var("n"))], set(), "size")
    assert found.sizes == (_N, _START)
    assert _signs(found.expr(build.dim(_START * _N))) == {"size0": False, "size1": True}
    assert signed_symbols(found.dim(_START + _N)) == {"size1"}


def test_the_maximum_of_a_signed_size_and_zero_stays_a_maximum() -> None:
    size = maximum(_START, 0)
    found = parameters_of([size], [], set())
    assert found.dim(size) == maximum(symbol("n0", signed=True), 0)
    assert found.axis(Axis("i", size)) == Axis("i", found.dim(size))


def test_extents_of_reductions_are_renamed_with_the_terms() -> None:
    reduce = Reduce(
        ReduceOp.SUM, (Axis("k", _N),), Read("x", (build.add(Var("k"), Var("start", signed=True)),), Scalar.F32)
    )
    found = parameters_of([], [reduce], set())
    renamed = found.expr(reduce)
    assert isinstance(renamed, Reduce)
    assert renamed.axes == (Axis("k", symbol("n0")),)
    assert _signs(renamed.body) == {"k": False, "n1": True}


def _sliced() -> tuple[Stage, ScheduleContext]:
    """y[i] = x[i + start], of which there are max(start, 0)."""
    size = maximum(_START, 0)
    tensors = {"x": Tensor("x", DType.FLOAT32, (_N,)), "y": Tensor("y", DType.FLOAT32, (size,))}
    body = Read("x", (Apply(Op.ADD, (Var("i"), Var("start", signed=True))),), Scalar.F32)
    return Stage("y", (Axis("i", size),), body), ScheduleContext(tensors, {}, {})


def test_the_generic_schedule_keeps_the_sign() -> None:
    stage, context = _sliced()
    call = generic(stage, context, GenericOptions())
    assert call.parameters[0] == _START


def test_arguments_of_fast_schedules_keep_the_sign() -> None:
    stage, context = _sliced()
    arguments = Arguments(stage, context)
    assert arguments.parameters.sizes == (_START, _N)
    extent = arguments.dim(stage.axes[0].extent)
    assert not isinstance(extent, int)
    assert Const(0) in subexpressions(extent)
    assert True in _signs(extent).values()
