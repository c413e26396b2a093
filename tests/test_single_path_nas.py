"""Single-Path NAS: super-kernels, thresholds on their norms, and the runtime that they make."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raynas.algorithms.single_path_nas import SinglePathNAS
from raynas.core.arch import Arch
from raynas.core.errors import InvalidSpace
from raynas.core.train_settings import TrainSettings
from raynas.costs import cost_of
from raynas.costs.latency_files import Entry, write_entries
from raynas.gradient.hardware import Hardware
from raynas.gradient.runtime import BlockCosts, Runtime
from raynas.gradient.thresholds import Indicators, Thresholds, indicator
from raynas.nn import LayerChoice, activate, freeze, space_of
from raynas.nn.mutable import logits_of
from raynas.nn.super_kernel import SuperKernel, masked_kernel, outer_ring
from raynas.search_spaces.single_path_nas import single_path_nas
from raynas.supernet.training import SupernetTraining
from tests.kernelnets import kernels, still_kernels
from tests.laws import keeps_the_laws
from tests.test_one_shot_contract import numbers

ROWS = torch.randn(5, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def block(stride: int = 1, activation: Any = "relu6") -> SuperKernel:
    torch.manual_seed(0)
    net = SuperKernel(2, 2, stride, label="b", activation=activation).double()
    space_of(net)
    return net


def images(channels: int = 2) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(3, channels, 6, 6, generator=rng, dtype=torch.float64)


def attached(**options: Any) -> tuple[SinglePathNAS, SupernetTraining]:
    algo = SinglePathNAS(**options)
    settings = TrainSettings(epochs=4, batch_size=12, lr=0.05, label_smoothing=0.0)
    return algo, SupernetTraining(kernels(), algo, numbers(), settings, seed=3)


def test_a_masked_kernel_by_hand() -> None:
    kernel = torch.arange(1.0, 101.0, dtype=torch.float64).view(4, 1, 5, 5)
    out = masked_kernel(kernel, scalar(0.5), scalar(0.25), scalar(3.0))
    for channel, row, column in np.ndindex(4, 5, 5):
        outside = row in (0, 4) or column in (0, 4)
        expected = 0.25 * (0.5 if outside else 1.0) * (3.0 if channel >= 2 else 1.0)
        assert out[channel, 0, row, column] == expected * kernel[channel, 0, row, column]


def test_an_indicator_is_a_step_whose_gradient_is_a_sigmoid_s() -> None:
    x = torch.tensor([-2.0, 0.0, 1e-9, 3.0], dtype=torch.float64, requires_grad=True)
    y = indicator(x)
    assert y.tolist() == [0.0, 0.0, 1.0, 1.0]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    s = torch.sigmoid(x.detach())
    torch.testing.assert_close(gradient, s * (1 - s), rtol=0, atol=1e-15)


def test_super_kernels_keep_the_laws_of_mutables() -> None:
    net = still_kernels()
    keeps_the_laws(net, ROWS, samples=20)
    assert space_of(net).size() == 5 * 4
    assert space_of(net).labels == ("shared", "last")
    unlabelled = nn.Sequential(SuperKernel(2, 2, 1), SuperKernel(2, 4, 2)).double()
    keeps_the_laws(unlabelled.eval(), images(), samples=20)
    assert space_of(unlabelled).labels == ("0", "1")


@pytest.mark.parametrize("option", ["MB3E3", "MB5E3", "MB3E6", "MB5E6"])
def test_a_part_is_the_centre_and_the_first_channels(option: str) -> None:
    net, x, (kernel, expand) = block().eval(), images(), (int(option[2]), int(option[4]))
    activate(net, {"b": option})
    hidden, edge = 2 * expand, (5 - kernel) // 2
    parts = {name: getattr(net.layers, name) for name in ("expand", "depthwise", "project")}
    h = nn.functional.conv2d(x, parts["expand"].conv.weight[:hidden])
    h = nn.functional.relu6(h / math.sqrt(1 + 1e-5))
    weight = net.kernel[:hidden, :, edge : 5 - edge, edge : 5 - edge]
    h = nn.functional.conv2d(h, weight, padding=kernel // 2, groups=hidden)
    h = nn.functional.relu6(h / math.sqrt(1 + 1e-5))
    h = nn.functional.conv2d(h, parts["project"].conv.weight[:, :hidden]) / math.sqrt(1 + 1e-5)
    torch.testing.assert_close(net(x), x + h, rtol=1e-12, atol=1e-12)


def test_a_block_may_be_skipped_where_its_shape_stays() -> None:
    net, x = block(), images()
    activate(net, {"b": "skip"})
    assert net(x) is x
    assert isinstance(freeze(net, {"b": "skip"}), nn.Identity)
    assert block(stride=2).options == ("MB3E3", "MB5E3", "MB3E6", "MB5E6")
    with pytest.raises(RuntimeError, match="super-kernel 'b' has no active part"):
        block()(x)


def test_a_super_kernel_is_not_mixed() -> None:
    with pytest.raises(InvalidSpace, match="'b' cannot be relaxed: its candidates are parts of"):
        logits_of(block())


ON = {"MB3E3": (0, 1, 0), "MB5E3": (1, 1, 0), "MB3E6": (0, 1, 1), "MB5E6": (1, 1, 1)}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("option", [*ON, "skip"])
def test_indicators_of_0_and_1_compute_the_architecture(option: str, training: bool) -> None:
    """Also with the statistics of batches, since channels are switched off behind BatchNorm."""
    net, x = block().train(training), images()
    plain = freeze(net, {"b": option}).train(training)
    d5, d50, d100 = map(scalar, ON.get(option, (1, 0, 1)))
    out = net.masked(x, d5, d50, d100, on_kernel=False)
    torch.testing.assert_close(out, plain(x), rtol=1e-12, atol=1e-12)


def test_factors_on_the_kernel_are_undone_by_batch_statistics() -> None:
    """Why channels are switched off behind the BatchNorm by default."""
    net, x = block().train(), images()
    gradients = {}
    for on_kernel in (True, False):
        d5, d50, d100 = (scalar(1.0).requires_grad_() for _ in range(3))
        loss = net.masked(x, d5, d50, d100, on_kernel=on_kernel).square().mean()
        gradients[on_kernel] = [abs(float(g)) for g in torch.autograd.grad(loss, (d50, d100))]
    assert max(gradients[True]) < 1e-2 * min(gradients[False])


def test_the_runtime_of_a_block_by_hand() -> None:
    costs = BlockCosts.of({"MB3E3": 9.0, "MB5E3": 6.0, "MB3E6": 5.0, "MB5E6": 10.0, "skip": 1.0})
    on = Indicators(scalar(0.25), scalar(0.5), scalar(0.75))
    # channels 6 + 0.75 * 4 = 9; r = 1 + 0.5 * 8 = 5; times 0.5 + 0.5 * 0.25
    assert float(costs.expected(on)) == 5 * 0.625
    whole = Indicators(scalar(1.0), scalar(1.0), scalar(1.0))
    assert float(costs.expected(whole)) == 10.0
    assert float(costs.expected(whole._replace(d5=scalar(0.0)))) == 5.0
    assert float(costs.expected(whole._replace(d100=scalar(0.0)))) == 6.0
    assert float(costs.expected(whole._replace(d50=scalar(0.0)))) == 1.0


@pytest.mark.parametrize("metric", ["macs", "params"])
def test_counted_runtimes_are_those_of_the_networks(metric: Any) -> None:
    """All macs scale with the channels, so that the product of ratios is exact; parameters too."""
    net = kernels()
    space = space_of(net)
    thresholds = Thresholds(net, on_kernel=False)
    routes = [b.route for blocks in thresholds.blocks.values() for b in blocks]
    runtime = Runtime(Hardware(target=metric), net, thresholds.blocks, ROWS[:1])
    assert [b.route for blocks in thresholds.blocks.values() for b in blocks] == routes
    for arch in space:
        on = {
            label: Indicators(*map(scalar, ON.get(str(option), (1, 0, 1))))
            for label, option in arch.items()
        }
        expected = getattr(cost_of(freeze(net, arch), ROWS[:1]), metric)
        if metric == "params" and "MB3E3" in arch.values():
            continue  # the one product that is not exact: BatchNorms have no kernel
        assert float(runtime.expected(on)) == pytest.approx(expected, rel=1e-12)


def test_latencies_are_looked_up(tmp_path: Path) -> None:
    net = kernels()
    space_of(net)
    ms = {"MB3E3": 1.0, "MB5E3": 2.0, "MB3E6": 3.0, "MB5E6": 4.0, "skip": 0.5}
    rows = [Entry((), (), 10.0)]
    rows += [Entry(("shared",), (o,), v) for o, v in ms.items()]
    rows += [Entry(("last",), (o,), 2 * v) for o, v in ms.items() if o != "skip"]
    write_entries(rows, tmp_path / "table.csv")
    hardware = Hardware(target="mobile", table=str(tmp_path / "table.csv"))
    runtime = Runtime(hardware, net, Thresholds(net, on_kernel=False).blocks, ROWS[:1])
    assert runtime.metric == "latency_ms"
    on = Indicators(scalar(0.0), scalar(1.0), scalar(0.0))
    # blocks of 2 ms and 4 ms at half their channels, times 3 / 4 for the small kernel
    assert float(runtime.expected({"shared": on, "last": on})) == 10 + 0.75 * (2 + 4)
    skipped = Indicators(scalar(1.0), scalar(0.0), scalar(1.0))
    assert float(runtime.expected({"shared": skipped, "last": on})) == 10 + 0.5 + 0.75 * 4


def surrogate(
    algo: SinglePathNAS, net: SuperKernel, t: Tensor, x: Tensor, at: Tensor
) -> tuple[float, list[float]]:
    """Return the loss with each step h(m) replaced by h(m0) + sigmoid(m) - sigmoid(m0).

    Args:
        algo: gives the runtime.
        net: the block.
        t: thresholds.
        x: input.
        at: margins m0.
    """

    def soft(margin: Tensor, position: int) -> Tensor:
        hard = (at[position] > 0).double()
        return hard + torch.sigmoid(margin) - torch.sigmoid(at[position])

    ring = outer_ring(net.kernel)
    margins = [ring.square().sum() - t[0]]
    d5 = soft(margins[0], 0)
    sized = net.kernel - ring + d5 * ring
    half = len(sized) // 2
    margins += [
        part.square().sum() - t[i + 1] for i, part in enumerate((sized[:half], sized[half:]))
    ]
    on = Indicators(d5, soft(margins[1], 1), soft(margins[2], 2))
    loss = net.masked(x, *on, on_kernel=False).square().mean()
    loss = loss + algo.runtime_weight * algo.runtime.expected({"b": on}).log()
    return float(loss.detach()), [float(m.detach()) for m in margins]


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, 1, -1), (-1, 1, -1)])
def test_the_gradient_of_thresholds_by_finite_differences(signs: tuple[int, ...]) -> None:
    """Central differences of the sigmoid surrogate, with each indicator on either side.

    The activation has no kink at 0, where whole patches of the image lie that the centre sees.
    """
    net, x = block(activation="hswish").eval(), images()
    algo = SinglePathNAS(runtime_weight=0.7)
    thresholds = algo.thresholds = Thresholds(net, on_kernel=False)
    algo.runtime = Runtime(Hardware(), net, thresholds.blocks, x[:1])
    thresholds.attach()
    values = thresholds.values["b"]
    for position, sign in enumerate(signs):  # in order: the first decides on the others' norms
        margin = float(thresholds.margins("b").detach()[position])
        with torch.no_grad():
            values[position] += margin - 0.3 * sign
    at = thresholds.margins("b").detach()
    assert at.sign().tolist() == list(signs)
    loss = net(x).square().mean() + algo.penalty()
    (gradient,) = torch.autograd.grad(loss, values)
    start = values.detach().clone()
    value, margins = surrogate(algo, net, start, x, at)
    assert value == pytest.approx(float(loss.detach()), rel=1e-12)
    assert margins == pytest.approx(at.tolist(), abs=1e-12)
    for position in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[position] = 1e-5
        up, down = (surrogate(algo, net, start + s * step, x, at)[0] for s in (1, -1))
        assert float(gradient[position]) == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-9)
    assert gradient.abs().min() > 1e-6


def set_margins(algo: SinglePathNAS, label: str, margins: tuple[float, float, float]) -> None:
    values = algo.thresholds.values[label]
    for position, margin in enumerate(margins):
        with torch.no_grad():
            values[position] += algo.thresholds.margins(label)[position] - margin


@pytest.mark.parametrize(
    ("margins", "shared", "last"),
    [
        ((1.0, 1.0, 1.0), "MB5E6", "MB5E6"),
        ((-1.0, 1.0, 1.0), "MB3E6", "MB3E6"),
        ((1.0, 1.0, -1.0), "MB5E3", "MB5E3"),
        ((-1.0, 1.0, -1.0), "MB3E3", "MB3E3"),
        ((1.0, -1.0, -1.0), "skip", "MB5E3"),  # what has no shortcut is never left out
        ((0.3, -0.3, 0.3), "skip", "MB5E6"),  # though s50 * s5 * s100 is smaller than the others
    ],
)
def test_thresholds_are_read(margins: Any, shared: str, last: str) -> None:
    algo, run = attached()
    for label in ("shared", "last"):
        set_margins(algo, label, margins)
    assert algo.derive() == {"shared": shared, "last": last}
    p = algo.thresholds.probabilities()
    specs = algo.thresholds.specs()
    for label, option in algo.derive().items():
        assert p[label].sum() == pytest.approx(1.0)
        assert specs[label].options[int(p[label].argmax())] == option
    archs = [Arch(arch) for arch in algo.top_k(99)]
    assert archs[0] == algo.derive()
    assert len(set(archs)) == len(archs) == 20
    x = numbers().load().valid[0]
    plain = freeze(run.model, algo.derive()).eval()
    algo.thresholds.attach()
    torch.testing.assert_close(run.model.eval()(x), plain(x), rtol=1e-12, atol=1e-12)


def test_shares_of_the_options_by_hand() -> None:
    algo, _ = attached()
    set_margins(algo, "shared", (0.5, 1.0, -2.0))
    s5, s50, s100 = (1 / (1 + math.exp(-m)) for m in (0.5, 1.0, -2.0))
    shares = [
        s50 * (1 - s5) * (1 - s100),
        s50 * s5 * (1 - s100),
        s50 * (1 - s5) * s100,
        s50 * s5 * s100,
        (1 - s50) * s5 * (1 - s100),
    ]
    expected = [share / sum(shares) for share in shares]
    assert [p for _, p in algo.distribution()["shared"]] == pytest.approx(expected, abs=1e-12)


def test_the_runtime_counts_and_nothing_is_dropped_after_the_warm_up() -> None:
    """16 steps, 10 of warm-up; 9 indicators of which half are dropped: all kept with 2**-60."""
    algo, run = attached(indicator_dropout=0.5, runtime_weight=5.0, threshold_lr=1e-9)
    kept: list[tuple[int, bool]] = []
    run.model.register_forward_pre_hook(
        lambda *_: kept.append((run.step, all(min(k) for k in algo.thresholds._kept.values())))
    )
    seen: list[float] = []
    descend = run.descend

    def noted(loss: Any) -> None:
        seen.append(float(loss.detach()))
        descend(loss)

    run.descend = noted  # type: ignore[method-assign]
    rows = [run.run_epoch() for _ in range(4)]
    in_training = {step: all(k for s, k in kept if s == step) for step in range(16)}
    assert not all(in_training[step] for step in range(10))
    assert all(in_training[step] for step in range(10, 16))
    plain = sum(row["loss"] for row in rows[:2]) / 2
    assert sum(seen[:8]) / 8 == pytest.approx(plain)
    penalty = 5.0 * math.log(rows[-1]["derived_macs"])  # of what no threshold has moved yet
    assert sum(seen[12:]) / 4 == pytest.approx(rows[-1]["loss"] + penalty)


def test_what_is_dropped_follows_from_seed_and_step() -> None:
    algo, _ = attached()
    drawn = []
    for seed, step in ((0, 1), (0, 1), (0, 2), (1, 1)):
        algo.thresholds.draw(0.5, np.random.default_rng([seed, step, 0]))
        drawn.append(dict(algo.thresholds._kept))
    assert drawn[0] == drawn[1]
    assert len({str(d) for d in drawn}) > 1  # else three draws of 6 coins agree: 2**-12


def test_a_heavy_runtime_makes_the_network_small() -> None:
    sizes = []
    for weight in (0.0, 200.0):
        algo, run = attached(runtime_weight=weight, threshold_lr=0.5, warmup_share=0.0)
        for _ in range(4):
            row = run.run_epoch()
        net = freeze(run.model, algo.derive())
        assert row["derived_macs"] == pytest.approx(cost_of(net, ROWS[:1]).macs, rel=1e-6)
        sizes.append(row["derived_macs"])
    assert sizes[1] < sizes[0]


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = SuperKernel(2, 2, 1)
        self.choice = LayerChoice([nn.Identity(), nn.ReLU()], label="act")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 1)), "needs blocks that are super-kernels, and the model"),
        (Mixed(), "decides super-kernels alone, and LayerChoice 'act' is none"),
    ],
)
def test_other_spaces_are_refused_before_training(model: nn.Module, said: str) -> None:
    with pytest.raises(InvalidSpace, match=said):
        SinglePathNAS().check(model, torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold_lr": 0.0}, "expected a positive threshold_lr"),
        ({"warmup_share": 1.0}, "expected a warmup_share"),
        ({"masks": "both"}, "masks must be 'output' or 'kernel', got 'both'"),
        ({"hardware": {"form": "mul_log"}}, r"hardware\.form has no part in single_path_nas"),
        ({"hardware": {"target": "cpu"}}, r"'cpu' needs hardware\.table, a file of latencies"),
        ({"hardware": {"table": "x.csv"}}, r"hardware\.table is of latencies"),
    ],
)
def test_settings_that_are_wrong_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SinglePathNAS(**options)


def test_a_scaled_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="precision='float16' scales the loss"):
        SinglePathNAS().check_settings(TrainSettings(precision="float16"))


def test_the_space_has_the_published_blocks() -> None:
    space = single_path_nas(width=0.1).arch_space
    assert space.size() == 4**6 * 5**15
    assert len(space.labels) == 21
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1"):
        single_path_nas(dropout=1.0)
