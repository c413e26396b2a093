"""Whether model and data fit each other, seen before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raynas.core.errors import InvalidSpace

if TYPE_CHECKING:
    from raynas.data.module import DataModule
    from raynas.nn.modelspace import ModelSpace


def check_fit(model: ModelSpace, data: DataModule) -> None:
    """Run one example through the supernet, so that what does not fit is said before training.

    Raises:
        ValueError: the model or one of its candidates refuses the data's shape, candidates give
            different shapes, or there are not enough outputs for the classes.
    """
    import torch

    from raynas.costs.cost_table import CostTable
    from raynas.nn.mutable import activate

    shape = data.input_shape
    net = model.supernet().eval()
    try:
        # runs every candidate, and names the one that does not fit
        CostTable(net, torch.zeros(1, *shape))
        activate(net, model.arch_space.sample(np.random.default_rng(0)))
        with torch.no_grad():
            out = net(torch.zeros(2, *shape))
    except InvalidSpace:
        raise
    except Exception as error:
        raise ValueError(
            f"{model.name} does not take {data.name}'s inputs of shape {tuple(shape)}: {error}"
        ) from error
    given = tuple(getattr(out, "shape", ()))
    if len(given) != 2 or given[1] < data.num_classes:
        raise ValueError(
            f"{model.name} returns shape {given} for 2 examples, expected (2, {data.num_classes}): "
            f"one logit for each class of {data.name}"
        )


def check_batch(size: int | None, data: DataModule) -> None:
    """Check what can be without reading files; the rest is seen when the data are loaded.

    Raises:
        ValueError: the data are in memory and fewer than a batch.
    """
    from raynas.data.module import TensorData

    count = len(data.load().train[1]) if isinstance(data, TensorData) else None
    if count is not None and size is not None and size > count:
        raise ValueError(f"batch_size {size} is larger than the {count} training examples")
