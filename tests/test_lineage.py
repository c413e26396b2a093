"""Lineage: what a proposal was changed from, what was expected of it, how often it came back."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import raynas
from raynas.algorithms.evolution import Evolution
from raynas.algorithms.nsga2 import NSGA2
from raynas.algorithms.predictor import Predictor
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.deduplicator import Deduplicator
from raynas.core.errors import Exhausted
from raynas.core.evaluator import Measurement
from raynas.core.goals import goals_of
from raynas.core.result_cache import ResultCache
from raynas.core.sampler import SAMPLERS, Origin, Sampler
from raynas.core.study import Study, StudyInfo
from raynas.core.trial import Trial
from raynas.storage.run_folder import Folder
from raynas.storage.table_writers import TrialStore
from tests.inline import INLINE
from tests.test_sampler_contract import FLAT, SMALL, SPACES, TWINS, score, trial

MUTATING = ("local_search", "regularized_evolution")
every_sampler = pytest.mark.parametrize("name", sorted(SAMPLERS))


def changed(child: Arch, parent: Arch) -> int:
    """Return how many labels that both reach differ."""
    return sum(child[label] != parent[label] for label in child.keys() & parent.keys())


def asked(
    sampler: Sampler, count: int, flying: int = 4
) -> list[tuple[Arch, Origin, dict[str, Arch]]]:
    """Ask with some in flight; return each proposal, its origin, and what was told before it."""
    told: dict[str, Arch] = {}
    waiting: list[Arch] = []
    found = []
    for _ in range(count):
        try:
            arch = sampler.ask()
        except Exhausted:
            break
        found.append((arch, sampler.origin, dict(told)))
        waiting.append(arch)
        if len(waiting) > flying:
            first = waiting.pop(0)
            told[first.key] = first
            sampler.tell(trial(first))
    return found


# --- laws -----------------------------------------------------------------------------------------


@every_sampler
@pytest.mark.parametrize("space", [*SPACES.values(), SMALL, TWINS], ids=[*SPACES, "small", "twins"])
def test_a_parent_was_told_before_and_is_another_architecture(name: str, space: ArchSpace) -> None:
    for arch, origin, told in asked(SAMPLERS[name](space, seed=0), 60):
        if origin.parent is not None:
            assert origin.parent in told
            assert origin.parent != arch.key
            # in a small space, where mutants were seen before, evolution changes more than one
            if name == "local_search" or (name in MUTATING and space is FLAT):
                assert changed(arch, told[origin.parent]) == 1


@every_sampler
def test_a_stranger_may_be_a_parent(name: str) -> None:
    """One that is better than all others, where a sampler learns from strangers at all."""
    sampler = SAMPLERS[name](FLAT, seed=0)
    for _ in range(40):
        sampler.tell(trial(sampler.ask()))
    stranger = FLAT.sample(np.random.default_rng(5))
    sampler.tell(trial(stranger, 100.0))
    parents = []
    for _ in range(12):
        arch = sampler.ask()
        parents.append(sampler.origin.parent)
        sampler.tell(trial(arch, 0.0))
    if name in (*MUTATING, "evolution", "predictor", "perturbation"):
        assert stranger.key in parents
    else:
        assert parents == [None] * 12


@pytest.mark.parametrize("name", [*MUTATING, "evolution"])
def test_what_is_drawn_at_random_has_no_parent(name: str) -> None:
    sampler = SAMPLERS[name](FLAT, seed=0)
    free = sampler.startup
    assert free is not None
    origins = [origin for _, origin, _ in asked(sampler, free + 20, flying=0)]
    assert origins[:free] == [Origin()] * free
    assert all(origin.parent for origin in origins[free:])


@pytest.mark.parametrize("name", [*MUTATING, "evolution", "predictor"])
def test_what_no_mutation_could_find_has_no_parent(name: str) -> None:
    """The last of a small space come from a list, of a parent only by chance: one change away."""
    found = asked(SAMPLERS[name](SMALL, seed=0), 24, flying=0)
    assert len(found) == 24
    for arch, origin, told in found:
        if origin.parent is not None and name == "local_search":
            assert changed(arch, told[origin.parent]) == 1
    assert any(origin.parent for _, origin, _ in found)


def test_the_documentation_names_those_that_say_the_parent() -> None:
    saying = {
        name
        for name in SAMPLERS
        if any(origin.parent for _, origin, _ in asked(SAMPLERS[name](FLAT, seed=0), 60))
    }
    text = (Path(__file__).parent.parent / "docs" / "trials.md").read_text(encoding="utf-8")
    sentence = text.partition(" say the parent")[0].rpartition("\n\n")[2]
    assert set(re.findall("`(.+?)`", sentence)) == saying
    assert "nsga2" not in saying
    assert "names no ``parent``" in (NSGA2.__doc__ or "")


def test_the_first_parent_of_a_crossover_is_named() -> None:
    """Without mutation a child has nothing that neither of the best two has."""
    sampler = Evolution(FLAT, seed=0, population=8, selected=2, mutation_prob=0.0)
    children = 0
    for arch, origin, told in asked(sampler, 30, flying=0):
        if origin.parent is not None:
            best = sorted(told.values(), key=score)[-2:]
            assert origin.parent in {one.key for one in best}
            assert all(arch[label] in [one[label] for one in best] for label in FLAT.labels)
            children += 1
    assert children > 10


def test_a_child_mutated_into_the_bounds_keeps_its_parent() -> None:
    space = ArchSpace(FLAT.choices, violation=lambda arch: float(arch["c00"] != "o0"))
    for arch, origin, told in asked(SAMPLERS["evolution"](space, seed=0), 60)[25:]:
        assert arch["c00"] == "o0"
        assert origin.parent in told


def test_visited_says_whether_its_last_answer_was_the_samplers_own_draw() -> None:
    space = ArchSpace.of(x=range(3))
    seen = Deduplicator(space, np.random.default_rng(0))
    draw = Arch({"x": 1})
    drawn = []
    for _ in range(3):
        arch = seen.propose(lambda: draw)
        drawn.append((arch == draw, seen.drawn))
    assert drawn == [(True, True), (False, False), (False, False)]


# --- what a model expected ------------------------------------------------------------------------


def test_only_the_predictor_predicts() -> None:
    for name in sorted(SAMPLERS):
        origins = [origin for _, origin, _ in asked(SAMPLERS[name](FLAT, seed=0), 40)]
        assert any(origin.predicted is not None for origin in origins) == (name == "predictor")


@pytest.mark.parametrize("scale", [1.0, -1e6])
def test_predictions_are_in_the_objectives_own_unit(scale: float) -> None:
    """Told twelve separable effects, later predictions and scores agree, whatever their scale."""
    effect = np.random.default_rng(0).standard_normal((12, 8))

    def value(arch: Arch) -> float:
        return scale + abs(scale) * float(
            sum(
                effect[i, FLAT.decisions[label].index(arch[label])]
                for i, label in enumerate(FLAT.labels)
            )
        )

    sampler = Predictor(FLAT, seed=0)
    pairs: list[tuple[float, float]] = []
    told: list[float] = []
    for _ in range(100):
        arch = sampler.ask()
        if (predicted := sampler.origin.predicted) is not None:
            assert min(told) <= predicted <= max(told)
            pairs.append((predicted, value(arch)))
        told.append(value(arch))
        sampler.tell(trial(arch, told[-1]))
    assert len(pairs) > 60
    predictions, scores = np.array(pairs).T
    # of 60 unrelated pairs, a correlation of 0.5 comes with probability 5e-5
    assert np.corrcoef(predictions, scores)[0, 1] > 0.5


def test_a_forest_predicts() -> None:
    forest = Predictor(FLAT, seed=0, model="forest")
    assert forest.startup is not None
    assert asked(forest, forest.startup + 2, flying=0)[-1][1].predicted is not None


def test_of_several_objectives_none_is_predicted() -> None:
    space = ArchSpace.of(**{f"c{i}": range(3) for i in range(4)})
    sampler = Predictor(space, seed=0, objectives=("a", "b"))
    assert sampler.startup is not None
    origins = []
    for _ in range(sampler.startup + 10):
        arch = sampler.ask()
        origins.append(sampler.origin)
        sampler.tell(Trial.scored_as(arch, [value(arch), float(arch["c0"] == 0)]))
    assert any(origin.parent for origin in origins)
    assert all(origin.predicted is None for origin in origins)


# --- what a study remembers -----------------------------------------------------------------------


def test_what_is_known_of_an_architecture_comes_back_as_it_was_told() -> None:
    known = ResultCache()
    archs = [FLAT.sample(np.random.default_rng(n)) for n in range(4)]
    told = [
        Trial.completed(archs[0], 0.1, accuracy=0.1, loss=2.0),
        replace(Trial.scored_as(archs[1], [0.3, -1e9], b=1.0, a=-0.0), node="host", worker="7"),
        Trial.failed(archs[2], "no memory"),
        Trial(arch=archs[3], status="infeasible", epochs=3, metrics={"macs": 1e300}),
    ]
    for one in told:
        known.add(one)
        known.add(replace(one, objective=5.0, metrics={}))  # the first one counts
    for one in told:
        result = known.result(one.arch.key)
        assert result is not None
        assert result == {name: getattr(one, name) for name in result}
        assert list(result["metrics"]) == list(one.metrics)
    assert known.result("0" * 16) is None


class Repeating(Sampler):
    """Asks for two architectures in turn, each changed from the other."""

    def __init__(self) -> None:
        self.archs = [FLAT.sample(np.random.default_rng(n)) for n in range(2)]
        self.count = 0
        self.origin = Origin()

    def ask(self) -> Arch:
        """Return the next one."""
        self.count += 1
        self.origin = Origin(self.archs[self.count % 2].key, float(self.count))
        return self.archs[1 - self.count % 2]

    def tell(self, trial: Trial) -> None:
        """Forget it."""


def test_a_repeated_trial_has_an_origin_of_its_own() -> None:
    rows: list[Trial] = []
    setting = StudyInfo(algo="toy", evaluator="function")
    goals = goals_of({"accuracy": "max"})
    sampler = Repeating()
    study = Study(sampler, goals, trials=5, setting=setting, sink=rows.extend)
    while (one := study.ask()) is not None:
        study.tell([(one, Measurement(metrics={"accuracy": 0.5}))])
    assert [row.predicted for row in rows] == [1.0, 2.0, 3.0, 4.0, 5.0]
    first, second = (arch.key for arch in sampler.archs)
    assert [row.parent for row in rows] == [second, first, second, first, second]
    assert [row.status for row in rows] == ["completed", "completed", *["duplicate"] * 3]


def test_duplicates_are_counted_over_the_rows(tmp_path: Path) -> None:
    out = str(tmp_path)
    named = {name: ComponentSpec(name=name) for name in ("space", "algo", "evaluator")}
    config = SearchConfig(**named, objectives={"accuracy": "max"}, out=out)  # type: ignore[arg-type]
    Folder(out).begin(config, resume=False)
    assert raynas.load(out).trials["duplicates"].tolist() == []
    archs = [FLAT.sample(np.random.default_rng(n)) for n in (0, 1, 0, 2, 0, 1)]
    told = [replace(trial(arch), number=n, told_event=n) for n, arch in enumerate(archs)]
    TrialStore(out, FLAT).append(told)
    frame = raynas.load(out).trials
    assert frame["duplicates"].tolist() == [2, 1, 2, 0, 2, 1]
    assert frame["duplicates"].dtype == np.int64


# --- through a run --------------------------------------------------------------------------------

SPACE = ArchSpace.of(**{f"c{i}": list(range(6)) for i in range(8)})


def value(arch: Arch) -> float:
    """Return a score with a best architecture."""
    return float(sum(arch.values())) / 40  # type: ignore[arg-type]


def searched(out: Path, trials: int, resume: bool = False) -> raynas.Result:
    """Search in this process, so that the run is repeatable."""
    return raynas.search(
        SPACE,
        "predictor",
        evaluator=value,
        trials=trials,
        out=str(out),
        resume=resume,
        ray=INLINE,
    )


def test_a_run_records_lineage_and_an_older_one_goes_on_with_it(tmp_path: Path) -> None:
    frame = searched(tmp_path, 24).trials
    assert set(frame["parent"].dropna()) <= set(frame["arch_key"])
    assert frame["parent"].notna().sum() > 3
    modelled = frame[frame["predicted"].notna()]
    assert len(modelled) > 5
    assert modelled["predicted"].between(0, 1).all()
    assert frame["duplicates"].tolist() == [0] * 24
    for path in (tmp_path / "trials").iterdir():
        pq.write_table(pq.read_table(path).drop_columns(["parent", "predicted"]), path)
    assert raynas.load(str(tmp_path)).trials["parent"].isna().all()
    longer = searched(tmp_path, 26, resume=True).trials
    assert longer["arch_key"].tolist()[:24] == frame["arch_key"].tolist()
    assert longer["predicted"].isna().tolist() == [True] * 24 + [False] * 2
