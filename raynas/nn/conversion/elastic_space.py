"""The space of an existing model's smaller networks."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from raynas.core.errors import InvalidSpace
from raynas.core.metrics import COSTS, KV_CACHE
from raynas.core.nest import Nest
from raynas.nn.conversion.convert import Conversion
from raynas.nn.conversion.elastic_model import attach
from raynas.nn.conversion.importance import Loss
from raynas.nn.conversion.laws import agree, outputs
from raynas.nn.conversion.ordering import sort_units
from raynas.nn.conversion.plan import Plan
from raynas.nn.conversion.request import Request
from raynas.nn.evaluation_mode import evaluation_mode
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
        trained: whether the model's weights are trained, so that a supernet goes on from them.

    Attributes:
        plan: what is elastic.
        unsorted: labels of axes of which ``sorted`` could measure nothing; they keep their order.

    Raises:
        InvalidSpace: the model does not take the example, gives different outputs for one input,
            or has nothing that can become smaller as it was asked.
    """

    unsorted: tuple[str, ...] = ()

    def __init__(
        self,
        model: nn.Module,
        example: Nest,
        request: Request,
        *,
        name: str | None = None,
        trained: bool = True,
    ) -> None:
        self.plan = Conversion(model, example, request).plan()
        self._model, self._example, self.trained = copy.deepcopy(model), example, trained
        factory = ElasticFactory(self._model, self.plan)
        super().__init__(factory, example=example, name=name or type(model).__name__)
        if self.plan.cache:
            self.costs = (*COSTS, KV_CACHE)
        self._check_whole(model, example)

    def taking(self, inputs: Any) -> ElasticSpace:
        """Return the space with other inputs than the example that the model was converted with.

        Images of another size, say: costs and bounds go by what a run's data give.
        """
        if inputs is None or inputs == self.signature:
            return self
        other = copy.copy(self)
        other.signature = inputs
        return other

    def _check_whole(self, model: nn.Module, example: Nest) -> None:
        """Compare the whole supernet with the model: never a network that is silently another."""
        with evaluation_mode(model):
            expected = outputs(model, example)
        if not agree(expected, outputs(self.supernet().eval(), example)):
            raise InvalidSpace(
                f"{self.name} computes something else once it is elastic: its code looks at "
                "classes or attributes of its modules, so it cannot be converted"
            )

    def sorted(
        self, by: str = "l1", *, batches: Iterable[Any] | None = None, loss: Loss | None = None
    ) -> ElasticSpace:
        """Return the space of the same model with the units that matter most first.

        Smaller networks keep the first units of every axis. The whole network computes what it
        did, up to rounding, which is checked; the model that was given stays as it is.

        Args:
            by: how units are judged: ``l1``, by the absolute sum of their weights; ``activation``,
                by how large what they give to the layers behind is; ``gradient``, by how much the
                loss changes to the first order without them.
            batches: of inputs, for ``activation``; pairs of inputs and targets, for ``gradient``.
            loss: of (outputs, targets), for ``gradient``; None takes what the model calls its
                ``loss``.

        Raises:
            ValueError: another order, or batches or a loss that it does not take, or lacks.
            InvalidSpace: the whole network would compute something else.
        """
        other = copy.copy(self)
        other._model = copy.deepcopy(self._model)
        other.unsorted = tuple(sort_units(other._model, self.plan, by, batches=batches, loss=loss))
        other.factory = ElasticFactory(other._model, self.plan)
        other._check_whole(self._model, self._example)
        return other

    @property
    def model(self) -> nn.Module:
        """The model that was converted; not to be changed."""
        return self._model

    @property
    def tried_example(self) -> Nest:
        """The inputs that the model was converted with."""
        return self._example

    @property
    def fixed(self) -> Mapping[str, str]:
        """Why dimensions of weights stay as they are, by ``name[dimension]``."""
        return {f"{name}[{dim}]": why for (name, dim), why in self.plan.fixed.items()}

    @property
    def coverage(self) -> float:
        """Share of the weights that lie on an axis that is elastic."""
        return self.plan.coverage(self._model)
