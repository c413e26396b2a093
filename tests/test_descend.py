"""Several losses in one step of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.supernet.network_training import NetworkTraining

RNG = torch.Generator().manual_seed(0)
X = torch.randn(24, 5, generator=RNG, dtype=torch.float64)
Y = torch.arange(24) % 3


def training(accumulate: int = 1) -> NetworkTraining:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    data = TensorData((TensorDataset(X, Y), TensorDataset(X, Y)), batch_size=8)
    settings = TrainSettings(epochs=1, lr=0.5, momentum=0.0, weight_decay=0.0, clip=None)
    return NetworkTraining(net, data, settings.model_copy(update={"accumulate": accumulate}))


def losses(run: NetworkTraining) -> Iterator[Tensor]:
    for start in (0, 8, 16):
        yield nn.functional.cross_entropy(run.model(X[start : start + 8]), Y[start : start + 8])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_gradients_of_several_losses_are_summed(accumulate: int) -> None:
    """Over ``accumulate`` calls they are averaged, as those of single losses are."""
    run = training(accumulate)
    weights = list(run.model.parameters())
    before = [w.detach().clone() for w in weights]
    gradients = torch.autograd.grad(torch.stack(list(losses(run))).sum(), weights)
    for call in range(accumulate):
        assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True)), call
        run.descend(losses(run))
    for weight, old, gradient in zip(weights, before, gradients, strict=True):
        torch.testing.assert_close(weight.detach(), old - 0.5 * gradient, rtol=1e-12, atol=1e-14)


def test_a_list_of_one_is_the_loss_itself() -> None:
    first, second = training(), training()
    first.descend(next(losses(first)))
    second.descend([next(losses(second))])
    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_each_loss_goes_backward_before_the_next_is_computed() -> None:
    run, seen = training(), []

    def watched() -> Iterator[Tensor]:
        for loss in losses(run):
            yield loss
            seen.append(run.model[2].bias.grad.clone())  # type: ignore[index]

    run.descend(watched())
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_one_loss_that_is_no_number_stops_the_step(bad: int) -> None:
    run = training()
    before = [w.detach().clone() for w in run.model.parameters()]
    spoilt = (loss * (math.inf if at == bad else 1) for at, loss in enumerate(losses(run)))
    with pytest.raises(FloatingPointError, match="loss is inf"):
        run.descend(spoilt)
    assert all(torch.equal(w, b) for w, b in zip(run.model.parameters(), before, strict=True))


def test_a_step_without_a_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="one loss at least, got none"):
        training().descend([])
