"""SMASH: encodings, emitted weights, budgets, and a search from end to end."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import raynas
from raynas.algorithms.smash import Smash
from raynas.core.arch import Arch, Value
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidSpace
from raynas.core.train_settings import TrainSettings
from raynas.costs import cost_of
from raynas.data.tensor_data import TensorData
from raynas.nn import LayerChoice, activate, freeze, space_of
from raynas.nn.generated_conv import GeneratedConv2d
from raynas.nn.hypernetwork import Hypernetwork
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.mutable import logits_of
from raynas.nn.weight_generator import NormedConv2d
from raynas.supernet.training import SupernetTraining
from tests.hypernets import emitted
from tests.inline import INLINE

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(24) % 3
DATA = TensorData((TensorDataset(X, Y), TensorDataset(X, Y)))


def toy() -> Hypernetwork:
    torch.manual_seed(0)
    net = emitted(nn.Linear(6, 3))
    assert isinstance(net, Hypernetwork)
    space_of(net)  # gives labels
    return net


def tiny(**options: Any) -> ModelSpace:
    sizes = {"resolution": 8, "in_channels": 1, "blocks": 1, "ops": 1, "channels": 4}
    generator = {"hyper_growth": 4, "hyper_layers": (2,), "hyper_tile": 2}
    return SPACES["smash"](**{**sizes, **generator, **options})


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(2, 1, 8, 8, generator=rng, dtype=dtype)


ARCH: dict[str, Value] = {
    "first/read": (0, 1),
    "first/act": "relu",
    "second/read": (1,),
    "second/act": "tanh",
}


# --- encodings and weights ------------------------------------------------------------------------


def test_an_encoding_by_hand() -> None:
    """Two layers of 3 outputs are 2 rows of a tile of 3, two sources of 3 channels 2 columns."""
    expected = [
        [[1, 0], [0, 0]],  # source 0: read by the first layer, at its own column
        [[0, 1], [0, 1]],  # source 1: read by both
        [[0, 0], [1, 1]],  # tanh: the second layer's
        [[1, 1], [0, 0]],  # relu: the first one's
    ]
    assert torch.equal(toy().encoding(ARCH), torch.tensor(expected).float())


def test_encodings_and_weights_of_all_architectures_differ() -> None:
    """Of 168: so do the weights of networks that read the same."""
    net, space = tiny().supernet().double(), tiny().arch_space
    assert isinstance(net, Hypernetwork)
    archs = list(space)
    assert len(archs) == 7 * 3 * 2 * 2 * 2
    encodings = {net.encoding(arch).numpy().tobytes() for arch in archs}
    assert len(encodings) == len(archs)
    weights = {arch: weight_of(freeze(net, arch)) for arch in archs}
    assert len({w.numpy().tobytes() for w in weights.values()}) == len(archs)


def weight_of(net: nn.Module) -> Tensor:
    """Return the one emitted weight of a frozen ``tiny`` net, shape (4, read channels, 1, 1)."""
    weight: Tensor = net.state_dict()["blocks.0.ops.0.read.weight"]
    assert weight.shape[0] == 4
    return weight


def test_emitted_weights_are_the_generator_s_tiles_with_filters_of_length_one() -> None:
    net = toy()
    plain = freeze(net, ARCH)
    with torch.no_grad():
        numbers = net.generator(net.encoding(ARCH).double()[None])[0]
    matrix = torch.zeros(6, 6, dtype=torch.float64)
    for row in range(6):
        for column in range(6):
            at = 3 * (row % 3) + column % 3
            matrix[row, column] = numbers[at, row // 3, column // 3]
    first, second = matrix[:3], matrix[3:, 3:]  # the second layer reads source 1 only
    for at, part in enumerate((first, second)):
        expected = part / part.square().sum(1, keepdim=True).sqrt()
        weight = plain.state_dict()[f"0.reads.{at}.weight"][:, :, 0, 0]
        torch.testing.assert_close(weight, expected, rtol=1e-12, atol=1e-14)


def test_a_frozen_net_is_plain_and_computes_the_same() -> None:
    """Bit for bit in float64; what is trained afterwards does not reach it."""
    model = tiny(blocks=2, ops=2)
    net = model.supernet().double().eval()
    x, rng = images(), np.random.default_rng(0)
    for arch in (model.arch_space.sample(rng) for _ in range(6)):
        activate(net, arch)
        plain = freeze(net, arch)
        assert torch.equal(plain(x), net(x))
        kinds = {type(module) for module in plain.modules()}
        assert not kinds & {Hypernetwork, GeneratedConv2d, NormedConv2d}
        assert all(weight.requires_grad and weight.is_leaf for weight in plain.parameters())
        own = {id(weight) for weight in net.parameters()}
        assert not own & {id(weight) for weight in plain.parameters()}
    before = plain(x)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(1.0)
    assert torch.equal(plain(x), before)


def test_emitted_weights_pass_the_gradient_on() -> None:
    """Against differences of the loss, for one number of each of the generator's tensors."""
    net = toy()
    activate(net, ARCH)

    def loss() -> Tensor:
        return nn.functional.cross_entropy(net(X), Y)

    weights = list(net.generator.parameters())
    gradients = torch.autograd.grad(loss(), weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        flat, slope = weight.data.view(-1), gradient.flatten()
        at, step = int(slope.abs().argmax()), 1e-6
        value = float(flat[at])
        ends = []
        for side in (step, -step):
            flat[at] = value + side
            ends.append(float(loss().detach()))
        flat[at] = value
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(slope[at]), abs=1e-8)
    assert all(float(gradient.abs().max()) > 1e-6 for gradient in gradients)


def test_no_weight_outlasts_a_pass() -> None:
    """So copies and checkpoints hold none, also after a pass that failed."""
    net = toy()
    activate(net, ARCH)
    net(X)
    with pytest.raises(RuntimeError):
        net(X[:, :5])
    for conv in (m for m in net.modules() if isinstance(m, GeneratedConv2d)):
        assert conv.weight is None
        assert not list(conv.parameters())
    twin = copy.deepcopy(net)
    assert torch.equal(twin(X), net(X))


def test_filters_of_the_generator_have_their_learned_length() -> None:
    layer = NormedConv2d(2, 3, 3).double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    plain = nn.functional.conv2d(x, layer.direction, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), plain)
    with torch.no_grad():
        layer.direction.mul_(7.0)
        torch.testing.assert_close(layer(x), plain)
        layer.length.mul_(2.0)
        torch.testing.assert_close(layer(x), 2 * plain)


def conv(**options: Any) -> GeneratedConv2d:
    chosen = {"sources": 2, "channels": 4, "out_channels": 4, "label": "read", **options}
    return GeneratedConv2d(**chosen)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Hypernetwork(nn.Linear(2, 2)), "has no GeneratedConv2d to emit weights for"),
        (lambda: Hypernetwork(toy()), "holds another hypernetwork"),
        (lambda: Hypernetwork(conv(channels=6)), "6 input and 4 output channels of 'read' must"),
        (lambda: Hypernetwork(conv(), layers=()), "layers are positive numbers"),
        (lambda: Hypernetwork(conv(), growth=0), "growth"),
        (
            lambda: Hypernetwork(nn.Sequential(conv(), conv(label="b", sources=3))),
            "'read' has 2 inputs of 4 channels and conditions of .. options, and 'b' 3 inputs",
        ),
        (lambda: conv(label=""), "a label is a non-empty string"),
        (lambda: conv(sources=0), "sources"),
        (lambda: conv(conditions=[Subset("s", (0, 1), None)]), "a condition is a Choice"),
        (lambda: logits_of(toy()), "cannot be relaxed: it emits the weights of one architecture"),
        (lambda: freeze(conv(), {"read": (0,)}), "has no weights of its own: freeze the"),
    ],
)
def test_what_cannot_be_is_refused(build: Any, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        build()


def test_what_is_not_ready_says_so() -> None:
    with pytest.raises(RuntimeError, match="no architecture to emit weights for"):
        toy()(X)
    alone = conv()
    with pytest.raises(RuntimeError, match="'read' reads nothing yet"):
        alone([X, X])
    activate(alone, {"read": (0,)})
    with pytest.raises(RuntimeError, match="put the model that holds it into a"):
        alone([X, X])


def test_a_layer_that_does_not_run_has_no_weights_and_an_empty_encoding() -> None:
    """Of two candidates that read, one; the other's row of the encoding stays zero."""
    condition: list[Decision] = [Choice("c", (0, 1))]

    class Either(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = {name: conv(label=name, conditions=condition) for name in "ab"}
            self.layer = LayerChoice(layers, label="layer")
            self.c = LayerChoice([nn.Identity(), nn.Tanh()], label="c")

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.c(self.layer([x, -x]))
            return out

    net = Hypernetwork(Either(), growth=2, layers=(1,)).double()
    arch = Arch({"layer": "b", "b": (1,), "c": 1})
    space_of(net).check(arch)
    expected = torch.zeros(4, 2, 2)
    expected[1, 1, 1] = 1.0  # source 1, the second layer, the source's own column
    expected[3, 1, :] = 1.0  # option 1 of the condition
    expected[3, 0, :] = 1.0  # which is decided, whichever layer runs
    assert torch.equal(net.encoding(arch), expected)
    activate(net, arch)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    assert torch.equal(freeze(net, arch)(x), net(x))


# --- the algorithm --------------------------------------------------------------------------------


def training(net: nn.Module, algo: Smash, **settings: Any) -> SupernetTraining:
    chosen = {"epochs": 2, "batch_size": 8, "label_smoothing": 0.0, **settings}
    return SupernetTraining(net, algo, DATA, TrainSettings(**chosen), seed=0)


def test_every_batch_trains_the_hypernetwork_by_another_architecture() -> None:
    net, algo = toy(), Smash(seed=1)
    run = training(net, algo, weight_decay=0.0)
    before = {name: w.detach().clone() for name, w in net.named_parameters()}
    algo.step((X, Y), iter(()))
    moved = {name for name, w in net.named_parameters() if not torch.equal(w, before[name])}
    assert moved == set(before)
    # 20 of 36 architectures: all alike with probability 36^-19
    assert len({algo.path(step)[0] for step in range(20)}) > 1
    assert "in_budget" not in run.run_epoch()


def test_a_model_without_a_hypernetwork_is_refused_before_training() -> None:
    plain = nn.Sequential(LayerChoice([nn.Linear(6, 3), nn.Linear(6, 3)]))
    with pytest.raises(InvalidSpace, match="smash trains a hypernetwork, and the model has none"):
        Smash().check(plain, X)
    Smash().check(toy(), X)
    with pytest.raises(InvalidSpace, match="search the space 'smash'"):
        raynas.search("mlp", "smash", data="digits", trials=1, epochs=1, ray=INLINE)


def test_architectures_keep_the_budget() -> None:
    """Against the parameters of every frozen net; 40 steps."""
    model = tiny(kernels=(3,), dilations=(1,))
    net = model.supernet()
    costs = {a: cost_of(freeze(net, a), images(torch.float32)).params for a in model.arch_space}
    budget = float(np.median(list(costs.values())))
    algo = Smash(seed=0, budget=budget, budget_tolerance=0.05)
    data = TensorData((TensorDataset(images(torch.float32), torch.tensor([0, 1])),) * 2)
    SupernetTraining(net, algo, data, TrainSettings(epochs=1, batch_size=2), seed=0)
    assert len({c for c in costs.values() if abs(c / budget - 1) > 0.05}) > 1
    for step in range(40):
        arch, fits = algo.path(step)
        assert fits
        assert abs(costs[arch] / budget - 1) <= 0.05
    with pytest.raises(InvalidSpace, match="none of 9 random architectures has params"):
        Smash(budget=1e4, budget_tries=9).check(net, images(torch.float32))


@pytest.mark.parametrize("name", ["budget", "budget_tolerance", "budget_tries"])
def test_settings_that_mean_nothing_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        Smash(**{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ops": 0}, "smash: ops must be positive, got 0"),
        ({"blocks": 5}, "smash: 8 pixels cannot be halved 4 times"),
    ],
)
def test_sizes_of_the_space_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_a_search_from_end_to_end(tmp_path: Path) -> None:
    """The supernet is trained, its own sampler proposes, and the best is a plain network."""
    out = str(tmp_path / "run")
    result = raynas.search(
        tiny(resolution=16, ops=2),
        "smash",
        data="digits",
        trials=4,
        epochs=1,
        out=out,
        ray=INLINE,
        progress=False,
    )
    assert result.trials["status"].tolist() == ["completed"] * 4
    assert result.config.algo.name == "perturbation"
    net = result.model()
    assert torch.isfinite(net.eval()(images(torch.float32))).all()
    assert not any(isinstance(module, Hypernetwork) for module in net.modules())
