"""Networks of memory banks, after SMASH (Brock et al., 2017, arXiv:1708.05344)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from raynas.nn.choice import LayerChoice
from raynas.nn.elastic_conv import Conv2d
from raynas.nn.generated_conv import GeneratedConv2d
from raynas.nn.hypernetwork import Hypernetwork
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.value import ValueChoice

Banks = list[Tensor]


@dataclass(frozen=True)
class Memory:
    """What all blocks of a network have in common.

    Attributes:
        banks: of a block.
        channels: of a bank.
        ops: of a block, one after the other.
        kernels: to choose from.
        dilations: to choose from.
        groups: to choose from.
    """

    banks: int
    channels: int
    ops: int
    kernels: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: tuple[int, ...]

    @property
    def width(self) -> int:
        """Channels of all banks together."""
        return self.banks * self.channels


class AddTo(nn.Module):
    """Adds what was computed to one bank."""

    def __init__(self, bank: int) -> None:
        super().__init__()
        self.bank = bank

    def extra_repr(self) -> str:
        """Return which bank."""
        return str(self.bank)

    def forward(self, banks: Banks, y: Tensor) -> Banks:
        """Return the banks, all but one as they were."""
        return [bank + y if at == self.bank else bank for at, bank in enumerate(banks)]


class Op(nn.Module):
    """Reads banks, convolves and adds the result to one of them.

    Args:
        memory: what the block is like.
        name: that the decisions begin with.
    """

    def __init__(self, memory: Memory, name: str) -> None:
        super().__init__()
        channels = memory.channels
        values = {"kernel": memory.kernels, "dilation": memory.dilations, "groups": memory.groups}
        kernel, dilation, groups = (
            ValueChoice(options, label=f"{name}/{value}") for value, options in values.items()
        )
        writers = {bank: AddTo(bank) for bank in range(memory.banks)}
        self.write = LayerChoice(writers, label=f"{name}/write")
        conditions = [
            *self.write.choices(),
            *(value.decision() for value in (kernel, dilation, groups)),
        ]
        self.read = GeneratedConv2d(
            memory.banks, channels, channels, f"{name}/read", conditions=conditions
        )
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv = Conv2d(
            channels,
            channels,
            kernel,
            padding=(kernel // 2) * dilation,
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, banks: Banks) -> Banks:
        """Return the banks after the op."""
        y = self.conv(torch.relu(self.norm1(self.read(banks))))
        written: Banks = self.write(banks, torch.relu(self.norm2(y)))
        return written


class Block(nn.Module):
    """Fills the banks with its input, runs its ops and returns all banks.

    Args:
        memory: what the block is like.
        number: from 1.
    """

    def __init__(self, memory: Memory, number: int) -> None:
        super().__init__()
        self.banks = memory.banks
        self.ops = nn.ModuleList(Op(memory, f"block{number}/op{i + 1}") for i in range(memory.ops))

    def forward(self, x: Tensor) -> Tensor:
        """Return all banks, shape (batch, banks * channels, height, width)."""
        banks = list(x.chunk(self.banks, 1))
        for op in self.ops:
            banks = op(banks)
        return torch.cat(banks, 1)


class MemoryNet(nn.Module):
    """Stem, blocks of memory banks with a halving of the size between them, classifier.

    Args:
        memory: what the blocks are like.
        blocks: how many.
        in_channels: of the images.
        num_classes: length of the output.
    """

    def __init__(self, memory: Memory, blocks: int, in_channels: int, num_classes: int) -> None:
        super().__init__()
        width = memory.width
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        layers: list[nn.Module] = [Block(memory, 1)]
        for number in range(2, blocks + 1):
            layers += [_transition(width), Block(memory, number)]
        self.blocks = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes)."""
        x = torch.relu(self.norm(self.blocks(self.stem(x))))
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


def _transition(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AvgPool2d(2),
    )


def _factory(
    memory: Memory, blocks: int, in_channels: int, num_classes: int, generator: dict[str, object]
) -> nn.Module:
    net = MemoryNet(memory, blocks, in_channels, num_classes)
    return Hypernetwork(net, **generator)  # type: ignore[arg-type]


@SPACES.register("smash", aliases=("SMASH",))
def smash(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    resolution: int = 32,
    blocks: int = 2,
    ops: int = 3,
    banks: int = 3,
    channels: int = 16,
    kernels: Sequence[int] = (3, 5),
    dilations: Sequence[int] = (1, 2),
    groups: Sequence[int] = (1, 2),
    hyper_growth: int = 10,
    hyper_layers: Sequence[int] = (4, 4),
    hyper_tile: int = 4,
) -> ModelSpace:
    """Memory banks: per op what is read and written, kernel, dilation and groups.

    The weights of what reads, a 1x1 convolution, come from a hypernetwork that sees the whole
    architecture; ``smash`` trains it. Differs from the paper: all banks have one width, which is
    not searched, and hold the block's input at first, so that none is empty; an op writes to one
    bank and has one convolution besides. The sizes are ours, for a CPU; the paper's hypernetwork
    has dense blocks of 8, 10 and 4 layers.

    Args:
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        blocks: of memory banks, behind each but the last of which the size is halved.
        ops: of a block.
        banks: of a block.
        channels: of a bank.
        kernels: to choose from, odd.
        dilations: to choose from.
        groups: to choose from; they divide the channels.
        hyper_growth: channels that a layer of the hypernetwork adds.
        hyper_layers: of the dense blocks of the hypernetwork.
        hyper_tile: a place of the encoding stands for so many inputs and outputs; it divides the
            channels.

    Raises:
        ValueError: a size that is not positive, or more halvings than the resolution has.
        InvalidSpace: groups or a tile that do not divide the channels.
    """
    sizes = {"blocks": blocks, "ops": ops, "banks": banks, "channels": channels}
    sizes |= {"num_classes": num_classes, "in_channels": in_channels, "resolution": resolution}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"smash: {name} must be positive, got {value}")
    if resolution < 2 ** (blocks - 1):
        raise ValueError(f"smash: {resolution} pixels cannot be halved {blocks - 1} times")
    memory = Memory(banks, channels, ops, tuple(kernels), tuple(dilations), tuple(groups))
    generator = {"growth": hyper_growth, "layers": tuple(hyper_layers), "tile": hyper_tile}
    return ModelSpace(
        partial(_factory, memory, blocks, in_channels, num_classes, generator),
        input_shape=(in_channels, resolution, resolution),
        name="smash",
    )
