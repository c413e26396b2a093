"""Values that an architecture decides, and arithmetic with them."""

from __future__ import annotations

import copy
import operator
from collections import OrderedDict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from raynas.core.decision import Choice, Subset
from raynas.core.errors import InvalidSpace
from raynas.nn import (
    IntegerChoice,
    SubsetChoice,
    ValueChoice,
    maximum,
    minimum,
    to_float,
    to_int,
    where,
)
from raynas.nn.expression import Expression, evaluate, leaves_of
from raynas.nn.value import count

A, B = ValueChoice([3, 5, 7], label="a"), ValueChoice([2, 4], label="b")
ARCH = {"a": 7, "b": 2}


@pytest.mark.parametrize(
    "compute",
    [
        operator.add,
        operator.sub,
        operator.mul,
        operator.truediv,
        operator.floordiv,
        operator.mod,
        operator.pow,
        operator.lt,
        operator.le,
        operator.gt,
        operator.ge,
    ],
)
def test_arithmetic_is_that_of_the_numbers(compute: Callable[[Any, Any], Any]) -> None:
    for left, right in ((A, B), (A, 2), (9, B)):
        value = compute(left, right)
        assert isinstance(value, Expression)
        numbers = [7 if left is A else left, 2 if right is B else right]
        assert value.evaluate(ARCH) == compute(*numbers)
        assert type(value.evaluate(ARCH)) is type(compute(*numbers))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-A, -7),
        (abs(B - A), 5),
        (round(A / 4), 2),
        (round(A / 4, 1), 1.8),
        (maximum(A, B, 6), 7),
        (minimum(A, B, 6), 2),
        (to_int(A / B), 3),
        (to_float(A), 7.0),
        (A.equals(7), True),
        (where(A > 4, B, "small"), 2),
        (where(A.equals(B), 1, 0), 0),
        ((A * B + 1) // 4, 3),
    ],
)
def test_functions_of_values(value: Expression, expected: Any) -> None:
    assert value.evaluate(ARCH) == expected


def test_options_of_an_expression_are_all_it_can_be() -> None:
    assert (A * B).options() == (6, 10, 12, 14, 20, 28)
    assert (A - A).options() == (0,)  # one decision, however often it stands there
    assert A.options() == (3, 5, 7)
    assert where(A > 4, "big", "small").options() == ("big", "small")
    assert (A * B).leaves() == (A, B)
    assert leaves_of({"x": (A, [B + A]), "y": 3}) == (A, B)
    assert evaluate((A, [B, 1], "s"), ARCH) == (7, [2, 1], "s")


def test_unlabelled_values_are_told_apart_before_they_are_named() -> None:
    first, other = ValueChoice([1, 2]), ValueChoice([10, 20])
    assert (first + other).options() == (11, 12, 21, 22)
    (first + other).name("layer.width")
    assert (first.label, other.label) == ("layer.width.0", "layer.width.1")
    (first + 1).name("elsewhere")
    assert first.label == "layer.width.0"


def test_kinds_of_decisions() -> None:
    assert A.decision() == Choice("a", (3, 5, 7))
    assert IntegerChoice(2, 8, "i", step=3).decision() == Choice("i", (2, 5, 8))
    assert IntegerChoice(16, 100, "i", log=True).values == (16, 32, 64)
    assert IntegerChoice(1, 30, "i", step=3, log=True).values == (1, 3, 9, 27)
    some = SubsetChoice(["x", "y", "z"], 2, "s")
    assert some.decision() == Subset("s", ("x", "y", "z"), 2)
    assert count(some).evaluate({"s": ("x", "z")}) == 2
    assert SubsetChoice([1, 2], None, "s").options() == ((), (1,), (2,), (1, 2))


def test_values_may_be_none_tuples_and_numbers_of_numpy() -> None:
    value = ValueChoice(np.arange(2, 5), label="v")
    assert value.values == value.options() == value.decision().options == (2, 3, 4)
    assert {type(option) for option in value.values} == {int}
    assert ValueChoice([None, [1, (2, np.int64(3))]], "v").options() == (None, (1, (2, 3)))
    assert IntegerChoice(np.int64(2), np.int64(4), "i").values == (2, 3, 4)  # type: ignore[arg-type]
    some = SubsetChoice(np.array([[3, 3], [5, 5]]), np.int64(1), "s")  # type: ignore[arg-type]
    assert some.decision() == Subset("s", ((3, 3), (5, 5)), 1)
    kernel = ValueChoice([(3, 3), None], "k")
    assert (kernel.evaluate({"k": (3, 3)}), kernel.evaluate({"k": None})) == ((3, 3), None)
    assert evaluate({"size": (kernel, [value])}, {"k": None, "v": 2}) == {"size": (None, [2])}
    with pytest.raises(TypeError, match="not decided"):
        assert kernel == (3, 3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ValueChoice([], label="v"), "'v' needs a non-empty"),
        (lambda: ValueChoice([1, 1], label="v"), "'v' lists an option twice"),
        (lambda: ValueChoice([float("nan")], label="v"), "finite"),
        (lambda: IntegerChoice(5, 4, "v"), r"'v'.*low 5, high 4"),
        (lambda: IntegerChoice(1, 4, "v", step=0), "step 0"),
        (lambda: IntegerChoice(0, 4, "v", log=True), "low 0"),
        (lambda: SubsetChoice([1, 2], 3, "v"), "SubsetChoice 'v': n_chosen is 3, .*1 to 2, or"),
        (lambda: SubsetChoice([1, 2], 0, "v"), "'v': n_chosen is 0"),
        (lambda: SubsetChoice([1, 2], -1), "SubsetChoice: n_chosen is -1"),
        (lambda: ValueChoice(3, label="v"), "ValueChoice 'v': expected a list of options, got 3"),  # type: ignore[arg-type]
        (lambda: ValueChoice("abc"), "ValueChoice: expected a list of options, got 'abc'"),
        (lambda: ValueChoice([1, 1]), "^ValueChoice lists an option twice"),
        (lambda: IntegerChoice("1", 3), "IntegerChoice: low is '1', expected a whole number"),  # type: ignore[arg-type]
        (lambda: IntegerChoice(1.5, 3, "v"), "IntegerChoice 'v': low is 1.5"),  # type: ignore[arg-type]
        (lambda: IntegerChoice(1, 3, step=1.0), "step is 1.0"),  # type: ignore[arg-type]
        (lambda: IntegerChoice(3, 1), "^IntegerChoice: expected low <= high"),
        (lambda: maximum(A), "maximum compares two or more values, got 1"),
        (lambda: minimum(), "minimum compares two or more values, got 0"),
    ],
)
def test_impossible_values_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(InvalidSpace, match=said):
        make()


@pytest.mark.parametrize(
    "use", [bool, int, float, range, lambda v: [1, 2, 3][v], lambda v: 1 if v > 2 else 0]
)
def test_a_value_cannot_be_used_before_it_is_decided(use: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"'a'.*not decided"):
        use(A)


@pytest.mark.parametrize("use", [list, len, lambda v: 3 in v, lambda v: range(3)[v]])
def test_layers_without_values_are_told_as_such(use: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"'a'.*this layer takes no values: use raynas.nn's own"):
        use(A)


@pytest.mark.parametrize("compare", [operator.eq, operator.ne])
def test_equality_is_identity_between_values_and_refused_otherwise(
    compare: Callable[[Any, Any], Any],
) -> None:
    same = compare is operator.eq
    assert compare(A, A) is same
    assert compare(A, ValueChoice([3, 5, 7], label="a")) is not same
    assert compare(A, None) is not same
    assert {A: 1}[A] == 1
    for other in (7, "7", 7.0, True):
        with pytest.raises(TypeError, match=r"'a'.*use value\.equals\(other\)"):
            compare(A, other)


class Pair(NamedTuple):
    left: Any
    right: Any


def test_values_are_found_in_all_that_holds_them() -> None:
    pair = Pair(A, [B])
    held = {"x": pair, "y": OrderedDict(z=A + B)}
    assert leaves_of(held) == (A, B)
    evaluated = evaluate(held, ARCH)
    assert evaluated == {"x": Pair(7, [2]), "y": OrderedDict(z=9)}
    assert (type(evaluated["x"]), type(evaluated["y"])) == (Pair, OrderedDict)
    assert evaluate(MappingProxyType({"x": A}), ARCH) == {"x": 7}
    assert pair.left is A  # what was given stays as it was


def test_too_many_combinations_are_refused() -> None:
    digits = [ValueChoice(range(10), label=f"d{i}") for i in range(6)]
    total = digits[0] + digits[1]
    for digit in digits[2:]:
        total = total + digit
    with pytest.raises(InvalidSpace, match="1000000 combinations"):
        total.options()


def test_copies_are_the_same_value() -> None:
    assert copy.deepcopy(A) is A
    assert copy.deepcopy([A + B])[0].leaves() == (A, B)
