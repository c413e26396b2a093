"""A loss of a user's own: a function or module of output and target that gives a scalar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from raynas.core.nest import Nest, described
from raynas.tasks.metric_state import device_of


def check_loss_function(loss: Any) -> None:
    """Raise unless it can be a loss.

    Raises:
        TypeError: it is neither a function of (output, target) nor None.
        ValueError: it has parameters.
    """
    if loss is not None and not callable(loss):
        hint = "; task='regression' has losses by name" if isinstance(loss, str) else ""
        raise TypeError(f"loss must be a function of (output, target), got {loss!r}{hint}")
    if isinstance(loss, type):
        raise TypeError(
            f"loss is the class {loss.__name__}, expected an object: {loss.__name__}(...)"
        )
    if isinstance(loss, nn.Module) and any(p.requires_grad for p in loss.parameters()):
        raise ValueError(
            f"loss {type(loss).__name__} has parameters, which would not be trained: make them "
            "parameters of the model"
        )


def scalar(loss: object) -> Tensor:
    """Return what a loss function gives.

    Raises:
        ValueError: it is no tensor, or not of shape ().
    """
    if isinstance(loss, Tensor) and loss.dim() == 0:
        return loss
    hint = ": take its mean" if isinstance(loss, Tensor) else ""
    raise ValueError(f"the loss gives {described(loss)}, expected a tensor of shape (){hint}")


def on_device_of(output: Nest, loss: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loss function; the tensors that a module has are moved to the output's device."""
    if isinstance(loss, nn.Module):
        held, device = next(loss.buffers(), None), device_of(output)
        if held is not None and device is not None and held.device != device:
            loss.to(device)
    return loss
