"""Convolutions on graphs, each as its paper or SGAS's code defines it, without what follows.

All take x of shape (batch, channels_in, nodes) and an ``index`` of neighbours (``neighbours.py``),
and return (batch, channels_out, nodes). i is a node, j runs over its neighbours. Weights meet nodes
and never edges: what is linear in x_j - x_i is a difference of two products, which costs as many
times less as a node has neighbours. Weights have no bias, as in SGAS's code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.nn.graph.neighbours import degree, gathered, neighbour_max, neighbour_sum
from raynas.nn.narrow import divided


class EdgeConv(nn.Module):
    """max_j ReLU(local(x_j - x_i) + own(x_i)), where i itself is one of the j.

    Wang et al., 2018, arXiv:1801.07829, equation 8 and its self-loops. Differs from SGAS's code:
    there every edge goes through a BatchNorm before the maximum, here the maximum does after it, so
    that weights meet nodes and not edges.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.own = nn.Conv1d(channels_in, channels_out, 1, bias=False)
        self.local = nn.Conv1d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return the convolution of x."""
        local = self.local(x)
        steepest = (neighbour_max(local, index) - local).clamp(min=0)
        out: Tensor = self.own(x) + steepest
        return out.relu()


class MaxRelativeConv(nn.Module):
    """linear([x_i, max_j (x_j - x_i)]), 0 for the maximum of a node without neighbours.

    Li et al., 2019, arXiv:1904.03751, section 3.2 (MRGCN).
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(2 * channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return the convolution of x."""
        alone = (degree(index) == 0).unsqueeze(1)
        relative = (neighbour_max(x, index) - x).masked_fill(alone, 0.0)
        out: Tensor = self.linear(torch.cat([x, relative], 1))
        return out


class GraphAttention(nn.Module):
    """sum_j a_ij linear(x_j), with a_ij = softmax_j LeakyReLU(r_i + s_j) and i itself one of the j.

    r and s are linear in linear(x), the slope is 0.2 (Velickovic et al., 2018, arXiv:1710.10903,
    equations 3 and 4), and there is one head, as in SGAS.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels_in, channels_out, 1, bias=False)
        self.attention = nn.Conv1d(channels_out, 2, 1, bias=False)

    def narrowed(self, divisor: int) -> GraphAttention:
        """Return attention on a share of the channels (see ``raynas.nn.narrow``).

        Receiver and sender remain two numbers, whatever the channels.
        """
        conv = self.linear
        channels = (divided(conv.in_channels, divisor), divided(conv.out_channels, divisor))
        return GraphAttention(*channels).to(conv.weight.device, conv.weight.dtype)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return the convolution of x."""
        z = self.linear(x)
        receiver, sender = self.attention(z).split(1, 1)
        # a neighbour that is not there sends minus infinity, and gets weight 0
        senders = torch.cat(
            [sender.transpose(1, 2), gathered(sender, index, float("-inf")).squeeze(-1)], -1
        )
        scores = functional.leaky_relu(receiver.transpose(1, 2) + senders, 0.2)
        own, others = scores.softmax(-1).split([1, index.shape[-1]], -1)
        out: Tensor = z * own.transpose(1, 2) + neighbour_sum(z, index, others)
        return out


class GraphConv(nn.Module):
    """linear(x) under (A + I) normalised by the roots of both ends' degrees.

    Kipf and Welling, 2017, arXiv:1609.02907, equation 2; a node's degree is its number of
    neighbours, and 1 for itself.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return the convolution of x."""
        share = (1 + degree(index)).to(x.dtype).rsqrt().unsqueeze(1)
        z = self.linear(x) * share
        out: Tensor = (z + neighbour_sum(z, index)) * share
        return out


class GraphIsomorphism(nn.Module):
    """linear(x_i + sum_j x_j).

    Xu et al., 2019, arXiv:1810.00826, equation 4.1 with eps 0 (GIN-0). As in SGAS's code, one layer
    stands for the paper's perceptron.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return the convolution of x."""
        out: Tensor = self.linear(x + neighbour_sum(x, index))
        return out


class GraphSAGE(nn.Module):
    """linear([x_i, max_j ReLU(pool(x_j))]), the maximum of a node without neighbours being 0.

    Hamilton et al., 2017, arXiv:1706.02216, algorithm 1 with the pooling aggregator (equation 3).
    Differs: the output's length is not set to 1; a BatchNorm follows, as with all operations.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        relative: pool x_j - x_i in place of x_j, as in SGAS (Li et al., 2020, arXiv:1912.00195).
    """

    def __init__(self, channels_in: int, channels_out: int, *, relative: bool = False) -> None:
        super().__init__()
        self.relative = relative
        self.pool = nn.Conv1d(channels_in, channels_out, 1, bias=False)
        self.linear = nn.Conv1d(channels_in + channels_out, channels_out, 1, bias=False)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return the convolution of x."""
        pooled = neighbour_max(self.pool(x), index)
        if self.relative:
            pooled = pooled - functional.conv1d(x, self.pool.weight)
        out: Tensor = self.linear(torch.cat([x, pooled.relu()], 1))
        return out
