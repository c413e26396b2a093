"""The configuration of transformers that a smaller network has, where its layers are alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.nn.conversion.plan import ElasticAxis, Plan

LAYERS, HIDDEN = "num_hidden_layers", "hidden_size"
HEADS = ("num_attention_heads", "num_key_value_heads")
INNER = ("intermediate_size", "n_inner", "ffn_dim", "hidden_dim", "d_ff")  # of MLPs
HEAD_WIDTH = "head_dim"


@dataclass
class LayerSizes:
    """What of each layer of a network stays.

    Attributes:
        path: of the list of layers.
        layers: indices of those that stay.
        uneven: whether a layer lacks a part of it.
        shares: of heads and of MLPs' channels that stay, by layer and kind.
        width: share of the channels between layers.
    """

    path: str
    layers: list[int]
    uneven: bool = False
    shares: dict[int, dict[str, float]] = field(default_factory=dict)
    width: float = 1.0


def layer_sizes(
    model: nn.Module, config: Any, plan: Plan, arch: Mapping[str, Value]
) -> LayerSizes | None:
    """Return what of each layer an architecture keeps; None where there is no list of layers.

    Args:
        model: the whole of it, of transformers.
        config: its configuration.
        plan: what is elastic.
        arch: the architecture.
    """
    count = config.num_hidden_layers if hasattr(config, LAYERS) else None
    lists = (p for p, m in model.named_modules() if isinstance(m, nn.ModuleList))
    path = next((p for p in lists if len(model.get_submodule(p)) == count), None)  # type: ignore[arg-type]
    if path is None or count is None:
        return None
    sizes = LayerSizes(path, list(range(count)))
    for layer in range(count):
        states = [arch.get(s.label, 1) for s in plan.skips if s.path == f"{path}.{layer}"]
        states += [
            arch.get(s.label, 1) for s in plan.skips if s.path.startswith(f"{path}.{layer}.")
        ]
        if states and not any(states):
            sizes.layers.remove(layer)
        elif not all(states):
            sizes.uneven = True
    _add_shares(sizes, model, plan, arch)
    return sizes


def _add_shares(sizes: LayerSizes, model: Any, plan: Plan, arch: Mapping[str, Value]) -> None:
    kept = plan.kept(arch)
    tokens = model.get_input_embeddings()
    width = (
        None
        if tokens is None
        else next((f"{path}.weight" for path, m in model.named_modules() if m is tokens), None)
    )
    for number, axis in plan.axes.items():
        share = kept[number] / axis.units
        if (width, 1) in axis.places or (width is None and axis.kind == "width"):
            sizes.width = share
        for layer in _layers_of(axis, sizes.path):
            sizes.shares.setdefault(layer, {})[axis.kind] = share


def _layers_of(axis: ElasticAxis, path: str) -> Iterator[int]:
    """Yield the layer that an axis lies in, where it lies in one alone."""
    pattern = re.compile(rf"{re.escape(path)}\.(\d+)\.")
    places = {pattern.match(name) for name, _ in axis.places}
    found = {int(place[1]) for place in places if place is not None}
    if None not in places and len(found) == 1:
        yield from found


def even_config(config: Mapping[str, Any], known: Any, sizes: LayerSizes) -> dict[str, Any] | None:
    """Return the configuration of a smaller network; None where layers differ.

    Args:
        config: of the whole, as a dict.
        known: the same, as an object that knows the names of its fields.
        sizes: of the layers.
    """
    shares = [sizes.shares.get(layer, {}) for layer in sizes.layers]
    if sizes.uneven or not sizes.layers or any(share != shares[0] for share in shares):
        return None
    smaller = dict(config) | layer_config(config, known, shares[0], sizes.width)
    count = len(known_layers(known))
    smaller[_field(known, LAYERS)] = len(sizes.layers)
    for name, value in config.items():
        if isinstance(value, list) and len(value) == count:
            smaller[name] = [value[layer] for layer in sizes.layers]
    return smaller


def known_layers(known: Any) -> range:
    """Return the indices of a configuration's layers."""
    return range(known.num_hidden_layers)


def layer_config(
    config: Mapping[str, Any], known: Any, share: Mapping[str, float], width: float
) -> dict[str, Any]:
    """Return the fields of a configuration that a layer of these sizes has, where they differ."""
    found: dict[str, Any] = {}
    heads = known.num_attention_heads
    if width != 1.0:
        found[_field(known, HIDDEN)] = round(known.hidden_size * width)
    if share.get("heads", 1.0) != 1.0:
        for name in HEADS:
            if config.get(own := _field(known, name)) is not None:
                found[own] = round(config[own] * share["heads"])
    if HEAD_WIDTH in config and (width, share.get("heads", 1.0)) != (1.0, 1.0):
        found[HEAD_WIDTH] = config[HEAD_WIDTH] or known.hidden_size // heads
    inner = next((_field(known, n) for n in INNER if _field(known, n) in config), None)
    if inner is not None:
        before = config[inner] or 4 * known.hidden_size  # as GPT-2 says it
        after = round(before * share.get("ffn", 1.0))
        if after != before or width != 1.0:
            found[inner] = after
    return found


def _field(known: Any, name: str) -> str:
    """Return what a configuration calls a field."""
    return str(known.attribute_map.get(name, name))


def renumbered(state: Mapping[str, Tensor], sizes: LayerSizes) -> dict[str, Tensor]:
    """Return weights under the names that they have where layers that are left out are gone."""
    pattern = re.compile(rf"{re.escape(sizes.path)}\.(\d+)\.")
    at = {layer: index for index, layer in enumerate(sizes.layers)}
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = pattern.match(name)
        if match is None:
            named[name] = tensor
        elif int(match[1]) in at:
            named[f"{sizes.path}.{at[int(match[1])]}.{name[match.end() :]}"] = tensor
    return named
