"""ProxylessNAS by REINFORCE (Cai et al., 2019, arXiv:1812.00332, section 3.3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from raynas.gradient.alpha_words import ADAM_OF_ALPHAS, modular
from raynas.gradient.base import Differentiable
from raynas.gradient.due import is_due
from raynas.gradient.hardware import checked_hardware
from raynas.gradient.mixed.index import Index
from raynas.gradient.quiet import Quiet
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics

BASELINE_STEP = 0.99  # as the authors' code: the baseline is almost the latest mean
IN_A_LOSS = ("form", "weight", "power")


@ONE_SHOTS.register(
    "proxyless_rl",
    aliases={
        "REINFORCEOptim": modular(
            {**ADAM_OF_ALPHAS, "warmup_epochs": 0, "alpha_every": None}, batch_size="samples"
        )
    },
)
@dataclass(kw_only=True, eq=False)
class ProxylessRL(Differentiable):
    """Trains one sampled path per batch, and logits by the rewards of sampled networks.

    A reward is the accuracy on a validation batch, times (reference / cost) ** reward_power with
    ``hardware``. Networks run in training mode, their BatchNorm statistics are not kept. The
    baseline moves to the mean reward before the advantages are taken.

    Args:
        seed: fixes the initial logits and all draws.
        samples: networks per update of the logits.
        alpha_every: weight steps between updates; None spreads one pass over the validation split
            over an epoch, as ModularNAS does.
        reward_power: how much the cost counts.
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained.
        hardware: cost in the reward, such as ``{"target": "macs"}``; its ``reference`` is the
            expected cost at the start unless it is given.
        selection: how the architecture is derived: ``magnitude``, the largest probabilities;
            ``perturbation`` is for algorithms that mix candidates.
        search_epochs: goes with ``perturbation``.

    Raises:
        ValueError: a number out of range, or a setting of ``hardware`` that only a loss has.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 145,  # 25 of warm-up and 120
        "lr": 0.025,
        "weight_decay": 4e-5,
        "label_smoothing": 0.1,
        "clip": None,
    }

    samples: int = 10
    alpha_every: int | None = 5
    reward_power: float = 0.1
    alpha_lr: float = 1e-3
    alpha_betas: tuple[float, float] = (0.0, 0.999)
    alpha_weight_decay: float = 0.0
    warmup_epochs: int = 25
    op: Index = field(init=False, repr=False, default_factory=Index)
    baseline: float | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        every = 1 if self.alpha_every is None else self.alpha_every
        if self.samples < 2 or every < 1 or self.reward_power < 0:
            raise ValueError(
                "expected at least 2 samples, alpha_every of at least 1 and a reward_power that is "
                f"not negative, got {self.samples}, {self.alpha_every} and {self.reward_power}"
            )
        super().__post_init__()
        hardware = checked_hardware(self.hardware)
        for name in IN_A_LOSS:
            if hardware is not None and name in hardware.model_fields_set:
                raise ValueError(f"hardware.{name} has no part in a reward; use reward_power")
        self._quiet = Quiet()

    @property
    def mixed_ops(self) -> tuple[str, ...]:
        """Those whose path is drawn by the logits."""
        return ("index", "binary_gate")

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Do a weight step; after every few of them, an update of the logits."""
        training = self.training
        self.relaxation.sample(training.step, 0)
        metrics: Metrics = {"loss": self.weight_step(train)}
        if self.alphas and is_due(training, self.alpha_every):
            metrics["reward"] = self.reinforce(next(valid))
        return metrics

    def reinforce(self, batch: Batch) -> float:
        """Step the logits towards what gave more than the baseline; return the mean reward."""
        rewards, paths = list[Tensor](), list[dict[str, int]]()
        for number in range(self.samples):
            self.relaxation.sample(self.training.step, 1 + number)
            paths.append({k: m.draw for k, m in self.relaxation.mixers.items()})
            rewards.append(self.reward(batch, paths[-1]))
        together = torch.stack(rewards)
        self.training.average([together])
        values: list[float] = together.tolist()
        mean = sum(values) / len(values)
        if self.baseline is None:
            self.baseline = mean
        self.baseline += BASELINE_STEP * (mean - self.baseline)
        for label, alpha in self.relaxation.vectors.items():
            alpha.grad = self._gradient(
                alpha,
                [(path[label], r - self.baseline) for path, r in zip(paths, values, strict=True)],
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return mean

    @torch.no_grad()
    def reward(self, batch: Batch, path: Mapping[str, int]) -> Tensor:
        """Return what the network that was drawn is worth, shape ()."""
        with self._quiet(self.training.model):
            worth = self.training.reward(batch).double()
        if self.penalty is None or self.penalty.reference is None:
            return worth
        picked = {
            label: nn.functional.one_hot(torch.tensor(path[label]), len(vector)).to(vector)
            for label, vector in self.relaxation.vectors.items()
        }
        cost = self.penalty.expected(picked).double().clamp_min(1e-12)
        return worth * (self.penalty.reference / cost) ** self.reward_power

    @staticmethod
    def _gradient(alpha: Tensor, taken: list[tuple[int, float]]) -> Tensor:
        """Return the mean of advantage times the gradient of minus the log-probability."""
        p = alpha.detach().softmax(-1)
        gradient = torch.zeros_like(p)
        for at, advantage in taken:
            gradient += advantage * p
            gradient[at] -= advantage
        return gradient / len(taken)

    def state_dict(self) -> dict[str, Any]:
        """Return ProxylessNAS' state and the baseline."""
        return super().state_dict() | {"baseline": self.baseline}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
        super().load_state_dict(state)
        self.baseline = state["baseline"]
