"""Size symbols as a kernel's parameters.

A kernel knows a size only by a parameter of its own; every schedule renames symbols here, so that one that may be
negative stays so in all that is derived from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from webdnn_backends.ir import build
from webdnn_backends.ir.loops import Axis, Expr, Reduce, Var, subexpressions
from webdnn_backends.ir.rewrite import free_variables, map_children
from webdnn_onnx.symbolic import Dim, substitute, symbol

__all__ = ["Parameters", "parameters_of"]


@dataclass(frozen=True)
class Parameters:
    """variables: symbol -> the kernel's parameter, signed where the symbol is."""

    variables: Mapping[str, Var]

    @property
    def names(self) -> tuple[str, ...]:
        """The kernel's parameters."""
        return tuple(var.name for var in self.variables.values())

    @property
    def sizes(self) -> tuple[Dim, ...]:
        """What a call of the kernel passes for them."""
        return tuple(symbol(name, signed=var.signed) for name, var in self.variables.items())

    def dim(self, size: Dim) -> Dim:
        """A size over the parameters."""
        return substitute(size, {old: symbol(var.name, signed=var.signed) for old, var in self.variables.items()})

    def axis(self, axis: Axis) -> Axis:
        """An axis whose extent is over the parameters."""
        return Axis(axis.name, self.dim(axis.extent))

    def expr(self, expr: Expr) -> Expr:
        """An expression over the parameters, extents of reductions in it included."""
        if not self.variables:
            return expr
        memo: dict[int, Expr] = {}

        def visit(part: Expr) -> Expr:
            if isinstance(part, Var):
                return self.variables.get(part.name, part)
            found = memo.get(id(part))
            if found is None:
                found = map_children(part, visit)
                if isinstance(found, Reduce):
                    found = Reduce(found.op, tuple(map(self.axis, found.axes)), found.body)
                memo[id(part)] = found
            return found

        return visit(expr)


def parameters_of(
    sizes: Iterable[Dim], exprs: Iterable[Expr], bound: AbstractSet[str], prefix: str = "n"
) -> Parameters:
    """Parameters for the symbols of sizes and expressions, extents of reductions included, in the order in which they
    are met; `bound` are the loop variables, which are none."""
    every = [build.dim(size) for size in sizes]
    for expr in exprs:
        parts = [part for part in subexpressions(expr) if isinstance(part, Reduce)]
        every += [build.dim(axis.extent) for part in parts for axis in part.axes]
        every.append(expr)
    signed = {part.name for expr in every for part in subexpressions(expr) if isinstance(part, Var) and part.signed}
    names = dict.fromkeys(name for expr in every for name in sorted(free_variables(expr) - bound))
    return Parameters({name: Var(f"{prefix}{at}", signed=name in signed) for at, name in enumerate(names)})
