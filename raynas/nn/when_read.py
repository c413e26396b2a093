"""A layer that runs only where another decision asks for what it gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from raynas.core.arch import Atom, Value
from raynas.core.decision import Decision
from raynas.nn.mutable import Memo, Mutable, activate_unchecked, frozen, inner_space


class WhenRead(Mutable):
    """Decides nothing itself: it runs its layer if a decision picks one of its readers' options.

    A skip connection may need a layer of its own, such as one that halves the resolution; where no
    architecture's decision reads it, it is neither run nor part of the frozen network. What is
    returned in its place, a zero without dimensions, must not be read.

    Args:
        layer: takes and returns a tensor.
        readers: labels of choices or sets, each with the option that reads the layer's output.
    """

    holders = ("layer",)
    decides = False

    def __init__(self, layer: nn.Module, readers: Iterable[tuple[str, Atom]]) -> None:
        super().__init__()
        self.layer, self.readers = layer, tuple(readers)

    def read(self, arch: Mapping[str, Value]) -> bool:
        """Return whether an architecture reads the output."""
        for label, option in self.readers:
            value = arch.get(label)
            if option == value or (isinstance(value, tuple) and option in value):
                return True
        return False

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, or a zero that nobody reads.

        Raises:
            RuntimeError: no architecture is active.
        """
        if self.route is None:
            raise RuntimeError(
                f"{self.label!r} does not know whether it is read: call raynas.nn.activate(model, "
                "arch), or raynas.nn.freeze(model, arch) for a plain module"
            )
        return self.layer(x) if self.route else x.new_zeros(())

    def choices(self) -> tuple[Decision, ...]:
        """Return the decisions inside of the layer, usually none."""
        return inner_space(self.layer).choices

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Run the layer from now on, or leave it out."""
        self.route = self.read(arch)
        activate_unchecked(self.layer, arch)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return the layer, or a module without weights."""
        return frozen(self.layer, arch, memo) if self.read(arch) else Unread()


class Unread(nn.Module):
    """Stands where nothing is read."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a zero without dimensions."""
        return x.new_zeros(())
