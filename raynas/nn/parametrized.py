"""A layer of any kind, made for every value of its constructor's arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision
from raynas.core.errors import InvalidSpace
from raynas.nn.elastic import Arguments, Elastic
from raynas.nn.expression import assignments, leaves_of
from raynas.nn.mutable import Memo, activate_unchecked, frozen, inner_space, merged


class Parametrized(Elastic):
    """Any layer made anew for each value of its arguments; no weights are shared between them.

    Choices inside the layers are part of the space where their value is taken.

    >>> from raynas.nn import ValueChoice
    >>> drop = Parametrized(nn.Dropout, p=ValueChoice([0.1, 0.3], label="drop"))
    >>> drop.choices()
    (Choice(label='drop', options=(0.1, 0.3), opens={}),)

    Args:
        factory: class or function that builds the layer.
        arguments: its arguments by name, values among them.

    Raises:
        InvalidSpace: the factory refuses some combination, or builds no module.
    """

    holders = ("layers",)

    def __init__(self, factory: Callable[..., nn.Module], /, **arguments: Any) -> None:
        super().__init__()
        self.label, self.arguments = "", arguments
        self.layers = nn.ModuleDict()
        self._varying = [name for name, argument in arguments.items() if leaves_of(argument)]
        for arch in assignments(self.leaves()):
            made = self.at(arch)
            name = self._name(made)
            if name not in self.layers:
                self.layers[name] = _built(factory, made)

    def _name(self, arguments: Arguments) -> str:
        """Return which layer stands for these arguments: a word that PyTorch can store."""
        text = ",".join(f"{name}={arguments[name]!r}" for name in self._varying)
        return text.replace(".", "_") or "only"

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer of the active values."""
        return self.layers[self._name(self.now())](*args, **kwargs)

    def choices(self) -> tuple[Decision, ...]:
        """Return the values' decisions; a single value opens the choices inside its layers."""
        own = super().choices()
        inner = {name: inner_space(layer).choices for name, layer in self.layers.items()}
        if len(own) != 1 or not isinstance(own[0], Choice):
            return merged((*own, *(d for decisions in inner.values() for d in decisions)))
        (choice,) = own
        taken = {o: inner[self._name(self.at({choice.label: o}))] for o in choice.options}
        opens = {option: ArchSpace(inside) for option, inside in taken.items() if inside}
        return (replace(choice, opens=opens),)

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let ``forward`` run the layer of the architecture's values."""
        super().activate(arch)
        activate_unchecked(self.layers[self._name(self.now())], arch)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return a copy of the layer of these values, its own choices frozen."""
        return frozen(self.layers[self._name(self.at(arch))], arch, memo)


def _built(factory: Callable[..., nn.Module], arguments: Arguments) -> nn.Module:
    name = getattr(factory, "__name__", repr(factory))
    try:
        layer = factory(**arguments)
    except Exception as error:
        raise InvalidSpace(f"{name} cannot be made with {arguments}: {error}") from error
    if not isinstance(layer, nn.Module):
        raise InvalidSpace(f"{name} must build an nn.Module, got a {type(layer).__name__}")
    return layer
