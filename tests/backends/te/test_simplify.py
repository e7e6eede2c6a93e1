"""Index arithmetic keeps its value when it is made canonical."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from webdnn_backends.ir import build
from webdnn_backends.ir.loops import Apply, Axis, Cast, Const, Expr, Read, Var, subexpressions
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.te.simplify import simplify
from webdnn_onnx.dtypes import DType

AXES = (Axis("i", 5), Axis("j", 7), Axis("k", 3))
OPS = (Op.ADD, Op.SUB, Op.MUL, Op.FLOOR_DIV, Op.FLOOR_MOD, Op.MIN, Op.MAX)


def expressions() -> st.SearchStrategy[Expr]:
    leaves = st.one_of(st.sampled_from([Var("i"), Var("j"), Var("k")]), st.integers(-9, 9).map(Const))

    def grow(children: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        plain = st.tuples(st.sampled_from(OPS[:3] + OPS[5:]), children, children)
        divided = st.tuples(st.sampled_from(OPS[3:5]), children, st.integers(1, 9).map(Const))
        return st.one_of(plain, divided).map(lambda parts: Apply(parts[0], parts[1:]))

    return st.recursive(leaves, grow, max_leaves=8)


def value(expr: Expr, at: dict[str, int]) -> int | bool:
    match expr:
        case Const(value=number):
            return int(number) if not isinstance(number, bool) else number
        case Var(name=name):
            return at[name]
        case Cast(arg=arg):
            return value(arg, at) & 0xFFFFFFFF
        case Apply(op=op, args=args):
            left, right = (value(arg, at) for arg in args)
            return {
                Op.ADD: lambda: left + right,
                Op.SUB: lambda: left - right,
                Op.MUL: lambda: left * right,
                Op.FLOOR_DIV: lambda: left // right if right else 0,
                Op.FLOOR_MOD: lambda: left % right if right else 0,
                Op.MIN: lambda: min(left, right),
                Op.MAX: lambda: max(left, right),
                Op.LT: lambda: left < right,
                Op.EQ: lambda: left == right,
            }[op]()
    raise AssertionError(expr)


@given(expressions(), st.integers(0, 4), st.integers(0, 6), st.integers(0, 2))
@settings(max_examples=300, deadline=None)
def test_a_simplified_index_has_the_same_value(expr: Expr, i: int, j: int, k: int) -> None:
    at = {"i": i, "j": j, "k": k}
    assert value(simplify(expr, AXES), at) == value(expr, at)


@given(expressions(), st.integers(-4, 30), st.integers(0, 4), st.integers(0, 6), st.integers(0, 2))
@settings(max_examples=300, deadline=None)
def test_a_decided_comparison_is_right(expr: Expr, limit: int, i: int, j: int, k: int) -> None:
    at = {"i": i, "j": j, "k": k}
    for comparison in (
        Apply(Op.LT, (expr, Const(limit))),
        Apply(Op.EQ, (expr, Const(limit))),
        Apply(Op.LT, (Cast(DType.UINT32, expr), Cast(DType.UINT32, Const(abs(limit))))),
    ):
        assert bool(value(simplify(comparison, AXES), at)) == bool(value(comparison, at))


def test_the_quotient_of_a_flattened_index_is_its_outer_index() -> None:
    flat = build.add(build.mul(Var("i"), 7), Var("j"))
    assert simplify(Apply(Op.FLOOR_DIV, (flat, Const(7))), AXES) == Var("i")
    assert simplify(Apply(Op.FLOOR_MOD, (flat, Const(7))), AXES) == Var("j")


def test_a_test_that_cannot_fail_disappears() -> None:
    inside = Apply(Op.LT, (Cast(DType.UINT32, Var("j")), Cast(DType.UINT32, Const(7))))
    assert simplify(inside, AXES) == build.TRUE


def test_a_position_outside_is_never_inside() -> None:
    def inside(position: Expr) -> Expr:
        limit = Const(7, Scalar.U32)
        return simplify(Apply(Op.LT, (Cast(DType.UINT32, position), limit)), AXES)

    assert inside(build.sub(Var("i"), 5)) == build.FALSE
    assert inside(build.add(Var("i"), 7)) == build.FALSE
    assert inside(Var("j")) == build.TRUE
    assert isinstance(inside(build.sub(Var("j"), 1)), Apply)


def test_symbolic_extents_divide_too() -> None:
    axes = (Axis("i", 5), Axis("j", _size()))
    flat = build.add(build.mul(Var("i"), Var("n")), Var("j"))
    assert simplify(Apply(Op.FLOOR_DIV, (flat, Var("n"))), axes) == Var("i")


def test_a_product_of_differences_of_elements_is_not_multiplied_out() -> None:
    def element(tensor: str, axis: str) -> Expr:
        value = Read(tensor, (Var(axis),), Scalar.I32)
        return Apply(Op.SUB, (value, Read(f"{tensor}_zero", (), Scalar.I32)))

    product = Apply(Op.MUL, (element("a", "i"), element("b", "j")))
    assert simplify(product, AXES) == product


def test_the_indices_of_elements_are_simplified_inside_a_product() -> None:
    flat = build.add(build.mul(Var("i"), 7), Var("j"))
    read = Read("a", (Apply(Op.FLOOR_DIV, (flat, Const(7))),), Scalar.I32)
    other = Apply(Op.SUB, (Read("b", (Var("j"),), Scalar.I32), Read("c", (), Scalar.I32)))
    found = simplify(Apply(Op.MUL, (Apply(Op.SUB, (read, read.indices[0])), other)), AXES)
    reads_ = [part for part in subexpressions(found) if isinstance(part, Read) and part.tensor == "a"]
    assert reads_ == [Read("a", (Var("i"),), Scalar.I32)]


def _size():  # type: ignore[no-untyped-def]  # a Sum
    from webdnn_onnx.symbolic import symbol

    return symbol("n")
