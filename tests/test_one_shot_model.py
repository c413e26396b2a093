"""The one-shot model: path dropout, ghost batches, and what a step moves."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raynas.algorithms.one_shot import OneShotModel
from raynas.core.errors import InvalidSpace
from raynas.gradient.alike import check_alike
from raynas.gradient.mixed.weighted_sum import WeightedSum
from raynas.gradient.path_dropout import PathDropout
from raynas.nn import InputChoice, LayerChoice, Repeat, ValueChoice, activate
from raynas.nn.elastic_linear import Linear
from raynas.supernet.ghosts import ghost_batches
from raynas.supernet.mixing import Mixed
from tests import pathnets
from tests.pathnets import X, Y, net

training = partial(pathnets.training, epochs=5, batch_size=48)


def test_the_rate_rises_linearly_to_that_root_of_the_final_one() -> None:
    """0.008 ** (1/3) = 0.2 and 0.008 ** 1 = 0.008, of which a step has its share."""
    algo = OneShotModel(drop_rate=0.008)
    run = training(net(3), algo, epochs=5)
    assert run.steps == 5
    rates = []
    for step in range(5):
        run.step = step
        algo.step((X, Y), iter(()))
        rates.append((algo._op.probability(3), algo._op.probability(1)))
    expected = [(0.05 * at, 0.002 * at) for at in range(5)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_paths_are_dropped_independently_and_one_is_always_kept() -> None:
    """Of two at 1/2 each: {0} and {1} have 1/4 + 1/8, {0, 1} has 1/4.

    Chi-square of 8000 draws, 2 degrees of freedom: false alarm 1e-6.
    """
    op, rng = PathDropout(0.25, "sum", progress=1.0), np.random.default_rng(0)
    drawn = Counter(op.draw(np.full(2, 0.5), rng) for _ in range(8000))
    expected = {(0,): 3000, (1,): 3000, (0, 1): 2000}
    assert drawn.keys() == expected.keys()
    assert sum((drawn[kept] - n) ** 2 / n for kept, n in expected.items()) < 27.7


def test_nothing_is_dropped_at_first() -> None:
    op, rng = PathDropout(0.9, "sum"), np.random.default_rng(0)
    assert {op.draw(np.full(4, 0.25), rng) for _ in range(100)} == {(0, 1, 2, 3)}


def test_masks_are_a_function_of_seed_step_and_ghost_batch() -> None:
    def masks(seed: int) -> list[Any]:
        algo, seen = OneShotModel(seed=seed, drop_rate=0.5), list[Any]()
        run = training(net(3, 3, 3), algo)

        def look(_net: nn.Module, _inputs: object) -> None:
            seen.append(tuple(mixer.draw for mixer in algo._paths.mixers.values()))

        run.model.register_forward_pre_hook(look)
        for _ in range(5):
            run.run_epoch()
        return seen

    first, again, other = masks(1), masks(1), masks(2)
    assert first == again != other
    training_passes = first[:4]  # the first step drops nothing
    assert set(training_passes) == {((0, 1, 2),) * 3}
    # 16 masks of 9 candidates at 0.1 to 0.8: equal ones are far less probable than 1e-6
    assert len(set(first[4:])) > 8


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_step_is_that_of_the_kept_candidates(reduction: Any) -> None:
    """Against losses written out, of two ghost batches with masks of their own."""
    model = net(3, 2)
    algo = OneShotModel(seed=4, drop_rate=0.6, ghost_batches=2, reduction=reduction)
    run = training(model, algo, epochs=2, lr=0.5, momentum=0.0, weight_decay=0.0)
    run.step = 1  # the last one
    algo._op.progress = 1.0
    masks = []
    for ghost in range(2):
        algo._paths.sample(1, ghost)
        masks.append([algo._paths.mixers[label].draw for label in ("0", "1")])
    assert masks[0] != masks[1]
    losses = [
        nn.functional.cross_entropy(by_hand(model, X[part], kept, reduction), Y[part])
        for part, kept in zip((slice(24), slice(24, 48)), masks, strict=True)
    ]
    mean = torch.stack(losses).mean()
    expected = torch.autograd.grad(mean, list(model.parameters()), allow_unused=True)
    row = algo.step((X, Y), iter(()))
    assert float(row["loss"]) == pytest.approx(float(mean.detach()), rel=1e-12)
    for weight, gradient in zip(model.parameters(), expected, strict=True):
        assert (weight.grad is None) == (gradient is None)
        if gradient is not None:
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-9, atol=1e-12)


def by_hand(model: nn.Sequential, x: Tensor, masks: list[tuple[int, ...]], how: str) -> Tensor:
    for choice, kept in zip(model, masks, strict=False):
        assert isinstance(choice, LayerChoice)
        outputs = torch.stack([choice.layers()[at](x) for at in kept])
        x = outputs.sum(0) if how == "sum" else outputs.mean(0)
    logits: Tensor = model[-1](x)
    return logits


def test_the_mean_has_the_scale_of_one_candidate() -> None:
    """Candidates with equal weights: a sum is as many times as large as what is scored later."""
    model = net(4)
    choice = model[0]
    assert isinstance(choice, LayerChoice)
    for layer in choice.layers():
        layer.load_state_dict(choice.layers()[0].state_dict())
    activate(model, {"0": 2})
    alone = choice(X)
    for reduction, times in (("mean", 1.0), ("sum", 3.0)):
        op = PathDropout(0.5, reduction)  # type: ignore[arg-type]
        mixed = op(choice.layers(), (X,), torch.zeros(4, dtype=torch.float64), (0, 1, 3))
        torch.testing.assert_close(mixed, times * alone, rtol=1e-12, atol=1e-12)


def test_what_a_step_drops_everywhere_has_neither_decay_nor_momentum() -> None:
    """Bit for bit, in every step."""
    model = net(30, 30)
    algo = OneShotModel(seed=0, drop_rate=0.9, ghost_batches=2)
    run = training(model, algo, epochs=9, lr=0.01, momentum=0.9, weight_decay=0.1)
    stayed = 0
    for step in range(9):
        run.step = step
        before = {name: w.detach().clone() for name, w in model.named_parameters()}
        algo.step((X, Y), iter(()))
        kept = set[str]()
        for ghost in range(2):
            algo._paths.sample(step, ghost)
            for label in ("0", "1"):
                kept |= {f"{label}.candidates.{at}" for at in algo._paths.mixers[label].draw}
        moved = {n for n, w in model.named_parameters() if not torch.equal(w, before[n])}
        assert {name.rpartition(".")[0] for name in moved} == {*kept, "2"}
        stayed += 60 - len(kept)
    assert stayed > 0  # at the last step 60 candidates are dropped twice with 0.99 each


def test_ghost_batches_have_statistics_of_their_own() -> None:
    """Three moving averages, one after the other: of the thirds' means."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(6, affine=False)
    model = nn.Sequential(norm, LayerChoice([nn.Linear(6, 3), nn.Linear(6, 3)])).double()
    algo = OneShotModel(ghost_batches=3)
    training(model, algo)
    algo.step((X, Y), iter(()))
    mean = torch.zeros(6, dtype=torch.float64)
    for part in X.split(16):
        mean = 0.9 * mean + 0.1 * part.mean(0)
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-12, atol=1e-14)


def test_a_batch_is_cut_into_nearly_equal_parts() -> None:
    x, y = {"a": X[:7], "b": X[:7]}, Mixed(Y[:7], Y[7:14], 0.25)
    parts = ghost_batches((x, y), 3)
    assert [len(part["a"]) for (part, _), _ in parts] == [2, 2, 3]
    assert [share for _, share in parts] == [2 / 7, 2 / 7, 3 / 7]
    assert torch.equal(torch.cat([part["b"] for (part, _), _ in parts]), X[:7])
    for attribute, whole in (("first", Y[:7]), ("second", Y[7:14])):
        cut = torch.cat([getattr(targets, attribute) for (_, targets), _ in parts])
        assert torch.equal(cut, whole)
    assert {targets.share for (_, targets), _ in parts} == {0.25}
    for size, count in ((1, 1), (2, 1), (3, 1), (4, 2), (9, 4)):
        assert len(ghost_batches((X[:size], None), 4)) == count


def test_mixed_examples_are_trained_on() -> None:
    run = training(net(3), OneShotModel(), mixup=0.5, epochs=1)
    assert math.isfinite(run.run_epoch()["loss"])


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pick = InputChoice(2, label="inputs")

    def forward(self, x: Tensor) -> Tensor:
        picked: Tensor = self.pick([x, -x])
        return picked


def refused() -> dict[str, tuple[nn.Module, str]]:
    width = ValueChoice([4, 6], label="width")
    elastic = nn.Sequential(Linear(6, width), Linear(width, 3))
    shapes = LayerChoice({"a": nn.Linear(6, 3), "b": nn.Linear(6, 1)}, label="choice")
    return {
        "elastic": (elastic, "Linear 'width' cannot be relaxed"),
        "inputs": (Joined(), "InputChoice 'inputs' cannot be relaxed"),
        "depth": (Repeat(nn.Linear(6, 6), (1, 3), label="depth"), "Repeat 'depth' cannot"),
        "none": (nn.Linear(6, 3), "no layer choices, whose candidates could be dropped"),
        "shapes": (
            nn.Sequential(shapes),
            r"choice 'choice': candidate 'b' returns a shape of \(1,\), but 'a' a shape of \(3,\)",
        ),
    }


@pytest.mark.parametrize("kind", sorted(refused()))
def test_what_cannot_be_added_is_refused_before_training(kind: str) -> None:
    model, message = refused()[kind]
    with pytest.raises(InvalidSpace, match=message):
        OneShotModel().check(model.double(), X[:2])


def test_differentiable_searches_refuse_other_shapes_too() -> None:
    """Which torch would have spread over the larger one without a word."""
    model, message = refused()["shapes"]
    with pytest.raises(InvalidSpace, match=message):
        check_alike(model.double(), WeightedSum(), X[:2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_rate": 1.0}, "drop_rate must be from 0 to below 1, got 1.0"),
        ({"drop_rate": -0.1}, "drop_rate must be from 0"),
        ({"ghost_batches": 0}, "ghost_batches must be at least 1, got 0"),
        ({"reduction": "max"}, "expected 'sum' or 'mean', got 'max'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OneShotModel(**options)
