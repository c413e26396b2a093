"""Candidate operations on graphs by name: the ten of SGAS (Li et al., 2020, arXiv:1912.00195).

``none`` gives zeros and ``skip`` its input; each of the others is followed by a BatchNorm and a
ReLU. Differs: in the authors' code ReLU comes before BatchNorm. Behind a ReLU, channels of which
few nodes are alive have next to no variance, and over the layers of a cell gradients grew to 1e13
in the first step of a test here. There, too, both come before edges are put together (``edge``) or
neighbours weighed (``gat``, ``semi_gcn``, which divides by the number of neighbours), and GraphSAGE
has vectors of length 1 in place of a BatchNorm (3,072 weights at 32 channels, 3,136 here).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from raynas.core.registry import Registry
from raynas.nn.graph.convolutions import (
    EdgeConv,
    GraphAttention,
    GraphConv,
    GraphIsomorphism,
    GraphSAGE,
    MaxRelativeConv,
)
from raynas.nn.operators.basic import Zero

GraphOperator = Callable[[int], nn.Module]
GRAPH_OPERATORS: Registry[GraphOperator] = Registry(
    "graph operator", group="raynas.graph_operators"
)


def pointwise(channels_in: int, channels_out: int) -> nn.Sequential:
    """Return a convolution of each node by itself, with BatchNorm and ReLU."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv1d(channels_in, channels_out, 1, bias=False),
        bn=nn.BatchNorm1d(channels_out),
        act=nn.ReLU(inplace=True),
    )
    return nn.Sequential(layers)


@GRAPH_OPERATORS.register("none")
class NoEdge(Zero):
    """Zeros, whatever comes in."""

    is_none = True

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1)

    def forward(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """Return zeros like x."""
        return super().forward(x)


@GRAPH_OPERATORS.register("skip", aliases=("skip_connect",))
class Skip(nn.Module):
    """The input itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return x."""
        return x


@GRAPH_OPERATORS.register("conv1x1", aliases=("conv_1x1",))
class NodeConv(nn.Module):
    """A convolution of each node by itself.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = pointwise(channels, channels)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return the convolution of x; neighbours do not matter."""
        out: Tensor = self.layers(x)
        return out


class GraphOperation(nn.Module):
    """A convolution on a graph, with BatchNorm and ReLU.

    Args:
        channels: of input and output.
        conv: builds the convolution from both.
    """

    def __init__(self, channels: int, *, conv: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.conv = conv(channels, channels)
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return the operation on x, shape (batch, channels, nodes)."""
        out: Tensor = self.bn(self.conv(x, index))
        return out.relu()


for _name, _conv, _aliases in (
    ("edge", EdgeConv, ("edge_conv",)),
    ("mr", MaxRelativeConv, ("mr_conv",)),
    ("gat", GraphAttention, ()),
    ("semi_gcn", GraphConv, ()),
    ("gin", GraphIsomorphism, ()),
    ("sage", GraphSAGE, ()),
    ("rel_sage", partial(GraphSAGE, relative=True), ("res_sage",)),
):
    GRAPH_OPERATORS.register(_name, partial(GraphOperation, conv=_conv), aliases=_aliases)
