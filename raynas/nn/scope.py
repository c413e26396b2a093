"""A named part of a model: labels below it begin with its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from raynas.nn.choice import one_label
from raynas.nn.labels import Labelled, name_labels

Callback = Callable[["MutableScope"], None]


class MutableScope(Labelled):
    """A sub-space of a model; no decision itself, and nestable.

    Subclass it, or hold modules in it. Mutables below it that are not labelled take labels that
    begin with the scope's, so that two scopes of one label decide together.

    Args:
        label: of the scope; None takes the module's path in the model.
        key: another word for ``label``; a number is taken as text, after a warning.
    """

    is_scope = True

    def __init__(self, label: str | None = None, *, key: str | int | None = None) -> None:
        super().__init__()
        self.label = one_label("MutableScope", label, key)


def scopes(model: nn.Module) -> Iterator[MutableScope]:
    """Yield the scopes of a model, outer ones first."""
    name_labels(model)
    for module in model.modules():
        if isinstance(module, MutableScope):
            yield module


@contextmanager
def watch_scopes(model: nn.Module, entered: Callback, left: Callback) -> Iterator[None]:
    """Call back whenever a forward pass enters and leaves a scope, also by an exception."""
    with ExitStack() as hooks:
        for scope in scopes(model):
            before = scope.register_forward_pre_hook(lambda module, _: entered(module))
            hooks.callback(before.remove)
            after = scope.register_forward_hook(lambda module, *_: left(module), always_call=True)
            hooks.callback(after.remove)
        yield
