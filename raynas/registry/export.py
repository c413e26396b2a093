"""Exporters by name, each called with a model and one of its architectures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from raynas.nn.export.exporters import EXPORTERS
from raynas.registry.registering import registered_by


def register(exporter: Any = None, name: str | None = None) -> Any:
    """Register an exporter, a function of a model, an architecture and keyword options."""
    return registered_by(lambda own, made: EXPORTERS.register(own, made), exporter, name)


def build(spec: Any, /, **options: Any) -> Callable[[nn.Module, Mapping[str, Any]], Any]:
    """Return an exporter with its options, to be called with a model and an architecture."""
    name, settled = EXPORTERS.resolved(spec, **options)
    return partial(EXPORTERS[name], **settled)


def get_builder(name: str) -> Callable[..., Any]:
    """Return what takes an exporter's options and gives the exporter."""
    EXPORTERS.name_of(name)
    return partial(build, name)
