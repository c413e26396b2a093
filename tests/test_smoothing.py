"""SDARTS: perturbed mixtures by hand, the ascent against one written out, what stays untouched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raynas.algorithms.darts import DARTS
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.gradient.smoothing import STREAM, ascended, on_simplex
from raynas.nn import LayerChoice
from raynas.supernet.protocol import Batch
from raynas.supernet.training import SupernetTraining


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_weights_are_cut_and_divided_by_hand() -> None:
    assert on_simplex(vector(0.25, -0.5, 0.25)).tolist() == [0.5, 0.0, 0.5]
    assert on_simplex(vector(3.0, 0.5, 0.5)).tolist() == [0.5, 0.25, 0.25]
    assert on_simplex(vector(-0.3, -0.1, -0.2)).tolist() == [0.0, 1.0, 0.0]


def test_a_step_of_the_ascent_by_hand() -> None:
    """From the centre (0.5, 0.25, 0.25) by 2 * 0.28 / 7 = 0.08 along the signs.

    (0.58, 0.17, 0.25) is within reach and sums to 1. From (0.75, 0.0, 0.25) the step leads to
    (0.83, -0.08, 0.25), which the cube cuts to (0.78, -0.03, 0.25) and the simplex to (0.78, 0,
    0.25) / 1.03.
    """
    centre, slope = vector(0.5, 0.25, 0.25), vector(3.0, -0.1, 0.0)
    once = ascended(centre, slope, centre, 0.28, 7)
    torch.testing.assert_close(once, vector(0.58, 0.17, 0.25), rtol=0, atol=1e-15)
    cut = ascended(vector(0.75, 0.0, 0.25), slope, centre, 0.28, 7)
    torch.testing.assert_close(cut, vector(0.78, 0.0, 0.25) / 1.03, rtol=0, atol=1e-15)


def net() -> nn.Module:
    torch.manual_seed(0)

    def layer() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))

    choices = [LayerChoice([layer(), nn.Tanh(), nn.Identity()], f"c{k}") for k in range(2)]
    return nn.Sequential(*choices, nn.Dropout(0.3), nn.Linear(6, 3)).double()


def batch(seed: int) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(16, 6, generator=rng, dtype=torch.float64)
    return x, torch.randint(3, (16,), generator=rng)


def attached(**options: Any) -> tuple[DARTS, SupernetTraining]:
    algo = DARTS(seed=1, **options)
    settings = TrainSettings(epochs=10, batch_size=8, lr=0.1, label_smoothing=0.0)
    data = TensorData([TensorDataset(*batch(seed)) for seed in (1, 2)])
    run = SupernetTraining(net(), algo, data, settings)
    for label, values in (("c0", (0.4, -0.3, 0.1)), ("c1", (-1.0, 0.5, 0.2))):
        algo.relaxation.vectors[label].data = vector(*values)
    run.model.train()
    return algo, run


def laid(algo: DARTS, train: Batch) -> dict[str, Tensor]:
    """Return the weights that a weight step's forward pass mixes by."""
    seen: dict[str, Tensor] = {}
    hook = algo.training.model.register_forward_pre_hook(
        lambda *_: seen.update({k: m.draw for k, m in algo.relaxation.mixers.items()})
    )
    algo.weight_step(train)
    hook.remove()
    return {label: weights.detach() for label, weights in seen.items()}


def test_the_noise_is_a_function_of_seed_and_step() -> None:
    algo, run = attached(perturb="random", epsilon=0.2)
    run.step, run.epoch = 3, 5
    reach = 0.03 + 0.17 * 5 / 10
    rng, expected = np.random.default_rng([1, 3, STREAM]), {}
    for label, alpha in algo.relaxation.vectors.items():
        noisy = alpha.detach().softmax(0).numpy() + rng.uniform(-reach, reach, 3)
        noisy = noisy.clip(0, 1)
        expected[label] = noisy / noisy.sum()
    found = laid(algo, batch(1))
    for label, weights in expected.items():
        np.testing.assert_allclose(found[label], weights, atol=1e-15)
    assert all(mixer.draw is None for mixer in algo.relaxation.mixers.values())
    run.step = 4
    assert not torch.equal(laid(algo, batch(1))["c0"], found["c0"])


def test_the_reach_grows_linearly_from_the_first() -> None:
    algo, run = attached(perturb="random")
    seen = []
    for run.epoch in (0, 5, 9):
        seen.append(algo.reach)
    assert seen == pytest.approx([0.03, 0.165, 0.273])
    small, _ = attached(perturb="random", epsilon=0.01)
    assert small.reach == 0.01


def mixed_loss(model: nn.Module, weights: dict[str, Tensor], train: Batch) -> Tensor:
    """Return the loss of the mixture, written out, without dropout."""
    first, second, _, head = model.children()
    x, y = train
    for choice in (first, second):
        assert isinstance(choice, LayerChoice)
        w = weights[str(choice.label)]
        x = sum(w[k] * layer(x) for k, layer in enumerate(choice.layers()))
    return nn.functional.cross_entropy(head(x), y)


def test_the_adversary_is_sign_ascent_written_out() -> None:
    algo, run = attached(perturb="adversarial", epsilon=0.2, attack_steps=3)
    run.step, run.epoch = 2, 5
    random, other = attached(perturb="random", epsilon=0.2)
    other.step, other.epoch = 2, 5
    w, train = laid(random, batch(1)), batch(1)
    p = {k: v.detach().softmax(0) for k, v in algo.relaxation.vectors.items()}
    copied = net()
    copied.load_state_dict(run.model.state_dict())
    for _ in range(3):
        leaves = {k: v.clone().requires_grad_() for k, v in w.items()}
        slopes = torch.autograd.grad(mixed_loss(copied, leaves, train), list(leaves.values()))
        for (k, leaf), slope in zip(leaves.items(), slopes, strict=True):
            moved = leaf.detach() + 2 * algo.reach / 3 * slope.sign()
            moved = torch.maximum(torch.minimum(moved, p[k] + algo.reach), p[k] - algo.reach)
            moved = moved.clamp(0, 1)
            w[k] = moved / moved.sum()
    with torch.no_grad():
        assert mixed_loss(copied, w, train) > mixed_loss(copied, p, train)
    statistics = {k: v.clone() for k, v in run.model.state_dict().items() if "running" in k}
    found = laid(algo, train)
    for label, weights in w.items():
        torch.testing.assert_close(found[label], weights, rtol=0, atol=1e-12)
    for name, before in statistics.items():  # one step alone moved them
        once = 0.9 * before + 0.1 * copied_statistics(net(), w, train)[name]
        torch.testing.assert_close(run.model.state_dict()[name], once, rtol=0, atol=1e-12)


def copied_statistics(fresh: nn.Module, w: dict[str, Tensor], train: Batch) -> dict[str, Tensor]:
    """Return the batch's statistics: what one pass leaves where all of a momentum of 1 is taken."""
    for module in fresh.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 1.0
    with torch.no_grad():
        mixed_loss(fresh, w, train)
    return fresh.state_dict()


def test_an_attack_that_does_not_raise_the_loss_is_left_out() -> None:
    """Nearly all weight is on one candidate of each, and one step from the noise ends lower."""
    found, losses, train = [], list[float](), batch(3)
    for perturb in ("random", "adversarial"):
        algo, run = attached(perturb=perturb, attack_steps=1)
        run.epoch = 9
        for label, values in (("c0", (9.0, 0.0, 0.0)), ("c1", (0.0, 0.0, 9.0))):
            algo.relaxation.vectors[label].data = vector(*values)
        run.model.register_forward_hook(lambda *_: losses.append(0.0))
        found.append(laid(algo, train))
    assert len(losses) == 1 + 1 + 1 + 1 + 1  # before, the ascent's, after: then the two steps
    p = {k: v.detach().softmax(0) for k, v in algo.relaxation.vectors.items()}
    pairs = zip(found[0].items(), slopes_at(found[0], train), strict=True)
    ascent = {k: ascended(w, slope, p[k], algo.reach, 1) for (k, w), slope in pairs}
    with torch.no_grad():
        assert mixed_loss(net(), ascent, train) < mixed_loss(net(), p, train) - 0.1
    for label, weights in p.items():
        torch.testing.assert_close(found[1][label], weights, rtol=0, atol=0)


def slopes_at(w: dict[str, Tensor], train: Batch) -> list[Tensor]:
    leaves = {k: v.clone().requires_grad_() for k, v in w.items()}
    return list(torch.autograd.grad(mixed_loss(net(), leaves, train), list(leaves.values())))


def test_logits_learn_from_mixtures_as_they_are() -> None:
    gradients = []
    for perturb in ("none", "random", "adversarial"):
        algo, run = attached(perturb=perturb)
        algo.weight_step(batch(1))
        run.model.load_state_dict(net().state_dict())
        for module in run.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        gradients.append(torch.autograd.grad(run.loss(batch(2)), algo.alphas))
    for others in gradients[1:]:
        for first, other in zip(gradients[0], others, strict=True):
            assert torch.equal(first, other)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="perturb is one of none, random, adversarial, got 'pgd'"):
        DARTS(perturb="pgd")  # type: ignore[arg-type]
    for wrong in ({"epsilon": 0.0}, {"attack_steps": 0}):
        with pytest.raises(ValueError, match="positive epsilon and attack_steps of at least 1"):
            DARTS(perturb="random", **wrong)
