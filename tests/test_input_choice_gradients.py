"""Choices of inputs in searches by gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raynas.core.arch import Arch
from raynas.core.errors import InvalidSpace
from raynas.core.train_settings import TrainSettings
from raynas.costs.cost_table import CostTable
from raynas.data.tensor_data import TensorData
from raynas.gradient.alike import check_alike
from raynas.gradient.bounded import top_k_within
from raynas.gradient.mixed.base import MIXED_OPS
from raynas.gradient.mixed.weighted_sum import WeightedSum
from raynas.gradient.relaxation import Relaxation, strongest
from raynas.gradient.top_architectures import log_probability
from raynas.nn import NO_KEY, InputChoice, LayerChoice, activate, freeze, space_of
from raynas.nn.mutable import name_labels
from raynas.supernet.protocol import ONE_SHOTS
from raynas.supernet.training import SupernetTraining

DOUBLE = torch.float64


class Nothing(nn.Module):
    """Gives zeros."""

    is_none = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Node(nn.Module):
    """A node of NNI's DARTS: layer choices, and a choice of their outputs."""

    def __init__(self, **options: Any) -> None:
        super().__init__()

        def layers() -> dict[str, nn.Module]:
            return {"none": Nothing(), "linear": nn.Linear(4, 4), "same": nn.Identity()}

        self.ops: Any = nn.ModuleList(LayerChoice(layers(), key=f"p{at}") for at in range(3))
        self.switch = InputChoice(**{"key": "switch", "n_chosen": 2, **options})

    def forward(self, x: Tensor) -> Any:
        return self.switch([op(x * (at + 1)) for at, op in enumerate(self.ops)])


BY_LAYERS = ["p0", "p1", "p2"]


def node(**options: Any) -> Node:
    torch.manual_seed(0)
    model = Node(**options).double()
    name_labels(model)
    return model


def set_logits(relaxation: Relaxation, **logits: Sequence[float]) -> None:
    for label, values in logits.items():
        relaxation.vectors[label].data = torch.tensor(values, dtype=DOUBLE)


X = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


@pytest.mark.parametrize(("reduction", "share"), [("sum", 1.0), ("mean", 1 / 3)])
def test_inputs_from_layer_choices_are_joined_and_ranked_by_them(
    reduction: str, share: float
) -> None:
    model = node(choose_from=BY_LAYERS, reduction=reduction)
    relaxation = Relaxation(model, WeightedSum(), seed=0)
    assert set(relaxation.vectors) == {"p0", "p1", "p2"}
    # softmaxes of (none, linear, same)
    chances = {"p0": [0.1, 0.5, 0.4], "p1": [0.8, 0.15, 0.05], "p2": [0.3, 0.1, 0.6]}
    set_logits(relaxation, **{k: np.log(v).tolist() for k, v in chances.items()})
    expected = torch.zeros_like(X)
    for at, (_, linear, same) in enumerate(chances.values()):
        scaled = X * (at + 1)
        expected = expected + linear * model.ops[at][1](scaled) + same * scaled
    torch.testing.assert_close(model(X), expected * share, rtol=0, atol=1e-12)
    p = relaxation.probabilities()
    assert p["switch"] == pytest.approx([0.5, 0.15, 0.6])
    arch = relaxation.derive(strongest)
    # none is never what an input is picked for, as in a cell
    assert arch == {"p0": "linear", "p1": "linear", "p2": "same", "switch": ("p0", "p2")}
    relaxation.detach()
    activate(model, arch)
    found = model.ops[0][1](X) + 3 * X
    torch.testing.assert_close(model(X), found / (2 if reduction == "mean" else 1))
    assert torch.equal(freeze(model, arch)(X), model(X))


@pytest.mark.parametrize(("reduction", "scale"), [("sum", 2.0), ("mean", 1.0)])
def test_a_choice_of_several_inputs_has_logits_of_its_own(reduction: str, scale: float) -> None:
    """As many times the softmax as there are inputs to sum."""
    model = InputChoice(3, n_chosen=2, reduction=reduction, label="in")
    relaxation = Relaxation(model, WeightedSum(), seed=0)
    logits = torch.tensor([0.2, -1.0, 0.7], dtype=DOUBLE)
    relaxation.vectors["in"].data = logits
    inputs = [X, X.exp(), X.sin()]
    p = logits.softmax(0)
    expected = scale * (p[0] * inputs[0] + p[1] * inputs[1] + p[2] * inputs[2])
    torch.testing.assert_close(model(inputs), expected, rtol=0, atol=1e-12)
    assert relaxation.derive(strongest) == {"in": (0, 2)}
    (gradient,) = torch.autograd.grad(model(inputs).sum(), [relaxation.vectors["in"]])
    sums = torch.stack([x.sum() for x in inputs])
    torch.testing.assert_close(gradient, scale * p * (sums - p @ sums))


@pytest.mark.parametrize("reduction", ["sum", "mean", "concat", "none"])
@pytest.mark.parametrize("name", ["weighted_sum", "gumbel_sum", "dirichlet_sum", "binary_gate"])
def test_one_input_is_mixed_as_candidates_are(name: str, reduction: str) -> None:
    """Equal, bit for bit, to a layer choice whose candidates give these inputs."""

    class Gives(nn.Module):
        def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.f = f

        def forward(self, x: Tensor) -> Tensor:
            return self.f(x)

    functions: list[Callable[[Tensor], Tensor]] = [torch.neg, torch.exp, torch.sin]
    outputs, slopes = list[Tensor](), list[Tensor]()
    layers = LayerChoice([Gives(f) for f in functions], "in")
    inputs = InputChoice(3, n_chosen=1, reduction=reduction, label="in")
    for model, given in ((layers, X), (inputs, [f(X) for f in functions])):
        relaxation = Relaxation(model, MIXED_OPS.build(name), seed=4, scale=1.0)
        relaxation.vectors["in"].data = relaxation.vectors["in"].double()
        relaxation.sample(0, 0)
        out = model(given)
        if reduction == "none" and model is inputs:
            (out,) = out
        outputs.append(out)
        slopes += torch.autograd.grad(out.square().sum(), [relaxation.vectors["in"]])
    assert torch.equal(*outputs)
    assert torch.equal(*slopes)


def test_an_input_without_a_key_gives_the_choice_its_own_logits() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = LayerChoice([nn.Linear(4, 4), nn.Tanh()], key="conv")
            self.skip = InputChoice(choose_from=[NO_KEY, "conv"], n_chosen=1, key="skip")

        def forward(self, x: Tensor) -> Any:
            return self.skip([x, self.conv(x)])

    model = Skips()
    name_labels(model)
    relaxation = Relaxation(model, WeightedSum(), seed=0)
    assert set(relaxation.vectors) == {"conv", "skip"}
    set_logits(relaxation, skip=[0.5, 0.4])
    assert relaxation.derive(strongest)["skip"] == NO_KEY


def test_what_reads_all_has_nothing_to_learn() -> None:
    for options in ({"n_candidates": 3}, {"choose_from": BY_LAYERS}):
        model = node(**options, n_chosen=3, reduction="concat")
        relaxation = Relaxation(model, WeightedSum(), seed=0)
        assert set(relaxation.vectors) == {"p0", "p1", "p2"}
        assert "switch" not in relaxation.probabilities()
        assert model(X).shape == (5, 12)
        arch = relaxation.derive(strongest)
        assert arch["switch"] == model.switch.options


REFUSED: list[tuple[dict[str, Any], str, dict[str, Any], str]] = [
    ({"n_chosen": None, "n_candidates": 3}, "darts", {}, "picks any number of its 3 inputs"),
    ({"reduction": "concat", "n_candidates": 3}, "darts", {}, "'concat' of 2 inputs has another"),
    ({"reduction": "none", "choose_from": BY_LAYERS}, "gdas", {}, "'none' of 2 inputs has another"),
    ({"n_candidates": 3}, "gdas", {}, "picks 2 of 3 inputs by logits of its own"),
    ({"n_candidates": 3}, "proxyless", {}, "picks 2 of 3 inputs by logits of its own"),
    ({"n_candidates": 3}, "snas", {}, "picks 2 of 3 inputs by logits of its own"),
    ({"n_candidates": 3}, "one_shot", {}, "picks 2 of 3 inputs by logits of its own"),
    ({"n_candidates": 3}, "sgas", {}, "picks 2 of 3 inputs together, and sgas"),
    ({"choose_from": BY_LAYERS}, "sgas", {}, "picks 2 of 3 inputs by their layer choices"),
    (
        {"choose_from": BY_LAYERS},
        "darts",
        {"selection": "perturbation"},
        "picks 2 of 3 inputs by their layer choices",
    ),
]


@pytest.mark.parametrize(("options", "name", "more", "message"), REFUSED)
def test_what_cannot_be_searched_is_refused_in_a_sentence(
    options: dict[str, Any], name: str, more: dict[str, Any], message: str
) -> None:
    model = node(**options)
    with pytest.raises(InvalidSpace, match=message) as refused:
        ONE_SHOTS[name](**more).check(model, X)
    assert "InputChoice 'switch'" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("op", ["weighted_sum", "index"])
def test_inputs_of_different_shapes_are_refused(op: str) -> None:
    class Unlike(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = LayerChoice([nn.Linear(4, 4)], key="a")
            self.b = LayerChoice([nn.Linear(4, 3)], key="b")
            self.pick = InputChoice(choose_from=["a", "b"], n_chosen=1, key="pick")

        def forward(self, x: Tensor) -> Any:
            return self.pick([self.a(x), self.b(x)])

    model = Unlike()
    name_labels(model)
    with pytest.raises(InvalidSpace, match=r"choice 'pick': candidate 'b' returns a shape of \(3,"):
        check_alike(model, MIXED_OPS.build(op), X.float())


@pytest.mark.parametrize("own", [False, True])
def test_architectures_come_in_the_order_of_their_probability(own: bool) -> None:
    """Also under a bound, and with what two equal choices of one label decide together."""
    model = node(**({"n_candidates": 3} if own else {"choose_from": BY_LAYERS}))
    algo: Any = ONE_SHOTS["darts"]()
    data = TensorData((TensorDataset(X, X[:, 0]), TensorDataset(X, X[:, 0])))
    model.head = nn.Identity()
    SupernetTraining(model, algo, data, TrainSettings(epochs=1, batch_size=5), seed=0)
    rng = np.random.default_rng(3)
    for vector in algo.relaxation.vectors.values():
        # zeros are the least probable: the derived architecture, which has none, comes first
        vector.data = torch.from_numpy(np.append(rng.normal(-3), rng.normal(size=2)))
    space, p, specs = space_of(model), algo.probabilities(), algo.specs()
    assert p["switch"].shape == (3,)
    expected = sorted(space, key=lambda arch: -log_probability(arch, p, specs))
    top = [Arch(arch) for arch in algo.top_k(30)]
    assert top[0] == algo.derive()
    if not own:  # of its own logits, the first is that of none
        assert [log_probability(a, p, specs) for a in top] == pytest.approx(
            [log_probability(a, p, specs) for a in expected[:30]]
        )
    assert algo.distribution()["switch"] == list(
        zip(model.switch.options, p["switch"].tolist(), strict=True)
    )
    left_out = model.switch.options[int(np.argmax(p["switch"]))]
    bounded = copy.copy(space)
    object.__setattr__(bounded, "violation", lambda arch: float(left_out in arch["switch"]))
    inside = top_k_within(bounded, algo.derive(), p, specs, 4)
    assert inside[0]["switch"] == tuple(o for o in model.switch.options if o != left_out)


def test_expected_costs_are_those_of_what_runs() -> None:
    """A layer whose output is not read runs nevertheless, and counts in both."""
    model = node(choose_from=BY_LAYERS)
    table = CostTable(model, X)
    relaxation = Relaxation(model, WeightedSum(), seed=0, scale=1.0)
    weights = relaxation.weights()
    p, space = relaxation.softmaxes(), space_of(model)
    mean = sum(
        table.cost(arch).params
        * np.prod([p[k][relaxation.specs[k].options.index(arch[k])] for k in BY_LAYERS])
        for arch in space
    )
    subsets = 3
    assert float(table.expected(weights, "params").detach()) == pytest.approx(mean / subsets)


class Rolled(nn.Module):
    """Two nodes whose inputs are of other examples, but for one, or two."""

    def __init__(self, ranked: bool) -> None:
        super().__init__()
        self.ranked = ranked
        self.nodes: Any = nn.ModuleList()
        self.picks = nn.ModuleList()
        for n in range(2):
            keys = [f"n{n}_p{at}" for at in range(4)]
            if ranked:
                self.nodes.append(
                    nn.ModuleList(
                        LayerChoice({"none": Nothing(), "same": nn.Identity()}, key=key)
                        for key in keys
                    )
                )
                self.picks.append(InputChoice(choose_from=keys, n_chosen=2, key=f"n{n}"))
            else:
                self.picks.append(InputChoice(4, n_chosen=1, key=f"n{n}"))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for n, part in enumerate(x.chunk(2, 1)):
            inputs = [part.roll(1, 0), part, part.roll(2, 0), part.roll(3, 0)]
            if self.ranked:  # two inputs, each with half of the features
                half = torch.tensor([1.0, 1.0, 0.0, 0.0])
                inputs[1], inputs[3] = half * part, (1 - half) * part
            inputs = inputs[n:] + inputs[:n]  # what is right stands elsewhere in every node
            if self.ranked:
                inputs = [op(i) for op, i in zip(self.nodes[n], inputs, strict=True)]
            outputs.append(self.picks[n](inputs))
        logits: Tensor = self.head(torch.cat(outputs, 1))
        return logits


RIGHT: dict[bool, dict[str, Any]] = {
    True: {"n0": ("n0_p1", "n0_p3"), "n1": ("n1_p0", "n1_p2")},
    False: {"n0": 1, "n1": 0},
}


def separable(seed: int) -> TensorData:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(240, 8, generator=rng)
    y = (x @ torch.randn(8, 3, generator=rng)).argmax(1)
    return TensorData((TensorDataset(x[:120], y[:120]), TensorDataset(x[120:], y[120:])))


def picked(name: str, ranked: bool, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    model = Rolled(ranked)
    name_labels(model)
    algo = ONE_SHOTS[name](seed=seed, alpha_lr=0.1, warmup_epochs=0)
    settings = TrainSettings(epochs=8, batch_size=20, lr=0.2, label_smoothing=0.0)
    run = SupernetTraining(model, algo, separable(seed), settings, seed=seed)
    for _ in range(8):
        run.run_epoch()
    return {label: value for label, value in algo.derive().items() if label in ("n0", "n1")}


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize("name", ["darts", "gdas"])
def test_the_inputs_with_information_are_found(name: str, ranked: bool) -> None:
    """On at least 3 of 4 seeds; by chance with less than 0.001.

    Of 56 seeds gdas missed two where inputs are ranked and one where not, darts none: where
    the arithmetic differs from this machine's, two of four are missed with probability 0.008.
    """
    assert [picked(name, ranked, seed) for seed in range(4)].count(RIGHT[ranked]) >= 3


def test_a_copy_of_a_searched_model_has_no_search_in_it() -> None:
    model = node(choose_from=BY_LAYERS)
    Relaxation(model, WeightedSum(), seed=0)
    model.switch.edge_weights = dict[str, Any]().get
    again = copy.deepcopy(model)
    assert again.switch.route is None
    assert again.switch.edge_weights is None
    assert again.switch.ranked
