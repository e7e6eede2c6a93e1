from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from webdnn_onnx.symbolic import (
    Dim,
    ceil_div,
    equal,
    evaluate,
    less,
    lower_bound,
    maximum,
    minimum,
    never_negative,
    opaque,
    parse_dim,
    select,
    substitute,
    symbol,
    to_json,
)

SYMBOLS = ("a", "b", "c")
Pair = tuple[Dim, Callable[[dict[str, int]], int]]


def floordiv(left: int, right: int) -> int:
    return left // right if right else 0


def mod(left: int, right: int) -> int:
    return left % right if right else 0


def symbolic_mod(left: Dim, right: Dim) -> Dim:
    if isinstance(left, int) and isinstance(right, int):
        return mod(left, right)
    return left % right


OPERATORS: list[tuple[Callable[[Dim, Dim], Dim], Callable[[int, int], int]]] = [
    (lambda left, right: left + right, lambda left, right: left + right),
    (lambda left, right: left - right, lambda left, right: left - right),
    (lambda left, right: left * right, lambda left, right: left * right),
    (maximum, max),
    (minimum, min),
    (equal, lambda left, right: int(left == right)),
    (less, lambda left, right: int(left < right)),
]

DIVISIONS: list[tuple[Callable[[Dim, int], Dim], Callable[[int, int], int]]] = [
    (lambda left, right: left // right, floordiv),
    (symbolic_mod, mod),
]


def leaf() -> st.SearchStrategy[Pair]:
    constants = st.integers(-4, 6).map(lambda number: (number, lambda _: number))
    symbols = st.sampled_from(SYMBOLS).map(lambda name: (symbol(name), lambda values: values[name]))
    return st.one_of(constants, symbols)


def combine(children: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    def binary(choice: int, left: Pair, right: Pair) -> Pair:
        build, meaning = OPERATORS[choice]
        return build(left[0], right[0]), lambda values: meaning(left[1](values), right[1](values))

    def divided(choice: int, left: Pair, right: int) -> Pair:
        build, meaning = DIVISIONS[choice]
        return build(left[0], right), lambda values: meaning(left[1](values), right)

    return st.one_of(
        st.builds(binary, st.integers(0, len(OPERATORS) - 1), children, children),
        st.builds(divided, st.integers(0, 1), children, st.sampled_from([-3, -2, -1, 1, 2, 3, 4])),
    )


EXPRESSIONS = st.recursive(leaf(), combine, max_leaves=6)
VALUES = st.fixed_dictionaries({name: st.integers(0, 9) for name in SYMBOLS})


@settings(max_examples=400, deadline=None)
@given(EXPRESSIONS, VALUES)
def test_canonical_form_evaluates_to_what_was_written(pair: Pair, values: dict[str, int]) -> None:
    dim, meaning = pair
    assert evaluate(dim, values) == meaning(values)


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, VALUES)
def test_lower_bound_is_never_above(pair: Pair, values: dict[str, int]) -> None:
    dim, meaning = pair
    assert lower_bound(dim) <= meaning(values)
    assert not never_negative(dim) or meaning(values) >= 0


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, VALUES)
def test_substitution_in_steps_is_substitution_at_once(pair: Pair, values: dict[str, int]) -> None:
    dim, meaning = pair
    partly = substitute(dim, {"a": values["a"]})
    assert evaluate(partly, values) == meaning(values)


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, VALUES)
def test_json_form_has_the_same_value(pair: Pair, values: dict[str, int]) -> None:
    functions: dict[str, Callable[[int, int], int]] = {
        "+": lambda left, right: left + right,
        "*": lambda left, right: left * right,
        "floordiv": floordiv,
        "mod": mod,
        "max": max,
        "min": min,
        "eq": lambda left, right: int(left == right),
        "lt": lambda left, right: int(left < right),
    }

    def run(form: object) -> int:
        if isinstance(form, int):
            return form
        if isinstance(form, str):
            return values[form]
        assert isinstance(form, list)
        return functions[form[0]](run(form[1]), run(form[2]))

    assert run(to_json(pair[0])) == pair[1](values)


def test_equal_expressions_have_one_form() -> None:
    a, b = symbol("a"), symbol("b")
    assert (a + b) * (a - b) == a * a - b * b
    assert hash(a + b) == hash(b + a)
    assert (a * 6 + 3) // 3 == a * 2 + 1


def test_maximum_sees_through_minimum() -> None:
    a, b = symbol("a"), symbol("b")
    assert maximum(minimum(a, 128), a) == a
    assert maximum(maximum(a, b), b) == maximum(a, b)
    assert maximum(minimum(a + b, 1024) - a, b) == b


def test_dim_params_that_are_arithmetic_are_expressions() -> None:
    assert parse_dim("past + sequence") == symbol("past") + symbol("sequence")
    assert str(parse_dim("image height")) == "image height"


def test_select_takes_one_of_two() -> None:
    a = symbol("a")
    assert evaluate(select(less(a, 3), 10, 20), {"a": 2}) == 10
    assert evaluate(select(less(a, 3), 10, 20), {"a": 3}) == 20


def test_ceil_div_rounds_up() -> None:
    assert evaluate(ceil_div(symbol("a"), 4), {"a": 5}) == 2


def test_opaque_keeps_the_value_and_shortens_products() -> None:
    names = [symbol(f"s{index}") for index in range(8)]
    total: Dim = 0
    for name in names:
        total = total + name
    short = opaque(total)
    assert evaluate(short, {f"s{index}": index for index in range(8)}) == 28
    assert not isinstance(short, int)
    assert len(short.terms) == 1
