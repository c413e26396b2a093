"""DARTS (Liu et al., 2019, arXiv:1806.09055)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from raynas.core.alias import Alias
from raynas.core.train_settings import TrainSettings
from raynas.gradient.alpha_words import modular
from raynas.gradient.base import DARTS_TRAINING
from raynas.gradient.bilevel import bilevel_step
from raynas.gradient.smoothing import Smoothed
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics


@ONE_SHOTS.register(
    "darts",
    aliases={
        "DARTSOptim": modular(
            {"unrolled": True}, w_momentum="momentum", w_weight_decay="weight_decay"
        ),
        "DartsTrainer": Alias(),
    },
)
@dataclass(kw_only=True, eq=False)
class DARTS(Smoothed):
    """Trains softmax mixtures: logits on a validation batch, then weights on a training batch.

    With ``perturb`` it is SDARTS (Chen & Hsieh, 2020, arXiv:2002.05283): weights learn under
    mixtures whose weights are perturbed by at most epsilon, which grows from 0.03 over the epochs.

    Args:
        seed: fixes the initial logits and the perturbations.
        unrolled: take the logits' gradient after one virtual step of the weights (second order);
            under the name DARTSOptim it does.
        perturb: ``none``; ``random``, uniform noise; or ``adversarial``, what raises the training
            loss most, by projected gradient ascent.
        epsilon: largest perturbation that the epochs lead to.
        attack_steps: of the gradient ascent.
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained (0 in the paper; 15 in PC-DARTS).
        hardware: cost that takes part in the logits' loss, such as ``{"target": "macs"}``.
        selection: how the architecture is derived: ``magnitude``, by the largest probabilities; or
            ``perturbation`` (DARTS-PT, arXiv:2108.04392), choice by choice after ``search_epochs``,
            by what the supernet loses on the validation split without a candidate.
        search_epochs: before the first decision by perturbation; None is the warm-up and half of
            what follows it.
    """

    defaults: ClassVar[dict[str, Any]] = DARTS_TRAINING
    final_lr_share: ClassVar[float] = 0.04

    unrolled: bool = False

    def check_settings(self, settings: TrainSettings) -> None:
        """Refuse what the virtual step of second order, one of SGD, would not stand for."""
        super().check_settings(settings)
        plain = settings.optimizer == "sgd" and settings.decay_norms and settings.accumulate == 1
        if self.unrolled and not plain:
            raise ValueError(
                "unrolled takes a virtual step of SGD on all weights alike: use optimizer='sgd', "
                "decay_norms=True and accumulate=1, or unrolled=False"
            )

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Do the logits' step, then the weights'."""
        return bilevel_step(self, train, valid, unrolled=self.unrolled)
