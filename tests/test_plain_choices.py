"""Choices handled together are what they are one by one, to the last random number."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raynas.core.arch import Arch, Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidArch
from raynas.core.plain_choices import FEWEST, PlainChoices, steps_of

OPTIONS: tuple[tuple[Atom, ...], ...] = (
    ("conv", "pool", "skip"),
    (1, 0, 7),
    (True, "True", 0.0),
    ("only",),
    tuple(range(300)),
)
DEEP = ArchSpace.of(**{f"c{i:04}": ["a", "b", "c"] for i in range(1000)})


@st.composite
def wide_spaces(draw: st.DrawFn) -> ArchSpace:
    """Draw runs of plain choices, between decisions that open some of the same labels."""
    plain = [Choice(f"p{i}", draw(st.sampled_from(OPTIONS))) for i in range(12)]
    some = st.lists(st.sampled_from(plain), min_size=FEWEST, max_size=8, unique=True)
    inner = ArchSpace(tuple(draw(some)))
    parted: tuple[Decision, ...] = (
        Choice("op", ("conv", "pool"), {"conv": inner}),
        Subset("from", ("a", "b", "c"), draw(st.none() | st.just(2)), {"b": inner}),
    )
    choices: list[Decision] = [*draw(some), *draw(st.permutations(parted)), *draw(some)]
    return ArchSpace(tuple(choices))


def fill(
    decisions: Iterable[Decision],
    taken: dict[str, Value],
    rng: np.random.Generator,
    fixed: Mapping[str, Value],
) -> None:
    """Draw one decision after the other, as the documentation of ``sample`` says."""
    for decision in decisions:
        if (label := decision.label) not in taken:
            taken[label] = fixed[label] if label in fixed else decision.draw(rng)
        for space in decision.opened(taken[label]):
            fill(space.choices, taken, rng, fixed)


@given(space=wide_spaces(), seed=st.integers(0, 2**32), share=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=100, deadline=None)
def test_together_they_are_drawn_as_one_by_one(space: ArchSpace, seed: int, share: float) -> None:
    together, alone = np.random.default_rng(seed), np.random.default_rng(seed)
    coins = np.random.default_rng(seed + 1)
    given_ones = [Arch({}), space.sample(coins), space.sample(coins)]
    for fixed in given_ones:
        kept = {label: value for label, value in fixed.items() if coins.random() < share}
        expected: dict[str, Value] = {}
        fill(space.choices, expected, alone, kept)
        arch = space.sample(together, kept)
        assert list(arch.items()) == list(expected.items())
        assert together.bit_generator.state == alone.bit_generator.state
        picked = space.decided(lambda decision, values=expected: values[decision.label])  # type: ignore[misc]
        assert picked == arch


@given(space=wide_spaces(), seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_their_numbers_are_those_of_each(space: ArchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arch = space.sample(rng)
    for mapping in (arch, dict(arch)):
        reached = space.reached(mapping)
        assert list(reached) == list(arch)
        numbers = [format(d.index(arch[label]), "x") for label, d in reached.items()]
        assert space.pack(mapping) == ".".join(numbers)  # type: ignore[arg-type]
    assert space.unpack(space.pack(arch)) == arch
    changed = space.mutate(arch, rng)
    space.check(changed)
    assert sum(changed.get(label, value) != value for label, value in arch.items()) == 1


def test_only_plain_ones_are_together_and_only_where_there_are_some() -> None:
    plain = [Choice(f"p{i}", (1, 2)) for i in range(FEWEST)]
    opening = Choice("op", (1, 2), {1: ArchSpace.of(inner=[1, 2])})
    subset = Subset("s", (1, 2), 1)
    found = steps_of([*plain, opening, *plain[1:], subset, *plain])
    kinds = [type(step) for step in found]
    assert kinds == [PlainChoices, Choice, *[Choice] * (FEWEST - 1), Subset, PlainChoices]


@pytest.mark.parametrize("kind", [dict, Arch])
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"c0500": "d"}, "'c0500' is 'd', not one of its options"),
        ({"c0500": None}, "'c0500' is None, not one of its options"),
        ({"c0500": ["a"]}, "'c0500' is .'a'., not one of its options"),
        ({"c0500": 1, "c0400": "z"}, "'c0400' is 'z', not one of its options"),
    ],
)
def test_of_a_thousand_the_first_wrong_one_is_named(
    kind: type, wrong: dict[str, Value], told: str
) -> None:
    good = DEEP.sample(np.random.default_rng(0))
    with pytest.raises(InvalidArch, match=told):
        DEEP.check(kind(good | wrong))
    lacking = good | wrong
    del lacking["c0300"]
    with pytest.raises(InvalidArch, match="'c0300' is not decided; expected one of"):
        DEEP.check(kind(lacking))


def test_true_is_not_one_among_many_either() -> None:
    options: list[Atom] = [1, "x"]
    space = ArchSpace.of(**{f"c{i}": options for i in range(FEWEST)})
    with pytest.raises(InvalidArch, match="'c1' is True, not one of its options"):
        space.check({"c0": 1, "c1": True, "c2": 1, "c3": 1})


def test_a_thousand_decisions_are_counted_and_enumerated_without_deep_recursion() -> None:
    assert DEEP.size() == 3**1000
    first = list(islice(DEEP, 10))
    assert [arch["c0999"] + arch["c0998"] + arch["c0997"] for arch in first] == [  # type: ignore[operator]
        *("aaa", "baa", "caa", "aba", "bba", "cba", "aca", "bca", "cca", "aab")
    ]
    assert {tuple(arch.values())[:997] for arch in first} == {("a",) * 997}


def test_a_used_space_can_be_sent_to_another_process() -> None:
    arch = DEEP.sample(np.random.default_rng(0))
    DEEP.mutate(arch, np.random.default_rng(0))
    copy = pickle.loads(pickle.dumps(DEEP))
    assert copy == DEEP
    assert copy.sample(np.random.default_rng(0)) == arch
