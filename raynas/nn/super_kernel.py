"""One kernel that holds all candidates of a block: Single-Path NAS (arXiv:1904.02877).

An inverted residual with a 5x5 depthwise kernel over six times the input's channels holds those of
kernel 3 (the centre) and of half the channels (the first ones) in itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.core.decision import Decision
from raynas.core.errors import InvalidSpace
from raynas.nn.blocks import Residual
from raynas.nn.elastic_conv import Conv2d, Size
from raynas.nn.elastic_norm import BatchNorm2d
from raynas.nn.expression import Expression
from raynas.nn.mutable import SKIP, Memo, Mutable, activate_unchecked, frozen
from raynas.nn.operators.layers import Activation, new_activation
from raynas.nn.value import ValueChoice

SIZES = {"MB3E3": (3, 3), "MB5E3": (5, 3), "MB3E6": (3, 6), "MB5E6": (5, 6)}  # kernel, expansion
WHOLE = "MB5E6"
SKIPPED = "skip"
SMALL, LARGE = 3, 5
HALF, FULL = 3, 6
Route = int | Callable[["SuperKernel", Tensor], Tensor] | None


class SuperKernel(Mutable):
    """An inverted residual that decides its kernel, 3 or 5, and its expansion, 3 or 6, at once.

    One decision picks ``MB3E3``, ``MB5E3``, ``MB3E6``, ``MB5E6`` or, where input and output have
    one shape, ``skip``, which leaves the shortcut alone. All share the weights of ``MB5E6``: the
    kernel's centre, and the first channels (Stamoulis et al., 2019, arXiv:1904.02877, section 3).

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: of the depthwise convolution.
        label: name of the decision; None takes the module's path in the model.
        activation: behind the first two convolutions: ``relu6``, ``relu`` or ``hswish``.

    Attributes:
        shortcut: whether input and output have one shape, so that the input is added.
        options: that the decision picks from.
        route: the option's position, or a function of the block and its input.
    """

    holders: tuple[str, ...] = ()
    route: Route

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        *,
        label: str | None = None,
        activation: Activation = "relu6",
    ) -> None:
        super().__init__()
        self.label, self.stride = label, stride
        self.shortcut = stride == 1 and channels_in == channels_out
        self.options = (*SIZES, SKIPPED) if self.shortcut else tuple(SIZES)
        self.hidden = FULL * channels_in
        self._decided = ValueChoice(self.options, label)
        kernel = Expression(kernel_of, self._decided)
        hidden = Expression(partial(hidden_of, channels_in), self._decided)
        depthwise = {"stride": stride, "groups": hidden}
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            expand=_conv_bn(channels_in, hidden, 1),
            expand_act=new_activation(activation),
            depthwise=_conv_bn(hidden, hidden, kernel, **depthwise),
            depthwise_act=new_activation(activation),
            project=_conv_bn(hidden, channels_out, 1),
        )
        self.layers = nn.Sequential(layers)
        self.route = None

    def name_values(self, path: str) -> None:
        """Give the value that the layers follow the block's own label."""
        self._decided.label = str(self.label)

    def extra_repr(self) -> str:
        """Return what stands beside the layers when the module is printed."""
        return f"label={self.label!r}, {list(self.options)}"

    @property
    def kernel(self) -> Tensor:
        """The super-kernel, shape (hidden, 1, 5, 5)."""
        weight: Tensor = self.layers.get_parameter("depthwise.conv.weight")
        return weight

    def choices(self) -> tuple[Decision, ...]:
        """Return the one decision."""
        return (self._decided.decision(),)

    def logits(self) -> tuple[Any, ...]:
        """Raise InvalidSpace: the candidates are parts of each other, and are not mixed.

        Raises:
            InvalidSpace: always.
        """
        raise InvalidSpace(
            f"SuperKernel {self.label!r} cannot be relaxed: its candidates are parts of one "
            "kernel; search it with single_path_nas or a sampler"
        )

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Run the picked part of the block."""
        option = arch[str(self.label)]
        self.route = SKIP if option == SKIPPED else self.options.index(option)
        activate_unchecked(self.layers, arch)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return the picked part as plain layers, the identity where the block is skipped."""
        if arch[str(self.label)] == SKIPPED:
            return nn.Identity()
        block = frozen(self.layers, arch, memo)
        if not self.shortcut:
            return block
        residual = Residual(block)
        residual.training = self.training
        return residual

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shape (batch, channels_out, height, width).

        Raises:
            RuntimeError: no architecture is active.
        """
        if self.route is None:
            raise RuntimeError(
                f"super-kernel {self.label!r} has no active part: call raynas.nn.activate(model, "
                "arch), or raynas.nn.freeze(model, arch) for a plain module"
            )
        if callable(self.route):
            return self.route(self, x)
        if self.route == SKIP:
            return x
        out: Tensor = self.layers(x)
        return x + out if self.shortcut else out

    def masked(
        self, x: Tensor, d5: Tensor, d50: Tensor, d100: Tensor, *, on_kernel: bool
    ) -> Tensor:
        """Return the output of the whole block, parts of which are switched on and off.

        Args:
            x: shape (batch, channels_in, height, width).
            d5: factor of the kernel's outer ring, shape ().
            d50: of the block, shape (); 1 where it has no shortcut.
            d100: of the second half of the channels, shape ().
            on_kernel: whether the factors of channels multiply the kernel, before BatchNorm;
                else what comes out behind it, so that factors of 0 and 1 give what the
                architecture's own network computes.
        """
        activate_unchecked(self.layers, {str(self.label): WHOLE})
        layers, one = self.layers, torch.ones_like(d5)
        part = layers.get_submodule("depthwise")
        h = layers.get_submodule("expand_act")(layers.get_submodule("expand")(x))
        scales = (d5, d50, d100) if on_kernel else (d5, one, one)
        kernel, padding = masked_kernel(self.kernel, *scales), LARGE // 2
        h = nn.functional.conv2d(h, kernel, None, self.stride, padding, 1, self.hidden)
        h = layers.get_submodule("depthwise_act")(part.get_submodule("bn")(h))
        if not on_kernel:
            h = h * channel_mask(self.hidden, d100)
        out: Tensor = layers.get_submodule("project")(h)
        if not on_kernel:
            out = d50 * out
        return x + out if self.shortcut else out


def kernel_of(option: str) -> int:
    """Return the size of an option's kernel; a skipped block has none, so any will do."""
    return SIZES.get(option, SIZES[WHOLE])[0]


def hidden_of(channels: int, option: str) -> int:
    """Return an option's channels between expansion and projection."""
    return channels * SIZES.get(option, SIZES[WHOLE])[1]


def outer_ring(kernel: Tensor) -> Tensor:
    """Return a kernel of shape (channels, 1, 5, 5) with zeros in its 3x3 centre."""
    mask = torch.ones_like(kernel)
    mask[..., 1:-1, 1:-1] = 0.0
    return kernel * mask


def channel_mask(channels: int, d100: Tensor) -> Tensor:
    """Return ones for the first half of the channels, d100 for the second; shape (channels, 1, 1).

    >>> channel_mask(4, torch.tensor(0.5)).flatten().tolist()
    [1.0, 1.0, 0.5, 0.5]
    """
    second = (torch.arange(channels, device=d100.device) >= channels // 2).to(d100)
    return (1 - second + second * d100).view(channels, 1, 1)


def masked_kernel(kernel: Tensor, d5: Tensor, d50: Tensor, d100: Tensor) -> Tensor:
    """Return d50 * (first half + d100 * second half) of (centre + d5 * outer ring).

    Source: arXiv:1904.02877, equations 3 to 6.

    Args:
        kernel: shape (channels, 1, 5, 5).
        d5: factor of the outer ring, shape ().
        d50: of everything, shape ().
        d100: of the second half of the channels, shape ().
    """
    ring = outer_ring(kernel)
    sized = kernel - ring + d5 * ring
    return d50 * (sized * channel_mask(len(kernel), d100)[:, None])


def _conv_bn(channels_in: Size, channels_out: Size, kernel: Size, **options: Any) -> nn.Sequential:
    padding = kernel // 2
    conv = Conv2d(channels_in, channels_out, kernel, padding=padding, bias=False, **options)
    return nn.Sequential(OrderedDict(conv=conv, bn=BatchNorm2d(channels_out)))
