"""Laws that every registered sampler keeps, and toys that show that each law can be broken.

No sampler is named here: a new file in ``algorithms/`` is tested by being there.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Subset
from raynas.core.errors import Exhausted
from raynas.core.objectives import hypervolume
from raynas.core.sampler import SAMPLERS, Diverged, Sampler, replay, sampler_class
from raynas.core.trial import Trial

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).with_name("golden.json")


def conditional() -> ArchSpace:
    """Return a tree: an option opens decisions, and one label stands in two places."""
    width = Choice("width", (16, 32, 64))
    conv = ArchSpace((Choice("kernel", (3, 5, 7)), Choice("bias", (True, False)), width))
    dense = ArchSpace((width, Choice("rate", (0.0, 0.25, 0.5))))
    block = Choice("op", ("conv", "dense", "skip"), {"conv": conv, "dense": dense})
    return ArchSpace((block, Choice("depth", (1, 2, 3, 4)), Choice("head", ("linear", "mlp"))))


def cells() -> ArchSpace:
    """Return nodes that pick two of their sources, and an operation for each."""
    nodes = []
    for n in range(2):
        sources = ("s0", "s1", *(f"n{i}" for i in range(n + 1)))
        nodes.append(
            Subset(
                f"n{n}/from",
                sources,
                2,
                {s: ArchSpace((Choice(f"n{n}/op/{s}", ("a", "b", "c")),)) for s in sources},
            )
        )
    return ArchSpace((*nodes, Subset("skips", (0, 1, 2), None)))


def deep() -> ArchSpace:
    """Return 150 blocks, most of which open two decisions, and bounds on how many are not skipped.

    Decisions can change in 777 ways, more than a model looks at; a random architecture keeps the
    bounds with probability 0.03.
    """
    blocks: list[Choice | Subset] = []
    for i in range(150):
        conv = ArchSpace((Choice(f"b{i:03}/kernel", (3, 5, 7)), Choice(f"b{i:03}/bias", (0, 1))))
        blocks.append(Choice(f"b{i:03}", ("conv", "pool", "skip"), {"conv": conv}))
    taps = Subset("taps", tuple(range(12)), 3)

    def excess(arch: Arch) -> float:
        return max(0.0, sum(arch[block.label] != "skip" for block in blocks) / 88 - 1)

    return ArchSpace((*blocks, taps), violation=excess)


FLAT = ArchSpace.of(**{f"c{i:02}": [f"o{j}" for j in range(8)] for i in range(12)})
SPACES = {"flat": FLAT, "conditional": conditional(), "subset": cells()}
SMALL = ArchSpace(
    (
        Choice("op", ("conv", "pool"), {"conv": ArchSpace((Choice("kernel", (3, 5, 7)),))}),
        Subset("from", ("s0", "s1", "s2"), 2),
        Choice("bias", (True, False)),
    )
)  # 24 architectures
ONE = ArchSpace.of(only=["option"])


def in_order(arch: Arch) -> Arch:
    """Return the twin of an architecture of ``TWINS`` whose first position is not the larger."""
    first, second = sorted((int(str(arch["first"])), int(str(arch["second"]))))
    return Arch({**arch, "first": first, "second": second})


# two positions that may be exchanged: 48 architectures in 30 classes
TWINS = ArchSpace(ArchSpace.of(first=range(4), second=range(4), third=range(3)).choices, in_order)


class Make(Protocol):
    """How a law makes the sampler that it tests."""

    def __call__(self, space: ArchSpace, *, seed: int) -> Sampler:
        """Return a fresh sampler."""
        ...


def score(arch: Arch) -> float:
    """Return a number in [0, 1) that depends on every decision, equal in every process."""
    return int(hashlib.sha256(arch.to_json().encode()).hexdigest()[:8], 16) / 2**32


def trial(arch: Arch, objective: float | None = None) -> Trial:
    """Return a completed trial, scored by ``score`` unless a score is given."""
    value = score(arch) if objective is None else objective
    return Trial.completed(arch, value, accuracy=value, loss=1 - value)


def keys(sampler: Sampler, count: int) -> list[str]:
    """Ask and tell one after the other; return the keys of what was asked."""
    asked = []
    for _ in range(count):
        arch = sampler.ask()
        asked.append(arch.key)
        sampler.tell(trial(arch))
    return asked


# --- the laws -------------------------------------------------------------------------------------


def answers_lie_in_the_space_and_never_repeat(make: Make, space: ArchSpace) -> None:
    """Forty asks in a row, all told; those of a bounded space keep its bounds."""
    sampler = make(space, seed=0)
    seen = set()
    for _ in range(40):
        arch = sampler.ask()
        space.check(arch)
        assert space.violation is None or space.violation(arch) == 0.0
        assert arch not in seen, f"{arch} was asked twice"
        seen.add(arch)
        sampler.tell(trial(arch))


def a_seed_fixes_the_run(make: Make, space: ArchSpace) -> None:
    """Equal seeds give equal runs, others give others; ties in the scores change nothing."""
    first = keys(make(space, seed=0), 40)
    assert first == keys(make(space, seed=0), 40)
    # two random orders of 40 of the smallest space's 224 agree with probability 1e-92
    assert first != keys(make(space, seed=1), 40)

    def ties(seed: int) -> list[Arch]:
        sampler, asked = make(space, seed=seed), []
        for _ in range(40):
            asked.append(sampler.ask())
            sampler.tell(trial(asked[-1], 0.5))
        return asked

    assert ties(0) == ties(0)


@dataclass
class Run:
    """Asks and tells in a random order, recorded as a study records them."""

    sampler: Sampler
    rng: np.random.Generator
    workers: int

    def __post_init__(self) -> None:
        self.event = 0
        self.flying: list[tuple[int, Arch]] = []
        self.told: list[Trial] = []

    def ask(self) -> None:
        """Ask for one more."""
        self.flying.append((self.event, self.sampler.ask()))
        self.event += 1

    def tell(self) -> None:
        """Finish one of those in flight; every fifth fails."""
        asked, arch = self.flying.pop(int(self.rng.integers(len(self.flying))))
        result = trial(arch) if self.event % 5 else Trial.failed(arch, "no memory")
        self.told.append(replace(result, asked_event=asked, told_event=self.event))
        self.event += 1
        self.sampler.tell(self.told[-1])

    def go(self, tells: int) -> None:
        """Go on until so many more are told; the last event is a tell."""
        goal = len(self.told) + tells
        while len(self.told) < goal:
            idle = len(self.flying) < self.workers
            if not self.flying or (idle and self.rng.random() < 0.7):
                self.ask()
            else:
                self.tell()


def replay_equals_never_stopping(make: Make, space: ArchSpace, tells: int) -> None:
    """With up to five in flight that finish in any order, and whatever order they are stored in."""
    run = Run(make(space, seed=3), np.random.default_rng(0), workers=5)
    run.go(tells)
    fresh = make(space, seed=3)
    stored = [run.told[i] for i in np.random.default_rng(1).permutation(len(run.told))]
    pending = {event: arch for event, arch, _ in replay(fresh, stored)}
    assert pending == dict(run.flying)
    again = Run(fresh, np.random.default_rng(2), workers=5)
    again.flying, again.event = sorted(pending.items()), run.event
    run.rng = np.random.default_rng(2)
    run.go(15)
    again.go(15)
    assert again.told == run.told[tells:]
    assert again.flying == run.flying


def its_first_asks_need_no_tell(make: Make, space: ArchSpace) -> None:
    """As many as it says (``startup``) come out alike, told in between or not."""
    told, untold = make(space, seed=0), make(space, seed=0)
    free = told.startup
    for _ in range(60 if free is None else min(free, 60)):
        arch = told.ask()
        assert arch == untold.ask()
        told.tell(trial(arch))


def sixteen_may_be_in_flight(make: Make, space: ArchSpace) -> None:
    """Sixteen asks before any tell, told in reverse, three times."""
    sampler = make(space, seed=0)
    seen: set[Arch] = set()
    for _ in range(3):
        asked = [sampler.ask() for _ in range(16)]
        for arch in asked:
            space.check(arch)
        seen.update(asked)
        for arch in reversed(asked):
            sampler.tell(trial(arch))
    assert len(seen) == 48


def failures_and_strangers_may_be_told(make: Make, space: ArchSpace) -> None:
    """What was told is never asked, whoever proposed it, and no failure stops the run."""
    rng = np.random.default_rng(5)
    sampler = make(space, seed=0)
    told: set[Arch] = set()
    for i in range(45):
        if i % 3 == 0:
            stranger = space.sample(rng)
            told.add(stranger)
            sampler.tell(trial(stranger) if i % 2 else Trial.failed(stranger, "no memory"))
        arch = sampler.ask()
        space.check(arch)
        assert arch not in told, f"{arch} was told and then asked"
        told.add(arch)
        sampler.tell(Trial.failed(arch, "no memory") if i < 25 else trial(arch))


def it_ends_when_all_was_proposed(make: Make, space: ArchSpace, strangers: int, told: bool) -> None:
    """Exhausted comes after every architecture that nobody told, at once, and stays."""
    sampler = make(space, seed=0)
    left = set(space)
    for stranger in list(space)[:strangers]:
        sampler.tell(trial(stranger))
        left.remove(stranger)
    for _ in range(len(left)):
        arch = sampler.ask()
        left.remove(arch)
        if told:
            sampler.tell(trial(arch))
    for _ in range(3):
        try:
            extra = sampler.ask()
        except Exhausted:
            continue
        raise AssertionError(f"{extra} was asked after all {space.size()} were")
    assert not left


def isomorphic_ones_are_one(make: Make, strangers: int) -> None:
    """No two proposals are isomorphic, to each other or to what was told; all classes come."""
    sampler = make(TWINS, seed=0)
    seen = set()
    for stranger in list(TWINS)[::-1][:strangers]:
        seen.add(in_order(stranger))
        sampler.tell(trial(stranger))
    for _ in range(30 - len(seen)):
        arch = sampler.ask()
        assert in_order(arch) not in seen, f"{arch} is isomorphic to an earlier one"
        seen.add(in_order(arch))
        sampler.tell(trial(arch))
    for _ in range(2):
        try:
            extra = sampler.ask()
        except Exhausted:
            continue
        raise AssertionError(f"{extra} was asked after one of every class was")


def it_beats_random_search(make: Make) -> None:
    """The best of 100 is better than the best of 100 random ones, in 11 of 12 seeds.

    The surface is separable: twelve choices of eight options, each with a normal effect of its
    own. A sampler that learns nothing passes with probability 13 / 4096 = 0.3 % (sign test).
    """
    wins = 0
    for seed in range(12):
        effect = np.random.default_rng([1, seed]).standard_normal((12, 8))

        def surface(arch: Arch, effect: Any = effect) -> float:
            return float(
                sum(effect[i, FLAT.decisions[c].index(arch[c])] for i, c in enumerate(arch))
            )

        rng = np.random.default_rng([2, seed])
        chance = max(surface(FLAT.sample(rng)) for _ in range(100))
        sampler = make(FLAT, seed=seed)
        for _ in range(100):
            arch = sampler.ask()
            value = surface(arch)
            if value > chance:
                wins += 1
                break
            sampler.tell(trial(arch, value))
    assert wins >= 11, f"better than random search in only {wins} of 12 seeds"


def its_front_beats_random_search(make: Make) -> None:
    """Told two scores, 100 queries dominate more than 100 random ones, in 11 of 12 seeds.

    Both scores are separable with normal effects of their own, the reference far below. A sampler
    that learns nothing passes with probability 0.3 % (sign test).
    """
    wins = 0
    for seed in range(12):
        effect = np.random.default_rng([3, seed]).standard_normal((12, 8, 2))

        def scores(arch: Arch, effect: Any = effect) -> Any:
            numbers = [FLAT.decisions[label].index(arch[label]) for label in arch]
            return effect[np.arange(12), numbers].sum(0)

        rng = np.random.default_rng([4, seed])
        reference = np.array([-12.0, -12.0])
        chance = hypervolume(np.stack([scores(FLAT.sample(rng)) for _ in range(100)]), reference)
        sampler = make(FLAT, seed=seed)
        found: list[Any] = []
        while len(found) < 100 and hypervolume(np.array(found or [reference]), reference) <= chance:
            arch = sampler.ask()
            found.append(scores(arch))
            sampler.tell(Trial.scored_as(arch, found[-1]))
        wins += hypervolume(np.array(found), reference) > chance
    assert wins >= 11, f"better than random search in only {wins} of 12 seeds"


def learns(make: Make) -> bool:
    """Return whether any ask depends on a tell, by the sampler's own word."""
    return make(FLAT, seed=0).startup is not None


# --- every registered sampler keeps them ----------------------------------------------------------

every_sampler = pytest.mark.parametrize("name", sorted(SAMPLERS))
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))


@every_sampler
@every_space
def test_answers_lie_in_the_space_and_never_repeat(name: str, space: ArchSpace) -> None:
    answers_lie_in_the_space_and_never_repeat(SAMPLERS[name], space)


@pytest.mark.full
@every_sampler
def test_a_deep_space_with_conditions_and_bounds_is_searched(name: str) -> None:
    answers_lie_in_the_space_and_never_repeat(SAMPLERS[name], deep())
    assert keys(SAMPLERS[name](deep(), seed=1), 25) == keys(SAMPLERS[name](deep(), seed=1), 25)


@every_sampler
@every_space
def test_a_seed_fixes_the_run(name: str, space: ArchSpace) -> None:
    a_seed_fixes_the_run(SAMPLERS[name], space)


@every_sampler
@every_space
@pytest.mark.parametrize("tells", [pytest.param(1, marks=pytest.mark.full), 12, 33])
def test_replay_equals_never_stopping(name: str, space: ArchSpace, tells: int) -> None:
    replay_equals_never_stopping(SAMPLERS[name], space, tells)


@every_sampler
@every_space
def test_its_first_asks_need_no_tell(name: str, space: ArchSpace) -> None:
    its_first_asks_need_no_tell(SAMPLERS[name], space)


@every_sampler
@every_space
def test_sixteen_may_be_in_flight(name: str, space: ArchSpace) -> None:
    sixteen_may_be_in_flight(SAMPLERS[name], space)


@every_sampler
@every_space
def test_failures_and_strangers_may_be_told(name: str, space: ArchSpace) -> None:
    failures_and_strangers_may_be_told(SAMPLERS[name], space)


@every_sampler
@pytest.mark.parametrize("space", [SMALL, ONE], ids=["small", "one"])
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("strangers", [0, 1])
def test_it_ends_when_all_was_proposed(
    name: str, space: ArchSpace, strangers: int, told: bool
) -> None:
    it_ends_when_all_was_proposed(SAMPLERS[name], space, strangers, told)


@every_sampler
@pytest.mark.parametrize("strangers", [0, 3])
def test_isomorphic_ones_are_one(name: str, strangers: int) -> None:
    isomorphic_ones_are_one(SAMPLERS[name], strangers)


@pytest.mark.parametrize("name", [name for name in sorted(SAMPLERS) if learns(SAMPLERS[name])])
def test_it_beats_random_search(name: str) -> None:
    it_beats_random_search(SAMPLERS[name])


def with_two_scores(name: str) -> Make:
    """Return what makes a sampler that is told two scores."""

    def make(space: ArchSpace, *, seed: int) -> Sampler:
        return SAMPLERS[name](space, seed=seed, objectives=("first", "second"))

    return make


SEVERAL = [name for name in sorted(SAMPLERS) if sampler_class(name).multi_objective]


@pytest.mark.parametrize("name", SEVERAL)
def test_its_front_beats_random_search(name: str) -> None:
    its_front_beats_random_search(with_two_scores(name))


@pytest.mark.full
@pytest.mark.parametrize("name", SEVERAL)
def test_a_deep_space_is_searched_for_a_front(name: str) -> None:
    sampler, space, seen = with_two_scores(name)(deep(), seed=0), deep(), set()
    for _ in range(25):
        arch = sampler.ask()
        space.check(arch)
        assert space.violation is not None
        assert space.violation(arch) == 0.0
        assert arch not in seen
        seen.add(arch)
        sampler.tell(Trial.scored_as(arch, [score(arch), float(len(arch))]))


@pytest.mark.parametrize("name", SEVERAL)
def test_two_scores_are_not_told_to_a_sampler_of_one(name: str) -> None:
    sampler = SAMPLERS[name](SMALL, seed=0)
    with pytest.raises(ValueError, match=r"expected 1 score\(s\) per trial .*, got 2"):
        sampler.tell(Trial.scored_as(sampler.ask(), [0.5, 1.0]))


ELSEWHERE = """
import sys
sys.path.insert(0, sys.argv[1])
import test_sampler_contract as contract
print(contract.json.dumps(contract.runs()))
"""


def runs() -> dict[str, list[str]]:
    """Return the first forty keys of every sampler in the tree-shaped space."""
    return {name: keys(SAMPLERS[name](conditional(), seed=7), 40) for name in sorted(SAMPLERS)}


@pytest.mark.parametrize("hash_seed", ["1", pytest.param("2", marks=pytest.mark.full)])
def test_a_seed_fixes_the_run_in_every_process(hash_seed: str) -> None:
    """This one's hashes are of another seed again, or of none that is fixed."""
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(Path(__file__).parent)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == runs()


# --- and toys break them --------------------------------------------------------------------------


class Toy(Sampler):
    """Draws at random and learns nothing, without any look at what was there before."""

    startup: int | None = 0

    def __init__(self, space: ArchSpace, *, seed: int) -> None:
        self.space = space
        self.rng = np.random.default_rng(seed)
        self.asked: list[Arch] = []

    def ask(self) -> Arch:
        """Return the next one."""
        self.asked.append(self.space.sample(self.rng))
        return self.asked[-1]

    def tell(self, trial: Trial) -> None:
        """Forget it."""


class SeedBlind(Toy):
    """Seeds itself."""

    def __init__(self, space: ArchSpace, *, seed: int) -> None:
        super().__init__(space, seed=0)


class Seedless(Toy):
    """Takes its randomness from the machine."""

    def __init__(self, space: ArchSpace, *, seed: int) -> None:
        super().__init__(space, seed=int.from_bytes(os.urandom(4), "big"))


class Repeating(Toy):
    """Asks for the first one again and again."""

    def ask(self) -> Arch:
        return self.asked[0] if self.asked else super().ask()


class Astray(Toy):
    """Leaves the space after a while."""

    def ask(self) -> Arch:
        arch = super().ask()
        return Arch({**arch, "elsewhere": 1}) if len(self.asked) > 9 else arch


class Alternating(Toy):
    """Expects every ask to be told before the next."""

    def ask(self) -> Arch:
        assert not self.asked, "tell me first"
        return super().ask()

    def tell(self, trial: Trial) -> None:
        self.asked.remove(trial.arch)


class Arithmetic(Toy):
    """Adds up scores without asking whether there are any."""

    total = 0.0

    def tell(self, trial: Trial) -> None:
        self.total += trial.objective  # type: ignore[operator]


class Eager(Toy):
    """Promises not to listen, and listens."""

    startup = None

    def tell(self, trial: Trial) -> None:
        self.rng.random()


class Careless(Toy):
    """Draws random numbers when told, but not for a trial that it knows from its own asks."""

    def tell(self, trial: Trial) -> None:
        if not any(trial.arch is arch for arch in self.asked):
            self.rng.random()


class Restless(Toy):
    """Proposes everything once, says that it is done, and begins again."""

    def __init__(self, space: ArchSpace, *, seed: int) -> None:
        super().__init__(space, seed=seed)
        self.left = list(space) if space.size() < 1_000 else []

    def ask(self) -> Arch:
        if self.left:
            return self.left.pop()
        self.left = list(self.space)
        raise Exhausted("done")


class Blind(Restless):
    """Proposes everything once and is done, isomorphic ones as well."""

    def ask(self) -> Arch:
        if not self.left:
            raise Exhausted("done")
        return self.left.pop()


BROKEN: list[tuple[type[Toy], Callable[[Make], None]]] = [
    (Repeating, lambda make: answers_lie_in_the_space_and_never_repeat(make, FLAT)),
    (Astray, lambda make: answers_lie_in_the_space_and_never_repeat(make, FLAT)),
    (SeedBlind, lambda make: a_seed_fixes_the_run(make, FLAT)),
    (Seedless, lambda make: a_seed_fixes_the_run(make, FLAT)),
    (Seedless, lambda make: replay_equals_never_stopping(make, FLAT, 12)),
    (Careless, lambda make: replay_equals_never_stopping(make, FLAT, 12)),
    (Eager, lambda make: its_first_asks_need_no_tell(make, FLAT)),
    (Alternating, lambda make: sixteen_may_be_in_flight(make, FLAT)),
    (Repeating, lambda make: sixteen_may_be_in_flight(make, FLAT)),
    (Arithmetic, lambda make: failures_and_strangers_may_be_told(make, FLAT)),
    (Toy, lambda make: failures_and_strangers_may_be_told(make, SMALL)),
    (Toy, lambda make: it_ends_when_all_was_proposed(make, SMALL, 0, True)),
    (Restless, lambda make: it_ends_when_all_was_proposed(make, SMALL, 0, True)),
    (Restless, lambda make: it_ends_when_all_was_proposed(make, SMALL, 1, True)),
    (Blind, lambda make: isomorphic_ones_are_one(make, 0)),
    (Restless, lambda make: isomorphic_ones_are_one(make, 3)),
    (Toy, it_beats_random_search),
    (Toy, its_front_beats_random_search),
]


@pytest.mark.parametrize(("toy", "law"), BROKEN)
def test_a_law_can_be_broken(toy: type[Toy], law: Callable[[Make], None]) -> None:
    with pytest.raises((AssertionError, ValueError, TypeError, KeyError, Diverged)):
        law(toy)


def test_a_toy_that_keeps_a_law_passes_it() -> None:
    a_seed_fixes_the_run(Toy, FLAT)
    replay_equals_never_stopping(Toy, FLAT, 12)
    sixteen_may_be_in_flight(Toy, FLAT)


@every_sampler
def test_a_class_says_whether_its_asks_depend_on_tells(name: str) -> None:
    sampler = SAMPLERS[name](FLAT, seed=0)
    assert isinstance(sampler, sampler_class(name))
    assert (sampler.startup is None) == (sampler_class(name).startup is None)


# --- golden keys ----------------------------------------------------------------------------------


def golden(name: str) -> dict[str, Any]:
    """Return what stands in ``golden.json`` for a sampler: ten keys, and a digest of a hundred.

    Where a library proposes, its release stands there as well.
    """
    asked = keys(SAMPLERS[name](FLAT, seed=0), 100)
    digest = hashlib.sha256(" ".join(asked).encode()).hexdigest()[:16]
    library = sampler_class(name).library
    release = {library: version(library)} if library else {}
    return {"first ten": asked[:10], "first hundred": digest, **release}


@every_sampler
def test_proposals_are_those_of_the_golden_file(name: str) -> None:
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
    library = sampler_class(name).library
    if library and name in stored and stored[name][library] != version(library):
        pytest.skip(f"recorded with {library} {stored[name][library]}: another one may differ")
    assert stored.get(name) == golden(name), stored["regenerate"]


def test_the_golden_file_holds_no_sampler_that_is_gone() -> None:
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert sorted(stored.keys() - {"regenerate"}) == sorted(SAMPLERS), stored["regenerate"]


if __name__ == "__main__":
    sentence = json.loads(GOLDEN.read_text(encoding="utf-8"))["regenerate"]
    entries = {"regenerate": sentence, **{name: golden(name) for name in sorted(SAMPLERS)}}
    GOLDEN.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
