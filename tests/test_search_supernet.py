"""The main job on real digits: a supernet by Ray Train, its subnets by Ray Tune."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray
import torch

import raynas
from raynas.algorithms import SPOS
from raynas.core.errors import SearchFailed
from raynas.core.evaluator import Budget
from raynas.costs import cost_of
from raynas.data.digits import Digits
from raynas.evaluators.shared import SharedEvaluator
from raynas.supernet.checkpoint import find_checkpoint, load_about, load_shared, load_weights
from raynas.supernet.scoring import SubnetScorer
from tests.inline import INLINE
from tests.toynet import ToyNet

EPOCHS = 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> raynas.Result:  # noqa: ARG001 - a fixture asks for another
    """A user's own model, its supernet trained and all of its 18 architectures scored."""
    return raynas.search(
        ToyNet,
        algo="random",
        data="digits",
        trials=18,
        epochs=EPOCHS,
        supernet={"warm_start_steps": 60, "lr": 0.1, "batch_size": 16},
        out=str(tmp_path_factory.mktemp("own")),
    )


def test_every_architecture_is_scored_with_its_costs(run: raynas.Result) -> None:
    table = run.trials
    assert len(table) == 18 == table["arch_key"].nunique()
    assert set(table["status"]) == {"completed"}
    assert set(table["evaluator"]) == {"shared"}
    assert len(set(table["worker"])) == 2, "both workers work"
    space = raynas.ModelSpace(ToyNet)
    for row in table.itertuples():
        arch = raynas.Arch.from_json(str(row.arch))
        cost = cost_of(space.build(arch), torch.zeros(1, 1, 16, 16))
        assert (row.params, row.macs) == (cost.params, cost.macs)


def test_training_is_in_the_history(run: raynas.Result) -> None:
    assert list(run.history["epoch"]) == list(range(EPOCHS))
    assert run.history["loss"].iloc[-1] < run.history["loss"].iloc[0]
    # ten classes: an untrained network is right on 10 %
    assert run.history["accuracy"].iloc[-1] > 0.3
    assert run.best.metrics["accuracy"] > 0.3


def test_scores_are_those_of_the_supernet_alone(run: raynas.Result) -> None:
    """What workers return through Ray equals scoring in this process.

    Not to the last bit: arrays that lie elsewhere in memory may take another vector kernel.
    """
    digits = Digits()
    weights = load_shared(find_checkpoint(Path(run.path)))
    evaluator = SharedEvaluator(raynas.ModelSpace(ToyNet), digits, weights, seed=0)
    archs = [raynas.Arch.from_json(str(text)) for text in run.trials["arch"]]
    found = evaluator(archs, Budget(), 0)
    np.testing.assert_allclose([m.metrics["loss"] for m in found], run.trials["loss"], rtol=1e-4)


def test_the_best_model_inherits_and_is_calibrated(run: raynas.Result) -> None:
    net = run.model()
    assert not net.training
    splits = Digits().load()
    x, y = splits.valid
    with torch.no_grad():
        accuracy = float((net(x).argmax(1) == y).double().mean())
    supernet = raynas.ModelSpace(ToyNet).supernet()
    supernet.load_state_dict(load_weights(find_checkpoint(Path(run.path))))
    whole = SubnetScorer(supernet, splits.train, splits.valid, calibration_images=2000)
    # 1 of 400 images may fall on the other side of a tie in float32
    assert accuracy == pytest.approx(whole.score(run.best.arch)["accuracy"], abs=1 / 400)
    fresh = raynas.load(run.path).model()  # from the folder alone
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), fresh.parameters(), strict=True))


def test_the_best_are_measured_again_on_test_images(run: raynas.Result) -> None:
    frame = run.rescore(3)
    assert list(frame["trial"]) == list(run.top(3)["trial"])
    splits = Digits().load()
    assert splits.test is not None
    supernet = raynas.ModelSpace(ToyNet).supernet()
    supernet.load_state_dict(load_weights(find_checkpoint(Path(run.path))))
    scorer = SubnetScorer(supernet, splits.train, splits.test, calibration_images=2000)
    for row in frame.itertuples():
        score = scorer.score(raynas.Arch.from_json(str(row.arch)))
        assert row.test_loss == pytest.approx(score["loss"], rel=1e-4)
        assert row.test_accuracy == pytest.approx(score["accuracy"], abs=1 / 397)


def test_exports(run: raynas.Result, tmp_path: Path) -> None:
    run.export(str(tmp_path / "best.json"))
    assert json.loads((tmp_path / "best.json").read_text()) == dict(run.best.arch)
    run.export(str(tmp_path / "best.pt2"))
    program = torch.export.load(tmp_path / "best.pt2").module()
    x = torch.randn(5, 1, 16, 16)
    torch.testing.assert_close(program(x), run.model()(x))
    with pytest.raises(ValueError, match=r"ending in one of \.json, \.pt, \.pt2"):
        run.export(str(tmp_path / "best.h5"))


def test_a_trained_supernet_is_searched_again_without_training(
    run: raynas.Result, tmp_path: Path
) -> None:
    before = digest(Path(run.path))
    again = raynas.search(
        ToyNet,
        trials=18,
        supernet=run.path,
        objectives={"macs": "min"},
        out=str(tmp_path),
        ray=INLINE,
    )
    assert len(again.history) == 0
    assert again.best.arch == {"first": "k3", "second": 0, "third": 0}
    old = run.trials.set_index("arch_key")["loss"].sort_index()
    new = again.trials.set_index("arch_key")["loss"].sort_index()
    np.testing.assert_allclose(old, new, rtol=1e-6)
    assert digest(Path(run.path)) == before
    with pytest.raises(ValueError, match="epochs are for training"):
        raynas.search(ToyNet, trials=1, supernet=run.path, epochs=3, out=str(tmp_path / "x"))


def digest(path: Path) -> str:
    return hashlib.sha256((find_checkpoint(path) / "model.safetensors").read_bytes()).hexdigest()


def test_scoring_never_writes_to_the_shared_weights(run: raynas.Result) -> None:
    """Torch writes through numpy's read-only flag: the object store would change for everyone."""
    shared = ray.get(ray.put(load_shared(find_checkpoint(Path(run.path)))))

    def checksum() -> str:
        return hashlib.sha256(b"".join(a.tobytes() for a in shared.arrays.values())).hexdigest()

    before = checksum()
    space = raynas.ModelSpace(ToyNet)
    evaluator = SharedEvaluator(space, Digits(), shared, seed=0)
    found = evaluator(list(space.arch_space), Budget(), 0)
    assert all(one.error is None for one in found)
    assert checksum() == before


def test_a_supernet_is_trained_once(tmp_path: Path) -> None:
    def train(resume: bool = False) -> Path:
        path = raynas.train_supernet(
            ToyNet, epochs=2, out=tmp_path.as_uri(), resume=resume, ray=INLINE
        )
        assert path == f"{tmp_path}/supernet"
        return find_checkpoint(tmp_path)

    trained = train()
    weights = load_weights(trained)
    with pytest.raises(FileExistsError, match="holds a supernet"):
        train()
    again = load_weights(train(resume=True))
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())
    about = load_about(trained)
    assert (about["epoch"], about["algo"]["name"]) == (2, "spos")
    assert list(pd.read_parquet(tmp_path / "history")["epoch"]) == [0, 1], "nothing trained twice"
    uri = tmp_path.as_uri()
    found = raynas.search(ToyNet, "random", supernet=uri, trials=2, out=f"{uri}/search", ray=INLINE)
    assert len(pd.read_parquet(tmp_path / "search" / "trials")) == 2
    assert isinstance(found.model(), torch.nn.Module)


@pytest.mark.usefixtures("local_ray")
def test_two_training_workers(tmp_path: Path) -> None:
    path = raynas.train_supernet(
        ToyNet,
        algo=SPOS(warm_start_steps=5),
        epochs=1,
        out=str(tmp_path),
        ray={"train_workers": 2},
    )
    weights = load_weights(find_checkpoint(Path(path)))
    assert all(bool(t.isfinite().all()) for t in weights.values())
    assert len(pd.read_parquet(tmp_path / "history")) == 1


@pytest.mark.usefixtures("local_ray")
def test_what_fails_in_a_training_worker_is_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"supernet training failed: .*loss is nan in epoch 0"):
        raynas.train_supernet(
            ToyNet, epochs=1, out=str(tmp_path), options={"lr": 1e30, "clip": None}
        )


def test_a_supernet_of_another_space_is_refused(run: raynas.Result, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not one of mobilenet_v2_cifar as it is asked for"):
        raynas.search("mobilenet_v2_cifar", supernet=run.path, out=str(tmp_path))


@pytest.mark.usefixtures("without_ray")
def test_candidates_of_different_shapes_are_refused_before_training(tmp_path: Path) -> None:
    class Uneven(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            convs = {"a": torch.nn.Conv2d(1, 10, 3), "b": torch.nn.Conv2d(1, 10, 5)}
            self.conv = raynas.nn.LayerChoice(convs)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).amax((2, 3))  # type: ignore[no-any-return]

    with pytest.raises(ValueError, match="'conv': candidate 'b' gives shape"):
        raynas.search(Uneven, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("local_ray")
def test_an_evaluator_that_cannot_be_made_ends_the_search(tmp_path: Path) -> None:
    class Hidden:
        """A function that cannot be brought to life in a worker."""

        def __reduce__(self) -> tuple[Any, ...]:
            return (refuse, ())

        def __call__(self, arch: raynas.Arch) -> float:
            return 1.0

    def refuse() -> None:
        raise OSError("no such licence here")

    space = raynas.ArchSpace.of(x=[1, 2, 3])
    with pytest.raises(SearchFailed, match="cannot be made: OSError: no such licence here"):
        raynas.search(space, evaluator=Hidden(), out=str(tmp_path))


def test_a_registered_space_is_rebuilt_as_it_was_searched(tmp_path: Path) -> None:
    result = raynas.search(
        "mobilenet_v2_cifar",
        evaluator=lambda arch: float(len(set(arch.values()))),
        data="digits",
        trials=2,
        space_options={"width": 0.25, "candidates": ("MB3E3", "MB5E3")},
        out=str(tmp_path),
        ray=INLINE,
    )
    net = raynas.load(result.path).model()
    assert net(torch.zeros(2, 1, 16, 16)).shape == (2, 10)
