"""The space of FBNet (Wu et al., 2019, arXiv:1812.03443, tables 1 and 2).

22 layers, each a choice between nine blocks; ``skip`` sets the depth.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from raynas.nn.blocks import Chain, operator_choice
from raynas.nn.chain_space import chain_space
from raynas.nn.chain_table import Layout, Place, Stage
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.operators import FBNET_BLOCKS

LAYOUT = Layout(
    stem=16,
    stem_stride=2,
    stages=(
        Stage(16, 1, 1),
        Stage(24, 4, 2),
        Stage(32, 4, 2),
        Stage(64, 4, 2),
        Stage(112, 4, 1),
        Stage(184, 4, 2),
        Stage(352, 1, 1),
    ),
    head=1984,  # the authors' FBNet-B and FBNet-C; their FBNet-A has 1504
    act=nn.ReLU,
)


def block(place: Place) -> nn.Module:
    """Return a layer's choice; the blocks have their skips inside, ``fbnet_skip`` needs none."""
    return operator_choice(place, FBNET_BLOCKS)


@SPACES.register("fbnet")
def fbnet(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    resolution: int = 224,
    width: float = 1.0,
    depth: float = 1.0,
    dropout: float = 0.0,
) -> ModelSpace:
    """FBNet: 22 choices between eight inverted residuals and a skip, 9^22 networks.

    Differs: blocks with a skip connection start as the identity (zero last BatchNorm weight).

    Args:
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        width: multiplier of all channels.
        depth: multiplier of the blocks per stage.
        dropout: probability before the classifier.
    """
    return chain_space(
        "fbnet",
        partial(Chain, LAYOUT, block),
        num_classes=num_classes,
        in_channels=in_channels,
        resolution=resolution,
        width=width,
        depth=depth,
        dropout=dropout,
    )
