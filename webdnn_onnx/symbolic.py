"""Integer expressions over named symbols: the dimensions of tensors whose size is known only at run time.

A dimension (`Dim`) is an `int` or a `Sum`: a polynomial with integer coefficients over atoms, where an atom is a
`Symbol` or a `Call` (a function that no polynomial expresses). Arithmetic keeps every expression in one canonical
form, so `==` decides whether two dimensions are provably equal. Symbols stand for sizes, which are never negative,
unless they are created with `signed=True` (values read from a tensor at run time).

>>> batch = symbol("batch")
>>> str(batch * 2 + batch + 1), (batch * 6) // 3
('3*batch + 1', Sum('2*batch'))
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

__all__ = [
    "Call",
    "Dim",
    "Function",
    "Sum",
    "Symbol",
    "abbreviate",
    "ceil_div",
    "equal",
    "evaluate",
    "free_symbols",
    "less",
    "lower_bound",
    "maximum",
    "minimum",
    "never_negative",
    "opaque",
    "parse_dim",
    "product",
    "select",
    "signed_symbols",
    "substitute",
    "symbol",
    "to_json",
]

Function: TypeAlias = Literal["floordiv", "mod", "max", "min", "eq", "lt"]


@dataclass(frozen=True)
class Symbol:
    """A named unknown; non-negative unless `signed`."""

    name: str
    signed: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Call:
    """A function of two dimensions. `eq` and `lt` are 1 where they hold and 0 where not; `floordiv` and `mod` round
    towards minus infinity and are 0 where the divisor is 0."""

    function: Function
    left: Dim
    right: Dim

    def __str__(self) -> str:
        return self._text

    def __hash__(self) -> int:
        return self._hash

    # Nested expressions are compared and sorted often; their text and hash are computed once.
    @cached_property
    def _text(self) -> str:
        return f"{self.function}({self.left}, {self.right})"

    @cached_property
    def _hash(self) -> int:
        return hash((self.function, self.left, self.right))


Atom: TypeAlias = Symbol | Call
Monomial: TypeAlias = tuple[Atom, ...]


@dataclass(frozen=True, repr=False)
class Sum:
    """A polynomial: terms (product of atoms, coefficient) in a fixed order, no coefficient zero, never a constant."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Dim) -> Dim:
        if other == 0:
            return self
        return _from_terms([*_terms(self), *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: Dim) -> Dim:
        return self * -1 + other

    def __mul__(self, other: Dim) -> Dim:
        if isinstance(other, int):
            if other in (0, 1):
                return self if other else 0
            return Sum(tuple([(atoms, factor * other) for atoms, factor in self.terms]))
        return _from_terms(
            [
                (_sorted_atoms(left + right), left_factor * right_factor)
                for left, left_factor in _terms(self)
                for right, right_factor in _terms(other)
            ]
        )

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return _floordiv(self, other)

    def __rfloordiv__(self, other: int) -> Dim:
        return _floordiv(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return self - _floordiv(self, other) * other if _divides(self, other) else _call("mod", self, other)

    def __rmod__(self, other: int) -> Dim:
        return _call("mod", other, self)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        return " + ".join(_show_term(atoms, factor) for atoms, factor in self.terms).replace("+ -", "- ")

    def __repr__(self) -> str:
        return f"Sum({str(self)!r})"


Dim: TypeAlias = int | Sum


def symbol(name: str, *, signed: bool = False) -> Sum:
    """The dimension that is this symbol."""
    return Sum((((Symbol(name, signed),), 1),))


def product(dims: tuple[Dim, ...] | list[Dim]) -> Dim:
    """Their product; 1 for none."""
    result: Dim = 1
    for dim in dims:
        result = result * dim
    return result


def ceil_div(left: Dim, right: Dim) -> Dim:
    """The quotient rounded towards plus infinity."""
    return -((-left) // right) if isinstance(left, int) and isinstance(right, int) else (left + right - 1) // right


def maximum(left: Dim, right: Dim) -> Dim:
    """The larger one, decided at compile time where the difference has a known sign."""
    difference = left - right
    if never_negative(difference):
        return left
    return right if never_negative(-difference) else _call("max", left, right)


def minimum(left: Dim, right: Dim) -> Dim:
    """The smaller one, decided at compile time where the difference has a known sign."""
    difference = left - right
    if never_negative(difference):
        return right
    return left if never_negative(-difference) else _call("min", left, right)


def opaque(size: Dim, terms: int = 6) -> Dim:
    """The size, which is not negative, as one atom where it has more than so many terms: products of it stay short."""
    if isinstance(size, int) or len(size.terms) <= terms:
        return size
    return Sum((((Call("max", size, 0),), 1),))


def equal(left: Dim, right: Dim) -> Dim:
    """1 where they are equal, else 0."""
    difference = left - right
    if isinstance(difference, int):
        return int(difference == 0)
    if lower_bound(difference) > 0 or lower_bound(-difference) > 0:
        return 0
    return _call("eq", left, right)


def less(left: Dim, right: Dim) -> Dim:
    """1 where left < right, else 0."""
    difference = right - left
    if lower_bound(difference) > 0:
        return 1
    return 0 if lower_bound(-difference) >= 0 else _call("lt", left, right)


def select(condition: Dim, true: Dim, false: Dim) -> Dim:
    """`true` where the condition (0 or 1) is 1, else `false`."""
    return condition * true + (1 - condition) * false


def lower_bound(dim: Dim) -> float:
    """A number that the dimension is never below; -inf if none is known."""
    return dim if isinstance(dim, int) else _lower_bound(dim)


@functools.lru_cache(maxsize=1 << 16)
def _lower_bound(dim: Sum) -> float:
    total = 0.0
    for atoms, factor in dim.terms:
        low, high = 1.0, 1.0
        for atom in atoms:
            atom_low, atom_high = _range(atom)
            corners = [_times(a, b) for a in (low, high) for b in (atom_low, atom_high)]
            low, high = min(corners), max(corners)
        total += min(_times(low, factor), _times(high, factor))
    return total


def never_negative(dim: Dim, depth: int = 6) -> bool:
    """Whether it is provably 0 or more; `max` and `min` are taken apart, at most `depth` of them."""
    if lower_bound(dim) >= 0:
        return True
    if isinstance(dim, int) or depth == 0:
        return False
    for atoms, factor in dim.terms:
        if len(atoms) != 1 or not isinstance(atoms[0], Call) or atoms[0].function not in ("max", "min"):
            continue
        call = atoms[0]
        rest = dim - Sum(((atoms, factor),))
        cases = (never_negative(rest + side * factor, depth - 1) for side in (call.left, call.right))
        # factor*max is at least factor times either side, and equals one of them; factor*min the other way round.
        if any(cases) if (call.function == "max") == (factor > 0) else all(cases):
            return True
    return False


def free_symbols(dim: Dim) -> frozenset[str]:
    """The names of the symbols in it."""
    return frozenset(atom.name for atom in _walk(dim) if isinstance(atom, Symbol))


def signed_symbols(dim: Dim) -> frozenset[str]:
    """The names of the symbols in it that may be negative."""
    return frozenset(atom.name for atom in _walk(dim) if isinstance(atom, Symbol) and atom.signed)


def substitute(dim: Dim, replace: Mapping[str, Dim]) -> Dim:
    """The dimension with symbols replaced by what `replace` gives them; the others stay."""
    if isinstance(dim, int) or not (free_symbols(dim) & replace.keys()):
        return dim
    total: Dim = 0
    for atoms, factor in dim.terms:
        term: Dim = factor
        for atom in atoms:
            term = term * _substitute_atom(atom, replace)
        total = total + term
    return total


def abbreviate(dim: Dim, name: Callable[[Call], Sum], *, limit: int = 3) -> Dim:
    """The dimension with every call of more than `limit` atoms replaced by the symbol that `name` gives it."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for atoms, factor in dim.terms:
        term: Dim = factor
        for atom in atoms:
            whole = Sum((((atom,), 1),))
            term = term * (name(atom) if isinstance(atom, Call) and sum(1 for _ in _walk(whole)) > limit else whole)
        total = total + term
    return total


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """Its value. Raises KeyError if a symbol has none."""
    result = substitute(dim, values)
    if isinstance(result, int):
        return result
    raise KeyError(", ".join(sorted(free_symbols(result))))


def to_json(dim: Dim) -> int | str | list[object]:
    """The form the bundle's manifest holds: a number, a symbol's name, or [function, left, right] with the functions
    `+ * floordiv mod max min eq lt`."""
    if isinstance(dim, int):
        return dim
    total: int | str | list[object] | None = None
    for atoms, factor in dim.terms:
        term: int | str | list[object] | None = None if factor == 1 and atoms else factor
        for atom in atoms:
            part: str | list[object] = (
                atom.name if isinstance(atom, Symbol) else [atom.function, to_json(atom.left), to_json(atom.right)]
            )
            term = part if term is None else ["*", term, part]
        assert term is not None, "a term has a factor or an atom"
        total = term if total is None else ["+", total, term]
    assert total is not None, "a sum has terms"
    return total


def parse_dim(text: str) -> Dim:
    """The dimension a `dim_param` names: an arithmetic expression of identifiers where it reads as one
    (`past + sequence`), otherwise one symbol with that name."""
    try:
        return _parse_node(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, KeyError):
        return symbol(text)


_OPERATORS: dict[type[ast.operator], Callable[[Dim, Dim], Dim]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.FloorDiv: lambda left, right: left // right,
    ast.Mod: lambda left, right: left % right,
}


def _parse_node(node: ast.expr) -> Dim:
    if isinstance(node, ast.Name):
        return symbol(node.id)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_parse_node(node.left), _parse_node(node.right))
    raise ValueError(ast.dump(node))


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(dim, int):
        return (((), dim),) if dim else ()
    return dim.terms


def _from_terms(terms: list[tuple[Monomial, int]]) -> Dim:
    factors: dict[Monomial, int] = {}
    for atoms, factor in terms:
        factors[atoms] = factors.get(atoms, 0) + factor
    kept = [(atoms, factor) for atoms, factor in factors.items() if factor]
    if not kept:
        return 0
    if len(kept) == 1:
        return Sum((kept[0],)) if kept[0][0] else kept[0][1]
    kept.sort(key=_order)
    return Sum(tuple(kept))


def _order(term: tuple[Monomial, int]) -> tuple[int, list[str]]:
    return -len(term[0]), [str(atom) for atom in term[0]]


def _sorted_atoms(atoms: Monomial) -> Monomial:
    return tuple(sorted(atoms, key=str)) if len(atoms) > 1 else atoms


def _call(function: Function, left: Dim, right: Dim) -> Dim:
    if isinstance(left, int) and isinstance(right, int):
        return _CONSTANT[function](left, right)
    if function in ("max", "min", "eq") and str(right) < str(left):
        left, right = right, left
    return Sum((((Call(function, left, right),), 1),))


_CONSTANT: dict[Function, Callable[[int, int], int]] = {
    "floordiv": lambda left, right: left // right if right else 0,
    "mod": lambda left, right: left % right if right else 0,
    "max": max,
    "min": min,
    "eq": lambda left, right: int(left == right),
    "lt": lambda left, right: int(left < right),
}


def _divides(left: Dim, right: Dim) -> bool:
    return not any(isinstance(atom, Call) and atom.function == "floordiv" for atom in _walk(_floordiv(left, right)))


def _floordiv(left: Dim, right: Dim) -> Dim:
    """Exact where every term can be divided; otherwise the divisible terms leave the Call: (4*n + 2)//4 = n + 2//4."""
    if right == 1:
        return left
    if isinstance(left, int) and isinstance(right, int):
        return _CONSTANT["floordiv"](left, right)
    right_terms = _terms(right)
    if len(right_terms) != 1:
        return 1 if left == right and lower_bound(left) > 0 else _call("floordiv", left, right)
    (divisor, factor) = right_terms[0]
    whole: list[tuple[Monomial, int]] = []
    rest: list[tuple[Monomial, int]] = []
    for atoms, coefficient in _terms(left):
        quotient = _remove(atoms, divisor)
        if quotient is not None and coefficient % factor == 0:
            whole.append((quotient, coefficient // factor))
        else:
            rest.append((atoms, coefficient))
    remainder = _from_terms(rest)
    if remainder == 0:
        return _from_terms(whole)
    if isinstance(remainder, int) and isinstance(right, int):
        return _from_terms([*whole, ((), remainder // right)])
    if not whole:
        return _call("floordiv", left, right)
    return _from_terms(whole) + _call("floordiv", remainder, right)


def _remove(atoms: Monomial, divisor: Monomial) -> Monomial | None:
    left = list(atoms)
    for atom in divisor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def _times(left: float, right: float) -> float:
    return 0.0 if left == 0 or right == 0 else left * right


def _range(atom: Atom) -> tuple[float, float]:
    if isinstance(atom, Symbol):
        return (-math.inf if atom.signed else 0.0), math.inf
    low = {side: lower_bound(side) for side in (atom.left, atom.right)}
    high = {side: -lower_bound(-side) for side in (atom.left, atom.right)}
    left, right = atom.left, atom.right
    if atom.function in ("eq", "lt"):
        return 0.0, 1.0
    if atom.function == "max":
        return max(low[left], low[right]), max(high[left], high[right])
    if atom.function == "min":
        return min(low[left], low[right]), min(high[left], high[right])
    if low[right] < 0:
        return -math.inf, math.inf
    if atom.function == "mod":
        return 0.0, max(high[right] - 1, 0.0)
    return (0.0, high[left]) if low[left] >= 0 else (min(low[left], 0.0), max(high[left], 0.0))


def _walk(dim: Dim) -> Iterator[Atom]:
    for atoms, _ in _terms(dim):
        for atom in atoms:
            yield atom
            if isinstance(atom, Call):
                yield from _walk(atom.left)
                yield from _walk(atom.right)


def _substitute_atom(atom: Atom, replace: Mapping[str, Dim]) -> Dim:
    if isinstance(atom, Symbol):
        return replace.get(atom.name, Sum((((atom,), 1),)))
    left, right = substitute(atom.left, replace), substitute(atom.right, replace)
    if atom.function == "floordiv":
        return _floordiv(left, right)
    if atom.function == "max":
        return maximum(left, right)
    if atom.function == "min":
        return minimum(left, right)
    if atom.function == "eq":
        return equal(left, right)
    if atom.function == "lt":
        return less(left, right)
    if isinstance(left, Sum):
        return left % right
    return _call("mod", left, right)


def _show_term(atoms: Monomial, factor: int) -> str:
    names = "*".join(str(atom) for atom in atoms)
    if not atoms:
        return str(factor)
    return names if factor == 1 else f"-{names}" if factor == -1 else f"{factor}*{names}"
