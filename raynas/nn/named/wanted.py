"""What a model is to be built for, and how a library's model is built again."""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raynas.nn.named.load_network import build_whole

Recipe = dict[str, Any]
COPIES = 3  # of a model while it is converted: its own, one that is tried, one that is elastic


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a model is to be built for.

    Attributes:
        name: behind the prefix.
        options: of the library's model.
        num_classes: that it tells apart, or tokens that it knows; None is the library's number.
        in_channels: of images; None is the library's number.
        resolution: height and width of images; None is the library's.
        inputs: signature of an example (``raynas.core.nest.signature``); None if it is not known.
        weights: a local file of them; None draws them.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    num_classes: int | None = None
    in_channels: int | None = None
    resolution: int | None = None
    inputs: Any = None
    weights: str | None = None


def library(module: str, extra: str) -> Any:
    """Return a library that builds models.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how it is.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ModuleNotFoundError(
            f"models of {module} need the package {module}: pip install 'raynas[{extra}]'"
        ) from None


def nearest_model(prefix: str, name: str, names: Collection[str]) -> str:
    """Return a hint that names the nearest model of a library.

    >>> nearest_model("timm", "resnet19", ["resnet18", "vgg11"])
    "did you mean 'timm:resnet18'?"
    """
    by_lower = {known.lower(): known for known in names}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.4)
    if close:
        return f"did you mean '{prefix}:{by_lower[close[0]]}'?"
    return f"there are {len(names)}, such as '{prefix}:{min(names)}'"


def refuse_downloads(prefix: str, options: Mapping[str, Any], words: Collection[str]) -> None:
    """Raise ValueError where an option would fetch weights, or run somebody's code.

    Args:
        prefix: of the library.
        options: of the model.
        words: the library's names of such options.
    """
    if asked := sorted(set(options) & set(words)):
        raise ValueError(
            f"{prefix}: the option {asked[0]!r} is not taken, for nothing is downloaded: pass "
            "weights=FILE.safetensors"
        )


def built(recipe: Recipe, name: str) -> nn.Module:
    """Return the model of a recipe.

    Raises:
        ValueError: the library refuses an option, or what it is given.
    """
    try:
        return build_whole(recipe)
    except (TypeError, ValueError, AssertionError, RuntimeError, AttributeError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{name} cannot be built with {recipe['options']}: {text}") from error


def check_memory(recipe: Recipe, name: str) -> None:
    """Raise ValueError where the weights alone would fill the machine's memory."""
    if recipe["library"] != "transformers":
        return
    with torch.device("meta"):
        weights = built(recipe, name).parameters()
        needed = sum(p.numel() * p.element_size() for p in weights)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if COPIES * needed > there:
        raise ValueError(
            f"{name} has {needed / 1e9:.1f} GB of weights, which do not fit this machine's "
            f"{there / 1e9:.1f} GB of memory {COPIES} times: say smaller sizes, as options "
            "(--model-option)"
        )


def local_file(path: str) -> Path:
    """Return a file of weights.

    Raises:
        ValueError: it is of a form that may run code.
        FileNotFoundError: it is not there.
    """
    file = Path(path)
    if file.suffix != ".safetensors":
        raise ValueError(
            f"weights: expected a .safetensors file, which holds numbers alone, got {path!r}"
        )
    if not file.is_file():
        raise FileNotFoundError(f"weights: there is no file {path}")
    return file
