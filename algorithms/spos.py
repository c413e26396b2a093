"""Single Path One-Shot (Guo et al., 2020, arXiv:1904.00420): one uniform path per batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision
from raynas.core.nest import Nest
from raynas.nn.choice import LayerChoice
from raynas.nn.mutable import activate_unchecked, mutables, space_of
from raynas.nn.subnet_switch import SubnetSwitch
from raynas.supernet.balance import Balance, BalancedPaths, CostMetric, balanced_paths
from raynas.supernet.fairness import FairPaths
from raynas.supernet.inherit import spread_weights
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics, Training, cosine
from raynas.supernet.weights_only import WeightsOnly


@ONE_SHOTS.register("spos", aliases=("RandomOneShot", "SinglePathTrainer"))
@dataclass(kw_only=True, eq=False)
class SPOS(WeightsOnly):
    """Trains a supernet by sampling, for every batch, one architecture uniformly.

    Differs: by default it first trains a single path and starts all candidates from it. From
    random weights, spaces of many positions and candidates (21 of 6, say) do not begin to learn
    for thousands of steps, since a path seldom meets weights that fit its own. What the authors'
    code balances is uniform by default, as in the paper.

    Args:
        seed: fixes the paths.
        warm_start_steps: training steps of the first path, made of every choice's first
            candidate that has weights, at most half of all steps, and none where the weights come
            from an earlier training; 0 is the published algorithm.
        warm_start_lr_scale: learning rate of these steps over that of the others.
        warm_start_noise: noise on inherited weights, as a share of their standard deviation.
        balance: a cost, ``macs``, ``params`` or ``activation_bytes``, by which paths are spread
            evenly over bins instead of drawn uniformly, as in the authors' code; None does not.
            Costs are those of ``raynas.costs.cost_table.CostTable``; where they are no sums over a
            model's parts, every path tried is measured.
        balance_range: least and most cost; None takes those of the space.
        balance_bins: of equal width, each as probable as the others.
        balance_tries: paths drawn for one bin; then the last one is taken, whatever it costs.
        fairness: ``strict`` trains, in every step, as many paths as there are candidates, each of
            them once, by one step of the optimizer on the sum of their gradients (FairNAS,
            arXiv:1907.01845, algorithm 1; see ``raynas.supernet.fairness.FairPaths`` for choices
            of different numbers of candidates). None trains one path.

    Raises:
        ValueError: a negative setting, or both ``balance`` and ``fairness``.
    """

    sampler: ClassVar[str] = "evolution"

    seed: int = 0
    warm_start_steps: int = 100
    warm_start_lr_scale: float = 2.0
    warm_start_noise: float = 0.05
    balance: CostMetric | None = None
    balance_range: tuple[float, float] | None = None
    balance_bins: int = 7
    balance_tries: int = 500
    fairness: Literal["strict"] | None = None

    def __post_init__(self) -> None:
        for name in ("warm_start_steps", "warm_start_lr_scale", "warm_start_noise"):
            if (value := vars(self)[name]) < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        if self.fairness not in (None, "strict"):
            raise ValueError(f"fairness: expected 'strict' or None, got {self.fairness!r}")
        if self.fairness and self.balance:
            raise ValueError(
                "balance and fairness='strict' exclude each other: paths of which candidates have "
                "equal shares cannot be drawn by their costs"
            )
        self._balance_settings()
        self._inherited = False

    def _balance_settings(self) -> Balance | None:
        """Return what ``balance`` and its settings say, checked also where they are not used."""
        settings = Balance(
            self.balance or "macs", self.balance_range, self.balance_bins, self.balance_tries
        )
        if self.balance is None and self.balance_range is not None:
            raise ValueError("balance_range is that of a balance: pass balance='macs', or no range")
        return None if self.balance is None else settings

    def check(self, model: nn.Module, inputs: Nest) -> None:
        """Raise InvalidSpace where paths of the model cannot be balanced, or be fair."""
        self._draw_from(space_of(model), model, inputs)

    def attach(self, training: Training) -> None:
        """Read the space off the model."""
        super().attach(training)
        self._space = space_of(training.model)
        self._switch, self._inherited = SubnetSwitch(training.model), training.inherited
        self._first = first_path(self._space, training.model)
        self._left_out = 0
        self._draw_from(self._space, training.model, training.example)

    def _draw_from(self, space: ArchSpace, model: nn.Module, inputs: Nest) -> None:
        balance = self._balance_settings()
        self._fair = FairPaths(space, self.seed) if self.fairness else None
        self._balanced: BalancedPaths | None = None
        if balance is not None:
            self._balanced = balanced_paths(balance, space, model, inputs)

    def path(self, step: int) -> Arch:
        """Return the architecture of a step, the first of several."""
        return self.sampled(step)[0][0]

    def sampled(self, step: int) -> list[tuple[Arch, bool]]:
        """Return the architectures of a step: a function of the seed, so equal on all ranks.

        Beside each stands whether it costs what was asked of it, always true without ``balance``.
        """
        warm = self._warm_steps(self.training.steps)
        if step < warm:
            return [(self._first, True)]
        if self._fair is not None:
            begin = (step - warm) * self._fair.per_step
            return [(self._fair.path(begin + at), True) for at in range(self._fair.per_step)]
        rng = np.random.default_rng([self.seed, step])
        if self._balanced is not None:
            return [self._balanced.draw(rng)]
        return [(self._space.sample(rng), True)]

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Train one path on one batch, or several that are fair together."""
        training = self.training
        if training.step == self._warm_steps(training.steps) > 0:
            self._spread()
        paths, losses = self.sampled(training.step), list[Tensor]()
        training.descend(self._losses(train, [path for path, _ in paths], losses))
        row: Metrics = {"loss": torch.stack(losses).mean() if len(losses) > 1 else losses[0]}
        if self._balanced is not None:
            row["in_bin"] = float(np.mean([fits for _, fits in paths]))
        return row

    def _losses(
        self, batch: Batch, paths: Sequence[Arch], values: list[Tensor]
    ) -> Iterator[Tensor]:
        """Yield the loss of every path, and add its value to ``values``."""
        for path in paths:
            self._switch(path)
            loss = self.training.loss(batch)
            values.append(loss.detach())
            yield loss

    def _warm_steps(self, steps: int) -> int:
        return 0 if self._inherited else min(self.warm_start_steps, steps // 2)

    def _spread(self) -> None:
        """Give the trained path's weights to all candidates, and forget its momentum."""
        activate_unchecked(self.training.model, self._first)
        rng = torch.Generator().manual_seed(self.seed)
        left_out = spread_weights(self.training.model, self.warm_start_noise, rng)
        self._left_out = len(left_out)
        self.training.optimizer.state.clear()

    def lr_scale(self, step: int, steps: int) -> float:
        """Return a cosine with a rise for the warm start, and another for the paths after it."""
        warm = self._warm_steps(steps)
        if step < warm:
            return self.warm_start_lr_scale * min(1.0, (step + 1) / max(0.1 * warm, 1.0))
        return cosine(step - warm, steps - warm)

    def epoch_end(self) -> Metrics:
        """Add how many candidates could not inherit at the warm start's end, and began afresh."""
        return {"not_inherited": float(self._left_out)} if self.warm_start_steps else {}

    def state_dict(self) -> dict[str, Any]:
        """Return what the history repeats: paths are functions of seed and step."""
        return {"left_out": self._left_out}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
        self._left_out = state["left_out"]


def first_path(space: ArchSpace, model: nn.Module) -> Arch:
    """Return the first architecture whose choices take, where they can, a candidate with weights.

    Others inherit from it, and from one without weights nobody could.
    """
    trained: dict[str, Value] = {}
    for choice in mutables(model):
        if isinstance(choice, LayerChoice):
            pairs = zip(choice.options, choice.layers(), strict=True)
            heavy = [
                option for option, layer in pairs if next(layer.parameters(), None) is not None
            ]
            if heavy:
                trained.setdefault(str(choice.label), heavy[0])

    def pick(decision: Decision) -> Value:
        wanted = trained.get(decision.label)
        if wanted is None or not isinstance(decision, Choice) or wanted not in decision.options:
            return next(iter(decision.values()))
        return wanted

    return space.decided(pick)
