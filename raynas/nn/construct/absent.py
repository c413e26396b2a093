"""Constructors of ModularNAS of what is a search space of its own here."""

from __future__ import annotations

from typing import Any

from raynas.core.errors import UnknownName
from raynas.core.registry import normalised
from raynas.core.split_spec import split_spec
from raynas.nn.construct.chain import CONSTRUCTORS

_ELASTIC = (
    "search space='ofa_mobilenet_v3' with its depths, expands and kernels, and train its supernet "
    "with the algorithm 'progressive_shrinking'"
)
_INSTEAD = {
    "MobileNetV2ElasticConstructor": _ELASTIC,
    "MobileNetV2ElasticSpatialConstructor": _ELASTIC,
    "MobileNetV2ElasticSequentialConstructor": _ELASTIC,
    "DARTSSearchConstructor": "search space='darts_cifar' or 'darts_imagenet': these spaces have "
    "the choices in their cells already, one for all cells of a kind",
}


def refuse_absent(spec: Any) -> None:
    """Raise UnknownName if a spec names one of them, and say what there is instead.

    Args:
        spec: a name, ``[name, {option: value}]``, or ``{"type": name, "args": {...}}``.
    """
    named, _ = split_spec(spec)
    if not isinstance(named, str) or named in CONSTRUCTORS:
        return
    for name, instead in _INSTEAD.items():
        if normalised(name) == normalised(named):
            raise UnknownName(f"no constructor named {named!r}: {instead}")
