"""Spaces as values: what every tree of decisions promises, on random trees and by hand."""

from __future__ import annotations

import enum
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Hashable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raynas.core.arch import Arch, Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidArch, InvalidSpace
from raynas.core.spacejson import from_plain, to_plain

ROOT = Path(__file__).parent.parent
POOL: tuple[Atom, ...] = (
    *("conv", "pool", "", 0, 2, 3, 0.5, 1.5, True, "1"),
    *(None, "None", (), (3, 5), (2,), ("conv", (0.5, None)), (True, 2)),
)


def odd(*options: Any) -> tuple[Any, ...]:
    """Return options of kinds that no option has, or not in this form."""
    return options


class Color(enum.Enum):
    """An enumeration, which JSON does not know."""

    RED = 1


@st.composite
def spaces(draw: st.DrawFn) -> ArchSpace:
    """Draw a tree of up to four labels, which may stand in several places and open each other."""
    labels = ["a", "b", "c", "d"][: draw(st.integers(1, 4))]
    known: dict[str, Decision] = {}
    for i, label in reversed(list(enumerate(labels))):
        options = tuple(draw(st.lists(st.sampled_from(POOL), min_size=1, max_size=3, unique=True)))
        opens: dict[Atom, ArchSpace] = {}
        if inner := labels[i + 1 :]:  # only later labels, so that nothing opens itself
            for option in draw(st.lists(st.sampled_from(options), unique=True)):
                chosen = draw(st.lists(st.sampled_from(inner), max_size=2))
                opens[option] = ArchSpace(tuple(known[name] for name in chosen))
        if draw(st.booleans()):
            known[label] = Choice(label, options, opens)
        else:
            k = draw(st.none() | st.integers(0, len(options)))
            known[label] = Subset(label, options, k, opens)
    top = draw(st.lists(st.sampled_from(labels), min_size=1, max_size=3))
    return ArchSpace(tuple(known[name] for name in top))


seeds = st.integers(0, 2**32)


def below(decision: Decision) -> set[str]:
    """Return the labels that stand anywhere under a decision."""
    inner = [d for space in decision.opens.values() for d in space.choices]
    return {d.label for d in inner}.union(*map(below, inner))


# --- laws -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(space=spaces(), seed=seeds)
def test_a_sample_lies_in_its_space(space: ArchSpace, seed: int) -> None:
    arch = space.sample(np.random.default_rng(seed))
    space.check(arch)
    assert set(space.reached(arch)) == set(arch)
    assert arch == space.sample(np.random.default_rng(seed))


def test_checking_all_at_once_is_checking_one_by_one() -> None:
    inner = ArchSpace.of(kernel=[1, 2])
    choices = (Choice("depth", (1, 0), {1: inner}), Choice("width", (2, 1, 0), {2: inner}))
    space, slow = ArchSpace(choices), ArchSpace(choices)
    vars(slow)["_flat"] = None
    assert space._flat is not None
    held = 0
    for values in product(odd("absent", 0, 1, 2, True, 1.0, (1,), [1]), repeat=3):
        pairs = dict(zip(("depth", "kernel", "width"), values, strict=True))
        arch: dict[str, Any] = {name: v for name, v in pairs.items() if v != "absent"}
        try:
            slow.check(arch)
            right = True
        except InvalidArch:
            right = False
        held += right
        assert space._flat.holds(arch) == space._flat.holds(Arch(arch)) == right, arch
        assert not space._flat.holds({**arch, "other": 1})
    assert held == 1 * 2 * 3 + 2 + 2 == len(list(space))


@settings(deadline=None)
@given(space=spaces(), seed=seeds)
def test_sampling_keeps_what_is_given(space: ArchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = space.sample(rng)
    assert space.sample(rng, first) == first
    label = sorted(first)[seed % len(first)]
    again = space.sample(rng, {label: first[label]})
    space.check(again)
    assert label not in again or again[label] == first[label]


@settings(deadline=None)
@given(space=spaces(), seed=seeds)
def test_a_mutation_changes_one_reached_decision_and_what_it_opens(
    space: ArchSpace, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    before = space.sample(rng)
    text = before.to_json()
    reached = space.reached(before)
    if all(decision.count() == 1 for decision in reached.values()):
        with pytest.raises(InvalidSpace, match="nothing can be mutated"):
            space.mutate(before, rng)
        return
    after = space.mutate(before, rng)
    space.check(after)
    assert before.to_json() == text
    changed = [label for label in {*before} & {*after} if before[label] != after[label]]
    assert len(changed) == 1
    decision = reached[changed[0]]
    assert {*before} ^ {*after} <= below(decision)
    if isinstance(decision, Subset):
        old, new = before[decision.label], after[decision.label]
        assert isinstance(old, tuple)
        assert isinstance(new, tuple)
        assert len({*old} ^ {*new}) == (1 if decision.k is None else 2)


@settings(deadline=None)
@given(space=spaces())
def test_every_value_of_a_mutated_decision_can_come_out(space: ArchSpace) -> None:
    rng = np.random.default_rng(0)
    arch = space.sample(rng)
    free = {label: d for label, d in space.reached(arch).items() if d.count() > 1}
    if free:
        after = [space.mutate(arch, rng) for _ in range(300)]
        # at most 4 decisions of 3 neighbours: the rarest is missed with probability below
        # 12 * (11 / 12) ** 300 = 6e-11 a tree
        met = {label: {a[label] for a in after if label in a} - {arch[label]} for label in free}
        for label, decision in free.items():
            neighbours = len(decision.options) - 1
            if isinstance(decision, Subset):
                n, k = len(decision.options), decision.k
                neighbours = n if k is None else k * (n - k)
            assert len(met[label]) == neighbours


@settings(deadline=None)
@given(space=spaces())
def test_size_is_the_number_of_architectures(space: ArchSpace) -> None:
    listed = list(space)
    assert space.size() == len(listed) == len(set(listed))
    for arch in listed:
        space.check(arch)


@settings(deadline=None)
@given(space=spaces(), seed=seeds)
def test_an_architecture_survives_its_texts(space: ArchSpace, seed: int) -> None:
    arch = space.sample(np.random.default_rng(seed))
    for again in (Arch.from_json(arch.to_json()), space.unpack(space.pack(arch))):
        space.check(again)
        assert again == arch
        assert again.key == arch.key
        assert hash(again) == hash(arch)


@settings(deadline=None)
@given(space=spaces())
def test_texts_and_encodings_tell_architectures_apart(space: ArchSpace) -> None:
    listed = list(space)
    for distinct in (
        {space.pack(arch) for arch in listed},
        {arch.key for arch in listed},
        {space.encode(arch).tobytes() for arch in listed},
    ):
        assert len(distinct) == len(listed)
    width = sum(len(decision.options) for decision in space.decisions.values())
    assert {space.encode(arch).shape for arch in listed} == {(width,)}


@settings(deadline=None)
@given(space=spaces())
def test_a_space_survives_json(space: ArchSpace) -> None:
    again = from_plain(json.loads(json.dumps(to_plain(space))))
    assert again == space
    assert hash(again) == hash(space)
    # 1, 1.0 and True are equal, but not the same
    assert json.dumps(to_plain(again)) == json.dumps(to_plain(space))


@settings(deadline=None)
@given(space=spaces(), seed=seeds)
def test_a_child_takes_every_decision_from_a_parent(space: ArchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = space.sample(rng), space.sample(rng)
    child = space.cross(first, second, rng)
    space.check(child)
    for label, value in child.items():
        assert value in [parent[label] for parent in (first, second) if label in parent]
    assert space.cross(first, first, rng) == first


def test_both_parents_are_heard() -> None:
    space = ArchSpace.of(**{f"c{i}": [0, 1] for i in range(10)})
    zeros, ones = (Arch(dict.fromkeys(space.labels, v)) for v in (0, 1))
    rng = np.random.default_rng(0)
    children = [space.cross(zeros, ones, rng) for _ in range(100)]
    share = [np.mean([child[label] for child in children]) for label in space.labels]
    # ten times 100 fair coins: one of them leaves [0.2, 0.8] with probability below 2e-8
    assert min(share) > 0.2
    assert max(share) < 0.8


# --- distributions --------------------------------------------------------------------------------


def uniform_p(values: list[Any], expected: int) -> float:
    """Return the chi-square probability of counts at least this uneven."""
    counts = Counter(values)
    assert len(counts) == expected
    return float(stats.chisquare(list(counts.values())).pvalue)


def test_every_decision_is_drawn_uniformly() -> None:
    inner = ArchSpace((Choice("kernel", (3, 5, 7)),))
    space = ArchSpace(
        (
            Choice("op", ("conv", "pool", "skip", "none", "dense"), {"conv": inner}),
            Subset("two", ("a", "b", "c", "d"), 2),
            Subset("any", (1, 2, 3), None),
        )
    )
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(6_000)]
    pairs = [(arch["two"], arch["any"]) for arch in archs]
    # six tests: a right sampler fails with probability 6 * 1e-6 for another seed
    assert uniform_p([arch["op"] for arch in archs], 5) > 1e-6
    assert uniform_p([arch["two"] for arch in archs], 6) > 1e-6
    assert uniform_p([arch["any"] for arch in archs], 8) > 1e-6
    assert uniform_p(pairs, 48) > 1e-6
    assert uniform_p([arch["kernel"] for arch in archs if "kernel" in arch], 3) > 1e-6
    flat = ArchSpace((Choice("x", tuple(range(4))), Subset("two", ("a", "b", "c"), 2)))
    start = Arch({"x": 1, "two": ("a", "b")})
    mutants = [space_key(flat.mutate(start, rng)) for _ in range(6_000)]
    x, two = ([m for m in mutants if (m[1] == ("a", "b")) == kept] for kept in (True, False))
    assert stats.binomtest(len(x), 6_000).pvalue > 1e-6
    assert uniform_p(x, 3) > 1e-6
    assert uniform_p(two, 2) > 1e-6


def space_key(arch: Arch) -> tuple[Hashable, ...]:
    """Return the values of an architecture of ``flat``."""
    return arch["x"], arch["two"]


# --- known spaces ---------------------------------------------------------------------------------


def darts_cell(kind: str) -> tuple[Decision, ...]:
    """Return the decisions of a DARTS cell: four nodes pick two sources, an operation for each."""
    operations = tuple(f"op{i}" for i in range(7))
    nodes = []
    for n in range(4):
        sources = ("s0", "s1", *(f"n{i}" for i in range(n)))
        opens: dict[Atom, ArchSpace] = {
            source: ArchSpace((Choice(f"{kind}/n{n}/op/{source}", operations),))
            for source in sources
        }
        nodes.append(Subset(f"{kind}/n{n}/from", sources, 2, opens))
    return tuple(nodes)


def test_the_darts_space_has_its_size() -> None:
    space = ArchSpace((*darts_cell("normal"), *darts_cell("reduce")))
    assert space.size() == (180 * 7**8) ** 2
    arch = space.sample(np.random.default_rng(0))
    assert len(arch) == 2 * (4 + 8)
    assert space.unpack(space.pack(arch)) == arch


def test_a_space_of_shared_labels_is_counted_without_listing_it() -> None:
    """Five stages of two to four blocks, whose labels every deeper option shares: 2e19."""

    def stage(s: int) -> Choice:
        blocks = [Choice(f"s{s}/b{b}/{w}", (3, 5, 7)) for b in range(4) for w in "ke"]
        return Choice(
            f"s{s}/depth", (2, 3, 4), {d: ArchSpace(tuple(blocks[: 2 * d])) for d in (2, 3, 4)}
        )

    space = ArchSpace(tuple(map(stage, range(5))))
    assert space.size() == (9**2 + 9**3 + 9**4) ** 5


def test_a_space_that_is_opened_in_many_places_is_walked_once() -> None:
    """Sixty decisions in a row, both options of each opening the next: 2 ** 60 paths."""
    space = ArchSpace()
    for i in reversed(range(60)):
        space = ArchSpace((Choice(f"c{i}", (0, 1), {0: space, 1: space}),))
    assert space.size() == 2**60
    assert len(space.labels) == 60
    assert len(space.sample(np.random.default_rng(0))) == 60


def test_a_label_in_two_branches_is_one_decision() -> None:
    width = Choice("width", (16, 32))
    space = ArchSpace(
        (
            Choice("op", ("conv", "pool"), {"conv": ArchSpace((width,))}),
            Choice("skip", (True, False), {True: ArchSpace((width,))}),
        )
    )
    assert space.size() == len(list(space)) == 7
    space.check({"op": "conv", "skip": True, "width": 16})


def test_an_empty_space_holds_the_empty_architecture() -> None:
    space = ArchSpace()
    assert list(space) == [Arch({})]
    assert space.size() == 1
    assert space.unpack(space.pack(Arch({}))) == Arch({})


# --- the same in every process --------------------------------------------------------------------

KEYS = """
import numpy as np
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Subset

inner = ArchSpace((Choice("kernel", (3, 5)), Choice("é", (0.1, 1e300, True))))
space = ArchSpace((Choice("op", ("conv", "pool"), {"conv": inner}), Subset("from", (0, 1, 2), 2)))
rng = np.random.default_rng(0)
archs = [space.sample(rng) for _ in range(30)]
archs += [space.mutate(arch, rng) for arch in archs]
archs += [space.cross(archs[i], archs[i + 30], rng) for i in range(30)]
print(*(arch.key for arch in archs))
"""


def test_keys_are_equal_in_every_process() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", KEYS],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert len(set(runs[0].split())) > 10
    assert runs[0] == runs[1]


def test_a_key_is_of_the_canonical_json_and_nothing_else() -> None:
    arch = Arch({"op": "conv3", "depth": 2})
    assert arch.to_json() == '{"depth":2,"op":"conv3"}'
    assert arch.key == "55327d8bf662197b"
    assert Arch({"depth": 2, "op": "conv3"}).key == arch.key


# --- types and errors -----------------------------------------------------------------------------


def test_options_are_what_json_gives_back() -> None:
    given: Any = (np.int64(3), np.float32(0.5), np.bool_(True), np.str_("a"), [1, [2]], None)
    choice = Choice("x", given)
    assert choice.options == (3, 0.5, True, "a", (1, (2,)), None)
    kinds = [int, float, bool, str, tuple, type(None)]
    assert [type(option) for option in choice.options] == kinds
    assert Subset("x", given, 2).options == choice.options
    assert (
        ArchSpace.of(x=np.arange(2, 5)) == ArchSpace.of(x=range(2, 5)) == ArchSpace.of(x=[2, 3, 4])
    )
    assert ArchSpace.of(x=np.array([[3, 3], [5, 5]])).decisions["x"].options == ((3, 3), (5, 5))
    opened: Any = {np.int64(3): ArchSpace.of(y=[1, 2])}
    assert set(ArchSpace((Choice("x", given[:1], opened),))) == {
        Arch({"x": 3, "y": 1}),
        Arch({"x": 3, "y": 2}),
    }


def test_none_and_tuples_are_values_like_others() -> None:
    space = ArchSpace(
        (
            Choice("norm", (None, "batch"), {None: ArchSpace((Choice("bias", (None, True)),))}),
            Choice("kernel", (3, (3, 5))),
            Subset("taps", (None, (1,), 2), 2),
        )
    )
    without = Arch({"norm": "batch", "kernel": (3, 5), "taps": (None, (1,))})
    space.check(without)
    assert without.to_json() == '{"kernel":[3,5],"norm":"batch","taps":[null,[1]]}'
    with pytest.raises(InvalidArch, match="'bias' is not decided"):
        space.check({**without, "norm": None})
    both = {**without, "norm": None, "bias": None}
    space.check(both)
    assert space.size() == (2 + 1) * 2 * 3
    assert not np.array_equal(space.encode(both), space.encode({**both, "bias": True}))
    with pytest.raises(InvalidArch, match=r"'kernel' is \(3\.0, 5\), not one of its options"):
        space.check({**without, "kernel": (3.0, 5)})
    many = ArchSpace.of(**{label: [None, 1] for label in "abcdef"})
    with pytest.raises(InvalidArch, match="'f' is not decided"):
        many.check(dict.fromkeys("abcde"))


def test_true_is_not_one() -> None:
    number, flag, real = (ArchSpace((Choice("x", (value, "no")),)) for value in (1, True, 1.0))
    keys = set()
    for space, value in ((number, 1), (flag, True), (real, 1.0)):
        for other in (1, True, 1.0):
            if type(other) is type(value):
                space.check({"x": other})
            else:
                with pytest.raises(InvalidArch, match=f"'x' is {other!r}, not one of its options"):
                    space.check({"x": other})
        keys.add(Arch({"x": value}).key)
    assert len(keys) == 3
    with pytest.raises(InvalidSpace, match="label 'x' stands for two decisions"):
        ArchSpace((*number.choices, *flag.choices))


FLAT = ArchSpace.of(width=[16, 32], operation=["conv3", "conv5"])


@pytest.mark.parametrize(
    ("arch", "told"),
    [
        ({"width": 16}, "'operation' is not decided; expected one of"),
        ({"width": 16, "operation": "conv4"}, "'operation' is 'conv4', .* did you mean 'conv"),
        ({"width": 17, "operation": "conv3"}, "'width' is 17, not one of its options"),
        ({"width": [16], "operation": "conv3"}, "'width' is .16., not one of its options"),
        ({"width": 16, "operation": {}}, "'operation' is {}, not one of its options"),
        (
            {"width": 16, "operation": "conv3", "widht": 16},
            "no decision is labelled 'widht'; did you mean 'width'",
        ),
    ],
)
def test_an_error_names_the_label_and_the_nearest_name(arch: dict[str, Value], told: str) -> None:
    with pytest.raises(InvalidArch, match=told):
        FLAT.check(arch)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("a", "'s' is 'a', not a tuple of options"),
        (("b", "a"), "repeated or not in the options' order"),
        (("a", "a"), "repeated or not in the options' order"),
        (("a",), "expected 2 of"),
        (("a", "x"), "'s' is 'x', not one of its options"),
        (("a", ["b"]), r"'s' is \['b'\], not one of its options"),
    ],
)
def test_a_subset_is_a_tuple_of_its_options_in_order(value: Value, told: str) -> None:
    subset = Subset("s", ("a", "b", "c"), 2)
    assert value not in subset
    with pytest.raises(InvalidArch, match=told):
        ArchSpace((subset,)).check({"s": value})


def test_a_decision_that_is_not_reached_may_not_be_taken() -> None:
    inner = ArchSpace((Choice("kernel", (3, 5)),))
    space = ArchSpace((Choice("op", ("conv", "pool"), {"conv": inner}),))
    with pytest.raises(InvalidArch, match="'kernel' is decided but not reached"):
        space.check({"op": "pool", "kernel": 3})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Choice("", (1,)), "a label is a non-empty string"),
        (lambda: Choice("x", ()), "'x' needs a non-empty tuple of options"),
        (
            lambda: Choice("x", [1, 2]),  # type: ignore[arg-type]
            "'x' needs a non-empty tuple of options",
        ),
        (lambda: Choice("x", (1, 1)), "'x' lists an option twice"),
        (lambda: Choice("x", (1, True)), "'x' lists an option twice"),
        (
            lambda: Choice("x", odd({"a": 1})),
            "'x': an option is a string, number, bool, None or a tuple of these, got a dict",
        ),
        (lambda: Choice("x", ((1, b"a"),)), "'x': an option is .* got a bytes"),
        (lambda: Choice("x", odd(Color.RED)), "'x': an option is .* got a Color"),
        (lambda: Choice("x", odd(np.datetime64("2026-01-01"))), "'x': an option is .* got a date"),
        (lambda: Choice("x", odd(1, np.int64(1))), "'x' lists an option twice"),
        (lambda: Choice("x", odd([1], (1,))), "'x' lists an option twice"),
        (lambda: Choice("x", ((1, float("nan")),)), "'x': an option is a finite number, got nan"),
        (lambda: ArchSpace.of(x="abc"), "'x': expected a list of options, got 'abc'"),
        (lambda: ArchSpace.of(x=3), "'x': expected a list of options, got 3"),  # type: ignore[arg-type]
        (lambda: Choice("x", (float("nan"),)), "'x': an option is a finite number, got nan"),
        (lambda: Choice("x", (float("inf"),)), "'x': an option is a finite number, got inf"),
        (lambda: Choice("x", (1,), {2: ArchSpace()}), "'x' opens .2., which are not among"),
        (lambda: Subset("x", (1, 2), 3), "'x' picks 3 of only 2 options"),
        (lambda: Subset("x", (1, 2), -1), "'x' picks -1 of only 2 options"),
        (
            lambda: ArchSpace((Choice("x", (1,), {1: ArchSpace.of(y=[1])}), Choice("y", (1, 2)))),
            "label 'y' stands for two decisions",
        ),
    ],
)
def test_a_space_that_contradicts_itself_is_refused(make: Any, told: str) -> None:
    with pytest.raises(InvalidSpace, match=told):
        make()


@pytest.mark.parametrize("text", ["", "[]", "3", "{'a': 1}"])
def test_an_architecture_is_read_from_an_object_only(text: str) -> None:
    with pytest.raises(InvalidArch, match="expected a JSON object from label to value"):
        Arch.from_json(text)
