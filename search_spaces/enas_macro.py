"""Whole networks of ENAS: a chain of layers with skip connections (Pham et al., 2018)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from raynas.nn.choice import LayerChoice
from raynas.nn.inputs import InputChoice
from raynas.nn.layout import laid_out
from raynas.nn.modelspace import SPACES, ModelSpace, image_shape
from raynas.nn.operators import FactorizedReduce, conv_bn
from raynas.nn.operators.layers import separable
from raynas.nn.when_read import WhenRead


def pointwise(channels: int) -> OrderedDict[str, nn.Module]:
    """Return the 1x1 convolution, BatchNorm and ReLU that every branch begins with."""
    return OrderedDict(first=nn.Sequential(conv_bn(channels, channels, 1)), first_act=nn.ReLU())


def conv_branch(channels: int, kernel: int) -> nn.Module:
    """Return a branch with a convolution of a kernel."""
    conv = nn.Sequential(conv_bn(channels, channels, kernel))
    return nn.Sequential(OrderedDict(**pointwise(channels), conv=conv, act=nn.ReLU()))


def sep_conv_branch(channels: int, kernel: int) -> nn.Module:
    """Return a branch with a depthwise convolution of a kernel, and a 1x1 one."""
    layers = separable(channels, channels, kernel)
    layers["bn"] = nn.BatchNorm2d(channels)
    conv = nn.Sequential(layers)
    return nn.Sequential(OrderedDict(**pointwise(channels), conv=conv, act=nn.ReLU()))


def pool_branch(channels: int, pool: nn.Module) -> nn.Module:
    """Return a branch with a pool that keeps the size."""
    return nn.Sequential(OrderedDict(**pointwise(channels), pool=pool))


def branches(channels: int) -> dict[str, nn.Module]:
    """Return the operations of a layer, in the authors' order."""
    average = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return {
        "conv_3x3": conv_branch(channels, 3),
        "sep_conv_3x3": sep_conv_branch(channels, 3),
        "conv_5x5": conv_branch(channels, 5),
        "sep_conv_5x5": sep_conv_branch(channels, 5),
        "avg_pool_3x3": pool_branch(channels, average),
        "max_pool_3x3": pool_branch(channels, nn.MaxPool2d(3, 1, 1)),
    }


def skip_label(layer: int) -> str:
    """Return the label of the decision which earlier outputs a layer adds."""
    return f"layer{layer}/skip"


class Layer(nn.Module):
    """An operation on the last output, plus a set of the outputs before it, and BatchNorm.

    Args:
        number: of the layer, from 0: as many outputs stand before the last one.
        channels: of all outputs.
    """

    def __init__(self, number: int, channels: int) -> None:
        super().__init__()
        self.op = LayerChoice(branches(channels), label=f"layer{number}/op")
        self.skip: InputChoice | None = None
        if number:  # nothing stands before the stem
            self.skip = InputChoice(number, label=skip_label(number))
            self.bn = nn.BatchNorm2d(channels)

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Return the layer's output, shape (batch, channels, height, width).

        Args:
            states: outputs of the stem and all layers before, of that shape where they are read.
        """
        out: Tensor = self.op(states[-1])
        if self.skip is None:
            return out
        normed: Tensor = self.bn(out + self.skip(states[:-1]))
        return normed


class Reduction(nn.Module):
    """Halves all outputs so far, each by a factorized reduction of its own.

    Args:
        layer: number of the one that it stands behind.
        layers: how many there are.
        channels: of all outputs.
    """

    def __init__(self, layer: int, layers: int, channels: int) -> None:
        super().__init__()
        last = layer + 1  # state 0 is the stem's output
        self.states = nn.ModuleList()
        for state in range(last + 1):
            halved = FactorizedReduce(channels, channels, relu=False)
            after = range(layer + 1, layers)
            readers = [(skip_label(later), state) for later in after if later > state]
            self.states.append(halved if state == last else WhenRead(halved, readers))

    def forward(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Return the halved outputs; those that no later layer reads are not computed."""
        return [halve(state) for halve, state in zip(self.states, states, strict=True)]


class MacroNet(nn.Module):
    """A stem, layers with skip connections, pooling and a classifier.

    Args:
        layers: how many; reductions stand behind one and two thirds of them.
        channels: of all outputs.
        num_classes: length of the output.
        in_channels: of the images.
        dropout: probability before the classifier.
    """

    def __init__(
        self, *, layers: int, channels: int, num_classes: int, in_channels: int, dropout: float
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(in_channels, channels, 3))
        self.layers = nn.ModuleList(Layer(number, channels) for number in range(layers))
        ends = (layers // 3 - 1, 2 * (layers // 3) - 1)
        self.reductions = nn.ModuleDict(
            {str(end): Reduction(end, layers, channels) for end in ends}
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes).

        Args:
            x: shape (batch, in_channels, height, width).
        """
        states: list[Tensor] = [self.stem(x)]
        for number, layer in enumerate(self.layers):
            states.append(layer(states))
            if str(number) in self.reductions:
                states = self.reductions[str(number)](states)
        logits: Tensor = self.classifier(self.dropout(laid_out(states[-1]).mean((2, 3))))
        return logits


@SPACES.register("enas_macro")
def enas_macro(
    *,
    channels: int = 36,
    layers: int = 12,
    num_classes: int = 10,
    in_channels: int = 3,
    resolution: int = 32,
    dropout: float = 0.1,
) -> ModelSpace:
    """Layers of one of six operations, each with any set of the earlier outputs added to it.

    A layer applies its operation to the last output; a bit for each output before that says
    whether it is added. With 12 layers there are 6**12 * 2**66 architectures. Behind one and two
    thirds of the layers every output is halved by a factorized reduction.

    Source: Pham et al., 2018, arXiv:1802.03268, section 2.3, and the authors' code. Differs: the
    halved outputs that no later layer reads are not computed; networks have the supernet's layers,
    so that they inherit its weights, where the authors' retrained ones have twice the channels
    behind every reduction.

    Args:
        channels: of all outputs; 36 in the authors' search.
        layers: how many, at least 3.
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        dropout: probability before the classifier.

    Raises:
        ValueError: a size is not positive, fewer than three layers, or a dropout that is no
            probability below 1.
    """
    name = "enas_macro"
    shape = image_shape(name, in_channels=in_channels, resolution=resolution, channels=channels)
    if layers < 3:
        raise ValueError(f"{name}: layers must be at least 3, one for each size, got {layers}")
    if not 0 <= dropout < 1:
        raise ValueError(f"{name}: dropout must be at least 0 and below 1, got {dropout}")
    factory = partial(
        MacroNet,
        layers=layers,
        channels=channels,
        num_classes=num_classes,
        in_channels=in_channels,
        dropout=dropout,
    )
    return ModelSpace(factory, input_shape=shape, name=name)
