"""Starting one layer from another that is smaller, without changing what it computes.

Kernels are padded by zeros, channels are repeated, and what reads a repeated channel takes its
share of it, in the manner of Net2Net (Chen et al., 2016, arXiv:1511.05641).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from raynas.nn.choice import LayerChoice
from raynas.nn.mutable import mutables


def spread_weights(model: nn.Module, noise: float, rng: torch.Generator) -> list[str]:
    """Start all candidates of every choice from the one that is active.

    Args:
        model: a supernet whose active candidates are trained.
        noise: standard deviation added to each inherited convolution and linear weight, as a share
            of that weight's own, so that repeated channels may grow apart.
        rng: draws the noise.

    Returns:
        The candidates, as ``label=name``, that could not inherit: other layers in another order,
        or channels that are no multiple. They keep their own initial weights; those without
        weights have nothing to inherit.
    """
    kept: list[str] = []
    for choice in reversed(list(mutables(model))):  # nested ones first: those around copy them
        if isinstance(choice, LayerChoice) and type(choice.route) is int:
            source = choice.layers()[choice.route]
            for name, layer in zip(choice.names, choice.layers(), strict=True):
                own = layer is source or next(layer.parameters(), None) is None
                if not own and not inherit(layer, source, noise, rng):
                    kept.append(f"{choice.label}={name}")
    return kept


@torch.no_grad()
def inherit(target: nn.Module, source: nn.Module, noise: float, rng: torch.Generator) -> bool:
    """Write ``source`` into ``target`` so that both compute the same; False if they cannot.

    Both must hold the same kinds of layers in the same order, the target's kernels at least as
    large and its inner channels whole multiples. What stands between convolutions, BatchNorms and
    linear layers must treat all channels alike, which nothing here can check.
    """
    olds, news = _leaves(source), _leaves(target)
    if [type(m) for m in olds] != [type(m) for m in news]:
        return False
    pairs = list(zip(olds, news, strict=True))
    grown = [_grown(old, new) if _settings_agree(old, new) else None for old, new in pairs]
    if any(weights is None for weights in grown) or not _repeats_agree(pairs):
        return False
    for (_, new), weights in zip(pairs, grown, strict=True):
        for name, value in (weights or {}).items():
            tensor = getattr(new, name)
            spread = noise * value.std(correction=0) if _is_weight(new, name) else 0.0
            jitter = torch.randn(value.shape, generator=rng).to(value)
            tensor.copy_(value + spread * jitter)
    return True


def _leaves(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if not list(m.children()) or _tensors(m)]


def _tensors(layer: nn.Module) -> dict[str, Tensor]:
    own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
    return dict(own)


def _is_weight(layer: nn.Module, name: str) -> bool:
    return name == "weight" and isinstance(layer, _ConvNd | nn.Linear)


def _grown(old: nn.Module, new: nn.Module) -> dict[str, Tensor] | None:
    """Return the source's tensors in the target's shapes, or None if they do not fit."""
    grown: dict[str, Tensor] = {}
    tensors, places = _tensors(old), _tensors(new)
    if tensors.keys() != places.keys():
        return None
    for name, value in tensors.items():
        wanted = places[name]
        if wanted.dim() != value.dim():
            return None
        fitted = _fit(value, wanted.shape, shares=_is_weight(new, name))
        if fitted is None:
            return None
        grown[name] = fitted
    return grown


def _settings_agree(old: nn.Module, new: nn.Module) -> bool:
    """Return whether two layers of one kind differ in nothing but kernel size and channels."""
    if isinstance(old, _ConvNd) and isinstance(new, _ConvNd):
        return _convolutions_agree(old, new)
    if isinstance(old, _BatchNorm) and isinstance(new, _BatchNorm):
        return old.eps == new.eps
    return isinstance(old, nn.Linear) or old.extra_repr() == new.extra_repr()


def _convolutions_agree(old: _ConvNd, new: _ConvNd) -> bool:
    depthwise = all(m.groups == m.in_channels == m.out_channels for m in (old, new))
    grouping = old.groups == new.groups == 1 or depthwise
    stepping = (old.stride, old.dilation) == (new.stride, new.dilation)
    edges = (old.padding_mode, old.output_padding) == (new.padding_mode, new.output_padding)
    # a transposed kernel holds its input channels first, so that _fit would share the wrong ones
    straight = not old.transposed or old.weight.shape[:2] == new.weight.shape[:2]
    return grouping and stepping and edges and straight and _margins(old) == _margins(new)


def _margins(conv: _ConvNd) -> list[int]:
    """Return by how much the output is larger than without kernel: equal ones stay centred."""
    if conv.padding == "same":
        return [0] * len(conv.kernel_size)
    pads = [0] * len(conv.kernel_size) if isinstance(conv.padding, str) else conv.padding
    sizes = zip(pads, conv.dilation, conv.kernel_size, strict=True)
    return [2 * padding - dilation * (kernel - 1) for padding, dilation, kernel in sizes]


def _fit(value: Tensor, shape: torch.Size, shares: bool) -> Tensor | None:
    """Repeat channels (dims 0 and 1) and pad kernels (the others) up to ``shape``."""
    if value.dim() == 0:
        return value
    for dim, size in enumerate(shape[:2]):
        if size % value.shape[dim]:
            return None
        times = size // value.shape[dim]
        value = value.repeat([times if d == dim else 1 for d in range(value.dim())])
        if shares and dim == 1:
            value = value / times
    gaps = [size - old for size, old in zip(shape[2:], value.shape[2:], strict=True)]
    if any(gap < 0 or gap % 2 for gap in gaps):
        return None
    return nn.functional.pad(value, [gap // 2 for gap in reversed(gaps) for _ in range(2)])


def _repeats_agree(pairs: Iterable[tuple[nn.Module, nn.Module]]) -> bool:
    """Return whether each layer reads just the channels that the one before repeats."""
    times = 1
    for old, new in pairs:
        if isinstance(old, _ConvNd) and isinstance(new, _ConvNd):
            if new.in_channels != times * old.in_channels:
                return False
            times = new.out_channels // old.out_channels
        elif isinstance(old, nn.Linear) and isinstance(new, nn.Linear):
            if new.in_features != times * old.in_features:
                return False
            times = new.out_features // old.out_features
        elif isinstance(old, _BatchNorm) and isinstance(new, _BatchNorm):
            if new.num_features != times * old.num_features:
                return False
        elif [t.shape for t in _tensors(old).values()] != [t.shape for t in _tensors(new).values()]:
            return False
    return times == 1
