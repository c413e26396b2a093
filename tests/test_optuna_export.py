"""A run as a study of Optuna: what its own tools read of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from torch import nn

import raynas
from raynas.cli import main
from raynas.core.evaluator import SuccessiveHalving
from raynas.data.module import DataModule
from tests.inline import INLINE
from tests.toynet import ToyNet

SPACE = raynas.ArchSpace(
    (
        raynas.Choice("op", ("conv", "pool"), {"conv": raynas.ArchSpace.of(kernel=[3, 5])}),
        raynas.Subset("inputs", ("a", "b", "c"), 2),
        raynas.Choice("act", (None, (1, 2), 3)),
    )
)


def measured(arch: raynas.Arch) -> dict[str, float | str]:
    if arch["op"] == "pool" and arch["act"] is None:
        raise RuntimeError("no pool")
    accuracy = 0.5 + 0.01 * float(arch.get("kernel", 0))
    return {"accuracy": accuracy, "size": float(len(str(arch["act"]))), "note": "as told"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> raynas.Result:
    """Two objectives and a bound; of 27 architectures 3 fail and 9 are beyond it."""
    return raynas.search(
        SPACE,
        "grid",
        evaluator=measured,
        objectives={"accuracy": "max", "size": "min"},
        constraints=["size<5"],
        trials=27,
        out=str(tmp_path_factory.mktemp("optuna") / "mine"),
        ray=INLINE,
    )


@pytest.fixture(scope="module")
def database(run: raynas.Result) -> Path:
    """The run as SQLite, alone in a folder."""
    folder = Path(run.path).parent / "exported"
    folder.mkdir()
    run.export(folder / "study.db")
    return folder / "study.db"


def loaded(file: Path, name: str = "mine") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{file}")


@pytest.mark.parametrize("ending", ["db", "journal"])
def test_every_trial_is_there_with_all_that_is_known_of_it(
    run: raynas.Result, database: Path, tmp_path: Path, ending: str
) -> None:
    file = database
    if ending == "journal":
        run.export(file := tmp_path / "study.journal")
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    storage: optuna.storages.BaseStorage | str = f"sqlite:///{file}"
    if ending == "journal":
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(file)))
    study = optuna.load_study(study_name="mine", storage=storage)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["accuracy", "size"]
    assert study.user_attrs["algo"] == "grid"
    rows = run.judged.sort_values("trial").to_dict("records")
    assert len(study.trials) == len(rows) == SPACE.size() == 27
    for trial, row in zip(study.trials, rows, strict=True):
        assert trial.number == trial.user_attrs["trial"] == row["trial"]
        assert trial.user_attrs["arch_key"] == row["arch_key"]
        arch = json.loads(trial.user_attrs["arch"])
        given = {
            k: json.dumps(v, separators=(",", ":")) if type(v) is list else v
            for k, v in arch.items()
        }
        assert trial.params == given
        assert trial.datetime_start is not None
        assert trial.datetime_start.astimezone() == row["started_utc"]
        if row["status"] == "failed":
            assert trial.state == TrialState.FAIL
            assert trial.user_attrs["error"] == row["error"]
        else:
            assert trial.state == TrialState.COMPLETE
            assert trial.values == [row["accuracy"], row["size"]]
            assert trial.user_attrs["note"] == "as told"


def test_distributions_are_the_decisions_and_the_same_in_all_trials(run: raynas.Result) -> None:
    study = run.optuna_study()
    expected: dict[str, tuple[str | int | None, ...]] = {
        "op": ("conv", "pool"),
        "kernel": (3, 5),
        "inputs": ('["a","b"]', '["a","c"]', '["b","c"]'),
        "act": (None, "[1,2]", 3),
    }
    for trial in study.trials:
        reached = {name: CategoricalDistribution(expected[name]) for name in trial.params}
        assert trial.distributions == reached
        assert ("kernel" in trial.params) == (trial.params["op"] == "conv")


def test_optuna_keeps_the_bounds(run: raynas.Result) -> None:
    study = run.optuna_study()
    beyond = {t.number for t in study.trials if t.user_attrs["status"] == "infeasible"}
    assert len(beyond) == 9
    found = {trial.number for trial in study.best_trials}
    assert found == set(run.pareto()["trial"])
    assert not found & beyond
    single = raynas.search(
        SPACE,
        "grid",
        evaluator=lambda arch: {"accuracy": arch.get("kernel", 9), "size": len(str(arch["act"]))},
        constraints=["size<5"],
        trials=27,
        out=str(Path(run.path).parent / "single"),
        ray=INLINE,
    )
    best = single.optuna_study().best_trial
    assert best.value == single.best.objective
    assert best.user_attrs["status"] == "completed"


def test_a_study_goes_on_in_optuna(database: Path, tmp_path: Path) -> None:
    """What it loads, its samplers continue, so that all attributes are as they expect."""
    file = Path(shutil.copy(database, tmp_path))
    study = loaded(file)
    study.sampler = optuna.samplers.NSGAIISampler(seed=0)
    trial = study.ask()
    kinds = {"op": ("conv", "pool"), "act": (None, "[1,2]", 3)}
    assert all(trial.suggest_categorical(name, kinds[name]) in kinds[name] for name in kinds)
    study.tell(trial, [0.9, 1.0])
    assert len(loaded(file).trials) == 28


class Halved:
    """Trains nothing: what is as large does as well, and the others are stopped."""

    epochs = 4
    metrics = ("accuracy",)
    stopping = SuccessiveHalving()

    def train_epochs(
        self, net: nn.Module, data: DataModule, seed: int
    ) -> Iterator[dict[str, float]]:
        size = sum(p.numel() for p in net.parameters())
        for _ in range(self.epochs):
            yield {"accuracy": size / 1e6}


def test_what_was_stopped_early_or_refused_is_pruned_and_merged_objectives_are_one(
    tmp_path: Path,
) -> None:
    halved = raynas.search(
        ToyNet,
        "random",
        evaluator=Halved(),
        data="digits",
        trials=8,
        out=str(tmp_path / "halved"),
        ray=INLINE,
    )
    study = halved.optuna_study()
    stopped = halved.trials.set_index("trial")["epochs"] < 4
    assert stopped.any()
    for trial in study.trials:
        assert (trial.state == TrialState.PRUNED) == stopped[trial.number]
        if trial.state == TrialState.PRUNED:
            accuracy = trial.user_attrs["accuracy"]
            assert trial.intermediate_values == {trial.user_attrs["epochs"]: accuracy}
    merged = raynas.search(
        raynas.ArchSpace.of(x=[1, 2, 3]),
        "grid",
        evaluator=lambda arch: {"accuracy": arch["x"], "size": arch["x"] ** 2},
        objectives={"accuracy": "max", "size": "min"},
        scalarize={"accuracy": 2.0, "size": -1.0},
        trials=3,
        out=str(tmp_path / "merged"),
        ray=INLINE,
    ).optuna_study()
    assert merged.metric_names == ["objective"]
    assert {t.params["x"]: t.value for t in merged.trials} == {1: 1.0, 2: 0.0, 3: -3.0}


def test_a_space_that_is_not_at_hand_costs_only_what_no_trial_took(
    run: raynas.Result,
) -> None:
    other = raynas.load(run.path, space=raynas.ArchSpace.of(depth=[1, 2]))
    assert {name: len(d.choices) for name, d in _distributions(other).items()} == {
        "op": 2,
        "kernel": 2,
        "inputs": 3,
        "act": 3,
    }


def _distributions(result: raynas.Result) -> dict[str, CategoricalDistribution]:
    found: dict[str, CategoricalDistribution] = {}
    for trial in result.optuna_study().trials:
        for name, distribution in trial.distributions.items():
            assert isinstance(distribution, CategoricalDistribution)
            assert found.setdefault(name, distribution) == distribution
    return found


def test_the_command_and_what_it_refuses(
    run: raynas.Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.db"
    file.write_text("mine")
    assert main(["export", run.path, str(file), "--force"]) == 0
    assert "27 trials as the study 'mine' of Optuna" in capsys.readouterr().out
    before = file.read_bytes()
    assert main(["export", run.path, str(file)]) != 0
    assert "--force" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert len(loaded(file).trials) == 27
    assert main(["export", run.path, str(tmp_path / "other.db"), "--trial", "3"]) != 0
    assert "leave out --trial" in capsys.readouterr().err
    with pytest.raises(FileExistsError, match=r"study\.db exists"):
        run.export(file)
    with pytest.raises(ValueError, match="takes all trials"):
        run.export(tmp_path / "other.db", {"op": "conv"})
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        run.export(tmp_path / "nowhere" / "study.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.db"]
