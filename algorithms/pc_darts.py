"""PC-DARTS: partial channel connections (Xu et al., 2020, arXiv:1907.05737)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from raynas.gradient.base import DARTS_TRAINING
from raynas.gradient.bilevel import bilevel_step
from raynas.gradient.edges import EdgeWeights
from raynas.gradient.smoothing import Smoothed
from raynas.nn.logits import Logits
from raynas.nn.modelspace import ModelSpace
from raynas.nn.partial_space import PartialSpace, whole_of
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics, Training


@ONE_SHOTS.register("pc_darts")
@dataclass(kw_only=True, eq=False)
class PCDARTS(Smoothed):
    """Mixes candidates on a share of the channels only, and weighs a node's edges.

    The other channels pass a choice by (max-pooled where it reduces the size), and all are
    shuffled; a mixture then takes that share of the memory. In a cell (and an ``InputChoice`` whose
    inputs come from layer choices), a softmax over the in-edges
    of each node multiplies what they bring; an edge ranks by its largest real probability times
    that weight.

    The supernet is another than the space's: its candidates are narrower, and architectures are
    scored with it as it was trained: ``Result.model()`` is narrow, ``Result.model(whole=True)`` is
    the whole network, untrained. Costs are those of whole networks, also in the loss, and what is
    trained without the supernet's weights is whole.

    Differs: a choice that changes the channels, or whose candidates cannot be narrowed, is mixed
    whole, and a search in which none could be partial is refused. A choice inside of a partial
    one's candidate is as narrow as that, and not partial once more. What passes by is pooled with
    the ends of odd sizes included.

    Args:
        seed: fixes the initial logits and the perturbations.
        partial: input channels per channel that is mixed; 1 mixes all, and weighs edges alone.
        perturb: weights learn under mixtures as they are (``none``), or, as in SDARTS
            (arXiv:2002.05283), under perturbed ones: ``random`` or ``adversarial``.
        epsilon: largest perturbation of a mixture's weight that the epochs lead to, from 0.03.
        attack_steps: of the gradient ascent that is the adversary.
        alpha_lr: learning rate of the logits and of the edges' weights, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained.
        hardware: cost that takes part in the logits' loss, such as ``{"target": "macs"}``.
        selection: how the architecture is derived: ``magnitude``, by the largest probabilities; or
            ``perturbation`` (DARTS-PT, arXiv:2108.04392), choice by choice after ``search_epochs``,
            by what the supernet loses on the validation split without a candidate.
        search_epochs: before the first decision by perturbation; None is the warm-up and half of
            what follows it.

    Raises:
        ValueError: ``partial`` is below 1.
    """

    defaults: ClassVar[dict[str, Any]] = {**DARTS_TRAINING, "batch_size": 256, "lr": 0.1}

    partial: int = 4
    alpha_lr: float = 6e-4
    warmup_epochs: int = 15

    def __post_init__(self) -> None:
        if self.partial < 1:
            raise ValueError(f"partial must be a whole number of at least 1, got {self.partial}")
        super().__post_init__()

    def supernet_space(self, space: ModelSpace) -> ModelSpace:
        """Return the space whose supernets this algorithm trains.

        Raises:
            InvalidSpace: no choice can be partial, or one cannot be relaxed.
        """
        return space if self.partial == 1 else PartialSpace(space, self.partial)

    def attach(self, training: Training) -> None:
        """Give the nodes' edges weights as well, learned together with the logits."""
        super().attach(training)
        self.edges = EdgeWeights(training.model, seed=self.seed)
        if self.edges.vectors:
            self.optimizer.add_param_group({"params": list(self.edges.vectors.values())})

    def costed(self) -> nn.Module:
        """Return the model at full width: that is what will run once it is found."""
        return whole_of(self.training.model)

    @property
    def alphas(self) -> list[nn.Parameter]:
        """The logits and the edges' weights, none while warming up."""
        live = super().alphas
        return [*live, *self.edges.vectors.values()] if live else []

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Do the step of the logits and the edges' weights, then that of the network's."""
        return bilevel_step(self, train, valid)

    def weight_step(self, batch: Batch) -> Tensor:
        """Train the network's weights; no gradients are computed for logits and edges."""
        with self.edges.frozen_alphas():
            return super().weight_step(batch)

    def probabilities(self) -> dict[str, NDArray[np.float64]]:
        """Return the probabilities of candidates, and those of every node's sources."""
        p, edges = super().probabilities(), self.edges.probabilities()
        # an input's strength is already in the vector of its InputChoice
        return p | {k: w * p[k] if k in p else w for k, w in edges.items()}

    def specs(self) -> dict[str, Logits]:
        """Return what they are probabilities of."""
        return super().specs() | self.edges.specs

    def state_dict(self) -> dict[str, Any]:
        """Return DARTS' state and the edges' weights."""
        return super().state_dict() | {"edges": self.edges.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
        super().load_state_dict(state)
        self.edges.load_state_dict(state["edges"])
