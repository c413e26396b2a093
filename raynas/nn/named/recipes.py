"""How the model of a converted space is built again without raynas."""

from __future__ import annotations

import json
from typing import Any

from torch import nn

from raynas.nn.conversion.elastic_space import ElasticSpace
from raynas.nn.named.load_network import build_whole
from raynas.nn.named.named_space import NamedSpace
from raynas.nn.named.wanted import Recipe


def recipe_of(space: ElasticSpace) -> Recipe:
    """Return how the library builds a space's model.

    Raises:
        ValueError: no library builds it by a name, as far as can be told.
    """
    if isinstance(space, NamedSpace):
        return space.recipe
    model: Any = space.model
    recipe = _of_transformers(model) or _of_timm(model)
    if recipe is None:
        raise ValueError(
            f"save: no library builds {space.name} by a name: name it "
            "(raynas.space('torchvision:resnet18', ...)), or export its network as .pt2 or .onnx"
        )
    return recipe


def _of_transformers(model: Any) -> Recipe | None:
    kind = type(model)
    if kind.__module__.partition(".")[0] != "transformers" or not hasattr(model, "config"):
        return None
    config = json.loads(model.config.to_json_string(use_diff=False))
    return {
        "library": "transformers",
        "name": kind.__name__,
        "config_class": type(model.config).__name__,
        "config": config,
        "options": {},
    }


def _of_timm(model: Any) -> Recipe | None:
    """Return the recipe of a model that timm built without options but these two."""
    if not hasattr(model, "pretrained_cfg") or not hasattr(model, "num_classes"):
        return None
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    recipe = {
        "library": "timm",
        "name": model.pretrained_cfg["architecture"],
        "options": {"num_classes": model.num_classes, "in_chans": first.in_channels},
    }
    made = build_whole(recipe).state_dict()
    own = model.state_dict()
    same = made.keys() == own.keys() and all(made[k].shape == own[k].shape for k in own)
    return recipe if same else None
