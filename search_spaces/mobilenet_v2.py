"""MobileNetV2 with a choice of blocks (Sandler et al., 2018, arXiv:1801.04381).

The backbone is the published one; every inverted residual but the first is a choice between
kernels and expansions, as ProxylessNAS searches them (Cai et al., 2019, arXiv:1812.00332).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from raynas.nn.choice import LayerChoice
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.operators import OPERATORS, InvertedResidual, conv_bn

CANDIDATES = ("MB3E3", "MB3E6", "MB5E3", "MB5E6", "MB7E3", "MB7E6")
HEAD_CHANNELS = 1280


@dataclass(frozen=True)
class Stage:
    """A row of the architecture's table: blocks of equal width, the first one strided."""

    expand: int
    channels: int
    blocks: int
    stride: int


STEM = Stage(0, 32, 1, 2)
STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)

Block = Callable[[int, int, int, Stage, str], nn.Module]


def round_channels(channels: float) -> int:
    """Return the nearest multiple of 8, at least 8 and at least 90 % of ``channels``.

    >>> round_channels(32 * 0.25), round_channels(24 * 0.75), round_channels(11)
    (8, 24, 16)
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class Residual(nn.Module):
    """Adds its input to a block's output; out of place, since a block may return its input."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return x + block(x)."""
        return x + self.block(x)  # type: ignore[no-any-return]


def fixed_block(
    channels_in: int, channels_out: int, stride: int, stage: Stage, _: str
) -> nn.Module:
    """Return the published block: kernel 3 and the table's expansion."""
    return InvertedResidual(channels_in, channels_out, stride, kernel=3, expand=stage.expand)


def choice_block(
    channels_in: int,
    channels_out: int,
    stride: int,
    stage: Stage,
    label: str,
    *,
    candidates: Sequence[str],
) -> nn.Module:
    """Return a choice between ``candidates``; the first stage, of expansion 1, stays fixed."""
    if stage.expand == 1:
        return fixed_block(channels_in, channels_out, stride, stage, label)
    layers = {name: OPERATORS[name](channels_in, channels_out, stride) for name in candidates}
    return LayerChoice(layers, label=label)


class MobileNetV2(nn.Module):
    """Stem, inverted residuals, head; input (batch, in_channels, height, width), output logits.

    Args:
        block: makes what stands inside each skip connection.
        cifar: stride 1 in the stem and in the sixth stage, for images of about 32 x 32.
        num_classes: length of the output.
        in_channels: of the images.
        width: multiplier of all channels, the head's included.
        depth: multiplier of the blocks per stage.
        dropout: probability before the classifier.
        zero_init_residual: start every block with a skip as the identity (zero last BatchNorm
            weight; Goyal et al., 2017, arXiv:1706.02677, section 5.1).
    """

    def __init__(
        self,
        block: Block = fixed_block,
        *,
        cifar: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: float = 1.0,
        depth: float = 1.0,
        dropout: float = 0.2,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        channels = round_channels(STEM.channels * width)
        stem = conv_bn(in_channels, channels, 3, 1 if cifar else STEM.stride)
        self.stem = nn.Sequential(OrderedDict(stem, act=nn.ReLU6(inplace=True)))
        self.blocks = nn.ModuleDict()
        for number, stage in enumerate(STAGES, 1):
            out = round_channels(stage.channels * width)
            for i in range(math.ceil(stage.blocks * depth)):
                stride = stage.stride if i == 0 and not (cifar and number == 6) else 1
                name = f"stage{number}_block{i + 1}"
                inner = block(channels, out, stride, stage, name)
                same = stride == 1 and channels == out
                self.blocks[name] = Residual(inner) if same else inner
                channels = out
        head = round_channels(HEAD_CHANNELS * width)
        self.head = nn.Sequential(
            OrderedDict(conv_bn(channels, head, 1), act=nn.ReLU6(inplace=True))
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(head, num_classes)
        self._init_weights(zero_init_residual)

    def _init_weights(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)
        if zero_init_residual:
            for skip in (m for m in self.modules() if isinstance(m, Residual)):
                for block in (m for m in skip.modules() if isinstance(m, InvertedResidual)):
                    nn.init.zeros_(block.get_parameter("project.bn.weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes)."""
        x = self.stem(x)
        for block in self.blocks.values():
            x = block(x)
        logits: Tensor = self.classifier(self.dropout(self.head(x).mean((2, 3))))
        return logits


@SPACES.register("mobilenet_v2_cifar")
def mobilenet_v2_cifar(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    resolution: int = 32,
    width: float = 1.0,
    depth: float = 1.0,
    dropout: float = 0.2,
    candidates: Sequence[str] = CANDIDATES,
) -> ModelSpace:
    """MobileNetV2 for small images: sixteen choices between MB{3,5,7}E{3,6}.

    Args:
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        width: multiplier of all channels.
        depth: multiplier of the blocks per stage.
        dropout: probability before the classifier.
        candidates: names of the operators to choose from.
    """
    for name, value in (("width", width), ("depth", depth), ("resolution", resolution)):
        if value <= 0:
            raise ValueError(f"mobilenet_v2_cifar: {name} must be positive, got {value}")
    factory = partial(
        MobileNetV2,
        partial(choice_block, candidates=tuple(candidates)),
        cifar=True,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        depth=depth,
        dropout=dropout,
        zero_init_residual=True,
    )
    shape = (in_channels, resolution, resolution)
    return ModelSpace(factory, input_shape=shape, name="mobilenet_v2_cifar")
