"""Constraints: the forms in which they are given, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from raynas.core.constraints import Constraint, as_constraints, parse_constraint
from raynas.core.objectives import parse_goal


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("macs<60e6", None, 60e6),
        ("macs <= 60e6", None, 60e6),
        (" macs>1e5 ", 1e5, None),
        ("macs >=-3.5", -3.5, None),
        ("1e5<macs<2e6", 1e5, 2e6),
        ("1e5 <= macs<= 2e6", 1e5, 2e6),
        ("macs<60M", None, 60e6),
        ("1.5k<macs<0.2G", 1500, 2e8),
    ],
)
def test_texts(text: str, low: float | None, high: float | None) -> None:
    assert parse_constraint(text) == Constraint("macs", low, high)


@pytest.mark.parametrize(
    "name", ["val/lat-ms", "a.b", "val acc", "top-5 %", "5_way", "größe", "a:b", "f1@0.5", "M", "k"]
)
def test_a_metric_has_whatever_name_its_evaluator_gives_it(name: str) -> None:
    assert parse_constraint(f"{name}<5") == Constraint(name, None, 5.0)
    assert parse_constraint(f" {name} >= 5k ") == Constraint(name, 5000.0)
    assert parse_constraint(f"1<{name} <= 2") == Constraint(name, 1.0, 2.0)
    assert parse_goal(f"{name}:min") == (name, "min")
    constraints = as_constraints([f"{name}<5", f"{name}>1"])
    assert as_constraints([str(one) for one in constraints]) == constraints


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3<4", "constraint '3<4': expected METRIC<NUMBER"),
        ("60e6>macs", "constraint '60e6>macs': expected METRIC<NUMBER"),
        ("60M>=macs", "expected METRIC<NUMBER"),
        ("macs", "constraint 'macs': expected METRIC<NUMBER"),
        ("macs=3", "constraint 'macs=3': expected METRIC<NUMBER"),
        ("macs==3", "expected METRIC<NUMBER"),
        ("<3", "expected METRIC<NUMBER"),
        ("", "constraint '': expected METRIC<NUMBER"),
        ("3>macs>2", "expected METRIC<NUMBER"),
        ("macs<60T", "'60T' is no number"),
        ("macs<60m", "'60m' is no number; .*such as 60e6 or 60M"),
        ("macs<M", "'M' is no number"),
        ("macs<60MM", "'60MM' is no number"),
        ("few<macs<60", "'few' is no number"),
        ("macs<nan", "'macs': expected a finite number or None, got nan"),
        ("macs<inf", "expected a finite number or None, got inf"),
        ("2<macs<1", "'macs': no value is at least 2 and at most 1"),
    ],
)
def test_what_is_no_constraint(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_constraint(text)


def test_all_forms_are_one() -> None:
    wanted = (Constraint("macs", None, 3e8), Constraint("params", 1e5, 2e6))
    given: list[Any] = [
        {"macs": (None, 3e8), "params": [1e5, 2e6]},
        ["macs<3e8", "1e5<params<2e6"],
        ["macs<3e8", "params<2e6", "params>1e5", "macs<4e8"],
        ("macs<3e8", Constraint("params", 1e5, 2e6)),
        iter(wanted),
    ]
    assert [as_constraints(one) for one in given] == [wanted] * len(given)
    assert as_constraints(None) == as_constraints([]) == as_constraints({}) == ()
    assert as_constraints("macs<3e8") == as_constraints(wanted[0]) == wanted[:1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"macs": 3e8}, r"'macs': expected \(low, high\), got 300000000.0"),
        ({"macs": (1, 2, 3)}, r"expected \(low, high\), got \(1, 2, 3\)"),
        ({"macs": "<3"}, r"expected \(low, high\), got '<3'"),
        ({"macs": (None, None)}, "'macs': expected a bound, got none"),
        ({"macs": ("1", None)}, "expected a finite number or None, got '1'"),
        ({"macs": (True, None)}, "expected a finite number or None, got True"),
        (["macs<1", "macs>2"], "'macs': no value is at least 2 and at most 1"),
    ],
)
def test_what_contradicts_itself(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        as_constraints(given)


def test_ends_are_included_and_nan_is_not() -> None:
    both = Constraint("macs", 1, 2)
    assert [both.allows(v) for v in (0.9, 1, 1.5, 2, 2.1, float("nan"))] == [
        *(False, True, True, True),
        *(False, False),
    ]
    assert not Constraint("macs", low=1).allows(float("nan"))
    assert both.holds({"params": 9, "macs": 2})
    with pytest.raises(ValueError, match="no metric 'macs'; did you mean 'mac'"):
        both.holds({"mac": 1})
    assert [str(c) for c in (both, Constraint("a", low=1), Constraint("a", high=2))] == [
        "1 <= macs <= 2",
        "a >= 1",
        "a <= 2",
    ]
