"""From a model and an example to a plan of what is elastic, every part of which was tried."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest
from raynas.nn.conversion.axes import Axis, axes_of
from raynas.nn.conversion.built import check_built, check_unchanged
from raynas.nn.conversion.depth import skips_of
from raynas.nn.conversion.folding import Folding
from raynas.nn.conversion.laws import EXACT, ROUNDED, agree, holding, outputs
from raynas.nn.conversion.links import joined, linked
from raynas.nn.conversion.numbers import Counts, Numbers
from raynas.nn.conversion.offers import Offers, kernel_of
from raynas.nn.conversion.plan import ElasticAxis, Kernel, Plan, Skip
from raynas.nn.conversion.request import Request
from raynas.nn.conversion.rules import RULES
from raynas.nn.conversion.sample import sample_of
from raynas.nn.conversion.specimen import Specimen
from raynas.nn.conversion.trace import Place, Trace
from raynas.nn.conversion.trial import Trial

WRONG = "the model computes something else, or nothing, when it is cut"
ENOUGH = 4  # rows of the example with which laws are tried
FEW = 2  # rows that are enough to see which shapes there are
ORDERS = 3  # that units are tried in: what moves in one of them may be zero in all rows


class Conversion:
    """Finds what of a model may become smaller, and tries it on a copy.

    Args:
        model: any module; it is left as it is.
        example: a batch of inputs that it takes.
        request: what is asked for.

    Attributes:
        reasons: why places stay fixed.

    Raises:
        InvalidSpace: the model does not take the example, or gives different outputs for it.
    """

    def __init__(self, model: nn.Module, example: Nest, request: Request) -> None:
        self.request = request
        check_built(model)
        self.specimen = Specimen(model, example)
        self.model = self.specimen.model
        self.reasons: dict[Place, str] = {}
        example = self.specimen.example
        self.sample = sample_of(self.model, example).first_rows(self.model, ENOUGH)
        check_unchanged(model, self.model)
        self.few = self.sample.first_rows(self.model, FEW)
        self.trace = Trace(self.model, RULES)
        self.trace.run(self.model, self.few.inputs)
        self.tolerance = EXACT if self.trace.dtypes == {torch.float64} else ROUNDED
        self.axes = axes_of(self.trace)
        self.reasons |= self.axes.reasons

    def plan(self) -> Plan:
        """Return what is elastic.

        Raises:
            InvalidSpace: nothing is.
        """
        sound = self._permutable(self.axes.axes)
        numbers = Numbers(self.trace, self.axes, self.model)
        counts, offered = numbers.counts, self._offered(numbers.sound(sound, self.reasons))
        plan = self._tried(self._assembled(offered, self._skips(), self._kernels(), counts), counts)
        if not (plan.axes or plan.skips or plan.kernels):
            raise InvalidSpace(
                f"nothing of {type(self.model).__name__} can be made elastic as it was asked: "
                f"{_summary(self.reasons)}"
            )
        return plan

    def _permutable(self, axes: Sequence[Axis]) -> list[Axis]:
        """Return the axes whose units may change places, everywhere, without another output."""

        def holds(some: Sequence[Axis]) -> bool:
            units = [(axis.places, axis.units) for axis in some]
            try:
                with self.specimen.changed(permuted=units):
                    made = outputs(self.model, self.sample.inputs)
                return agree(self.sample.outputs, made, self.tolerance)
            except Exception:
                return False

        sound = holding(axes, *[holds] * ORDERS)
        wrong = [axis for axis in axes if axis not in sound]
        self._fix(wrong, "the output depends on the order of its channels")
        return sound

    def _fix(self, axes: Iterable[Axis | ElasticAxis], reason: str) -> None:
        for axis in axes:
            self.reasons |= dict.fromkeys(axis.places, reason)

    def _offered(self, axes: Iterable[Axis]) -> dict[int, ElasticAxis]:
        offers, offered = Offers(self.request, self.trace.shapes), dict[int, ElasticAxis]()
        for axis in axes:
            refusal = offers.refusal(axis)
            if refusal is not None:
                self._fix([axis], refusal)
            else:
                offered[axis.number] = offers.of(axis)
        offered, wrong = linked(self.trace, self.axes, offered)
        self._fix(wrong, "equal parts of it would become unequal")
        return offered

    def _skips(self) -> list[Skip]:
        if not self.request.depth:
            return []
        skips = skips_of(self.trace, self.model, self.axes.class_of)
        return [skip for skip in skips if self.request.allows([skip.path])]

    def _kernels(self) -> list[Kernel]:
        called = {entry.path for entry in self.trace.calls}
        convolutions = [
            (path, module)
            for path, module in self.model.named_modules()
            if isinstance(module, _ConvNd) and path in called and self.request.allows([path])
        ]
        made = [kernel_of(path, module, self.request.kernels) for path, module in convolutions]
        return [kernel for kernel in made if kernel is not None]

    def _assembled(
        self,
        axes: Mapping[int, ElasticAxis],
        skips: Iterable[Skip],
        kernels: Iterable[Kernel],
        counts: Counts,
    ) -> Plan:
        folding = Folding(self.axes, axes)
        folded = {origin: folding.folded(count) for origin, count in counts.items()}
        return Plan(
            axes=axes,
            skips=tuple(skips),
            kernels=tuple(kernels),
            counts={origin: count for origin, count in folded.items() if count.per_unit},
            shapes=self.trace.shapes,
            fixed=dict(self.reasons),
            cache=folding.cache(self.trace),
        )

    def _tried(self, plan: Plan, counts: Counts) -> Plan:
        """Return the plan without what does not run when it is cut, or runs otherwise."""
        trial = Trial(self.specimen, plan, (self.sample, self.few), self.tolerance)
        axes = self._cuttable(trial, plan.axes)
        groups = trial.groups(axes)
        skips = holding(
            plan.skips,
            lambda some: trial.runs_without(some, groups),
            lambda some: trial.runs_apart(some, groups),
        )
        kernels = holding(plan.kernels, trial.runs_with)
        return self._assembled(axes, skips, kernels, counts)

    def _cuttable(self, trial: Trial, axes: Mapping[int, ElasticAxis]) -> dict[int, ElasticAxis]:
        """Return the axes that may be cut; some only if they keep the same share as others."""
        quick = (trial.smallest_runs, trial.smallest_holds)
        alike = sorted(trial.groups(axes), key=lambda group: _form(axes[group[0]]))
        kept = {number: axes[number] for group in holding(alike, *quick) for number in group}
        for together in joined(axes, kept):
            trial.link(together)
            others = trial.groups({n: a for n, a in kept.items() if n not in together})
            if all(law([*others, tuple(together)]) for law in quick):
                kept |= together
            else:
                trial.link({n: axes[n] for n in together})
        groups = trial.groups(kept)
        if not trial.mixtures_hold(groups):
            good = holding(groups, *quick, trial.mixtures_hold)
            kept = {number: kept[number] for group in good for number in group}
        wrong = [axis for number, axis in axes.items() if number not in kept]
        self._fix(wrong, WRONG)
        return {number: kept[number] for number in axes if number in kept}


def _form(axis: ElasticAxis) -> tuple[str, str]:
    """Return what axes have in common that are likely to hold, or not to hold, together."""
    return axis.kind, re.sub(r"\d+", "", axis.label)


def _summary(reasons: Mapping[Place, str]) -> str:
    return "; ".join(dict.fromkeys(reasons.values())) or "it has no weights that a pass uses"
