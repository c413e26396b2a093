"""What only a GPU can show; elsewhere these tests are skipped, and the run says so in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import raynas
from raynas.core.config import RayConfig
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.evaluators.loaded import Loaded
from raynas.nn import LayerChoice
from raynas.nn.modelspace import ModelSpace
from raynas.supernet.network_training import NetworkTraining
from raynas.supernet.scoring import SubnetScorer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
CLASSES, COUNT = 3, 64


class Net(nn.Module):
    """Convolutions with BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        convs = {f"k{k}": nn.Conv2d(1, 8, k, padding=k // 2) for k in (1, 3)}
        self.conv, self.norm = LayerChoice(convs, label="conv"), nn.BatchNorm2d(8)
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu().amax((2, 3))
        return self.head(self.dropout(x))  # type: ignore[no-any-return]


def images(count: int, seed: int) -> TensorDataset:
    y = torch.arange(count) % CLASSES
    x = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    x[:, 0, 0, 0] += 8.0 * y
    return TensorDataset(x, y)


def data() -> TensorData:
    return TensorData((images(COUNT, 0), images(COUNT, 1)), batch_size=16)


def training(**settings: Any) -> NetworkTraining:
    net = ModelSpace(Net).build({"conv": "k3"})
    loaded = Loaded(data(), torch.device("cuda"))
    return NetworkTraining(net, loaded, TrainSettings(epochs=4, lr=0.1, **settings), seed=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_every_precision_and_layout_learns(precision: str, channels_last: bool) -> None:
    run = training(precision=precision, channels_last=channels_last)
    losses = [run.run_epoch()["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]
    assert all(weight.dtype == torch.float32 for weight in run.model.parameters())
    assert run.validate()["accuracy"] > 0.5


def test_the_scale_of_float16_is_part_of_a_checkpoint() -> None:
    whole, first, second = (training(precision="float16", ema=0.9) for _ in range(3))
    expected = [whole.run_epoch()["loss"] for _ in range(4)]
    losses = [first.run_epoch()["loss"] for _ in range(2)]
    second.model.load_state_dict(first.model.state_dict())
    second.load_state_dict(first.state_dict())
    assert "scaler" in first.state_dict()
    losses += [second.run_epoch()["loss"] for _ in range(2)]
    assert losses == pytest.approx(expected, rel=1e-3)


def test_dropout_goes_on_exactly() -> None:
    whole, first, second = training(), training(), training()
    expected = [whole.run_epoch()["loss"] for _ in range(4)]
    losses = [first.run_epoch()["loss"] for _ in range(2)]
    torch.rand(5, device="cuda")  # what else draws changes nothing
    second.model.load_state_dict(first.model.state_dict())
    second.load_state_dict(first.state_dict())
    losses += [second.run_epoch()["loss"] for _ in range(2)]
    assert losses == pytest.approx(expected, rel=1e-5)


def test_scores_are_those_of_the_cpu() -> None:
    splits, scores = data().load(), []
    weights = ModelSpace(Net).supernet().state_dict()
    for place in ("cpu", "cuda"):
        supernet = ModelSpace(Net).supernet().to(place)
        supernet.load_state_dict(weights)
        scorer = SubnetScorer(supernet, splits.train, splits.valid)
        scores.append(scorer.score({"conv": "k3"})["loss"])
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)


@pytest.mark.usefixtures("local_ray")
def test_two_workers_share_one_gpu(tmp_path: Path) -> None:
    run = raynas.search(
        Net,
        "grid",
        data=(images(COUNT, 0), images(COUNT, 1)),
        epochs=2,
        out=str(tmp_path),
        ray=RayConfig(workers=2, gpus_per_worker=0.5, gpus_per_train_worker=1),
    )
    assert run.trials["status"].tolist() == ["completed"] * 2
    trained = raynas.retrain(run, epochs=2, ray={"gpus_per_train_worker": 1})
    assert trained.metrics["valid_accuracy"] > 0.3


def test_one_rank_trains_over_nccl(tmp_path: Path) -> None:
    alone = training().run_epoch()["loss"]
    store = f"file://{tmp_path}/store"
    dist.init_process_group("nccl", init_method=store, rank=0, world_size=1)
    try:
        assert training(sync_batch_norm=True).run_epoch()["loss"] == pytest.approx(alone, rel=1e-5)
    finally:
        dist.destroy_process_group()
