"""Where constructors are registered, and how several of them are applied in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from raynas.core.registry import Registry

Constructor = Callable[..., nn.Module]
"""Called with a model, and keyword options; returns a new model, the given one stays as it is."""

CONSTRUCTORS: Registry[Constructor] = Registry(
    "constructor", "raynas.nn.construct", group="raynas.constructors"
)


@dataclass(frozen=True)
class Configured:
    """A registered constructor with its options.

    Attributes:
        name: its true name.
        options: of its own.
    """

    name: str
    options: dict[str, Any]

    def __call__(self, model: nn.Module) -> nn.Module:
        """Return what it makes of a model."""
        made: nn.Module = CONSTRUCTORS.build([self.name, self.options], model)
        return made


def construct(model: nn.Module, specs: Any) -> nn.Module:
    """Return what a chain of constructors makes of a model, which itself stays as it is.

    >>> from raynas.nn.slot import Slot
    >>> template = nn.Sequential(Slot(3, 8, 2), Slot(8))
    >>> net = construct(template, [("op", {"op": "NC3"}), lambda model: model.eval()])
    >>> [type(layer).__name__ for layer in net], net.training, template[0].empty
    (['Slot', 'Slot'], False, True)

    Args:
        model: a template or a supernet.
        specs: in order, in a list or as the values of a dict; each a registered name, ``(name,
            {option: value})``, ``{"type": name, "args": {...}}``, or a function from model to
            model. One alone needs no list.

    Raises:
        UnknownName: no constructor has the name.
        TypeError: a spec is none of these, or a function returns no module.
        ValueError: an option that a constructor does not have, or of another type.
    """
    for at, spec in enumerate(listed(specs)):
        model = spec(model) if callable(spec) else CONSTRUCTORS.build(spec, model)
        if not isinstance(model, nn.Module):
            kind = type(model).__name__
            raise TypeError(f"constructor {at} ({spec!r}) must return an nn.Module, got a {kind}")
    return model


def listed(specs: Any) -> list[Any]:
    """Return the constructors of a chain in order, of which one alone needs no list.

    >>> listed("mixed_op"), listed(("op", {"op": "NC3"})), listed({"first": "op", "then": "tag"})
    (['mixed_op'], [('op', {'op': 'NC3'})], ['op', 'tag'])

    Raises:
        TypeError: they are neither a list, nor a dict, nor a constructor.
    """
    if isinstance(specs, Mapping) and not {"type"} <= set(specs) <= {"type", "args"}:
        return list(specs.values())  # by names of one's own, as configurations have them
    pair = isinstance(specs, list | tuple) and len(specs) == 2 and isinstance(specs[0], str)
    if (
        isinstance(specs, str | Mapping)
        or callable(specs)
        or (pair and isinstance(specs[1], Mapping) and "type" not in specs[1])
    ):
        return [specs]
    if not isinstance(specs, Iterable):
        raise TypeError(
            "expected a constructor or a list of them, such as [('mixed_op', {'candidates': "
            f"['MB3E3', 'MB3E6']}})], got {specs!r}"
        )
    return list(specs)


def built_from(factory: Callable[[], nn.Module], specs: Any) -> nn.Module:
    """Return what a chain of constructors makes of a factory's model (see ``construct``)."""
    return construct(factory(), specs)
