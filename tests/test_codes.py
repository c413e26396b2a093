"""Rows of integers stand for architectures: one to one, and with the same distributions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.categorical import decide, numbers_of, parameters, picked
from raynas.core.codes import Codes, Rows
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.ranking import rank_normal, scores_of
from raynas.core.trial import Trial


def nested() -> ArchSpace:
    """Return a tree whose label ``width`` is opened in two places, once below another opening."""
    width = Choice("width", (16, 32))
    kernel = ArchSpace((Choice("kernel", (3, 5), {5: ArchSpace((width,))}),))
    tap = ArchSpace((width,))
    return ArchSpace(
        (
            Choice("op", ("conv", "pool", "skip"), {"conv": kernel}),
            Subset("from", ("a", "b", "c"), 2, {"b": tap}),
            Subset("any", (0, 1), None),
        )
    )


SPACES = {"nested": nested(), "flat": ArchSpace.of(a=[1, 2, 3], b=["x"]), "empty": ArchSpace()}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))


def archs_of(codes: Codes, rows: Rows) -> list[Arch]:
    """Decode all rows."""
    return [codes.decode(row) for row in rows]


@every_space
def test_every_architecture_has_a_row_of_its_own(space: ArchSpace) -> None:
    codes = Codes(space)
    archs = list(space)
    rows = np.array([codes.encode(arch) for arch in archs], dtype=np.int32)
    assert archs_of(codes, rows) == archs
    assert len(set(codes.keys(rows))) == len(archs)


@every_space
def test_rows_are_drawn_as_architectures_are(space: ArchSpace) -> None:
    codes, rng = Codes(space), np.random.default_rng(0)
    rows = codes.uniform(4000, rng)
    drawn = Counter(archs_of(codes, rows))
    expected = Counter(space.sample(rng) for _ in range(4000))
    assert set(drawn) == set(space) == set(expected)  # the rarest has probability 1/144
    for arch in space:
        # six standard deviations of the difference of two counts: 1e-6 for 56 architectures
        spread = np.sqrt(drawn[arch] + expected[arch])
        assert abs(drawn[arch] - expected[arch]) < 6 * spread


def test_neighbours_differ_in_one_decision_and_are_all_there() -> None:
    space = nested()
    codes, rng = Codes(space), np.random.default_rng(0)
    arch = Arch({"op": "pool", "from": ("a", "c"), "any": (0,)})
    around = archs_of(codes, codes.neighbours(codes.encode(arch), rng))
    for other in around:
        space.check(other)
    changed = [{label for label in arch if other[label] != arch[label]} for other in around]
    assert changed == [{"op"}] * 2 + [{"from"}] * 2 + [{"any"}] * 2
    assert {other["op"] for other in around[:2]} == {"conv", "skip"}
    assert {other["from"] for other in around[2:4]} == {("a", "b"), ("b", "c")}
    assert {other["any"] for other in around[4:]} == {(), (0, 1)}


def test_what_stays_reached_stays_as_it_is() -> None:
    """``width`` is reached by two ways: closing one of them does not draw it anew."""
    space = nested()
    codes, rng = Codes(space), np.random.default_rng(0)
    both = Arch({"op": "conv", "kernel": 5, "width": 32, "from": ("a", "b"), "any": ()})
    for _ in range(20):
        for other in archs_of(codes, codes.neighbours(codes.encode(both), rng)):
            space.check(other)
            assert other.get("width", 32) == 32 or other["width"] != both["width"]
            if other["from"] == ("a", "c") and other["op"] == "conv":
                assert other["width"] == 32


def test_rows_are_mutated_as_architectures_are() -> None:
    space = nested()
    codes, rng = Codes(space), np.random.default_rng(0)
    arch = Arch({"op": "conv", "kernel": 3, "from": ("a", "b"), "width": 16, "any": ()})
    rows = np.repeat(codes.encode(arch)[None], 5000, 0)
    drawn = Counter(archs_of(codes, codes.mutate(rows, rng)))
    expected = Counter(space.mutate(arch, rng) for _ in range(5000))
    assert set(drawn) == set(expected)
    for other in expected:
        spread = np.sqrt(drawn[other] + expected[other])
        assert abs(drawn[other] - expected[other]) < 6 * spread  # 1e-8 for ten of them


def test_products_of_features_are_shares_of_equal_decisions() -> None:
    space = ArchSpace(
        (
            Choice("op", ("conv", "pool"), {"conv": ArchSpace.of(kernel=[3, 5])}),
            Subset("from", ("a", "b", "c", "d"), 2),
        )
    )
    codes = Codes(space)
    archs = [
        Arch({"op": "conv", "kernel": 3, "from": ("a", "b")}),
        Arch({"op": "conv", "kernel": 5, "from": ("a", "c")}),
        Arch({"op": "pool", "from": ("a", "b")}),
        Arch({"op": "pool", "from": ("c", "d")}),
    ]
    found = codes.features(np.array([codes.encode(arch) for arch in archs]))
    expected = np.array(  # of three decisions; two subsets of four agree in 2 or 0 places or all
        [
            [1, (1 + 0 + 0.5) / 3, (0 + 0 + 1) / 3, 0],
            [(1 + 0 + 0.5) / 3, 1, (0 + 0 + 0.5) / 3, (0 + 0 + 0.5) / 3],
            [(0 + 0 + 1) / 3, (0 + 0 + 0.5) / 3, 1, (1 + 1 + 0) / 3],
            [0, (0 + 0 + 0.5) / 3, (1 + 1 + 0) / 3, 1],
        ]
    )
    assert found @ found.T == pytest.approx(expected)


# --- ranks ----------------------------------------------------------------------------------------


def test_targets_are_normal_quantiles_of_averaged_ranks() -> None:
    """Ranks 3.5, 1, 3.5, 2 of four: quantiles at 0.75, 0.125, 0.75 and 0.375."""
    found = rank_normal(np.array([9.0, -5.0, 9.0, 1e9 - 1e9]))
    assert found == pytest.approx([0.67448975, -1.15034938, 0.67448975, -0.31863936])
    assert rank_normal(np.array([3.0, 3.0, 3.0])).tolist() == [0.0, 0.0, 0.0]


def test_scores_are_those_of_the_named_objectives() -> None:
    arch = Arch({"a": 1})
    assert scores_of(Trial.completed(arch, 0.5)) == (0.5,)
    assert scores_of(Trial.completed(arch, 0.5), ("accuracy",)) == (0.5,)
    assert scores_of(Trial.scored_as(arch, [0.5, -2]), ("accuracy", "latency")) == (0.5, -2.0)
    assert scores_of(Trial.failed(arch, "no memory"), ("accuracy", "latency")) is None
    assert scores_of(Trial.scored_as(arch, [0.5, float("nan")]), ("accuracy", "latency")) is None
    with pytest.raises(ValueError, match=r"expected 2 score\(s\) per trial \(a, b\), got 1"):
        scores_of(Trial.completed(arch, 0.5), ("a", "b"))


# --- categorical parameters -----------------------------------------------------------------------


DECISIONS = [
    Choice("op", ("conv", "pool")),
    Subset("from", ("a", "b", "c"), 2),
    Subset("taps", tuple(range(8)), 4),
    Subset("any", tuple(range(7)), None),
]


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: decision.label)
def test_parameters_mean_values_and_back(decision: Decision) -> None:
    rng = np.random.default_rng(0)
    counts = parameters(decision)
    assert len(counts) == (1 if decision.count() <= 64 else len(decision.options))
    for value in decision.values():
        numbers = numbers_of(decision, value)
        assert all(0 <= numbers[name] < counts[name] for name in counts)
        picks = [numbers[name] for name in counts]
        assert picked(decision, lambda *_, picks=picks: picks.pop(0), rng) == value


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: decision.label)
def test_every_parameter_is_picked_once(decision: Decision) -> None:
    asked = []

    def pick(name: str, count: int) -> int:
        asked.append((name, count))
        return 0

    assert picked(decision, pick, np.random.default_rng(0)) in decision
    assert asked == list(parameters(decision).items())


@pytest.mark.parametrize("bit", [0, 1])
def test_a_subset_of_the_wrong_number_is_repaired(bit: int) -> None:
    decision = Subset("taps", tuple(range(8)), 4)
    rng = np.random.default_rng(0)
    found = {picked(decision, lambda *_: bit, rng) for _ in range(200)}
    assert all(value in decision for value in found)
    assert len(found) > 40  # of 70; 66 are expected, and 40 lie fifteen deviations below


def test_only_what_is_reached_is_decided_and_once() -> None:
    asked = []

    def value(decision: Decision) -> Value:
        asked.append(decision.label)
        if isinstance(decision, Choice):
            return decision.options[-1]
        return decision.options[: decision.k]

    arch = decide(nested(), value, np.random.default_rng(0))
    assert arch == {"op": "skip", "from": ("a", "b"), "width": 32, "any": (0, 1)}
    assert asked == ["op", "from", "width", "any"]
