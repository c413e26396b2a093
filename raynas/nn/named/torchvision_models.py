"""Models of torchvision: of classification and of segmentation."""

from __future__ import annotations

import inspect
from typing import Any

from raynas.core.errors import UnknownName
from raynas.nn.named.wanted import Recipe, Wanted, nearest_model, refuse_downloads

PREFIX = "torchvision"
FETCHED = ("weights_backbone", "pretrained", "pretrained_backbone", "progress")
SIDE = 224  # of the images that most of them were made for


def recipe(wanted: Wanted) -> Recipe:
    """Return how a model is built.

    Raises:
        UnknownName: torchvision has no such model.
        ValueError: an option would download something.
    """
    from torchvision import models

    known = names()
    if wanted.name not in known:
        hint = nearest_model(PREFIX, wanted.name, known)
        raise UnknownName(f"torchvision has no model named {wanted.name!r}; {hint}")
    refuse_downloads(f"{PREFIX}:{wanted.name}", wanted.options, FETCHED)
    builder = models.get_model_builder(wanted.name)
    options: dict[str, Any] = {"weights": None}
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    if wanted.num_classes is not None:
        options["num_classes"] = wanted.num_classes
    if wanted.name.startswith("vit_") and wanted.resolution is not None:
        options["image_size"] = wanted.resolution
    return {
        "library": "torchvision",
        "name": wanted.name,
        "options": options | dict(wanted.options),
        "in_channels": wanted.in_channels or 3,
    }


def image_shape(wanted: Wanted) -> tuple[int, int, int]:
    """Return channels, height and width of the images that a model is for."""
    side = wanted.resolution or wanted.options.get("image_size", SIDE)
    return wanted.in_channels or 3, side, side


def description(recipe: Recipe) -> str:
    """Return whose model it is."""
    return f"{recipe['name']} of torchvision."


def default_options(recipe: Recipe) -> dict[str, Any]:
    """Return the model's own options, of those that torchvision tells."""
    from torchvision import models

    parameters = inspect.signature(models.get_model_builder(recipe["name"])).parameters.values()
    kept = (p for p in parameters if p.kind is not p.VAR_KEYWORD)
    return {p.name: p.default for p in kept if p.name not in (*FETCHED, "weights", "num_classes")}


def names() -> list[str]:
    """Return the models that take images and give classes, of the image or of each place."""
    from torchvision import models

    return sorted(
        name for module in (models, models.segmentation) for name in models.list_models(module)
    )
