"""Where candidate operations are registered: what stands behind ``MB3E6`` and the like."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from raynas.core.registry import Registry

Operator = Callable[..., nn.Module]
"""Called with (channels_in, channels_out, stride), and keyword options with defaults.

The layer maps (batch, channels_in, height, width) to (batch, channels_out, ceil(height / stride),
ceil(width / stride)) and leaves its input as it is. What cannot be built for the three numbers is
refused with InvalidSpace.
"""

OPERATORS: Registry[Operator] = Registry(
    "operator", "raynas.nn.operators", group="raynas.operators"
)
