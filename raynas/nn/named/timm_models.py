"""Models of timm."""

from __future__ import annotations

import inspect
from typing import Any

from raynas.core.errors import UnknownName
from raynas.nn.named.wanted import Recipe, Wanted, library, nearest_model, refuse_downloads

PREFIX = "timm"
FETCHED = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")


def recipe(wanted: Wanted) -> Recipe:
    """Return how a model is built.

    Raises:
        ModuleNotFoundError: timm is not installed.
        UnknownName: it has no such model.
        ValueError: an option would download something.
    """
    timm = library("timm", "timm")
    _check_name(timm, wanted.name)
    refuse_downloads(f"{PREFIX}:{wanted.name}", wanted.options, FETCHED)
    options: dict[str, Any] = dict(wanted.options)
    facts = {"num_classes": wanted.num_classes, "in_chans": wanted.in_channels}
    if settings(timm, wanted.name).fixed_input_size:
        facts["img_size"] = wanted.resolution
    options = {key: value for key, value in facts.items() if value is not None} | options
    return {"library": "timm", "name": wanted.name, "options": options}


def image_shape(wanted: Wanted) -> tuple[int, int, int]:
    """Return channels, height and width of the images that a model is for."""
    timm = library("timm", "timm")
    channels, _, side = settings(timm, wanted.name).input_size
    return (
        wanted.options.get("in_chans", wanted.in_channels or channels),
        *((wanted.resolution or wanted.options.get("img_size", side),) * 2),
    )


def description(recipe: Recipe) -> str:
    """Return whose model it is."""
    return f"{recipe['name']} of timm."


def default_options(recipe: Recipe) -> dict[str, Any]:
    """Return the options of the model's class, with their defaults."""
    timm = library("timm", "timm")
    made = timm.create_model(recipe["name"], pretrained=False, **recipe["options"])
    parameters = inspect.signature(type(made).__init__).parameters.values()
    plain = (int, float, bool, str)
    return {p.name: p.default for p in parameters if isinstance(p.default, plain)}


def settings(timm: Any, name: str) -> Any:
    """Return what timm says of a model without tag."""
    return timm.get_pretrained_cfg(name)


def _check_name(timm: Any, name: str) -> None:
    known = timm.list_models()
    if name not in known:
        base = name.partition(".")[0]
        if base in known:
            raise UnknownName(
                f"{PREFIX}:{name} names weights, which are not downloaded: write '{PREFIX}:{base}'"
            )
        raise UnknownName(f"timm has no model named {name!r}; {nearest_model(PREFIX, name, known)}")
