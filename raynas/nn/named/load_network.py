"""Loads the network that lies beside this file: ``load_network()``.

It builds the library's model of a name, and gives it the sizes and the weights that the network
has. It needs torch, safetensors and that library, and nothing else.
"""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raynas.nn.conversion.skipped import Skipped

RECIPE, WEIGHTS, CONFIG = "network.json", "network.safetensors", "config.json"


def build_whole(recipe: dict[str, Any]) -> nn.Module:
    """Return the model that a library builds, with initial weights; nothing is downloaded.

    Args:
        recipe: ``library``, ``name`` of the model and ``options``; of torchvision ``in_channels``
            too, of transformers ``config_class`` and ``config``.
    """
    name = recipe["name"]
    net: nn.Module
    if recipe["library"] == "timm":
        timm = importlib.import_module("timm")
        net = timm.create_model(name, pretrained=False, **recipe["options"])
    elif recipe["library"] == "torchvision":
        models = importlib.import_module("torchvision.models")
        net = models.get_model(name, **recipe["options"])
        _take_channels(net, recipe["in_channels"])
    else:
        transformers = importlib.import_module("transformers")
        config = getattr(transformers, recipe["config_class"]).from_dict(recipe["config"])
        net = getattr(transformers, name)(config)
    return net


def _take_channels(net: nn.Module, channels: int) -> None:
    """Let the first convolution take images of another number of channels."""
    path, first = next((p, m) for p, m in net.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels != channels:
        kept = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
        sizes: dict[str, Any] = {key: getattr(first, key) for key in kept}
        biased = first.bias is not None
        net.set_submodule(path, nn.Conv2d(channels, first.out_channels, **sizes, bias=biased))


def load_network(folder: str | Path | None = None) -> nn.Module:
    """Return the network of a folder in evaluation mode.

    Args:
        folder: None takes that of this file.

    Raises:
        ValueError: the weights are not those of the network.
    """
    place = Path(__file__).parent if folder is None else Path(folder)
    recipe = json.loads((place / RECIPE).read_text(encoding="utf-8"))
    if recipe["library"] == "transformers":
        recipe["config"] = json.loads((place / CONFIG).read_text(encoding="utf-8"))
        recipe["config"].pop("per_layer_config", None)  # what is uneven stands in the recipe
    with torch.random.fork_rng(devices=[]):
        net = build_whole(recipe)
    shrink(net, recipe)
    load_file = importlib.import_module("safetensors.torch").load_file
    take_weights(net, load_file(place / WEIGHTS))
    return net.eval()


def shrink(net: nn.Module, recipe: dict[str, Any]) -> None:
    """Give a whole model the numbers of a smaller one, and leave out what that does not have.

    Args:
        net: as ``build_whole`` returns it.
        recipe: ``left_out`` says by path what stands for a module, ``numbers`` by path which
            attributes differ; a dict is of numbers of an object, such as a configuration.
    """
    for path, form in recipe["left_out"].items():
        net.set_submodule(path, Skipped(**form))
    for path, numbers in recipe["numbers"].items():
        module: Any = net.get_submodule(path)
        for name, value in numbers.items():
            vars(module)[name] = _changed(vars(module)[name], value)


def _changed(value: Any, other: Any) -> Any:
    if isinstance(other, dict):
        held = copy.copy(value)
        vars(held).update({key: _changed(vars(held)[key], new) for key, new in other.items()})
        return held
    return type(value)(other) if isinstance(value, tuple) else other


def take_weights(net: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put tensors of any sizes in the place of a network's own; what is shared stays shared.

    Raises:
        ValueError: a tensor is missing, or the network has none of that name.
    """
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    first: dict[str, Tensor] = {}
    needed: set[str] = set()
    for path, module in net.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                full = f"{path}.{name}" if path else name
                if id(tensor) not in owners and name not in module._non_persistent_buffers_set:
                    needed.add(full)
                owners.setdefault(id(tensor), []).append((module, name))
                first[full] = tensor
    missing, unknown = sorted(needed - tensors.keys()), sorted(tensors.keys() - first.keys())
    if missing or unknown:
        raise ValueError(f"the weights lack {missing[:3]} and have {unknown[:3]} besides")
    for full, new in tensors.items():
        old = first[full]
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        for module, name in owners[id(old)]:
            is_weight = name in module._parameters
            held: Any = module._parameters if is_weight else module._buffers
            held[name] = new
