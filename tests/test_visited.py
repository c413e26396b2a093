"""Proposing without repetition, also where random draws find nothing new."""

from __future__ import annotations

import numpy as np
import pytest

from raynas.core import visited
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice
from raynas.core.errors import Exhausted
from raynas.core.visited import Visited

SPACE = ArchSpace.of(x=list(range(20)), y=list(range(20)))
CORNER = Arch({"x": 0, "y": 0})


def fresh(space: ArchSpace = SPACE, seed: int = 0) -> Visited:
    """Return an empty record."""
    return Visited(space, np.random.default_rng(seed))


def test_a_draw_that_is_new_is_taken_and_then_seen() -> None:
    seen = fresh()
    assert CORNER not in seen
    assert seen.propose(lambda: CORNER) == CORNER
    assert CORNER in seen
    assert len(seen) == 1
    assert seen.propose(lambda: CORNER) != CORNER


def test_a_draw_that_finds_nothing_new_still_leads_through_the_whole_space() -> None:
    seen = fresh()
    proposed = [seen.propose(lambda: CORNER) for _ in range(400)]
    assert set(proposed) == set(SPACE)
    for _ in range(2):
        with pytest.raises(Exhausted, match="all 400 architectures of the space were proposed"):
            seen.propose(lambda: CORNER)


def chain(length: int) -> ArchSpace:
    """Return one architecture more than ``length``; each is half as likely as the one before."""
    space = ArchSpace()
    for i in reversed(range(length)):
        space = ArchSpace((Choice(f"c{i:02}", ("stop", "on"), {"on": space}),))
    return space


LONG = chain(40)
STOP = Arch({"c00": "stop"})


def test_what_is_told_late_is_not_proposed() -> None:
    """Also when the rest of the space was listed before it was told."""
    seen = fresh(LONG)
    proposed = {seen.propose(lambda: STOP) for _ in range(31)}
    left = set(LONG) - proposed
    assert len(left) == 10  # of probability below 1e-6 each: they are found by listing
    for _ in range(3):
        told = left.pop()
        seen.add(told)
        left.remove(seen.propose(lambda: STOP))
    assert {seen.propose(lambda: STOP) for _ in range(len(left))} == left
    with pytest.raises(Exhausted, match="all 41 architectures"):
        seen.propose(lambda: STOP)


def test_the_last_of_a_space_too_large_to_list_are_found_as_well() -> None:
    space = ArchSpace((Choice("x", tuple(range(visited.LISTABLE + 1))),))
    seen = fresh(space)
    for x in range(visited.LISTABLE - 4):
        seen.add(Arch({"x": x}))
    rest = {seen.propose(lambda: Arch({"x": 0})) for _ in range(5)}
    assert rest == {Arch({"x": x}) for x in range(visited.LISTABLE - 4, visited.LISTABLE + 1)}
    with pytest.raises(Exhausted):
        seen.propose(lambda: Arch({"x": 0}))


def test_the_order_of_the_rest_depends_on_the_seed_alone() -> None:
    def order(seed: int) -> list[Arch]:
        seen = fresh(LONG, seed)
        return [seen.propose(lambda: STOP) for _ in range(41)]

    assert order(1) == order(1)
    last = [len(arch) for arch in order(1)[-10:]]
    # a random order of ten is one of these with probability 6e-7
    assert last not in (sorted(last), sorted(last, reverse=True))
    assert last != [len(arch) for arch in order(2)[-10:]]


def halved(arch: Arch) -> Arch:
    """Return what stands for all architectures of one half of the plane."""
    return Arch({"x": 0, "y": int(str(arch["y"])) // 10})


def test_of_every_class_one_is_proposed() -> None:
    space = ArchSpace(SPACE.choices, isomorphism=halved)
    assert space == SPACE  # isomorphism is no part of its value
    assert hash(space) == hash(SPACE)
    seen = fresh(space)
    seen.add(Arch({"x": 3, "y": 12}))
    assert Arch({"x": 19, "y": 19}) in seen
    assert len(seen) == 1
    other = seen.propose(lambda: Arch({"x": 3, "y": 15}))
    assert halved(other)["y"] == 0
    for _ in range(2):
        with pytest.raises(Exhausted, match="isomorphic to, one of the 2 proposed"):
            seen.propose(lambda: CORNER)


def test_a_large_space_of_few_classes_comes_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visited, "LISTABLE", 300)
    space = ArchSpace(ArchSpace.of(x=range(10**6), y=range(10**6)).choices, isomorphism=parity)
    seen = fresh(space)
    found = {parity(seen.propose(lambda: CORNER)) for _ in range(4)}
    assert len(found) == 4
    with pytest.raises(Exhausted, match="isomorphic to, one of the 4 proposed"):
        seen.propose(lambda: CORNER)


def parity(arch: Arch) -> Arch:
    """Return what stands for all architectures whose numbers are as odd."""
    return Arch({label: int(str(value)) % 2 for label, value in arch.items()})


def test_rare_architectures_of_a_large_space_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance alone would need a million draws for some of the last ones."""
    monkeypatch.setattr(visited, "LISTABLE", 30)
    seen = fresh(LONG)
    assert {seen.propose(lambda: STOP) for _ in range(41)} == set(LONG)
    with pytest.raises(Exhausted, match="all 41 architectures"):
        seen.propose(lambda: STOP)
