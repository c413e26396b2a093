"""Models that conversion cannot take whole: what stays is said; never a wrong network."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass
class Scored:
    scores: Tensor
    others: list[Tensor]


class Structured(Two):
    def forward(self, x: Tensor) -> Scored:
        scores = self.second(self.first(x).relu())
        return Scored(scores, [scores * 2])


class Heads(Two):
    """Two outputs in a dict: neither may become smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.first(x).relu()
        return {"classes": self.second(hidden), "boxes": self.other(hidden)}


class Hidden(Two):
    """Tensors where nobody looks for them."""

    def forward(self, x: Tensor) -> object:
        self.kept = self.second(self.first(x))
        return object()


class Dropping(Two):
    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.dropout(self.first(x).relu(), 0.5, self.training)
        return self.second(hidden)  # type: ignore[no-any-return]


class Chosen(Two):
    """As many rows as the data has that are positive."""

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x[x[:, 0] > 0]).relu())  # type: ignore[no-any-return]


class Built(nn.Module):
    """Its layers are built in the first pass."""

    def __init__(self) -> None:
        super().__init__()
        self.net: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.net is None:
            self.net = nn.Sequential(nn.Linear(x.shape[1], 16), nn.ReLU(), nn.Linear(16, 3)).to(x)
        return self.net(x)  # type: ignore[no-any-return]


class Normed(Two):
    """Its first weight is computed of a direction and a length."""

    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.first)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())  # type: ignore[no-any-return]


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
    "dataclass": (Structured, X),
    "two in a dict": (Heads, X),
    "dropout": (Dropping, X),
    "rows of the data": (Chosen, X),
    "weight norm": (Normed, X),
    "prime groups": (
        lambda: nn.Sequential(
            nn.Linear(6, 21), nn.Unflatten(1, (21, 1)), nn.GroupNorm(7, 21), nn.Flatten(),
            nn.Linear(21, 3),
        ),
        X,
    ),
}  # fmt: skip

OFFERED = ["buffer", "named tuple", "dict", "sequential", "twice", "dataclass", "two in a dict"]
OFFERED += ["dropout", "rows of the data", "weight norm"]
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


@pytest.mark.parametrize("name", OFFERED)
def test_what_can_be_told_is_offered(name: str) -> None:
    make, example = MODELS[name]
    space = raynas.elastic(make().double(), example, width=True)
    assert space.arch_space.size() > 1


@pytest.mark.parametrize("make", [Structured, Heads])
def test_all_outputs_of_a_structure_keep_their_size(make: type[Two]) -> None:
    space = raynas.elastic(make().double(), X, width=True)
    assert list(space.plan.largest) == ["first.ffn"]


def test_a_model_in_training_mode_stays_in_it() -> None:
    model = Dropping().double().train()
    net = raynas.elastic(model, X, width=True).supernet()
    assert model.training
    assert net.training
    assert _worst(outputs(model.eval(), X), outputs(net.eval(), X)) <= 1e-12


def test_outputs_without_tensors_are_refused() -> None:
    with pytest.raises(InvalidSpace, match="Hidden returns no tensors that could be compared"):
        raynas.elastic(Hidden().double(), X, width=True)


@pytest.mark.parametrize(
    "make",
    [Built, lambda: nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 3)).double()],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_model_that_is_not_built_is_refused_until_it_is(make: Callable[[], nn.Module]) -> None:
    model = make()
    with pytest.raises(InvalidSpace, match=r"builds layers while it runs.* call it on the example"):
        raynas.elastic(model, X, width=True)
    model(X)
    assert raynas.elastic(model, X, width=True).arch_space.size() == 3


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
