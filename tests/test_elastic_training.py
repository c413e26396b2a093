"""A training that goes on with more ranks, or with fewer, draws and learns the same."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raynas.algorithms.darts import DARTS
from raynas.algorithms.spos import SPOS
from raynas.core.rank_counts import count_or_range, equal_shares
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.nn import LayerChoice
from raynas.supernet.distributed import ProcessGroup, shared_equally
from raynas.supernet.loop import TrainingLoop
from raynas.supernet.network_training import NetworkTraining
from raynas.supernet.training import SupernetTraining
from tests.ranks import on_two_ranks

EPOCHS, LOST = 4, 2  # of all, and after how many a rank is lost, or one comes
CLOSE = 1e-10  # in float64: sums over ranks are in another order


class Shaken(TensorData):
    """Moves images by what is drawn for the batch, each by an amount of its own."""

    def augment(self, x: Tensor, rng: torch.Generator) -> Tensor:
        noise = torch.randn(x.shape, generator=rng, dtype=x.dtype)
        return x + 0.2 * noise + 0.1 * torch.rand(1, generator=rng).to(x) * x.roll(1, 0)


def images() -> TensorData:
    """Images of few pixels, of which the validation split is less than a batch, and odd."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(56, 1, 4, 4, generator=rng, dtype=torch.float64)
    y = torch.arange(56) % 3
    return Shaken((TensorDataset(x[:45], y[:45]), TensorDataset(x[45:], y[45:])))


def convnet(choice: bool) -> nn.Module:
    def conv(kernel: int) -> nn.Module:
        layer = nn.Conv2d(1, 3, kernel, padding=kernel // 2)
        return nn.Sequential(layer, nn.BatchNorm2d(3), nn.ReLU())

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = LayerChoice([conv(1), conv(3)], label="first") if choice else conv(3)
        return nn.Sequential(first, nn.Flatten(), nn.Linear(48, 3)).double()


def settings(**others: Any) -> TrainSettings:
    chosen = {"epochs": EPOCHS, "batch_size": 16, "clip": None, "sync_batch_norm": True, **others}
    return TrainSettings(**chosen)


def supernet(make: Callable[[], Any]) -> Callable[[], TrainingLoop]:
    return lambda: SupernetTraining(convnet(True), make(), images(), settings(mixup=0.4), seed=5)


def network() -> TrainingLoop:
    chosen = settings(mixup=0.4, cutmix=1.0, cutout=2, ema=0.9)
    return NetworkTraining(convnet(False), images(), chosen, seed=5)


TRAININGS: dict[str, Callable[[], TrainingLoop]] = {
    "spos": supernet(lambda: SPOS(warm_start_steps=2)),
    "darts": supernet(lambda: DARTS(alpha_lr=0.1)),
    "network": network,
}


def rows_of(run: TrainingLoop, epochs: int) -> list[dict[str, float]]:
    rows = []
    for _ in range(epochs):
        row = run.run_epoch()
        row.pop("duration_s", None)
        rows.append(row)
    return rows


def checkpoint(run: TrainingLoop) -> bytes:
    file = io.BytesIO()
    torch.save({"weights": run.model.state_dict(), "state": run.state_dict()}, file)
    return file.getvalue()


def gone_on(run: TrainingLoop, kept: bytes) -> list[dict[str, float]]:
    """Return the rows of what a checkpoint leaves to train."""
    parts = torch.load(io.BytesIO(kept), weights_only=True)
    run.model.load_state_dict(parts["weights"])
    run.load_state_dict(parts["state"])
    return rows_of(run, EPOCHS - run.epoch)


def trained(kind: str) -> dict[str, Any]:
    """Train to the end; keep what going on after some epochs needs."""
    run = TRAININGS[kind]()
    rows = rows_of(run, LOST)
    kept = checkpoint(run)
    rows += rows_of(run, EPOCHS - LOST)
    return {"rows": rows, "kept": kept, "weights": run.model.state_dict()}


def on_a_rank(of_one: dict[str, bytes], rank: int) -> dict[str, Any]:
    """Train on two ranks: from the beginning, and from what one rank left."""
    with shared_equally([1, 2]):
        assert ProcessGroup().rank == rank
        return {
            kind: {**trained(kind), "after one": gone_on(TRAININGS[kind](), of_one[kind])}
            for kind in TRAININGS
        }


def test_a_training_goes_on_with_more_ranks_or_fewer_as_if_nothing_had_happened(
    tmp_path: Path,
) -> None:
    """Augmented, mixed and cut, with BatchNorms over all ranks; to what float64 leaves of sums."""
    with shared_equally([1, 2]):
        alone = {kind: trained(kind) for kind in TRAININGS}
        kept = {kind: one["kept"] for kind, one in alone.items()}
        first, second = on_two_ranks(partial(on_a_rank, kept), tmp_path)
        for kind, one in alone.items():
            expected = [pytest.approx(row, rel=CLOSE, abs=CLOSE) for row in one["rows"]]
            assert first[kind]["rows"] == second[kind]["rows"] == expected
            assert first[kind]["after one"] == expected[LOST:]
            assert gone_on(TRAININGS[kind](), first[kind]["kept"]) == expected[LOST:]
            for name, weight in one["weights"].items():
                ours = first[kind]["weights"][name]
                torch.testing.assert_close(ours, weight, rtol=CLOSE, atol=CLOSE)


def test_batches_are_such_as_any_number_of_ranks_can_share() -> None:
    run = supernet(lambda: DARTS(alpha_lr=0.1))
    assert [size for size in batch_sizes(run())] == [11]
    with shared_equally([1, 2]):
        assert ProcessGroup().divisor == 2
        assert [size for size in batch_sizes(run())] == [10]
    with shared_equally([1, 2, 16]), pytest.raises(ValueError, match=r"11 validation .* for 16"):
        run()
    assert ProcessGroup().divisor == 1


def batch_sizes(run: TrainingLoop) -> set[int]:
    assert isinstance(run, SupernetTraining)
    return {run._size(run._valid)}


@pytest.mark.parametrize(
    ("given", "ranks"),
    [(2, 2), ("2", 2), ("1-4", (1, 4)), ([1, 4], (1, 4)), ((3, 3), 3), (2.0, 2), ("1 - 2", (1, 2))],
)
def test_how_many_ranks_may_be_said(given: object, ranks: object) -> None:
    assert count_or_range(given) == ranks


@pytest.mark.parametrize("given", [0, -1, "0", "4-1", "1-", "-2", "many", [1, 2, 3], [], 1.5, None])
def test_what_is_no_number_of_ranks_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="expected a positive whole number, or two such as 1-4"):
        count_or_range(given)


def test_a_batch_is_shared_by_the_numbers_that_it_divides_by() -> None:
    assert equal_shares(96, 2, 5) == [2, 3, 4]
    with pytest.raises(ValueError, match="batch_size 7 does not divide by any of 2 to 4 training"):
        equal_shares(7, 2, 4)
    with pytest.raises(ValueError, match="batch_size 7 does not divide by 2 training workers"):
        equal_shares(7, 2, 2)
