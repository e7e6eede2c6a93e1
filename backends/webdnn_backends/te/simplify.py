"""Index arithmetic made canonical, with what is known of the ranges of loop variables.

Index expressions are turned into polynomials (`webdnn_onnx.symbolic`) in which loop variables are symbols too, divided
and compared there with the loops' extents in mind, and turned back: `(i*7 + j) // 7` with j < 7 becomes `i`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from webdnn_backends.ir import build
from webdnn_backends.ir.loops import Apply, Axis, Cast, Const, Expr, Load, Read, Reduce, Select, Var
from webdnn_backends.ir.rewrite import map_children, size
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, Sum, Symbol, equal, less, lower_bound, maximum, minimum, substitute, symbol

__all__ = ["IndexAlgebra", "simplify"]

_SIGNED = "?"


@dataclass
class IndexAlgebra:
    """Conversion between index expressions and polynomials, and proofs about them.

    extents: how many values each loop variable takes, from 0; other variables are sizes, never negative. Parts that are
    no index arithmetic (loads, casts) become opaque symbols.
    """

    extents: Mapping[str, Dim]
    opaque: dict[Expr, str] = field(default_factory=dict)

    def to_dim(self, expr: Expr) -> Dim:
        """The polynomial of an I32 expression."""
        match expr:
            case Const(value=value):
                return int(value)
            case Var(name=name, signed=signed):
                return symbol(name, signed=signed)
            case Apply(op=op, args=args) if op in _ARITHMETIC:
                return _ARITHMETIC[op](self, *(self.to_dim(arg) for arg in args))
            case Cast(to=DType.INT32, arg=Apply(op=Op.EQ | Op.LT as op, args=(left, right))) if left.type is Scalar.I32:
                return (equal if op is Op.EQ else less)(self.to_dim(left), self.to_dim(right))
        name = self.opaque.setdefault(expr, f"{_SIGNED}{len(self.opaque)}")
        return symbol(name, signed=True)

    def to_expr(self, dim: Dim) -> Expr:
        """The expression of a polynomial."""
        expr = build.dim(dim)
        if not self.opaque:
            return expr
        values = {name: part for part, name in self.opaque.items()}

        def restore(part: Expr) -> Expr:
            if isinstance(part, Var):
                return values.get(part.name, part)
            return map_children(part, restore)

        return restore(expr)

    def upper(self, dim: Dim) -> Dim:
        """A bound from above without loop variables, where one follows term by term (else the dimension itself)."""
        return self._bound(dim, upper=True)

    def lower(self, dim: Dim) -> Dim:
        """A bound from below without loop variables."""
        return self._bound(dim, upper=False)

    def _bound(self, dim: Dim, *, upper: bool) -> Dim:
        if isinstance(dim, int):
            return dim
        total: Dim = 0
        for atoms, factor in dim.terms:
            term: Dim = factor
            for atom in atoms:
                extent = self.extents.get(atom.name) if isinstance(atom, Symbol) else None
                if extent is None:
                    term = term * Sum((((atom,), 1),))
                else:
                    term = term * (extent - 1 if (factor > 0) == upper else 0)
            total = total + term
        return total

    def non_negative(self, dim: Dim) -> bool:
        """Whether it provably is >= 0 for all values of the loop variables."""
        return lower_bound(self.lower(dim)) >= 0

    def below(self, dim: Dim, limit: Dim) -> bool:
        """Whether it provably is < limit."""
        return lower_bound(self.lower(limit - 1 - dim)) >= 0 or lower_bound(limit - 1 - self.upper(dim)) >= 0

    def divide(self, left: Dim, right: Dim) -> tuple[Dim, Dim] | None:
        """Quotient and remainder where they are provably polynomials."""
        quotient = left // right
        if isinstance(quotient, int):
            whole: Dim = quotient
        else:
            whole = 0
            for atoms, factor in quotient.terms:
                if all(isinstance(atom, Symbol) for atom in atoms):
                    whole = whole + Sum(((atoms, factor),)) if atoms else whole + factor
        rest = left - whole * right
        if self.non_negative(rest) and self.below(rest, right):
            return whole, rest
        return None


def _floor_div(algebra: IndexAlgebra, left: Dim, right: Dim) -> Dim:
    found = algebra.divide(left, right)
    return found[0] if found else left // right


def _floor_mod(algebra: IndexAlgebra, left: Dim, right: Dim) -> Dim:
    found = algebra.divide(left, right)
    if found:
        return found[1]
    return left % right


def _minimum(algebra: IndexAlgebra, left: Dim, right: Dim) -> Dim:
    if algebra.non_negative(right - left):
        return left
    return right if algebra.non_negative(left - right) else minimum(left, right)


def _maximum(algebra: IndexAlgebra, left: Dim, right: Dim) -> Dim:
    if algebra.non_negative(left - right):
        return left
    return right if algebra.non_negative(right - left) else maximum(left, right)


_ARITHMETIC: dict[Op, Callable[..., Dim]] = {
    Op.ADD: lambda _, left, right: left + right,
    Op.SUB: lambda _, left, right: left - right,
    Op.MUL: lambda _, left, right: left * right,
    Op.FLOOR_DIV: _floor_div,
    Op.FLOOR_MOD: _floor_mod,
    Op.MIN: _minimum,
    Op.MAX: _maximum,
}


def simplify(expr: Expr, axes: tuple[Axis, ...]) -> Expr:
    """The expression with every index inside it canonical and every decidable condition decided."""
    return _simplify(expr, {axis.name: axis.extent for axis in axes})


def _simplify(expr: Expr, extents: Mapping[str, Dim]) -> Expr:
    match expr:
        case Reduce(axes=axes, body=body):
            inner = {**extents, **{axis.name: axis.extent for axis in axes}}
            return Reduce(expr.op, axes, _simplify(body, inner))
        case Select(condition=condition, true=true, false=false):
            return build.select(_simplify(condition, extents), _simplify(true, extents), _simplify(false, extents))
    if expr.type is Scalar.I32 and expr.lanes == 1 and isinstance(expr, Apply) and expr.op in _ARITHMETIC:
        algebra = IndexAlgebra(extents)
        inner_parts = _simplify_opaque(expr, extents)
        simple = algebra.to_expr(algebra.to_dim(inner_parts))
        if algebra.opaque and size(simple) > size(inner_parts):
            # Arithmetic on elements: products of sums, multiplied out, would only compute more.
            return map_children(expr, lambda part: _simplify(part, extents))
        return simple
    rebuilt = map_children(expr, lambda part: _simplify(part, extents))
    return _decide(rebuilt, extents)


def _simplify_opaque(expr: Expr, extents: Mapping[str, Dim]) -> Expr:
    """Simplify inside the parts of index arithmetic that are no arithmetic."""
    if isinstance(expr, Apply) and expr.op in _ARITHMETIC:
        return Apply(expr.op, tuple(_simplify_opaque(arg, extents) for arg in expr.args))
    if isinstance(expr, Var | Const):
        return expr
    if isinstance(expr, Load | Read | Cast | Select | Apply | Reduce):
        return _simplify(expr, extents)
    return expr


def _decide(expr: Expr, extents: Mapping[str, Dim]) -> Expr:
    """A comparison of indices as a literal, where the ranges decide it."""
    if not isinstance(expr, Apply):
        return expr
    if expr.op is Op.AND:
        left, right = expr.args
        if build.FALSE in (left, right):
            return build.FALSE
        return right if left == build.TRUE else left if right == build.TRUE else expr
    if expr.op not in (Op.LT, Op.LE, Op.GT, Op.GE, Op.EQ) or expr.lanes != 1:
        return expr
    left, right = expr.args
    unsigned = left.type is Scalar.U32
    if unsigned:
        if not (_is_index_cast(left) and _is_index_cast(right)):
            return expr
        left, right = _uncast(left), _uncast(right)
    elif left.type is not Scalar.I32:
        return expr
    algebra = IndexAlgebra(extents)
    a, b = algebra.to_dim(left), algebra.to_dim(right)
    if unsigned:
        if expr.op is not Op.LT:
            return expr
        if algebra.non_negative(a) and algebra.below(a, b):
            return build.TRUE
        outside = algebra.non_negative(b) and (algebra.below(a, 0) or algebra.non_negative(a - b))
        return build.FALSE if outside else expr
    if expr.op in (Op.GT, Op.GE):
        a, b = b, a
    if expr.op is Op.EQ:
        different = algebra.non_negative(a - b - 1) or algebra.non_negative(b - a - 1)
        return build.TRUE if a == b else build.FALSE if different else expr
    slack = 1 if expr.op in (Op.LT, Op.GT) else 0
    if algebra.non_negative(b - a - slack):
        return build.TRUE
    return build.FALSE if algebra.non_negative(a - b - (1 - slack)) else expr


def _is_index_cast(expr: Expr) -> bool:
    return isinstance(expr, Const) or (
        isinstance(expr, Cast) and expr.to is DType.UINT32 and expr.arg.type is Scalar.I32
    )


def _uncast(expr: Expr) -> Expr:
    return Const(int(expr.value)) if isinstance(expr, Const) else expr.arg if isinstance(expr, Cast) else expr


def strides(index: Dim, names: tuple[str, ...]) -> dict[str, Dim] | None:
    """The factor of each named variable where the polynomial is linear in them all, else None."""
    found: dict[str, Dim] = dict.fromkeys(names, 0)
    if isinstance(index, int):
        return found
    for atoms, factor in index.terms:
        own = [atom.name for atom in atoms if isinstance(atom, Symbol) and atom.name in found]
        if any(not isinstance(atom, Symbol) and _mentions(atom, names) for atom in atoms) or len(own) > 1:
            return None
        if own:
            rest = tuple(atom for atom in atoms if not (isinstance(atom, Symbol) and atom.name == own[0]))
            found[own[0]] = found[own[0]] + (Sum(((rest, factor),)) if rest else factor)
    return found


def _mentions(atom: object, names: tuple[str, ...]) -> bool:
    probe: Dim = Sum((((atom,), 1),))  # type: ignore[arg-type]  # an atom of a polynomial
    return substitute(probe, dict.fromkeys(names, 0)) != probe
