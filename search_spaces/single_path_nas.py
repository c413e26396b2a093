"""The space of Single-Path NAS (Stamoulis et al., 2019, arXiv:1904.02877)."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from raynas.nn.blocks import Chain, with_skip
from raynas.nn.chain_space import chain_space
from raynas.nn.chain_table import EVEN_STAGES, Layout, Place
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.operators import InvertedResidual
from raynas.nn.super_kernel import SuperKernel

LAYOUT = Layout(stem=32, stem_stride=2, stages=EVEN_STAGES, head=1280)
KEPT_FOR_SMALL = (0, 6)  # stem and sixth stage lose their stride


def super_block(place: Place) -> nn.Module:
    """Return the block of a place: a super-kernel, but for the first stage's plain one."""
    if place.stage.expand == 1:
        return with_skip(InvertedResidual(*place.shape, kernel=3, expand=1), place)
    return SuperKernel(*place.shape, label=place.name)


def super_chain(layout: Layout, **options: Any) -> nn.Module:
    """Return the supernet; ``options`` are those of ``Chain``."""
    return Chain(layout, super_block, zero_init_residual=False, **options)


@SPACES.register("single_path_nas")
def single_path_nas(
    *,
    width: float = 1.0,
    depth: float = 1.0,
    small_images: bool = False,
    num_classes: int = 1000,
    in_channels: int = 3,
    resolution: int = 224,
    dropout: float = 0.2,
) -> ModelSpace:
    """A chain of inverted residuals, each one super-kernel that holds kernels and expansions.

    Every block but the first decides between MB{3,5}E{3,6}, and those without stride or change of
    channels may also be skipped. At full depth 6 blocks have 4 options and 15 have 5, so that there
    are 4**6 * 5**15 = 1.25e14 architectures. The algorithm ``single_path_nas`` learns
    them by thresholds; any sampler can search the space as well.

    Source: Stamoulis et al., 2019, arXiv:1904.02877, section 3, with the MobileNet-like backbone
    of ProxylessNAS (arXiv:1812.00332).

    Args:
        width: multiplier of all channels.
        depth: multiplier of the blocks per stage.
        small_images: whether stem and sixth stage keep the resolution, for images of about 32 x 32.
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        dropout: probability before the classifier.

    Raises:
        ValueError: a number out of its range.
    """
    layout = LAYOUT.with_stride_1(*KEPT_FOR_SMALL) if small_images else LAYOUT
    return chain_space(
        "single_path_nas",
        partial(super_chain, layout),
        num_classes=num_classes,
        in_channels=in_channels,
        resolution=resolution,
        width=width,
        depth=depth,
        dropout=dropout,
    )
