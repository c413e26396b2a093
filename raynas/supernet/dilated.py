"""Dilated convolutions stay in float32 where others are computed in bfloat16 on a CPU.

Measured with torch 2.15 on a CPU with AVX-512 BF16: in channels-last memory, the weight gradient of
a dilated bfloat16 convolution of 28 pixels or more is wrong by orders of magnitude, or writes
outside its memory. Without dilation 400 random shapes agreed with float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
DILATION = 5  # its place among their arguments


class WideDilated(TorchFunctionMode):
    """While entered, takes dilated convolutions out of autocast; their outputs are as under it."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func not in CONVOLUTIONS or not _dilated(args, named):
            return func(*args, **named)
        dtype = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            out: Tensor = func(*map(_wide, args), **{k: _wide(v) for k, v in named.items()})
        return out.to(dtype)


def _dilated(args: Any, named: dict[str, Any]) -> bool:
    found = named.get("dilation", args[DILATION] if len(args) > DILATION else 1)
    return any(step != 1 for step in (found if isinstance(found, list | tuple) else [found]))


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value
