"""The space of NAS-Bench-Macro (Su et al., 2021, arXiv:2103.11922, section 5.1).

Eight layers in three stages, each a choice between doing nothing and two inverted residuals:
3^8 = 6,561 networks, all of which the authors trained on CIFAR-10. Parameters and
multiply-accumulates of all of them equal the published table's.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby

from torch import nn

from raynas.nn.blocks import Chain, with_skip
from raynas.nn.chain_space import chain_space, idle_last
from raynas.nn.chain_table import Layout, Place, Stage
from raynas.nn.choice import LayerChoice
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.operators import InvertedResidual, conv_bn

IDENTITY = "identity"
LAYOUT = Layout(
    stem=32,
    stem_stride=1,
    stages=(Stage(64, 2, 2), Stage(128, 3, 2), Stage(256, 3, 2)),
    head=1280,
    act=nn.ReLU,
)


def label(place: Place) -> str:
    """Return the name of a layer's decision: layer1 to layer8."""
    return f"layer{place.index}"


def identity(place: Place) -> nn.Module:
    """Return what does nothing, or where the shape changes as little as can be."""
    if place.same:
        return nn.Identity()
    return nn.Sequential(conv_bn(place.channels_in, place.channels_out, 1, place.stride))


def mobile(place: Place, kernel: int, expand: int) -> nn.Module:
    """Return an inverted residual with its skip."""
    layer = InvertedResidual(*place.shape, kernel=kernel, expand=expand, activation="relu")
    return with_skip(layer, place)


def block(place: Place) -> nn.Module:
    """Return a layer's choice, in the order of the published digits 0, 1 and 2."""
    layers = {
        IDENTITY: identity(place),
        "MB3E3": mobile(place, 3, 3),
        "MB5E6": mobile(place, 5, 6),
    }
    return LayerChoice(layers, label=label(place))


def interchangeable(depth: float = 1.0) -> list[list[str]]:
    """Return the labels of each stage's layers but the first, whose identity is a convolution."""
    stages = groupby(LAYOUT.places(depth=depth), key=lambda place: place.stage)
    return [[label(place) for place in places][1:] for _, places in stages]


@SPACES.register("nas_bench_macro", aliases=("NAS-Bench-Macro",))
def nas_bench_macro(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    resolution: int = 32,
    width: float = 1.0,
    depth: float = 1.0,
) -> ModelSpace:
    """NAS-Bench-Macro: 8 choices between identity, MB3E3 and MB5E6; 3,969 different networks.

    An identity may stand anywhere behind the first layer of its stage: ``canonical`` moves it last.
    Differs: blocks with a skip start as the identity (zero last BatchNorm weight).

    Args:
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        width: multiplier of all channels.
        depth: multiplier of the layers per stage.
    """
    return chain_space(
        "nas_bench_macro",
        partial(Chain, LAYOUT, block),
        num_classes=num_classes,
        in_channels=in_channels,
        resolution=resolution,
        width=width,
        depth=depth,
        canonical=partial(idle_last, groups=interchangeable(depth), idle=IDENTITY),
    )
