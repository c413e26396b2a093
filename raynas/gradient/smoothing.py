"""SDARTS: weights learn under perturbed mixtures (Chen & Hsieh, 2020, arXiv:2002.05283)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from raynas.gradient.base import Differentiable, gradients
from raynas.gradient.mixed.base import Draw, Op, weighted
from raynas.gradient.mixed.weighted_sum import WeightedSum
from raynas.gradient.quiet import steady
from raynas.supernet.protocol import Batch

Perturb = Literal["none", "random", "adversarial"]
Weights = dict[str, Tensor]

FIRST = 0.03  # epsilon in the first epoch (the authors' code)
STREAM = 0xD  # of the noise in weight steps


class SmoothedSum(WeightedSum):
    """The expectation over candidates, or their sum under weights that a pass is given."""

    def __call__(self, ops: Sequence[Op], inputs: Sequence[Any], logits: Tensor, draw: Draw) -> Any:
        """Return the weighted sum; ``draw`` holds the weights, None takes the softmax."""
        return weighted(ops, inputs, logits.softmax(-1) if draw is None else draw)


@dataclass(kw_only=True, eq=False)
class Smoothed(Differentiable):
    """Trains weights under perturbed mixtures, logits as they are.

    The softmax of every label gets noise, uniform in -epsilon … epsilon (``random``), or what
    raises the training loss most within that distance, by projected gradient ascent from such
    noise (``adversarial``); it is then cut to 0 … 1 and divided by its sum. Epsilon grows linearly
    over epochs from 0.03 (the authors' code).

    Differs: the ascent runs with batch statistics, leaves no trace in running ones and drops
    nothing out; the authors' code runs it with the running ones.

    Args:
        seed: fixes the initial logits and the noise.
        perturb: ``none``, ``random`` or ``adversarial``.
        epsilon: largest perturbation of a weight that the epochs lead to.
        attack_steps: of the ascent, each of 2 epsilon / attack_steps.

    Raises:
        ValueError: another perturbation, an epsilon that is not positive, or no step.
    """

    perturb: Perturb = "none"
    epsilon: float = 0.3
    attack_steps: int = 7

    def __post_init__(self) -> None:
        if self.perturb not in get_args(Perturb):
            names = ", ".join(get_args(Perturb))
            raise ValueError(f"perturb is one of {names}, got {self.perturb!r}")
        if self.epsilon <= 0 or self.attack_steps < 1:
            raise ValueError(
                "expected a positive epsilon and attack_steps of at least 1, got "
                f"{self.epsilon} and {self.attack_steps}"
            )
        if self.perturb != "none":
            self.op = SmoothedSum()
        super().__post_init__()

    @property
    def reach(self) -> float:
        """Epsilon in this epoch."""
        first = min(FIRST, self.epsilon)
        return first + (self.epsilon - first) * self.training.epoch / self.training.epochs

    def weight_step(self, batch: Batch) -> Tensor:
        """Train the weights on one batch, under a perturbed mixture, and return its loss."""
        if self.perturb == "none":
            return super().weight_step(batch)
        weights = self._noisy()
        if self.perturb == "adversarial" and weights:
            weights = self._attacked(batch, weights)
        self._lay(weights)
        try:
            return super().weight_step(batch)
        finally:
            self._lay({})

    def _lay(self, weights: Mapping[str, Tensor]) -> None:
        """Mix by these weights; by the softmax where there are none."""
        for label, mixer in self.relaxation.mixers.items():
            mixer.draw = weights.get(label)

    def _softmaxes(self) -> Weights:
        """Return, on the weights' device, the softmaxes of what is not decided."""
        relaxation = self.relaxation
        return {
            label: vector.detach().softmax(-1)
            for label, vector in relaxation.vectors.items()
            if label not in relaxation.fixed
        }

    def _noisy(self) -> Weights:
        rng = np.random.default_rng([self.seed, self.training.step, STREAM])
        noisy = {}
        for label, p in self._softmaxes().items():
            noise = rng.uniform(-self.reach, self.reach, len(p))
            noisy[label] = on_simplex(p + torch.from_numpy(noise).to(p))
        return noisy

    def _attacked(self, batch: Batch, weights: Weights) -> Weights:
        """Return weights near the softmaxes that raise the loss, or these if none were found."""
        p, reach = self._softmaxes(), self.reach
        with steady(self.training.model):
            before = self._loss(batch, p)
            for _ in range(self.attack_steps):
                leaves = [w.detach().requires_grad_() for w in weights.values()]
                self._lay(dict(zip(weights, leaves, strict=True)))
                slopes = gradients(self.training.loss(batch), leaves)
                self.training.average(slopes)
                weights = {
                    label: ascended(leaf.detach(), slope, p[label], reach, self.attack_steps)
                    for (label, leaf), slope in zip(
                        zip(weights, leaves, strict=True), slopes, strict=True
                    )
                }
            after = self._loss(batch, weights)
        self.training.average([before, after])
        # stays on the device: reading the losses would wait for it
        return {k: torch.where(after < before, p[k], w) for k, w in weights.items()}

    @torch.no_grad()
    def _loss(self, batch: Batch, weights: Weights) -> Tensor:
        self._lay(weights)
        return self.training.loss(batch).detach().clone()


def ascended(w: Tensor, slope: Tensor, centre: Tensor, reach: float, steps: int) -> Tensor:
    """Return weights after one step of sign ascent, projected.

    Args:
        w: before, shape (candidates,).
        slope: of the loss.
        centre: of the cube that the step stays in.
        reach: half the cube's width.
        steps: that there are in all.
    """
    moved = w + 2 * reach / steps * slope.sign()
    return on_simplex(centre + (moved - centre).clamp(-reach, reach))


def on_simplex(w: Tensor) -> Tensor:
    """Return weights cut to 0 … 1 and divided by their sum; the largest is 1 where all are cut.

    >>> on_simplex(torch.tensor([0.5, -0.1, 1.5])).tolist()
    [0.3333333432674408, 0.0, 0.6666666865348816]
    """
    cut = w.clamp(0, 1)
    total = cut.sum()
    largest = torch.zeros_like(w).scatter(0, w.argmax(0, keepdim=True), 1.0)
    return torch.where(total > 0, cut / total, largest)
