"""A linear layer whose features may be values."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from raynas.nn.elastic import Arguments, ChannelAxis, Elastic, checked_whole, first, largest
from raynas.nn.expression import Expression


class Linear(Elastic, nn.Linear):
    """``nn.Linear`` whose features may be values.

    Args:
        in_features: of the input.
        out_features: of the output.
        bias: whether there is one.

    Raises:
        InvalidSpace: a value is no positive whole number.
    """

    dimensions: ClassVar = {"in_features": "width", "out_features": "width"}

    def __init__(
        self, in_features: int | Expression, out_features: int | Expression, bias: bool = True
    ) -> None:
        arguments = {"in_features": in_features, "out_features": out_features}
        checked_whole("Linear", arguments)
        nn.Linear.__init__(self, largest(in_features), largest(out_features), bias)
        self.label, self.arguments = "", arguments

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, shape (..., out_features)."""
        part = self.sliced(self.now())
        return nn.functional.linear(x, part["weight"], part["bias"])

    def channel_axes(self) -> tuple[ChannelAxis, ...]:
        """Return those of weight and bias."""
        return (
            ChannelAxis("weight", 0, "out_features"),
            ChannelAxis("bias", 0, "out_features"),
            ChannelAxis("weight", 1, "in_features", reads=True),
        )

    def plain(self, arguments: Arguments) -> nn.Module:
        """Return an ``nn.Linear``."""
        return nn.Linear(**arguments, bias=self.bias is not None, device="meta")

    def sliced(self, arguments: Arguments) -> dict[str, Any]:
        """Return the first rows and columns."""
        rows, columns = arguments["out_features"], arguments["in_features"]
        return {"weight": first(self.weight, rows, columns), "bias": first(self.bias, rows)}
