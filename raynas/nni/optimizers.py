"""A torch optimizer that a user has made, as settings of a training."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from raynas.nni.checks import check_optimizer

UNUSED = ("params", "lr", "weight_decay", "initial_lr")


class OptimizerLike:
    """Makes optimizers of one class with one set of hyperparameters.

    Args:
        kind: the class.
        settings: of it, but for learning rate and weight decay.
    """

    def __init__(self, kind: type[torch.optim.Optimizer], settings: dict[str, Any]) -> None:
        self.kind, self.settings = kind, settings
        # how a run folder names it, from which it can be made again with torch's own settings
        self.__module__, self.__qualname__ = kind.__module__, kind.__qualname__

    def __call__(self, groups: Any, lr: float) -> torch.optim.Optimizer:
        """Return an optimizer of groups of parameters, which say their weight decay."""
        made: Any = self.kind
        optimizer: torch.optim.Optimizer = made(groups, lr=lr, **self.settings)
        return optimizer


def optimizer_options(optimizer: torch.optim.Optimizer, model: Any = None) -> dict[str, Any]:
    """Return the options of a training whose weights are trained as an optimizer would.

    Args:
        optimizer: of the model that is searched; it is not used itself, since the supernet is a
            copy that may be trained in other processes.
        model: whose parameters it has; None checks none.

    Raises:
        TypeError: it is no optimizer.
        ValueError: it has other parameters, its groups have different settings, or its learning
            rate is not positive.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer: expected a torch optimizer, got a {type(optimizer).__name__}")
    check_optimizer(model, optimizer)
    first, *others = [
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
    for other in others:
        if differing := sorted(name for name in first if first[name] != other.get(name)):
            raise ValueError(
                f"optimizer: its groups differ in {', '.join(differing)}; a supernet is trained "
                "with one setting of each"
            )
    rate = float(first.get("initial_lr", first["lr"]))
    options = {"lr": rate, "weight_decay": float(first.get("weight_decay", 0.0))}
    if type(optimizer) is torch.optim.SGD and not (first["dampening"] or first["maximize"]):
        momentum, nesterov = float(first["momentum"]), bool(first["nesterov"])
        return {**options, "optimizer": "sgd", "momentum": momentum, "nesterov": nesterov}
    taken = inspect.signature(type(optimizer)).parameters
    settings = {name: v for name, v in first.items() if name in taken and name not in UNUSED}
    return {**options, "optimizer": OptimizerLike(type(optimizer), settings)}
