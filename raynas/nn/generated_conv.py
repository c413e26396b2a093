"""A 1x1 convolution over some of several inputs, whose weights a hypernetwork emits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.arch import Atom, Value
from raynas.core.checks import whole
from raynas.core.decision import Choice, Decision
from raynas.core.errors import InvalidSpace
from raynas.nn.mutable import Memo, Mutable

TINY = 1e-12


class GeneratedConv2d(Mutable):
    """Reads some of several inputs, one at least, and convolves them; it has no weights.

    A ``raynas.nn.hypernetwork.Hypernetwork`` around it emits them, a filter's being scaled to
    length 1. What is read is one decision.

    Args:
        sources: how many inputs there are.
        channels: of each input.
        out_channels: of the output.
        label: name of the decision.
        conditions: other decisions on which the weights are to depend, such as the kernel of the
            convolution behind; of every layer of a model, equally many with as many options each.

    Raises:
        InvalidSpace: a number that is not positive, no label, or a condition that picks several.
    """

    def __init__(
        self,
        sources: int,
        channels: int,
        out_channels: int,
        label: str,
        conditions: Sequence[Decision] = (),
    ) -> None:
        super().__init__()
        where = f"GeneratedConv2d {label!r}"
        sizes = {"sources": sources, "channels": channels, "out_channels": out_channels}
        for name, size in sizes.items():
            whole(where, name, size, 1)
        if not isinstance(label, str) or not label:
            raise InvalidSpace(f"GeneratedConv2d: a label is a non-empty string, got {label!r}")
        for condition in conditions:
            if not isinstance(condition, Choice):
                kind = type(condition).__name__
                raise InvalidSpace(f"{where}: a condition is a Choice, got a {kind}")
        self.label, self.sources, self.channels = label, sources, channels
        self.out_channels, self.conditions = out_channels, tuple(conditions)
        self.weight: Tensor | None = None  # only while a hypernetwork runs what holds it
        self.options: tuple[Atom, ...] = tuple(
            picked
            for count in range(1, sources + 1)
            for picked in combinations(range(sources), count)
        )

    def extra_repr(self) -> str:
        """Return the label and the sizes."""
        sizes = f"{self.sources} inputs of {self.channels} channels, {self.out_channels} outputs"
        return f"label={self.label!r}, {sizes}"

    def choices(self) -> tuple[Decision, ...]:
        """Return the one decision, between all sets of inputs."""
        return (Choice(str(self.label), self.options),)

    def reads(self, arch: Mapping[str, Value]) -> tuple[int, ...] | None:
        """Return the positions of the inputs that are read; None where the layer does not run."""
        return cast("tuple[int, ...] | None", arch.get(str(self.label)))

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let ``forward`` read the picked inputs."""
        self.route = self.reads(arch)

    def cut(self, matrix: Tensor, reads: Sequence[int]) -> Tensor:
        """Return the weights of the inputs that are read, each filter of length 1.

        Args:
            matrix: emitted, shape (out_channels, sources * channels).
            reads: positions of the inputs.
        """
        columns = [matrix[:, at * self.channels : (at + 1) * self.channels] for at in reads]
        weight = torch.cat(columns, 1)
        lengths: Tensor = weight.norm(dim=1, keepdim=True)
        return (weight / lengths.clamp_min(TINY))[:, :, None, None]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the convolution of the picked inputs, shape (batch, out_channels, ...)."""
        if self.route is None:
            raise RuntimeError(
                f"choice {self.label!r} reads nothing yet: call raynas.nn.activate(model, arch), "
                "or raynas.nn.freeze(model, arch) for a plain module"
            )
        if self.weight is None:
            raise RuntimeError(
                f"GeneratedConv2d {self.label!r} has no weights of its own: put the model that "
                "holds it into a raynas.nn.hypernetwork.Hypernetwork"
            )
        return functional.conv2d(_joined(inputs, self.route), self.weight)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return a plain layer with the weights that a hypernetwork has emitted for it."""
        reads = self.reads(arch)
        if reads is None or self.weight is None:
            raise InvalidSpace(
                f"GeneratedConv2d {self.label!r} has no weights of its own: freeze the "
                "raynas.nn.hypernetwork.Hypernetwork that holds it"
            )
        return ReadConv2d(reads, self.weight.detach().clone()).train(self.training)


class ReadConv2d(nn.Conv2d):
    """What a ``GeneratedConv2d`` becomes once it is decided: weights of its own.

    Args:
        reads: positions of the inputs that are read.
        weight: shape (out_channels, in_channels, 1, 1).
    """

    def __init__(self, reads: Sequence[int], weight: Tensor) -> None:
        super().__init__(weight.shape[1], weight.shape[0], 1, bias=False, device="meta")
        self.reads, self.weight = tuple(reads), nn.Parameter(weight)

    def extra_repr(self) -> str:
        """Return the sizes, and what is read."""
        return f"{self.in_channels}, {self.out_channels}, reads={self.reads}"

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """Return the convolution of the inputs that are read."""
        return super().forward(_joined(inputs, self.reads))


def _joined(inputs: Sequence[Tensor], reads: Sequence[int]) -> Tensor:
    picked = [inputs[at] for at in reads]
    return picked[0] if len(picked) == 1 else torch.cat(picked, 1)
