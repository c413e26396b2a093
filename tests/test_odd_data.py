"""Data sets and outputs that are odd in one way each, searched and trained all the same."""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

import raynas
from raynas.cluster.packing import packed
from raynas.core.train_settings import TrainSettings
from raynas.data.module import DataModule, DataWarning, Splits
from raynas.data.tensor_data import TensorData
from raynas.evaluators.functions import MakeFunctionEvaluator
from raynas.evaluators.loaded import Loaded
from raynas.evaluators.networks import MakeNetworkEvaluator
from raynas.evaluators.spec import EvaluatorSpec
from raynas.evaluators.standalone import Standalone
from raynas.nn import LayerChoice
from raynas.nn.modelspace import ModelSpace
from raynas.setup.fit import check_fit
from raynas.setup.resolve_data import resolve_data
from raynas.supernet.network_training import NetworkTraining
from raynas.supernet.protocol import ONE_SHOTS
from raynas.supernet.training import SupernetTraining
from tests.inline import INLINE

CPU = torch.device("cpu")
FEATURES, CLASSES = 6, 3
Noise = Callable[[], float]


def rows(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, FEATURES, generator=rng), torch.arange(count) % CLASSES


def plain(count: int = 48) -> tuple[TensorDataset, TensorDataset]:
    return TensorDataset(*rows(count)), TensorDataset(*rows(24, 1))


class Noisy(Dataset[tuple[Tensor, int]]):
    """Rows that a random number is added to whenever one is read."""

    def __init__(self, draw: Noise, count: int = 48) -> None:
        self.x, self.y = rows(count)
        self.draw = draw

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index] + self.draw(), int(self.y[index])


def from_torch() -> float:
    return float(torch.rand(()))


def from_numpy() -> float:
    return float(np.random.rand())  # noqa: NPY002 - which users draw from


def nothing() -> float:
    return 0.0


def seldom() -> float:
    return float(random.random() > 1 - 1e-9)


DRAWS = [from_torch, from_numpy, random.random]
every_draw = pytest.mark.parametrize("draw", DRAWS)


class Net(nn.Module):
    """A choice, a BatchNorm and a head."""

    def __init__(self) -> None:
        super().__init__()
        wide = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 8))
        self.body = LayerChoice({"a": nn.Linear(FEATURES, 8), "b": wide}, label="body")
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.body(x)).relu()
        return y

    def forward(self, x: Tensor) -> Any:
        return self.head(self.features(x))


def searched(model: Any, data: Any, out: Path, **options: Any) -> raynas.Result:
    supernet = {"epochs": 1} | options
    return raynas.search(
        model, "random", data=data, supernet=supernet, trials=2, out=str(out), ray=INLINE
    )


# --- random transforms ---


class Seen(NetworkTraining):
    """Keeps the inputs that each epoch trains on."""

    def __init__(self, data: DataModule, seed: int) -> None:
        settings = TrainSettings(epochs=3, batch_size=16)
        super().__init__(nn.Linear(FEATURES, CLASSES), data, settings, seed=seed)
        self.inputs: list[Tensor] = []

    def _augmented(self, x: Tensor) -> Tensor:
        self.inputs.append(super()._augmented(x))
        return self.inputs[-1]

    def epoch_inputs(self) -> Tensor:
        self.inputs.clear()
        self.run_epoch()
        return torch.cat(self.inputs)


def inputs_of(data: DataModule, seed: int = 0, first: int = 0) -> list[Tensor]:
    training = Seen(data, seed)
    training.epoch, training.step = first, 3 * first
    return [training.epoch_inputs() for _ in range(3 - first)]


@every_draw
def test_random_transforms_are_drawn_anew_for_every_epoch(draw: Noise) -> None:
    data = TensorData((Noisy(draw), Noisy(draw, 24)))
    for module in (data, Loaded(data, CPU)):
        sorted_rows = [x.sort(dim=0).values for x in inputs_of(module)]
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert not torch.equal(sorted_rows[one], sorted_rows[other])


@every_draw
def test_what_an_epoch_reads_is_a_function_of_seed_and_epoch(draw: Noise) -> None:
    data = TensorData((Noisy(draw), Noisy(draw, 24)))
    whole = inputs_of(data)
    torch.manual_seed(99)
    random.seed(99)
    later = inputs_of(TensorData((Noisy(draw), Noisy(draw, 24))), first=1)
    assert all(map(torch.equal, whole[1:], later))
    assert not torch.equal(inputs_of(data, seed=1)[0], whole[0])


@every_draw
def test_reading_leaves_the_global_random_states_alone(draw: Noise) -> None:
    before = states()
    data = resolve_data((Noisy(draw), Noisy(draw, 24)), {}).module
    assert states() == before
    training = Seen(data, 0)
    before = states()
    training.epoch_inputs()
    assert states() == before


@every_draw
def test_a_search_with_random_transforms_is_repeatable(draw: Noise, tmp_path: Path) -> None:
    losses = []
    for number in (0, 1):
        torch.manual_seed(number)
        random.seed(number)
        run = searched(Net, (Noisy(draw), Noisy(draw, 24)), tmp_path / str(number))
        losses.append(run.trials["loss"].tolist())
    assert losses[0] == losses[1]


def states() -> tuple[object, ...]:
    numpys: Any = np.random.get_state()  # noqa: NPY002 - which users draw from
    torchs: list[int] = torch.get_rng_state().tolist()
    return torchs, numpys[1].tolist(), numpys[2], random.getstate()


def test_validation_examples_are_read_once() -> None:
    data = TensorData((Noisy(from_torch), Noisy(from_torch, 24)))
    first = data.load().valid[0].clone()
    data.epoch_examples()
    assert torch.equal(data.load().valid[0], first)


def test_a_transform_that_is_seldom_applied_is_noticed() -> None:
    data = TensorData((Noisy(seldom), Noisy(seldom, 24)))
    assert data.epoch_examples() is not None


@pytest.mark.parametrize("dataset", [Noisy(nothing), plain()[0]])
def test_data_that_do_not_vary_are_read_once(dataset: Any) -> None:
    assert TensorData((dataset, plain()[1])).epoch_examples() is None


def test_numbers_that_are_none_do_not_count_as_another_reading() -> None:
    dataset = Noisy(nothing)
    dataset.x[0, 0] = torch.nan
    assert TensorData((dataset, plain()[1])).epoch_examples() is None


class Growing(Noisy):
    """Gives a class later that was not there at first."""

    later = 0

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = super().__getitem__(index)
        return x, y + self.later


def test_a_class_that_comes_later_is_refused() -> None:
    dataset = Growing(from_torch)
    data = TensorData((dataset, plain()[1]))
    dataset.later = 1
    with pytest.raises(ValueError, match="the class 3, and there were only 3 classes"):
        data.epoch_examples()


def test_supernets_read_anew_too_and_calibrate_on_the_first_reading() -> None:
    data = TensorData((Noisy(from_torch), Noisy(from_torch, 24)))
    algo = ONE_SHOTS["spos"](seed=0)
    training = SupernetTraining(ModelSpace(Net).supernet(), algo, data, TrainSettings(epochs=2))
    first = training.example.clone()
    read = []
    for _ in range(2):
        read.append(training._epoch_examples().example(24))
        training.run_epoch()
    assert not torch.equal(*read)
    assert torch.equal(training.example, first)


# --- outputs ---


class Auxiliary(Net):
    """Logits and auxiliary logits in training mode, as in DARTS."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Any:
        x = self.features(x)
        return (self.head(x), self.extra(x)) if self.training else self.head(x)


class AlwaysTuple(Auxiliary):
    """Logits and auxiliary logits, which are None in evaluation mode."""

    def forward(self, x: Tensor) -> Any:
        x = self.features(x)
        return self.head(x), self.extra(x) if self.training else None


class WithFeatures(Net):
    """Logits, and in evaluation mode features."""

    def forward(self, x: Tensor) -> Any:
        x = self.features(x)
        return self.head(x) if self.training else [self.head(x), x]


class DictOutput(Net):
    def forward(self, x: Tensor) -> Any:
        return {"scores": super().forward(x)}


class DictInTraining(Net):
    def forward(self, x: Tensor) -> Any:
        y = super().forward(x)
        return (y, {"loss": y.sum()}) if self.training else y


class FeaturesInTraining(Net):
    def forward(self, x: Tensor) -> Any:
        x = self.features(x)
        return (self.head(x), x) if self.training else self.head(x)


@pytest.mark.parametrize("model", [Auxiliary, AlwaysTuple, WithFeatures])
def test_tuples_are_searched_and_scored_by_their_logits(model: Any, tmp_path: Path) -> None:
    run = searched(model, plain(), tmp_path)
    assert set(run.trials["status"]) == {"completed"}
    x, y = rows(24, 1)
    with torch.no_grad():
        out = run.model(run.best.arch)(x)
    logits = out if isinstance(out, Tensor) else out[0]
    assert float(functional.cross_entropy(logits, y)) == pytest.approx(
        run.trials.set_index("arch").loc[run.best.arch.to_json(), "loss"], rel=1e-4
    )


@pytest.mark.parametrize("name", ["darts", "gdas", "proxyless_rl"])
def test_algorithms_that_learn_architectures_take_auxiliary_logits(name: str) -> None:
    algo = ONE_SHOTS[name](seed=0)
    data = TensorData(plain())
    training = SupernetTraining(
        ModelSpace(AlwaysTuple).supernet(), algo, data, TrainSettings(epochs=1, batch_size=12)
    )
    assert np.isfinite(training.run_epoch()["loss"])


@pytest.mark.parametrize("weight", [0.0, 0.4, 2.0])
def test_auxiliary_logits_join_the_loss_with_their_weight(weight: float) -> None:
    model = ModelSpace(Auxiliary).build({"body": "a"})
    settings = TrainSettings(epochs=1, batch_size=48, lr=1e-9, aux_weight=weight)
    x, y = rows(48)
    with torch.no_grad():
        logits, auxiliary = model.train()(x)
        parts = [functional.cross_entropy(z, y, label_smoothing=0.1) for z in (logits, auxiliary)]
    expected = float(parts[0] + weight * parts[1])
    row = NetworkTraining(model, TensorData(plain()), settings).run_epoch()
    assert row["loss"] == pytest.approx(expected, rel=1e-5)
    assert TrainSettings().aux_weight == 0.4


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (DictOutput, r"DictOutput: the model returns \{"),
        (DictInTraining, r"in training mode: the model returns \(\(2, 3\) float32, \{"),
        (FeaturesInTraining, r"returns \(\(2, 3\) float32, \(2, 8\) float32\) in training mode"),
    ],
)
def test_other_outputs_are_refused_before_training(model: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        searched(model, plain(), tmp_path)
    assert not (tmp_path / "history").exists()


def test_networks_that_are_only_measured_need_not_train() -> None:
    space = ModelSpace(DictInTraining, input_shape=(FEATURES,))
    check_fit(space, TensorData(plain()), trains=False)


# --- small, odd and heavy data ---


@pytest.mark.parametrize("count", [3, 50, 59])
def test_few_examples_train_with_a_batch_norm(count: int, tmp_path: Path) -> None:
    assert TensorData(plain(count)).batch_size == 2
    run = searched(Net, plain(count), tmp_path)
    assert set(run.trials["status"]) == {"completed"}


def with_graph(count: int, seed: int) -> TensorDataset:
    x, y = rows(count, seed)
    return TensorDataset(nn.Linear(FEATURES, FEATURES)(x), y)


def test_features_that_carry_a_graph_are_detached(tmp_path: Path) -> None:
    data = TensorData((with_graph(48, 0), with_graph(24, 1)))
    assert not any(x.requires_grad for x, _ in data.load().parts()[:2])
    run = searched(Net, (with_graph(48, 0), with_graph(24, 1)), tmp_path)
    assert set(run.trials["status"]) == {"completed"}


def test_examples_of_a_module_of_ones_own_are_detached() -> None:
    x, y = rows(6)
    splits = Splits((x.requires_grad_(), y), (x, y))
    assert not splits.train[0].requires_grad
    assert torch.equal(splits.train[0], x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_floats_train_in_float32_after_a_notice(dtype: torch.dtype, tmp_path: Path) -> None:
    train, valid = (TensorDataset(x.to(dtype), y) for x, y in (rows(48), rows(24, 1)))
    with pytest.warns(DataWarning, match=f"inputs of {dtype} are used in float32"):
        data = resolve_data((train, valid), {}).module
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = searched(Net, data, tmp_path)
    assert set(run.trials["status"]) == {"completed"}
    assert torch.equal(data.load().train[0], rows(48)[0].to(dtype).float())


def test_the_notice_is_given_once() -> None:
    sets = [TensorDataset(x.double(), y) for x, y in (rows(48), rows(24, 1), rows(24, 2))]
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        data = resolve_data(resolve_data(sets, {}).module, {}).module
        data.load().to(CPU)
    assert [n.category for n in notices] == [DataWarning]


class Lazy(nn.Module):
    """Layers that learn their inputs' sizes from the first pass."""

    def __init__(self) -> None:
        super().__init__()
        layers = {"a": nn.LazyLinear(8), "b": nn.Sequential(nn.LazyLinear(4), nn.LazyLinear(8))}
        self.body = LayerChoice(layers, label="body")
        self.norm, self.head = nn.LazyBatchNorm1d(), nn.LazyLinear(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.body(x)).relu())
        return y


class Filled(Net):
    """A buffer that the first pass fills."""

    scale: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = x.detach().abs().mean(0)
        y: Tensor = super().forward(x / (self.scale + 1))
        return y


@pytest.mark.parametrize("model", [Lazy, Filled])
def test_what_the_first_pass_makes_is_there(model: Any, tmp_path: Path) -> None:
    run = searched(model, plain(), tmp_path)
    assert set(run.trials["status"]) == {"completed"}
    x, y = rows(24, 1)
    with torch.no_grad():
        loss = float(functional.cross_entropy(run.model(run.best.arch)(x), y))
    row = run.trials.set_index("arch").loc[run.best.arch.to_json(), "loss"]
    assert loss == pytest.approx(row, rel=1e-4)


# --- what workers are sent ---


def spec_of(make: Any) -> EvaluatorSpec:
    return EvaluatorSpec(name="function", metrics=("score",), make=make)


class Locked:
    """An evaluator that holds a lock."""

    def __init__(self) -> None:
        self.settings = {"guard": threading.Lock()}

    def __call__(self, arch: raynas.Arch) -> float:
        return 0.0


def closing_over_a_lock() -> Callable[[raynas.Arch], float]:
    guard = threading.Lock()

    def score(arch: raynas.Arch) -> float:
        with guard:
            return float(len(arch))

    return score


@pytest.mark.parametrize(
    ("evaluator", "name"), [(closing_over_a_lock(), "guard"), (Locked(), "settings.guard")]
)
def test_a_lock_in_an_evaluator_is_named(evaluator: Any, name: str) -> None:
    with pytest.raises(TypeError) as caught:
        packed(spec_of(MakeFunctionEvaluator(evaluator, ("score",))))
    assert f"the evaluator cannot be sent to workers: it holds a _thread.lock as {name!r}" in str(
        caught.value
    )


def test_a_lock_in_a_dataset_is_named_where_it_must_be_read_again() -> None:
    dataset = Noisy(from_torch)
    dataset.guard = threading.Lock()  # type: ignore[attr-defined]
    data = TensorData((dataset, plain()[1]))
    make = MakeNetworkEvaluator(evaluator=Standalone(), model_space=ModelSpace(Net), data=data)
    says = "the data cannot be sent to workers: it holds a _thread.lock as '_varying.guard'"
    with pytest.raises(TypeError, match=says):
        packed(spec_of(make))
    assert packed(spec_of(replace(make, data=data.as_loaded())))
    assert data.as_loaded().epoch_examples() is None
    assert data.epoch_examples() is not None
