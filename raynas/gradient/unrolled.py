"""The gradient of the validation loss after one virtual step (DARTS, arXiv:1806.09055, eq. 7-8)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raynas.gradient.base import Differentiable, gradients
from raynas.supernet.protocol import Batch

Tensors = list[Tensor]


def unrolled_gradients(
    search: Differentiable, train: Batch, valid: Batch, alphas: Sequence[nn.Parameter]
) -> tuple[Tensor, Tensors]:
    """Return the validation loss and the logits' gradients, by finite differences.

    With learning rate eta, momentum mu, its buffer v and weight decay lambda: d is the training
    gradient plus lambda w, w' = w - eta (mu v + d), g' the validation gradient at w', and
    eps = 0.01 / |g'|; the training loss' logit gradients at w +- eps g' give the Hessian-vector
    product. Weights and BatchNorm statistics are never touched: passes run on other tensors.

    Differs: weights are not shifted and shifted back, so that they do not drift; the virtual step
    is that of plain momentum, also where the weights' own is Nesterov's; the passes at w +- eps g'
    are in float32 whatever the precision.

    Args:
        search: the algorithm, attached.
        train: batch of the virtual step.
        valid: batch of the validation loss.
        alphas: live logits.
    """
    training = search.training
    named = dict(training.model.named_parameters())
    buffers = {name: buffer.clone() for name, buffer in training.model.named_buffers()}
    group = training.optimizer.param_groups[0]
    lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
    weights = list(named.values())

    def loss(
        batch: Batch, values: Sequence[Tensor], smoothing: float | None, exact: bool = False
    ) -> Tensor:
        tensors = {**buffers, **dict(zip(named, values, strict=True))}
        return training.loss(batch, tensors, smoothing=smoothing, exact=exact)

    def shifted(direction: Sequence[Tensor], scale: float | Tensor) -> Tensors:
        pairs = zip(weights, direction, strict=True)
        return [(w.detach() + scale * d).requires_grad_() for w, d in pairs]

    descent = gradients(loss(train, weights, None), weights)
    training.average(descent)
    virtual = shifted(
        [
            g + decay * w.detach() + momentum * _momentum(training.optimizer, w)
            for g, w in zip(descent, weights, strict=True)
        ],
        -lr,
    )
    value = loss(valid, virtual, 0.0)
    grads = gradients(search.penalised(value), [*virtual, *alphas])
    at_weights, at_alphas = grads[: len(virtual)], grads[len(virtual) :]
    training.average(at_weights)
    # stays a tensor: reading it would wait for the device
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(at_weights)))
    eps = 0.01 / norm.clamp_min(1e-12)
    # bfloat16 would round the shifts away: their norm is a hundredth in all
    up = gradients(loss(train, shifted(at_weights, eps), None, exact=True), alphas)
    down = gradients(loss(train, shifted(at_weights, -eps), None, exact=True), alphas)
    mixed = [g - lr * (u - n) / (2 * eps) for g, u, n in zip(at_alphas, up, down, strict=True)]
    return value.detach(), mixed


def _momentum(optimizer: torch.optim.Optimizer, weight: Tensor) -> Tensor | float:
    buffer = optimizer.state.get(weight, {}).get("momentum_buffer")
    return 0.0 if buffer is None else buffer
