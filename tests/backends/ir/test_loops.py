"""What expressions of the loop IR promise as values."""

from __future__ import annotations

import math

from webdnn_backends.ir.build import add
from webdnn_backends.ir.loops import Apply, Const, Load, Var, subexpressions
from webdnn_backends.ir.rewrite import free_variables, map_children, substitute
from webdnn_backends.ir.scalars import Op, Scalar


def test_equal_literals_are_the_same_bits() -> None:
    zero, negative = Const(0.0, Scalar.F32), Const(-0.0, Scalar.F32)
    assert zero != negative
    assert Const(math.nan, Scalar.F32) == Const(float("nan"), Scalar.F32)
    assert hash(Const(math.nan, Scalar.F32)) == hash(Const(float("nan"), Scalar.F32))
    assert Const(1) != Const(1.0, Scalar.F32)
    assert len({zero, negative, Const(0.0, Scalar.F32)}) == 2


def test_equal_expressions_have_equal_hashes() -> None:
    one, other = (Apply(Op.ADD, (Var("i"), Load("x", Var("j"), Scalar.I32))) for _ in range(2))
    assert one is not other
    assert one == other
    assert hash(one) == hash(other)


def test_parts_come_in_order() -> None:
    expr = Apply(Op.ADD, (Apply(Op.MUL, (Var("a"), Var("b"))), Var("c")))
    assert [part.name for part in subexpressions(expr) if isinstance(part, Var)] == ["a", "b", "c"]


def test_what_does_not_change_is_the_same_object() -> None:
    expr = Load("x", add(Var("i"), 1), Scalar.F32)
    assert map_children(expr, lambda part: part) is expr
    assert substitute(expr, {"j": Const(3)}) is expr
    assert free_variables(substitute(expr, {"i": Var("k")})) == {"k"}
