"""PC-DARTS: channels that pass a choice by, narrower candidates, edges weighed, what is rebuilt."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.cloudpickle
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import raynas
from raynas.algorithms.pc_darts import PCDARTS
from raynas.cli import main
from raynas.core.arch import Arch
from raynas.core.config import ComponentSpec as Spec
from raynas.core.errors import InvalidSpace
from raynas.core.evaluator import Budget
from raynas.core.goals import Goals
from raynas.core.objectives import Objective
from raynas.core.train_settings import TrainSettings
from raynas.data.digits import Digits
from raynas.data.tensor_data import TensorData
from raynas.evaluators.shared import SharedEvaluator
from raynas.gradient.top_architectures import log_probability
from raynas.nn import LayerChoice, space_of
from raynas.nn.cell import Cell
from raynas.nn.modelspace import ModelSpace
from raynas.nn.mutable import activate, freeze, mutables
from raynas.nn.narrow import narrowed
from raynas.nn.operators import DARTS_PRIMITIVES, OPERATORS
from raynas.nn.operators.nas_bench_201 import NAS_BENCH_201
from raynas.nn.partial import PartialChannels, PartialEdge, make_partial
from raynas.nn.partial_space import PartialSpace, whole_of
from raynas.report.findings import ReportData
from raynas.report.pictures.alphas import alphas
from raynas.setup.evaluation import evaluation_of
from raynas.setup.problem import Problem
from raynas.setup.resolve import resolve_space
from raynas.storage.run_folder import CONFIG, Folder
from raynas.supernet.checkpoint import find_checkpoint, load_shared
from raynas.supernet.training import SupernetTraining
from tests.inline import INLINE
from tests.laws import keeps_the_laws


def images(channels: int, size: int = 6, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, size, size, generator=rng, dtype=torch.float64)


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Shuffle as the authors' code does, in a few lines of plain torch."""
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width).transpose(1, 2).contiguous()
    return x.view(batch, channels, height, width)


def weight_count(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


# The partial forward pass.


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_share_is_convolved_and_the_rest_passes(memory: torch.memory_format) -> None:
    x, conv = images(8).contiguous(memory_format=memory), nn.Conv2d(2, 2, 3, padding=1).double()
    out = PartialChannels(4, (1, 1))(conv, x)
    assert torch.equal(out, shuffled(torch.cat([conv(x[:, :2]), x[:, 2:]], 1), 4))
    assert out.is_contiguous(memory_format=memory)


@pytest.mark.parametrize("size", [6, 7])
def test_what_passes_is_pooled_where_the_size_halves(size: int) -> None:
    x, conv = images(8, size), nn.Conv2d(2, 2, 3, 2, 1).double()
    passed = F.pad(x[:, 2:], (0, size % 2, 0, size % 2), value=-torch.inf)
    blocks = passed.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # by hand: the largest of 2 x 2
    expected = shuffled(torch.cat([conv(x[:, :2]), blocks.amax((3, 5))], 1), 4)
    assert torch.equal(PartialChannels(4, (2, 2))(conv, x), expected)


def test_vectors_pass_without_a_pool() -> None:
    linear, x = nn.Linear(2, 2), torch.randn(5, 6)
    out = PartialChannels(3, ())(linear, x)
    parts = [linear(x[:, :2]), x[:, 2:4], x[:, 4:]]
    assert torch.equal(out, torch.stack(parts, 2).flatten(1))


# Narrower layers.


def darts_weights(name: str, c: int, stride: int) -> int:
    kernel = int(name[-1]) if name.endswith(("3", "5")) else 0
    separable = c * kernel**2 + c * c
    return {
        "sep_conv": 2 * separable,
        "dil_conv": separable,
        "skip_con": 0 if stride == 1 else c * c,  # two convolutions of c to c / 2
    }.get(name[:8], 0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", DARTS_PRIMITIVES)
def test_darts_primitives_get_narrower(name: str, stride: int) -> None:
    wide = OPERATORS[name](16, 16, stride)
    thin = narrowed(wide, 4).double()
    assert weight_count(wide) == darts_weights(name, 16, stride)
    assert weight_count(thin) == darts_weights(name, 4, stride)
    assert thin(images(4)).shape == (2, 4, 6 // stride, 6 // stride)
    assert [type(m) for m in thin.modules()] == [type(m) for m in wide.modules()]


@pytest.mark.parametrize("name", list(NAS_BENCH_201))
def test_operations_of_nas_bench_201_get_narrower(name: str) -> None:
    thin = narrowed(NAS_BENCH_201[name](16, 16, 1), 4).double()
    normed = 2 * 4  # a BatchNorm's weight and bias
    expected = {"nor_conv_1x1": 4 * 4 + normed, "nor_conv_3x3": 9 * 4 * 4 + normed}
    assert weight_count(thin) == expected.get(name, 0)
    assert thin(images(4)).shape == (2, 4, 6, 6)


def test_all_kinds_of_layers_get_narrower_and_keep_their_settings() -> None:
    wide = nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=2, padding_mode="circular"),
        nn.GroupNorm(2, 16),
        nn.GroupNorm(16, 16),
        nn.PReLU(),
        nn.PReLU(16, init=0.5),
        nn.InstanceNorm2d(16, affine=True),
        nn.ConvTranspose2d(16, 8, 3, padding=1, groups=8),
        nn.BatchNorm2d(8, eps=0.1, track_running_stats=False),
        nn.Flatten(),
        nn.Linear(8 * 36, 8, bias=False),
    ).double()
    before = copy.deepcopy(wide.state_dict())
    thin: Any = narrowed(wide, 4)
    assert thin(images(2)).shape == (2, 2)
    assert all(torch.equal(before[key], value) for key, value in wide.state_dict().items())
    groups = [getattr(m, "groups", getattr(m, "num_groups", None)) for m in thin]
    assert groups == [2, 2, 4, None, None, None, 2, None, None, None]
    assert [p.shape for p in thin[0].parameters()] == [(4, 1, 3, 3), (4,)]
    assert (thin[0].dilation, thin[0].padding_mode) == ((2, 2), "circular")
    assert thin[4].weight.tolist() == [0.5] * 4
    assert thin[7].eps == 0.1
    assert {value.dtype for value in thin.state_dict().values()} == {torch.float64}


def test_all_operations_on_graphs_get_narrower() -> None:
    space = PartialSpace(raynas.space("gcn", channels=8, nodes=6, embedding=8, cells=1), 4)
    net = space.supernet().double()
    edges = [choice for choice in choices(net).values() if choice.wrapper is not None]
    assert len(edges) == 9
    assert all(choice.wrapper == PartialChannels(4, (1,)) for choice in edges)
    arch = space.arch_space.sample(np.random.default_rng(0))
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    activate(net.eval(), arch)
    assert torch.equal(freeze(net, arch)(x), net(x))


def test_what_has_no_share_of_its_channels_is_said() -> None:
    with pytest.raises(ValueError, match="6 channels do not divide by 4"):
        narrowed(nn.Conv2d(6, 6, 1), 4)
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="share a weight"):
        narrowed(tied, 2)
    with pytest.raises(ValueError, match="2 channels do not divide by 4"):
        # 8 / 4 channels would be made by two convolutions of 4 / 4 and 4 / 4; 4 / 4 by none
        narrowed(OPERATORS["skip_connect"](4, 4, 2), 4)


# A partial model.


def conv(channels: int, out: int | None = None, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, out or channels, 3, stride, 1), nn.BatchNorm2d(out or channels)
    )


class Mixed(nn.Module):
    """Choices that can be partial, one with another inside, and some that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = LayerChoice({"a": conv(3, 8), "b": conv(3, 8)}, "stem")
        inner = LayerChoice({"c": conv(8), "d": nn.Identity()}, "inner")
        self.outer = LayerChoice({"plain": conv(8), "deep": nn.Sequential(conv(8), inner)}, "outer")
        held = LayerChoice([conv(16), nn.ReLU()], "held")
        grown = nn.Sequential(conv(8, 16, 2), held)
        self.grow = LayerChoice({"one": conv(8, 16, 2), "two": grown}, "grow")
        self.halved = LayerChoice([conv(16, stride=2), nn.MaxPool2d(2, 2)], "halved")
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.halved(self.grow(self.outer(self.stem(x))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def choices(model: nn.Module) -> dict[str, LayerChoice]:
    return {str(m.label): m for m in mutables(model) if isinstance(m, LayerChoice)}


def mixed() -> ModelSpace:
    return ModelSpace(Mixed, input_shape=(3, 8, 8))


def test_choices_become_partial_where_they_can() -> None:
    model = Mixed()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.halved.eval()
    reasons = make_partial(model, 4, torch.zeros(2, 3, 8, 8))
    assert reasons == {
        "stem": "candidate 'a' makes (2, 8, 8, 8) of (2, 3, 8, 8): the channels change",
        "grow": "candidate 'one' makes (2, 16, 4, 4) of (2, 8, 8, 8): the channels change",
    }
    wrappers = {label: choice.wrapper for label, choice in choices(model).items()}
    assert wrappers == {
        "stem": None,
        "outer": PartialChannels(4, (1, 1)),
        "inner": None,  # narrower with the candidate that holds it, not partial once more
        "grow": None,
        "held": PartialChannels(4, (1, 1)),  # in a candidate that stays as it is
        "halved": PartialChannels(4, (2, 2)),
    }
    shapes = {n: tuple(v.shape) for n, v in model.state_dict().items() if n.endswith("0.weight")}
    assert shapes["outer.candidates.deep.1.candidates.c.0.weight"] == (2, 2, 3, 3)
    assert shapes["grow.candidates.two.1.candidates.0.0.weight"] == (4, 4, 3, 3)
    kept = [name for name in before if name.startswith(("stem", "grow.candidates.one", "head"))]
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in kept)
    assert not any(m.training for m in model.halved.modules() if m is not model.halved.candidates)
    assert model.outer.training
    assert all(choice.route is None for choice in choices(model).values())


def test_architectures_labels_and_weights_are_a_function_of_space_and_seed() -> None:
    space = PartialSpace(mixed(), 4)
    assert space_of(space.supernet()) == space.arch_space == space.whole.arch_space
    ours, theirs, other = (space.supernet(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not torch.equal(
        ours["outer.candidates.plain.0.weight"], other["outer.candidates.plain.0.weight"]
    )
    again = ray.cloudpickle.loads(ray.cloudpickle.dumps(space))
    assert all(torch.equal(ours[key], x) for key, x in again.supernet(1).state_dict().items())
    state = torch.get_rng_state()
    space.supernet()
    whole_of(space.supernet())
    assert torch.equal(torch.get_rng_state(), state)


def test_freezing_equals_activating() -> None:
    model = PartialSpace(mixed(), 4).supernet().double()
    keeps_the_laws(model, images(3, 8), samples=12)
    arch = {"stem": "a", "outer": "deep", "inner": "d", "grow": "one", "halved": 1}
    net: Any = freeze(model, arch)
    assert isinstance(net.outer, PartialEdge)
    assert "divisor=4, stride=(2, 2)" in repr(net.halved)
    assert {key.split(".")[0] for key in net.state_dict()} == {"stem", "outer", "grow", "head"}
    assert "outer.layer.0.0.weight" in net.state_dict()
    ray.cloudpickle.loads(ray.cloudpickle.dumps(net))
    cells = raynas.space("darts_cifar", channels=4, layers=3, nodes=2, resolution=8)
    keeps_the_laws(PartialSpace(cells, 4).supernet().double(), images(3, 8), samples=3)


class TwoLayers(nn.Module):
    """One choice between two layers that a test gives it."""

    def __init__(self, first: Callable[[], nn.Module], other: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.pick = LayerChoice({"one": first(), "other": other()}, "pick")
        self.head = nn.Linear(1, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pick(x).flatten(1).mean(1, keepdim=True))
        return logits


class Sized(nn.Module):
    """Keeps a number of channels for itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), 8, *x.shape[2:])


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda: nn.Conv2d(8, 12, 1), "'other' makes (2, 12, 8, 8) of (2, 8, 8, 8)"),
        (lambda: nn.AvgPool2d(2), "candidates 'one' and 'other' give different shapes"),
        (Sized, "candidate 'other' does not run on 2 channels"),
        (lambda: nn.Sequential(nn.Conv2d(8, 6, 1), nn.Conv2d(6, 8, 1)), "cannot be narrower: 6 ch"),
        (lambda: nn.Upsample(scale_factor=2), "give different shapes"),
    ],
)
def test_a_search_without_a_partial_choice_is_refused(
    other: Callable[[], nn.Module], reason: str
) -> None:
    space = ModelSpace(lambda: TwoLayers(nn.Identity, other), input_shape=(8, 8, 8))
    with pytest.raises(InvalidSpace, match="'pick'") as raised:
        PCDARTS().supernet_space(space)
    assert reason in str(raised.value)


def test_sizes_that_no_pool_makes_are_refused() -> None:
    grown = ModelSpace(
        lambda: TwoLayers(lambda: nn.Upsample(scale_factor=2), lambda: nn.Upsample(scale_factor=2)),
        input_shape=(8, 4, 4),
    )
    with pytest.raises(InvalidSpace, match=r"no pool makes a size of \(8, 8\) of \(4, 4\)"):
        PCDARTS().supernet_space(grown)
    with pytest.raises(ValueError, match="partial must be a whole number of at least 1, got 0"):
        PCDARTS(partial=0)
    assert PCDARTS(partial=1).supernet_space(grown) is grown


def test_a_mixture_sees_a_share_of_the_channels() -> None:
    """Every candidate of every edge gets and gives a quarter of what it does at full width."""
    space = raynas.space("darts_cifar", channels=8, layers=3, nodes=2, resolution=8)
    seen: list[dict[str, int]] = []
    for model_space in (space, PartialSpace(space, 4)):
        net, sizes = model_space.supernet(), dict[str, int]()
        for name, module in net.named_modules():
            if isinstance(module, LayerChoice):
                module.route = first_of_all
                for kind, layer in module.candidates.items():
                    layer.register_forward_hook(counted(sizes, f"{name}.{kind}"))
        net(torch.zeros(2, 3, 8, 8))
        seen.append(sizes)
    whole, partial = seen
    assert whole.keys() == partial.keys()
    assert len(whole) == 3 * 5 * 8  # cells, edges, candidates
    assert all(whole[key] == 4 * partial[key] for key in whole)


def first_of_all(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    outputs: list[Tensor] = [layer(x) for layer in layers]
    return outputs[0]


def counted(sizes: dict[str, int], key: str) -> Callable[..., None]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes[key] = inputs[0].numel() + output.numel()

    return hook


# The algorithm.


class Twice(nn.Module):
    """Two cells of one label, and a choice beside them."""

    def __init__(self) -> None:
        super().__init__()
        ops: dict[str, Any] = {
            "a": nn.Linear(6, 6),
            "none": Nothing(),
            "b": nn.Sequential(nn.Linear(6, 6), nn.Tanh()),
        }
        self.cells = nn.ModuleList(Cell(ops, 2, 2, 2, label="cell") for _ in range(2))
        self.beside = LayerChoice([nn.Linear(12, 6), nn.Linear(12, 6)], "beside")
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.beside(self.cells[0](x, x))
        logits: Tensor = self.head(self.cells[1](x, y))
        return logits


class Nothing(nn.Module):
    """Gives zeros."""

    is_none = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def numbers() -> TensorData:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(60, 6, generator=rng, dtype=torch.float64)
    y = torch.arange(60) % 3
    return TensorData((TensorDataset(x[:36], y[:36]), TensorDataset(x[36:], y[36:])))


def attached(partial: int = 2, **options: Any) -> tuple[PCDARTS, SupernetTraining]:
    algo = PCDARTS(seed=1, partial=partial, **{"alpha_lr": 0.1, "warmup_epochs": 0} | options)
    space = ModelSpace(lambda: Twice().double(), input_shape=(6,))
    settings = TrainSettings(epochs=4, batch_size=12, lr=0.1)
    return algo, SupernetTraining(algo.supernet_space(space).supernet(), algo, numbers(), settings)


NODES = {"cell/n0/from": ("s0", "s1"), "cell/n1/from": ("s0", "s1", "n0")}


def learned(algo: PCDARTS) -> dict[str, Tensor]:
    vectors = {**algo.relaxation.vectors, **algo.edges.vectors}
    return {label: vector.detach().clone() for label, vector in vectors.items()}


def test_a_node_is_the_weighted_sum_of_its_edges() -> None:
    algo, run = attached()
    assert {label: spec.options for label, spec in algo.edges.specs.items()} == NODES
    net: Any = run.model
    with torch.no_grad():
        for at, vector in enumerate(learned(algo).values()):
            vector += at
        for at, vector in enumerate(algo.edges.vectors.values()):
            vector.copy_(torch.arange(len(vector)) * (1.0 + at))
    x = numbers().load().valid[0]
    cell = net.cells[0]

    def edge(node: int, source: str, x: Tensor) -> Tensor:
        choice, share = cell.edge(node, source), x[:, :3]
        p = algo.relaxation.vectors[choice.label].softmax(0)
        mixed = p[0] * choice.candidates["a"](share) + p[2] * choice.candidates["b"](share)
        return torch.stack([mixed, x[:, 3:]], 2).flatten(1)

    b0, b1 = (algo.edges.vectors[label].softmax(0) for label in NODES)
    n0 = b0[0] * edge(0, "s0", x) + b0[1] * edge(0, "s1", x)
    n1 = b1[0] * edge(1, "s0", x) + b1[1] * edge(1, "s1", x) + b1[2] * edge(1, "n0", n0)
    torch.testing.assert_close(cell(x, x), torch.cat([n0, n1], 1), rtol=0, atol=1e-12)


def test_logits_and_edge_weights_rest_while_warming_up() -> None:
    algo, run = attached(warmup_epochs=2)
    start, rows = learned(algo), []
    for epoch in range(3):
        rows.append(run.run_epoch())
        same = [torch.equal(start[key], vector) for key, vector in learned(algo).items()]
        assert all(same) if epoch < 2 else not any(same)
    assert ["valid_loss" in row for row in rows] == [False, False, True]
    assert all(v.grad is None for v in algo.edges.vectors.values())


def test_the_weights_step_computes_no_gradient_for_the_edges() -> None:
    algo, run = attached()
    net: Any = run.model
    seen: list[Any] = []
    net.head.register_forward_hook(lambda *_: seen.append(algo.edges("cell/n0/from")))
    x, y = numbers().load().valid
    algo.weight_step((x[:12], y[:12]))
    assert [factor.requires_grad for factor in seen[0]] == [False, False]
    run.loss((x[:12], y[:12]))
    assert [factor.requires_grad for factor in seen[1]] == [True, True]


def test_an_edge_ranks_by_its_probability_times_its_weight() -> None:
    algo, run = attached()
    p = {  # over a, none, b; the products with the weights below
        "n0/op/s0": [0.6, 0.3, 0.1],
        "n0/op/s1": [0.1, 0.2, 0.7],
        "n1/op/s0": [0.5, 0.1, 0.4],  # 0.05
        "n1/op/s1": [0.2, 0.5, 0.3],  # 0.15
        "n1/op/n0": [0.1, 0.7, 0.2],  # 0.08
    }
    weights = {"cell/n0/from": [0.9, 0.1], "cell/n1/from": [0.1, 0.5, 0.4]}
    with torch.no_grad():
        for label, values in p.items():
            algo.relaxation.vectors[f"cell/{label}"].copy_(torch.tensor(values).log())
        for label, values in weights.items():
            algo.edges.vectors[label].copy_(torch.tensor(values).log())
        algo.relaxation.vectors["beside"].copy_(torch.tensor([0.0, 1.0]))
    arch = algo.derive()
    assert arch == {
        "cell/n0/from": ("s0", "s1"),
        "cell/n0/op/s0": "a",
        "cell/n0/op/s1": "b",
        "cell/n1/from": ("s1", "n0"),  # by probabilities alone: s0 and s1
        "cell/n1/op/s1": "b",
        "cell/n1/op/n0": "b",
        "beside": 1,
    }
    space_of(run.model).check(arch)
    ranked = [Arch(choices) for choices in algo.top_k(300)]
    assert ranked[0] == Arch(arch)
    assert len(set(ranked)) == len(ranked) == space_of(run.model).size() // 1 == 96
    # the swap of one source counts with the weight of the edge
    learned_p, specs = algo.probabilities(), algo.specs()
    odds = {ranked_arch: log_probability(ranked_arch, learned_p, specs) for ranked_arch in ranked}
    swapped = Arch(
        {k: v for k, v in arch.items() if k != "cell/n1/op/n0"}
        | {"cell/n1/from": ("s0", "s1"), "cell/n1/op/s0": "a"}
    )
    expected = np.log(0.1 * 0.5) - np.log(0.4 * 0.2)
    assert odds[swapped] - odds[Arch(arch)] == pytest.approx(expected)


def test_the_derived_network_is_the_activated_supernet() -> None:
    algo, run = attached()
    rows = [run.run_epoch() for _ in range(2)]
    for label, sources in NODES.items():
        shares = [rows[-1][f"alpha.{label}.{source}"] for source in sources]
        assert sum(shares) == pytest.approx(1.0)
        assert len(set(shares)) == len(shares)
    arch, net, x = algo.derive(), run.model.eval(), numbers().load().valid[0]
    mixture = net(x)
    activate(net, arch)
    assert torch.equal(freeze(net, arch)(x), net(x))
    assert not torch.equal(mixture, net(x))


def test_copies_do_not_carry_the_search_along() -> None:
    algo, run = attached()
    kept = copy.deepcopy(run.model)
    cells = [m for m in mutables(kept) if isinstance(m, Cell)]
    assert [cell.edge_weights for cell in cells] == [None, None]
    assert all(
        cell.edge_weights is algo.edges for cell in mutables(run.model) if isinstance(cell, Cell)
    )
    with pytest.raises(InvalidSpace, match="a copy of a partial supernet"):
        whole_of(kept)


def test_the_expected_cost_is_that_of_whole_networks() -> None:
    """And the edges' weights have no part in it: whatever they are, every edge runs."""
    algo, run = attached(hardware={"target": "params"})
    net, p = Twice(), algo.relaxation.probabilities()
    fixed = float(weight_count(net.head))
    for label, choice in choices(net).items():
        counts = [weight_count(layer) for layer in choice.layers()]
        fixed += sum(float(share) * count for share, count in zip(p[label], counts, strict=True))
    # choices() keeps one choice a label: the edges of the second cell are as many again
    edges = [choice for label, choice in choices(net).items() if label.startswith("cell")]
    for edge in edges:
        counts = [weight_count(layer) for layer in edge.layers()]
        fixed += float(p[str(edge.label)] @ np.array(counts))
    before = algo.expected_cost()
    assert before == pytest.approx(fixed)
    with torch.no_grad():
        algo.edges.vectors["cell/n1/from"][0] = 5.0
    assert algo.expected_cost() == before
    row = run.run_epoch()
    assert row["expected_params"] == algo.expected_cost() != before


def test_the_partial_supernet_trains_where_nothing_is_a_cell() -> None:
    algo = PCDARTS(alpha_lr=0.1, warmup_epochs=0)
    x = torch.randn(40, 3, 8, 8)
    half = TensorDataset(x, torch.arange(40) % 3)
    run = SupernetTraining(
        algo.supernet_space(mixed()).supernet(),
        algo,
        TensorData((half, half)),
        TrainSettings(epochs=1, batch_size=20),
    )
    before = learned(algo)
    run.run_epoch()
    assert algo.edges.vectors == {}
    assert all(not torch.equal(before[key], vector) for key, vector in learned(algo).items())


# Through Ray.


def some_digits() -> tuple[TensorDataset, TensorDataset]:
    splits = Digits().load()
    x, y = splits.train
    return TensorDataset(x[:96], y[:96]), TensorDataset(x[96:160], y[96:160])


SIZE = {"channels": 4, "layers": 3, "nodes": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> raynas.Result:
    """PC-DARTS on tiny cells."""
    return raynas.search(
        "darts_cifar",
        algo="pc_darts",
        data=some_digits(),
        epochs=2,
        trials=2,
        options={"alpha_lr": 0.02, "warmup_epochs": 1, "batch_size": 48},
        space_options=SIZE,
        out=str(tmp_path_factory.mktemp("pc_darts")),
        ray=INLINE,
    )


def test_trials_cost_what_whole_networks_do(run: raynas.Result) -> None:
    assert set(run.trials["status"]) == {"completed"}
    space = run.rebuilt.space
    assert space is not None
    for row in run.trials.itertuples():
        cost = raynas.cost(space, Arch.from_json(str(row.arch)))
        assert (row.params, row.macs) == (cost.params, cost.macs)
    net, whole = run.model(), space.build(run.best.arch)
    assert any(isinstance(module, PartialEdge) for module in net.modules())
    assert not any(isinstance(module, PartialEdge) for module in whole.modules())
    assert weight_count(net) < weight_count(whole)


def test_the_model_is_the_one_that_was_scored(run: raynas.Result) -> None:
    net = run.model()
    x, y = some_digits()[1].tensors
    with torch.no_grad():
        loss = float(F.cross_entropy(net(x), y))
    # both calibrate on all 96 training images
    assert loss == pytest.approx(run.best.metrics["loss"], rel=1e-3)
    rescored = run.rescore(1)
    assert rescored["valid_loss"].iloc[0] == pytest.approx(run.best.metrics["loss"], rel=1e-3)


def test_the_whole_network_is_at_hand_untrained(run: raynas.Result) -> None:
    space = run.rebuilt.space
    assert space is not None
    assert run.rebuilt.narrow
    whole = run.model(whole=True)
    assert not whole.training
    assert weight_count(whole) == run.best.metrics["params"] > weight_count(run.model())
    expected = space.build(run.best.arch, seed=run.config.seed).state_dict()
    torch.testing.assert_close(whole.state_dict(), expected, rtol=0, atol=0)
    last = Arch.from_json(str(run.trials["arch"].iloc[-1]))
    assert weight_count(run.model(last, whole=True)) == raynas.cost(space, last).params


@pytest.mark.parametrize("ending", ["pt", pytest.param("pt2", marks=pytest.mark.full)])
def test_an_exported_network_is_said_to_be_narrow_or_untrained(
    run: raynas.Result, ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"  # of data that a folder names, as commands need them
    shutil.copytree(run.path, out)
    config = run.config.model_copy(update={"data": Spec(name="digits"), "out": str(out)})
    Folder(str(out)).write(CONFIG, config.to_json())
    narrow, wide = str(tmp_path / "narrow.pt2"), str(tmp_path / f"wide.{ending}")
    assert main(["export", str(out), narrow]) == 0
    assert "narrow, as it was scored" in capsys.readouterr().out
    assert main(["export", str(out), wide, "--whole"]) == 0
    assert "at full width, with fresh weights: untrained" in capsys.readouterr().out
    x = some_digits()[1].tensors[0]
    again = raynas.load(str(out))
    with torch.no_grad():
        for file, net in ((narrow, again.model()), (wide, again.model(whole=True))):
            if file.endswith(".pt"):  # the network's own class runs it
                torch.testing.assert_close(torch.load(file), dict(net.state_dict()))
            else:
                torch.testing.assert_close(torch.export.load(file).module()(x), net(x))
    decisions = str(tmp_path / "best.json")
    assert main(["export", str(out), decisions]) == 0
    assert "narrow" not in capsys.readouterr().out.replace(str(tmp_path), "")
    assert main(["export", str(out), str(tmp_path / "other.json"), "--whole"]) == 2
    said = capsys.readouterr().err
    assert "whole goes with a network (.pt, .pt2, .onnx, .pte), not with .json" in said


def test_a_trained_supernet_scores_again_as_it_did(run: raynas.Result) -> None:
    """``supernet=PATH`` finds out of the checkpoint that its candidates are narrower."""
    data = run.rebuilt.data_at_hand
    space = resolve_space("darts_cifar", dict(run.config.space.options), data)
    model_space = space.model_space
    goals = Goals((Objective("accuracy"),))
    problem = Problem(space=space, data=data, goals=goals)
    supernet = evaluation_of("shared", problem, supernet=run.path).supernet
    assert supernet is not None
    assert isinstance(supernet.model_space, PartialSpace)
    assert supernet.model_space.whole is model_space
    weights = load_shared(find_checkpoint(Path(run.path)))
    evaluator = SharedEvaluator(
        supernet.model_space, run.rebuilt.data, weights, 0, model_space=model_space
    )
    measurements = evaluator([Arch.from_json(text) for text in run.trials["arch"]], Budget(), 0)
    for name in ("loss", "params", "macs", "activation_bytes"):
        measured = [measurement.metrics[name] for measurement in measurements]
        # in other processes arrays lie elsewhere in memory, and may take another vector kernel
        np.testing.assert_allclose(measured, run.trials[name], rtol=1e-4)
    wider = resolve_space("darts_cifar", SIZE | {"channels": 8}, data)
    with pytest.raises(ValueError, match="is not one of darts_cifar as it is asked for"):
        evaluation_of("shared", Problem(space=wider, data=data, goals=goals), supernet=run.path)


def test_what_edges_weigh_is_told_and_drawn(run: raynas.Result) -> None:
    sources = run.history.filter(regex=r"^alpha\.normal/n1/from\.")
    assert list(sources) == [f"alpha.normal/n1/from.{name}" for name in ("s0", "s1", "n0")]
    np.testing.assert_allclose(sources.sum(axis=1), 1.0, rtol=1e-6)
    assert (sources.diff().iloc[1] != 0).all()
    figure = alphas(ReportData(trials=run.trials, history=run.history, config=run.config))
    assert figure.data[0].z.shape == (2 * (5 + 2), 2)  # edges and nodes of two kinds of cells
    assert "normal/n1/from" in figure.layout.yaxis.ticktext


@pytest.mark.parametrize("call", ["search", "train_supernet"])
def test_what_cannot_be_partial_is_refused_before_anything_starts(
    call: str, tmp_path: Path
) -> None:
    def grey() -> nn.Module:
        return TwoLayers(lambda: nn.Conv2d(1, 8, 3), lambda: nn.Conv2d(1, 8, 3))

    with pytest.raises(InvalidSpace, match="'pick', cannot since candidate 'one' makes"):
        getattr(raynas, call)(grey, algo="pc_darts", out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "warmup"), [("pc_darts", 15), ("proxyless", 25), ("proxyless_rl", 25), ("fbnet", 10)]
)
def test_warming_up_until_the_end_is_refused(name: str, warmup: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    message = f"{name} learns nothing about architectures in its first {warmup} epochs, and there"
    with pytest.raises(ValueError, match=message):
        raynas.search("nas_bench_201", name, epochs=warmup, out=str(out))
    assert not out.exists()
