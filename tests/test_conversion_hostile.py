"""Models that conversion cannot take whole: what stays is said; never a wrong network."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.errors import InvalidSpace
from raynas.nn import activate, freeze
from raynas.nn.conversion.laws import outputs

Pair = namedtuple("Pair", ["scores", "hidden"])


class Two(nn.Module):
    """Two linear layers, whose forward is what a test makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 16), nn.Linear(16, 3)


class Constant(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).view(len(x), 16).relu())  # type: ignore[no-any-return]


class Ordered(Two):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.second(hidden * torch.arange(16).to(x))  # type: ignore[no-any-return]


class Decided(Two):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.second(hidden if float(hidden[0, 3]) > 0 else -hidden)  # type: ignore[no-any-return]


class InPlace(Two):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        hidden[:, 1:].mul_(2).add_(1)
        return self.second(hidden.relu_())  # type: ignore[no-any-return]


class Tied(Two):
    def __init__(self) -> None:
        super().__init__()
        self.third = nn.Linear(16, 6, bias=False)
        self.third.weight = nn.Parameter(self.first.weight.detach().T.clone())
        self.first = nn.Linear(6, 16, bias=False)
        self.back = nn.Linear(16, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        again = hidden @ self.first.weight  # the same weight the other way
        return self.second(self.first(again))  # type: ignore[no-any-return]


class Twice(nn.Module):
    """One module in two roles."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared, self.head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.shared(self.stem(x).relu())
        second = self.shared(first.relu())
        return self.head(torch.cat([first, second], 1))  # type: ignore[no-any-return]


class Buffered(Two):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.rand(16) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x) * self.gain)  # type: ignore[no-any-return]


class Named(Two):
    def forward(self, x: Tensor) -> Pair:
        hidden = self.first(x).relu()
        return Pair(self.second(hidden), hidden.sum(1))


class ByName(Two):
    def forward(self, *, image: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return {"scores": self.second(self.first(image).relu() * scale)}


def parametrised() -> nn.Module:
    net = Constant()
    nn.utils.parametrizations.weight_norm(net.first)
    return net


def hooked() -> nn.Module:
    net = InPlace()
    net.first.register_forward_hook(lambda _m, _a, out: out * 2)
    return net


X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
MODELS = {
    "shape constant": (Constant, X),
    "order": (Ordered, X),
    "control flow": (Decided, X),
    "in place": (InPlace, X),
    "tied": (Tied, X),
    "twice": (Twice, X),
    "buffer": (Buffered, X),
    "named tuple": (Named, X),
    "dict": (ByName, {"image": X, "scale": X[:, :1]}),
    "parametrised": (parametrised, X),
    "hooked": (hooked, X),
    "sequential": (lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), X),
    "prime groups": (
        lambda: nn.Sequential(
            nn.Linear(6, 21), nn.Unflatten(1, (21, 1)), nn.GroupNorm(7, 21), nn.Flatten(),
            nn.Linear(21, 3),
        ),
        X,
    ),
}  # fmt: skip

REFUSED = {"shape constant", "order", "control flow", "in place", "parametrised", "hooked"}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_offered_is_right_and_the_rest_stays(name: str) -> None:
    make, example = MODELS[name]
    torch.manual_seed(0)
    model = make().double().eval()
    try:
        space = raynas.elastic(model, example, width=True, ffn=True, depth=True)
    except InvalidSpace:
        assert name in REFUSED
        return
    assert name not in REFUSED
    net, rng = space.supernet().eval(), np.random.default_rng(0)
    assert _worst(outputs(model, example), outputs(net, example)) <= 1e-12
    for _ in range(4):
        arch = space.arch_space.sample(rng)
        activate(net, arch)
        assert _worst(outputs(net, example), outputs(freeze(net, arch), example)) <= 1e-12


@pytest.mark.parametrize("make", [Constant, Ordered])
def test_what_code_fixes_is_refused_with_the_reason(make: type[nn.Module]) -> None:
    with pytest.raises(InvalidSpace, match=r"nothing of .* can be made elastic.*: .*"):
        raynas.elastic(make().double(), X, width=True)


@pytest.mark.parametrize("name", ["buffer", "named tuple", "dict", "sequential", "twice"])
def test_what_can_be_told_is_offered(name: str) -> None:
    make, example = MODELS[name]
    space = raynas.elastic(make().double(), example, width=True)
    assert space.arch_space.size() > 1


def test_a_lone_layer_has_nothing_to_offer() -> None:
    with pytest.raises(InvalidSpace, match="nothing of Linear can be made elastic"):
        raynas.elastic(nn.Linear(6, 3).double(), X, width=True)


def test_a_model_that_remembers_passes_is_refused() -> None:
    class Counting(Two):
        passes = 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            return self.second(self.first(x)) * self.passes  # type: ignore[no-any-return]

    with pytest.raises(InvalidSpace, match="gives different outputs for one input"):
        raynas.elastic(Counting().double(), X, width=True)


def _worst(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
