"""The space of single path one-shot search (Guo et al., 2020, arXiv:1904.00420, tables 1 and 2).

Twenty ShuffleNetV2 blocks (Ma et al., 2018, arXiv:1807.11164), each a choice between three kernels
and an Xception-like branch.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from raynas.nn.blocks import Chain, operator_choice
from raynas.nn.chain_space import chain_space
from raynas.nn.chain_table import Layout, Place, Stage
from raynas.nn.modelspace import SPACES, ModelSpace

CANDIDATES = ("SHU3", "SHU5", "SHU7", "SHX3")
LAYOUT = Layout(
    stem=16,
    stem_stride=2,
    stages=(Stage(64, 4, 2), Stage(160, 4, 2), Stage(320, 8, 2), Stage(640, 4, 2)),
    head=1024,
    act=nn.ReLU,
)
CIFAR_LAYOUT = Layout(
    stem=24,
    stem_stride=1,
    stages=(Stage(64, 4, 2), Stage(160, 4, 2), Stage(320, 8, 2), Stage(640, 4, 1)),
    head=1024,
    act=nn.ReLU,
)


def block(place: Place) -> nn.Module:
    """Return a layer's choice; the blocks pass half of their input on by themselves."""
    return operator_choice(place, CANDIDATES)


@SPACES.register("shufflenet_spos")
def shufflenet_spos(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    resolution: int = 224,
    width: float = 1.0,
    depth: float = 1.0,
    dropout: float = 0.1,
    cifar: bool = False,
) -> ModelSpace:
    """Single path one-shot: 20 choices between SHU3, SHU5, SHU7 and SHX3, 4^20 networks.

    Differs: the classifier has a bias.

    Args:
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        width: multiplier of all channels.
        depth: multiplier of the blocks per stage.
        dropout: probability before the classifier.
        cifar: the table of ModularNAS for images of about 32 x 32: a stem of 24 channels, and no
            stride in stem and last stage.
    """
    return chain_space(
        "shufflenet_spos",
        partial(Chain, CIFAR_LAYOUT if cifar else LAYOUT, block),
        num_classes=num_classes,
        in_channels=in_channels,
        resolution=resolution,
        width=width,
        depth=depth,
        dropout=dropout,
    )
