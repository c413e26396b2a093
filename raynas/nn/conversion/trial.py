"""Trying what is to be offered, on a copy of the model that is cut in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from raynas.core.arch import Value
from raynas.nn.conversion.elastic_model import ElasticModel, attach
from raynas.nn.conversion.laws import agree, outputs, permuted
from raynas.nn.conversion.plan import ElasticAxis, Kernel, Plan, Skip
from raynas.nn.conversion.specimen import Specimen

T = TypeVar("T")
Group = tuple[int, ...]  # numbers of axes that decide together
MIXTURES = 2  # random ones that are tried, beside those that tell every two axes apart
Kept = dict[int, int]  # units of each axis


class Trial:
    """Cuts a model in several ways, and says whether it still obeys the laws.

    Args:
        specimen: that is cut; it ends up as an elastic model.
        plan: all that is to be tried.
        tolerance: up to which outputs agree.
    """

    def __init__(self, specimen: Specimen, plan: Plan, tolerance: float) -> None:
        self.specimen, self.tolerance = specimen, tolerance
        self.axes = dict(plan.axes)
        self.expected = outputs(specimen.model, specimen.example)
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

    def holds(self, groups: Sequence[Group]) -> bool:
        """Return whether axes may be cut: to their smallest, each without others, and to mixtures.

        Where nothing is computed over units together, what is cut equals what is set to zero; and
        the order of the units that stay makes no difference.
        """
        if not groups:
            return True
        smallest = [len(self.axes[group[0]].options) - 1 for group in groups]
        return (
            self._obeys_laws(self._kept(groups, smallest))
            and all(self._obeys(kept, self._same_shapes) for kept in self._apart(groups, smallest))
            and all(self._obeys_laws(self._mixture(groups)) for _ in range(MIXTURES))
        )

    def _apart(self, groups: Sequence[Group], smallest: Sequence[int]) -> Iterator[Kept]:
        """Yield cuts, so that of every two groups one is cut without the other in one of them."""
        for some in _halves(range(len(groups))):
            among = set(some)
            yield self._kept(groups, [s * (at in among) for at, s in enumerate(smallest)])

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
        exact = {n for n in kept if not self.axes[n].statistic}
        if not self._obeys({n: kept[n] for n in exact}, self._equals_masked):
            return False
        return len(exact) == len(kept) or self._obeys(kept, self._keeps_order)

    def _obeys(
        self,
        kept: Kept,
        law: Callable[[Kept, list[Tensor]], bool],
        also: Mapping[str, Value] | None = None,
    ) -> bool:
        try:
            self.net.route = {_name(n): count for n, count in kept.items()} | dict(also or {})
            made = outputs(self.net, self.specimen.example)
            return _finite(made) and law(kept, made)
        except Exception:  # whatever it is that a model does not do when it is cut
            return False
        finally:
            self.net.route = None

    def _equals_masked(self, kept: Kept, made: list[Tensor]) -> bool:
        self.net.route = None
        masked: set[str] = set()
        try:
            for number, count in kept.items():
                for (name, dim), positions in self.axes[number].places.items():
                    tensor, gone = self.specimen.tensors[name], positions[count:].flatten()
                    masked.add(name)
                    with torch.no_grad():
                        tensor.index_fill_(dim, gone.to(tensor.device), 0)
            whole = outputs(self.net, self.specimen.example)
            return agree(whole, made, self.tolerance)
        finally:
            self.specimen.restore(masked)

    def _keeps_order(self, kept: Kept, made: list[Tensor]) -> bool:
        axes = [(self.axes[n], count) for n, count in kept.items()]
        pairs = [(axis.places, count) for axis, count in axes if axis.statistic]
        changed = permuted(self.specimen.tensors, pairs, self.specimen.rng)
        try:
            other = outputs(self.net, self.specimen.example)
            return agree(made, other, self.tolerance)
        finally:
            self.specimen.restore(changed)

    def runs_without(self, skips: Sequence[Skip], groups: Sequence[Group]) -> bool:
        """Return whether the model runs, to outputs of the same shapes, without these modules.

        Args:
            skips: that are left out, all of them and each without others.
            groups: of axes that are cut at the same time.
        """
        smallest = self._kept(groups, [len(self.axes[group[0]].options) - 1 for group in groups])
        left_out = [skip.label for skip in skips]
        return self._obeys({}, self._same_shapes, dict.fromkeys(left_out, 0)) and all(
            self._obeys(smallest, self._same_shapes, dict.fromkeys(some, 0))
            for some in (left_out, *_halves(left_out))
        )

    def runs_with(self, kernels: Sequence[Kernel]) -> bool:
        """Return whether it does with the smallest of these kernels."""
        sizes: dict[str, Value] = {kernel.label: kernel.options[-1] for kernel in kernels}
        return self._obeys({}, self._same_shapes, sizes)

    def _same_shapes(self, _kept: Kept, made: list[Tensor]) -> bool:
        return [t.shape for t in made] == [t.shape for t in self.expected]


def _halves(parts: Sequence[T]) -> Iterator[list[T]]:
    """Yield halves, so that of every two parts one is without the other in one of them."""
    for bit in range((len(parts) - 1).bit_length()):
        for side in (0, 1):
            yield [part for at, part in enumerate(parts) if at >> bit & 1 == side]


def _name(number: int) -> str:
    return f"axis {number}"


def _by_units(number: int, axis: ElasticAxis) -> ElasticAxis:
    """Return an axis that has a label of its own, whose options are numbers of units."""
    return replace(axis, label=_name(number), options=tuple(range(axis.units, 0, -1)))


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point())
