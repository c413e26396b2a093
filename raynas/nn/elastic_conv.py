"""A convolution with elastic channels, kernel, stride and groups."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from raynas.core.errors import InvalidSpace
from raynas.nn.elastic import Arguments, ChannelAxis, Elastic, checked_whole, first, largest
from raynas.nn.expression import Expression, assignments, evaluate, leaves_of
from raynas.nn.pointwise import conv2d

Size = int | Expression


class Conv2d(Elastic, nn.Conv2d):
    """``nn.Conv2d`` whose sizes may be values; kernels are square.

    A smaller kernel is the centre of the next larger one, times a learned matrix if
    ``kernel_transform`` is set: one matrix from each size to the next, shared by all channels, the
    identity at first (Cai et al., 2020, arXiv:1908.09791, section 3.3).

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: height and width; all odd or all even where it is a value.
        stride: of the kernel.
        padding: on every side; pass ``kernel // 2`` of the same value to keep the size.
        dilation: of the kernel.
        groups: of the channels; pass the channels' own value for a depthwise convolution.
        bias: whether there is one.
        kernel_transform: whether smaller kernels are transformed.

    Raises:
        InvalidSpace: a value is no positive whole number, channels that do not divide by their
            groups, or kernels of which one has no centre in the other.
    """

    dimensions: ClassVar = {
        "kernel_size": "kernel",
        "in_channels": "width",
        "out_channels": "width",
        "groups": "width",
    }

    def __init__(
        self,
        in_channels: Size,
        out_channels: Size,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: Size = 1,
        bias: bool = True,
        *,
        kernel_transform: bool = False,
    ) -> None:
        arguments: Arguments = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        }
        positive = {name: value for name, value in arguments.items() if name != "padding"}
        checked_whole("Conv2d", positive)
        checked_whole("Conv2d", {"padding": padding}, least=0)
        widest = _widest(in_channels, out_channels, groups)
        channels, kernel = largest(in_channels), largest(kernel_size)
        # any number of groups that gives the weight its widest second dimension will do
        nn.Conv2d.__init__(
            self, widest, largest(out_channels), kernel, bias=bias, padding=kernel // 2
        )
        self.in_channels, self.label, self.arguments = channels, "", arguments
        self.stride, self.padding, self.dilation = (
            (largest(size), largest(size)) for size in (stride, padding, dilation)
        )
        self.groups = groups if isinstance(groups, int) else self.groups
        self.kernels = _kernels(kernel_size)
        self.kernel_transform = kernel_transform
        if kernel_transform:
            for large, small in zip(self.kernels, self.kernels[1:], strict=False):
                matrix = nn.Parameter(torch.eye(small * small))
                self.register_parameter(_transform(large, small), matrix)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution, shape (batch, out_channels, height, width)."""
        now = self.now()
        part = self.sliced(now)
        return conv2d(
            x,
            part["weight"],
            part["bias"],
            now["stride"],
            now["padding"],
            now["dilation"],
            now["groups"],
        )

    def channel_axes(self) -> tuple[ChannelAxis, ...]:
        """Return those of weight and bias; of a depthwise convolution both count the outputs.

        Raises:
            LookupError: channels stand in several groups.
        """
        inputs, groups = self.arguments["in_channels"], self.arguments["groups"]
        outputs = (ChannelAxis("weight", 0, "out_channels"), ChannelAxis("bias", 0, "out_channels"))
        if groups is inputs and inputs is self.arguments["out_channels"]:
            return outputs
        if groups != 1:
            raise LookupError("the channels of a convolution in groups have an order that matters")
        return (*outputs, ChannelAxis("weight", 1, "in_channels", reads=True))

    def plain(self, arguments: Arguments) -> nn.Module:
        """Return an ``nn.Conv2d``."""
        return nn.Conv2d(**arguments, bias=self.bias is not None, device="meta")

    def sliced(self, arguments: Arguments) -> dict[str, Any]:
        """Return the first channels' weights, cut down to the kernel."""
        out = arguments["out_channels"]
        inner = arguments["in_channels"] // arguments["groups"]
        weight = first(self.weight, out, inner)
        assert weight is not None
        weight = self._cut(weight, arguments["kernel_size"])
        return {"weight": weight, "bias": first(self.bias, out)}

    def _cut(self, weight: Tensor, kernel: int) -> Tensor:
        for large, small in zip(self.kernels, self.kernels[1:], strict=False):
            if kernel >= large:
                break
            edge = (large - small) // 2
            weight = weight[:, :, edge : large - edge, edge : large - edge]
            if self.kernel_transform:
                matrix = self.get_parameter(_transform(large, small))
                weight = (weight.flatten(2) @ matrix.T).view(*weight.shape[:2], small, small)
        return weight


def _transform(large: int, small: int) -> str:
    return f"transform_{large}to{small}"


def _kernels(kernel: Size) -> tuple[int, ...]:
    sizes = sorted(kernel.options(), reverse=True) if isinstance(kernel, Expression) else [kernel]
    if len({size % 2 for size in sizes}) > 1:
        raise InvalidSpace(
            f"Conv2d: kernel sizes {sorted(sizes)} are odd and even; a smaller one must have a "
            "centre in the larger"
        )
    return tuple(sizes)


def _widest(in_channels: Size, out_channels: Size, groups: Size) -> int:
    """Return the most input channels that a group has under any architecture."""
    widest = 0
    for arch in assignments(leaves_of([in_channels, out_channels, groups])):
        inputs, outputs, parts = (evaluate(v, arch) for v in (in_channels, out_channels, groups))
        if inputs % parts or outputs % parts:
            raise InvalidSpace(
                f"Conv2d: in_channels {inputs} and out_channels {outputs} must divide by groups "
                f"{parts}"
            )
        widest = max(widest, inputs // parts)
    return widest
