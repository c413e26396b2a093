"""Where exporters are registered, and how one is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from raynas.core.registry import Registry

Exporter = Callable[..., Any]
"""Called with a model, one of its architectures, and keyword options."""

EXPORTERS: Registry[Exporter] = Registry("exporter", "raynas.nn.export", group="raynas.exporters")


def export(model: nn.Module, arch: Mapping[str, Any], spec: Any = "params") -> Any:
    """Return a description of an architecture that JSON can hold.

    Args:
        model: the supernet that has the architecture.
        arch: label to choice, in any form that ``raynas.core.fixed.read_arch`` reads.
        spec: of the exporter: its name, ``(name, {option: value})``, or ``{"type": name, "args":
            {...}}``.

    Raises:
        InvalidArch: the model's space does not hold ``arch``.
        UnknownName: no exporter has the name.
    """
    return EXPORTERS.build(spec, model, arch)
