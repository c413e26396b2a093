"""Building what goes into a slot."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from torch import nn

from raynas.core.errors import InvalidSpace
from raynas.core.split_spec import split_spec
from raynas.nn.operators import OPERATORS, Operator, candidates
from raynas.nn.slot import Slot

Spec = Any
"""A registered operator's name, ``[name, {option: value}]``, ``{"type": name, "args": {...}}``, or
a function of (channels_in, channels_out, stride)."""

PREDEFINED = "predefined"  # fact of a slot: the spec of what the published backbone has there


def specs_of(named: Iterable[str] | Mapping[str, Spec]) -> dict[str, Spec]:
    """Return operators by the names they go under.

    Raises:
        InvalidSpace: there are none, a name stands twice, or is no name.
    """
    if isinstance(named, str) or not isinstance(named, Iterable):
        raise InvalidSpace(f"candidates: expected a list of names, or a dict, got {named!r}")
    names = list(named)
    for name in names:
        if not isinstance(name, str) or names.count(name) > 1:
            why = "is named twice" if names.count(name) > 1 else "must be a name"
            raise InvalidSpace(f"candidates: {name!r} {why}; a dict gives names to operators")
    if not names:
        raise InvalidSpace("candidates: expected at least one, got none")
    return dict(named) if isinstance(named, Mapping) else dict(zip(names, names, strict=True))


def built(slot: Slot, specs: Mapping[str, Spec]) -> dict[str, nn.Module]:
    """Return the operators' layers for a slot, each of them tried.

    Raises:
        InvalidSpace: one does not fit; the message names the slot and the operator.
        UnknownName: no operator has the name.
    """
    operators = {name: _operator(spec, slot.info) for name, spec in specs.items()}
    where = str(slot.label or slot)
    if isinstance(slot.chn_in, int) and isinstance(slot.chn_out, int):
        return candidates(operators, slot.chn_in, slot.chn_out, slot.stride, where=where)
    return {name: _untried(slot, name, operator) for name, operator in operators.items()}


def predefined(slot: Slot) -> nn.Module:
    """Return the layer that the published backbone has in a slot.

    Raises:
        InvalidSpace: the slot does not say which, or it does not fit.
    """
    if PREDEFINED not in slot.info:
        raise InvalidSpace(
            f"{slot} has no predefined operator; name it, Slot(..., predefined='MB3E6')"
        )
    (layer,) = built(slot, {PREDEFINED: slot.info[PREDEFINED]}).values()
    return layer


def _operator(spec: Spec, info: Mapping[str, Any]) -> Operator:
    if callable(spec):
        return partial(spec, **_wanted(spec, info))
    name, _ = split_spec(spec)
    if not isinstance(name, str):
        raise InvalidSpace(
            f"expected an operator's name, [name, {{option: value}}] or a function, got {spec!r}"
        )
    return partial(OPERATORS.build, spec, **_wanted(OPERATORS[name], info))


def _wanted(operator: Operator, info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that an operator has an open option for."""
    settled = operator.keywords if isinstance(operator, partial) else {}
    options = inspect.signature(operator).parameters.values() if info else ()
    names = {p.name for p in options if p.kind is p.KEYWORD_ONLY} - settled.keys()
    return {key: value for key, value in info.items() if key in names}


def _untried(slot: Slot, name: str, operator: Operator) -> nn.Module:
    """Return a layer of several inputs or outputs, of which nobody knows how to call it."""
    what = f"{slot.label or slot}: candidate {name!r}"
    try:
        layer = operator(slot.chn_in, slot.chn_out, slot.stride)
    except (ValueError, TypeError, RuntimeError) as error:
        fit = slot.extra_repr()
        raise InvalidSpace(f"{what} cannot be built for {fit}: {error}") from error
    if not isinstance(layer, nn.Module):
        raise InvalidSpace(f"{what} must be an nn.Module, got a {type(layer).__name__}")
    return layer
