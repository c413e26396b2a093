"""The one-shot model (Bender et al., 2018): all candidates at once, with path dropout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest
from raynas.gradient.alike import check_alike
from raynas.gradient.path_dropout import PathDropout, Reduction
from raynas.gradient.read_inputs import check_inputs
from raynas.gradient.relaxation import Relaxation
from raynas.nn.mutable import logits_of
from raynas.supernet.ghosts import ghost_batches
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics, Training
from raynas.supernet.weights_only import WeightsOnly


@ONE_SHOTS.register("one_shot", aliases=("path_dropout",))
@dataclass(kw_only=True, eq=False)
class OneShotModel(WeightsOnly):
    """Trains all candidates together, and drops more of them the longer it trains.

    Bender, Kindermans, Zoph, Vasudevan and Le, 2018, "Understanding and Simplifying One-Shot
    Architecture Search" (ICML), section 3.2. A batch is cut into ghost batches, each with dropped
    paths and batch statistics of its own; their gradients make one step. Candidates that a step
    drops everywhere do not run, and neither decay nor momentum moves them. An architecture is
    scored with all others dropped, and with BatchNorm statistics of its own.

    Differs: the kept candidates' mean stands for their sum by default, so that a single one has
    the scale that the layers behind were trained with, also where no BatchNorm restores it; of a
    choice whose candidates would all be dropped, one is kept; statistics are taken over images of
    the training split instead of the batch that is scored. In a cell every edge is a choice of its
    own, whose candidates are counted alone.

    Args:
        seed: fixes which paths are dropped.
        drop_rate: probability that all k candidates of a choice are dropped, had each of them the
            probability ``drop_rate ** (1 / k)``, which it has at the last step; it rises linearly
            from 0 at the first (ours: 0.05; the paper tunes it for every space).
        ghost_batches: parts of a batch, fewer where each would have less than two examples (ours:
            4; the paper's have 32 examples each, of 1024).
        reduction: of the kept candidates, ``mean``, or ``sum`` as in the paper.

    Raises:
        ValueError: a probability that is none, no ghost batch, or another reduction.
    """

    sampler: ClassVar[str] = "random"

    seed: int = 0
    drop_rate: float = 0.05
    ghost_batches: int = 4
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        if not 0 <= self.drop_rate < 1:
            raise ValueError(f"drop_rate must be from 0 to below 1, got {self.drop_rate}")
        if self.ghost_batches < 1:
            raise ValueError(f"ghost_batches must be at least 1, got {self.ghost_batches}")
        if self.reduction not in ("sum", "mean"):
            raise ValueError(f"reduction: expected 'sum' or 'mean', got {self.reduction!r}")
        self._op = PathDropout(self.drop_rate, self.reduction)

    def check(self, model: nn.Module, inputs: Nest) -> None:
        """Raise InvalidSpace where candidates cannot be added, or there are no layer choices."""
        _check_choices(model)
        check_inputs(model, self._op)
        check_alike(model, self._op, inputs)

    def attach(self, training: Training) -> None:
        """Let every choice run what a pass keeps of its candidates."""
        super().attach(training)
        _check_choices(training.model)
        self._paths = Relaxation(training.model, self._op, seed=self.seed, scale=0.0)

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Train on one batch, in ghost batches."""
        training = self.training
        self._op.progress = training.step / max(training.steps - 1, 1)
        parts, losses = ghost_batches(train, self.ghost_batches), list[Tensor]()
        training.descend(self._losses(parts, losses))
        return {"loss": torch.stack(losses).sum()}

    def _losses(
        self, parts: Sequence[tuple[Batch, float]], values: list[Tensor]
    ) -> Iterator[Tensor]:
        """Yield every part's share of the batch's loss, and add its value to ``values``."""
        for number, (part, share) in enumerate(parts):
            self._paths.sample(self.training.step, number)
            loss = self.training.loss(part) * share
            values.append(loss.detach())
            yield loss


def _check_choices(model: nn.Module) -> None:
    if not logits_of(model):
        raise InvalidSpace("the model has no layer choices, whose candidates could be dropped")
