"""How candidates combine: values, and the gradients of inputs, weights and logits, by formula."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raynas.gradient.mixed import MIXED_OPS
from raynas.gradient.mixed.base import Draw, MixedOp, sampled
from raynas.gradient.mixed.binary_gate import BinaryGate, Mode, two_of
from raynas.gradient.mixed.gumbel_sum import GumbelSum
from raynas.gradient.mixed.index import Index
from raynas.gradient.mixed.uniform_gate import UniformGate
from raynas.gradient.mixed.weighted_sum import WeightedSum
from raynas.gradient.relaxation import Relaxation
from raynas.nn import LayerChoice
from raynas.nn.labels import name_labels

WIDTH, ZERO = 6, 4  # the last of five candidates gives zeros
GATES: list[tuple[Mode, tuple[int, ...]]] = [
    ("full", (1, 0, 2, 3, 4)),
    ("full", (4, 0, 1, 2, 3)),
    ("full_v2", (1, 0, 2, 3, 4)),
    ("full_v2", (4, 0, 1, 2, 3)),
    ("two", (1, 3)),
    ("two", (3, 1)),
    ("two", (4, 1)),
    ("two", (1, 4)),
]


class Zeros(nn.Module):
    """Gives zeros, and counts how often it is asked to."""

    is_none = True

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.zeros_like(x)


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH).double()


def five(seed: int = 0) -> list[nn.Module]:
    torch.manual_seed(seed)
    return [*(linear() for _ in range(4)), Zeros()]


def values(*shape: int, seed: int = 1, grad: bool = False) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_(grad)


def formula(p: Tensor, g: Tensor) -> Tensor:
    """Return p_i (g_i - sum_j p_j g_j)."""
    return p * (g - (p * g).sum())


def grads(loss: Tensor, *wanted: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return list(found)


def plainly(op: nn.Module, x: Tensor) -> Tensor:
    """Return a candidate's output, zeros without asking it."""
    y: Tensor = torch.zeros_like(x) if isinstance(op, Zeros) else op(x)
    return y


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_weighted_sum_is_the_formula() -> None:
    ops, x, target = five(), values(7, WIDTH), values(7, WIDTH, seed=2)
    logits = values(5, seed=3, grad=True)
    out = WeightedSum()(ops, (x,), logits, None)
    (found,) = grads((out - target).square().sum(), logits)
    p = logits.detach().softmax(0)
    y = torch.stack([plainly(op, x).detach() for op in ops])
    expected = (p[:, None, None] * y).sum(0)
    g = (y * 2 * (expected - target)).sum((1, 2))
    close(out.detach(), expected)
    close(found, formula(p, g))
    assert isinstance(ops[ZERO], Zeros)
    assert ops[ZERO].calls == 0


def test_a_weighted_sum_of_zeros_alone_is_zeros() -> None:
    x = values(3, WIDTH)
    assert torch.equal(WeightedSum()([Zeros()], (x,), values(1, grad=True), None), x * 0)


@pytest.mark.parametrize(("mode", "draw"), GATES)
@pytest.mark.parametrize("input_learns", [True, False])
def test_a_gate_gives_one_output_and_the_formula(
    mode: Mode, draw: tuple[int, ...], input_learns: bool
) -> None:
    ops, x, target = five(), values(7, WIDTH, grad=input_learns), values(7, WIDTH, seed=2)
    logits = values(5, seed=3, grad=True)
    out = BinaryGate(mode)(ops, (x,), logits, draw)
    y = plainly(ops[draw[0]], x)
    assert torch.equal(out, y)
    loss = (out - target).square().sum()
    weights = [p for op in ops for p in op.parameters()]
    wanted = [logits, *weights, *([x] if input_learns else [])]
    found = torch.autograd.grad(loss, wanted, allow_unused=True)

    index = sorted(draw)
    p = logits.detach()[index].softmax(0)
    g_out = 2 * (y - target).detach()
    g = torch.stack([(plainly(ops[k], x) * g_out).sum() for k in index]).detach()
    expected = torch.zeros(5, dtype=torch.float64)
    expected[index] = formula(p, g)
    close(found[0], expected)
    for k, op in enumerate(ops[:ZERO]):  # inactive candidates' weights get none at all
        for at, _ in enumerate(op.parameters()):
            assert (found[1 + 2 * k + at] is not None) == (k == draw[0])
    if input_learns:  # through the active candidate alone
        through = found[-1]
        if draw[0] == ZERO:
            assert through is None or not through.any()
        else:
            (alone,) = grads((plainly(ops[draw[0]], x) * g_out).sum(), x)
            assert through is not None
            close(through, alone)


@pytest.mark.parametrize("mode", ["two", "full", "full_v2"])
def test_what_follows_a_gate_may_write_to_its_output(mode: Mode) -> None:
    ops, x = five()[:2], values(7, WIDTH)
    found = []
    for inplace in (False, True):
        logits = values(2, seed=3, grad=True)
        out = nn.ReLU(inplace)(BinaryGate(mode)(ops, (x,), logits, (0, 1)))
        found.append(grads(out.square().sum(), logits)[0])
    close(found[0], found[1])
    assert found[0].any()


@pytest.mark.parametrize("mode", ["two", "full", "full_v2"])
def test_a_gate_whose_logits_rest_runs_one_candidate(mode: Mode) -> None:
    ops, x = [*five()[:3], Zeros()], values(7, WIDTH)
    ran = []
    for k, op in enumerate(ops):
        op.register_forward_hook(lambda *_, k=k: ran.append(k))
    draw = (2, 0) if mode == "two" else (2, 0, 1, 3)
    BinaryGate(mode)(ops, (x,), values(4), draw).sum().backward()
    with torch.no_grad():
        BinaryGate(mode)(ops, (x,), values(4, grad=True), draw)
    assert ran == [2, 2]


def normed() -> nn.Module:
    """Linear and BatchNorm, whose output and statistics depend on the batch."""
    return nn.Sequential(linear(), nn.BatchNorm1d(WIDTH).double(), nn.Tanh())


class Nested(nn.Module):
    """Choices within a choice, and two of one label, all with batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        inner = LayerChoice([normed(), linear(), normed()], "inner")
        self.outer = LayerChoice([normed(), nn.Sequential(linear(), inner), Zeros()], "outer")
        self.first = LayerChoice([linear(), normed()], "shared")
        self.second = LayerChoice([linear(), normed()], "shared")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x + self.outer(x)))
        return out


def relaxed(op: MixedOp, seed: int = 0) -> tuple[Nested, Relaxation]:
    torch.manual_seed(0)
    net = Nested()
    name_labels(net)
    return net, Relaxation(net, op, seed=seed, scale=0.5)


def test_both_full_modes_agree_in_nested_choices_and_batch_statistics() -> None:
    x, outer = values(9, WIDTH), set()
    for step in range(12):
        found, buffers = [], []
        for mode in ("full", "full_v2"):
            net, relaxation = relaxed(BinaryGate(mode))
            relaxation.sample(step, 1)
            found.append(grads(net(x).pow(3).sum(), *relaxation.vectors.values()))
            buffers.append(dict(net.named_buffers()))
        for a, b in zip(*found, strict=True):
            close(a, b)
        for name, buffer in buffers[0].items():
            assert torch.equal(buffer, buffers[1][name])
        active = relaxation.mixers["outer"].draw[0]
        outer.add(active)
        assert bool(found[0][list(relaxation.vectors).index("inner")].any()) == (active == 1)
    assert outer == {0, 1, 2}  # else one is missing with probability 3 * (2/3)^12 < 0.03, by seed


@pytest.mark.parametrize("mode", ["two", "full", "full_v2"])
def test_statistics_of_candidates_that_do_not_run_stay(mode: Mode) -> None:
    torch.manual_seed(0)
    ops: list[nn.Module] = [normed(), normed(), normed()]
    before = copy.deepcopy([dict(op.named_buffers()) for op in ops])
    draw = (1, 2) if mode == "two" else (1, 0, 2)
    logits = values(3, grad=True)
    BinaryGate(mode)(ops, (values(9, WIDTH),), logits, draw).square().sum().backward()
    for k, op in enumerate(ops):
        same = [torch.equal(b, before[k][name]) for name, b in op.named_buffers()]
        assert not any(same) if k == 1 else all(same)
        norm = op[1]  # type: ignore[index]
        assert norm.momentum == 0.1
        assert norm.num_batches_tracked is dict(op.named_buffers())["1.num_batches_tracked"]


def test_gates_pass_on_what_else_a_candidate_takes() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, scale: Sequence[float], *, shift: float = 0.0) -> Tensor:
            return scale[0] * x + shift

    choice = LayerChoice([Scaled(), Zeros()], "choice")
    for mode in ("two", "full", "full_v2"):
        net = nn.ModuleList([choice, linear()])
        relaxation = Relaxation(net, BinaryGate(mode), seed=0)
        relaxation.mixers["choice"].draw = (0, 1)
        x = values(2, WIDTH)
        out = choice(x, [2.0], shift=1.0)
        assert torch.equal(out, 2 * x + 1)
        (found,) = grads(out.sum(), relaxation.vectors["choice"])
        p = relaxation.vectors["choice"].detach().softmax(0)
        close(found, formula(p, torch.stack([(2 * x + 1).sum(), torch.zeros(()).double()])))


def test_gate_paths_follow_the_probabilities() -> None:
    """Chi-square of 4000 draws with 3 degrees of freedom: false alarm 1e-6 at 30.7."""
    p, rng = np.array([0.1, 0.2, 0.3, 0.4]), np.random.default_rng(0)
    for op in (Index(), BinaryGate("full"), BinaryGate("full_v2")):
        draws = [np.atleast_1d(op.draw(p, rng)) for _ in range(4000)]
        counts = np.bincount([draw[0] for draw in draws], minlength=4)
        assert (((counts - 4000 * p) ** 2) / (4000 * p)).sum() < 30.7
        assert {len(draw) for draw in draws} <= {1, 4}


def test_pairs_are_drawn_one_after_the_other() -> None:
    """The first with p, the second with what it leaves; the active one by the pair's share.

    Chi-square of 6000 draws over 6 ordered pairs, 5 degrees of freedom: false alarm 1e-6 at 35.9.
    """
    p, rng = np.array([0.2, 0.3, 0.5]), np.random.default_rng(0)
    draws = [BinaryGate("two").draw(p, rng) for _ in range(6000)]
    statistic = 0.0
    for a in range(3):
        for b in {0, 1, 2} - {a}:
            together = p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b])
            expected = 6000 * together * p[a] / (p[a] + p[b])
            statistic += (draws.count((a, b)) - expected) ** 2 / expected
    assert statistic < 35.9


@pytest.mark.parametrize("sure", [0, 1, 2])
def test_probabilities_of_zero_and_one_can_be_drawn_from(sure: int) -> None:
    p, rng = np.zeros(3), np.random.default_rng(0)
    p[sure] = 1.0
    assert {sampled(p, rng) for _ in range(200)} == {sure}
    pairs = {two_of(p, rng) for _ in range(200)}
    # the second is uniform where nothing is left: both come but for probability 2^-199
    assert pairs == {(sure, other) for other in range(3) if other != sure}
    assert {BinaryGate("two").draw(p, rng)[0] for _ in range(50)} == {sure}
    assert {GumbelSum(hard=True).draw(p, rng)[1] for _ in range(50)} == {sure}
    assert {Index().draw(p, rng) for _ in range(50)} == {sure}


def test_a_position_of_probability_zero_never_comes() -> None:
    rng = np.random.default_rng(0)
    p = np.array([0.0, 0.5, 0.0, 0.5, 0.0])
    assert {sampled(p, rng) for _ in range(400)} == {1, 3}  # else with probability 2^-399


def test_logits_that_are_no_numbers_are_told_by_their_label() -> None:
    _, relaxation = relaxed(BinaryGate("two"))
    with torch.no_grad():
        relaxation.vectors["inner"][1] = math.nan
    with pytest.raises(FloatingPointError, match="logits of 'inner' are no numbers"):
        relaxation.sample(0, 0)


@pytest.mark.parametrize("mode", ["two", "full"])
def test_uniform_paths_do_not_depend_on_the_logits(mode: Mode) -> None:
    """Chi-square of 3000 draws with 2 degrees of freedom: false alarm 1e-6 at 27.6."""
    draws = []
    for p in (np.array([0.98, 0.01, 0.01]), np.array([0.1, 0.2, 0.7])):
        rng = np.random.default_rng(0)
        draws.append([UniformGate(mode).draw(p, rng) for _ in range(3000)])
    assert draws[0] == draws[1]
    counts = np.bincount([draw[0] for draw in draws[0]], minlength=3)
    assert ((counts - 1000) ** 2 / 1000).sum() < 27.6
    # but the gradient does: it is that of the gate
    ops, x = five()[:3], values(7, WIDTH)
    found = []
    for gate in (UniformGate(mode), BinaryGate(mode)):
        logits = values(3, seed=3, grad=True)
        out = gate(ops, (x,), logits, draws[0][0])
        found.append(grads(out.square().sum(), logits)[0])
    close(found[0], found[1])


def test_an_index_runs_one_candidate_and_teaches_the_logits_nothing() -> None:
    ops, x, logits = five(), values(7, WIDTH), values(5, grad=True)
    out = Index()(ops, (x,), logits, 2)
    assert torch.equal(out, ops[2](x))
    (found,) = torch.autograd.grad(out.sum(), logits, allow_unused=True)
    assert found is None


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_a_gumbel_sum_is_the_softmax_of_noisy_logits(temperature: float) -> None:
    ops, x, target = five(), values(7, WIDTH), values(7, WIDTH, seed=2)
    logits, op = values(5, seed=3, grad=True), GumbelSum(temperature)
    draw = op.draw(np.full(5, 0.2), np.random.default_rng(0))
    out = op(ops, (x,), logits, draw)
    (found,) = grads((out - target).square().sum(), logits)
    noisy = (logits.detach().log_softmax(0) + draw[0]) / temperature
    z = noisy.softmax(0)
    y = torch.stack([plainly(o, x).detach() for o in ops])
    expected = (z[:, None, None] * y).sum(0)
    g = (y * 2 * (expected - target)).sum((1, 2))
    close(out.detach(), expected)
    close(op.probabilities(logits, draw).detach(), z)
    # the mean over positions of what reaches log_softmax is zero: its backward changes nothing
    close(found, formula(z, g) / temperature)


def test_a_hard_sample_is_the_strongest_candidates_output() -> None:
    x = values(7, WIDTH)
    for seed in range(10):
        ops, logits, op = five(), values(5, seed=3, grad=True), GumbelSum(0.7, hard=True)
        p = logits.detach().softmax(0)
        draw = op.draw(p.numpy(), np.random.default_rng(seed))
        at = int((p.log() + draw[0]).argmax())
        assert draw[1] == at
        weights = op.probabilities(logits, draw)
        assert torch.equal(weights, torch.eye(5, dtype=torch.float64)[at])
        out = op(ops, (x,), logits, draw)
        assert torch.equal(out, plainly(ops[at], x))
        if at == ZERO:
            assert not out.requires_grad
            continue
        (found,) = grads(out.square().sum(), logits)
        z = ((p.log() + draw[0]) / 0.7).softmax(0)
        g = torch.zeros(5, dtype=torch.float64)
        g[at] = 2 * plainly(ops[at], x).square().sum()
        close(found, formula(z, g) / 0.7)
        rest = [p for k, op_ in enumerate(ops) if k != at for p in op_.parameters()]
        again = op(ops, (x,), logits, draw).sum()
        assert set(torch.autograd.grad(again, rest, allow_unused=True)) == {None}


def test_the_strongest_candidate_follows_the_probabilities() -> None:
    """Chi-square of 4000 draws with 3 degrees of freedom: false alarm 1e-6 at 30.7."""
    p, rng = np.array([0.1, 0.2, 0.3, 0.4]), np.random.default_rng(1)
    draws = [GumbelSum(hard=True).draw(p, rng) for _ in range(4000)]
    counts = np.bincount([at for _, at in draws], minlength=4)
    assert (((counts - 4000 * p) ** 2) / (4000 * p)).sum() < 30.7
    # the noise is Gumbel's: mean 0.5772 and variance 1.6449, of 16000 draws within 5 deviations
    noise = torch.stack([one for one, _ in draws])
    assert noise.mean().item() == pytest.approx(0.5772, abs=5 * math.sqrt(1.6449 / 16000))
    assert noise.var().item() == pytest.approx(1.6449, rel=5 * math.sqrt(4.4 / 16000))


def test_choices_of_one_label_share_one_draw() -> None:
    net, relaxation = relaxed(GumbelSum())
    relaxation.sample(3, 0)
    assert net.first.route is net.second.route is relaxation.mixers["shared"]
    noise = [relaxation.mixers[label].draw[0] for label in ("outer", "inner", "shared")]
    assert not torch.equal(noise[0], noise[1])  # labels of one length do not share theirs
    relaxation.sample(4, 0)
    later = relaxation.mixers["shared"].draw[0]
    assert not torch.equal(later, noise[2])
    relaxation.sample(3, 1)
    assert not torch.equal(relaxation.mixers["shared"].draw[0], noise[2])
    relaxation.sample(3, 0)
    assert torch.equal(relaxation.mixers["shared"].draw[0], noise[2])


def test_passes_between_two_draws_are_the_same() -> None:
    net, relaxation = relaxed(GumbelSum())
    relaxation.sample(0, 0)
    net.eval()
    x = values(9, WIDTH)
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("name", sorted(MIXED_OPS))
def test_weights_sum_to_one(name: str) -> None:
    logits, rng = values(5, grad=True), np.random.default_rng(0)
    op = MIXED_OPS[name]()
    draw: Draw = op.draw(logits.detach().softmax(0).numpy(), rng)
    weights = op.probabilities(logits, draw)
    assert weights.shape == (5,)
    assert weights.sum().item() == pytest.approx(1.0)
    assert weights.requires_grad


@pytest.mark.parametrize("mode", ["two", "full", "full_v2"])
def test_a_gates_weights_are_those_of_its_active_set(mode: Mode) -> None:
    logits = values(5, grad=True)
    draw = (3, 1) if mode == "two" else (3, 0, 1, 2, 4)
    expected = torch.zeros(5, dtype=torch.float64)
    expected[sorted(draw)] = logits.detach()[sorted(draw)].softmax(0)
    close(BinaryGate(mode).probabilities(logits, draw).detach(), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BinaryGate("three"), "mode is one of two, full, full_v2, got 'three'"),  # type: ignore[arg-type]
        (lambda: GumbelSum(0.0), "temperature must be positive, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_logits_are_kept_in_float32_at_least() -> None:
    net = nn.Sequential(LayerChoice([nn.Linear(2, 2), nn.Linear(2, 2)], "choice")).bfloat16()
    assert Relaxation(net, WeightedSum(), seed=0).vectors["choice"].dtype == torch.float32
    net.double()
    assert Relaxation(net, WeightedSum(), seed=0).vectors["choice"].dtype == torch.float64
