"""Checks of what a trainer is given, before anything is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def check_epochs(name: str, epochs: Any) -> None:
    """Raise unless epochs are a whole number from 1.

    Raises:
        TypeError: they are no whole number.
        ValueError: there are none.
    """
    if not isinstance(epochs, int) or isinstance(epochs, bool):
        raise TypeError(f"{name}: expected a whole number of epochs, got {epochs!r}")
    if epochs < 1:
        raise ValueError(f"{name}: expected 1 epoch at least, got {epochs}")


def check_loss(name: str, loss: Any) -> None:
    """Raise TypeError unless a loss is a function of (outputs, targets)."""
    if not callable(loss) or isinstance(loss, type):
        shown = loss.__name__ if isinstance(loss, type) else repr(loss)
        raise TypeError(
            f"{name}: expected a function of (outputs, targets) such as nn.CrossEntropyLoss(), got "
            f"{shown}"
        )


def check_optimizer(model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError unless all that an optimizer trains are the model's parameters."""
    if not isinstance(model, nn.Module):
        return  # said elsewhere
    own = {id(weight) for weight in model.parameters()}
    trained = [weight for group in optimizer.param_groups for weight in group["params"]]
    if foreign := sum(id(weight) not in own for weight in trained):
        raise ValueError(
            f"optimizer: {foreign} of its {len(trained)} parameters are not the model's; make it "
            "of model.parameters()"
        )
