"""Neighbours of an architecture come one at a time: all of them, in random order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice

import numpy as np
import pytest

from raynas.algorithms.local_search import LocalSearch
from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.codes import Codes
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidArch
from raynas.core.neighbours import neighbours
from raynas.core.trial import Trial

FLAT = ArchSpace(
    (
        *(Choice(f"c{i}", ("a", "b", "c")) for i in range(6)),
        Subset("two", (1, 2, 3, 4, 5), 2),
        Subset("any", (1, 2, 3), None),
        Subset("none", (1, 2), 0),
        Choice("only", ("option",)),
    )
)
WIDTH = Choice("width", (16, 32, 64))
NESTED = ArchSpace(
    (
        Choice("op", ("conv", "skip"), {"conv": ArchSpace((Choice("kernel", (3, 5)), WIDTH))}),
        Subset("from", ("a", "b", "c"), 2, {"b": ArchSpace((WIDTH,))}),
    )
)


@pytest.mark.parametrize("seed", range(5))
def test_without_conditions_they_are_the_permuted_rows(seed: int) -> None:
    """Those of ``Codes``, and in an order that costs the same random numbers."""
    arch, codes = FLAT.sample(np.random.default_rng(seed)), Codes(FLAT)
    one, other = np.random.default_rng(seed), np.random.default_rng(seed)
    rows = codes.neighbours(codes.encode(arch), other)
    expected = [codes.decode(row) for row in other.permutation(rows)[::-1]]
    assert len(expected) == 6 * 2 + 2 * 3 + 3
    assert list(neighbours(FLAT, arch, one)) == expected
    assert one.bit_generator.state == other.bit_generator.state


def test_every_change_of_a_decision_has_its_number() -> None:
    for decision in (*FLAT.choices, *NESTED.choices):
        for value in decision.values():
            changed = [decision.changed(value, at) for at in range(decision.changes(value))]
            assert len(set(changed)) == len(changed)
            assert set(changed) == {
                v for v in decision.values() if is_one_change(decision, value, v)
            }


def is_one_change(decision: Decision, value: Value, other: Value) -> bool:
    """Return whether two values differ as a single mutation makes them differ."""
    if isinstance(decision, Choice):
        return value != other
    assert isinstance(value, tuple)
    assert isinstance(other, tuple)
    return len({*value} ^ {*other}) == (1 if decision.k is None else 2)


def test_what_is_newly_opened_is_drawn_and_the_rest_stays() -> None:
    """From a skip: the kernel and the width of the convolution, unless ``b`` has its width."""
    rng = np.random.default_rng(0)
    closed = Arch({"op": "skip", "from": ("a", "c")})
    opened = Arch({"op": "skip", "from": ("a", "b"), "width": 32})
    drawn: Counter[Arch] = Counter()
    for _ in range(3000):
        around = list(neighbours(NESTED, closed, rng))
        assert {tuple(a["from"]) for a in around} == {("a", "b"), ("b", "c"), ("a", "c")}  # type: ignore[arg-type]
        assert len(around) == 3
        drawn.update(arch for arch in around if arch["op"] == "conv")
    assert len(drawn) == 2 * 3
    for count in drawn.values():  # 500 expected of each; six standard deviations
        assert abs(count - 500) < 6 * np.sqrt(3000 * 1 / 6 * 5 / 6)
    around = list(neighbours(NESTED, opened, rng))
    assert len(around) == 1 + 2 + 2  # op, from, width
    for arch in around:
        NESTED.check(arch)
        kept = opened.items() & arch.items()
        assert len(kept) == 2 or arch == {"op": "skip", "from": ("a", "c")}


def test_an_architecture_of_another_space_has_no_neighbours() -> None:
    with pytest.raises(InvalidArch, match="'c0' is not decided"):
        neighbours(FLAT, Arch({"x": 1}), np.random.default_rng(0))


class Counted(ArchSpace):
    """A space that counts the architectures it makes."""

    made = 0

    def sample(self, rng: np.random.Generator, given: Mapping[str, Value] | None = None) -> Arch:
        """Draw what is left open, and count."""
        Counted.made += 1
        return super().sample(rng, given)


def test_of_a_million_neighbours_only_those_asked_for_are_made() -> None:
    space = Counted((Choice("wide", tuple(range(10**6))), *FLAT.choices))
    arch = space.sample(np.random.default_rng(0))
    Counted.made = 0
    around = neighbours(space, arch, np.random.default_rng(0))
    assert Counted.made == 0
    assert len(set(islice(around, 5))) == Counted.made == 5

    sampler = LocalSearch(space, seed=0, starts=1)
    Counted.made = 0
    sampler.tell(Trial.completed(arch, 1.0))
    asked = [sampler.ask() for _ in range(20)]
    assert Counted.made == 20
    for other in asked:
        assert sum(other[label] != value for label, value in arch.items()) == 1
