"""Progressive shrinking (Cai et al., 2020, arXiv:1908.09791): one network for all sizes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core.arch import Arch, Value
from raynas.core.decision import Decision
from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest
from raynas.core.train_settings import TrainSettings
from raynas.nn.channel_sorting import sort_channels
from raynas.nn.dimensions import Dimension, dimensions_of
from raynas.nn.mutable import activate_unchecked, space_of
from raynas.nn.subnet_switch import SubnetSwitch
from raynas.supernet.distillation import Distills, InPlace, Taught
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics, Training, cosine
from raynas.supernet.shrinking import (
    Stage,
    StageSpec,
    default_stages,
    first_epochs,
    read_stages,
    stages_of,
    untrained,
)
from raynas.supernet.weights_only import WeightsOnly

RESOLUTION = 2**31  # the stream of a step's resolution, which all of its subnets share
ELASTIC = ("kernel", "depth", "width")


@ONE_SHOTS.register(
    "progressive_shrinking",
    aliases=(
        "ProgressiveShrinkingEstimator",
        "ProgressiveShrinkingEstim",
        "ProgressiveShrinking",
        "once_for_all",
        "ofa",
    ),
)
@dataclass(kw_only=True, eq=False)
class ProgressiveShrinking(WeightsOnly):
    """Trains the whole network, then ever smaller ones within it, which learn from it.

    Sizes join stage by stage: kernels, depths, widths; what has joined stays elastic, and so is the
    resolution throughout. Before widths join, channels are sorted by importance. Works on any space
    with elastic layers (``raynas.nn.Conv2d``, ``Repeat``, ``Resolution``, ...); its other decisions
    are drawn uniformly all the time.

    Differs: channels that a stage before has trained as a narrower layer keep to it when the rest
    is sorted. A stage that does not name a size keeps it elastic, where ModularNAS goes back to the
    whole. Subnets that a step draws twice are trained once, as in ModularNAS.

    Args:
        seed: fixes what is drawn.
        stages: what is elastic from when on, a list of dicts. Each has ``epochs``, ``lr_scale``,
            ``warmup`` (share of the stage), ``subnets`` (in each step), and lists of the options of
            ``resolution``, ``kernel``, ``depth`` (or ``sequential``) and ``width`` (or ``spatial``,
            ``expand``), all of them optional: ``[{"epochs": 10}, {"epochs": 5, "kernel": [3, 5]}]``
            (see ``raynas.supernet.shrinking.StageSpec``). None takes those of the paper.
        use_ratio: whether stages list ratios of the largest size instead of options.
        distill: weight of learning from the whole network's outputs once it is trained; 0 does not.
        sandwich: whether every step also trains the largest and the smallest network of its stage
            (Yu & Huang, 2019, arXiv:1903.05134).
        in_place: whether networks learn from the largest one of the same step, as it is then (in
            the paper from that alone, here from the targets too), and not from the whole network
            as it was before it shrank; needs ``sandwich``, whose first network that is.
        sort_channels: whether channels are sorted before widths join, by the absolute sum of
            weights.

    Raises:
        ValueError: stages that are no stages, a negative weight, or ``in_place`` alone.
    """

    sampler: ClassVar[str] = "evolution"
    defaults: ClassVar[dict[str, Any]] = {"weight_decay": 3e-5, "decay_norms": False}

    seed: int = 0
    stages: Any = None
    use_ratio: bool = False
    distill: float = 1.0
    sandwich: bool = False
    in_place: bool = False
    sort_channels: bool = True

    def __post_init__(self) -> None:
        if self.distill < 0:
            raise ValueError(f"distill must not be negative, got {self.distill}")
        if self.in_place and not (self.sandwich and self.distill):
            raise ValueError(
                "in_place: networks learn from the largest one of their step, which sandwich=True "
                "trains, and by distill, which must be above 0"
            )
        self._specs = None if self.stages is None else read_stages(self.stages)
        if self._specs is not None and self._specs[0].epochs is not None:
            self.own_epochs = sum(spec.epochs or 0 for spec in self._specs)
        self._epochs: int | None = None

    def check_settings(self, settings: TrainSettings) -> None:
        """Raise ValueError for an average of weights, a schedule, or too few epochs."""
        if settings.ema is not None:
            raise ValueError(
                "ema: progressive_shrinking moves channels, which an average does not follow; "
                "leave it out"
            )
        if settings.schedule is not None:
            raise ValueError(
                "schedule: progressive_shrinking has one for each of its stages (lr_scale, "
                "warmup); leave it out"
            )
        self._epochs = settings.epochs

    def check(self, model: nn.Module, inputs: Nest) -> None:
        """Raise InvalidSpace where nothing is elastic, and ValueError where stages do not fit."""
        plan = self._planned(model)
        if left := untrained(plan, self._dimensions):
            told = "; ".join(f"{label} {list(options)}" for label, options in left.items())
            warnings.warn(
                f"no stage trains {told[:200]}: a search of this supernet may draw them all the "
                "same, and score them by weights that never learned them",
                UserWarning,
                stacklevel=2,
            )
        if self._epochs is not None:
            first_epochs([stage.spec for stage in plan], self._epochs)

    def attach(self, training: Training) -> None:
        """Read sizes and stages off the model."""
        super().attach(training)
        self._space, self._switch = space_of(training.model), SubnetSwitch(training.model)
        self.plan = self._planned(training.model)
        self._first_epochs = first_epochs([stage.spec for stage in self.plan], training.epochs)
        self._entered = -1
        self._teacher: nn.Module | None = None
        self._unsorted: list[str] = []

    def _planned(self, model: nn.Module) -> list[Stage]:
        self._dimensions: dict[str, Dimension] = dimensions_of(model)
        kinds = {d.kind for d in self._dimensions.values() if len(d.options) > 1}
        if not kinds.intersection(ELASTIC):
            raise InvalidSpace(
                f"progressive_shrinking trains elastic layers, and {type(model).__name__} has none "
                "of several kernels, widths or depths: use raynas.nn.Conv2d, Linear or Repeat with "
                "values, or train it by spos"
            )
        specs = default_stages(self._dimensions) if self._specs is None else self._specs
        return stages_of(specs, self._dimensions, use_ratio=self.use_ratio)

    def stage_at(self, epoch: int) -> int:
        """Return the number of the stage of an epoch."""
        return max(at for at, first in enumerate(self._first_epochs) if first <= epoch)

    def subnets(self, step: int, stage: Stage) -> list[Arch]:
        """Return the architectures of a step: a function of the seed, so equal on all ranks."""
        shared = np.random.default_rng([self.seed, step, RESOLUTION])
        at_once = {
            label: options[int(shared.integers(len(options)))]
            for label, options in stage.options.items()
            if self._dimensions[label].kind == "resolution"
        }
        rngs = [np.random.default_rng([self.seed, step, i]) for i in range(stage.spec.subnets)]
        archs = [self._drawn(stage, rng, at_once) for rng in rngs]
        if self.sandwich:
            ends = [self._end(stage, rngs[0], at_once, position) for position in (-1, 0)]
            archs = [ends[0], *archs, ends[1]]
        return list(dict.fromkeys(archs))

    def _drawn(self, stage: Stage, rng: np.random.Generator, fixed: Mapping[str, Value]) -> Arch:
        def pick(decision: Decision) -> Value:
            if decision.label in fixed:
                return fixed[decision.label]
            options = stage.options.get(decision.label)
            return decision.draw(rng) if options is None else options[rng.integers(len(options))]

        return self._space.decided(pick)

    def _end(
        self, stage: Stage, rng: np.random.Generator, fixed: Mapping[str, Value], position: int
    ) -> Arch:
        """Return the smallest (position 0) or the largest (-1) architecture of a stage."""
        ends = {label: options[position] for label, options in stage.options.items()}
        return self._drawn(stage, rng, ends | dict(fixed))

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Train the step's architectures on one batch, by the sum of their losses."""
        training = self.training
        number = self.stage_at(training.epoch)
        if number != self._entered:
            self._enter(number)
        archs = self.subnets(training.step, self.plan[number])
        taught = self._taught(train, archs[0])
        losses: list[Tensor] = []

        def each() -> Iterator[Tensor]:
            for arch in archs:
                self._switch(arch)
                loss = training.loss(train, taught=taught)
                losses.append(loss.detach())
                yield loss

        training.descend(each())
        loss = torch.stack(losses).mean()
        if taught is None:
            return {"loss": loss}
        distilled = torch.stack(taught.parts).mean()
        return {"loss": loss - distilled, "distill_loss": distilled}

    def _taught(self, batch: Batch, arch: Arch) -> Distills | None:
        """Return what the whole network, as it was when it was trained, gives for a batch."""
        if self.in_place:
            return InPlace(self.distill)
        if self._teacher is None:
            return None
        rng = np.random.default_rng([self.seed, self.training.step])
        sizes = {k: arch[k] for k, d in self._dimensions.items() if d.kind == "resolution"}
        whole = self._end(self.plan[-1], rng, sizes, -1)
        activate_unchecked(self._teacher, whole)
        return Taught(self.training.outputs(self._teacher, batch), self.distill)

    def _enter(self, number: int) -> None:
        """Begin a stage: keep the trained whole as teacher, sort channels, forget momentum."""
        stage, before = self.plan[number], self.plan[number - 1] if number else None
        shrinks = bool(stage.elastic(self._dimensions, *ELASTIC))
        trained = number > 0 or self.training.inherited
        if shrinks and trained and self._teacher is None and self.distill and not self.in_place:
            self._teacher = self._copy()
        widths = stage.elastic(self._dimensions, "width")
        if any(before is None or stage.options[k] != before.options[k] for k in widths):
            self._sort(stage, before)
        self.training.optimizer.state.clear()
        self._entered = number

    def _sort(self, stage: Stage, before: Stage | None) -> None:
        if not self.sort_channels:
            return
        rng = np.random.default_rng([self.seed, self.training.step])
        self._unsorted = sort_channels(
            self.training.model,
            self.training.example,
            whole=self._end(stage, rng, {}, -1),
            trained={} if before is None else before.options,
        )

    def _copy(self) -> nn.Module:
        """Return a copy of the model for the teacher, which trains nothing."""
        return copy.deepcopy(self.training.model).requires_grad_(False).train()

    def lr_scale(self, step: int, steps: int) -> float:
        """Return, in each stage, a rise and a cosine of the stage's own learning rate."""
        length = steps // self.training.epochs  # of an epoch
        number = self.stage_at(min(step // length, self.training.epochs - 1))
        ends = [*self._first_epochs[1:], self.training.epochs]
        first, end = self._first_epochs[number] * length, ends[number] * length
        spec: StageSpec = self.plan[number].spec
        return spec.lr_scale * cosine(step - first, end - first, spec.warmup)

    def epoch_end(self) -> Metrics:
        """Add the stage, and how many widths' channels could not be sorted."""
        return {"stage": float(self._entered), "unsorted_widths": float(len(self._unsorted))}

    def probes(self, rng: np.random.Generator) -> list[Arch]:
        """Return the largest architecture, the smallest of the stage, and one between."""
        stage = self.plan[self._entered]
        ends = [self._end(stage, rng, {}, position) for position in (-1, 0)]
        return list(dict.fromkeys([*ends, self._drawn(stage, rng, {})]))

    def state_dict(self) -> dict[str, Any]:
        """Return the stage and the teacher's weights."""
        teacher = None if self._teacher is None else dict(self._teacher.state_dict())
        return {"stage": self._entered, "teacher": teacher, "unsorted": list(self._unsorted)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
        self._entered, self._unsorted = state["stage"], list(state["unsorted"])
        if state["teacher"] is not None:
            self._teacher = teacher = self._copy()
            teacher.load_state_dict(state["teacher"])
