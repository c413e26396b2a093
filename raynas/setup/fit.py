"""Whether model and data fit each other, seen before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raynas.core.errors import InvalidSpace

if TYPE_CHECKING:
    from raynas.data.module import DataModule
    from raynas.nn.modelspace import ModelSpace


def check_fit(model: ModelSpace, data: DataModule, *, trains: bool = True) -> None:
    """Run examples through the supernet, so that what does not fit is said before training.

    Args:
        model: whose supernet is made and run.
        data: whose shape the examples have.
        trains: whether it is run in training mode too.

    Raises:
        ValueError: the model or one of its candidates refuses the data's shape, candidates give
            different shapes, there are not enough outputs for the classes, or what is returned is
            not logits, nor a tuple of these and, in training mode, auxiliary logits.
    """
    import torch

    from raynas.costs.cost_table import CostTable
    from raynas.nn.mutable import activate
    from raynas.nn.random_state import own_random_state
    from raynas.supernet.outputs import kind_of, logits_in, training_logits

    shape = data.input_shape
    net = model.supernet().eval()
    try:
        # runs every candidate, and names the one that does not fit
        CostTable(net, torch.zeros(1, *shape))
        activate(net, model.arch_space.sample(np.random.default_rng(0)))
        # 2 examples: a BatchNorm refuses to train on one
        with torch.no_grad(), own_random_state(torch.device("cpu"), 0):
            out = net(torch.zeros(2, *shape))
            trained = net.train()(torch.zeros(2, *shape)) if trains else out
    except InvalidSpace:
        raise
    except Exception as error:
        raise ValueError(
            f"{model.name} does not take {data.name}'s inputs of shape {tuple(shape)}: {error}"
        ) from error
    for mode, given in (("", out), (" in training mode", trained)):
        try:
            logits = logits_in(given) if given is out else training_logits(given)[0]
        except TypeError as error:
            raise ValueError(f"{model.name}: {error}") from error
        if logits.dim() != 2 or logits.shape[1] < data.num_classes:
            raise ValueError(
                f"{model.name} returns {kind_of(given)} for 2 examples{mode}, expected "
                f"(2, {data.num_classes}): one logit for each class of {data.name}"
            )


def check_batch(size: int | None, data: DataModule) -> None:
    """Check what can be without reading files; the rest is seen when the data are loaded.

    Raises:
        ValueError: the data are in memory and fewer than a batch.
    """
    from raynas.data.tensor_data import TensorData

    count = len(data.load().train[1]) if isinstance(data, TensorData) else None
    if count is not None and size is not None and size > count:
        raise ValueError(f"batch_size {size} is larger than the {count} training examples")
