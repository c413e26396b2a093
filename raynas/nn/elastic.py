"""Layers whose constructor arguments may be values: one set of weights, sliced in ``forward``.

Smaller layers take the first channels of the largest one and the centre of its kernel, as in
Once-for-All (Cai et al., 2020, arXiv:1908.09791).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.core.decision import Decision
from raynas.core.errors import InvalidSpace
from raynas.nn.expression import Expression, Leaf, evaluate, leaves_of
from raynas.nn.mutable import Memo, Mutable, merged

Arguments = dict[str, Any]


@dataclass(frozen=True)
class ChannelAxis:
    """Where the channels that an argument counts lie in a tensor of an elastic layer.

    Attributes:
        tensor: its name.
        axis: of the tensor.
        argument: that counts the channels.
        reads: whether they are those of the layer's input, and the tensor says what each is worth.
    """

    tensor: str
    axis: int
    argument: str
    reads: bool = False


class Elastic(Mutable):
    """A layer with values among its constructor's arguments.

    A subclass sets ``arguments`` first of all, makes its weights as large as any architecture
    needs them, and computes ``forward`` from ``now()``.

    Attributes:
        arguments: of the constructor, values among them.
        dimensions: what the arguments are sizes of: ``kernel``, ``width`` or ``resolution``.
    """

    holders: tuple[str, ...] = ()
    dimensions: ClassVar[Mapping[str, str]] = {}
    arguments: Arguments

    def choices(self) -> tuple[Decision, ...]:
        """Return the decisions of the values among the arguments."""
        return merged(leaf.decision() for leaf in self.leaves())

    def leaves(self) -> tuple[Leaf, ...]:
        """Return the value choices that the arguments depend on."""
        return leaves_of(self.arguments)

    def name_values(self, path: str) -> None:
        """Label unlabelled values by the arguments that they stand for."""
        for name, argument in self.arguments.items():
            unnamed = [leaf for leaf in leaves_of(argument) if leaf.label is None]
            for at, leaf in enumerate(unnamed):
                own = name if len(unnamed) == 1 else f"{name}.{at}"
                leaf.label = f"{path}.{own}".lstrip(".")

    def extra_repr(self) -> str:
        """Return the constructor's arguments, values by their labels."""
        return ", ".join(f"{name}={argument!r}" for name, argument in self.arguments.items())

    def now(self) -> Arguments:
        """Return the arguments of the active architecture.

        Raises:
            RuntimeError: no architecture is active.
        """
        if self.route is None:
            if self.leaves():
                raise RuntimeError(
                    f"{type(self).__name__} of {list(self.leaves())} has no active values: call "
                    "raynas.nn.activate(model, arch), or raynas.nn.freeze(model, arch)"
                )
            self.route = self.arguments
        now: Arguments = self.route
        return now

    def at(self, arch: Mapping[str, Value]) -> Arguments:
        """Return the arguments under an architecture."""
        return {name: evaluate(argument, arch) for name, argument in self.arguments.items()}

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let ``forward`` run with the architecture's values."""
        self.route = self.at(arch)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return a plain layer with its share of the weights."""
        arguments = self.at(arch)
        plain = self.plain(arguments)
        for name, tensor in self.sliced(arguments).items():
            whole: Tensor | None = getattr(self, name)
            if tensor is None or whole is None:
                continue
            kept = copy.deepcopy(whole, memo) if tensor is whole else tensor.detach().clone()
            if name in plain._buffers:
                plain._buffers[name] = kept
            elif isinstance(kept, nn.Parameter):
                setattr(plain, name, kept)  # all of it: what was tied stays tied
            else:
                setattr(plain, name, nn.Parameter(kept, requires_grad=whole.requires_grad))
        return plain.train(self.training)

    def channel_axes(self) -> tuple[ChannelAxis, ...]:
        """Return the axes of tensors along which channels lie that may be put in another order.

        Raises:
            LookupError: its channels have an order that matters.
        """
        raise LookupError(f"the channels of {type(self).__name__} have an order that matters")

    def plain(self, arguments: Arguments) -> nn.Module:
        """Return PyTorch's own layer with these arguments, its weights yet to be set."""
        raise TypeError(f"{type(self).__name__} must define plain()")

    def sliced(self, arguments: Arguments) -> dict[str, Any]:
        """Return by name the part of every parameter and buffer that these arguments use."""
        raise TypeError(f"{type(self).__name__} must define sliced()")


def largest(argument: Any) -> int:
    """Return the largest value of a number or an expression."""
    return int(max(argument.options())) if isinstance(argument, Expression) else int(argument)


def checked_whole(kind: str, arguments: Mapping[str, Any], least: int = 1) -> None:
    """Raise InvalidSpace unless each argument can only be a whole number of at least ``least``."""
    for name, argument in arguments.items():
        options = argument.options() if isinstance(argument, Expression) else (argument,)
        for option in options:
            if type(option) is not int or option < least:
                raise InvalidSpace(
                    f"{kind}: {name} must be a whole number of at least {least}, got {option!r} "
                    f"from {argument!r}"
                )


def first(tensor: Tensor | None, *sizes: int) -> Tensor | None:
    """Return the leading part of a tensor, the tensor itself where that is all of it."""
    if tensor is None or tuple(tensor.shape[: len(sizes)]) == sizes:
        return tensor
    return tensor[tuple(slice(size) for size in sizes)]
