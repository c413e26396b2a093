"""FBNet (Wu et al., 2019, arXiv:1812.03443)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from raynas.gradient.base import Differentiable
from raynas.gradient.mixed.gumbel_sum import GumbelSum
from raynas.gradient.relaxation import Relaxation
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics


@ONE_SHOTS.register("fbnet")
@dataclass(kw_only=True, eq=False)
class FBNet(Differentiable):
    """Trains Gumbel-softmax mixtures: an epoch of weights, then the validation split's of logits.

    With ``hardware={"target": "mobile", "table": FILE, "form": "mul_log"}`` the logits' loss is
    weight * loss * ln(latency) ** power (equation 3; 0.2 and 0.6).

    Args:
        seed: fixes the noise; the initial logits are equal.
        temperature: of the samples in the first epoch.
        decay: that the temperature falls by exponentially, per epoch.
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained.
        hardware: cost that takes part in the logits' loss, such as ``{"target": "macs"}``.
        selection: how the architecture is derived: ``magnitude``, by the largest probabilities; or
            ``perturbation`` (DARTS-PT, arXiv:2108.04392), choice by choice after ``search_epochs``,
            by what the supernet loses on the validation split without a candidate.
        search_epochs: before the first decision by perturbation; None is the warm-up and half of
            what follows it.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 90,
        "batch_size": 64,
        "lr": 0.1,
        "weight_decay": 1e-4,
        "nesterov": False,
        "label_smoothing": 0.0,
    }

    temperature: float = 5.0
    decay: float = 0.045
    alpha_lr: float = 0.01
    alpha_betas: tuple[float, float] = (0.9, 0.999)
    alpha_weight_decay: float = 5e-4
    warmup_epochs: int = 10
    op: GumbelSum = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.decay < 0:
            raise ValueError("the temperature must be positive and its decay not negative")
        self.op = GumbelSum(self.temperature)
        super().__post_init__()

    def relaxed(self, model: nn.Module) -> Relaxation:
        """Return the model's relaxation, with equal initial logits."""
        return Relaxation(model, self.op, seed=self.seed, scale=0.0)

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Train the weights on one batch."""
        training = self.training
        self.valid = valid
        self.op.temperature = self.temperature * math.exp(-self.decay * training.epoch)
        self.relaxation.sample(training.step, 0)
        return {"loss": self.weight_step(train)}

    def epoch_end(self) -> Metrics:
        """Train the logits on the validation split."""
        losses = []
        if alphas := self.alphas:
            for number in range(self.training.valid_steps):
                self.relaxation.sample(self.training.step, 1 + number)
                losses.append(self.alpha_step(next(self.valid), alphas))
        row = super().epoch_end()
        return row | ({"valid_loss": torch.stack(losses).double().mean()} if losses else {})
