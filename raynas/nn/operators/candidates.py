"""The candidates of one slot, built and tried before anything depends on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from raynas.core.errors import InvalidSpace
from raynas.nn.mutable import mutables
from raynas.nn.operators.operator_registry import OPERATORS, Operator

SIZE = 8  # height and width of the input that a candidate is tried with


def candidates(
    names: Iterable[str] | Mapping[str, Operator],
    channels_in: int,
    channels_out: int,
    stride: int,
    *,
    where: str,
) -> dict[str, nn.Module]:
    """Return the named operators, built for one slot and tried on a small input.

    The trial changes no BatchNorm statistics and no random state, so that the weights are those of
    building alone. Two kinds are built but not tried: a candidate with choices of its own, of which
    none is active yet, and one on the meta device, where a model is remade that has been tried.

    Args:
        names: of registered operators, in order; or operators by the names to give them.
        channels_in: input channels of the slot.
        channels_out: output channels.
        stride: input pixels per output pixel.
        where: the slot's label, for messages.

    Raises:
        InvalidSpace: an operator that cannot be built for the slot, fails on an input, or gives
            another shape than (batch, channels_out, ceil(height / stride), ceil(width / stride));
            or a name given twice.
        UnknownName: no operator has the name.
    """
    slot = f"{channels_in} -> {channels_out} channels at stride {stride}"
    built: dict[str, nn.Module] = {}
    for name, operator in _named(names):
        what = f"{where}: candidate {name!r}"
        if name in built:
            raise InvalidSpace(f"{what} is named twice")
        try:
            layer = operator(channels_in, channels_out, stride)
        except (ValueError, TypeError, RuntimeError) as error:
            raise InvalidSpace(f"{what} cannot be built for {slot}: {error}") from error
        if not isinstance(layer, nn.Module):
            raise InvalidSpace(f"{what} must be an nn.Module, got a {type(layer).__name__}")
        _check_shape(layer, channels_in, channels_out, stride, f"{what}, built for {slot},")
        built[name] = layer
    return built


def _named(names: Iterable[str] | Mapping[str, Operator]) -> Iterator[tuple[str, Operator]]:
    if isinstance(names, Mapping):
        yield from names.items()
    else:
        yield from ((name, OPERATORS[name]) for name in names)


def _check_shape(
    layer: nn.Module, channels_in: int, channels_out: int, stride: int, what: str
) -> None:
    device = next((p.device for p in layer.parameters()), torch.get_default_device())
    if device.type == "meta" or any(mutables(layer)):
        return
    x = torch.zeros(2, channels_in, SIZE, SIZE, device=device)
    size = -(-SIZE // stride)
    expected = (2, channels_out, size, size)
    try:
        out = _tried(layer, x)
    except Exception as error:
        raise InvalidSpace(f"{what} fails on an input of {tuple(x.shape)}: {error}") from error
    got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if got != expected:
        raise InvalidSpace(f"{what} makes {got} of {tuple(x.shape)}, expected {expected}")


@torch.no_grad()
def _tried(layer: nn.Module, x: Tensor) -> Any:
    """Return what the layer makes of x; its buffers and the random state stay as they are."""
    buffers = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    with torch.random.fork_rng([x.device] if x.is_cuda else []):
        return functional_call(layer, buffers, (x,))
