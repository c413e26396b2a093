"""Fixed architectures: the forms in which one may be written down, and how each is read.

A description maps labels to choices. A choice is the value itself (a candidate's name), its index,
a list of values, a list of indices, or a list of booleans, or of 0.0 and 1.0, one for each option.
A list is of one form: values and indices are not mixed, and where booleans are options, they are
values. Where lists are options themselves, a list that is an option is this one. A single one of
several needs no brackets. Where the options are 0, 1, ... themselves, digits are one of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from raynas.core.arch import Arch, Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset, Subspace
from raynas.core.digests import check_digest
from raynas.core.errors import InvalidArch, nearest
from raynas.core.plain_values import plain_value

Description: TypeAlias = Mapping[str, Any] | str | Path
EXPECTED = "a mapping from label to choice, its JSON text, or the path of a .json file"


def read_arch(space: ArchSpace, description: Description) -> Arch:
    """Return the architecture of ``space`` that a description stands for.

    >>> space = ArchSpace.of(op=["conv3", "conv5", "skip"], depth=[2, 3, 4])
    >>> read_arch(space, {"op": [False, True, False], "depth": 3})
    Arch({'op': 'conv5', 'depth': 3})
    >>> read_arch(space, '{"op": 2, "depth": [0]}')
    Arch({'op': 'skip', 'depth': 2})

    An integer that is an option is this option; any other is an index.

    Args:
        space: that holds it.
        description: from label to choice; a text is JSON, or a path if it ends in ``.json``.

    Raises:
        InvalidArch: a label is unknown, missing or not reached, or its choice is none; the message
            names the label, what was expected and what came.
        OSError: the file cannot be read.
    """
    if isinstance(description, Arch):
        space.check(description)
        return description
    given = mapping_of(description)
    for label in given:
        if not isinstance(label, str):
            raise InvalidArch(f"a label is a string, got {label!r}")
        if label not in space.decisions:
            raise InvalidArch(
                f"no decision is labelled {label!r}; {nearest(label, space.decisions)}"
            )
    taken: dict[str, Value] = {}
    _fill(space, given, taken)
    for label in given:
        if label not in taken:
            raise InvalidArch(f"{label!r} is decided but not reached by the other values")
    return Arch(taken)


def write_arch(arch: Mapping[str, Value]) -> str:
    """Return an architecture as JSON of values by label, one a line, for ``read_arch``.

    >>> print(write_arch({"op": "conv3", "from": ("s0", "n1")}), end="")
    {
      "op": "conv3",
      "from": ["s0", "n1"]
    }
    """
    lines = (f"  {json.dumps(label)}: {json.dumps(value)}" for label, value in arch.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def mapping_of(description: object) -> Mapping[str, Any]:
    """Return a description as a mapping, read from text or a file where it is none.

    Raises:
        InvalidArch: it is none of these.
        OSError: the file cannot be read.
    """
    if isinstance(description, Mapping):
        return description
    if isinstance(description, Path) or (
        isinstance(description, str) and description.endswith(".json")
    ):
        return _parsed(_text_of(Path(description)), str(description))
    if isinstance(description, str):
        return _parsed(description, f"the text {_short(description)}")
    raise InvalidArch(f"expected {EXPECTED}, got a {type(description).__name__}")


def _text_of(file: Path) -> str:
    try:
        check_digest(file)
    except ValueError as error:
        raise InvalidArch(str(error)) from None
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {file}") from None
    except ValueError as error:  # no UTF-8, or no path
        raise InvalidArch(f"expected {EXPECTED}; {str(file)!r} is none: {error}") from None


def _parsed(text: str, where: str) -> Mapping[str, Any]:
    try:
        found: object = json.loads(text, object_pairs_hook=_without_repetition)
    except InvalidArch as error:
        raise InvalidArch(f"{where}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidArch(f"expected {EXPECTED}; {where} is none: {error}") from None
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise InvalidArch(f"{where}: expected a JSON object from label to choice, got a {kind}")
    return found


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for label, choice in pairs:
        if label in found:
            raise InvalidArch(f"{label!r} stands twice")
        found[label] = choice
    return found


def _fill(space: Subspace, given: Mapping[str, Any], taken: dict[str, Value]) -> None:
    for decision in space.choices:
        label = decision.label
        if label not in taken:
            if label not in given:
                raise InvalidArch(f"{label!r} is not decided; expected {_domain(decision)}")
            taken[label] = _value(decision, given[label])
        for opened in decision.opened(taken[label]):
            _fill(opened, given, taken)


def without_numpy(came: object) -> object:
    """Return NumPy's numbers and arrays as Python's; all else comes back as it is."""
    if isinstance(came, np.generic | np.ndarray):
        return came.tolist()
    if type(came) is list:
        return [without_numpy(entry) for entry in came]
    if type(came) is tuple:
        return tuple(map(without_numpy, came))
    return came


def _value(decision: Decision, came: object) -> Value:
    came = _as_booleans(decision, without_numpy(came))
    if isinstance(decision, Choice):
        return decision.options[_single(decision, came)]
    one = Choice(decision.label, decision.options)
    if _without_brackets(decision, one, came):  # as NNI writes a single one
        places = [_place(decision, one, came, came)]
    elif isinstance(came, list | tuple):
        places = _several(decision, one, came)
    else:
        raise _wrong(decision, came)
    if repeated := sorted({at for at in places if places.count(at) > 1}):
        raise _wrong(decision, came, f"it has {decision.options[repeated[0]]!r} twice")
    if decision.k is not None and len(places) != decision.k:
        raise _wrong(decision, came, f"it has {len(places)} of them")
    return tuple(decision.options[at] for at in sorted(places))


def _as_booleans(decision: Decision, came: object) -> object:
    """Return a list of 0.0 and 1.0 as booleans, where no option is a float."""
    listed = isinstance(came, list | tuple) and bool(came)
    if not listed or any(type(entry) is not float for entry in came):  # type: ignore[attr-defined]
        return came
    if any(type(option) is float or isinstance(option, tuple) for option in decision.options):
        return came
    floats: Sequence[float] = came  # type: ignore[assignment]
    if not {0.0, 1.0}.issuperset(floats):
        why = "weights decide nothing: 1.0 stands for what is picked, 0.0 for all else"
        raise _wrong(decision, came, why)
    return [entry == 1.0 for entry in floats]


def _without_brackets(subset: Subset, one: Choice, came: object) -> bool:
    if subset.k == 1:
        return not _lists_one(one, came)
    return subset.k is None and not isinstance(came, list | tuple)


def _lists_one(one: Choice, came: object) -> bool:
    """Return whether a list holds what is picked, and is not picked itself."""
    if not isinstance(came, list | tuple):
        return False
    return not _is_option(one, came) or (len(came) == 1 and _is_option(one, came[0]))


def _single(choice: Choice, came: object) -> int:
    """Return the position of one choice in one of its five forms."""
    if not isinstance(came, list | tuple) or _is_option(choice, came):
        return _place(choice, choice, came, came)
    if len(came) == 1 and _is_option(choice, came[0]):
        return choice.index(plain_value(came[0]))
    if came and all(isinstance(entry, bool) for entry in came):
        picked = _multi_hot(choice, came)
        if len(picked) != 1:
            raise _wrong(choice, came, f"{len(picked)} of its booleans are true")
        return picked[0]
    if len(came) != 1:
        raise _wrong(choice, came, f"it has {len(came)} entries")
    return _place(choice, choice, came[0], came)


def _several(subset: Subset, one: Choice, came: Sequence[Any]) -> list[int]:
    """Return the positions of several choices, in the order in which they came."""
    known = [_is_option(one, entry) for entry in came]
    booleans = bool(came) and all(isinstance(entry, bool) for entry in came)
    if booleans and not any(isinstance(option, bool) for option in subset.options):
        return _multi_hot(subset, came)
    if any(known) and not all(known):
        stranger = came[known.index(False)]
        if type(stranger) is int:
            raise _wrong(subset, came, "it mixes values and indices")
    return [_place(subset, one, entry, came) for entry in came]


def _place(decision: Decision, one: Choice, entry: Any, came: object) -> int:
    """Return the position of a value, or of an index, in the options."""
    if _is_option(one, entry):
        return one.index(plain_value(entry))
    last = len(one.options) - 1
    if isinstance(entry, str) and _are_indices(one.options):
        if entry.isdecimal():
            entry = int(entry)
        elif not entry and last == 0:  # as NNI writes an only input that has no key
            return 0
    if type(entry) is int:
        if not 0 <= entry <= last:
            raise _wrong(decision, came, f"index {entry} is not in 0 to {last}")
        return entry
    if isinstance(entry, str):
        hint = nearest(entry, one.options)
        raise _wrong(decision, came, f"{entry!r} is no option; {hint}")
    raise _wrong(decision, came, f"a {type(entry).__name__} is no option and no index")


def _are_indices(options: Sequence[Atom]) -> bool:
    return all(type(option) is int and option == at for at, option in enumerate(options))


def _is_option(one: Choice, entry: object) -> bool:
    return plain_value(entry) in one


def _multi_hot(decision: Decision, came: Sequence[bool]) -> list[int]:
    if len(came) != len(decision.options):
        wanted = f"expected {len(decision.options)} booleans, one for each option"
        raise _wrong(decision, came, f"it has {len(came)} booleans, {wanted}")
    return [at for at, picked in enumerate(came) if picked]


def _wrong(decision: Decision, came: object, why: str = "") -> InvalidArch:
    told = f"{decision.label!r} is {_short(came)}: expected {_domain(decision)}"
    return InvalidArch(f"{told}; {why}" if why else told)


def _domain(decision: Decision) -> str:
    options: list[Atom] = list(decision.options)
    if isinstance(decision, Choice):
        return f"one of {options}"
    return f"a list of {'any' if decision.k is None else decision.k} of {options}"


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 200 else f"{text[:200]}..."


def agreed(parts: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    """Return all decisions in one.

    Raises:
        InvalidArch: two parts decide one label differently.
    """
    found: dict[str, Value] = {}
    for part in parts:
        for label, value in part.items():
            if found.setdefault(label, value) != value:
                raise InvalidArch(
                    f"{label!r} is decided twice, as {found[label]!r} and as {value!r}; places of "
                    "one label decide together"
                )
    return found
