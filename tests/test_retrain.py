"""Architectures trained to the end: weights, metrics, files, and trainings that were stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

import raynas
from raynas.cli import main
from raynas.core.errors import Interrupted, InvalidArch, StoreMismatch
from raynas.core.progress import Progress
from raynas.core.train_settings import TrainSettings
from raynas.data.digits import Digits
from raynas.data.module import DataModule
from raynas.data.tensor_data import TensorData
from raynas.nn import LayerChoice
from raynas.nn.fixed_cell import FixedCell
from raynas.nn.genotype import from_genotype
from raynas.nn.mutable import frozen
from raynas.search_spaces.darts import darts_cifar
from raynas.supernet import network_job
from raynas.supernet.checkpoint import find_checkpoint, load_state, load_weights
from raynas.supernet.network_training import NetworkTraining
from raynas.tasks import TASKS, Task
from tests.inline import INLINE
from tests.ranks import on_two_ranks
from tests.toynet import ToyNet

# second order cells (Liu et al., 2019, arXiv:1806.09055)
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
SMALL_CELLS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), "
    "('max_pool_3x3', 2)], normal_concat=[2, 3], reduce=[('avg_pool_3x3', 0), ('sep_conv_5x5', 1), "
    "('skip_connect', 2), ('sep_conv_3x3', 1)], reduce_concat=[2, 3])"
)
CELLS: dict[str, Any] = {"nodes": 2, "channels": 2, "layers": 3, "auxiliary": True}
EVERYTHING: dict[str, Any] = {  # that draws or remembers
    "batch_size": 8,
    "optimizer": "adamw",
    "lr": 0.01,
    "ema": 0.9,
    "mixup": 0.3,
    "cutout": 2,
    "drop_path": 0.5,
}
STILL = {"lr": 1e-12, "weight_decay": 0.0, "momentum": 0.0}  # moves no weight that can be seen


def images(count: int = 32, classes: int = 3) -> TensorData:
    """Return images of 8 x 8 in three splits, whose classes are hard to tell."""
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(3 * count) % classes
    x = torch.randn(3 * count, 1, 8, 8, generator=rng) + 0.1 * y[:, None, None, None]
    return TensorData([TensorDataset(*part) for part in zip(x.chunk(3), y.chunk(3), strict=True)])


def scores(net: nn.Module, examples: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Return accuracy and cross-entropy, computed by hand."""
    x, y = examples
    with torch.no_grad():
        logits = net(x).double()
    right = (logits.argmax(1) == y).double().mean()
    return float(right), float(functional.cross_entropy(logits, y))


def same(first: Any, second: Any) -> bool:
    """Return whether two nests of tensors and plain values are equal bit for bit."""
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


class News(Progress):
    """Remembers what it is told; Ctrl-C comes after an epoch."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.phases: list[str] = []
        self._stop_after = stop_after

    def phase(self, text: str) -> None:
        """Remember a phase."""
        self.phases.append(text)

    def trained(self, row: Any, epochs: int) -> None:
        """Remember a row."""
        self.rows.append(dict(row))
        if row["epoch"] == self._stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> raynas.Result:
    """A search of four architectures with a supernet of one epoch."""
    out = str(tmp_path_factory.mktemp("run"))
    return raynas.search(ToyNet, "random", trials=4, epochs=1, seed=3, out=out, ray=INLINE)


@pytest.fixture(scope="module")
def trained(run: raynas.Result) -> raynas.Trained:
    """Its best architecture, trained for three epochs."""
    return raynas.retrain(run, epochs=3, options={"lr": 0.2}, ray=INLINE)


# --- what comes out -------------------------------------------------------------------------------


def test_metrics_are_those_of_the_best_weights(trained: raynas.Trained) -> None:
    splits = Digits().load()
    assert splits.test is not None
    net = trained.model()
    assert not net.training
    metrics = trained.metrics
    assert list(metrics) == ["valid_accuracy", "valid_loss", "test_accuracy", "test_loss"]
    for name, part in (("valid", splits.valid), ("test", splits.test)):
        accuracy, loss = scores(net, part)
        assert metrics[f"{name}_accuracy"] == accuracy
        assert metrics[f"{name}_loss"] == pytest.approx(loss, rel=1e-5)
    history = trained.history
    assert list(history["epoch"]) == [0, 1, 2]
    assert {"loss", "lr", "accuracy", "valid_loss", "duration_s"} <= set(history)
    assert trained.best_epoch == int(history["accuracy"].to_numpy().argmax())
    assert history["accuracy"].max() == metrics["valid_accuracy"]
    last = scores(trained.model(last=True), splits.valid)
    assert last == pytest.approx(tuple(history[["accuracy", "valid_loss"]].iloc[-1]), rel=1e-5)


def test_the_folder_holds_all_of_it(run: raynas.Result, trained: raynas.Trained) -> None:
    folder = Path(trained.path)
    assert folder == Path(run.path) / "retrained" / "1"
    names = {"retrain.json", "metrics.json", "model.pt", "history", "network", "best", "logs"}
    assert {path.name for path in folder.iterdir()} == names
    weights = torch.load(folder / "model.pt")  # a plain state_dict
    assert same(dict(weights), dict(trained.model().state_dict()))
    assert same(load_weights(folder / "best"), trained.model().state_dict())
    stored = json.loads((folder / "metrics.json").read_text())
    assert len(stored.pop("digest")) == 16
    assert stored == {"epochs": 3, "best_epoch": trained.best_epoch, **trained.metrics}
    config = json.loads((folder / "retrain.json").read_text())
    assert config["arch"] == json.loads(run.best.arch.to_json())
    assert (config["seed"], config["settings"]["lr"], config["settings"]["epochs"]) == (3, 0.2, 3)
    again = raynas.Trained(trained.path)
    assert again.arch == run.best.arch
    assert repr(again) == f"Trained({trained.path!r}, 3 of 3 epochs)"
    assert same(again.model().state_dict(), trained.model().state_dict())


def test_a_result_gives_its_newest_finished_network(
    run: raynas.Result, trained: raynas.Trained
) -> None:
    assert same(run.trained.state_dict(), trained.model().state_dict())
    assert same(raynas.load(run.path).trained.state_dict(), trained.model().state_dict())


def test_weights_begin_where_they_are_to(run: raynas.Result, tmp_path: Path) -> None:
    train = partial(raynas.retrain, run, epochs=1, options=STILL, ray=INLINE)
    scratch = train(out=str(tmp_path / "scratch")).model()
    initial = run.rebuilt.space.build(run.best.arch, seed=3)
    other = next(a for a in map(raynas.Arch.from_json, run.trials["arch"]) if a != run.best.arch)
    inherited = train(out=str(tmp_path / "inherited"), arch=other, inherit=True)
    for net, expected in ((scratch, initial), (inherited.model(), run.model(other))):
        ours, theirs = dict(net.named_parameters()), dict(expected.named_parameters())
        assert ours.keys() == theirs.keys()
        for name, weight in ours.items():
            torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-8)
    config = inherited.config
    assert config.inherit is not None
    assert config.inherit.path == f"{run.path}/supernet"
    assert config.inherit.algo is not None
    assert config.inherit.algo.name == "spos"
    assert inherited.arch == other


def test_what_is_inherited_may_be_narrower_than_the_space_builds_it(tmp_path: Path) -> None:
    run = raynas.search(
        "darts_cifar",
        "pc_darts",
        data=images(),
        epochs=2,
        trials=1,
        out=str(tmp_path),
        space_options={"nodes": 1, "channels": 4, "layers": 3},
        options={"warmup_epochs": 1, "batch_size": 16},
        ray=INLINE,
    )
    train = partial(raynas.retrain, run, epochs=1, ray=INLINE)
    narrow = train(inherit=True, options=STILL | {"batch_size": 16}).model()
    ours, theirs = dict(narrow.named_parameters()), dict(run.model().named_parameters())
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-8)
    whole = train(options={"batch_size": 16})
    assert count_of(whole.model()) == count_of(run.model(whole=True)) > count_of(narrow)


@pytest.mark.parametrize("form", ["mapping", "json", "file", "genotype"])
def test_an_architecture_is_given_in_any_form(form: str, tmp_path: Path) -> None:
    arch = from_genotype(DARTS_V2)
    (tmp_path / "arch.json").write_text(arch.to_json())
    given: dict[str, Any] = {
        "mapping": dict(arch),
        "json": arch.to_json(),
        "file": str(tmp_path / "arch.json"),
        "genotype": DARTS_V2,
    }
    subject = raynas.retrain(
        given[form],
        space="darts_cifar",
        data=images(16),
        epochs=1,
        out=str(tmp_path / "out"),
        space_options={"channels": 1, "layers": 3},
        options={"batch_size": 16},
        ray=INLINE,
    )
    assert subject.arch == arch


def test_other_data_and_a_wider_space_make_another_network(tmp_path: Path) -> None:
    """Found without data; trained on 3 classes of 8 x 8."""
    found = raynas.search(
        "mobilenet_v2_cifar",
        "random",
        evaluator=lambda arch: {"size": len(arch)},
        objectives={"size": "max"},
        trials=1,
        out=str(tmp_path),
        space_options={"width": 0.1},
        ray=INLINE,
    )
    train = partial(raynas.retrain, found, epochs=1, options={"batch_size": 16}, ray=INLINE)
    with pytest.raises(ValueError, match=r"data: the run used none; name what to train on"):
        train()
    with pytest.raises(LookupError, match=r"no finished retraining: call raynas\.retrain"):
        _ = found.trained
    wider = train(data=images(16), space_options={"width": 0.2})
    options = wider.config.space.options
    assert (options["width"], options["num_classes"], options["in_channels"]) == (0.2, 3, 1)
    assert wider.model()(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert wider.arch == found.best.arch


class Line(nn.Module):
    """A linear function, or a constant one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = LayerChoice({"line": nn.Linear(4, 1), "wide": nn.LazyLinear(1)}, label="layer")

    def forward(self, x: Tensor) -> Tensor:
        """Return one number for each example."""
        out: Tensor = self.layer(x)
        return out


def numbers(count: int = 40) -> tuple[TensorDataset, ...]:
    """Return three splits of a linear function of four numbers."""
    x = torch.randn(3 * count, 4, generator=torch.Generator().manual_seed(0))
    y = x @ torch.tensor([[1.0], [2.0], [-1.0], [0.5]])
    return tuple(TensorDataset(x[at::3], y[at::3]) for at in range(3))


def test_the_task_says_which_epoch_is_best(tmp_path: Path) -> None:
    """By its error, which is to be low, of a task of one's own; lazy layers are built again."""

    def worst(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().max()

    task = Task(loss=functional.mse_loss, metrics={"worst": worst}, objective="worst:min")
    net = raynas.retrain(
        {"layer": "wide"},
        space=Line,
        data=numbers(),
        task=task,
        epochs=6,
        options={"lr": 0.3, "batch_size": 8, "label_smoothing": 0.0},
        out=str(tmp_path),
        ray=INLINE,
    )
    history = net.history
    assert net.best_epoch == int(history["worst"].to_numpy().argmin())
    assert net.metrics["valid_worst"] == history["worst"].min()
    x, y = numbers()[2].tensors
    with torch.no_grad():
        out = net.model()(x)
    assert net.metrics["test_loss"] == pytest.approx(float((out - y).square().mean()), rel=1e-5)
    assert net.metrics["test_worst"] == pytest.approx(float((out - y).abs().max()), rel=1e-5)


@pytest.mark.parametrize("ending", ["pt", "pt2", "onnx", "json"])
def test_other_programs_compute_the_same(
    trained: raynas.Trained, ending: str, tmp_path: Path
) -> None:
    file, net = tmp_path / f"net.{ending}", trained.model()
    trained.export(file)
    x = torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net(x)
    if ending == "json":
        assert json.loads(file.read_text()) == dict(trained.arch)
    elif ending == "pt":
        assert same(torch.load(file), dict(net.state_dict()))
    elif ending == "pt2":
        with torch.no_grad():
            torch.testing.assert_close(torch.export.load(file).module()(x), expected)
    else:
        np.testing.assert_allclose(onnx_logits(file, x), expected.numpy(), rtol=1e-4, atol=1e-5)


def onnx_logits(file: Path, x: Tensor) -> Any:
    """Run a file by onnxruntime where it is installed, else by ONNX' own reference."""
    if find_spec("onnxruntime") is None:
        session: Any = ReferenceEvaluator(onnx.load(file))
    else:
        session = import_module("onnxruntime").InferenceSession(file)
    return session.run(["logits"], {"input": x.numpy()})[0]


def test_a_file_of_another_ending_is_refused(trained: raynas.Trained, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ending in one of \.json, .* got .*net\.h5"):
        trained.export(tmp_path / "net.h5")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        trained.export(tmp_path / "nowhere" / "net.pt")


# --- stopped and gone on --------------------------------------------------------------------------


def cell_training(out: Path, *, epochs: int = 3, **more: Any) -> raynas.Trained:
    """Train a network of cells with all that draws or remembers."""
    return raynas.retrain(
        SMALL_CELLS,
        space="darts_cifar",
        data=images(),
        epochs=epochs,
        seed=5,
        out=str(out),
        options=EVERYTHING,
        space_options=CELLS,
        ray=INLINE,
        **more,
    )


def remains(net: raynas.Trained) -> dict[str, Any]:
    """Return all that a training leaves, but for how long it took."""
    checkpoint = find_checkpoint(Path(net.path) / "network")
    return {
        "history": net.history.drop(columns="duration_s").to_dict("list"),
        "metrics": net.metrics,
        "epoch": net.best_epoch,
        "best": dict(net.model().state_dict()),
        "last": dict(load_weights(checkpoint)),
        "state": load_state(checkpoint),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> raynas.Trained:
    """A training of three epochs that was never stopped."""
    return cell_training(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    ("epoch", "every_s"),
    [
        pytest.param(0, -1.0, id="first"),
        pytest.param(1, -1.0, id="second", marks=pytest.mark.full),
        pytest.param(1, 3600.0, id="unsaved"),
    ],
)
def test_a_training_that_is_stopped_and_gone_on_with_is_as_if_it_had_not_been(
    epoch: int,
    every_s: float,
    whole: raynas.Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After any epoch, bit for bit, with a checkpoint after each epoch or only at the end."""
    monkeypatch.setattr(network_job, "CHECKPOINT_S", every_s)
    news = News()
    with pytest.raises(Interrupted, match=r"training; go on with out=.*resume=True"):
        cell_training(tmp_path, progress=News(stop_after=epoch))
    stopped = raynas.Trained(str(tmp_path))
    assert not stopped.finished
    assert list(stopped.history["epoch"]) == list(range(epoch + 1))
    if every_s < 0:
        assert set(stopped.metrics) == {"valid_accuracy", "valid_loss"}
        assert not stopped.model().training
    else:
        with pytest.raises(LookupError, match="has no checkpoint yet"):
            stopped.model()
    torch.rand(3)
    again = cell_training(tmp_path, resume=True, progress=news)
    assert same(remains(again), remains(whole))
    first = epoch + 1 if every_s < 0 else 0
    assert [row["epoch"] for row in news.rows] == list(range(first, 3))


def test_the_last_checkpoint_is_of_a_best_epoch_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was best before the stop is tested after it, if nothing better comes."""
    monkeypatch.setattr(network_job, "CHECKPOINT_S", -1.0)
    train = partial(
        raynas.retrain,
        {"layer": "line"},
        space=Line,
        data=numbers(),
        task="regression",
        epochs=4,
        options={"schedule": lambda step, steps: 1.0 if step < steps / 4 else 50.0, "lr": 0.05,
                 "batch_size": 8, "momentum": 0.0, "clip": None},
        ray=INLINE,
    )  # fmt: skip
    whole = train(out=str(tmp_path / "whole"))
    assert whole.best_epoch == 0
    with pytest.raises(Interrupted):
        train(out=str(tmp_path / "parts"), progress=News(stop_after=2))
    parts = train(out=str(tmp_path / "parts"), resume=True)
    assert same(remains(parts), remains(whole))
    assert parts.metrics["test_loss"] < parts.history["valid_loss"].iloc[-1]


def test_averaged_weights_are_validated_and_kept(whole: raynas.Trained) -> None:
    data, net = images(), whole
    space = darts_cifar(num_classes=3, in_channels=1, resolution=8, **CELLS)
    settings = TrainSettings(epochs=3, **EVERYTHING)
    training = NetworkTraining(space.build(net.arch, seed=5), data, settings, seed=5)
    rows = [training.run_epoch() | training.validate() for _ in range(3)]
    assert list(net.history["accuracy"]) == [row["accuracy"] for row in rows]
    assert training.averaged is not None
    raw = {name: value.clone() for name, value in training.model.state_dict().items()}
    last = net.model(last=True).state_dict()
    assert all(same(last[name], value) for name, value in training.averaged.tensors.items())
    assert not same(dict(last), raw)
    valid = data.load().valid
    assert scores(net.model(last=True), valid)[1] == pytest.approx(rows[-1]["loss"], rel=1e-5)


def test_a_training_that_is_over_is_said_to_be(run: raynas.Result, trained: raynas.Trained) -> None:
    news, before = News(), Path(trained.path, "metrics.json").stat().st_mtime_ns
    again = raynas.retrain(run, resume=True, progress=news)
    assert again.path == trained.path
    assert news.phases == ["nothing is left to do: 3 of 3 epochs are done"]
    assert not news.rows
    assert Path(trained.path, "metrics.json").stat().st_mtime_ns == before


# --- the recipe -----------------------------------------------------------------------------------


def count_of(net: nn.Module) -> int:
    """Return how many weights there are."""
    return sum(weight.numel() for weight in net.parameters())


def pool_weights(net: nn.Module) -> int:
    """Count the weights of BatchNorms behind pools, which the published networks do not have."""
    pools = (nn.MaxPool2d, nn.AvgPool2d)
    cells = [cell for cell in net.modules() if isinstance(cell, FixedCell)]
    edges = [edge for cell in cells for edge in cell.edges.values()]
    behind = [edge for edge in edges if any(isinstance(child, pools) for child in edge.children())]
    return sum(map(count_of, behind))


def test_the_published_network_has_the_authors_weights() -> None:
    """With the second classifier, which is there in training, and without."""
    space = darts_cifar(channels=36, layers=20, affine=True, auxiliary=True)
    with torch.device("meta"):
        net: Any = frozen(space.skeleton(), from_genotype(DARTS_V2), {})
        x = torch.zeros(2, 3, 32, 32)
    params = count_of(net) - pool_weights(net)
    assert (params, params - count_of(net.auxiliary)) == (3_825_768, 3_349_342)
    assert [tuple(part.shape) for part in net.train()(x)] == [(2, 10), (2, 10)]
    assert net.eval()(x).shape == (2, 10)


def test_paths_are_dropped_more_often_with_every_epoch() -> None:
    """In epoch e of n by p * e / n: counts are binomial, five deviations a false alarm in 6e-7."""
    space = darts_cifar(num_classes=3, in_channels=1, resolution=8, **CELLS)
    settings = TrainSettings(epochs=3, batch_size=8, drop_path=0.6)
    net = space.build(from_genotype(SMALL_CELLS, 2))
    training = NetworkTraining(net, images(320), settings, seed=1)
    dropped = [0, 0]

    def count(_: nn.Module, __: Any, out: Tensor) -> None:
        dropped[0] += int((out.flatten(1) == 0).all(1).sum())
        dropped[1] += len(out)

    cells = [cell for cell in training.model.modules() if isinstance(cell, FixedCell)]
    edges = [edge for cell in cells for edge in cell.edges.values()]
    for edge in edges:
        if not isinstance(edge, nn.Identity):
            edge.register_forward_hook(count)
    for epoch in range(3):
        dropped[:] = [0, 0]
        training.run_epoch()
        p, paths = 0.6 * epoch / 3, dropped[1]
        assert paths > 2_000
        assert abs(dropped[0] - p * paths) <= 5 * np.sqrt(paths * p * (1 - p))
        dropped[:] = [0, 0]
        training.validate()
        assert dropped[0] == 0 < dropped[1]


# --- several ranks --------------------------------------------------------------------------------


def shared_validation(rank: int) -> dict[str, dict[str, float]]:
    """Return the metrics of the first rank's network, whose statistics the others do not have."""
    outcome: dict[str, dict[str, float]] = {}
    for name, (net, data) in validations().items():
        for norm in net.modules():
            if isinstance(norm, nn.BatchNorm1d) and rank:
                norm.running_mean.add_(float(rank))  # type: ignore[union-attr]
        settings = TrainSettings(batch_size=4, ema=0.9 if name == "averaged" else None)
        outcome[name] = NetworkTraining(net, data, settings).validate()
    return outcome


def validations() -> dict[str, tuple[nn.Module, DataModule]]:
    """Return networks and data by what is special of their metrics."""

    def spread(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).std()

    whole = Task(loss=functional.l1_loss, metrics={"spread": spread}, objective="loss:min")
    tasks = {"sums": TASKS.build("regression"), "whole": whole, "averaged": whole}
    made: dict[str, tuple[nn.Module, DataModule]] = {}
    for name, task in tasks.items():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).double()
        parts = [[tensor.double() for tensor in part.tensors] for part in numbers(37)]
        data = TensorData([TensorDataset(*part) for part in parts])
        data.task = task
        made[name] = (net, data)
    return made


def test_validation_on_two_ranks_equals_that_on_one(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        alone = shared_validation(0)
    for of_rank in on_two_ranks(shared_validation, tmp_path):
        assert of_rank.keys() == alone.keys()
        for name, metrics in alone.items():
            assert of_rank[name] == pytest.approx(metrics, rel=1e-12, abs=1e-12)


@pytest.mark.full
@pytest.mark.usefixtures("local_ray")
def test_two_workers_train_one_network_through_ray(run: raynas.Result, tmp_path: Path) -> None:
    news = News()
    net = raynas.retrain(
        run,
        epochs=2,
        out=str(tmp_path / "out"),
        ray={"train_workers": 2, "cpus_per_train_worker": 1},
        options={"lr": 0.2},
        progress=news,
    )
    assert [row["epoch"] for row in news.rows] == list(net.history["epoch"]) == [0, 1]
    splits = Digits().load()
    assert splits.test is not None
    for name, part in (("valid", splits.valid), ("test", splits.test)):
        accuracy, loss = scores(net.model(), part)
        assert net.metrics[f"{name}_accuracy"] == pytest.approx(accuracy, abs=1e-12)
        assert net.metrics[f"{name}_loss"] == pytest.approx(loss, rel=1e-5)
    assert Path(net.path, "model.pt").is_file()


@pytest.mark.usefixtures("local_ray")
def test_one_worker_trains_as_this_process_does(run: raynas.Result, tmp_path: Path) -> None:
    train = partial(raynas.retrain, run, epochs=2, options={"lr": 0.2, "ema": 0.9})
    by_ray = train(out=str(tmp_path / "ray"))
    inline = train(out=str(tmp_path / "inline"), ray=INLINE)
    assert same(remains(by_ray), remains(inline))


# --- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"options": {"mixupp": 0.2}}, "no setting is named 'mixupp'; did you mean 'mixup'?"),
        ({"options": {"drop_path": 0.2}}, "drop_path is for networks of cells, and ToyNet has"),
        ({"ray": {"train_workers": 3}}, "batch_size 64 does not divide by 3 training workers"),
        ({"options": {"precision": "float16"}}, "precision float16 needs a GPU"),
        ({"options": {"teacher": "none.pt2"}}, "teacher: there is no file none.pt2"),
        ({"options": {"optimizer": "sdg"}}, "did you mean 'sgd'?"),
        ({"epochs": 0}, "epochs: input should be greater than 0, got 0"),
        ({"space": "darts_cifar"}, "space: the architecture is one of the run's"),
        ({"space_options": {"width": 2}}, "space options go with a registered space's name"),
        ({"arch": {"first": "k3"}}, "'second' is not decided"),
        ({"arch": {"first": "k4"}}, "'k4' is no option; known: k3, k5"),
        ({"metrics": {"lr": len}}, "metric 'lr' is named like a column of the training's history"),
        ({"resume": True, "epochs": 9}, "was trained with settings epochs 3, not 9; resume with"),
        ({"resume": True, "seed": 4}, "was trained with seed 3, not 4; resume with the same"),
        ({"resume": True, "inherit": True}, "was trained with inherit None, not "),
        ({"resume": True, "options": {"lr": 0.3}}, "was trained with settings lr 0.2, not 0.3;"),
    ],
)
def test_what_does_not_fit_a_run_is_said_before_anything_starts(
    run: raynas.Result, trained: raynas.Trained, given: dict[str, Any], told: str
) -> None:
    folders = list((Path(run.path) / "retrained").iterdir())
    arguments: dict[str, Any] = {"ray": INLINE, "options": {}} | given
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        raynas.retrain(run, **arguments)
    assert told in str(caught.value)
    assert list((Path(run.path) / "retrained").iterdir()) == folders == [Path(trained.path)]


SIZES = raynas.ArchSpace.of(depth=[2, 3])


@pytest.mark.parametrize(
    ("what", "given", "error", "told"),
    [
        ({"first": "k3"}, {}, ValueError, "space: name the space of the architecture"),
        ({"depth": 2}, {"space": SIZES}, ValueError, "an ArchSpace builds no networks to train"),
        ({"first": "k3"}, {"space": ToyNet, "inherit": True}, ValueError, "has no supernet"),
        ({"first": "k3"}, {"space": ToyNet, "arch": {}}, ValueError, "is given already"),
        ({"first": "k3"}, {"space": ToyNet, "resume": True}, ValueError, "name it (out=, --out)"),
        ("nothing here", {}, FileNotFoundError, "holds no run: there is no such folder"),
        ("nothing here", {"space": ToyNet}, InvalidArch, "the text 'nothing here' is none"),
        (7, {"space": ToyNet}, TypeError, "expected a Result, the path of a run, or an arch"),
        (DARTS_V2, {"space": ToyNet}, InvalidArch, "no decision is labelled 'normal/n0/from'"),
    ],
)
def test_what_is_no_architecture_of_a_space_is_refused(
    what: Any,
    given: dict[str, Any],
    error: type[Exception],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        raynas.retrain(what, data="digits", ray=INLINE, **given)
    assert told in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_taken_or_cannot_be_written_is_refused(
    run: raynas.Result, trained: raynas.Trained, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"out: nothing can be written to .*file/out: "):
        raynas.retrain(run, out=str(tmp_path / "file" / "out"), ray=INLINE)
    with pytest.raises(FileExistsError, match="holds another training: resume it"):
        raynas.retrain(run, out=trained.path, ray=INLINE)
    other = "k3" if run.best.arch["first"] == "k5" else "k5"
    arch = {**run.best.arch, "first": other}
    with pytest.raises(StoreMismatch, match="was trained with arch first "):
        raynas.retrain(run, arch=arch, out=trained.path, resume=True, ray=INLINE)


def test_a_batch_of_more_than_there_is_is_refused(tmp_path: Path) -> None:
    train = partial(raynas.retrain, {"layer": "line"}, space=Line, data=numbers(), ray=INLINE)
    with pytest.raises(ValueError, match="batch_size 64 is larger than the 40 training examples"):
        train(task="regression", options={"batch_size": 64}, out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_run_without_what_is_asked_for_is_refused(tmp_path: Path) -> None:
    def fail(_: raynas.Arch) -> dict[str, float]:
        raise ArithmeticError("no score")

    search = partial(
        raynas.search, evaluator=fail, objectives={"score": "max"}, trials=1, ray=INLINE
    )
    plain = search(SIZES, "random", out=str(tmp_path / "plain"))
    with pytest.raises(TypeError, match="searched a plain ArchSpace, which builds no modules"):
        raynas.retrain(plain, ray=INLINE)
    none = search(ToyNet, "random", out=str(tmp_path / "none"))
    with pytest.raises(LookupError, match=r"has no completed trial: .*no score"):
        raynas.retrain(none, data="digits", ray=INLINE)
    arch = {"first": "k3", "second": 0, "third": 0}
    with pytest.raises(ValueError, match="inherit: this run had no supernet"):
        raynas.retrain(none, data="digits", arch=arch, inherit=True, ray=INLINE)
    with pytest.raises(ValueError, match="has no retraining to go on with"):
        raynas.retrain(none, resume=True, ray=INLINE)


# --- the command ----------------------------------------------------------------------------------


def test_the_command_trains_the_best_of_a_run(
    run: raynas.Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    options = ["--option", "lr=0.1", "--option", "ema=0.9", "--ray-option", "inline=true"]
    command = ["retrain", run.path, "--out", out, *options, "--seed", "1"]
    assert main([*command, "--epochs", "2", "--trial", "2"]) == 0
    printed = capsys.readouterr()
    net = raynas.Trained(out)
    settings = net.config.settings
    assert (settings["lr"], settings["ema"], settings["epochs"]) == (0.1, 0.9, 2)
    assert net.config.seed == 1
    assert net.arch.to_json() == run.trials.set_index("trial").loc[2, "arch"]
    for words in ("The best of 2 epochs", "validation", "test", "accuracy", "model.pt", net.path):
        assert words in printed.out
    assert f"{100 * net.metrics['test_accuracy']:.2f} %" in printed.out
    assert "network 2/2" in printed.err
    assert main([*command, "--resume"]) == 0
    assert "nothing is left to do: 2 of 2 epochs are done" in capsys.readouterr().err
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(f"error: {out} holds another training: resume it")
    assert main([*command, "--trial", "9"]) == 2
    assert "has no trial 9; it has 0 to 3" in capsys.readouterr().err


def test_the_command_trains_an_architecture_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("arch.json").write_text(from_genotype(DARTS_V2).to_json())
    size = ["--space-option", "channels=1", "--space-option", "layers=3", "--data-option", "size=8"]
    ray = ["--ray-option", "inline=true"]
    command = ["retrain", "arch.json", "--space", "darts_cifar", "--data", "digits", *size, *ray]
    assert main([*command, "--epochs", "1", "--option", "batch_size=500"]) == 0
    assert "darts_cifar-retrain-1" in capsys.readouterr().out.replace("\n", "")
    options = raynas.Trained("runs/darts_cifar-retrain-1").config.space.options
    assert (options["channels"], options["layers"], options["resolution"]) == (1, 3, 8)


def test_a_network_of_a_space_that_is_not_at_hand_is_refused(tmp_path: Path) -> None:
    class Own(Line):
        """Nobody can import it."""

    net = raynas.retrain(
        {"layer": "line"},
        space=Own,
        data=numbers(),
        task="regression",
        epochs=1,
        options={"batch_size": 8},
        out=str(tmp_path),
        ray=INLINE,
    )
    with pytest.raises(LookupError, match=r"Own is a user's own, .* pass raynas\.Trained\(path, "):
        raynas.Trained(net.path).model()
    again = raynas.Trained(net.path, space=Own)
    assert same(again.model().state_dict(), net.model().state_dict())


def test_a_history_is_one_row_an_epoch(trained: raynas.Trained) -> None:
    rows = pd.read_parquet(Path(trained.path) / "history")
    assert list(rows["epoch"]) == [0, 1, 2]
    assert rows["step"].is_monotonic_increasing
