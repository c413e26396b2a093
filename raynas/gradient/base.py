"""What the algorithms that learn logits by gradients have in common."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest
from raynas.core.train_settings import TrainSettings
from raynas.gradient.agreement import check_ranks_agree
from raynas.gradient.alike import check_alike
from raynas.gradient.decisions import release
from raynas.gradient.hardware import Hardware, Penalty, checked_hardware
from raynas.gradient.mixed.base import MIXED_OPS, MixedOp
from raynas.gradient.mixed.weighted_sum import WeightedSum
from raynas.gradient.read_inputs import check_inputs
from raynas.gradient.relaxation import Relaxation, check_finite, strongest
from raynas.gradient.selection import (
    Perturbation,
    Selection,
    check_selection,
    search_epochs_of,
)
from raynas.gradient.top_architectures import top_k
from raynas.nn.logits import Logits
from raynas.nn.mutable import derived, inner_space, logits_of
from raynas.supernet.protocol import Batch, Distribution, Metrics, OneShot, Training

# how DARTS trains weights (arXiv:1806.09055, section A.1), and those that build on it
DARTS_TRAINING: dict[str, Any] = {
    "epochs": 50,
    "batch_size": 64,
    "lr": 0.025,
    "weight_decay": 3e-4,
    "nesterov": False,
    "label_smoothing": 0.0,
}
ALPHA = "alpha."  # history columns alpha.<label>.<option> hold probabilities


@dataclass(kw_only=True, eq=False)
class Differentiable(OneShot):
    """Holds the relaxation, the logits' optimizer, and the hardware's part in the loss.

    A subclass says what a step does; order is what tells the algorithms apart.

    Args:
        seed: fixes initial logits and all draws.
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained.
        hardware: cost that takes part in the logits' loss.
        selection: how the architecture is derived: ``magnitude``, by the largest probabilities, or
            ``perturbation``, by what the supernet loses without a candidate (see
            ``raynas.gradient.selection``).
        search_epochs: before the first decision by perturbation; None is the warm-up and half of
            what follows it.

    Attributes:
        op: how candidates combine at first.
        valid: gives batches of the validation split in this epoch; a step leaves it here.
        final_lr_share: learning rate of the weights at the end, over that at the start.

    Raises:
        ValueError: a negative ``warmup_epochs``, settings of ``hardware`` that are wrong, or a
            selection by perturbation where one sampled candidate runs at a time.
    """

    final_lr_share: ClassVar[float] = 0.0

    seed: int = 0
    alpha_lr: float = 3e-4
    alpha_betas: tuple[float, float] = (0.5, 0.999)
    alpha_weight_decay: float = 1e-3
    warmup_epochs: int = 0
    hardware: Hardware | Mapping[str, Any] | None = None
    selection: Selection = "magnitude"
    search_epochs: int | None = None
    valid: Iterator[Batch] = field(init=False, repr=False, default_factory=lambda: iter(()))
    op: MixedOp = field(init=False, repr=False, default_factory=WeightedSum)

    def __post_init__(self) -> None:
        if self.warmup_epochs < 0:
            raise ValueError(f"warmup_epochs must not be negative, got {self.warmup_epochs}")
        self.hardware = checked_hardware(self.hardware)
        check_selection(self.selection, self.search_epochs, (self.op, self.learning_op))

    @property
    def learning_op(self) -> MixedOp:
        """How candidates combine in the steps that train logits."""
        return self.op

    @property
    def one_by_one(self) -> bool:
        """Whether choices are decided one after the other, each for one candidate."""
        return self.selection == "perturbation"

    @property
    def mixed_ops(self) -> tuple[str, ...]:
        """Names of the mixed operators that it learns by."""
        op = self.learning_op
        made = MIXED_OPS.items()
        return tuple(n for n, kind in made if isinstance(kind, type) and isinstance(op, kind))

    def check(self, model: nn.Module, inputs: Nest) -> None:
        """Raise InvalidSpace if candidates give what this algorithm cannot combine.

        A decision that has no logits is refused as well.
        """
        logits_of(model)
        check_inputs(model, self.op, one_by_one=self.one_by_one)
        check_alike(model, self.learning_op, inputs)

    def check_settings(self, settings: TrainSettings) -> None:
        """Refuse a training that is over before the first decision."""
        if self.selection == "perturbation":
            search_epochs_of(self.search_epochs, self.warmup_epochs, settings.epochs)

    def relaxed(self, model: nn.Module) -> Relaxation:
        """Return the model's relaxation, with initial logits."""
        return Relaxation(model, self.op, seed=self.seed)

    def attach(self, training: Training) -> None:
        """Give every choice of the model its logits.

        Raises:
            InvalidSpace: a decision cannot be relaxed, or there is none.
        """
        self.training = training
        self.relaxation = self.relaxed(training.model)
        check_inputs(training.model, self.op, one_by_one=self.one_by_one)
        if not self.relaxation.vectors:
            raise InvalidSpace("the model has no layer choices, whose logits could be learned")
        self.perturbation: Perturbation | None = None
        if self.selection == "perturbation":
            count = search_epochs_of(self.search_epochs, self.warmup_epochs, training.epochs)
            self.perturbation = Perturbation(
                self.relaxation, training, seed=self.seed, search_epochs=count
            )
        self.penalty: Penalty | None = None
        if (hardware := checked_hardware(self.hardware)) is not None:
            self.relaxation.detach()  # costs are measured without a search in the model
            self.penalty = Penalty(hardware, self.costed(), training.example)
            self.relaxation.attach()
            self.penalty.aim(self.expected_cost())
        self.optimizer = torch.optim.Adam(
            self.relaxation.vectors.values(),
            self.alpha_lr,
            self.alpha_betas,
            weight_decay=self.alpha_weight_decay,
        )

    def costed(self) -> nn.Module:
        """Return the model whose costs are expected, with the labels of the one that is trained."""
        return self.training.model

    @property
    def alphas(self) -> list[nn.Parameter]:
        """The logits that are learned now: none while warming up, or once all are decided."""
        return self.relaxation.live() if self.training.epoch >= self.warmup_epochs else []

    def penalised(self, loss: Tensor) -> Tensor:
        """Return the loss with the hardware's part."""
        return loss if self.penalty is None else self.penalty(loss, self.relaxation.weights())

    def weight_step(self, batch: Batch) -> Tensor:
        """Train the weights on one batch and return its loss; logit gradients are not computed."""
        with self.relaxation.frozen_alphas():
            loss = self.training.loss(batch)
            self.training.descend(loss)
        return loss.detach()

    def alpha_step(self, batch: Batch, alphas: Sequence[nn.Parameter]) -> Tensor:
        """Train the logits on one batch and return its loss; weight gradients are not computed."""
        loss = self.training.loss(batch, smoothing=0.0)
        return self.descend(alphas, loss, gradients(self.penalised(loss), alphas))

    def joint_step(self, batch: Batch) -> Tensor:
        """Train weights and logits on one batch, by one backward pass, and return its loss."""
        alphas = self.alphas
        if not alphas:
            return self.weight_step(batch)
        loss = self.training.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.training.descend(self.penalised(loss))
        grads = [torch.zeros_like(a) if a.grad is None else a.grad for a in alphas]
        return self.descend(alphas, loss, grads)

    def descend(
        self, alphas: Sequence[nn.Parameter], loss: Tensor, grads: Sequence[Tensor]
    ) -> Tensor:
        """Step the logits by gradients averaged over ranks, and return the mean loss.

        Args:
            alphas: to step.
            loss: that the gradients are of.
            grads: the gradients.
        """
        mean = loss.detach().clone()
        self.training.average([*grads, mean])
        self.training.check(mean)
        for alpha, gradient in zip(alphas, grads, strict=True):
            alpha.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return mean

    def epoch_end(self) -> Metrics:
        """Decide what is due, and return entropy, expected cost, and every probability.

        Raises:
            FloatingPointError: logits are no numbers.
            RuntimeError: ranks hold different logits.
        """
        decided: Metrics = {}
        if self.perturbation is not None:
            self.perturbation.decide(self.valid)
            decided["undecided"] = float(len(self.relaxation.live()))
        p = self.probabilities()
        check_finite(p)
        learned = [vector for group in self.optimizer.param_groups for vector in group["params"]]
        check_ranks_agree(self.training, learned, "logits")
        row: Metrics = {"entropy": self.relaxation.entropy(), **decided}
        if self.penalty is not None:
            row[f"expected_{self.penalty.metric}"] = self.expected_cost()
        specs = self.specs()
        for label, vector in p.items():
            pairs = zip(specs[label].options, vector, strict=True)
            row |= {f"{ALPHA}{label}.{option}": float(value) for option, value in pairs}
        return row

    def probabilities(self) -> dict[str, NDArray[np.float64]]:
        """Return the probabilities of all that is learned, by label; what is decided is certain."""
        return self.relaxation.probabilities()

    def specs(self) -> dict[str, Logits]:
        """Return what they are probabilities of."""
        return self.relaxation.specs | self.relaxation.ranking.specs

    def expected_cost(self) -> float:
        """Return the cost that the hardware's part of the loss sees, without noise."""
        assert self.penalty is not None
        p = self.relaxation.probabilities()
        like = next(iter(self.relaxation.vectors.values())).detach()
        weights = {label: torch.from_numpy(vector).to(like) for label, vector in p.items()}
        return float(self.penalty.expected(weights))

    def lr_scale(self, step: int, steps: int) -> float:
        """Return a cosine from 1 to the final share; where choices are decided, a second one."""
        if self.perturbation is None:
            return self.cosine(step / steps)
        share, factor = self.perturbation.share(step / steps)
        return factor * self.cosine(share)

    def cosine(self, share: float) -> float:
        """Return the factor of the learning rate after a share, 0 to 1, of the training."""
        final = self.final_lr_share
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share))

    def derive(self) -> dict[str, Value]:
        """Return the arg max of every choice; nodes keep their strongest edges."""
        return derived(self.training.model, self.probabilities(), strongest)

    def top_k(self, count: int) -> list[dict[str, Value]]:
        """Return that many architectures by probability, the derived one first."""
        space = inner_space(self.training.model)
        return top_k(space, self.derive(), self.probabilities(), self.specs(), count)

    def distribution(self) -> Distribution:
        """Return the probability of every option, by label."""
        specs = self.specs()
        return {
            label: list(zip(specs[label].options, vector.tolist(), strict=True))
            for label, vector in self.probabilities().items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return logits, decisions and the logits' optimizer."""
        return {
            "relaxation": self.relaxation.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "reference": None if self.penalty is None else self.penalty.reference,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
        self.relaxation.load_state_dict(state["relaxation"])
        if self.relaxation.fixed or self.relaxation.kept:
            release(self.relaxation, self.training)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.penalty is not None:
            self.penalty.reference = state["reference"]


def gradients(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of a loss, zeros where an input took no part."""
    return list(torch.autograd.grad(loss, list(inputs), allow_unused=True, materialize_grads=True))
