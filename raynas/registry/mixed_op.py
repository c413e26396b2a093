"""Mixed operators by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raynas.gradient.mixed import MIXED_OPS
from raynas.registry.registering import registered_by


def register(mixed_op: Any = None, name: str | None = None) -> Any:
    """Register a mixed operator (see ``raynas.gradient.mixed.base.MixedOp``)."""
    return registered_by(lambda own, made: MIXED_OPS.register(own, made), mixed_op, name)


def build(spec: Any, /, **options: Any) -> Any:
    """Return a mixed operator."""
    return MIXED_OPS.build(spec, **options)


def get_builder(name: str) -> Callable[..., Any]:
    """Return what builds a mixed operator."""
    return MIXED_OPS.get_builder(name)
