"""Proposing without repetition, also where random draws find nothing new."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import raynas
from raynas.core import deduplicator
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.decision import Choice
from raynas.core.deduplicator import Deduplicator
from raynas.core.errors import Exhausted
from raynas.core.evaluator import Measurement
from raynas.core.goals import goals_of
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.study import Asked, Study, StudyInfo
from raynas.core.trial import Trial
from raynas.storage.run_folder import Folder
from raynas.storage.table_writers import TrialStore
from raynas.storage.tables import load_trials

SPACE = ArchSpace.of(x=list(range(20)), y=list(range(20)))
CORNER = Arch({"x": 0, "y": 0})


def fresh(space: ArchSpace = SPACE, seed: int = 0) -> Deduplicator:
    """Return an empty record."""
    return Deduplicator(space, np.random.default_rng(seed))


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
    space = ArchSpace((Choice("x", tuple(range(deduplicator.LISTABLE + 1))),))
    seen = fresh(space)
    for x in range(deduplicator.LISTABLE - 4):
        seen.add(Arch({"x": x}))
    rest = {seen.propose(lambda: Arch({"x": 0})) for _ in range(5)}
    assert rest == {
        Arch({"x": x}) for x in range(deduplicator.LISTABLE - 4, deduplicator.LISTABLE + 1)
    }
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
    monkeypatch.setattr(deduplicator, "LISTABLE", 300)
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
    monkeypatch.setattr(deduplicator, "LISTABLE", 30)
    seen = fresh(LONG)
    assert {seen.propose(lambda: STOP) for _ in range(41)} == set(LONG)
    with pytest.raises(Exhausted, match="all 41 architectures"):
        seen.propose(lambda: STOP)


# --- samplers that use a space up -----------------------------------------------------------------

TINY = ArchSpace.of(x=[0, 1, 2], y=[0, 1])
TWINS = replace(TINY, isomorphism=lambda arch: Arch({**arch, "y": 0}))
TIGHT = replace(ArchSpace.of(x=list(range(9)), y=[0, 1]), violation=lambda a: float(a["x"] != 4))
SHAPES = pytest.mark.parametrize(
    ("space", "size"), [(TINY, 6), (TWINS, 3), (TIGHT, 2)], ids=["tiny", "twins", "tight"]
)
EARLY: dict[str, dict[str, Any]] = {"regularized_evolution": {"population": 2}, "predictor": {}}
learners = pytest.mark.parametrize("name", sorted(EARLY))


def total(arch: Arch) -> float:
    """Return a score that rises in every direction."""
    return float(sum(arch.values()))  # type: ignore[arg-type]


def used_up(out: Path, name: str, space: ArchSpace, flying: int = 1) -> pd.DataFrame:
    """Go on in a folder until there is nothing to ask; return its trials."""
    if not (out / "trials").exists():
        toy = {key: ComponentSpec(name="toy") for key in ("space", "algo", "evaluator")}
        config = SearchConfig(**toy, objectives={"accuracy": "max"}, out=str(out))  # type: ignore[arg-type]
        Folder(str(out)).begin(config, resume=False)

    def fresh() -> Sampler:
        return SAMPLERS[name](space, seed=0, **EARLY[name])

    study = Study(
        fresh(),
        goals_of({"accuracy": "max"}),
        trials=1000,
        setting=StudyInfo(algo=name, evaluator="toy"),
        sink=TrialStore(str(out), space).append,
        history=load_trials(str(out)),
        make_sampler=fresh,
    )
    waiting: list[Asked] = []
    while not study.finished:
        while len(waiting) < flying and (asked := study.ask()) is not None:
            waiting.append(asked)
        if waiting:
            one = waiting.pop(0)
            study.tell([(one, Measurement(metrics={"accuracy": total(one.arch)}))])
    return raynas.load(str(out)).trials


@pytest.mark.parametrize("flying", [1, 4])
@SHAPES
@learners
def test_a_space_that_is_used_up_ends_the_study_without_duplicates(
    name: str, space: ArchSpace, size: int, flying: int, tmp_path: Path
) -> None:
    frame = used_up(tmp_path, name, space, flying)
    archs = [Arch.from_json(text) for text in frame["arch"]]
    assert len({space.canonical(arch) for arch in archs}) == len(archs) == size
    assert frame["duplicates"].tolist() == [0] * size
    assert set(frame["status"]) == {"completed"}
    again = used_up(tmp_path, name, space, flying)  # goes on, and finds nothing new
    assert again["arch_key"].tolist() == frame["arch_key"].tolist()


@learners
def test_only_an_own_draw_has_a_parent_until_nothing_is_left(name: str) -> None:
    space = ArchSpace.of(a=[0, 1], b=[0, 1, 2], c=[0, 1, 2, 3])
    sampler = SAMPLERS[name](space, seed=0, **EARLY[name])
    told: set[str] = set()
    sources = []
    for _ in range(24):
        arch = sampler.ask()
        parent = sampler.origin.parent
        drawn = sampler._visited.drawn  # type: ignore[attr-defined]
        assert parent is None or (drawn and parent in told)
        sources.append((drawn, parent is not None))
        told.add(arch.key)
        sampler.tell(Trial.completed(arch, total(arch)))
    assert len(told) == 24
    assert (True, True) in sources
    # a population of two is soon out of unseen neighbours, of which they have six each
    assert (False, False) in sources or name == "predictor"
    for _ in range(3):
        with pytest.raises(Exhausted):
            sampler.ask()


@learners
def test_duplicates_of_a_space_that_is_used_up_add_up(name: str, tmp_path: Path) -> None:
    """Another algorithm repeated itself before; what goes on does not."""
    first, second, third, *_ = TINY
    done = [(first, "completed"), (second, "completed"), (first, "duplicate"), (third, "completed")]
    rows = [
        Trial(
            arch=arch,
            number=i,
            status=status,  # type: ignore[arg-type]
            objective=total(arch),
            metrics={"accuracy": total(arch)},
            algo="another",
            asked_event=2 * i,
            told_event=2 * i + 1,
        )
        for i, (arch, status) in enumerate([*done, (first, "duplicate")])
    ]
    toy = {key: ComponentSpec(name="toy") for key in ("space", "algo", "evaluator")}
    config = SearchConfig(**toy, objectives={"accuracy": "max"}, out=str(tmp_path))  # type: ignore[arg-type]
    Folder(str(tmp_path)).begin(config, resume=False)
    TrialStore(str(tmp_path), TINY).append(rows)
    frame = used_up(tmp_path, name, TINY, flying=3)
    assert len(frame) == 6 + 2  # every architecture, and two repetitions
    times = Counter(frame["arch_key"])
    assert frame["duplicates"].tolist() == [times[key] - 1 for key in frame["arch_key"]]
    assert times[first.key] == 3
    assert int((frame["status"] == "duplicate").sum()) == 2
    assert sorted(frame["trial"]) == list(range(8))
