"""A perceptron of residual blocks, for tables of features and for small images laid flat.

Depth, width and what is in each block are decisions. All blocks have one width, as the tabular
ResNet of Gorishniy et al. (2021, arXiv:2106.11959, section 3.2), so that any of them may be the
last; what differs per block is the hidden layer inside. Differs: LayerNorm, whose statistics fit
any architecture, in place of BatchNorm, and dropout before the classifier only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from torch import Tensor, nn

from raynas.core.errors import UnknownName, nearest
from raynas.nn.choice import LayerChoice
from raynas.nn.elastic_linear import Linear
from raynas.nn.elastic_norm import LayerNorm
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.parametrized import Parametrized
from raynas.nn.repeat import Repeat
from raynas.nn.value import ValueChoice

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "silu": nn.SiLU}
)


class ResidualBlock(nn.Module):
    """x + contract(act(expand(norm(x)))), with ``expansion`` times the width in between.

    Args:
        width: of input and output.
        expansions: to choose from.
        activations: names to choose from.
        name: that the block's decisions begin with.
    """

    def __init__(
        self,
        width: ValueChoice,
        expansions: Sequence[int],
        activations: Sequence[str],
        name: str,
    ) -> None:
        super().__init__()
        hidden = width * ValueChoice(expansions, label=f"{name}/expansion")
        self.norm = LayerNorm(width)
        self.expand = Linear(width, hidden)
        layers = {activation: _activation(activation)() for activation in activations}
        self.act = LayerChoice(layers, label=f"{name}/activation")
        self.contract = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shape (batch, width)."""
        out: Tensor = x + self.contract(self.act(self.expand(self.norm(x))))
        return out


class MLP(nn.Module):
    """Linear layer, residual blocks, norm, dropout, classifier; returns logits.

    Decides ``width``, ``depth`` and ``dropout``, and of every block that runs
    ``block<i>/expansion`` and ``block<i>/activation``.

    Args:
        in_features: length of a flattened example.
        num_classes: length of the output.
        widths: to choose from.
        max_depth: blocks at most; there is at least one.
        expansions: of the blocks' hidden layers, to choose from.
        activations: of the blocks, names to choose from.
        dropouts: probabilities before the classifier, to choose from.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        widths: Sequence[int],
        max_depth: int,
        expansions: Sequence[int],
        activations: Sequence[str],
        dropouts: Sequence[float],
    ) -> None:
        super().__init__()
        width = ValueChoice(widths, label="width")
        self.stem = Linear(in_features, width)
        self.blocks = Repeat(
            lambda i: ResidualBlock(width, expansions, activations, f"block{i + 1}"),
            (1, max_depth),
            label="depth",
        )
        self.norm = LayerNorm(width)
        self.dropout = Parametrized(nn.Dropout, p=ValueChoice(dropouts, label="dropout"))
        self.classifier = Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes)."""
        x = self.blocks(self.stem(x.flatten(1)))
        logits: Tensor = self.classifier(self.dropout(self.norm(x)))
        return logits


@SPACES.register("mlp")
def mlp(
    *,
    num_classes: int = 10,
    in_channels: int = 64,
    resolution: int | None = None,
    in_features: int | None = None,
    widths: Sequence[int] = (16, 32, 64, 128),
    max_depth: int = 3,
    expansions: Sequence[int] = (1, 2, 4),
    activations: Sequence[str] = tuple(ACTIVATIONS),
    dropouts: Sequence[float] = (0.0, 0.2, 0.5),
) -> ModelSpace:
    """Perceptrons of one to three residual blocks: width, depth, expansions, activations, dropout.

    Args:
        num_classes: length of the output.
        in_channels: of the images, or the number of features of flat examples.
        resolution: height and width of the images; None for flat examples.
        in_features: length of a flattened example, in place of the two, for any other shape.
        widths: to choose from, one for the whole network.
        max_depth: residual blocks at most; there is at least one.
        expansions: hidden features per feature of a block, to choose from.
        activations: of each block, names to choose from.
        dropouts: probabilities before the classifier, to choose from.

    Raises:
        ValueError: a size is not positive, or a probability is none.
    """
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "max_depth": max_depth}
    optional = {"resolution": resolution, "in_features": in_features}
    sizes |= {name: value for name, value in optional.items() if value is not None}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"mlp: {name} must be positive, got {value}")
    for p in dropouts:
        if not 0 <= p < 1:
            raise ValueError(f"mlp: dropouts are probabilities below 1, got {p}")
    shape: tuple[int, ...] = (in_channels,)
    if in_features is not None:
        shape = (in_features,)
    elif resolution is not None:
        shape = (in_channels, resolution, resolution)
    factory = partial(
        MLP,
        math.prod(shape),
        num_classes,
        widths=tuple(widths),
        max_depth=max_depth,
        expansions=tuple(expansions),
        activations=tuple(activations),
        dropouts=tuple(dropouts),
    )
    return ModelSpace(factory, input_shape=shape, name="mlp")


def _activation(name: str) -> Callable[[], nn.Module]:
    if name not in ACTIVATIONS:
        raise UnknownName(f"no activation named {name!r}; {nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]
