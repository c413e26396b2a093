"""The norm of the gradient at initialisation (Abdelfattah et al., 2021, arXiv:2101.08134)."""

from __future__ import annotations

import copy

import torch
from torch import nn

from raynas.core.evaluator import EVALUATORS
from raynas.core.nest import call, first
from raynas.data.module import DataModule
from raynas.evaluators.sample import training_batch
from raynas.nn.random_state import own_random_state


@EVALUATORS.register("grad_norm", aliases=("gradnorm",))
class GradNorm:
    """Gives ``grad_norm``: the norm of the loss' gradient on one batch, untrained.

    In training mode: BatchNorm takes the batch's own statistics.

    Differs: Abdelfattah et al. add up the norms of the layers; this is the norm of the whole
    gradient.

    Args:
        batch_size: images in the batch; 64 as in the paper.
    """

    metrics = ("grad_norm",)

    def __init__(self, *, batch_size: int = 64) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        self.batch_size = batch_size

    def measure(self, net: nn.Module, data: DataModule, seed: int) -> dict[str, float]:
        """Return the norm; the network is left as it was."""
        inputs, targets = training_batch(data, self.batch_size, seed)
        twin = copy.deepcopy(net).train()
        with own_random_state(first(inputs).device, seed), torch.enable_grad():
            loss = data.task.loss(data.task.output(call(twin, inputs)), targets)
        weights = [p for p in twin.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        norms = [g.double().norm() for g in found if g is not None]
        return {"grad_norm": float(torch.stack(norms).norm()) if norms else 0.0}
