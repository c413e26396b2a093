"""A small body whose convolutions get their weights from a hypernetwork."""

from __future__ import annotations

from torch import Tensor, nn

from raynas.nn import LayerChoice
from raynas.nn.generated_conv import GeneratedConv2d
from raynas.nn.hypernetwork import Hypernetwork


class Banks(nn.Module):
    """Six features in two banks of three: read, activate, read again; six features come out."""

    def __init__(self) -> None:
        super().__init__()
        self.acts, self.reads = nn.ModuleList(), nn.ModuleList()
        for name in ("first", "second"):
            act = LayerChoice({"tanh": nn.Tanh(), "relu": nn.ReLU()}, label=f"{name}/act")
            self.acts.append(act)
            self.reads.append(GeneratedConv2d(2, 3, 3, f"{name}/read", conditions=act.choices()))

    def forward(self, x: Tensor) -> Tensor:
        banks = list(x[:, :, None, None].chunk(2, 1))
        for act, read in zip(self.acts, self.reads, strict=True):
            banks = [banks[1], act(read(banks))]
        return sum(banks[1:], banks[0]).flatten(1).repeat(1, 2)


def emitted(*layers: nn.Module) -> nn.Module:
    """Return ``Banks`` with layers behind, in a hypernetwork, in float64."""
    body = nn.Sequential(Banks(), *layers)
    return Hypernetwork(body, growth=3, layers=(2, 1), tile=3).double()
