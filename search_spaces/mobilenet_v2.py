"""MobileNetV2 with a choice of blocks (Sandler et al., 2018, arXiv:1801.04381).

The backbone is the published one, or a deeper and wider one for GPUs; every inverted residual but
the first is a choice between kernels and expansions, as ProxylessNAS searches them (Cai et al.,
2019, arXiv:1812.00332).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from raynas.nn.blocks import Block, Chain, operator_choice, with_skip
from raynas.nn.blocks import Residual as Residual
from raynas.nn.chain_space import chain_space
from raynas.nn.chain_table import EVEN_STAGES, Layout, Place, Stage
from raynas.nn.choice import LayerChoice
from raynas.nn.construct.filling import PREDEFINED
from raynas.nn.construct.places import FIXED_PLACE
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.operators import InvertedResidual
from raynas.nn.operators import candidates as candidates_for
from raynas.nn.operators import round_channels as round_channels
from raynas.nn.slot import Slot

CANDIDATES = ("MB3E3", "MB3E6", "MB5E3", "MB5E6", "MB7E3", "MB7E6")
STAGES = (
    Stage(16, 1, 1, expand=1),
    Stage(24, 2, 2),
    Stage(32, 3, 2),
    Stage(64, 4, 2),
    Stage(96, 3, 1),
    Stage(160, 3, 2),
    Stage(320, 1, 1),
)
LAYOUT = Layout(stem=32, stem_stride=2, stages=STAGES, head=1280)
GPU_LAYOUT = Layout(stem=32, stem_stride=2, stages=EVEN_STAGES, head=1280)
KEPT_FOR_CIFAR = (0, 6)  # stem and sixth stage lose their stride


def fixed_block(place: Place) -> nn.Module:
    """Return the published block: kernel 3 and the table's expansion."""
    return with_skip(InvertedResidual(*place.shape, kernel=3, expand=place.stage.expand), place)


def choice_block(
    place: Place, *, candidates: Sequence[str] = CANDIDATES, zero: bool = False
) -> nn.Module:
    """Return a choice between ``candidates``; the first stage, of expansion 1, stays fixed.

    Args:
        place: where the block stands.
        candidates: names of operators.
        zero: whether a block with a skip may also be left out, by the operator NIL.
    """
    if place.stage.expand == 1:
        block = fixed_block(place)
        vars(block)[FIXED_PLACE] = True
        return block
    names = (*candidates, "NIL") if zero and place.same else candidates
    if {*candidates} <= {*CANDIDATES}:
        return with_skip(operator_choice(place, names), place)
    layers = candidates_for(names, *place.shape, where=place.name)
    return with_skip(LayerChoice(layers, label=place.name), place)


def slot_block(place: Place) -> nn.Module:
    """Return an empty slot that knows the published block, for constructors that ask."""
    expand = place.stage.expand
    facts: dict[str, Any] = {"expand": expand, PREDEFINED: f"MB3E{expand}"}
    return with_skip(Slot(*place.shape, name=place.name, **facts), place)


class MobileNetV2(Chain):
    """Stem, inverted residuals, head; input (batch, in_channels, height, width), output logits.

    Args:
        block: makes the block of every place, skip connection included.
        layout: the table; ``GPU_LAYOUT`` is the one with 22 blocks that ModularNAS searches (Lin et
            al., MLSys 2021).
        cifar: stride 1 in the stem and in the sixth stage, for images of about 32 x 32.
        num_classes: length of the output.
        in_channels: of the images.
        width: multiplier of all channels.
        narrow_head: whether a width below 1 narrows the last convolution as well.
        depth: multiplier of the blocks per stage.
        dropout: probability before the classifier.
        zero_init_residual: start every block with a skip as the identity.
    """

    def __init__(
        self,
        block: Block = fixed_block,
        *,
        layout: Layout = LAYOUT,
        cifar: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: float = 1.0,
        narrow_head: bool = True,
        depth: float = 1.0,
        dropout: float = 0.2,
        zero_init_residual: bool = False,
    ) -> None:
        strided = layout.with_stride_1(*KEPT_FOR_CIFAR) if cifar else layout
        super().__init__(
            replace(strided, narrow_head=narrow_head),
            block,
            num_classes=num_classes,
            in_channels=in_channels,
            width=width,
            depth=depth,
            dropout=dropout,
            zero_init_residual=zero_init_residual,
        )


def mobilenet_v2(
    name: str,
    net: Callable[..., MobileNetV2],
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    resolution: int = 224,
    width: float = 1.0,
    narrow_head: bool = True,
    depth: float = 1.0,
    dropout: float = 0.2,
    candidates: Sequence[str] = CANDIDATES,
    zero: bool = False,
    slots: bool = False,
) -> ModelSpace:
    """MobileNetV2 with a choice between MB{3,5,7}E{3,6} in every block but the first.

    The published table has 16 such blocks, the one for GPUs 21. For CIFAR, the stem and the sixth
    stage keep the resolution.

    Differs: a width below 1 narrows the last convolution as well, as in ModularNAS; the paper
    (section 5) and torchvision keep its 1,280 channels, as ``narrow_head=False`` does.

    Args:
        name: of the space.
        net: makes the network from a block and these options.
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        width: multiplier of all channels.
        narrow_head: whether a width below 1 narrows the last convolution as well.
        depth: multiplier of the blocks per stage.
        dropout: probability before the classifier.
        candidates: names of the operators to choose from.
        zero: whether a block with a skip connection may also be left out (operator NIL).
        slots: whether every block, the first one too, is an empty slot, for constructors to fill;
            candidates and zero then have no part.

    Raises:
        ValueError: no candidates, one that is named twice, or a number out of its range.
    """
    names = tuple(candidates)
    if not names or isinstance(candidates, str) or len({*names}) < len(names):
        raise ValueError(
            f"{name}: candidates must be at least one name, all different, got {candidates!r}"
        )
    if slots and (names != CANDIDATES or zero):
        raise ValueError(f"{name}: slots=True leaves candidates and zero to constructors")
    block = slot_block if slots else partial(choice_block, candidates=names, zero=zero)
    return chain_space(
        name,
        partial(net, block, zero_init_residual=True, narrow_head=narrow_head),
        num_classes=num_classes,
        in_channels=in_channels,
        resolution=resolution,
        width=width,
        depth=depth,
        dropout=dropout,
    )


def _cifar(name: str, layout: Layout) -> partial[ModelSpace]:
    net = partial(MobileNetV2, layout=layout, cifar=True)
    return partial(mobilenet_v2, name, net, num_classes=10, resolution=32)


mobilenet_v2_imagenet = SPACES.register(
    "mobilenet_v2_imagenet",
    partial(mobilenet_v2, "mobilenet_v2_imagenet", MobileNetV2),
    aliases=("MobileNetV2", "ImageNet_MobileNetV2"),
)
mobilenet_v2_imagenet_gpu = SPACES.register(
    "mobilenet_v2_imagenet_gpu",
    partial(mobilenet_v2, "mobilenet_v2_imagenet_gpu", partial(MobileNetV2, layout=GPU_LAYOUT)),
    aliases=("MobileNetV2_GPU", "ImageNet_MobileNetV2_GPU"),
)
mobilenet_v2_cifar = SPACES.register(
    "mobilenet_v2_cifar", _cifar("mobilenet_v2_cifar", LAYOUT), aliases=("CIFAR_MobileNetV2",)
)
mobilenet_v2_cifar_gpu = SPACES.register(
    "mobilenet_v2_cifar_gpu",
    _cifar("mobilenet_v2_cifar_gpu", GPU_LAYOUT),
    aliases=("CIFAR_MobileNetV2_GPU",),
)
