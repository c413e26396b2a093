"""A network in a folder that needs no raynas: weights as safetensors, and how they are loaded."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raynas.core.arch import Value
from raynas.core.nest import Nest
from raynas.nn.conversion import skipped
from raynas.nn.conversion.elastic_space import ElasticSpace
from raynas.nn.conversion.laws import agree, outputs
from raynas.nn.modelspace import ModelSpace
from raynas.nn.named import load_network
from raynas.nn.named.differences import differences, weights_of
from raynas.nn.named.even_layers import (
    LayerSizes,
    even_config,
    layer_config,
    layer_sizes,
    renumbered,
)
from raynas.nn.named.load_network import CONFIG, RECIPE, WEIGHTS, build_whole
from raynas.nn.named.recipes import recipe_of
from raynas.nn.named.wanted import Recipe

LOADER = "load_network.py"
FILES = (RECIPE, WEIGHTS, CONFIG, LOADER, "model.safetensors")
INDENT = 2


def save_network(
    net: nn.Module,
    space: ModelSpace,
    arch: Mapping[str, Value],
    folder: str | Path,
    *,
    force: bool = False,
) -> str:
    """Write a network of a converted model into a folder, from which it is loaded without raynas.

    Of transformers, where layers are alike, it is what ``from_pretrained`` of its class loads.
    Otherwise ``load_network.py``, which is written beside the weights, builds the library's model
    and gives it the sizes in ``network.json``; ``per_layer_config`` in a ``config.json`` says what
    differs from layer to layer.

    Args:
        net: of the space, as ``space.build`` or ``raynas.load(run).model()`` return it.
        space: of a model that exists already.
        arch: the architecture that the network is of.
        folder: local path; it is made, and must hold no network.
        force: replace a network that is there.

    Returns:
        What loads it, as a line of Python.

    Raises:
        TypeError: the space is of no model that was converted.
        ValueError: no library builds its model by a name.
        FileExistsError: the folder holds a network.
    """
    if not isinstance(space, ElasticSpace):
        raise TypeError(
            f"save: {space.name} is no model that was converted (raynas.elastic, or a name such as "
            "timm:resnet18): export its network as .pt2 or .onnx"
        )
    recipe = recipe_of(space)
    place, there = Path(folder), files_there(folder, force=force)
    with torch.random.fork_rng(devices=[]):
        whole = build_whole(recipe)
    place.mkdir(parents=True, exist_ok=True)
    for file in there:
        file.unlink()
    sizes = None
    if recipe["library"] == "transformers":
        sizes = layer_sizes(whole, whole.config, space.plan, arch)
        if sizes is not None:
            even = _even_network(net, whole, recipe, sizes, space.tried_example)
            if even is not None:
                with redirect_stderr(StringIO()):  # a bar that shows how far it is
                    even.save_pretrained(place)
                return f"transformers.{recipe['name']}.from_pretrained({str(place)!r})"
    _write(net, whole, recipe, sizes, place)
    return f"load_network.load_network()  # in {str(place)!r}"


def files_there(folder: str | Path, *, force: bool = False) -> list[Path]:
    """Return the files of a network that a folder holds and that may be replaced.

    Raises:
        FileExistsError: there are such, which nobody asked to replace, or it is no folder.
    """
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise FileExistsError(f"save: {place} is a file: name a folder")
    there = [place / name for name in FILES if (place / name).exists()]
    if there and not force:
        raise FileExistsError(
            f"save: {there[0]} is there already: name another folder, or replace what is there "
            "(force=True, --force)"
        )
    return there


def _even_network(
    net: nn.Module, whole: nn.Module, recipe: Recipe, sizes: LayerSizes, example: Nest
) -> Any:
    """Return the network as its library builds it by a configuration; None where it cannot."""
    known: Any = whole.config
    config = even_config(recipe["config"], known, sizes)
    if config is None:
        return None
    try:
        with torch.random.fork_rng(devices=[]):
            even: Any = build_whole({**recipe, "config": config})
        even.load_state_dict(renumbered(net.state_dict(), sizes))
        same = agree(outputs(net.eval(), example), outputs(even.eval(), example))
    except (ValueError, RuntimeError, TypeError, AttributeError, KeyError):
        return None  # its configuration has no words for these sizes
    if not same:
        return None
    if "use_cache" in config:
        even.config.use_cache = True
    return even


def _write(
    net: nn.Module, whole: nn.Module, recipe: Recipe, sizes: LayerSizes | None, place: Path
) -> None:
    from safetensors.torch import save_file

    told = {key: value for key, value in recipe.items() if key != "config"}
    told |= differences(net, whole)
    if recipe["library"] == "transformers":
        config = dict(recipe["config"]) | {"architectures": [recipe["name"]]}
        if sizes is not None:
            config["per_layer_config"] = _per_layer(recipe["config"], whole.config, sizes)
        _write_json(place / CONFIG, config)
    _write_json(place / RECIPE, told)
    (place / LOADER).write_text(loader_text(), encoding="utf-8")
    save_file(weights_of(net, whole), place / WEIGHTS, {"format": "pt"})


def _per_layer(config: Mapping[str, Any], known: Any, sizes: LayerSizes) -> dict[str, Any]:
    """Return by layer the fields of a configuration that differ from the whole's."""
    told = {}
    for layer in sizes.layers:
        own = layer_config(config, known, sizes.shares.get(layer, {}), sizes.width)
        if own:
            told[str(layer)] = own
    return told


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=INDENT) + "\n", encoding="utf-8")


def loader_text() -> str:
    """Return a program that loads what was saved, and imports nothing of raynas."""
    text = inspect.getsource(load_network)
    own = "from raynas.nn.conversion.skipped import Skipped\n"
    parts = [inspect.getsource(skipped.Skipped), inspect.getsource(skipped.first_tensor)]
    head, tail = text.replace(own, "").split("\n\n\ndef build_whole", 1)
    joined = "\n\n".join(part.rstrip() + "\n" for part in parts)
    return f"{head}\n\n\n{joined}\n\ndef build_whole{tail}"
