"""Architectures that a file names: predefined blocks, one operator, or a description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raynas.core.decision import Decision
from raynas.setup.resolve import build_space, resolve_space
from raynas.setup.vega.space import Space, filled_by

PREDEFINED = "MB3E6"  # of MobileNetV2, the first block aside


def named_architecture(
    space: Space, description: Any, where: str, folder: Path
) -> dict[str, Any] | None:
    """Return the architecture that a training is of; None where a search finds it.

    Args:
        space: with the constructors of the network to train.
        description: that the file has, if it has one.
        where: it stands, by key path.
        folder: of the file, to which paths are relative.

    Raises:
        ValueError: the description is not of this space.
        OSError: its file cannot be read.
    """
    from raynas.nn.construct.described import flat_list
    from raynas.nn.construct.description import parsed

    description = space.arch_desc if description is None else description
    if description is None and not space.predefined and space.operator is None:
        return None
    space.options.pop("construct", None)  # what a search makes of the backbone
    model, _ = build_space(space.name, space.options)
    decisions = model.arch_space.decisions
    if description is None:
        return {label: space.operator or PREDEFINED for label in decisions}
    if isinstance(description, str) and Path(description).suffix:
        description = folder / description
    try:
        read = flat_list(model.arch_space, parsed(description))
        if _names_first(space, read, decisions):
            return _of_slots(space, read)
        return _by_label(read, decisions, where)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(where) else f"{where}: {text}") from None


def _names_first(space: Space, given: Any, decisions: Mapping[str, Decision]) -> bool:
    """Return whether a list has an operator for the first block too, and it is to be that."""
    listed = isinstance(given, list) and len(given) == len(decisions) + 1
    return listed and not space.fix_first and given[0] is not None


def _of_slots(space: Space, given: list[Any]) -> dict[str, Any]:
    """Return the architecture, and have the space choose in every slot among its operators."""
    names = [_unwrapped(entry) for entry in given]
    space.options.pop("candidates", None)
    space.options["construct"] = filled_by([*dict.fromkeys(map(str, names))])
    labels = resolve_space(space.name, space.options, None).arch_space.labels
    return dict(zip(labels, names, strict=True))


def _unwrapped(entry: Any) -> Any:
    return entry[0] if isinstance(entry, list) and len(entry) == 1 else entry


def _by_label(given: Any, decisions: Mapping[str, Decision], where: str) -> dict[str, Any]:
    """Return choices by label, of a dict or of a list with one entry for each block.

    The first block, which is no choice here, may have an entry too.
    """
    if isinstance(given, Mapping):
        return dict(given)
    if not isinstance(given, list):
        raise ValueError(
            f"{where}: expected a list of operators, or choices by label, got {given!r}"
        )
    entries = given[1:] if len(given) == len(decisions) + 1 else given
    if len(entries) != len(decisions):
        raise ValueError(
            f"{where}: expected {len(decisions)} entries, or {len(decisions) + 1} with the first "
            f"block's, got {len(given)}"
        )
    return dict(zip(decisions, map(_unwrapped, entries), strict=True))
