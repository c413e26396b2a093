"""Choices of inputs in a supernet that trains: all inputs are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from raynas.core.errors import InvalidSpace
from raynas.gradient.mixed.base import MixedOp
from raynas.gradient.mixed.dirichlet_sum import DirichletSum
from raynas.gradient.mixed.weighted_sum import WeightedSum
from raynas.nn.inputs import InputChoice
from raynas.nn.logits import Logits, Probabilities
from raynas.nn.mutable import mutables
from raynas.nn.reduction import reduce

Mix = Callable[..., Any]


def input_choices(model: nn.Module) -> list[InputChoice]:
    """Return a model's choices of inputs."""
    return [m for m in mutables(model) if isinstance(m, InputChoice)]


def reading(choice: InputChoice, mix: Mix | None) -> Mix:
    """Return the route of a choice of inputs.

    Args:
        choice: of inputs.
        mix: combines them by the choice's own logits; None joins them as they are, each times its
            weight where a search weighs edges.
    """
    return partial(_joined, choice) if mix is None else partial(_mixed, choice, mix)


def _mixed(choice: InputChoice, mix: Mix, nth: Sequence[nn.Module], *inputs: Any) -> Any:
    out = mix(nth, *inputs)
    count = choice.n_chosen or 1
    if count > 1 and choice.reduction == "sum":
        return tree_map_only(Tensor, lambda leaf: count * leaf, out)
    return [out] if choice.reduction == "none" else out


def _joined(choice: InputChoice, _: Sequence[nn.Module], *inputs: Any) -> Any:
    weights = None if choice.edge_weights is None else choice.edge_weights(str(choice.label))
    if weights is not None:
        inputs = tuple(w * x for w, x in zip(weights, inputs, strict=True))
    return reduce(inputs, choice.reduction)


class Ranking:
    """Ranks inputs by the layer choices that they come from, as DARTS ranks the edges of a node.

    Args:
        model: a supernet, its labels given.
        edges: the logits of layer choices, by label.

    Attributes:
        specs: the inputs, by the label of each choice of them that is ranked so.
    """

    def __init__(self, model: nn.Module, edges: Mapping[str, Logits]) -> None:
        ranked = {str(choice.label): choice for choice in input_choices(model) if choice.ranked}
        self._edges = {label: [edges[k] for k in c.choose_from] for label, c in ranked.items()}
        self.specs = {
            label: Logits(label, c.options, node=label, picks=c.n_chosen or 1)
            for label, c in ranked.items()
        }

    def strengths(self, p: Probabilities) -> dict[str, NDArray[np.float64]]:
        """Return the largest probability of a real candidate behind each input, by label."""
        return {
            label: np.array([_strength(p[edge.label], edge.none) for edge in edges])
            for label, edges in self._edges.items()
        }


def _strength(p: NDArray[np.float64], none: int | None) -> float:
    real = np.delete(p, [] if none is None else none)
    return float(real.max(initial=0.0))


def check_inputs(model: nn.Module, op: MixedOp, *, one_by_one: bool = False) -> None:
    """Raise InvalidSpace where a choice of inputs cannot be searched so.

    Args:
        model: a supernet, its labels given.
        op: how candidates combine.
        one_by_one: whether the search decides one choice at a time, each for one candidate.
    """
    for choice in input_choices(model):
        count, label = choice.n_chosen, choice.label
        if count == choice.n_candidates:
            continue
        picks = f"InputChoice {label!r} picks {count} of {choice.n_candidates} inputs"
        if one_by_one and (choice.ranked or count != 1):
            by = "by their layer choices" if choice.ranked else "together"
            raise InvalidSpace(
                f"{picks} {by}, and sgas and selection='perturbation' decide one choice after the "
                "other: use darts with selection='magnitude', or a Cell"
            )
        if not choice.ranked and count != 1 and not isinstance(op, WeightedSum | DirichletSum):
            raise InvalidSpace(
                f"{picks} by logits of its own, which this algorithm does not learn for more "
                "than one: use darts, pc_darts or drnas, name a layer choice for every input in "
                "choose_from, or use n_chosen=1"
            )
