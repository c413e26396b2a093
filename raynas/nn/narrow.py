"""Layers with a share of their channels: the same kernels, strides and settings, fresh weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

Thinner = Callable[[Any, int], dict[str, tuple[int, ...]]]


def narrowed(layer: nn.Module, divisor: int) -> nn.Module:
    """Return a copy of a layer in which all numbers of channels are divided.

    Convolutions, linear layers and normalisations, wherever they stand inside, get fresh weights,
    drawn as PyTorch draws them; all else is copied as it is. A module that keeps a number of
    channels for itself says what it becomes by a method ``narrowed(divisor)``. Whether the copy
    works is for the caller to try.

    Args:
        layer: any module; it is not changed.
        divisor: of the channels.

    Raises:
        ValueError: a number of channels does not divide, or several layers share a weight.
    """
    thin = copy.deepcopy(layer)
    weights = [id(p) for m in thin.modules() for p in m.parameters(recurse=False)]
    if len(weights) != len(set(weights)):
        raise ValueError("several of its layers share a weight")
    return _thinned(thin, divisor, {})


def divided(channels: int, divisor: int) -> int:
    """Return a share of the channels; raise ValueError if there is none."""
    if channels % divisor:
        raise ValueError(f"{channels} channels do not divide by {divisor}")
    return channels // divisor


def _thinned(layer: nn.Module, divisor: int, done: dict[nn.Module, nn.Module]) -> nn.Module:
    if layer in done:
        return done[layer]
    thinner = next((make for kind, make in _THINNERS if isinstance(layer, kind)), None)
    own = getattr(layer, "narrowed", None)
    if callable(own) and not isinstance(own, nn.Module):
        done[layer] = own(divisor)
        return done[layer]
    done[layer] = layer
    if thinner is not None:
        _renew(layer, thinner(layer, divisor))
        return layer
    for name, child in layer._modules.items():
        if child is not None:
            layer._modules[name] = _thinned(child, divisor, done)
    return layer


def _renew(layer: nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
    """Give a layer fresh parameters and buffers of these shapes; those it has not, it keeps not."""
    for name, shape in shapes.items():
        old = getattr(layer, name)
        if isinstance(old, nn.Parameter):
            setattr(layer, name, nn.Parameter(old.new_empty(shape), old.requires_grad))
        elif isinstance(old, Tensor):
            setattr(layer, name, old.new_empty(shape))
    if shapes:
        layer.reset_parameters()  # type: ignore[operator]


def _groups(groups: int, divisor: int, *channels: int) -> int:
    """Return as many groups as before where they divide the channels, else a share of them."""
    return groups if all(n % groups == 0 for n in channels) else divided(groups, divisor)


def _conv(layer: _ConvNd, divisor: int) -> dict[str, tuple[int, ...]]:
    given, made = (divided(n, divisor) for n in (layer.in_channels, layer.out_channels))
    layer.groups = _groups(layer.groups, divisor, given, made)
    layer.in_channels, layer.out_channels = given, made
    first, second = (given, made) if layer.transposed else (made, given)
    return {"weight": (first, second // layer.groups, *layer.kernel_size), "bias": (made,)}


def _linear(layer: nn.Linear, divisor: int) -> dict[str, tuple[int, ...]]:
    layer.in_features = divided(layer.in_features, divisor)
    layer.out_features = divided(layer.out_features, divisor)
    return {"weight": (layer.out_features, layer.in_features), "bias": (layer.out_features,)}


def _norm(layer: _NormBase, divisor: int) -> dict[str, tuple[int, ...]]:
    layer.num_features = divided(layer.num_features, divisor)
    names = ("weight", "bias", "running_mean", "running_var")
    return dict.fromkeys(names, (layer.num_features,))


def _group_norm(layer: nn.GroupNorm, divisor: int) -> dict[str, tuple[int, ...]]:
    layer.num_channels = divided(layer.num_channels, divisor)
    layer.num_groups = _groups(layer.num_groups, divisor, layer.num_channels)
    return dict.fromkeys(("weight", "bias"), (layer.num_channels,))


def _prelu(layer: nn.PReLU, divisor: int) -> dict[str, tuple[int, ...]]:
    if layer.num_parameters == 1:  # of all channels together
        return {}
    layer.num_parameters = divided(layer.num_parameters, divisor)
    return {"weight": (layer.num_parameters,)}


_THINNERS: tuple[tuple[type[nn.Module], Thinner], ...] = (
    (_ConvNd, _conv),
    (nn.Linear, _linear),
    (_NormBase, _norm),
    (nn.GroupNorm, _group_norm),
    (nn.PReLU, _prelu),
)
