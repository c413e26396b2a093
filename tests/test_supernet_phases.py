"""Supernets trained in phases, from earlier weights, and searches that begin with either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import raynas
from raynas.algorithms import DARTS, SPOS
from raynas.core.errors import InvalidSpace
from raynas.core.train_settings import TrainSettings
from raynas.storage.tables import read_history
from raynas.supernet.checkpoint import find_checkpoint, load_about, load_weights
from raynas.supernet.training import SupernetTraining
from tests.elasticnets import CLASSES, FEATURES, STAGES, ElasticNet
from tests.toynet import ToyNet

INLINE = {"inline": True}
SIZES: dict[str, Any] = {"width": 0.1, "dropout": 0.0, "kernels": [3], "depths": [1, 2]}
SHRINK: dict[str, Any] = {"algo": "progressive_shrinking", "epochs": 2}


def weights(path: str | Path) -> dict[str, Any]:
    return load_weights(find_checkpoint(Path(path)))


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def numbers() -> tuple[TensorDataset, TensorDataset]:
    """Return random examples for ``ElasticNet``, to train and to validate."""
    x, y = torch.randn(96, FEATURES), torch.arange(96) % CLASSES
    return TensorDataset(x[:48], y[:48]), TensorDataset(x[48:], y[48:])


def test_phases_train_on_from_each_other(tmp_path: Path) -> None:
    """The second begins with the first one's weights; both stand in one history."""
    spos, shrink = {"algo": "spos", "epochs": 2}, {**SHRINK, "stages": STAGES}
    given: dict[str, Any] = {"data": numbers(), "ray": INLINE}
    both = str(tmp_path / "both")
    path = raynas.train_supernet(ElasticNet, [spos, shrink], out=both, **given)
    assert path == f"{both}/supernet"
    rows = read_history(both).to_pylist()
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert [row["algo"] for row in rows] == ["spos", "spos", *["progressive_shrinking"] * 2]
    assert load_about(find_checkpoint(Path(path)))["algo"]["name"] == "progressive_shrinking"
    # the same, in two calls
    first = raynas.train_supernet(ElasticNet, [spos], out=str(tmp_path / "a"), **given)
    assert equal(weights(first), weights(f"{both}/supernet_phase1"))
    second = raynas.train_supernet(
        ElasticNet, [shrink], supernet=first, out=str(tmp_path / "b"), **given
    )
    assert equal(weights(second), weights(path))
    # and the last alone is another
    alone = raynas.train_supernet(ElasticNet, [shrink], out=str(tmp_path / "c"), **given)
    assert not equal(weights(alone), weights(path))


def test_a_search_may_train_its_supernet_in_phases_and_goes_on(tmp_path: Path) -> None:
    phases: list[dict[str, Any]] = [
        {"epochs": 1, "batch_size": 250},
        {"algo": "one_shot", "epochs": 1, "batch_size": 250},
    ]
    given: dict[str, Any] = {"data": "digits", "ray": INLINE, "out": str(tmp_path / "run")}
    result = raynas.search(ToyNet, "random", supernet=phases, trials=2, **given)
    assert result.history["algo"].tolist() == ["spos", "one_shot"]
    spec = result.config.supernet
    assert spec is not None
    assert (spec.name, spec.options["start"]["name"]) == ("one_shot", "spos")
    before = weights(tmp_path / "run")
    result = raynas.search(ToyNet, trials=4, resume=True, **given)
    assert len(result.trials) == 4
    assert equal(weights(tmp_path / "run"), before)
    assert len(result.history) == 2


def test_a_search_by_gradients_may_begin_with_trained_weights(tmp_path: Path) -> None:
    given: dict[str, Any] = {"data": "digits", "ray": INLINE}
    start = raynas.train_supernet(ToyNet, epochs=1, out=str(tmp_path / "s"), **given)
    given["trials"] = 3
    result = raynas.search(
        ToyNet, DARTS(), supernet=start, epochs=1, out=str(tmp_path / "warm"), **given
    )
    cold = raynas.search(ToyNet, "darts", epochs=1, out=str(tmp_path / "cold"), **given)
    losses = [found.history["loss"].iloc[0] for found in (result, cold)]
    assert losses[0] < losses[1]
    again = raynas.search(ToyNet, out=str(tmp_path / "warm"), resume=True, **given)
    assert len(again.history) == 1
    assert len(again.trials) == len(result.trials)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_phases_that_were_stopped_go_on_as_if_they_had_not(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after any epoch: bit for bit what never stopped."""
    from raynas.supernet import job, train_job

    monkeypatch.setattr(job, "CHECKPOINT_S", 0.0)  # a checkpoint after every epoch
    phases = [{"algo": "spos", "epochs": 2}, {"algo": "spos", "epochs": 2, "lr": 0.02}]
    given: dict[str, Any] = {"data": numbers(), "ray": INLINE}
    straight = raynas.train_supernet(ElasticNet, phases, out=str(tmp_path / "straight"), **given)
    seen, run_epochs = 0, train_job.run_epochs

    def stopped(training: Any, epoch: Any, save: Any, report: Any, **more: Any) -> None:
        def until(row: Any, folder: Any) -> None:
            nonlocal seen
            report(row, folder)
            seen += 1
            if seen == stop:
                raise KeyboardInterrupt

        run_epochs(training, epoch, save, until, **more)

    out = str(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(job, "run_epochs", stopped)
        with pytest.raises(KeyboardInterrupt):
            raynas.train_supernet(ElasticNet, phases, out=out, **given)
    with pytest.raises(FileExistsError, match="holds a supernet: go on with it"):
        raynas.train_supernet(ElasticNet, phases, out=out, **given)
    path = raynas.train_supernet(ElasticNet, phases, out=out, resume=True, **given)
    assert equal(weights(path), weights(straight))


def test_what_trains_weights_only_is_searched_by_its_own_sampler(tmp_path: Path) -> None:
    given: dict[str, Any] = {"data": "digits", "ray": INLINE, "out": str(tmp_path / "run")}
    result = raynas.search(ToyNet, "spos", options={"lr": 0.07}, epochs=1, trials=3, **given)
    assert result.config.algo.name == SPOS.sampler
    assert result.config.supernet is not None
    assert (result.config.supernet.name, result.config.supernet.options["lr"]) == ("spos", 0.07)
    assert result.trials["algo"].unique().tolist() == [SPOS.sampler]
    again = raynas.search(ToyNet, "spos", trials=5, resume=True, **given)
    assert len(again.trials) == 5
    assert len(again.history) == 1


def test_a_supernet_alone_says_what_is_searched(tmp_path: Path) -> None:
    """Space, its options and data stand in the checkpoint."""
    path = raynas.train_supernet(
        "ofa_mobilenet_v3",
        [{**SHRINK, "batch_size": 500, "stages": [{"depth": [1, 2]}, {"width": [3, 4, 6]}]}],
        data="digits",
        out=str(tmp_path / "s"),
        ray=INLINE,
        space_options={**SIZES, "resolutions": [8, 12]},
    )
    result = raynas.search(
        supernet=path, algo="random", trials=3, out=str(tmp_path / "run"), ray=INLINE
    )
    assert result.config.space.options["resolutions"] == [8, 12]
    assert {*result.trials["choice.resolution"]} <= {8, 12}
    with pytest.raises(ValueError, match=r"was trained on ofa_mobilenet_v3 with .*'width': 0.1"):
        raynas.search("ofa_mobilenet_v3", supernet=path, out=str(tmp_path / "other"), ray=INLINE)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"algo": []}, ValueError, "supernet: expected at least one phase"),
        ({"algo": ["spos", "sposs"]}, LookupError, "did you mean 'spos'"),
        (
            {"algo": [{"epochs": 1}, {"epochs": 1, "lrr": 1}]},
            ValueError,
            r"supernet\[1\]: algorithm 'spos' has no option 'lrr'; did you mean 'lr'",
        ),
        ({"algo": ["spos"], "options": {"lr": 1}}, ValueError, "several phases have their own"),
        ({"algo": "spos", "supernet": "nowhere"}, FileNotFoundError, "no supernet in"),
        ({"algo": "progressive_shrinking"}, InvalidSpace, "trains elastic layers, and ToyNet"),
        (
            {"algo": "pc_darts", "supernet": {"epochs": 1}},
            ValueError,
            r"begin with are of another supernet \(spos\)",
        ),
    ],
)
@pytest.mark.usefixtures("without_ray")
def test_phases_that_cannot_be_are_refused(
    given: dict[str, Any], error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        raynas.train_supernet(ToyNet, **given, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def broken_checkpoint(tmp_path: Path, how: str) -> Path:
    path = Path(
        raynas.train_supernet(ToyNet, epochs=1, out=str(tmp_path / "s"), data="digits", ray=INLINE)
    )
    folder = find_checkpoint(path)
    file = folder / "model.safetensors"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:1000])
    elif how == "pickle":
        torch.save({"weights": torch.zeros(3)}, file)
    else:
        about = folder / "supernet.json"
        about.write_text(json.dumps({"no": "supernet"}) if how == "foreign" else "{")
    return path


@pytest.mark.parametrize("how", ["truncated", "pickle", "foreign", "no json"])
def test_a_checkpoint_that_is_none_is_said_in_one_sentence(how: str, tmp_path: Path) -> None:
    path = broken_checkpoint(tmp_path, how)
    with pytest.raises(ValueError, match=f"{path}.* (is damaged|is no supernet)") as told:
        raynas.search(
            ToyNet, "random", supernet=str(path), trials=1, out=str(tmp_path / "r"), ray=INLINE
        )
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("inherited", [False, True])
def test_weights_that_are_trained_need_no_warm_start(inherited: bool) -> None:
    """Spreading one path over all candidates would overwrite what these have learned."""
    data = raynas.data.TensorData(
        (TensorDataset(torch.rand(32, 1, 8, 8), torch.arange(32) % 10),) * 2
    )
    settings = TrainSettings(epochs=2, batch_size=8)
    algo = SPOS(seed=0, warm_start_steps=2)
    training = SupernetTraining(ToyNet(), algo, data, settings, inherited=inherited)
    paths = [algo.path(step) for step in range(8)]
    assert (paths[0] == paths[1] == algo._first) is not inherited
    training.run_epoch()
    assert training.inherited is inherited
