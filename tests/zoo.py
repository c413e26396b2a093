"""Models that are odd in one way each; the laws of test_odd_models.py run over all of them.

Every one has a choice, takes few images, and gives ``CLASSES`` logits.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from raynas.nn import BatchNorm2d, Conv2d, LayerChoice, Repeat, Resolution, ValueChoice

CLASSES = 4
SIDE = 8


@dataclass(frozen=True)
class Odd:
    """A model of the zoo.

    Attributes:
        factory: builds it.
        input_shape: of one example.
        uncounted: what PyTorch's counter of operations misses, by the first choice; by hand.
    """

    factory: Callable[[], nn.Module]
    input_shape: tuple[int, ...] = (1, SIDE, SIDE)
    uncounted: Mapping[str, int] = field(default_factory=dict)


ZOO: dict[str, Odd] = {}


def odd(**facts: Any) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Register a class, under its name, with facts about it."""

    def register(cls: type[nn.Module]) -> type[nn.Module]:
        ZOO[cls.__name__] = Odd(cls, **facts)
        return cls

    return register


def widths(features: int, *, out: int = 16, label: str = "width") -> LayerChoice:
    """A choice between a direct and a hidden layer."""
    direct = nn.Linear(features, out)
    hidden = nn.Sequential(nn.Linear(features, 12), nn.ReLU(), nn.Linear(12, out))
    return LayerChoice({"direct": direct, "hidden": hidden}, label=label)


def kernels(
    into: int, out: int, *after: Callable[[], nn.Module], label: str = "kernel"
) -> LayerChoice:
    """A choice between two kernels, each followed by layers of its own."""
    return LayerChoice(
        {
            f"k{k}": nn.Sequential(nn.Conv2d(into, out, k, padding=k // 2), *(m() for m in after))
            for k in (1, 3)
        },
        label=label,
    )


class Rows(nn.Module):
    """A choice, and a head; what comes between is for others to say."""

    def __init__(self, features: int = SIDE * SIDE) -> None:
        super().__init__()
        self.width, self.head = widths(features), nn.Linear(16, CLASSES)

    def between(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.between(self.width(x.flatten(1)).relu()))
        return y


class Images(nn.Module):
    """A choice of kernels, what others say, and a head on 2 x 2 regions."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.head = kernels(1, 4), nn.Linear(16, CLASSES)

    def between(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self.kernel(x))
        y: Tensor = self.head(functional.adaptive_avg_pool2d(x, 2).flatten(1))
        return y


# --- what is not in the state_dict ---


@odd()
class RandomProjection(Rows):
    """A buffer that is not persistent."""

    proj: Tensor

    def __init__(self) -> None:
        super().__init__(32)
        self.register_buffer("proj", torch.randn(SIDE * SIDE, 32) / 8, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1) @ self.proj)


@odd()
class RandomPermutation(Rows):
    """A tensor that is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.perm = torch.randperm(SIDE * SIDE)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1)[:, self.perm])


@odd()
class NumpyPermutation(Rows):
    """An array drawn from numpy's global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.perm = np.random.permutation(SIDE * SIDE)  # noqa: NPY002 - which users draw from

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1)[:, torch.from_numpy(self.perm)])


@odd()
class PythonSample(Rows):
    """A list drawn from Python's global generator; no tensor shows that it is random."""

    def __init__(self) -> None:
        super().__init__(32)
        self.kept = random.sample(range(SIDE * SIDE), 32)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1)[:, self.kept])


@odd()
class OwnGenerators(Rows):
    """Tensors, numbers and weights from generators that no seed of ours reaches."""

    def __init__(self) -> None:
        super().__init__()
        drawn = np.random.default_rng()
        self.signs = [torch.from_numpy(drawn.choice([-1.0, 1.0], 16)).float()]
        self.scale = {"scale": float(drawn.uniform(0.5, 3))}
        nn.init.constant_(self.head.bias, float(drawn.uniform()))

    def between(self, x: Tensor) -> Tensor:
        return self.scale["scale"] * x * self.signs[0]


@odd()
class RandomWiring(Rows):
    """Random numbers decide which features are read, in a function of the constructor's."""

    def __init__(self) -> None:
        super().__init__()
        shift = int(torch.randint(1, 64, ()))
        self.moved: Callable[[Tensor], Tensor] = lambda x: x.roll(shift, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.moved(x.flatten(1)))


@odd()
class HiddenTensor(Rows):
    """A random tensor that only a function knows."""

    def __init__(self) -> None:
        super().__init__()
        signs = torch.randn(SIDE * SIDE).sign()
        self.signed: Callable[[Tensor], Tensor] = lambda x: x * signs

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.signed(x.flatten(1)))


@odd()
class Mask(Rows):
    """A tensor that the first pass makes."""

    def __init__(self) -> None:
        super().__init__()
        self.mask: Tensor | None = None

    def between(self, x: Tensor) -> Tensor:
        if self.mask is None:
            self.mask = 1 + torch.arange(x.shape[1], device=x.device) / 16
        return x * self.mask


@odd()
class Temperature(Rows):
    """A number that falls with every training pass."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = 4.0

    def between(self, x: Tensor) -> Tensor:
        if self.training:
            self.temperature *= 0.9
        return x / self.temperature


@odd()
class MovingMean(Rows):
    """A tensor, no buffer, that training passes move."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(16)

    def between(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.8 * self.mean + 0.2 * x.detach().mean(0)
        return x - self.mean


@odd()
class Counter(Rows):
    """A buffer that every pass counts up, in training or not; results depend on it."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def between(self, x: Tensor) -> Tensor:
        self.count += 1
        return x + self.count if self.training else x * (1 + self.count / 100)


@odd()
class ExtraState(Rows):
    """State that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self._passes = {"passes": 0}

    def get_extra_state(self) -> Any:
        return dict(self._passes)

    def set_extra_state(self, state: Any) -> None:
        self._passes = dict(state)

    def between(self, x: Tensor) -> Tensor:
        self._passes["passes"] += self.training
        return x * (1 + self._passes["passes"] / 10)


@odd()
class OwnDropout(Rows):
    """Dropout that draws from generators of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.torch_rng, self.numpy_rng = torch.Generator(), np.random.default_rng(3)
        self.python_rng = random.Random(3)

    def between(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.rand(x.shape, generator=self.torch_rng) < 0.8
        kept &= torch.from_numpy(self.numpy_rng.random(x.shape[1]) < 0.8)
        return x * kept * self.python_rng.uniform(0.9, 1.1)


@odd()
class Buffers(Rows):
    """Buffers of many types."""

    turn: Tensor
    exact: Tensor
    wide: Tensor
    short: Tensor
    on: Tensor

    def __init__(self) -> None:
        super().__init__()
        turn = torch.polar(torch.ones(16), torch.rand(16))
        self.register_buffer("turn", turn)
        self.register_buffer("wide", turn.to(torch.complex128))
        self.register_buffer("exact", torch.rand(16, dtype=torch.float64))
        self.register_buffer("short", torch.rand(16).bfloat16())
        self.register_buffer("on", torch.rand(16) < 0.5)

    def between(self, x: Tensor) -> Tensor:
        turned = (x * self.turn * self.wide).abs() * self.exact + self.short
        return torch.where(self.on, turned.float(), x)


# --- normalisations ---


@odd()
class SharedBlocks(nn.Sequential):
    """One choice with BatchNorms that runs three times."""

    def __init__(self) -> None:
        block = kernels(4, 4, lambda: nn.BatchNorm2d(4), nn.ReLU)
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        super().__init__(nn.Conv2d(1, 4, 3, 2), *[block] * 3, pool, nn.Linear(16, CLASSES))


@odd()
class NormTwice(Images):
    """One BatchNorm on two inputs of different scales."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)

    def between(self, x: Tensor) -> Tensor:
        x = self.norm(3 * x + 1).relu()
        y: Tensor = self.norm(self.conv(x)).relu()
        return y


@odd()
class NormsFrozen(Images):
    """BatchNorms that its own ``train`` keeps in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.free = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        nn.init.constant_(self.norm.running_var, 9.0)  # type: ignore[arg-type]

    def train(self, mode: bool = True) -> NormsFrozen:
        super().train(mode)
        self.norm.eval()
        return self

    def between(self, x: Tensor) -> Tensor:
        y: Tensor = self.free(self.norm(3 * x + 1).relu())
        return y


class FrozenNorm(nn.BatchNorm2d):
    """A BatchNorm that stays in evaluation mode by itself."""

    def train(self, mode: bool = True) -> FrozenNorm:
        super().train(False)
        return self


@odd()
class FrozenLayer(Images):
    """A BatchNorm of a class that is always frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = FrozenNorm(4)

    def between(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(5 * x + 2).relu()
        return y


class ActivatedNorm(nn.BatchNorm2d):
    """A BatchNorm with an activation inside, as some libraries have them."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(super().forward(x))


@odd()
class NormOfOthers(Images):
    """A BatchNorm that computes more than PyTorch's does."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = ActivatedNorm(4)

    def between(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(4 * x + 1)
        return y


@odd()
class Untracked(Images):
    """Normalisations that keep no statistics, or a plain average of them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)
        self.plain = nn.BatchNorm2d(4, momentum=None)
        self.each = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)

    def between(self, x: Tensor) -> Tensor:
        y: Tensor = self.each(self.plain(self.norm(x)).relu())
        return y


@odd(input_shape=(12,))
class NormedRows(nn.Module):
    """BatchNorm1d on rows of numbers, and LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.width = nn.BatchNorm1d(12), widths(12)
        self.last = nn.LayerNorm(16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.last(self.width(self.first(x))))
        return y


@odd()
class Groups(Images):
    """GroupNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 4)

    def between(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x).relu()
        return y


@odd()
class ElasticNorms(nn.Module):
    """Values decide how many channels BatchNorms have, one of which runs twice."""

    def __init__(self) -> None:
        super().__init__()
        width = ValueChoice([2, 4], label="width")
        self.conv, self.norm = Conv2d(1, width, 3), BatchNorm2d(width)
        self.again, self.other = Conv2d(width, width, 3, padding=1), BatchNorm2d(width)
        self.last, self.head = Conv2d(width, 4, 1), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.other(self.again(self.norm(4 * self.conv(x) + 1).relu()))
        x = self.last(self.norm(x).relu())
        y: Tensor = self.head(functional.adaptive_avg_pool2d(x, 2).flatten(1))
        return y


# --- memory layout ---


@odd()
class ViewAfterConv(nn.Module):
    """Flattens by ``view``, as every classic network does."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = kernels(1, 4, lambda: nn.BatchNorm2d(4), nn.ReLU, lambda: nn.MaxPool2d(2))
        self.head = nn.Linear(4 * 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.kernel(x)
        y: Tensor = self.head(x.view(x.size(0), -1))
        return y


class Flat(nn.Module):
    """Views its input as rows."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1)


@odd()
class ViewInOneCandidate(nn.Module):
    """Only one candidate does, and only behind one of the candidates before it."""

    def __init__(self) -> None:
        super().__init__()
        plain = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (4, 8, 8)))
        conv = nn.Conv2d(4, 4, 3, padding=1)
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.first = LayerChoice({"plain": plain, "conv": conv}, label="first")
        rows = {
            name: nn.Sequential(flat(), nn.Linear(256, CLASSES))
            for name, flat in (("view", Flat), ("flatten", nn.Flatten))
        }
        self.second = LayerChoice(rows, label="second")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(self.stem(x)))
        return y


@odd(input_shape=(1, 4, 8, 8))
class Volumes(nn.Module):
    """Convolutions of three dimensions, and a weight of four that is viewed as a row."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = LayerChoice(
            {f"k{k}": nn.Conv3d(1, 3, k, padding=k // 2) for k in (1, 3)}, label="kernel"
        )
        self.norm, self.table = nn.BatchNorm3d(3), nn.Parameter(torch.randn(1, 3, 2, 2))
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool3d(self.norm(self.kernel(x)).relu(), (1, 2, 2))
        y: Tensor = self.head(x.flatten(1) + self.table.view(-1))
        return y


# --- weights ---


@odd()
class Tied(Rows):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(16, 16), nn.Linear(16, 16)
        self.outer.weight = self.inner.weight

    def between(self, x: Tensor) -> Tensor:
        y: Tensor = self.outer(self.inner(x).relu())
        return y


@odd()
class Transposed(Rows):
    """A plain tensor that is a view of a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 16, bias=False)
        self.back = self.inner.weight.detach().t()

    def between(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x).relu() @ self.back.t()
        return y


@odd(uncounted=dict.fromkeys(("direct", "hidden"), 16 * 16 + 16))  # the norm: a product, and a dot
class Spectral(Rows):
    """Weights by parametrisations, one of which is an estimate that training passes improve."""

    def __init__(self) -> None:
        super().__init__()
        self.spectral = parametrizations.spectral_norm(nn.Linear(16, 16))
        self.normed = parametrizations.weight_norm(nn.Linear(16, 16))

    def between(self, x: Tensor) -> Tensor:
        y: Tensor = self.normed(self.spectral(x).relu())
        return y


@odd(uncounted=dict.fromkeys(("direct", "hidden"), 16 * 16 + 16))  # the norm: a product, and a dot
class HookedWeights(Rows):
    """Weights that hooks compute before each pass, as ``parametrizations`` did formerly."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.normed = nn.utils.weight_norm(nn.Linear(16, 16))
        self.spectral = nn.utils.spectral_norm(nn.Linear(16, 16))

    def between(self, x: Tensor) -> Tensor:
        y: Tensor = self.spectral(self.normed(x).relu())
        return y


# --- layers ---


@odd()
class Dropped(Rows):
    """Dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)

    def between(self, x: Tensor) -> Tensor:
        y: Tensor = self.drop(x)
        return y


@odd()
class Nested(nn.Module):
    """Choices inside of candidates, repeated blocks, and a BatchNorm in both."""

    def __init__(self) -> None:
        super().__init__()
        inner = kernels(1, 4, lambda: nn.BatchNorm2d(4), nn.ReLU, label="inner")
        outer = {"nested": inner, "plain": nn.Conv2d(1, 4, 1)}
        self.outer = LayerChoice(outer, label="outer")
        self.blocks = Repeat(
            lambda at: kernels(4, 4, lambda: nn.BatchNorm2d(4), label=f"block{at}"),
            (1, 2),
            label="depth",
        )
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.outer(x)).relu()
        y: Tensor = self.head(functional.adaptive_avg_pool2d(x, 2).flatten(1))
        return y


@odd()
class OwnTrain(Rows):
    """A ``train`` that sets a flag of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 1.0

    def train(self, mode: bool = True) -> OwnTrain:
        super().train(mode)
        self.scale = 2.0 if mode else 1.5
        return self

    def between(self, x: Tensor) -> Tensor:
        return x * self.scale


@odd()
class InPlace(Images):
    """Candidates that write into their input."""

    def __init__(self) -> None:
        super().__init__()
        self.act = LayerChoice({"relu": nn.ReLU(inplace=True), "none": nn.Identity()}, label="act")

    def between(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(x)
        return y


# the counter does not know the LSTM of CPUs: 4 gates of 16 that read 8 + 16 numbers in 5 steps
@odd(input_shape=(5, SIDE), uncounted={"lstm": 5 * 4 * 16 * (8 + 16)})
class Recurrent(nn.Module):
    """An LSTM or a GRU over five steps."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = LayerChoice(
            {
                "lstm": nn.LSTM(SIDE, 16, batch_first=True),
                "gru": nn.GRU(SIDE, 16, batch_first=True),
            },
            label="cell",
        )
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.cell(x)[0][:, -1])
        return y


@odd()
class Embedded(nn.Module):
    """Embeddings of what images are rounded to."""

    def __init__(self) -> None:
        super().__init__()
        self.levels, self.width = nn.Embedding(5, 4), widths(4 * SIDE * SIDE)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        levels = (2 * x + 2).round().clamp(0, 4).long()
        y: Tensor = self.head(self.width(self.levels(levels).flatten(1)).relu())
        return y


# nor their fused attention: 8 x 8 products of 8 numbers, twice
@odd(uncounted={"h1": 2 * 8 * 8 * 8, "h2": 2 * 8 * 8 * 8})
class Attention(nn.Module):
    """Rows of an image attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = LayerChoice({f"h{h}": Attending(h) for h in (1, 2)}, label="heads")
        self.head = nn.Linear(SIDE * SIDE, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.attention(x[:, 0]).flatten(1))
        return y


class Attending(nn.Module):
    """Self-attention of PyTorch's own."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(SIDE, 3 * SIDE)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).chunk(3, -1)
        split = [p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts]
        y: Tensor = functional.scaled_dot_product_attention(*split)
        return y.transpose(1, 2).flatten(2)


@odd()
class Checkpointed(Images):
    """Activations that are computed again in the backward pass, BatchNorm among them."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(1, 4), nn.ReLU())

    def between(self, x: Tensor) -> Tensor:
        y: Tensor = checkpoint(self.block, x, use_reentrant=False)
        return y


@odd()
class Lazy(nn.Module):
    """Layers that learn their input's size from the first pass."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = LayerChoice(
            {f"k{k}": nn.LazyConv2d(4, k, padding=k // 2) for k in (1, 3)}, label="kernel"
        )
        self.norm, self.head = nn.LazyBatchNorm2d(), nn.LazyLinear(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.kernel(x)).relu().flatten(1))
        return y


@odd()
class Resized(nn.Module):
    """Images of a resolution that the architecture chooses, smaller or larger than they come."""

    def __init__(self) -> None:
        super().__init__()
        self.size = Resolution([4, 8, 10], label="size")
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.conv(self.size(x))).relu().mean((2, 3)))
        return y
