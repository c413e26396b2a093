"""What candidates without names are: their classes, told from the supernet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch import nn

from raynas.nn.choice import LayerChoice

PRINTED = 24  # characters of a printed module up to which it may be a name


def option_names(supernet: nn.Module) -> dict[str, list[str]]:
    """Return, by label, what each candidate of a list is.

    That is its class, as it is printed where several are of one class, and with its position where
    even that is not clear or too long.

    Args:
        supernet: with its choices.
    """
    return {
        str(choice.label): names_of(choice.layers())
        for choice in supernet.modules()
        if isinstance(choice, LayerChoice) and choice.options == (*range(len(choice.options)),)
    }


def names_of(layers: Sequence[nn.Module]) -> list[str]:
    """Return a name for each layer, no two alike.

    >>> names_of([nn.SiLU(), nn.ReLU()]), names_of([nn.Identity(), nn.Linear(2, 3, bias=False)] * 2)
    (['SiLU', 'ReLU'], ['Identity 0', 'Linear 1', 'Identity 2', 'Linear 3'])
    """
    classes = [type(layer).__name__ for layer in layers]
    printed = [" ".join(repr(layer).split()) for layer in layers]
    names = []
    for at, (name, text) in enumerate(zip(classes, printed, strict=True)):
        if Counter(classes)[name] == 1:
            names.append(name)
        elif Counter(printed)[text] == 1 and len(text) <= PRINTED:
            names.append(text)
        else:
            names.append(f"{name} {at}")
    return names
