"""Candidates that return several tensors: mixed one by one, or refused before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.errors import InvalidSpace
from raynas.gradient.mixed import MIXED_OPS
from raynas.gradient.relaxation import Relaxation
from raynas.nn import LayerChoice


class Reader(nn.Module):
    """Reads the rows of a digit by one of several recurrent layers."""

    def __init__(self, *makes: Callable[[], nn.Module]) -> None:
        super().__init__()
        names = [f"{at}-{make().__class__.__name__}" for at, make in enumerate(makes)]
        layers = {name: make() for name, make in zip(names, makes, strict=True)}
        self.reader = LayerChoice(layers, label="reader")
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (batch, 10)."""
        out = self.reader(x.squeeze(1))[0]
        logits: Tensor = self.head(out[:, -1])
        return logits


def gru() -> nn.Module:
    return nn.GRU(16, 8, batch_first=True)


def lstm() -> nn.Module:
    return nn.LSTM(16, 8, batch_first=True)


def searched(net: Callable[[], nn.Module], algo: str, out: Path) -> raynas.Result:
    return raynas.search(
        net, algo, trials=2, epochs=1, out=str(out), ray={"inline": True}, progress=False
    )


@pytest.mark.parametrize("algo", ["random", "gdas"])
def test_one_candidate_at_a_time_may_return_what_it_likes(algo: str, tmp_path: Path) -> None:
    run = searched(lambda: Reader(gru, lstm), algo, tmp_path / "run")
    assert run.trials["status"].tolist() == ["completed"] * 2


@pytest.mark.parametrize("algo", ["darts", "snas", "direct_grad"])
def test_what_is_mixed_must_be_alike(algo: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpace, match="choice 'reader': candidate '1-LSTM' returns") as caught:
        searched(lambda: Reader(gru, lstm), algo, tmp_path / "run")
    assert "'0-GRU' (tensor, tensor)" in str(caught.value)
    assert not (tmp_path / "run").exists(), "said before anything starts"
    assert searched(lambda: Reader(gru, gru), algo, tmp_path / "alike").path


def test_binary_gates_take_single_tensors(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpace, match=r"returns \(tensor, tensor\), and this algorithm mixes"):
        raynas.search(
            lambda: Reader(gru, gru),
            "proxyless",
            epochs=2,
            out=str(tmp_path / "run"),
            options={"warmup_epochs": 1},
        )


class Returns(nn.Module):
    """Returns a nest of its input times a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Any:
        """Return a tuple of a tensor and a dict."""
        return self.factor * x, {"twice": 2 * self.factor * x}


@pytest.mark.parametrize("name", ["weighted_sum", "gumbel_sum"])
def test_nests_are_mixed_element_by_element(name: str) -> None:
    """Of factors 1 and 3 with weights w and 1 - w: every element is mixed by the same weights."""
    model = nn.Sequential(LayerChoice([Returns(1.0), Returns(3.0)], label="a"))
    relaxation = Relaxation(model, MIXED_OPS.build(name), seed=0, scale=1.0)
    relaxation.sample(0, 0)
    x = torch.tensor([1.0, 2.0])
    first, rest = model(x)
    mixer = relaxation.mixers["a"]
    factor = (mixer.probabilities() * torch.tensor([1.0, 3.0])).sum()
    torch.testing.assert_close(first, factor * x)
    torch.testing.assert_close(rest["twice"], 2 * factor * x)


def test_a_hard_sample_of_a_nest_has_the_gradient_of_all_its_elements() -> None:
    """d(sum of outputs)/d(gate) is the sum over both elements: (1 + 2) * factor * sum(x)."""
    model = nn.Sequential(LayerChoice([Returns(1.0), Returns(3.0)], label="a"))
    relaxation = Relaxation(model, MIXED_OPS.build(["gumbel_sum", {"hard": True}]), seed=0)
    relaxation.sample(0, 0)
    mixer, x = relaxation.mixers["a"], torch.tensor([1.0, 2.0])
    first, rest = model(x)
    (first.sum() + rest["twice"].sum()).backward()
    got = relaxation.vectors["a"].grad
    relaxation.vectors["a"].grad = None
    at = mixer.draw[1]
    (mixer.probabilities()[at] * 3 * (1.0, 3.0)[at] * x.sum()).backward()
    torch.testing.assert_close(got, relaxation.vectors["a"].grad)
