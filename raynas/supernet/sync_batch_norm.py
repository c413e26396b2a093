"""BatchNorm over the batches of all ranks together, on CPU (gloo) and GPU (nccl).

Models are left as they are: while ``synchronised``, ``functional.batch_norm``, which plain and
elastic layers call, takes the statistics of all ranks. Every rank must run the same layers in the
same order, as ranks that draw equal paths do.

Differs: ``nn.SyncBatchNorm`` replaces layers, and runs on GPUs only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_on: ContextVar[bool] = ContextVar("synchronised", default=False)


@contextmanager
def synchronised() -> Iterator[None]:
    """Let BatchNorms in training mode normalise by the statistics of all ranks' batches.

    Running statistics take those too. Gradients are those of the sum of the ranks' losses, so that
    their mean over the ranks is that of the mean loss. They cannot be differentiated again.
    """
    token = _on.set(True)
    try:
        with _Synchronised():
            yield
    finally:
        _on.reset(token)


def is_synchronised() -> bool:
    """Return whether statistics are of all ranks now."""
    return _on.get()


class _Synchronised(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training:
        return functional.batch_norm(
            x, running_mean, running_var, weight, bias, training, momentum, eps
        )
    mean, var, count = _statistics(x.detach())
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((var * (count / (count - 1))).to(running_var), momentum)
    out: Tensor = _Normalised.apply(x, weight, bias, mean, var, count, eps)
    return out


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and biased variance of each channel, and numbers per channel, over all ranks."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean, var = torch.batch_norm_update_stats(wide, None, None, 0.0)
    own = torch.cat([mean, var, mean.new_tensor([x.numel() / x.shape[1]])])
    every = own.new_zeros(dist.get_world_size(), len(own))
    every[dist.get_rank()] = own
    dist.all_reduce(every)  # gathers them: to add zeros is exact
    # by means and variances, not by sums of squares, which would cancel
    means, variances, counts = every.split([len(mean), len(mean), 1], 1)
    shares = counts / counts.sum()
    mean = (shares * means).sum(0)
    var = (shares * (variances + (means - mean) ** 2)).sum(0)
    return mean, var, counts.sum()


class _Normalised(torch.autograd.Function):
    """Normalises by given statistics, whose part in the gradient is summed over the ranks."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps
        return functional.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        (g,), (x, weight, mean, var, count) = gradients, ctx.saved_tensors
        scale = torch.ones_like(mean) if weight is None else weight
        plain, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            g, x, scale, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        found = plain
        if ctx.needs_input_grad[0]:
            sums = torch.stack([to_bias, to_weight])
            dist.all_reduce(sums)
            inverse = (var + ctx.eps).rsqrt()
            shape = [1, -1] + [1] * (x.dim() - 2)
            level, slope, centre = (
                part.view(shape)
                for part in (
                    scale * inverse * sums[0] / count,
                    scale * inverse**2 * sums[1] / count,
                    mean,
                )
            )
            found = (plain - torch.addcmul(level, x - centre, slope)).to(x.dtype)
        parts = (found, to_weight, to_bias, None, None, None, None)
        return tuple(
            part if need else None for part, need in zip(parts, ctx.needs_input_grad, strict=True)
        )
