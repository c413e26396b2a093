"""How a training's passes run: precision, memory layout, and whose batch gives the statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from raynas.core.nest import Nest, call, mapped
from raynas.core.train_settings import TrainSettings
from raynas.supernet.dilated import WideDilated
from raynas.supernet.memory_layout import in_layout, lay_out, runs_channels_last
from raynas.supernet.sync_batch_norm import is_synchronised, synchronised

Manner = Callable[[], AbstractContextManager[object]]


class PrecisionPolicy:
    """What a training does around every forward pass.

    Args:
        settings: precision, memory layout and whose batch BatchNorm takes its statistics from.
        device: that the passes run on.
        world: how many ranks there are.
    """

    def __init__(self, settings: TrainSettings, device: torch.device, world: int = 1) -> None:
        self._channels_last, self._device = settings.channels_last, device
        self._dtype = dtype = (
            None if settings.precision == "float32" else getattr(torch, settings.precision)
        )
        sync = settings.sync_batch_norm and world > 1
        self._manner = _manner(device.type, dtype, sync)
        self._exact = _manner(device.type, None, sync)

    def scaler(self) -> torch.amp.GradScaler:
        """Return what scales the loss of float16, and leaves that of other types alone.

        Raises:
            ValueError: float16 is asked for, and there is no GPU to train on.
        """
        half = self._dtype == torch.float16
        if half and self._device.type != "cuda":
            raise ValueError("precision float16 needs a GPU; on a CPU use float32 or bfloat16")
        return torch.amp.GradScaler(self._device.type, enabled=half)

    @property
    def channels_last(self) -> bool:
        """Whether images and weights lie in memory so; settled where the model is placed."""
        return self._channels_last

    def placed(self, model: nn.Module, example: Nest) -> nn.Module:
        """Return the model, its weights laid out as convolutions are to take them.

        Args:
            model: whose weights are laid out; contiguous where it does not run otherwise.
            example: a few inputs.
        """
        lay_out(model, self._channels_last)
        if self._channels_last and not runs_channels_last(model, example):
            self._channels_last = False
            lay_out(model, False)
        return model

    def laid_out(self, inputs: Nest) -> Nest:
        """Return a batch whose images lie in memory likewise."""
        return mapped(lambda x: in_layout(x, self._channels_last), inputs)

    def run(self, model: Callable[..., object], inputs: Nest, *, exact: bool = False) -> Any:
        """Run a pass and return what the model gives, in float32 at least.

        Args:
            model: a module, or a function that runs one.
            inputs: a batch.
            exact: compute in float32 whatever the settings say.
        """
        with self._exact() if exact else self._manner():
            out = call(model, inputs)
        return tree_map_only(Tensor, at_least_float32, out)


def at_least_float32(x: Tensor) -> Tensor:
    """Return a tensor of shorter floating point numbers in float32, any other as it is."""
    if not x.is_floating_point():
        return x
    return x.to(torch.promote_types(x.dtype, torch.float32))


def as_now(device: torch.device) -> Manner:
    """Return what lets a later pass, in whatever thread, run as one on the device would now."""
    on = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if on else None
    return _manner(device.type, dtype, is_synchronised())


def _manner(device: str, dtype: torch.dtype | None, sync: bool) -> Manner:
    if dtype is None and not sync:
        return nullcontext

    @contextmanager
    def entered() -> Iterator[None]:
        with ExitStack() as stack:
            if dtype is not None:
                # nothing is cached: versions of torch give the cast of a weight that was made
                # without gradients to passes that need them
                stack.enter_context(torch.autocast(device, dtype, cache_enabled=False))
                if device == "cpu":
                    stack.enter_context(WideDilated())
            if sync:
                stack.enter_context(synchronised())
            yield

    return entered
