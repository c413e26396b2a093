"""BatchNorm over all ranks: two workers with half of every batch each train as one does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raynas.algorithms.darts import DARTS
from raynas.algorithms.proxyless import Proxyless
from raynas.algorithms.proxyless_rl import ProxylessRL
from raynas.algorithms.spos import SPOS
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.nn import BatchNorm2d, Conv2d, LayerChoice, ValueChoice
from raynas.supernet.network_training import NetworkTraining
from raynas.supernet.protocol import OneShot
from raynas.supernet.sync_batch_norm import synchronised
from raynas.supernet.training import SupernetTraining
from tests.ranks import on_two_ranks

LAYERS: dict[str, Any] = {
    "plain": lambda: nn.BatchNorm2d(3),
    "no weights": lambda: nn.BatchNorm2d(3, affine=False),
    "no statistics": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "plain average": lambda: nn.BatchNorm2d(3, momentum=None),
}
ALGORITHMS: dict[str, Any] = {
    "spos": lambda: SPOS(warm_start_steps=2),
    "darts": lambda: DARTS(alpha_lr=0.1),
    "unrolled": lambda: DARTS(alpha_lr=0.1, unrolled=True),
    "two": lambda: Proxyless(mode="two", warmup_epochs=0, alpha_every=1, alpha_lr=0.1),
    "full_v2": lambda: Proxyless(mode="full_v2", warmup_epochs=0, alpha_every=1, alpha_lr=0.1),
    "reward": lambda: ProxylessRL(samples=3, warmup_epochs=0, alpha_every=1, alpha_lr=0.1),
}


def conv(kernel: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, kernel, padding=kernel // 2), nn.BatchNorm2d(3), nn.ReLU())


def convnet(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    stem = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3, affine=False))
    choices = [LayerChoice([conv(1), conv(3), nn.Identity()]) for _ in range(2)]
    return nn.Sequential(stem, *choices, nn.Flatten(), nn.Linear(48, 3)).double()


def elastic(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    width = ValueChoice([2, 3, 4], label="width")
    layers = [Conv2d(1, width, 3, padding=1), BatchNorm2d(width), Conv2d(width, 3, 1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(48, 3)).double()


def images(dtype: torch.dtype = torch.float64, count: int = 24) -> TensorData:
    """Images whose means differ, so that the statistics of half a batch are others."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(count, 1, 4, 4, generator=rng, dtype=torch.float64)
    x += 3 * torch.randn(count, 1, 1, 1, generator=rng, dtype=torch.float64)
    x = x.to(dtype)
    return TensorData((TensorDataset(x, torch.arange(count) % 3),) * 2)


def searched(net: nn.Module, algo: OneShot, **settings: Any) -> dict[str, Any]:
    chosen = TrainSettings(**{"epochs": 2, "batch_size": 8, "lr": 0.1, "clip": None, **settings})
    run = SupernetTraining(net, algo, images(next(net.parameters()).dtype), chosen)
    rows = [run.run_epoch() for _ in range(2)]
    for row in rows:
        del row["duration_s"]
    relaxation = getattr(algo, "relaxation", None)
    logits = {} if relaxation is None else {k: v.detach() for k, v in relaxation.vectors.items()}
    return {"rows": rows, "tensors": {**run.model.state_dict(), **logits}}


def every_training(seed: int, sync: bool) -> dict[str, dict[str, Any]]:
    found = {
        name: searched(convnet(seed), make(), sync_batch_norm=sync)
        for name, make in ALGORITHMS.items()
    }
    found["elastic"] = searched(elastic(seed), SPOS(warm_start_steps=0), sync_batch_norm=sync)
    net = plain(seed)
    settings = TrainSettings(epochs=2, batch_size=8, lr=0.1, sync_batch_norm=sync)
    run = NetworkTraining(net, images(), settings)
    rows = [run.run_epoch() for _ in range(2)]
    found["standalone"] = {"rows": rows, "tensors": net.state_dict()}
    return found


def plain(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 3)]
    return nn.Sequential(*layers).double()


def layer_pass(name: str, share: slice, sync: bool, dtype: torch.dtype) -> dict[str, Tensor]:
    """What a layer gives for its share of a batch, and the gradients of a mean over it."""
    torch.manual_seed(0)
    layer = LAYERS[name]().double().to(torch.promote_types(dtype, torch.float32))
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64) + torch.arange(8.0)[:, None, None, None]
    pull = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    part = x.to(dtype)[share].requires_grad_()
    out = layer(part) if not sync else synced(layer, part)
    (out * pull.to(dtype)[share]).flatten(1).sum(1).mean().backward()
    assert part.grad is not None
    found = {f"buffer {k}": v for k, v in layer.named_buffers()}
    found |= {f"mean {k}": w.grad for k, w in layer.named_parameters()}
    return {**found, "output": out.detach(), "mean input": part.grad}


def synced(layer: nn.Module, x: Tensor) -> Tensor:
    with synchronised():
        out: Tensor = layer(x)
    return out


def on_a_rank(rank: int) -> dict[str, Any]:
    """What each of two processes finds."""
    share = slice(4 * rank, 4 * rank + 4)
    return {
        "layers": {n: layer_pass(n, share, True, torch.float64) for n in LAYERS},
        "bfloat16": {n: layer_pass(n, share, True, torch.bfloat16) for n in LAYERS},
        "synchronised": every_training(rank, sync=True),
        "each its own": every_training(rank, sync=False),
        "precision": searched(
            convnet(rank).float(), DARTS(), sync_batch_norm=True, precision="bfloat16"
        ),
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return on_two_ranks(on_a_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("kind", "tolerance"), [("layers", 1e-12), ("bfloat16", 0.03)])
def test_a_layer_of_two_halves_is_that_of_the_whole(
    name: str, kind: str, tolerance: float, ranks: list[dict[str, Any]]
) -> None:
    """Outputs, running statistics, and gradients, whose means are those of the mean loss."""
    dtype = torch.float64 if kind == "layers" else torch.bfloat16
    whole = layer_pass(name, slice(0, 8), False, torch.float64)
    first, second = (found[kind][name] for found in ranks)
    assert first.keys() == whole.keys()
    assert first["output"].dtype == first["mean input"].dtype == dtype
    for key, expected in whole.items():
        if key in ("output", "mean input"):  # a rank's loss is a mean over half as many
            got = torch.cat([first[key], second[key]]) / (1 if key == "output" else 2)
        elif key.startswith("mean"):
            got = (first[key] + second[key]) / 2
        else:
            assert torch.equal(first[key], second[key])
            got = first[key]
        scale = max(float(expected.double().abs().max()), 1e-3)
        assert float((got.double() - expected).abs().max()) < tolerance * scale


def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in b)


@pytest.mark.parametrize("name", [*ALGORITHMS, "elastic", "standalone"])
def test_two_workers_equal_one(name: str, ranks: list[dict[str, Any]]) -> None:
    """Weights, running statistics and logits after two epochs; without it they do not."""
    one = alone(True)[name]
    first, second = (found["synchronised"][name] for found in ranks)
    assert first["rows"] == second["rows"]
    assert distance(first["tensors"], second["tensors"]) == 0.0
    assert distance(first["tensors"], one["tensors"]) < 1e-9
    for row, expected in zip(first["rows"], one["rows"], strict=True):
        assert row == pytest.approx(expected, abs=1e-6)  # accuracy is measured in float32
    assert distance(ranks[0]["each its own"][name]["tensors"], one["tensors"]) > 1e-3


@cache
def alone(sync: bool) -> dict[str, dict[str, Any]]:
    return every_training(0, sync=sync)


@pytest.mark.parametrize("name", [*ALGORITHMS, "elastic", "standalone"])
def test_one_worker_trains_as_ever(name: str) -> None:
    """Bit for bit."""
    assert distance(alone(True)[name]["tensors"], alone(False)[name]["tensors"]) == 0.0
    assert alone(True)[name]["rows"] == alone(False)[name]["rows"]


def test_it_goes_with_bfloat16(ranks: list[dict[str, Any]]) -> None:
    one = searched(convnet(0).float(), DARTS(), precision="bfloat16")
    first, second = (found["precision"] for found in ranks)
    assert distance(first["tensors"], second["tensors"]) == 0.0
    assert distance(first["tensors"], one["tensors"]) < 0.05
