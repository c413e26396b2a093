"""ENAS: a controller learns by rewards which subnets of shared weights to draw."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core.arch import Arch, Value
from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest
from raynas.gradient.agreement import check_ranks_agree
from raynas.gradient.base import ALPHA
from raynas.gradient.controller import Controller, Path
from raynas.gradient.quiet import Quiet
from raynas.nn.mutable import activate_unchecked, space_of
from raynas.supernet.protocol import (
    ONE_SHOTS,
    Batch,
    Distribution,
    Metric,
    Metrics,
    OneShot,
    Training,
)

FURTHER = 2**31  # from here on, the streams of what ``top_k`` draws
TRIES = 20  # draws for every distinct architecture that is wanted
PERIODS = (1, 2, 4, 8)  # lengths between the learning rate's restarts: 10 to 80 of 150 epochs
FINAL_SHARE = 0.01
EQUAL = 9  # digits: what is right on two ranks is as good as on one, whatever the rounding


@ONE_SHOTS.register("enas", aliases=("EnasTrainer",))
@dataclass(kw_only=True, eq=False)
class ENAS(OneShot):
    """Trains one drawn subnet per batch and, at an epoch's end, what draws them (any space).

    The controller is an LSTM over the decisions of the space; its steps are REINFORCE with a
    moving average as baseline. A reward is a metric of one validation batch, with BatchNorm in
    training mode as in the authors' code, whose statistics are not kept. At an epoch's end
    ``candidates`` distinct draws are compared on one more batch (section 2.2 of the paper, where
    it is done once): the derived architecture is the best of the last epoch's, so that it is part
    of the state, and the others follow it; further ones are drawn. Before the first epoch's end
    the most probable option at every decision is derived. Probabilities are those of the derived
    architecture's decisions, each given the decisions before it; of a set of any number each
    option's own, of one of k those of the first pick.

    Source: Pham et al., 2018, arXiv:1802.03268; numbers are those of the authors' code for cells
    (``enas_micro``). For whole networks (``enas_macro``) it has controller_lr=0.001,
    controller_steps=50, samples=20, tanh_constant=1.5, epochs=310, batch_size=128,
    weight_decay=2.5e-4.

    Differs: the baseline begins at the first reward, not at 0, which would first encourage
    whatever was drawn; the entropy is that of the distributions, in the authors' macro search -p ln
    p of what was drawn; logits of operations are not bounded more tightly than others, nor are
    separable convolutions preferred at the start; the skip penalty is the divergence of the rate
    that bits are drawn with, not of half its logit. The learning rate restarts at 1, 3 and 7
    fifteenths of the training, which is every 10, 20, 40 and 80 of the authors' 150 epochs.

    Args:
        seed: fixes the controller's weights and all draws.
        controller_lr: of the controller, by Adam.
        controller_betas: of Adam.
        controller_eps: of Adam.
        controller_steps: of the controller at the end of every epoch.
        samples: subnets whose gradients a step of the controller averages.
        hidden: size of the controller's state.
        lstm_layers: of the controller.
        tanh_constant: largest absolute logit; None does not bound them.
        temperature: by which logits are divided; None is 1.
        entropy_weight: of the entropy, in nats, which is added to the reward.
        baseline_decay: weight of the past in the moving average of rewards.
        skip_weight: of the skip penalty in the loss: of every set of any number (a layer's skip
            connections, say), the divergence of its bits from ``skip_target``; the mean of these.
        skip_target: share of such bits that should be set.
        candidates: draws that are compared at an epoch's end.
        reward: None is the task's objective; or a column of the task, such as ``loss`` or
            ``f1:max``, or the path ``module:name`` of a function of (outputs, targets). An object
            of this class also takes the function itself, which a run folder names by its path.

    Raises:
        ValueError: a number out of range, or a reward that cannot be imported.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 150,
        "batch_size": 160,
        "lr": 0.05,
        "weight_decay": 1e-4,
        "label_smoothing": 0.0,
    }

    seed: int = 0
    controller_lr: float = 0.0035
    controller_betas: tuple[float, float] = (0.0, 0.999)
    controller_eps: float = 1e-3
    controller_steps: int = 30
    samples: int = 10
    hidden: int = 64
    lstm_layers: int = 1
    tanh_constant: float | None = 1.10
    temperature: float | None = None
    entropy_weight: float = 1e-4
    baseline_decay: float = 0.99
    skip_weight: float = 0.8
    skip_target: float = 0.4
    candidates: int = 10
    reward: str | None = None
    baseline: float | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self._check_numbers()
        self._metric = reward_metric(self.reward)
        self._quiet = Quiet()
        self._ranked: list[tuple[float, Arch]] = []
        self._mean_reward = math.nan

    def _check_numbers(self) -> None:
        for name in ("controller_steps", "samples", "hidden", "lstm_layers", "candidates"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("controller_lr", "controller_eps", "tanh_constant", "temperature"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        for name in ("entropy_weight", "skip_weight"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        if not 0 <= self.baseline_decay < 1:
            raise ValueError(f"expected 0 <= baseline_decay < 1, got {self.baseline_decay}")
        if not 0 < self.skip_target < 1:
            raise ValueError(f"expected 0 < skip_target < 1, got {self.skip_target}")

    def check(self, model: nn.Module, inputs: Nest) -> None:
        """Raise InvalidSpace if there is nothing to decide."""
        if not space_of(model).choices:
            raise InvalidSpace("the model has no choices, which a controller could decide")

    def attach(self, training: Training) -> None:
        """Make the controller of the model's space.

        Raises:
            InvalidSpace: there is nothing to decide.
            ValueError: the task does not measure the reward.
        """
        self.training = training
        self.check(training.model, training.example)
        training.check_reward(self._metric)
        self.controller = Controller(
            space_of(training.model),
            seed=self.seed,
            hidden=self.hidden,
            layers=self.lstm_layers,
            tanh_constant=self.tanh_constant,
            temperature=self.temperature,
            skip_target=self.skip_target,
        )
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
            self.controller.parameters(),
            self.controller_lr,
            self.controller_betas,
            self.controller_eps,
        )

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Train a drawn subnet; after an epoch's last one, do the controller's steps."""
        training = self.training
        with torch.no_grad():
            path = self.controller.sample(self._rng(0))
        activate_unchecked(training.model, path.arch)
        loss = training.loss(train)
        training.descend(loss)
        if self._ends_an_epoch():
            self._train_controller(valid)
        return {"loss": loss.detach()}

    def _ends_an_epoch(self) -> bool:
        steps = max(1, self.training.steps // self.training.epochs)
        return (self.training.step + 1) % steps == 0

    def _rng(self, stream: int) -> np.random.Generator:
        """Return what draws in a step: a function of seed, step and stream, equal on all ranks."""
        return np.random.default_rng([self.seed, self.training.step, stream])

    def _train_controller(self, valid: Iterator[Batch]) -> None:
        rewards, streams = list[float](), range(self.samples)
        for number in range(self.controller_steps):
            first = 1 + number * self.samples
            paths = [self.controller.sample(self._rng(first + at)) for at in streams]
            values = self._rewards([(path.arch, next(valid)) for path in paths])
            self.reinforce(paths, values)
            rewards += [value for value in values if math.isfinite(value)]
        self._mean_reward = sum(rewards) / len(rewards) if rewards else math.nan
        batch = next(valid)
        first = 1 + self.controller_steps * self.samples
        archs = self._distinct(self.candidates, first, [])
        values = self._rewards([(path.arch, batch) for path in archs])
        self._ranked = ranked(archs, values)

    def reinforce(self, paths: Sequence[Path], rewards: Sequence[float]) -> None:
        """Step the controller towards what gave more than the baseline.

        A reward that is no number, since its batch left the metric undefined, does not count.

        Args:
            paths: as they were drawn.
            rewards: of each.
        """
        losses = [
            self.sample_loss(path, reward)
            for path, reward in zip(paths, rewards, strict=True)
            if math.isfinite(reward)
        ]
        if losses:
            self.optimizer.zero_grad(set_to_none=True)
            torch.stack(losses).mean().backward()
            self.optimizer.step()

    def sample_loss(self, path: Path, reward: float) -> Tensor:
        """Return the loss of one draw, shape (), after moving the baseline by its reward."""
        value = reward + self.entropy_weight * float(path.entropy.detach())
        if self.baseline is None:
            self.baseline = value
        self.baseline += (1 - self.baseline_decay) * (value - self.baseline)
        return -path.log_p * (value - self.baseline) + self.skip_weight * path.penalty

    @torch.no_grad()
    def _rewards(self, pairs: Sequence[tuple[Arch, Batch]]) -> list[float]:
        """Return the reward of every architecture on its batch, the mean over ranks."""
        training, rewards = self.training, list[Tensor]()
        with self._quiet(training.model):
            for arch, batch in pairs:
                activate_unchecked(training.model, arch)
                rewards.append(training.reward(batch, self._metric).double())
        together = torch.stack(rewards)
        training.average([together])
        values: list[float] = together.tolist()
        return values

    @torch.no_grad()
    def _distinct(self, count: int, first: int, others: Sequence[Arch]) -> list[Path]:
        """Draw architectures that differ from each other and from others, if there are enough.

        Args:
            count: how many.
            first: stream of the first draw; the next ones follow.
            others: that are not wanted.
        """
        seen, paths = set(others), list[Path]()
        count = min(count, self.controller.space.size() - len(seen))
        for at in range(TRIES * count):
            if len(paths) == count:
                break
            path = self.controller.sample(self._rng(first + at))
            if path.arch not in seen:
                seen.add(path.arch)
                paths.append(path)
        return paths

    def epoch_end(self) -> Metrics:
        """Return mean reward, baseline, entropy on the derived path, and its probabilities.

        Raises:
            RuntimeError: ranks hold different controllers.
        """
        check_ranks_agree(self.training, list(self.controller.parameters()), "controllers")
        path = self._derived_path()
        row: Metrics = {"reward": self._mean_reward, "entropy": float(path.entropy.detach())}
        if self.baseline is not None:
            row["baseline"] = self.baseline
        for label, pairs in self._distribution(path).items():
            row |= {f"{ALPHA}{label}.{option}": value for option, value in pairs}
        return row

    def lr_scale(self, step: int, steps: int) -> float:
        """Return a cosine that restarts after 1, 3 and 7 fifteenths of the steps."""
        at = step / steps * sum(PERIODS)
        for period in PERIODS:
            if at < period:
                return FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * at / period))
            at -= period
        return FINAL_SHARE

    @torch.no_grad()
    def _derived_path(self) -> Path:
        if not self._ranked:
            return self.controller.likeliest()
        return self.controller.follow(self._ranked[0][1])

    def derive(self) -> dict[str, Value]:
        """Return the best of the last epoch's candidates; at first, what is most probable."""
        return dict(self._derived_path().arch)

    def top_k(self, count: int) -> list[dict[str, Value]]:
        """Return the last epoch's candidates by their rewards, then further distinct draws."""
        archs = [arch for _, arch in self._ranked] or [self._derived_path().arch]
        if len(archs) < count:
            archs += [path.arch for path in self._distinct(count - len(archs), FURTHER, archs)]
        return [dict(arch) for arch in archs[:count]]

    def distribution(self) -> Distribution:
        """Return the probabilities of the derived architecture's decisions, by label."""
        return self._distribution(self._derived_path())

    def _distribution(self, path: Path) -> Distribution:
        decisions = self.controller.space.decisions
        return {
            label: list(zip(decisions[label].options, p.tolist(), strict=True))
            for label, p in path.p.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return controller, its optimizer, the baseline, and the candidates with their rewards."""
        return {
            "controller": {k: v.clone() for k, v in self.controller.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "baseline": self.baseline,
            "ranked": [[reward, dict(arch)] for reward, arch in self._ranked],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
        self.controller.load_state_dict(state["controller"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.baseline = state["baseline"]
        self._ranked = [(reward, Arch(arch)) for reward, arch in state["ranked"]]


def ranked(paths: Sequence[Path], rewards: Sequence[float]) -> list[tuple[float, Arch]]:
    """Return rewards and architectures, the best first, of equals the more probable.

    Args:
        paths: of which each was drawn.
        rewards: of each; one that is no number stands last.
    """

    def key(at: int) -> tuple[float, float, int]:
        worth = rewards[at] if math.isfinite(rewards[at]) else -math.inf
        return -round(worth, EQUAL), -round(float(paths[at].log_p.detach()), EQUAL), at

    return [(rewards[at], paths[at].arch) for at in sorted(range(len(paths)), key=key)]


def reward_metric(reward: Metric | None) -> Metric | None:
    """Return a function for its path ``module:name``; a column, a function and None as they are.

    Raises:
        ValueError: there is no such function.
    """
    if not isinstance(reward, str) or reward.rpartition(":")[2] in ("max", "min"):
        return reward
    module, colon, name = reward.partition(":")
    if not colon:
        return reward
    try:
        function: Any = importlib.import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"reward {reward!r} is no function that can be imported here: {error}"
        ) from None
    if not callable(function):
        raise ValueError(f"reward {reward!r} must be a function of (outputs, targets)")
    own: Metric = function
    return own
