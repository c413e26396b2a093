"""DrNAS: Dirichlet neural architecture search (Chen et al., 2021, arXiv:2006.10355)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core.train_settings import TrainSettings
from raynas.gradient.base import DARTS_TRAINING, Differentiable
from raynas.gradient.bilevel import bilevel_step
from raynas.gradient.decisions import release
from raynas.gradient.mixed.dirichlet_sum import DirichletSum, divergence
from raynas.nn.modelspace import ModelSpace
from raynas.nn.partial_space import PartialSpace, whole_of
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics, Training

Anchor = Literal["l2", "kl"]


@ONE_SHOTS.register("drnas")
@dataclass(kw_only=True, eq=False)
class DrNAS(Differentiable):
    """Mixes candidates by samples of Dirichlet distributions: logits first, then weights.

    With a logit a, a candidate's concentration is elu(a) + 1. Logits learn by pathwise gradients
    of a validation batch, and are drawn to the symmetric distribution of concentrations 1.

    With ``keep`` the training has several stages of equal length, between which every choice loses
    its weakest candidates: ``keep=(4,)`` leaves four for the second half. With ``partial`` choices
    act on a share of the channels, as those of pc_darts do; the supernet is then another than the
    space's, and ``Result.model(whole=True)`` is the whole network.

    Differs: the share of the channels is that of all stages, where the paper widens candidates as
    their number falls (1/6, then 1/4, of the channels in the DARTS space). Weights keep their
    shapes as long as a training lasts: a checkpoint's are loaded before it is known at which stage
    it was written, and optimizer, averages and scorer hold the same tensors from the start. A
    cell's edge keeps one operation that is not zeros at least.

    Args:
        seed: fixes the initial logits and all samples.
        anchor: distance to the symmetric distribution that the logits' loss holds: ``l2``, of
            logits to 0, by the optimizer's weight decay; or ``kl``, of the distributions.
        partial: input channels per channel that is mixed; 1 mixes all.
        keep: candidates per choice in the stages after the first.
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: the scale of the distance.
        warmup_epochs: at the start of every stage, in which only weights are trained.
        hardware: cost that takes part in the logits' loss, such as ``{"target": "macs"}``.
        selection: how the architecture is derived: ``magnitude``, by the largest probabilities; or
            ``perturbation`` (DARTS-PT, arXiv:2108.04392), choice by choice after ``search_epochs``,
            by what the supernet loses on the validation split without a candidate.
        search_epochs: before the first decision by perturbation; None is the warm-up and half of
            what follows it.

    Raises:
        ValueError: another anchor, ``partial`` below 1, or a ``keep`` that does not fall or ends
            below 1.
    """

    defaults: ClassVar[dict[str, Any]] = {**DARTS_TRAINING, "lr": 0.1}

    anchor: Anchor = "l2"
    partial: int = 1
    keep: tuple[int, ...] = ()
    alpha_lr: float = 6e-4
    warmup_epochs: int = 10
    op: DirichletSum = field(init=False, repr=False, default_factory=DirichletSum)

    def __post_init__(self) -> None:
        if self.anchor not in get_args(Anchor):
            raise ValueError(f"anchor is one of l2, kl, got {self.anchor!r}")
        if self.partial < 1:
            raise ValueError(f"partial must be a whole number of at least 1, got {self.partial}")
        self.keep = tuple(self.keep)
        falling = all(a > b for a, b in zip(self.keep, self.keep[1:], strict=False))
        if not falling or min(self.keep, default=1) < 1:
            raise ValueError(
                f"keep is of numbers of candidates that fall from stage to stage, got {self.keep}"
            )
        super().__post_init__()

    def check_settings(self, settings: TrainSettings) -> None:
        """Refuse stages that hold nothing but their warm-up."""
        super().check_settings(settings)
        stages = len(self.keep) + 1
        if settings.epochs // stages <= self.warmup_epochs:
            raise ValueError(
                f"each of {stages} stages begins with {self.warmup_epochs} epochs of weights alone "
                f"and has {settings.epochs // stages} in all: use more epochs (above "
                f"{stages * (self.warmup_epochs + 1) - 1}), or a smaller warmup_epochs"
            )

    def supernet_space(self, space: ModelSpace) -> ModelSpace:
        """Return the space whose supernets this algorithm trains.

        Raises:
            InvalidSpace: no choice can be partial, or one cannot be relaxed.
        """
        return space if self.partial == 1 else PartialSpace(space, self.partial)

    def attach(self, training: Training) -> None:
        """Give every choice of the model its logits."""
        super().attach(training)
        if self.anchor == "kl":  # the distance stands in the loss
            for group in self.optimizer.param_groups:
                group["weight_decay"] = 0.0

    def costed(self) -> nn.Module:
        """Return the model at full width: that is what will run once it is found."""
        return whole_of(self.training.model)

    def stage(self, epoch: int) -> int:
        """Return an epoch's stage, from 0."""
        last = len(self.keep)
        return min(epoch * (last + 1) // self.training.epochs, last)

    @property
    def alphas(self) -> list[nn.Parameter]:
        """The logits that are learned now: none in the first epochs of a stage."""
        epoch = self.training.epoch
        warm = max(epoch - self.warmup_epochs, -1)
        return self.relaxation.live() if warm >= 0 and self.stage(warm) == self.stage(epoch) else []

    def penalised(self, loss: Tensor) -> Tensor:
        """Return the loss with the hardware's part, and the distance where the loss holds it."""
        loss = super().penalised(loss)
        if self.anchor == "l2":
            return loss
        distances = [divergence(vector) for vector in self.relaxation.live()]
        return loss + self.alpha_weight_decay * torch.stack(distances).sum()

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Do the logits' step, then the weights', each with samples of its own."""
        return bilevel_step(self, train, valid, draws=True)

    def epoch_end(self) -> Metrics:
        """Leave out the weakest candidates at the end of a stage."""
        row = super().epoch_end()
        coming = self.stage(self.training.epoch + 1)
        if coming > self.stage(self.training.epoch):
            self._prune(self.keep[coming - 1])
        return row

    def _prune(self, count: int) -> None:
        p = self.relaxation.probabilities()
        for label, spec in self.relaxation.specs.items():
            if label in self.relaxation.fixed:
                continue
            order = [int(k) for k in np.argsort(-p[label], kind="stable")]
            kept = order[: max(count, spec.picks)]
            if not spec.picks_none and kept == [spec.none]:
                kept = order[1:2]
            self.relaxation.prune(label, kept)
        release(self.relaxation, self.training)
