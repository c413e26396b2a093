"""Buffers that a model registers empty, and its first pass fills."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def make_room(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Give empty buffers the shapes that they have in a ``state_dict``, which is then loaded.

    Args:
        model: whose buffers that are None, or hold no number, are made.
        state: of a model that was built alike, and has run.
    """
    for path, module in model.named_modules(remove_duplicate=False):
        for name, buffer in module._buffers.items():
            value = state.get(f"{path}.{name}" if path else name)
            empty = buffer is None or (type(buffer) is Tensor and not buffer.numel())
            if empty and isinstance(value, Tensor):
                device = next((t.device for t in model.parameters()), value.device)
                module._buffers[name] = torch.empty_like(value, device=device)
