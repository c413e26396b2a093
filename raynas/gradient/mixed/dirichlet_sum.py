"""Candidates weighted by a sample of a Dirichlet distribution (DrNAS, arXiv:2006.10355)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raynas.gradient.mixed.base import MIXED_OPS, Draw, DrawsByLogits, Op, weighted

LEAST = 1e-30  # of a weight: the gradient takes logarithms


class _Sample(torch.autograd.Function):
    """A sample of a Dirichlet distribution, whose gradient is the pathwise one."""

    @staticmethod
    def forward(ctx: Any, beta: Tensor, sample: Tensor) -> Tensor:
        ctx.save_for_backward(beta, sample)
        return sample.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        (g,), (beta, sample) = gradients, ctx.saved_tensors
        slope = torch._dirichlet_grad(sample, beta, beta.sum().expand_as(beta).contiguous())
        return slope * (g - (sample * g).sum()), None


@MIXED_OPS.register("dirichlet_sum", aliases=("DirichletSum",))
class DirichletSum(DrawsByLogits):
    """One sample per label and pass of a Dirichlet distribution with concentrations elu(a) + 1.

    Its gradient is the pathwise one (Jankowiak and Obermeyer, 2018, arXiv:1806.01851): where one
    concentration grows, its weight moves along its Beta distribution's quantiles, and the others
    give way in proportion. Expected costs are taken with the sample as well. Differs: samples come
    before a pass, from NumPy in float64.
    """

    combines = nests = True

    def draw(self, p: NDArray[np.float64], rng: np.random.Generator) -> Draw:
        """Return a sample; ``p`` holds the logits.

        Gamma variates below 1 are drawn as logarithms, ln G(b + 1) + ln(U) / b, which a small
        concentration does not take to zero.
        """
        beta = np.maximum(np.where(p > 0, p + 1, np.exp(np.minimum(p, 0))), LEAST)
        log_gamma = np.log(rng.standard_gamma(beta + 1)) + np.log1p(-rng.random(p.shape)) / beta
        return torch.from_numpy(np.maximum(_softmax(log_gamma), LEAST))

    def __call__(self, ops: Sequence[Op], inputs: Sequence[Any], logits: Tensor, draw: Draw) -> Any:
        """Return the weighted sum."""
        return weighted(ops, inputs, self.probabilities(logits, draw))

    def probabilities(self, logits: Tensor, draw: Draw) -> Tensor:
        """Return the sample, differentiable in the logits."""
        sample: Tensor = _Sample.apply(concentrations(logits), draw.to(logits))
        return sample


def _softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights in proportion to the exponentials."""
    risen: NDArray[np.float64] = np.exp(x - x.max())
    shares: NDArray[np.float64] = risen / risen.sum()
    return shares


def concentrations(logits: Tensor) -> Tensor:
    """Return elu(a) + 1, by a form that does not round to zero, and at least 1e-30.

    >>> concentrations(torch.tensor([2.0, 0.0, -1000.0], dtype=torch.float64)).tolist()
    [3.0, 1.0, 1e-30]
    """
    positive = logits > 0
    below = torch.where(positive, 0.0, logits).exp()  # a clamp would have no gradient at 0
    return torch.where(positive, logits + 1, below).clamp_min(LEAST)


def divergence(logits: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence from Dirichlet(1, …, 1), shape ().

    With b the concentrations, s their sum and K their count: ln G(s) - sum ln G(b) - ln G(K) +
    sum (b - 1) (psi(b) - psi(s)).
    """
    beta = concentrations(logits)
    total, count = beta.sum(), torch.tensor(float(len(beta))).to(beta)
    weighed = (beta - 1) * (beta.digamma() - total.digamma())
    return total.lgamma() - beta.lgamma().sum() - count.lgamma() + weighed.sum()
