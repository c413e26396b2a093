"""The space of an existing model's smaller networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest
from raynas.nn.conversion.convert import Conversion
from raynas.nn.conversion.elastic_model import attach
from raynas.nn.conversion.laws import agree, outputs
from raynas.nn.conversion.plan import Plan
from raynas.nn.conversion.request import Request
from raynas.nn.modelspace import ModelSpace


@dataclass(frozen=True, eq=False)
class ElasticFactory:
    """Builds supernets that begin with a model's weights.

    Attributes:
        model: as it was given; it stays as it is.
        plan: what of it is elastic.
    """

    model: nn.Module
    plan: Plan

    def __call__(self) -> nn.Module:
        """Return a copy of the model that is elastic."""
        return attach(copy.deepcopy(self.model), self.plan).train()


class ElasticSpace(ModelSpace):
    """An existing model's smaller networks, which share its weights.

    Args:
        model: whose weights supernets begin with; it stays as it is.
        example: a batch of inputs that the model takes.
        request: what may become smaller.
        name: what messages call it.

    Attributes:
        plan: what is elastic.

    Raises:
        InvalidSpace: the model does not take the example, gives different outputs for one input,
            or has nothing that can become smaller as it was asked.
    """

    def __init__(
        self, model: nn.Module, example: Nest, request: Request, *, name: str | None = None
    ) -> None:
        self.plan = Conversion(model, example, request).plan()
        self._model = copy.deepcopy(model)
        factory = ElasticFactory(self._model, self.plan)
        super().__init__(factory, example=example, name=name or type(model).__name__)
        self._check_whole(model, example)

    def _check_whole(self, model: nn.Module, example: Nest) -> None:
        """Compare the whole supernet with the model: never a network that is silently another."""
        modes = {module: module.training for module in model.modules()}
        expected = outputs(model.eval(), example)
        for module, mode in modes.items():
            module.training = mode
        if not agree(expected, outputs(self.supernet().eval(), example)):
            raise InvalidSpace(
                f"{self.name} computes something else once it is elastic: its code looks at "
                "classes or attributes of its modules, so it cannot be converted"
            )

    @property
    def fixed(self) -> Mapping[str, str]:
        """Why dimensions of weights stay as they are, by ``name[dimension]``."""
        return {f"{name}[{dim}]": why for (name, dim), why in self.plan.fixed.items()}

    @property
    def coverage(self) -> float:
        """Share of the weights that lie on an axis that is elastic."""
        elastic = {name for axis in self.plan.axes.values() for name, _ in axis.places}
        weights = dict(self._model.named_parameters())
        covered = sum(weights[name].numel() for name in elastic & weights.keys())
        return covered / max(sum(p.numel() for p in weights.values()), 1)
