"""The cells of DARTS (Liu et al., 2019, arXiv:1806.09055), for small images and for large ones.

Two cells are searched, a normal one and a reduction one; each is used many times. A node sums two
operations on two different earlier states, and ``raynas.nn.genotype`` reads and writes the form in
which papers print such cells.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from raynas.nn.auxiliary_head import AuxiliaryHead
from raynas.nn.cell import Cell
from raynas.nn.layout import laid_out
from raynas.nn.modelspace import SPACES, ModelSpace, image_shape
from raynas.nn.operators import (
    DARTS_PRIMITIVES,
    OPERATORS,
    FactorizedReduce,
    ReLUConvBN,
    conv_bn,
)

INPUTS = 2


class Preprocess(nn.Module):
    """Brings the outputs of the two cells before to the same channels and size.

    Args:
        before: channels of the last but one cell's output.
        last: of the last cell's output.
        channels: of both results.
        halve: whether the last cell was a reduction, so that the one before has twice the size.
        affine: give the BatchNorms weights.
    """

    def __init__(self, before: int, last: int, channels: int, *, halve: bool, affine: bool) -> None:
        super().__init__()
        first = FactorizedReduce if halve else ReLUConvBN
        self.before = first(before, channels, affine=affine)
        self.last = ReLUConvBN(last, channels, affine=affine)

    def forward(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Return both outputs, each of shape (batch, channels, height, width)."""
        return [self.before(outputs[0]), self.last(outputs[1])]


def edge(
    channels: int, reduction: bool, affine: bool, node: int, source: int
) -> dict[str, nn.Module]:
    """Return the candidates from a source to a node, both counted from 0.

    Args:
        channels: of input and output.
        reduction: whether the cell halves the resolution, which its edges from the inputs do.
        affine: give the BatchNorms weights.
        node: any; all have the same candidates.
        source: the cell's inputs come first.
    """
    del node
    stride = 2 if reduction and source < INPUTS else 1
    return {
        name: OPERATORS[name](channels, channels, stride, affine=affine)
        for name in DARTS_PRIMITIVES
    }


class Cells(nn.Module):
    """A stack of cells, pooling and a classifier, on the two outputs of a stem.

    The cells at one and two thirds of the depth halve the resolution and double the channels.

    Args:
        stem: returns two tensors, the inputs of the first cell.
        stem_channels: of both.
        halve: whether the first of the two has twice the second's size.
        channels: of a node in the first cells.
        layers: how many cells.
        nodes: of a cell, all concatenated in its output.
        num_classes: length of the output.
        affine: give the cells' BatchNorms weights.
        auxiliary: size of the feature map at two thirds of the depth, on which a second classifier
            is trained beside; None has none.
    """

    def __init__(
        self,
        stem: nn.Module,
        stem_channels: int,
        *,
        halve: bool,
        channels: int,
        layers: int,
        nodes: int,
        num_classes: int,
        affine: bool,
        auxiliary: int | None = None,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.auxiliary: nn.Module | None = None
        self._auxiliary_at = 2 * layers // 3
        self.cells = nn.ModuleList()
        before = last = stem_channels
        for layer in range(layers):
            reduction = layer in (layers // 3, 2 * layers // 3)
            channels *= 2 if reduction else 1
            self.cells.append(
                Cell(
                    partial(edge, channels, reduction, affine),
                    nodes,
                    num_ops_per_node=2,
                    num_predecessors=INPUTS,
                    preprocessor=Preprocess(before, last, channels, halve=halve, affine=affine),
                    label="reduce" if reduction else "normal",
                )
            )
            before, last, halve = last, nodes * channels, reduction
            if layer == self._auxiliary_at and auxiliary is not None:
                self.auxiliary = AuxiliaryHead(last, num_classes, auxiliary)
        self.classifier = nn.Linear(last, num_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits of shape (batch, num_classes), in training mode auxiliary ones as well.

        Args:
            x: shape (batch, in_channels, height, width).
        """
        before, last = self.stem(x)
        beside: Tensor | None = None
        for layer, cell in enumerate(self.cells):
            before, last = last, cell(before, last)
            if self.auxiliary is not None and self.training and layer == self._auxiliary_at:
                beside = self.auxiliary(last)
        logits: Tensor = self.classifier(laid_out(last).mean((2, 3)))
        return logits if beside is None else (logits, beside)


class SmallStem(nn.Module):
    """A 3x3 convolution and BatchNorm, its output twice; keeps the resolution.

    Args:
        in_channels: of the images.
        channels: of the output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv_bn(in_channels, channels, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same tensor twice, shape (batch, channels, height, width)."""
        x = self.layers(x)
        return x, x


class LargeStem(nn.Module):
    """Two 3x3 convolutions of stride 2, and a third on their output.

    Args:
        in_channels: of the images.
        channels: of both outputs; the first convolution has half as many.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = max(1, channels // 2)
        first, second = conv_bn(in_channels, half, 3, 2), conv_bn(half, channels, 3, 2)
        self.first = nn.Sequential(
            OrderedDict(
                conv1=first["conv"],
                bn1=first["bn"],
                relu=nn.ReLU(inplace=True),
                conv2=second["conv"],
                bn2=second["bn"],
            )
        )
        self.second = nn.Sequential(
            OrderedDict(relu=nn.ReLU(), **conv_bn(channels, channels, 3, 2))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features at a quarter and at an eighth of the resolution."""
        x = self.first(x)
        return x, self.second(x)


def cifar_net(*, in_channels: int, channels: int, stem_multiplier: int, **options: Any) -> Cells:
    """Return the network for images of about 32 x 32; ``options`` are those of ``Cells``."""
    width = stem_multiplier * channels
    return Cells(SmallStem(in_channels, width), width, halve=False, channels=channels, **options)


def imagenet_net(*, in_channels: int, channels: int, **options: Any) -> Cells:
    """Return the network for images of about 224 x 224; ``options`` are those of ``Cells``."""
    stem = LargeStem(in_channels, channels)
    return Cells(stem, channels, halve=True, channels=channels, **options)


@SPACES.register("darts_cifar", aliases=("DARTS", "CIFAR_DARTS"))
def darts_cifar(
    *,
    channels: int = 16,
    layers: int = 8,
    nodes: int = 4,
    stem_multiplier: int = 3,
    num_classes: int = 10,
    in_channels: int = 3,
    resolution: int = 32,
    affine: bool = False,
    auxiliary: bool = False,
) -> ModelSpace:
    """Cells of DARTS: every node sums two of seven operations on two different earlier states.

    A normal and a reduction cell of (180 * 7**8) architectures each. Supernets also mix in the
    operation ``none``, which no architecture picks.

    Source: Liu et al., 2019, arXiv:1806.09055. Differs: a built network has the supernet's
    BatchNorms, also behind pools, so that it can inherit; the authors' retrained ones
    have none there, and weights in all others, as with ``affine``.

    Args:
        channels: of a node in the first cells; 36 in the published networks, 16 in the search.
        layers: how many cells; 20 in the published networks, 8 in the search.
        nodes: of a cell, besides its two inputs.
        stem_multiplier: channels of the stem per channel of a node.
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        affine: give the cells' BatchNorms weights, as for training from scratch.
        auxiliary: add the second classifier that published networks are trained with.

    Raises:
        ValueError: a size is not positive.
    """
    name = "darts_cifar"
    sizes = {
        "channels": channels,
        "layers": layers,
        "nodes": nodes,
        "stem_multiplier": stem_multiplier,
    }
    shape = image_shape(name, in_channels=in_channels, resolution=resolution, **sizes)
    options = {"in_channels": in_channels, "num_classes": num_classes, "affine": affine, **sizes}
    size = resolution // 4 if auxiliary else None
    return ModelSpace(partial(cifar_net, auxiliary=size, **options), input_shape=shape, name=name)


@SPACES.register("darts_imagenet", aliases=("ImageNet_DARTS",))
def darts_imagenet(
    *,
    channels: int = 16,
    layers: int = 8,
    nodes: int = 4,
    num_classes: int = 1000,
    in_channels: int = 3,
    resolution: int = 224,
    affine: bool = False,
    auxiliary: bool = False,
) -> ModelSpace:
    """Cells of DARTS behind a stem of three convolutions, each of stride 2, for large images.

    The architectures are those of ``darts_cifar``, so that cells found there can be trained here.

    Source: Liu et al., 2019, arXiv:1806.09055. Differs: as ``darts_cifar``.

    Args:
        channels: of a node in the first cells; 48 in the published networks.
        layers: how many cells; 14 in the published networks.
        nodes: of a cell, besides its two inputs.
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        affine: give the cells' BatchNorms weights, as for training from scratch.
        auxiliary: add the second classifier that published networks are trained with.

    Raises:
        ValueError: a size is not positive.
    """
    name = "darts_imagenet"
    sizes = {"channels": channels, "layers": layers, "nodes": nodes}
    shape = image_shape(name, in_channels=in_channels, resolution=resolution, **sizes)
    options = {"in_channels": in_channels, "num_classes": num_classes, "affine": affine, **sizes}
    size = resolution // 32 if auxiliary else None
    return ModelSpace(
        partial(imagenet_net, auxiliary=size, **options), input_shape=shape, name=name
    )
