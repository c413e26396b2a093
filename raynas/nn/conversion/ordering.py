"""Putting the units that matter most first, which smaller networks keep."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raynas.core.arch import Atom
from raynas.core.errors import nearest
from raynas.nn.conversion.elastic_model import ElasticModel
from raynas.nn.conversion.importance import (
    MEASURES,
    Loss,
    activations,
    gradients,
    magnitudes,
    of_units,
)
from raynas.nn.conversion.laws import reorder
from raynas.nn.conversion.plan import ElasticAxis, Plan


@dataclass(frozen=True, eq=False)
class UnitGroup:
    """The units of an axis of a model, which share one order wherever they lie.

    Attributes:
        axis: whose units they are.
        tensors: of the model, by name.
    """

    axis: ElasticAxis
    tensors: Mapping[str, Tensor]

    @property
    def labels(self) -> tuple[str, ...]:
        """The decision that says how many stay."""
        return (self.axis.label,)

    def importance(self) -> Tensor | None:
        """Return the sum of the magnitudes of all weights of a unit, shape (units,)."""
        return of_units(self.axis, magnitudes(self.tensors, self.axis.places))

    def sizes(self, options: Mapping[str, Collection[Atom]]) -> list[int]:
        """Return, rising, how many units stay by the options of the decision; none without it."""
        return sorted({self.axis.kept(option) for option in options.get(self.axis.label, ())})

    def order(self, options: Mapping[str, Collection[Atom]]) -> Tensor | None:
        """Return the units by falling importance; those of a size in ``options`` stay in it."""
        importance = self.importance()
        return None if importance is None else falling(importance, self.sizes(options))

    def permute(self, order: Tensor) -> None:
        """Put the units in another order wherever they lie."""
        reorder(self.tensors, self.axis.places, order.cpu())


def falling(importance: Tensor, sizes: Iterable[int] = ()) -> Tensor:
    """Return positions by falling importance; the first so many of each size stay the first.

    >>> falling(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), [3]).tolist()
    [2, 1, 0, 4, 3]
    """
    bounds = [0, *sizes]
    bounds += [len(importance)] if bounds[-1] < len(importance) else []
    parts = [
        begin + importance[begin:end].argsort(descending=True, stable=True)
        for begin, end in itertools.pairwise(bounds)
    ]
    return torch.cat(parts)


def unit_groups(model: ElasticModel) -> list[UnitGroup]:
    """Return the units of all axes of an elastic model."""
    return groups_of(model, model.plan)


def groups_of(model: nn.Module, plan: Plan) -> list[UnitGroup]:
    """Return the units of all axes of a plan, in the model that it is of."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return [UnitGroup(axis, tensors) for axis in plan.axes.values()]


def sort_units(
    model: nn.Module,
    plan: Plan,
    by: str,
    *,
    batches: Iterable[Any] | None = None,
    loss: Loss | None = None,
) -> list[str]:
    """Put the units of every axis in the order of their importance, the largest first.

    Args:
        model: that the plan is of, whose weights are written.
        plan: what is elastic.
        by: ``l1``, ``activation`` or ``gradient``.
        batches: of inputs; for ``gradient`` pairs of inputs and targets.
        loss: of (outputs, targets), for ``gradient``; None takes what the model calls its ``loss``.

    Returns:
        Labels of the axes of which nothing could be measured; they keep their order.

    Raises:
        ValueError: another order, or batches or a loss that it does not take, or lacks.
    """
    check_order(by, batches, loss)
    groups = groups_of(model, plan)
    left: list[str] = []
    for group, importance in zip(groups, _measured(model, groups, by, batches, loss), strict=True):
        if importance is None:
            left.append(group.axis.label)
        else:
            group.permute(falling(importance))
    return left


def check_order(by: str, batches: Any, loss: Any) -> None:
    """Raise ValueError for an order that does not exist, or that lacks what it is measured on."""
    if by not in MEASURES:
        raise ValueError(f"order: no order is named {by!r}; {nearest(str(by), MEASURES)}")
    if by == "l1" and batches is not None:
        raise ValueError("batches: the order 'l1' looks at weights alone; leave batches out")
    if by != "l1" and batches is None:
        what = "batches of inputs" if by == "activation" else "pairs of inputs and targets"
        raise ValueError(f"batches: the order {by!r} is measured on {what}: give batches=")
    if by != "gradient" and loss is not None:
        raise ValueError(f"loss: the order {by!r} has no use for a loss; leave it out")


def _measured(
    model: nn.Module,
    groups: Sequence[UnitGroup],
    by: str,
    batches: Iterable[Any] | None,
    loss: Loss | None,
) -> list[Tensor | None]:
    axes = [group.axis for group in groups]
    if by == "l1" or batches is None:
        return [group.importance() for group in groups]
    if by == "activation":
        read = activations(model, batches)
        return [of_units(axis, read) for axis in axes]
    changes = gradients(model, axes, batches, loss)
    return [changes.get(at) for at in range(len(axes))]
