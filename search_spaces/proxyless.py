"""The space of ProxylessNAS (Cai, Zhu & Han, 2019, arXiv:1812.00332, section 4.2).

A chain of 22 inverted residuals, of which all but the first are chosen; the numbers are those of
the authors' code. A block that keeps its shape may also be left out, which sets the depth.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import nn

from raynas.nn.blocks import Chain, operator_choice, with_skip
from raynas.nn.chain_space import chain_space
from raynas.nn.chain_table import EVEN_STAGES, Layout, Place
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.operators import InvertedResidual

CANDIDATES = ("MB3E3", "MB3E6", "MB5E3", "MB5E6", "MB7E3", "MB7E6")
ZERO = "NIL"
LAYOUT = Layout(
    stem=32,
    stem_stride=2,
    stages=EVEN_STAGES,
    head=1280,
    bn_eps=1e-3,
)


def block(place: Place) -> nn.Module:
    """Return the fixed first block, or a choice; zeros beside a skip leave the block out."""
    if place.stage.expand == 1:
        return with_skip(InvertedResidual(*place.shape, kernel=3, expand=1), place)
    names = (*CANDIDATES, ZERO) if place.same else CANDIDATES
    return with_skip(operator_choice(place, names), place)


@SPACES.register("proxyless", aliases=("ProxylessNAS",))
def proxyless(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    resolution: int = 224,
    width: float = 1.0,
    narrow_head: bool = True,
    depth: float = 1.0,
    dropout: float = 0.0,
) -> ModelSpace:
    """ProxylessNAS: 21 choices between MB{3,5,7}E{3,6}, and NIL in the 15 blocks with a skip.

    Differs: blocks with a skip start as the identity (zero last BatchNorm weight). A width below 1
    narrows the last convolution as well; the authors keep its 1,280 channels, as
    ``narrow_head=False`` does.

    Args:
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        width: multiplier of all channels.
        narrow_head: whether a width below 1 narrows the last convolution as well.
        depth: multiplier of the blocks per stage.
        dropout: probability before the classifier.
    """
    return chain_space(
        "proxyless",
        partial(Chain, replace(LAYOUT, narrow_head=narrow_head), block),
        num_classes=num_classes,
        in_channels=in_channels,
        resolution=resolution,
        width=width,
        depth=depth,
        dropout=dropout,
    )
