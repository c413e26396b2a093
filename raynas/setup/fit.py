"""Whether model and data fit each other, seen before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest, call, described, mapped
from raynas.core.train_settings import TrainSettings

if TYPE_CHECKING:
    from torch import nn

    from raynas.data.module import DataModule
    from raynas.nn.modelspace import ModelSpace


def check_fit(model: ModelSpace, data: DataModule, *, trains: bool = True) -> None:
    """Run examples through the supernet, so that what does not fit is said before training.

    Args:
        model: whose supernet is made and run.
        data: whose examples are taken where they are at hand; else zeros of their shape.
        trains: whether it is run in training mode too.

    Raises:
        ValueError: the model or one of its candidates refuses the data's inputs, candidates give
            different shapes, there are not enough outputs for the classes, or what is returned is
            not what the task takes.
    """
    import torch

    from raynas.costs.cost_table import CostTable
    from raynas.costs.space_table import space_table
    from raynas.nn.modelspace import zeros_like_signature
    from raynas.nn.mutable import activate
    from raynas.nn.random_state import own_random_state

    if data.at_hand:
        data.check(data.load())
    net = model.supernet().eval()
    inputs, targets = _examples(data)
    try:
        # runs every candidate, and names the one that does not fit
        if model.signature == data.signature:
            space_table(model)
        else:
            CostTable(net, zeros_like_signature(data.signature))
        activate(net, model.arch_space.sample(np.random.default_rng(0)))
        # 2 examples: a BatchNorm refuses to train on one
        with torch.no_grad(), own_random_state(torch.device("cpu"), 0):
            out = call(net, inputs)
            trained = call(net.train(), inputs) if trains else out
    except InvalidSpace:
        raise
    except Exception as error:
        raise ValueError(
            f"{model.name} does not take {data.name}'s inputs {described(inputs)}: {error}"
        ) from error
    modes = [("", out), (" in training mode", trained)] if trains else [("", out)]
    for mode, given in modes:
        _check_output(model.name, data, given, targets, mode)


def check_network(name: str, net: nn.Module, data: DataModule) -> tuple[Nest, Any]:
    """Run examples through a network that is to be trained.

    Args:
        name: what messages call it.
        net: run in both modes, so that its statistics change.
        data: whose examples are taken where they are at hand; else zeros of their shape.

    Returns:
        The inputs, and what the network gives for them in training mode.

    Raises:
        ValueError: the network refuses the data's inputs, or what it returns is not what the task
            takes.
    """
    import torch

    from raynas.nn.random_state import own_random_state

    inputs, targets = _examples(data)
    try:
        with torch.no_grad(), own_random_state(torch.device("cpu"), 0):
            out, trained = call(net.eval(), inputs), call(net.train(), inputs)
    except Exception as error:
        raise ValueError(
            f"{name} does not take {data.name}'s inputs {described(inputs)}: {error}"
        ) from error
    for mode, given in (("", out), (" in training mode", trained)):
        _check_output(name, data, given, targets, mode)
    return inputs, trained


def _examples(data: DataModule) -> tuple[Nest, Any]:
    """Return two examples; zeros where reading data takes time, without targets if not classes."""
    import torch

    from raynas.data.first_examples import first_examples
    from raynas.data.split import split_of
    from raynas.nn.modelspace import zeros_like_signature

    if not data.at_hand:
        classes = None if data.num_classes is None else torch.zeros(2, dtype=torch.int64)
        return data.task.inputs(zeros_like_signature(data.signature, 2), classes), classes
    inputs, targets = first_examples(data, split_of(data.load().train), 2)
    return inputs, targets


def _check_output(name: str, data: DataModule, out: object, targets: Any, mode: str) -> None:
    """Check what a model returns for two examples against the task."""
    task = data.task
    try:
        output = mapped(_finite, task.output(out))  # of one architecture: others may be sound
        if targets is not None:
            task.check(output, targets, width=data.width, where=name)
        if mode and targets is not None:  # auxiliary outputs are seen by the loss of a training
            task.training_loss(out, targets, smoothing=0.0, aux_weight=1.0)
    except (TypeError, ValueError) as error:
        text = str(error).removeprefix(f"{name}: ")
        raise ValueError(f"{name}{mode}: {text}") from error


def _finite(leaf: Any) -> Any:
    return leaf.nan_to_num() if hasattr(leaf, "nan_to_num") else leaf


def check_batch(size: int | None, data: DataModule) -> None:
    """Check what can be without reading files; the rest is seen when the data are loaded.

    Raises:
        ValueError: the data are at hand and fewer than a batch.
    """
    from raynas.data.split import split_of

    count = len(split_of(data.load().train)) if data.at_hand else None
    if count is not None and size is not None and size > count:
        raise ValueError(f"batch_size {size} is larger than the {count} training examples")


def check_smoothing(options: Mapping[str, Any], data: DataModule) -> None:
    """Raise ValueError where labels are to be smoothed, and the task's loss has none.

    Args:
        options: of a training, as they were given: defaults hold only where they mean something.
        data: whose task counts.
    """
    amount = options.get("label_smoothing")
    if amount and not data.task.smooths and amount != TrainSettings().label_smoothing:
        raise ValueError(
            f"label_smoothing is {amount}, and the loss of the task {data.task.name!r} takes none"
        )
