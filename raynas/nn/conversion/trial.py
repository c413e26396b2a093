"""Trying what is to be offered, on a copy of the model that is cut in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from raynas.core.arch import Value
from raynas.nn.conversion.elastic_model import ElasticModel, attach
from raynas.nn.conversion.laws import agree, apart, outputs
from raynas.nn.conversion.plan import ElasticAxis, Kernel, Plan, Skip
from raynas.nn.conversion.sample import Sample
from raynas.nn.conversion.specimen import Specimen

Group = tuple[int, ...]  # numbers of axes that decide together
MIXTURES = 2  # random ones that are tried, beside those that tell every two axes apart
Kept = dict[int, int]  # units of each axis


class Trial:
    """Cuts a model in several ways, and says whether it still obeys the laws.

    Args:
        specimen: that is cut; it ends up as an elastic model.
        plan: all that is to be tried.
        samples: inputs with what the whole makes of them, to compare numbers; and a few of them,
            to see whether it runs to the same shapes.
        tolerance: up to which outputs agree.
    """

    def __init__(
        self, specimen: Specimen, plan: Plan, samples: tuple[Sample, Sample], tolerance: float
    ) -> None:
        self.specimen, self.tolerance = specimen, tolerance
        self.sample, self.few = samples
        self.axes = dict(plan.axes)
        alone = {n: _by_units(n, axis) for n, axis in self.axes.items()}
        net = attach(specimen.model, replace(plan, axes=alone))
        assert isinstance(net, ElasticModel)
        self.net = net

    def groups(self, axes: Mapping[int, ElasticAxis]) -> list[Group]:
        """Return the numbers of axes, those with one label together."""
        together: dict[str, list[int]] = {}
        for number, axis in axes.items():
            together.setdefault(axis.label, []).append(number)
        return [tuple(numbers) for numbers in together.values()]

    def link(self, axes: Mapping[int, ElasticAxis]) -> None:
        """Let axes be cut by other options from now on."""
        self.axes |= axes

    def smallest_runs(self, groups: Sequence[Group]) -> bool:
        """Return whether the model runs when axes are all cut to their smallest."""
        return self._runs(self._smallest(groups, groups))

    def smallest_holds(self, groups: Sequence[Group]) -> bool:
        """Return whether axes may all be cut to their smallest: ``_obeys_laws``."""
        return self._obeys_laws(self._smallest(groups, groups))

    def mixtures_hold(self, groups: Sequence[Group]) -> bool:
        """Return whether they may be cut each without others, and to mixtures."""
        some_cut = (self._smallest(groups, some) for some in apart(groups))
        return all(self._runs(kept) for kept in some_cut) and all(
            self._obeys_laws(self._mixture(groups)) for _ in range(MIXTURES)
        )

    def _smallest(self, groups: Sequence[Group], cut: Sequence[Group]) -> Kept:
        """Return the least of what is cut, and all of the others."""
        last, among = [len(self.axes[group[0]].options) - 1 for group in groups], set(cut)
        return self._kept(groups, [n * (g in among) for g, n in zip(groups, last, strict=True)])

    def _mixture(self, groups: Sequence[Group]) -> Kept:
        rng, counts = self.specimen.rng, [len(self.axes[group[0]].options) for group in groups]
        return self._kept(groups, [int(torch.randint(n, (), generator=rng)) for n in counts])

    def _kept(self, groups: Sequence[Group], picks: Iterable[int]) -> Kept:
        pairs = zip(groups, picks, strict=True)
        return {
            number: self.axes[number].kept(self.axes[number].options[pick])
            for group, pick in pairs
            for number in group
        }

    def _obeys_laws(self, kept: Kept) -> bool:
        """Return whether what is cut equals what is set to zero, in another order.

        That is so where nothing is computed over units together; else they are cut, and the order
        of those that stay makes no difference.
        """
        exact = {n for n in kept if not self.axes[n].statistic}
        places = {n: (self.axes[n].places, count) for n, count in kept.items()}
        try:
            made = self._outputs(kept, {}, self.sample)
            if not _finite(made):
                return False
            with self.specimen.changed(
                permuted=[at for n, at in places.items() if n not in exact],
                zeroed=[at for n, at in places.items() if n in exact],
            ):
                cut = {n: count for n, count in kept.items() if n not in exact}
                return agree(self._outputs(cut, {}, self.sample), made, self.tolerance)
        except Exception:  # whatever it is that a model does not do when it is cut
            return False

    def _runs(self, kept: Kept, others: Mapping[str, Value] | None = None) -> bool:
        """Return whether the model runs, to outputs of the same shapes."""
        try:
            made = self._outputs(kept, others or {}, self.few)
        except Exception:
            return False
        return _finite(made) and [t.shape for t in made] == [t.shape for t in self.few.outputs]

    def _outputs(self, kept: Kept, others: Mapping[str, Value], sample: Sample) -> list[Tensor]:
        try:
            self.net.route = {_name(n): count for n, count in kept.items()} | dict(others)
            return outputs(self.net, sample.inputs)
        finally:
            self.net.route = None

    def runs_without(self, skips: Sequence[Skip], groups: Sequence[Group]) -> bool:
        """Return whether the model runs without modules.

        Args:
            skips: that are left out, all of them.
            groups: of axes, which are all whole or all cut.
        """
        left_out = _left_out(skips)
        return all(self._runs(kept, left_out) for kept in ({}, self._smallest(groups, groups)))

    def runs_apart(self, skips: Sequence[Skip], groups: Sequence[Group]) -> bool:
        """Return whether it runs when each of them is left out without others, its axes cut.

        And whether what is extracted without all of them does: code that reads attributes of a
        module that is gone runs until then.
        """
        cut = self._smallest(groups, groups)
        return all(self._runs(cut, _left_out(some)) for some in apart(skips)) and (
            not skips or self._runs_extracted(cut, _left_out(skips))
        )

    def _runs_extracted(self, kept: Kept, others: Mapping[str, Value]) -> bool:
        cut: dict[str, Value] = {_name(n): count for n, count in kept.items()}
        try:
            plain = self.net.frozen(self.net.plan.largest | cut | dict(others), {})
            made = outputs(plain, self.few.inputs)
        except Exception:
            return False
        return agree(self._outputs(kept, others, self.few), made, self.tolerance)

    def runs_with(self, kernels: Sequence[Kernel]) -> bool:
        """Return whether it does with the smallest of these kernels."""
        return self._runs({}, {kernel.label: kernel.options[-1] for kernel in kernels})


def _left_out(skips: Iterable[Skip]) -> dict[str, Value]:
    return dict.fromkeys((skip.label for skip in skips), 0)


def _name(number: int) -> str:
    return f"axis {number}"


def _by_units(number: int, axis: ElasticAxis) -> ElasticAxis:
    """Return an axis that has a label of its own, whose options are numbers of units."""
    return replace(axis, label=_name(number), options=tuple(range(axis.units, 0, -1)), keeps=())


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point())
