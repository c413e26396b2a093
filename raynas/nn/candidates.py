"""The candidates of a choice as they are given: by name or in a list, modules under valid names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from torch import nn

from raynas.core.decision import Choice
from raynas.core.errors import InvalidSpace
from raynas.core.plain_values import plain_value
from raynas.nn.mutable import Mutable

Candidates: TypeAlias = Mapping[Any, nn.Module] | nn.ModuleDict | Iterable[nn.Module]


def stored_names(names: Iterable[Any], where: str) -> list[Any]:
    """Return the names under which PyTorch stores candidates, text for each that is none.

    Raises:
        InvalidSpace: two would be stored under one name, or one under none.
    """
    stored = [name if isinstance(name, str) else _word(name, where) for name in names]
    for name in stored:
        if stored.count(name) > 1:
            raise InvalidSpace(f"{where}: two candidates would be stored as {name!r}; rename one")
    return stored


def _word(name: Any, where: str) -> str:
    try:
        (option,) = Choice("its name", (plain_value(name),)).options
    except InvalidSpace as error:
        raise InvalidSpace(f"{where}: candidate {name!r} cannot be stored: {error}") from None
    return str(option).replace(".", "_")


def by_name(candidates: Any, where: str) -> dict[Any, nn.Module]:
    """Return candidates by name; those of a list are numbered.

    Raises:
        InvalidSpace: they stand in neither a dict nor a list.
    """
    if isinstance(candidates, Mapping | nn.ModuleDict):
        return dict(candidates.items())
    if isinstance(candidates, Mutable) or (
        isinstance(candidates, nn.Module) and not isinstance(candidates, Iterable)
    ):
        raise InvalidSpace(f"{where}: candidates stand in a dict or a list, got one module")
    if isinstance(candidates, str) or not isinstance(candidates, Iterable):
        kind = type(candidates).__name__
        raise InvalidSpace(f"{where}: candidates stand in a dict or a list, got a {kind}")
    return {str(i): layer for i, layer in enumerate(candidates)}


def check_candidates(layers: Mapping[str, nn.Module], where: str) -> None:
    """Raise InvalidSpace unless there are candidates: modules under names PyTorch takes."""
    if not layers:
        raise InvalidSpace(f"{where} needs at least one candidate, got none")
    taken = nn.ModuleDict()  # an instance: names such as 'training' are no attributes of the class
    for name, layer in layers.items():
        if not isinstance(layer, nn.Module):
            kind = type(layer).__name__
            raise InvalidSpace(f"{where}: candidate {name!r} must be an nn.Module, got a {kind}")
        if not isinstance(name, str) or not name or "." in name or hasattr(taken, name):
            raise InvalidSpace(
                f"{where}: candidate name {name!r} cannot be stored by PyTorch (empty, with a dot, "
                "or the name of a module's own attribute); rename it"
            )
