"""A model some of whose weights a second network emits, from the architecture's encoding.

Brock, Lim, Ritchie and Weston, 2017, arXiv:1708.05344 (SMASH).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.arch import Value
from raynas.core.checks import whole
from raynas.core.decision import Decision
from raynas.core.errors import InvalidSpace
from raynas.nn.generated_conv import GeneratedConv2d
from raynas.nn.logits import Logits
from raynas.nn.mutable import Memo, Mutable, activate_unchecked, frozen, inner_space
from raynas.nn.weight_generator import WeightGenerator


class Hypernetwork(Mutable):
    """Runs a model whose ``GeneratedConv2d`` layers get their weights from the architecture.

    The encoding is a tensor of (channels, rows, columns) whose places stand for weights: rows for
    the outputs of all layers, one layer under the other, columns for the inputs, each for ``tile``
    of them. A channel per source is 1 where a layer reads the source, at the columns of the
    source's own channels; and for every condition, a channel per option is 1 in all places of the
    layers under it. The generator returns tile * tile numbers per place, which laid side by side
    are the layers' weights.

    Differs: the paper's encoding has, besides what is read, what is written and the dilation; here
    any decisions may be conditions.

    Args:
        body: the model; it may hold any mutables besides.
        growth: channels that a layer of the generator adds (the paper's 10).
        layers: of the generator's dense blocks (the paper's 8, 10 and 4).
        tile: inputs, and outputs, that a place of the encoding stands for.

    Raises:
        InvalidSpace: the model has no ``GeneratedConv2d``, one in another hypernetwork, or such of
            different inputs or conditions; or channels do not divide by ``tile``.
    """

    holders = ("body",)

    def __init__(
        self,
        body: nn.Module,
        *,
        growth: int = 10,
        layers: Sequence[int] = (8, 10, 4),
        tile: int = 4,
    ) -> None:
        super().__init__()
        for name, size in {"growth": growth, "tile": tile}.items():
            whole("Hypernetwork", name, size, 1)
        if not layers or any(type(count) is not int or count < 1 for count in layers):
            raise InvalidSpace(f"Hypernetwork: layers are positive numbers, got {layers!r}")
        self.body, self.tile = body, tile
        self._check_layers()
        first = self._convs()[0]
        self.sizes = [len(condition.options) for condition in first.conditions]
        self.generator = WeightGenerator(
            first.sources + sum(self.sizes), tile * tile, growth=growth, layers=layers
        )

    def _convs(self) -> list[GeneratedConv2d]:
        return [m for m in self.body.modules() if isinstance(m, GeneratedConv2d)]

    def _check_layers(self) -> None:
        convs = self._convs()
        if not convs:
            raise InvalidSpace("Hypernetwork: the model has no GeneratedConv2d to emit weights for")
        if any(isinstance(module, Hypernetwork) for module in self.body.modules()):
            raise InvalidSpace("Hypernetwork: the model holds another hypernetwork")
        first = _form(convs[0])
        for conv in convs:
            if _form(conv) != first:
                raise InvalidSpace(
                    f"Hypernetwork: its layers must have equally many inputs, of as many channels, "
                    f"and conditions of as many options: {convs[0].label!r} has {_shown(convs[0])},"
                    f" and {conv.label!r} {_shown(conv)}"
                )
            if conv.channels % self.tile or conv.out_channels % self.tile:
                raise InvalidSpace(
                    f"Hypernetwork: {conv.channels} input and {conv.out_channels} output channels "
                    f"of {conv.label!r} must divide by the tile of {self.tile}"
                )

    def extra_repr(self) -> str:
        """Return how many layers get their weights from here."""
        return f"weights of {len(self._convs())} layers"

    def choices(self) -> tuple[Decision, ...]:
        """Return the decisions of the model."""
        return inner_space(self.body).choices

    def logits(self) -> tuple[Logits, ...]:
        """Raise InvalidSpace: an encoding is that of one architecture."""
        raise InvalidSpace(
            "a Hypernetwork cannot be relaxed: it emits the weights of one architecture at a time; "
            "train it with smash"
        )

    def encoding(self, arch: Mapping[str, Value]) -> Tensor:
        """Return the architecture's encoding, shape (channels, rows, columns), of zeros and ones.

        Args:
            arch: an architecture known to be in the space.
        """
        convs = self._convs()
        places = [conv.out_channels // self.tile for conv in convs]
        width = convs[0].channels // self.tile
        shape = (convs[0].sources + sum(self.sizes), sum(places), convs[0].sources * width)
        encoded, row = torch.zeros(shape), 0
        for conv, height in zip(convs, places, strict=True):
            rows = slice(row, row + height)
            for source in conv.reads(arch) or ():
                encoded[source, rows, source * width : (source + 1) * width] = 1.0
            channel = conv.sources
            for condition in conv.conditions:
                if condition.label in arch:
                    encoded[channel + condition.index(arch[condition.label]), rows] = 1.0
                channel += len(condition.options)
            row += height
        return encoded

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let ``forward`` run the architecture with the weights that its encoding gives."""
        activate_unchecked(self.body, arch)
        self.route = self.encoding(arch), tuple(conv.reads(arch) for conv in self._convs())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Emit the weights, and run the model."""
        if self.route is None:
            raise RuntimeError(
                "the Hypernetwork has no architecture to emit weights for: call "
                "raynas.nn.activate(model, arch), or raynas.nn.freeze(model, arch)"
            )
        with self._weights(*self.route):
            return self.body(*args, **kwargs)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return the plain model, with the emitted weights as its own."""
        reads = tuple(conv.reads(arch) for conv in self._convs())
        with torch.no_grad(), self._weights(self.encoding(arch), reads):
            return frozen(self.body, arch, memo)

    @contextmanager
    def _weights(self, encoding: Tensor, reads: Sequence[tuple[int, ...] | None]) -> Iterator[None]:
        """Give every layer its weights for as long as this lasts."""
        convs, row = self._convs(), 0
        like = next(self.generator.parameters())
        emitted = self.generator(encoding.to(like)[None])
        matrix = functional.pixel_shuffle(emitted, self.tile)[0, 0]
        try:
            for conv, picked in zip(convs, reads, strict=True):
                if picked is not None:
                    conv.weight = conv.cut(matrix[row : row + conv.out_channels], picked)
                row += conv.out_channels
            yield
        finally:
            for conv in convs:
                conv.weight = None


def _form(conv: GeneratedConv2d) -> tuple[int, int, list[int]]:
    return conv.sources, conv.channels, [len(c.options) for c in conv.conditions]


def _shown(conv: GeneratedConv2d) -> str:
    sources, channels, options = _form(conv)
    return f"{sources} inputs of {channels} channels and conditions of {options} options"
