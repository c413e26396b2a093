"""MobileNetV3 of elastic depth, width and kernels (Cai et al., 2020, arXiv:1908.09791)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from raynas.nn.blocks import Residual
from raynas.nn.elastic_block import ElasticInvertedResidual
from raynas.nn.modelspace import SPACES, ModelSpace, image_shape
from raynas.nn.operators import conv_bn, round_channels
from raynas.nn.operators.layers import Activation
from raynas.nn.repeat import Repeat
from raynas.nn.value import ValueChoice


@dataclass(frozen=True)
class ElasticStage:
    """A row of the table: blocks of equal width, the first one strided.

    Attributes:
        channels: of every block's output, at width 1.
        stride: of the first block.
        activation: of its blocks.
        squeeze_excite: whether its blocks have a squeeze-and-excitation.
    """

    channels: int
    stride: int
    activation: Activation
    squeeze_excite: bool


STEM, FINAL, FEATURES = 16, 960, 1280
STAGES = (
    ElasticStage(24, 2, "relu", False),
    ElasticStage(40, 2, "relu", True),
    ElasticStage(80, 2, "hswish", False),
    ElasticStage(112, 1, "hswish", True),
    ElasticStage(160, 2, "hswish", True),
)


def skipped(block: nn.Module, channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Return the block with a skip connection round it where the shapes allow one."""
    return Residual(block) if stride == 1 and channels_in == channels_out else block


class OFAMobileNetV3(nn.Module):
    """Stem, one fixed block, five elastic stages, head; output logits.

    Args:
        num_classes: length of the output.
        in_channels: of the images.
        width: multiplier of all channels.
        depths: blocks that a stage may have.
        kernels: that a block may have.
        expands: hidden channels per input channel that a block may have.
        dropout: probability before the classifier.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: float = 1.0,
        depths: Sequence[int] = (2, 3, 4),
        kernels: Sequence[int] = (3, 5, 7),
        expands: Sequence[float] = (3, 4, 6),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.kernels, self.expands = tuple(kernels), tuple(expands)
        channels = round_channels(STEM * width)
        stem = conv_bn(in_channels, channels, 3, 2)
        self.stem = nn.Sequential(OrderedDict(stem, act=nn.Hardswish(inplace=True)))
        fixed = ElasticInvertedResidual(channels, channels, 1, kernel=3, expand=1)
        self.first = skipped(fixed, channels, channels, 1)
        self.stages = nn.ModuleDict()
        for number, stage in enumerate(STAGES, 1):
            name, out = f"stage{number}", round_channels(stage.channels * width)
            block = partial(self._block, stage, name, channels, out)
            self.stages[name] = Repeat(
                block, ValueChoice(depths, label=f"{name}.depth"), label=name
            )
            channels = out
        final, features = round_channels(FINAL * width), round_channels(FEATURES * width)
        head = conv_bn(channels, final, 1)
        self.head = nn.Sequential(OrderedDict(head, act=nn.Hardswish(inplace=True)))
        self.features = nn.Sequential(
            OrderedDict(
                linear=nn.Linear(final, features, bias=False), act=nn.Hardswish(inplace=True)
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, num_classes)
        self._init_weights()

    def _block(
        self, stage: ElasticStage, name: str, channels_in: int, channels_out: int, index: int
    ) -> nn.Module:
        label = f"{name}.block{index + 1}"
        channels, stride = (channels_in, stage.stride) if index == 0 else (channels_out, 1)
        block = ElasticInvertedResidual(
            channels,
            channels_out,
            stride,
            kernel=ValueChoice(self.kernels, label=f"{label}.kernel"),
            expand=ValueChoice(self.expands, label=f"{label}.expand"),
            activation=stage.activation,
            squeeze_excite=stage.squeeze_excite,
        )
        return skipped(block, channels, channels_out, stride)

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes).

        Args:
            x: shape (batch, in_channels, height, width).
        """
        x = self.first(self.stem(x))
        for stage in self.stages.values():
            x = stage(x)
        pooled = self.head(x).mean((2, 3))
        logits: Tensor = self.classifier(self.dropout(self.features(pooled)))
        return logits


@SPACES.register("ofa_mobilenet_v3", aliases=("ofa_mbv3",))
def ofa_mobilenet_v3(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    resolution: int = 224,
    width: float = 1.0,
    depths: Sequence[int] = (2, 3, 4),
    kernels: Sequence[int] = (3, 5, 7),
    expands: Sequence[float] = (3, 4, 6),
    dropout: float = 0.1,
) -> ModelSpace:
    """Once-for-All's MobileNetV3: five stages of 2 to 4 blocks, each of its own kernel and width.

    Smaller sub-networks are slices of the largest one's weights. With the default options there
    are 7371**5 of them, about 2.2e19. Resolution is elastic where ``resolutions`` lists several, as
    in any space of images.

    Source: Cai et al., 2020, arXiv:1908.09791.

    Args:
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        width: multiplier of all channels; the paper's nets have 1.0 and 1.2.
        depths: blocks that a stage may have.
        kernels: odd sizes that a block's depthwise convolution may have.
        expands: hidden channels per input channel that a block may have.
        dropout: probability before the classifier.

    Raises:
        ValueError: a size is not positive, a stage may have no block, or a kernel is even.
    """
    name = "ofa_mobilenet_v3"
    shape = image_shape(name, in_channels=in_channels, resolution=resolution, width=width)
    if min(depths, default=0) < 1:
        raise ValueError(f"{name}: a stage has at least one block, got depths {tuple(depths)}")
    if even := [kernel for kernel in kernels if kernel < 1 or kernel % 2 == 0]:
        raise ValueError(f"{name}: kernels are odd and positive, got {even[0]}")
    if low := [expand for expand in expands if expand <= 0]:
        raise ValueError(f"{name}: expands are positive, got {low[0]}")
    factory = partial(
        OFAMobileNetV3,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        depths=tuple(depths),
        kernels=tuple(kernels),
        expands=tuple(expands),
        dropout=dropout,
    )
    return ModelSpace(factory, input_shape=shape, name=name)
