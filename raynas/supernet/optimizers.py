"""The optimizer of a training's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from raynas.core.train_settings import TrainSettings
from raynas.supernet.sgd import SGD

Groups = list[dict[str, Any]]


def optimizer_of(settings: TrainSettings, weights: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer that the settings name.

    Args:
        settings: of the training.
        weights: that are trained.

    Raises:
        TypeError: the settings' own function returns no optimizer.
    """
    groups = _groups(settings, weights)
    if settings.optimizer == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        return SGD(groups, settings.lr, settings.momentum, nesterov=nesterov)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, settings.lr)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, settings.lr, momentum=settings.momentum)
    own = settings.optimizer(groups, settings.lr)
    if not isinstance(own, torch.optim.Optimizer):
        raise TypeError(f"optimizer: expected a torch optimizer, got a {type(own).__name__}")
    return own


def _groups(settings: TrainSettings, weights: Sequence[nn.Parameter]) -> Groups:
    """Return the weights in groups: those that decay, and those that do not."""
    decay = settings.weight_decay
    if settings.decay_norms or decay == 0.0:
        return [{"params": list(weights), "weight_decay": decay}]
    decayed = [weight for weight in weights if weight.dim() > 1]
    spared = [weight for weight in weights if weight.dim() <= 1]
    groups: Groups = [
        {"params": decayed, "weight_decay": decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
