"""The architecture that a search preferred when an epoch ended, read from the epoch's row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from raynas.core.arch import Value
from raynas.core.decision import Decision, Subset
from raynas.nn.inputs import InputChoice
from raynas.nn.mutable import derived, logits_of, mutables, space_of

ALPHA = "alpha."  # columns alpha.<label>.<option> of the history hold probabilities


def relaxed_architecture(model: nn.Module, row: Mapping[str, Any]) -> dict[str, Value]:
    """Return what a search by gradients derives: the arg max, of nodes the strongest edges.

    Args:
        model: that is searched.
        row: of the history.
    """
    space_of(model)  # names what has no label
    options = {label: vector.options for label, vector in logits_of(model).items()}
    ranked = [m for m in mutables(model) if isinstance(m, InputChoice)]
    options |= {str(choice.label): choice.options for choice in ranked}
    found = {label: _probabilities(label, names, row) for label, names in options.items()}
    return derived(model, {k: p for k, p in found.items() if p is not None}, _strongest)


def likeliest_architecture(model: nn.Module, row: Mapping[str, Any]) -> dict[str, Value]:
    """Return the most probable option at every decision that the row has probabilities of.

    An option is passed over where it leads to a decision without any.

    Args:
        model: that is searched.
        row: of the history.

    Raises:
        LookupError: the row has too few.
    """
    arch = _likeliest(space_of(model).choices, row)
    if arch is None:
        raise LookupError("the epoch has no probabilities of its architecture")
    return arch


def _likeliest(decisions: Iterable[Decision], row: Mapping[str, Any]) -> dict[str, Value] | None:
    arch = dict[str, Value]()
    for decision in decisions:
        p = _probabilities(decision.label, decision.options, row)
        if p is None:
            return None
        for value in _by_probability(decision, p):
            parts = [_likeliest(part.choices, row) for part in decision.opened(value)]
            if all(part is not None for part in parts):
                arch[decision.label] = value
                arch |= {k: v for part in parts if part for k, v in part.items()}
                break
        else:
            return None
    return arch


def _by_probability(decision: Decision, p: NDArray[np.float64]) -> list[Value]:
    order = np.argsort(-p, kind="stable")
    if not isinstance(decision, Subset):
        return [decision.options[at] for at in order]
    picked = np.flatnonzero(p > 0.5) if decision.k is None else np.sort(order[: decision.k])
    return [tuple(decision.options[at] for at in picked)]


def _probabilities(
    label: str, options: Iterable[Any], row: Mapping[str, Any]
) -> NDArray[np.float64] | None:
    values = [row.get(f"{ALPHA}{label}.{option}") for option in options]
    return None if any(value is None for value in values) else np.array(values, np.float64)


def _strongest(p: NDArray[np.float64], none: int | None) -> float:
    return float(max(value for at, value in enumerate(p) if at != none))
