"""ProxylessNAS by gradients (Cai et al., 2019, arXiv:1812.00332, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast, get_args

import torch
from torch import Tensor, nn

from raynas.core.alias import Alias
from raynas.gradient.alpha_words import modular
from raynas.gradient.base import Differentiable
from raynas.gradient.due import is_due
from raynas.gradient.mixed.base import MIXED_OPS
from raynas.gradient.mixed.binary_gate import BinaryGate, Mode
from raynas.gradient.mixed.index import Index
from raynas.gradient.mixed.uniform_gate import UniformGate
from raynas.gradient.relaxation import Relaxation
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics

Init = Literal["normal", "uniform"]
Gate = Literal["binary_gate", "uniform_gate"]

BINARY_GATE_OPTIM = {
    "mode": "two",
    "alpha_lr": 6e-3,
    "alpha_betas": (0.0, 0.999),
    "alpha_weight_decay": 0.0,
    "warmup_epochs": 0,
    "alpha_every": None,
}


def sampled_of(count: Any) -> Mapping[str, Any]:
    """Return the mode of ModularNAS' ``n_samples``: two paths, or with 0 all of them."""
    if count not in (0, 2):
        raise ValueError(f"n_samples: expected 2, or 0 for all candidates, got {count!r}")
    return {"mode": "two" if count else "full_v2"}


@ONE_SHOTS.register(
    "proxyless",
    aliases={
        "ProxylessNAS": Alias(),
        "ProxylessTrainer": Alias(),
        "BinaryGateOptim": modular(BINARY_GATE_OPTIM, n_samples=sampled_of),
    },
)
@dataclass(kw_only=True, eq=False)
class Proxyless(Differentiable):
    """Trains one sampled path per batch, and logits through binary gates.

    A candidate that is not sampled has no gradient, so that neither momentum nor weight decay moves
    it. In mode ``two``, the two sampled logits are shifted after every step so that the other
    candidates' probabilities stay as they were (``renorm``).

    Differs: logits learn on the loss without label smoothing, as the authors', and also through
    candidates that give zeros, for which the authors' code drops the gradient.

    Args:
        seed: fixes the initial logits and all draws.
        mode: of the gates: ``two``, ``full`` or ``full_v2``.
        alpha_every: weight steps between updates of the logits; None spreads one pass over the
            validation split over an epoch, as ModularNAS does.
        alpha_steps: logits' steps per update.
        renorm: whether the two sampled logits are shifted after their step.
        mixed_op: ``binary_gate``, or ``uniform_gate``, whose paths are drawn uniformly.
        init: distribution of the initial logits, ``normal`` or ``uniform``.
        init_ratio: its standard deviation, or half its width.
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained.
        hardware: cost that takes part in the logits' loss, such as ``{"target": "macs"}``.
        selection: how the architecture is derived: ``magnitude``, the largest probabilities;
            ``perturbation`` is for algorithms that mix candidates.
        search_epochs: goes with ``perturbation``.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 145,  # 25 of warm-up and 120
        "lr": 0.025,
        "weight_decay": 4e-5,
        "label_smoothing": 0.1,
        "clip": None,
    }

    mode: Mode = "full_v2"
    alpha_every: int | None = 5
    alpha_steps: int = 1
    renorm: bool = True
    mixed_op: Gate = "binary_gate"
    init: Init = "normal"
    init_ratio: float = 1e-3
    alpha_lr: float = 1e-3
    alpha_betas: tuple[float, float] = (0.0, 0.999)
    alpha_weight_decay: float = 0.0
    warmup_epochs: int = 25
    op: Index | UniformGate = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.init not in get_args(Init):
            raise ValueError(f"init is one of {', '.join(get_args(Init))}, got {self.init!r}")
        if min(1 if self.alpha_every is None else self.alpha_every, self.alpha_steps) < 1:
            raise ValueError("alpha_every and alpha_steps must be at least 1")
        self.mixed_op = cast(Gate, MIXED_OPS.name_of(self.mixed_op))
        if self.mixed_op not in get_args(Gate):
            raise ValueError(
                f"mixed_op is one of {', '.join(get_args(Gate))}, got {self.mixed_op!r}"
            )
        uniform = self.mixed_op == "uniform_gate"
        self.op = UniformGate(self.mode) if uniform else Index()
        self._gate = UniformGate(self.mode) if uniform else BinaryGate(self.mode)
        super().__post_init__()

    @property
    def learning_op(self) -> BinaryGate:
        """The gate, by which the logits learn."""
        return self._gate

    def relaxed(self, model: nn.Module) -> Relaxation:
        """Return the model's relaxation, with initial logits as ``init`` says."""
        uniform = self.init == "uniform"
        return Relaxation(model, self.op, seed=self.seed, scale=self.init_ratio, uniform=uniform)

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Do a weight step; after every few of them, the logits'."""
        training, relaxation = self.training, self.relaxation
        relaxation.use(self.op)
        relaxation.sample(training.step, 0)
        metrics: Metrics = {"loss": self.weight_step(train)}
        alphas = self.alphas
        if alphas and is_due(training, self.alpha_every):
            relaxation.use(self._gate)
            for number in range(self.alpha_steps):
                relaxation.sample(training.step, 1 + number)
                before = {k: v.detach().clone() for k, v in relaxation.vectors.items()}
                metrics["valid_loss"] = self.alpha_step(next(valid), alphas)
                if self.mode == "two" and self.renorm:
                    self._rescale(before)
        return metrics

    @torch.no_grad()
    def _rescale(self, before: Mapping[str, Tensor]) -> None:
        """Shift the sampled logits so that the others' probabilities stay as they were."""
        for label, vector in self.relaxation.vectors.items():
            draw = self.relaxation.mixers[label].draw
            pair = list(draw)
            vector[pair] -= vector[pair].logsumexp(0) - before[label][pair].logsumexp(0)
