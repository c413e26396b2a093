"""A loss and metrics tried on one batch, before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from raynas.core.nest import Nest, described, leaves, mapped
from raynas.tasks.metric_state import MetricFailed, MetricState
from raynas.tasks.own_loss import scalar


def check_loss(loss: Callable[[Any, Any], Tensor], output: Nest, target: Nest, where: str) -> None:
    """Try a loss on a batch.

    Args:
        loss: returns the loss of outputs and targets.
        output: of a model.
        target: of the data.
        where: that the batch comes from.

    Raises:
        ValueError: the loss fails, is no scalar, cannot be differentiated or is no finite number.
    """
    with torch.inference_mode(False), torch.enable_grad():
        inputs = mapped(_differentiable, output)
        try:
            value = scalar(loss(inputs, mapped(_plain, target)))
        except Exception as error:
            text = " ".join(str(error).split())
            if not isinstance(error, ValueError):
                text = f"the loss fails: {type(error).__name__}: {text}"
            raise ValueError(
                f"{where}: {text} (outputs {described(output)}, targets {described(target)})"
            ) from error
    wanted = any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves(inputs))
    if wanted and not value.requires_grad:
        raise ValueError(
            f"{where}: the loss has no gradient for the model's output: it must be computed from "
            "it by differentiable operations of torch"
        )
    if not value.isfinite():
        raise ValueError(f"{where}: the loss is {float(value.detach())}{_cause(output, target)}")


def check_metrics(state: MetricState, output: Nest, target: Nest, where: str) -> None:
    """Try metrics on a batch.

    What fails by a ValueError when it is computed may be undefined for these few examples only,
    such as the area under a curve of one class, and is let pass.

    Raises:
        ValueError: a metric cannot be updated or computed, or gives no single number.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few examples: what is said of them holds for no split
        try:
            state.update(output, target)
        except Exception as error:
            raise ValueError(f"{where}: {error}") from error
        try:
            state.compute()
        except MetricFailed as error:
            if not isinstance(error.__cause__, ValueError):
                raise ValueError(f"{where}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _differentiable(leaf: Any) -> Any:
    leaf = _plain(leaf)
    if isinstance(leaf, Tensor) and leaf.is_floating_point():
        leaf.requires_grad_()
    return leaf


def _plain(leaf: Any) -> Any:
    """Return a copy that gradients may flow through, though made in inference mode."""
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


def _cause(output: Nest, target: Nest) -> str:
    for name, nest in (("the model's output", output), ("the targets", target)):
        tensors = [leaf for leaf in leaves(nest) if isinstance(leaf, Tensor)]
        if any(leaf.is_floating_point() and not leaf.isfinite().all() for leaf in tensors):
            return f": {name} holds nan or infinity".replace("targets holds", "targets hold")
    return ""
