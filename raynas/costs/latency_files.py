"""Latency tables as files: entries, and the columns that they are kept in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import pandas as pd
import pyarrow as pa

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision
from raynas.core.digests import check_digest
from raynas.core.errors import nearest
from raynas.core.plain_values import plain_value
from raynas.core.spreadsheet_text import as_written, inert, quoting

ANY = "*"
COLUMNS = ("layer", "candidate", "latency_ms")
LONGEST = 200  # characters of a file's columns that are shown
FBNET_COLUMNS = ("layer", "block_idx", "latency_us")


@dataclass(frozen=True)
class Entry:
    """A row of a latency table.

    Attributes:
        layer: label of a decision, or several that must all agree; none for the fixed part.
        candidate: for each label its value, or what it holds if it is a set; ``*`` for any value.
        latency_ms: that is due whenever an architecture picks it.
    """

    layer: tuple[str, ...]
    candidate: tuple[Value, ...]
    latency_ms: float

    def __str__(self) -> str:
        return f"layer {_text(self.layer)!r}, candidate {_text(self.candidate)!r}"


def write_entries(entries: Iterable[Entry], path: str | Path) -> None:
    """Write entries to a Parquet, CSV or JSON file, by the path's ending.

    In a CSV file an apostrophe stands before texts that a spreadsheet would run as formulas.
    """
    entries = tuple(entries)
    rows = [(_text(e.layer), _text(e.candidate), e.latency_ms) for e in entries]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    ending = _ending(path)
    if ending == ".parquet":
        frame.to_parquet(path, index=False)
    elif ending == ".csv":
        named = [(inert(layer), inert(candidate), ms) for layer, candidate, ms in rows]
        how = quoting(cell for row in named for cell in row)
        frame = pd.DataFrame(named, columns=list(COLUMNS))
        frame.to_csv(path, index=False, quoting=how)  # type: ignore[call-overload]
    else:
        Path(path).write_text(to_json(entries), encoding="utf-8")


def to_json(entries: Iterable[Entry]) -> str:
    """Return entries as a JSON file holds them."""
    rows = [(_text(e.layer), _text(e.candidate), e.latency_ms) for e in entries]
    return json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows], indent=1)


def from_json(text: str, space: ArchSpace) -> list[Entry]:
    """Read what ``to_json`` wrote.

    Raises:
        ValueError: labels or options that the space does not have.
    """
    try:
        rows = [[row[name] for name in COLUMNS] for row in json.loads(text)]
        return [_read(layer, candidate, ms, space) for layer, candidate, ms in rows]
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"expected a list of entries, each with {', '.join(COLUMNS)}") from error


def read_entries(
    path: str | Path, space: ArchSpace, layers: Mapping[int, str] | None = None
) -> list[Entry]:
    """Read a file of our columns, or of those of FBNet's look-up tables.

    Args:
        path: of the file, which ends in ``.parquet``, ``.csv`` or ``.json``.
        space: of the architectures.
        layers: of an FBNet table, the decision's label by layer; None takes the space's choices in
            their order.

    Raises:
        ValueError: other columns, or labels or options that the space does not have.
    """
    try:
        check_digest(Path(path))
        frame = _frame(path)
    except (pa.ArrowException, RecursionError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a table of latencies: {text}") from error
    if set(FBNET_COLUMNS) <= set(frame.columns):
        return _fbnet_entries(frame, space, layers, str(path))
    if not set(COLUMNS) <= set(frame.columns):
        raise ValueError(
            f"{path}: expected columns {', '.join(COLUMNS)} (or {', '.join(FBNET_COLUMNS)}), got "
            f"{shorten(', '.join(map(str, frame.columns)), LONGEST, placeholder=' ...')}"
        )
    columns = (frame[name].tolist() for name in COLUMNS)
    try:
        rows = list(zip(*columns, strict=True))
        return [_read(layer, candidate, ms, space) for layer, candidate, ms in rows]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _ending(path: str | Path) -> str:
    ending = Path(path).suffix
    if ending not in (".parquet", ".csv", ".json"):
        raise ValueError(f"{path}: expected a name that ends in .parquet, .csv or .json")
    return ending


def _frame(path: str | Path) -> pd.DataFrame:
    ending = _ending(path)
    if ending == ".parquet":
        return pd.read_parquet(path)
    try:
        if ending == ".csv":
            names = {"layer": str, "candidate": str}
            frame = pd.read_csv(path, keep_default_na=False, dtype=names)
            return frame.assign(**{n: frame[n].map(as_written) for n in names if n in frame})
        return pd.DataFrame(json.loads(Path(path).read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: expected a list of entries: {error}") from None


def _fbnet_entries(
    frame: pd.DataFrame, space: ArchSpace, layers: Mapping[int, str] | None, where: str
) -> list[Entry]:
    numbers = sorted({int(number) for number in frame["layer"]})
    choices = [label for label, d in space.decisions.items() if isinstance(d, Choice)]
    if layers is None:
        if len(numbers) != len(choices):
            raise ValueError(
                f"{where} has {len(numbers)} layers, but the space has {len(choices)} choices: "
                "pass layers=, the label of each"
            )
        layers = dict(zip(numbers, choices, strict=True))
    if missing := [number for number in numbers if number not in layers]:
        raise ValueError(f"{where}: layers= has no label for layer {missing[0]}")
    entries = []
    for number, at, us in frame[list(FBNET_COLUMNS)].itertuples(index=False):
        label = layers[int(number)]
        decision = known_decision(label, space)
        if not 0 <= int(at) < len(decision.options):
            raise ValueError(
                f"{where}: layer {number} has a block_idx {at}, but {label!r} has only "
                f"{len(decision.options)} options"
            )
        entries.append(Entry((label,), (decision.options[int(at)],), float(us) / 1e3))
    return entries


def _read(layer: Any, candidate: Any, ms: Any, space: ArchSpace) -> Entry:
    labels = [str(label) for label in _listed(layer, space)]
    names = _listed(candidate, None)
    if len(labels) == 1 and len(names) != 1:
        names = [candidate]
    if len(labels) != len(names):
        raise ValueError(f"layer {layer!r} and candidate {candidate!r} are not of one length")
    values = (
        _value(name, known_decision(label, space))
        for label, name in zip(labels, names, strict=True)
    )
    return Entry(tuple(labels), tuple(values), float(ms))


def _listed(text: Any, space: ArchSpace | None) -> list[Any]:
    """Return what a cell names: nothing, one thing, or the members of a JSON list."""
    if text is None or text == "" or text != text:  # NaN, as pandas reads an empty cell
        return []
    if (
        isinstance(text, str)
        and text.startswith("[")
        and not (space is not None and text in space.decisions)
    ):
        try:
            listed = json.loads(text)
        except ValueError:
            return [text]
        return list(map(plain_value, listed))
    return [text]


def _value(name: Any, decision: Decision) -> Value:
    """Return the option of this name, which a file may hold as a text."""
    value: Value = name
    if name not in decision.options:
        value = {str(option): option for option in decision.options}.get(str(name), name)
    return value


def known_decision(label: str, space: ArchSpace) -> Decision:
    """Return the decision of a label; raise ValueError, with the nearest label, if none has it."""
    if label not in space.decisions:
        raise ValueError(f"layer {label!r} is no decision; {nearest(str(label), space.decisions)}")
    return space.decisions[label]


def _text(cell: tuple[Value, ...]) -> str:
    if not cell:
        return ""
    single = len(cell) == 1 and cell[0] is not None and not isinstance(cell[0], tuple)
    return str(cell[0]) if single else json.dumps(cell)
