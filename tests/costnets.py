"""Networks with choices of every kind, small enough to enumerate, whose costs are tested."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from raynas.nn import (
    BatchNorm2d,
    Cell,
    Conv2d,
    InputChoice,
    LayerChoice,
    LayerNorm,
    Linear,
    MultiheadAttention,
    Repeat,
    ValueChoice,
)
from raynas.nn.slot import Slot

IMAGE = (1, 1, 6, 6)


def state(model: nn.Module) -> list[Any]:
    """Everything of a model that counting could change."""
    return [
        [(m.training, getattr(m, "route", None)) for m in model.modules()],
        [tensor.tolist() for tensor in model.state_dict().values()],
        [p.grad is None and p.requires_grad for p in model.parameters()],
        torch.get_rng_state().tolist(),
        torch.backends.mha.get_fastpath_enabled(),
    ]


def conv(channels_in: int, channels_out: int, kernel: int, act: bool = True) -> nn.Module:
    layer = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
    norm = nn.BatchNorm2d(channels_out)
    return nn.Sequential(layer, norm, nn.ReLU(inplace=True)) if act else layer


class Toy(nn.Module):
    """Nested and shared choices, weights tied across them, one choice called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 4, 3)
        wide = nn.Sequential(conv(4, 16, 1), LayerChoice([conv(16, 4, k) for k in (1, 3)]))
        self.first = LayerChoice({"narrow": conv(4, 4, 5), "wide": wide})
        self.second = LayerChoice([conv(4, 4, 1, act=False), conv(4, 4, 3)], label="shared")
        self.third = LayerChoice([conv(4, 4, 3), conv(4, 4, 1)], label="shared")
        tied = conv(4, 4, 3, act=False)
        self.fourth = LayerChoice({"a": tied, "b": conv(4, 4, 1)})
        self.fifth = LayerChoice({"a": conv(4, 4, 7), "b": nn.Sequential(tied, nn.ReLU())})
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x))
        y = x + self.second(self.third(self.second(x)))
        out: Tensor = self.dropout(self.fifth(self.fourth(y) + x))
        return out


def elastic_block(width: int, name: str) -> nn.Module:
    """A residual of elastic hidden width and kernel."""
    hidden = width * ValueChoice([1, 2, 3], label=f"{name}.expand")
    kernel = ValueChoice([1, 3], label=f"{name}.kernel")
    return Residual(
        nn.Sequential(
            Conv2d(width, hidden, 1),
            BatchNorm2d(hidden),
            Conv2d(
                hidden, hidden, kernel, padding=kernel // 2, groups=hidden, kernel_transform=True
            ),
            Conv2d(hidden, width, 1, bias=False),
        )
    )


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Joining(nn.Module):
    """Three branches and a choice among them."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv(1, 4, k) for k in (1, 3, 5))
        self.inputs = InputChoice(3, label="inputs", **options)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.pool(self.inputs([branch(x) for branch in self.branches])))
        return out


class Transformer(nn.Module):
    """Layers of one elastic width, each of its own heads and hidden width, elastic in number."""

    def __init__(self) -> None:
        super().__init__()
        width = ValueChoice([8, 16], label="width")
        self.embed = Linear(5, width)
        self.layers = Repeat(lambda i: TransformerLayer(width, f"layer{i}"), (1, 3), label="depth")
        self.head = Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layers(self.embed(x)).mean(1))
        return out


class TransformerLayer(nn.Module):
    """Attention and two linear layers."""

    def __init__(self, width: ValueChoice, name: str) -> None:
        super().__init__()
        hidden = width * ValueChoice([1, 2], label=f"{name}.ratio")
        heads = ValueChoice([1, 2], label=f"{name}.heads")
        self.attention = MultiheadAttention(width, heads, batch_first=True)
        self.norm = LayerNorm(width)
        self.up, self.down = Linear(width, hidden), Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x, x, x)[0]
        out: Tensor = x + self.down(self.up(self.norm(x)).relu())
        return out


class Zeros(nn.Module):
    """The candidate that no architecture picks."""

    is_none = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def cells(**options: Any) -> nn.Module:
    """Two cells of one label, with a candidate that gives zeros first and choices inside one."""

    def layers(*_: int) -> dict[str, nn.Module]:
        inner = LayerChoice([conv(4, 4, 1), conv(4, 4, 5)], label="inner")
        return {"none": Zeros(), "conv": conv(4, 4, 3), "skip": nn.Identity(), "either": inner}

    def cell() -> nn.Module:
        return Cell(layers, 2, num_ops_per_node=2, num_predecessors=2, label="cell", **options)

    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.mid = conv(1, 4, 3), cell(), conv(8, 4, 1)
            self.two = cell()

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            y = self.mid(self.one(x, x))
            out: Tensor = self.two(x, y)
            return out

    return Cells()


def widths() -> nn.Module:
    """Two layers whose width between is elastic, beside a choice: one region within a chain."""
    width = ValueChoice([2, 4, 6], label="width")
    pair = nn.Sequential(
        Conv2d(4, width, 3, padding=1), LayerChoice([nn.ReLU(), nn.Tanh()], label="act")
    )
    return nn.Sequential(
        conv(1, 4, 3),
        nn.Sequential(pair, Conv2d(width, 4, 1)),
        LayerChoice({"one": conv(4, 4, 1), "three": conv(4, 4, 3)}, label="op"),
    )


def stages(count: int) -> nn.Module:
    """A chain of ``count`` elastic widths, each of which two layers see."""
    steps: list[int | ValueChoice] = [
        1,
        *(ValueChoice([2, 4, 5], label=f"w{i}") for i in range(count)),
        3,
    ]
    return nn.Sequential(*(Conv2d(a, b, 1) for a, b in pairwise(steps)))


def slots() -> nn.Module:
    """A slot that holds a choice, and one that holds a plain layer."""
    chosen, plain = Slot(4, name="slot"), Slot(4)
    chosen.fill(LayerChoice([conv(4, 4, 1), conv(4, 4, 3)], label="filled"))
    plain.fill(conv(4, 4, 3))
    return nn.Sequential(conv(1, 4, 1), chosen, plain)


def strided_row() -> nn.Module:
    """Blocks of which the first halves the size, with a fixed row behind."""
    row = [nn.Conv2d(4, 4, 3, 2, 1), conv(4, 4, 3), LayerChoice([conv(4, 4, 1), conv(4, 4, 3)])]
    fixed = Repeat(conv(4, 4, 1), 2)
    return nn.Sequential(conv(1, 4, 1), Repeat(row, (1, 3), label="depth"), fixed)


def shared_depth() -> nn.Module:
    """A value that is a depth here, and a width there."""
    count = ValueChoice([1, 2, 3], label="count")
    row = Repeat([conv(4, 4, 3) for _ in range(3)], count)
    return nn.Sequential(
        conv(1, 4, 1),
        row,
        Residual(nn.Sequential(Conv2d(4, count * 2, 1), Conv2d(count * 2, 4, 1))),
    )


def elastic_kernel(name: str) -> nn.Module:
    """A convolution of elastic kernel, whose output does not show it."""
    kernel = ValueChoice([1, 3, 5], label=name)
    return Conv2d(1, 1, kernel, padding=kernel // 2)


class Unused(nn.Module):
    """Keeps a choice without running it."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(1, 2, 1)
        self.unused = LayerChoice([nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 3)], label="unused")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.used(x)
        return out


def small_cell(**options: Any) -> nn.Module:
    """One cell of one node."""

    def layers(*_: int) -> dict[str, nn.Module]:
        return {"conv": conv(1, 1, 3), "none": Zeros(), "wide": conv(1, 1, 5)}

    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = Cell(
                layers, 2, num_ops_per_node=2, num_predecessors=2, label="c", **options
            )

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.cell(x, x)
            return out

    return Single()


def inside_itself() -> nn.Module:
    """A label that is reached inside a choice of its own, and outside of it."""

    def choice() -> nn.Module:
        return LayerChoice([conv(4, 4, 1), Residual(conv(4, 4, 5))], label="same")

    outer = LayerChoice([conv(4, 4, 3), nn.Sequential(choice(), choice())], label="outer")
    return nn.Sequential(conv(1, 4, 1), outer, LayerChoice([choice(), conv(4, 4, 7)], "last"))
