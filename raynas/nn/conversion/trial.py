"""Trying what a plan offers, on a copy of the model that is cut in place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.core.nest import Nest
from raynas.nn.conversion.elastic_model import ElasticModel, attach
from raynas.nn.conversion.laws import agree, outputs, permuted, put_back
from raynas.nn.conversion.plan import ElasticAxis, Kernel, Plan, Skip


class Trial:
    """Cuts a model in several ways, and says whether it still obeys the laws.

    Args:
        model: whose numbers are all different; it is left as it is.
        example: inputs.
        plan: all that is to be tried.
        rng: draws permutations and options.
    """

    def __init__(self, model: nn.Module, example: Nest, plan: Plan, rng: torch.Generator) -> None:
        self.plan, self.example, self.rng = plan, example, rng
        net = attach(copy.deepcopy(model), plan)
        assert isinstance(net, ElasticModel)
        self.net = net
        self.tensors = dict(net.named_parameters()) | dict(net.named_buffers())
        self.expected = outputs(net, example)

    def holds(self, numbers: Sequence[int]) -> bool:
        """Return whether axes, by number, may be cut: to their smallest, and to mixtures.

        Where nothing is computed over units together, what is cut equals what is set to zero; and
        the order of the units that stay makes no difference.
        """
        axes = [self.plan.axes[number] for number in numbers]
        exact = [axis for axis in axes if not axis.statistic]
        smallest = {axis.label: axis.options[-1] for axis in axes}
        statistic = any(axis.statistic for axis in axes)
        return all(
            self._obeys(exact, _of(exact, chosen), self._equals_masked)
            and (not statistic or self._obeys(axes, _of(axes, chosen), self._keeps_order))
            for chosen in (smallest, self._mixture(axes))
        )

    def _mixture(self, axes: Iterable[ElasticAxis]) -> dict[str, Value]:
        options = {axis.label: axis.options for axis in axes}
        picks = {
            label: int(torch.randint(len(listed), (), generator=self.rng))
            for label, listed in options.items()
        }
        return {label: options[label][at] for label, at in picks.items()}

    def _obeys(
        self,
        axes: Sequence[ElasticAxis],
        arch: Mapping[str, Value],
        law: Callable[[Sequence[ElasticAxis], Mapping[str, Value], list[Tensor]], bool],
    ) -> bool:
        try:
            self.net.activate(arch)
            made = outputs(self.net, self.example)
            return _finite(made) and law(axes, arch, made)
        except Exception:  # whatever it is that a model does not do when it is cut
            return False
        finally:
            self.net.route = None

    def _equals_masked(
        self, axes: Sequence[ElasticAxis], arch: Mapping[str, Value], made: list[Tensor]
    ) -> bool:
        self.net.route = None
        before: dict[str, Tensor] = {}
        for axis in axes:
            for (name, dim), positions in axis.places.items():
                tensor = self.tensors[name]
                before.setdefault(name, tensor.detach().clone())
                gone = positions[axis.kept(arch[axis.label]) :].flatten()
                with torch.no_grad():
                    tensor.index_fill_(dim, gone.to(tensor.device), 0)
        try:
            return agree(outputs(self.net, self.example), made)
        finally:
            put_back(self.tensors, before)

    def _keeps_order(
        self, axes: Sequence[ElasticAxis], arch: Mapping[str, Value], made: list[Tensor]
    ) -> bool:
        pairs = [(a.places, a.kept(arch[a.label])) for a in axes if a.statistic]
        before = permuted(self.tensors, pairs, self.rng)
        try:
            return agree(made, outputs(self.net, self.example))
        finally:
            put_back(self.tensors, before)

    def runs_without(self, skips: Sequence[Skip]) -> bool:
        """Return whether the model runs, to outputs of the same shapes, without these modules."""
        left_out: dict[str, Value] = {skip.label: 0 for skip in skips}
        mixture = self._mixture(self.plan.axes.values())
        return self._runs(left_out) and self._runs(left_out | mixture)

    def runs_with(self, kernels: Sequence[Kernel]) -> bool:
        """Return whether it does with the smallest of these kernels."""
        return self._runs({kernel.label: kernel.options[-1] for kernel in kernels})

    def _runs(self, arch: Mapping[str, Value]) -> bool:
        def same_shapes(_axes: object, _arch: object, made: list[Tensor]) -> bool:
            return [t.shape for t in made] == [t.shape for t in self.expected]

        return self._obeys([], arch, same_shapes)


def _of(axes: Iterable[ElasticAxis], chosen: Mapping[str, Value]) -> dict[str, Value]:
    return {axis.label: chosen[axis.label] for axis in axes}


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point())
