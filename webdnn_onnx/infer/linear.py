"""Matrix products, Einsum, determinants."""

from __future__ import annotations

from webdnn_onnx.dtypes import DType
from webdnn_onnx.graph import Shape
from webdnn_onnx.infer.call import Call, show
from webdnn_onnx.infer.registry import shape_rule
from webdnn_onnx.infer.shapes import broadcast, broadcast_dim
from webdnn_onnx.symbolic import Dim

__all__ = ["matmul_shape"]


def matmul_shape(call: Call, left: Shape, right: Shape) -> Shape:
    """The shape of numpy.matmul. Raises ShapeError where the inner dimensions differ or an input is a scalar."""
    if not left or not right:
        raise call.shape_error("inputs", "rank 1 or more", f"{show(left)} and {show(right)}")
    inner = right[-2:][0]
    if isinstance(left[-1], int) and isinstance(inner, int) and left[-1] != inner:
        raise call.shape_error("inner dimensions", "equal ones", f"{show(left)} and {show(right)}")
    batch = broadcast(call, (left[:-2], right[:-2]))
    return (*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else ()))


@shape_rule("MatMul", same=(0, 1))
@shape_rule("MatMulInteger", dtype=DType.INT32)
def matmul(call: Call) -> list[Shape]:
    """Batches broadcast; [.., M, K] x [.., K, N] -> [.., M, N]."""
    return [matmul_shape(call, call.shape(0), call.shape(1))]


@shape_rule("QLinearMatMul", dtype=7)
def qlinear_matmul(call: Call) -> list[Shape]:
    """As MatMul of inputs 0 and 3, in the element type of the output's zero point."""
    return [matmul_shape(call, call.shape(0), call.shape(3))]


@shape_rule("Gemm", same=(0, 1))
def gemm(call: Call) -> list[Shape]:
    """[M, N] for A [M, K] and B [K, N], either of them transposed on request."""
    a, b = call.ranked(0, 2), call.ranked(1, 2)
    if call.number("transA", 0):
        a = a[::-1]
    if call.number("transB", 0):
        b = b[::-1]
    call.expect_equal("inner dimension of B", a[1], b[0])
    if call.has(2):
        broadcast(call, ((a[0], b[1]), call.shape(2)))
    return [(a[0], b[1])]


@shape_rule("Det")
def det(call: Call) -> list[Shape]:
    """The batch axes of square matrices."""
    shape = call.at_least(0, 2)
    call.expect_equal("last two dimensions", shape[-2], shape[-1])
    return [shape[:-2]]


@shape_rule("Einsum", same="all")
def einsum(call: Call) -> list[Shape]:
    """What the equation's right side says; without one, the letters that occur once, in alphabetical order."""
    equation = call.text("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != call.count:
        raise call.shape_error("attribute 'equation'", f"{call.count} terms", equation)
    sizes: dict[str, Dim] = {}
    ellipsis: Shape = ()
    for index, term in enumerate(terms):
        shape = call.shape(index)
        letters = term.replace("...", "")
        extra = len(shape) - len(letters)
        if extra < 0 or (extra and "..." not in term):
            raise call.shape_error(f"input {index}", f"rank of term '{term}'", show(shape))
        at = term.find("...")
        if at >= 0:
            ellipsis = broadcast(call, (ellipsis, shape[at : at + extra]))
            shape = (*shape[:at], *shape[at + extra :])
        for letter, dim in zip(letters, shape, strict=True):
            merged = broadcast_dim(sizes.get(letter, 1), dim)
            if merged is None:
                raise call.shape_error(f"input {index}", f"size {sizes[letter]} for '{letter}'", str(dim))
            sizes[letter] = merged
    if not arrow:
        once = sorted(letter for letter in sizes if left.count(letter) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    result: list[Dim] = []
    before, dots, after = right.partition("...")
    for letter in before:
        result.append(sizes[letter])
    if dots:
        result.extend(ellipsis)
    result.extend(sizes[letter] for letter in after)
    return [tuple(result)]
