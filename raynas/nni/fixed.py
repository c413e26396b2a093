"""Fixed architectures as NNI writes and applies them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from raynas.core.arch import Arch
from raynas.core.fixed import mapping_of
from raynas.core.plain_values import as_lists
from raynas.nn.choice import LayerChoice
from raynas.nn.inputs import InputChoice
from raynas.nn.mutable import Mutable, frozen_in_place, mutables, name_labels


def apply_fixed_architecture(model: nn.Module, fixed_arc: str | Path | Mapping[str, Any]) -> Arch:
    """Decide a model in place: what is not chosen is taken out of it.

    A chosen layer stands where its choice stood, under the choice's path in ``state_dict``. Weights
    are not copied, so that an optimizer made before goes on with those that are left.

    Differs: NNI returns its mutator, and keeps an ``InputChoice`` in the model; here a module that
    joins the chosen inputs takes its place.

    Args:
        model: with choices in it, itself none.
        fixed_arc: the path of a JSON file whatever its name, JSON text, or a mapping from key to
            choice: a name or an index; a list of names or of indices; or a list of booleans, or of
            0.0 and 1.0, one for each candidate. A ``LayerChoice`` may run several candidates, whose
            outputs it joins by its ``reduction``, or none, whose output is None.

    Returns:
        The architecture.

    Raises:
        InvalidArch: a key is missing or unexpected, or its choice is none; the message names it and
            the nearest valid one. The model is then unchanged.
        TypeError: the model itself is a choice.
        OSError: the file cannot be read.
    """
    is_path = isinstance(fixed_arc, str) and not fixed_arc.lstrip().startswith("{")
    return frozen_in_place(model, mapping_of(Path(fixed_arc) if is_path else fixed_arc))  # type: ignore[arg-type]


def fixed_architecture(model: nn.Module, arch: Mapping[str, Any]) -> dict[str, Any]:
    """Return an architecture in the form of NNI's exporter.

    Candidates are named where names differ and are not all digits, else they go by their index. A
    single one stands without brackets.

    Args:
        model: that the architecture is of.
        arch: as ``Result.best.arch`` is.
    """
    name_labels(model)
    places = {str(mutable.label): mutable for mutable in mutables(model)}
    return {label: _written(places.get(label), value) for label, value in arch.items()}


def write_fixed_architecture(
    file: str | Path, model: nn.Module, arch: Mapping[str, Any]
) -> dict[str, Any]:
    """Write an architecture as NNI does, and return what was written.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folder = Path(file).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"export: there is no folder {folder}")
    form = fixed_architecture(model, arch)
    Path(file).write_text(json.dumps(form, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return form


def _written(mutable: Mutable | None, value: Any) -> Any:
    if isinstance(mutable, LayerChoice) and mutable.picks_several:
        picked = value if _is_several(mutable, value) else (value,)
        by_index = all(name.isdigit() for name in mutable.names)
    elif isinstance(mutable, InputChoice):
        picked = value if isinstance(value, tuple) else (value,)
        by_index = False  # its options are indices where its keys are not all different
        if mutable.n_candidates == 1:
            picked = tuple(mutable.choose_from[:1] if picked else ())
    else:
        return as_lists(value)
    if by_index and all(isinstance(option, str) for option in picked):
        picked = tuple(mutable.options.index(option) for option in picked)
    return as_lists(picked[0] if len(picked) == 1 else picked)


def _is_several(choice: LayerChoice, value: Any) -> bool:
    return isinstance(value, tuple) and value not in choice.options
