"""ReinMax: its formula by hand, what it is exact for, and what the candidates are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from raynas.algorithms.gdas import GDAS
from raynas.algorithms.snas import SNAS
from raynas.gradient.mixed.gumbel_sum import GumbelSum
from raynas.gradient.mixed.reinmax import ReinMax

Function = Callable[[Tensor], Tensor]


def vector(*values: float, grad: bool = False) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).requires_grad_(grad)


class Scaled(nn.Module):
    """Gives its input times a number: the mixture is then the one-hot sample times the numbers."""

    def __init__(self, basis: Tensor) -> None:
        super().__init__()
        self.basis = basis

    def forward(self, x: Tensor) -> Tensor:
        return x * self.basis


class Zeros(nn.Module):
    is_none = True

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("its output is known")


def sample_gradient(loss: Function, logits: Tensor, draw: int, temperature: float = 1.0) -> Tensor:
    """Return the estimate for one sample, of a loss that is a function of the one-hot vector."""
    ops = [Scaled(row) for row in torch.eye(len(logits), dtype=torch.float64)]
    sample = ReinMax(temperature)(
        ops, (torch.ones(len(logits), dtype=torch.float64),), logits, draw
    )
    assert sample.tolist() == [float(k == draw) for k in range(len(logits))]
    (gradient,) = torch.autograd.grad(loss(sample), logits)
    return gradient


def test_the_formula_by_hand() -> None:
    """p = (1/2, 1/4, 1/4), D = (0, 1, 0), g = (4, 8, 0).

    m = (1/4, 5/8, 1/8): m.g = 6 and m (g - 6) = (-1/2, 5/4, -3/4); p.g = 4 and p (g - 4) = (0, 1,
    -1); twice the first less half the second is (-1, 2, -1). At temperature 2, p becomes softmax
    (ln 2 / 2, 0, 0) = (s, 1, 1) / (s + 2) with s = sqrt 2.
    """
    logits = torch.log(vector(2.0, 1.0, 1.0)).requires_grad_()
    g = vector(4.0, 8.0, 0.0)
    first = sample_gradient(lambda d: d @ g, logits, 1)
    torch.testing.assert_close(first, vector(-1.0, 2.0, -1.0), rtol=0, atol=1e-14)
    s = 2**0.5
    m = (vector(0, 1, 0) + vector(s, 1, 1) / (s + 2)) / 2
    warmer = sample_gradient(lambda d: d @ g, logits, 1, 2.0)
    expected = 2 * m * (g - m @ g) - vector(0, 0.5, -0.5)
    torch.testing.assert_close(warmer, expected, rtol=0, atol=1e-14)
    assert torch.equal(sample_gradient(lambda d: d @ g, logits, 1, 0.1), first)  # it counts as 1


def errors(loss: Function) -> tuple[float, float]:
    """Return how far the expectations of ReinMax and of straight-through are from the truth."""
    logits = vector(0.3, -1.2, 0.8, 0.1, grad=True)
    p, eye = logits.softmax(0), torch.eye(4, dtype=torch.float64)
    (truth,) = torch.autograd.grad(
        torch.stack([loss(row) for row in eye]) @ p, logits, retain_graph=True
    )
    chances = p.detach()
    reinmax = sum(chances[k] * sample_gradient(loss, logits, k) for k in range(4))
    through = torch.zeros(4, dtype=torch.float64)
    for k in range(4):
        soft = logits.softmax(0)
        (slope,) = torch.autograd.grad(loss(eye[k] + soft - soft.detach()), logits)
        through += chances[k] * slope
    return float((reinmax - truth).abs().max()), float((through - truth).abs().max())


def quadratic(matrix: Tensor, linear: Tensor, d: Tensor) -> Tensor:
    return d @ matrix @ d + linear @ d


def test_the_expectation_is_exact_for_quadratic_losses_and_straight_through_is_not() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(5, 4, 4, generator=rng, dtype=torch.float64), vector(1.0, -2.0, 0.5, 3.0)
    for matrix in a:
        exact, first_order = errors(partial(quadratic, matrix, b))
        assert exact < 1e-14
        assert first_order > 1e-2
    assert max(errors(lambda d: b @ d)) < 1e-14  # both, for a linear one
    assert errors(lambda d: ((d - 0.5) ** 3 @ b).square())[0] > 1e-3  # beyond second order


def test_only_the_sampled_candidate_has_a_graph_and_statistics() -> None:
    torch.manual_seed(0)
    ops = [nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).double() for _ in range(2)]
    layers: Sequence[nn.Module] = [*ops, Zeros()]
    x, logits = torch.randn(5, 3, dtype=torch.float64), vector(0.1, 0.2, 0.3, grad=True)
    op = ReinMax()
    out = op(layers, (x,), logits, 1)
    torch.testing.assert_close(out, ops[1](x), rtol=0, atol=0)
    out.square().sum().backward()
    assert logits.grad is not None
    assert logits.grad.all()
    assert [w.grad is not None for layer in ops for w in layer.parameters()] == 4 * [False] + (
        4 * [True]
    )
    counts = [layer.state_dict()["1.num_batches_tracked"] for layer in ops]
    assert counts == [0, 2]
    ran: list[int] = []
    ops[0].register_forward_hook(lambda *_: ran.append(0))
    assert op(layers, (x,), logits.detach(), 1).requires_grad  # the weights', as they learn alone
    assert not ran


def test_the_option_picks_the_operator() -> None:
    for algo in (GDAS, SNAS):
        assert isinstance(algo().op, GumbelSum)
        assert isinstance(algo(estimator="reinmax").op, ReinMax)
        with pytest.raises(ValueError, match="estimator is one of gumbel, reinmax, got 'heun'"):
            algo(estimator="heun")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="temperature must be positive"):
        ReinMax(0.0)
