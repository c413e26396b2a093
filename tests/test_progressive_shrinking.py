"""Progressive shrinking: stages, sorted channels, sampled sizes, and what a step trains."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import raynas
from raynas.algorithms.progressive_shrinking import ProgressiveShrinking
from raynas.core.errors import InvalidSpace
from raynas.core.train_settings import TrainSettings
from raynas.data.split import split_of
from raynas.data.tensor_data import TensorData
from raynas.nn import BatchNorm1d, Conv2d, Linear, Repeat, ValueChoice, activate, freeze, space_of
from raynas.nn.channel_sorting import channel_groups, sort_channels
from raynas.nn.dimensions import dimensions_of
from raynas.setup.algorithms import resolve_one_shot
from raynas.supernet.shrinking import (
    StageSpec,
    default_stages,
    first_epochs,
    read_stages,
    stages_of,
)
from raynas.supernet.training import SupernetTraining
from tests.elasticnets import ElasticNet, elastic, plain_elastic


def numbers(count: int = 48) -> TensorData:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(count + 12, 6, generator=rng, dtype=torch.float64)
    y = torch.arange(count + 12) % 3
    return TensorData((TensorDataset(x[:count], y[:count]), TensorDataset(x[count:], y[count:])))


def training(
    algo: ProgressiveShrinking, net: nn.Module, epochs: int = 4, **more: Any
) -> SupernetTraining:
    chosen = {"batch_size": 12, "label_smoothing": 0.0, "clip": None, **more}
    return SupernetTraining(net, algo, numbers(), TrainSettings(epochs=epochs, **chosen), seed=3)


def whole(net: nn.Module) -> dict[str, Any]:
    sizes = dimensions_of(net)
    return dict(space_of(net).decided(lambda decision: sizes[decision.label].largest))


def ofa(**more: Any) -> nn.Module:
    options = {"num_classes": 10, "width": 0.25, "resolution": 32, "dropout": 0.0, **more}
    net = raynas.space("ofa_mobilenet_v3", **options).supernet()
    rng = torch.Generator().manual_seed(1)
    for name, buffer in net.named_buffers():  # statistics that matter
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=rng) + 0.5)
    return net.double().eval()


# what is elastic


def test_sizes_are_told_apart_by_what_they_are_of() -> None:
    net = ofa(resolutions=[16, 32])
    sizes = dimensions_of(net)
    kinds = [size.kind for size in sizes.values()]
    assert [kinds.count(k) for k in ("resolution", "kernel", "depth", "width")] == [1, 20, 5, 20]
    assert sizes["stage1.depth"].options == [2, 3, 4]
    assert sizes["stage2.block1.expand"].sizes == {3: 24, 4: 32, 6: 48}  # of 8 channels
    assert sizes["resolution"].largest == 32
    own = dimensions_of(elastic(0))
    assert {label: size.kind for label, size in own.items()} == {
        "depth": "depth",
        "width0": "width",
        "width1": "width",
        "width2": "width",
    }


# channels in the order of their importance


def test_sorting_leaves_what_the_whole_network_computes() -> None:
    net = ofa()
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    activate(net, whole(net))
    before, weights = net(x), copy.deepcopy(net.state_dict())
    assert sort_channels(net, x, whole=whole(net), trained={}) == []
    torch.testing.assert_close(net(x), before, rtol=0, atol=1e-12)
    moved = [name for name, weight in net.state_dict().items() if not weight.equal(weights[name])]
    assert len(moved) > 100
    groups = [group for group in channel_groups(net) if "expand" in str(group.labels)]
    assert len(groups) == 32  # 20 expansions, and between squeeze and excitation of 12 blocks
    for group in groups:
        importance = group.importance()
        assert importance is not None
        assert importance.equal(importance.sort(descending=True).values)


def test_importance_is_the_magnitude_of_what_reads_a_channel() -> None:
    width = ValueChoice([1, 2, 3], label="width")
    net: Any = nn.Sequential(Linear(2, width), BatchNorm1d(width), Linear(width, 2))
    last = torch.tensor([[1.0, -4.0, 2.0], [-0.5, 4.0, 0.0]])
    first = torch.arange(6.0).reshape(3, 2)
    net[2].weight.data, net[0].weight.data = last.clone(), first.clone()
    net[1].running_mean.copy_(torch.tensor([10.0, 20.0, 30.0]))
    space_of(net)
    (group,) = channel_groups(net)
    importance = group.importance()
    assert importance is not None
    assert importance.tolist() == [1.5, 8.0, 2.0]
    assert sort_channels(net, torch.zeros(2, 2), whole={"width": 3}, trained={}) == []
    assert net[2].weight.equal(last[:, [1, 2, 0]])
    assert net[0].weight.equal(first[[1, 2, 0]])
    assert net[1].running_mean.tolist() == [20.0, 30.0, 10.0]


def test_channels_of_a_width_that_was_trained_stay_in_it() -> None:
    width = ValueChoice([2, 3, 5], label="width")
    net: Any = nn.Sequential(Linear(1, width), Linear(width, 1))
    net[1].weight.data = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
    space_of(net)
    (group,) = channel_groups(net)
    orders = [group.order({"width": trained}) for trained in ([5], [3, 5], [2, 3, 5])]
    assert [order.tolist() for order in orders if order is not None] == [
        [4, 3, 2, 1, 0],
        [2, 1, 0, 4, 3],
        [1, 0, 2, 4, 3],
    ]


class Scaled(nn.Module):
    """Scales features by numbers of its own, which sorting does not see."""

    def __init__(self) -> None:
        super().__init__()
        width, other = ValueChoice([2, 4], label="width"), ValueChoice([2, 4], label="other")
        self.first, self.last = Linear(3, width), Linear(width, 3)
        self.inner, self.outer = Linear(3, other), Linear(other, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the input's shape."""
        y = self.first(x)
        x = self.last(y * torch.arange(1.0, y.shape[1] + 1))
        z: Tensor = self.outer(self.inner(x))
        return z


def test_channels_whose_order_matters_stay_where_they_are() -> None:
    torch.manual_seed(0)
    net, x = Scaled(), torch.randn(5, 3)
    net.last.weight.data[:, 0] = 0.01
    net.outer.weight.data[:, 0] = 0.01  # the first channels matter least
    space_of(net)
    activate(net, {"width": 4, "other": 4})
    before, first, inner = net(x), net.first.weight.clone(), net.inner.weight.clone()
    assert sort_channels(net, x, whole={"width": 4, "other": 4}, trained={}) == ["width"]
    torch.testing.assert_close(net(x), before, rtol=1e-5, atol=1e-6)
    assert net.first.weight.equal(first)
    assert not net.inner.weight.equal(inner)


# stages


def test_default_stages_are_those_of_the_paper() -> None:
    specs = default_stages(dimensions_of(ofa()))
    assert [(spec.epochs, spec.subnets) for spec in specs] == [
        (180, 1), (120, 1), (25, 2), (120, 2), (25, 4), (120, 4)
    ]  # fmt: skip
    assert [spec.lr_scale for spec in specs] == pytest.approx([1, 1, 1 / 12, 1 / 4, 1 / 12, 1 / 4])
    stages = stages_of(specs, dimensions_of(ofa()))
    labels = ("stage1.block1.kernel", "stage1.depth", "stage1.block1.expand")
    assert [tuple(stage.options[label] for label in labels) for stage in stages] == [
        ((7,), (4,), (6,)),
        ((3, 5, 7), (4,), (6,)),
        ((3, 5, 7), (3, 4), (6,)),
        ((3, 5, 7), (2, 3, 4), (6,)),
        ((3, 5, 7), (2, 3, 4), (4, 6)),
        ((3, 5, 7), (2, 3, 4), (3, 4, 6)),
    ]
    few = default_stages(dimensions_of(elastic(0)))  # two widths, three depths, no kernels
    assert [(spec.depth is None, spec.width is None) for spec in few] == [
        (True, True), (False, True), (False, True), (True, False)
    ]  # fmt: skip


class Modular(nn.Module):
    """A stage of up to four blocks that expand by 1, 3, 4 or 6, as ModularNAS' ``ps`` file has."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = Repeat(self._block, ValueChoice([1, 2, 3, 4], label="depth"))

    def _block(self, at: int) -> nn.Module:
        hidden = 8 * ValueChoice([1, 3, 4, 6], label=f"expand{at}")
        return nn.Sequential(Conv2d(8, hidden, 1), nn.ReLU(), Conv2d(hidden, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the input's shape."""
        y: Tensor = self.blocks(x)
        return y


def test_stages_of_modular_nas_are_understood() -> None:
    """As its shipped ``ps`` file writes them; sizes of before stay elastic, as its code forgets."""
    written = [
        {"sequential": [1, 0.75, 0.5]},
        {"sequential": [1, 0.75, 0.5, 0.25]},
        {"spatial": [1, 0.67, 0.5]},
        {"spatial": [1, 0.67, 0.5, 0.17]},
    ]
    net = Modular()
    space_of(net)
    stages = stages_of(read_stages(written), dimensions_of(net), use_ratio=True)
    assert [(stage.options["depth"], stage.options["expand2"]) for stage in stages] == [
        ((2, 3, 4), (6,)),
        ((1, 2, 3, 4), (6,)),
        ((1, 2, 3, 4), (3, 4, 6)),
        ((1, 2, 3, 4), (1, 3, 4, 6)),
    ]
    each = [[4, 6], [6], [3, 6], [6]]  # one list for every decision
    (stage,) = stages_of(read_stages([{"spatial": each}]), dimensions_of(net))
    assert [stage.options[f"expand{at}"] for at in range(4)] == [(4, 6), (6,), (3, 6), (6,)]
    with pytest.raises(ValueError, match=r"3 lists for 4 decisions: \['expand0'"):
        stages_of(read_stages([{"spatial": each[:3]}]), dimensions_of(net))


def test_epochs_are_shared_out() -> None:
    specs = [StageSpec(epochs=n) for n in (180, 120, 25, 120, 25, 120)]
    assert first_epochs(specs, 590) == [0, 180, 300, 325, 445, 470]
    assert first_epochs(specs, 6) == [0, 1, 2, 3, 4, 5]
    assert first_epochs(specs, 12) == [0, 4, 6, 7, 9, 10]
    assert first_epochs([StageSpec(), StageSpec()], 5) == [0, 3]
    assert ProgressiveShrinking(stages=[{"epochs": 2}, {"epochs": 5}]).own_epochs == 7


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ([], "stages: name at least one"),
        ([{"kernal": [3]}], r"stages\[0\]: no setting is named 'kernal'; did you mean 'kernel'"),
        ([{"epochs": 0}], r"stages\[0\]: epochs: .*greater than 0.*, got 0"),
        ([{"epochs": 1}, {}], "give all of them epochs, or none"),
        ([7], r"stages\[0\]: .*expected a dict of epochs, lr_scale"),
        ([{"kernel": [3, 5]}], r"stages\[0\].kernel: the model has no elastic layer of this kind"),
        ([{"depth": [1, 4]}], r"stages\[0\].depth: 4 is no option"),
        ([{"depth": [1, 2]}], r"\[1, 2\] leaves out 3, the largest of 'depth'"),
        (
            [{"depth": [1, 2, 3]}, {"depth": [2, 3]}],
            r"stages\[1\].depth: \[2, 3\] leaves out 1 of 'depth', which a stage before trains",
        ),
        ([{"width": {"widht0": [4]}}], "no size is called 'widht0'; did you mean 'width0'"),
        ([{"width": {"width0": [5, 8]}}], "5 is no option of 'width0'"),
    ],
)
def test_stages_that_cannot_be_are_refused(stages: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ProgressiveShrinking(stages=stages).check(elastic(0), None)


def test_ratios_that_no_size_has_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"'depth' has no size of ratio 0\.5; it has 0\.33, 0\.67, 1"
    ):
        ProgressiveShrinking(stages=[{"depth": [1, 0.5]}], use_ratio=True).check(elastic(0), None)


def test_a_space_without_elastic_layers_is_refused() -> None:
    with pytest.raises(InvalidSpace, match="trains elastic layers, and Sequential has none"):
        ProgressiveShrinking().check(nn.Sequential(nn.Linear(6, 3)), None)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ema": 0.9}, "ema: progressive_shrinking moves channels"),
        ({"schedule": "linear"}, "schedule: progressive_shrinking has one for each of its stages"),
        ({"epochs": 3}, "4 stages need at least as many epochs, got 3"),
    ],
)
def test_trainings_that_cannot_be_are_refused(settings: dict[str, Any], says: str) -> None:
    def checked() -> None:
        algo = ProgressiveShrinking()
        algo.check_settings(TrainSettings(**settings))
        algo.check(elastic(0), None)

    with pytest.raises(ValueError, match=says):
        checked()


# what a step trains


def test_a_step_draws_what_its_stage_allows() -> None:
    net = nn.Sequential(raynas.nn.Resolution([8, 12, 16], label="size"), Modular())
    space_of(net)
    stages = [{"depth": [3, 4], "subnets": 3}]
    algo = ProgressiveShrinking(seed=4, stages=stages, sandwich=True)
    plan = algo._planned(net)
    algo._space = space_of(net)
    for step in range(40):
        archs = algo.subnets(step, plan[0])
        assert algo.subnets(step, plan[0]) == archs
        assert len({arch["size"] for arch in archs}) == 1  # a batch has one resolution
        assert len(set(archs)) == len(archs)
        assert (archs[0]["depth"], archs[-1]["depth"]) == (4, 3)
        assert {arch["expand0"] for arch in archs} == {6}
    assert len({algo.subnets(step, plan[0])[0]["size"] for step in range(40)}) == 3


def test_subnets_are_drawn_evenly() -> None:
    """Chi-square over the 14 architectures; a false alarm has a chance of 1e-4."""
    net = elastic(0)
    algo = ProgressiveShrinking(stages=[{"depth": [1, 2, 3], "width": [4, 8]}])
    (stage,), algo._space = algo._planned(net), space_of(net)
    archs = [algo.subnets(step, stage)[0] for step in range(3000)]
    depths = [sum(arch["depth"] == depth for arch in archs) for depth in (1, 2, 3)]
    assert chisquare(depths).pvalue > 1e-4
    first = [sum(arch["width0"] == width for arch in archs) for width in (4, 8)]
    assert chisquare(first).pvalue > 1e-4


def test_the_learning_rate_rises_and_falls_in_every_stage() -> None:
    stages: list[dict[str, Any]] = [
        {"epochs": 2, "warmup": 0.0},
        {"epochs": 2, "lr_scale": 0.5, "warmup": 0.25},
    ]
    algo = ProgressiveShrinking(stages=stages)
    training(algo, elastic(0))  # 4 epochs of 4 steps
    scales = [algo.lr_scale(step, 16) for step in range(16)]
    assert scales[:8] == pytest.approx([0.5 * (1 + np.cos(np.pi * t / 8)) for t in range(8)])
    assert scales[8:10] == pytest.approx([0.25, 0.5])
    assert scales[10:] == pytest.approx([0.25 * (1 + np.cos(np.pi * t / 6)) for t in range(6)])


def test_a_step_sums_the_gradients_of_its_subnets_and_of_what_the_whole_teaches() -> None:
    """In float64 against frozen networks, whose losses are written out."""
    stages: list[dict[str, Any]] = [
        {"epochs": 1},
        {"epochs": 3, "depth": [1, 2, 3], "width": [4, 8], "subnets": 3},
    ]
    algo = ProgressiveShrinking(seed=1, stages=stages, distill=0.7, sort_channels=False)
    run = training(algo, plain_elastic(0))
    run.run_epoch()
    teacher = copy.deepcopy(run.model)
    x, y = split_of(numbers().load().train).some(range(12))
    before = copy.deepcopy(run.model)
    for group in run.optimizer.param_groups:
        group["lr"] = 0.0
    algo.step((x, y), iter(()))
    taught = freeze(teacher, whole(teacher))(x).softmax(1).detach()
    expected = {name: torch.zeros_like(p) for name, p in before.named_parameters()}
    archs = algo.subnets(run.step, algo.plan[1])
    assert len(archs) > 1
    for arch in archs:
        activate(before, arch)
        before.zero_grad()
        out = before(x)
        hard = nn.functional.cross_entropy(out, y)
        soft = -(taught * out.log_softmax(1)).sum(1).mean()
        (hard + 0.7 * soft).backward()
        static = freeze(before, arch)
        out = static(x)
        hard = nn.functional.cross_entropy(out, y)
        soft = -(taught * out.log_softmax(1)).sum(1).mean()
        static.zero_grad()
        (hard + 0.7 * soft).backward()
        wholes = dict(before.named_parameters())
        for name, part in static.named_parameters():  # the slice's gradient is the static net's
            gradient = wholes[name.replace("blocks.", "blocks.blocks.")].grad
            assert gradient is not None
            inside = tuple(slice(size) for size in part.shape)
            torch.testing.assert_close(gradient[inside], part.grad, rtol=0, atol=1e-12)
            rest = gradient.clone()
            rest[inside] = 0.0
            assert not rest.any()  # and nothing else has any
        for name, p in before.named_parameters():
            if p.grad is not None:
                expected[name] += p.grad
    for name, p in run.model.named_parameters():
        gradient = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-12)


def test_a_teacher_is_what_was_trained_before_sizes_join() -> None:
    stages: list[dict[str, Any]] = [{"epochs": 1}, {"epochs": 3, "width": [4, 8]}]
    run = training(algo := ProgressiveShrinking(stages=stages), elastic(0))
    run.run_epoch()
    assert algo._teacher is None
    state = copy.deepcopy(run.model.state_dict())
    run.run_epoch()
    assert algo._teacher is not None
    kept = {k: v for k, v in algo._teacher.state_dict().items() if "running" not in k}
    kept = {k: v for k, v in kept.items() if "num_batches" not in k}
    assert all(torch.equal(value, state[name]) for name, value in kept.items())
    alone = training(algo := ProgressiveShrinking(stages=stages, distill=0.0), elastic(0))
    alone.run_epoch(), alone.run_epoch()
    assert algo._teacher is None


def test_the_history_tells_the_stage() -> None:
    stages: list[dict[str, Any]] = [{"epochs": 2}, {"epochs": 2, "depth": [1, 2, 3]}]
    run = training(ProgressiveShrinking(stages=stages), ElasticNet().double())
    assert [run.run_epoch()["stage"] for _ in range(4)] == [0.0, 0.0, 1.0, 1.0]


# what a user found


def test_epochs_of_stages_are_those_of_the_training() -> None:
    stages = [{"epochs": 2}, {"epochs": 5, "depth": [1, 2, 3], "width": [4, 8]}]
    _, settings = resolve_one_shot("progressive_shrinking", {"stages": stages}, None)
    assert settings.epochs == 7
    _, settings = resolve_one_shot("progressive_shrinking", {"stages": stages}, 14)
    assert settings.epochs == 14
    _, settings = resolve_one_shot("progressive_shrinking", {"stages": stages, "epochs": 21}, None)
    assert settings.epochs == 21
    _, settings = resolve_one_shot("progressive_shrinking", {}, None)
    assert settings.epochs == TrainSettings().epochs


def test_sizes_that_no_stage_trains_are_named() -> None:
    says = r"no stage trains depth \[1, 2\]; width0 \[4\]; .*: a search of this supernet may draw"
    with pytest.warns(UserWarning, match=says):
        ProgressiveShrinking(stages=[{}]).check(elastic(0), None)
    # a list for all widths holds no option of one of them
    width, other = ValueChoice([4, 8], label="width"), ValueChoice([6, 8], label="other")
    net = nn.Sequential(Linear(2, width), Linear(width, other), Linear(other, 2))
    space_of(net)
    with pytest.warns(UserWarning, match=r"no stage trains other \[6\]:"):
        ProgressiveShrinking(stages=[{"width": [4, 8]}]).check(net, None)


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ("hello", "stages: expected a list of dicts, one for each stage, got 'hello'"),
        ({"epochs": 1}, "stages: expected a list of dicts, one for each stage, got {'epochs': 1}"),
        ([{"depth": "3"}], r"stages\[0\]: .*depth: expected a list of options, such as \[3, 5\]"),
    ],
)
def test_stages_of_another_form_are_refused(stages: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ProgressiveShrinking(stages=stages)


def test_ratios_that_are_no_numbers_are_refused() -> None:
    algo = ProgressiveShrinking(stages=[{"depth": [1, "a"]}], use_ratio=True)
    with pytest.raises(ValueError, match=r"stages\[0\].depth: expected ratios .*, got 'a'"):
        algo.check(elastic(0), None)


def test_the_history_tells_the_loss_apart_from_what_the_teacher_adds() -> None:
    stages: list[dict[str, Any]] = [{"epochs": 1}, {"epochs": 1, "depth": [1, 2, 3]}]
    run = training(ProgressiveShrinking(stages=stages), plain_elastic(0), epochs=2, lr=1e-9)
    rows = [run.run_epoch() for _ in range(2)]
    assert "distill_loss" not in rows[0]
    assert rows[1]["loss"] == pytest.approx(rows[0]["loss"], abs=0.1)  # the weights stand still
    assert rows[1]["distill_loss"] > 0.5
