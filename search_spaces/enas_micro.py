"""The cells of ENAS (Pham et al., 2018, arXiv:1802.03268), for small images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from raynas.nn.cell import Cell
from raynas.nn.layout import laid_out
from raynas.nn.modelspace import SPACES, ModelSpace, image_shape
from raynas.nn.operators import OPERATORS, FactorizedReduce, ReLUConvBN, conv_bn

INPUTS, SLOTS = 2, 2
OPERATIONS = ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "skip_connect")


def operations(channels: int, node: int, source: int) -> dict[str, nn.Module]:
    """Return the operations from a source to a node; ``skip_connect`` is the identity.

    Args:
        channels: of input and output.
        node: any; all have the same operations.
        source: any likewise, since a cell's inputs have its size and channels.
    """
    del node, source
    made = {
        "sep_conv_3x3": {"affine": True},
        "sep_conv_5x5": {"affine": True},
        "avg_pool_3x3": {"pool_bn": False},
        "max_pool_3x3": {"pool_bn": False},
        "skip_connect": {},
    }
    return {name: OPERATORS[name](channels, channels, 1, **made[name]) for name in OPERATIONS}


def fitted(before: int, channels: int, halvings: int) -> nn.Module:
    """Return what brings an earlier output to a cell's channels and size.

    Args:
        before: channels of the output.
        channels: of the cell.
        halvings: by how many powers of 2 the output is larger.
    """
    if not halvings:
        return nn.Identity() if before == channels else ReLUConvBN(before, channels)
    first = FactorizedReduce(before, channels)
    more = [FactorizedReduce(channels, channels) for _ in range(halvings - 1)]
    return nn.Sequential(first, *more) if more else first


class Fit(nn.Module):
    """Brings the outputs of the two cells before to a cell's channels and size."""

    def __init__(self, before: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.before, self.last = before, last

    def forward(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Return both outputs, each of shape (batch, channels, height, width)."""
        return [self.before(outputs[0]), self.last(outputs[1])]


class Joined(nn.Module):
    """Mixes what the states that nobody reads bring to a cell's output."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv = ReLUConvBN(channels_in, channels)

    def forward(self, out: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        """Return the cell's output, shape (batch, channels, height, width)."""
        mixed: Tensor = self.conv(out)
        return mixed


class MicroNet(nn.Module):
    """A stem, a stack of cells, pooling and a classifier.

    The cells at one and two thirds of the depth halve the resolution and double the channels.

    Args:
        channels: of the first cells.
        layers: how many cells.
        nodes: of a cell.
        num_classes: length of the output.
        in_channels: of the images.
        dropout: probability before the classifier.
    """

    def __init__(
        self,
        *,
        channels: int,
        layers: int,
        nodes: int,
        num_classes: int,
        in_channels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(in_channels, 3 * channels, 3))
        self.cells = nn.ModuleList()
        states = [(3 * channels, 0), (3 * channels, 0)]  # channels, and how often halved
        halved = 0
        for layer in range(layers):
            reduction = layer in (layers // 3, 2 * layers // 3)
            channels, halved = channels * (1 + reduction), halved + reduction
            fit = Fit(*(fitted(before, channels, halved - size) for before, size in states))
            self.cells.append(self._cell(channels, nodes, fit, "reduce" if reduction else "normal"))
            states = [states[1], (channels, halved)]
        self.act = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)

    @staticmethod
    def _cell(channels: int, nodes: int, fit: Fit, label: str) -> nn.Module:
        cell: nn.Module = Cell(
            partial(operations, channels),
            nodes,
            num_ops_per_node=SLOTS,
            num_predecessors=INPUTS,
            merge_op="unread",
            preprocessor=fit,
            postprocessor=Joined((INPUTS + nodes) * channels, channels),
            label=label,
            inputs="any",
        )
        return cell

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes).

        Args:
            x: shape (batch, in_channels, height, width).
        """
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        logits: Tensor = self.classifier(self.dropout(laid_out(self.act(last)).mean((2, 3))))
        return logits


@SPACES.register("enas_micro", aliases=("ENAS",))
def enas_micro(
    *,
    channels: int = 20,
    layers: int = 8,
    nodes: int = 5,
    num_classes: int = 10,
    in_channels: int = 3,
    resolution: int = 32,
    dropout: float = 0.1,
) -> ModelSpace:
    """Cells of ENAS: a node sums two of five operations, each on any earlier state.

    Node i picks each of two sources among 2 + i states and each of two operations among five, so
    that a cell of 5 nodes has (5**5 * 6!)**2 = 5.06e12 architectures, and a normal with a
    reduction cell their square, 2.56e25. States that no node reads, the cell's inputs among them,
    are joined and mixed by a 1x1 convolution.

    Source: Pham et al., 2018, arXiv:1802.03268, section 2.4, and the authors' code. Differs: the
    paper's (5 * (B - 2)!)**4 = 1.3e11 for B = 7 counts the operations once, not once per node, and
    one source too few for every node; a reduction cell halves both its inputs first, as the
    authors' search does, but it reads the outputs of two cells, not one output twice.

    Args:
        channels: of the first cells; 20 in the authors' search, 36 in the published networks.
        layers: how many cells, two of them reductions; 8 in the authors' search, 17 in the
            published networks.
        nodes: of a cell, besides its two inputs.
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        dropout: probability before the classifier.

    Raises:
        ValueError: a size is not positive, or a dropout that is no probability below 1.
    """
    name = "enas_micro"
    sizes = {"channels": channels, "layers": layers, "nodes": nodes}
    shape = image_shape(name, in_channels=in_channels, resolution=resolution, **sizes)
    options: dict[str, Any] = {**sizes, "num_classes": num_classes, "in_channels": in_channels}
    if not 0 <= dropout < 1:
        raise ValueError(f"{name}: dropout must be at least 0 and below 1, got {dropout}")
    return ModelSpace(partial(MicroNet, dropout=dropout, **options), input_shape=shape, name=name)
