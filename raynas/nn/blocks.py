"""The modules of networks that are one chain of blocks: skips, choices, and the chain itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from raynas.nn.chain_table import Layout, Place
from raynas.nn.choice import LayerChoice
from raynas.nn.operators import OPERATORS, FBNetBlock, InvertedResidual, conv_bn, round_channels

Block = Callable[[Place], nn.Module]


class Residual(nn.Module):
    """Adds its input to a block's output; out of place, since a block may return its input."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return x + block(x)."""
        return x + self.block(x)  # type: ignore[no-any-return]


class SpatialMean(nn.Module):
    """Averages over height and width."""

    def forward(self, x: Tensor) -> Tensor:
        """Return means of shape (batch, channels)."""
        return x.mean((2, 3))


def with_skip(block: nn.Module, place: Place) -> nn.Module:
    """Return the block with a skip connection round it where the shapes allow one."""
    return Residual(block) if place.same else block


def operator_choice(place: Place, names: Sequence[str]) -> LayerChoice:
    """Return a choice between registered operators that are known to fit every place.

    ``raynas.nn.operators.candidates`` tries them as well, which takes longer than making them.
    """
    return LayerChoice({name: OPERATORS[name](*place.shape) for name in names}, label=place.name)


class Chain(nn.Module):
    """Stem, blocks, head; input (batch, in_channels, height, width), output logits.

    Args:
        layout: the table.
        block: makes the block of every place.
        num_classes: length of the output.
        in_channels: of the images.
        width: multiplier of all channels; of the head's as the layout says.
        depth: multiplier of the blocks per stage.
        dropout: probability before the classifier.
        zero_init_residual: start every block with a skip as the identity (zero last BatchNorm
            weight; Goyal et al., 2017, arXiv:1706.02677, section 5.1).
    """

    def __init__(
        self,
        layout: Layout,
        block: Block,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: float = 1.0,
        depth: float = 1.0,
        dropout: float = 0.0,
        zero_init_residual: bool = True,
    ) -> None:
        super().__init__()
        channels = round_channels(layout.stem * width)
        stem = conv_bn(in_channels, channels, 3, layout.stem_stride)
        self.stem = nn.Sequential(OrderedDict(stem, act=layout.act(inplace=True)))
        self.blocks = nn.ModuleDict()
        for place in layout.places(width, depth):
            self.blocks[place.name] = block(place)
            channels = place.channels_out
        head = layout.head_channels(width)
        self.head = nn.Sequential(
            OrderedDict(conv_bn(channels, head, 1), act=layout.act(inplace=True))
        )
        self.pool = SpatialMean()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(head, num_classes)
        self._init_weights(layout.bn_eps, zero_init_residual)

    def _init_weights(self, bn_eps: float, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.eps = bn_eps
        if zero_init_residual:
            for skip in self.modules():
                if isinstance(skip, Residual) or (isinstance(skip, FBNetBlock) and skip.skips):
                    for block in (m for m in skip.modules() if isinstance(m, InvertedResidual)):
                        nn.init.zeros_(block.get_parameter("project.bn.weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes)."""
        for _, stage in self.stages():
            x = stage(x)
        return x

    def stages(self) -> tuple[tuple[str, nn.Module], ...]:
        """Return by name what ``forward`` runs in order (see ``raynas.supernet.stages``)."""
        ends = ("head", "pool", "dropout", "classifier")
        last = ((name, self.get_submodule(name)) for name in ends)
        return (("stem", self.stem), *self.blocks.items(), *last)
