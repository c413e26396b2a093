"""Examples of a split as a model is called with them."""

from __future__ import annotations

from typing import Any

from raynas.core.nest import Nest, moved
from raynas.data.module import DataModule
from raynas.data.split import Indices, Split

Targets = Any


def chosen_examples(data: DataModule, split: Split, index: Indices) -> tuple[Nest, Targets]:
    """Return what a model is called with for some examples, and their targets.

    Args:
        data: whose task says what a model is called with.
        split: one of its own.
        index: of the examples, in order.
    """
    inputs, targets = data.task.examples(*split.some(index))
    return data.task.inputs(inputs, targets), targets


def first_examples(data: DataModule, split: Split, count: int) -> tuple[Nest, Targets]:
    """Return as much of the first examples of a split, of all if there are fewer."""
    return chosen_examples(data, split, range(min(count, len(split))))


def first_inputs(data: DataModule, split: Split, count: int, device: Any = None) -> Nest:
    """Return what a model is called with for the first examples of a split.

    Args:
        data: whose task says what a model is called with.
        split: one of its own.
        count: how many; all if there are fewer.
        device: to move them to; None leaves them where they are.
    """
    inputs, _ = first_examples(data, split, count)
    return inputs if device is None else moved(inputs, device)
