"""Looking scores up in a table that somebody measured before."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, fs, parquet

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision, Subset
from raynas.core.errors import InvalidArch, nearest
from raynas.core.evaluator import EVALUATORS, RESERVED
from raynas.core.plain_values import plain_value
from raynas.core.spreadsheet_text import as_written
from raynas.storage.file_systems import opened, reaching
from raynas.storage.run_folder import absolute
from raynas.storage.table_schemas import in_json

_KEY, _ARCH, _CHOICE = "arch_key", "arch", "choice."
_LINES = csv.ParseOptions(newlines_in_values=True)  # of texts


@EVALUATORS.register("table")
class Table:
    """Looks architectures up in a Parquet or CSV file with one row for each.

    A row says which architecture it is of by a column per label (``choice.<label>`` or
    ``<label>``, empty where it is not reached), or by ``arch_key``, or by ``arch`` (canonical
    JSON). Options of several types stand as text or, as in a trial table, as JSON; an empty cell is
    the option None where there is one. All other columns of numbers are metrics; one that is empty
    or NaN in a row is left out, and fails the trial if it is an objective. An architecture that is
    isomorphic to another is found in either's row.

    Args:
        path: local file or ``pyarrow.fs`` URI; CSV if it ends in ``.csv``, else Parquet. Texts of a
            CSV file may have the apostrophe that ``raynas trials --csv`` puts before formulas.
    """

    deterministic = True

    def __init__(self, *, path: str) -> None:
        self.path = absolute(path)

    def bind(self, space: ArchSpace, objectives: Sequence[str]) -> TableLookup:
        """Return the look-up in this table.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a column is missing, two rows are of the same architecture, a row is of
                none, or no row is of this space.
        """
        table = _read(self.path)
        keys, used = _keys(table, space, self.path)
        rows: dict[str, int] = {}
        for number, key in keys:
            if rows.setdefault(key, number) != number:
                raise ValueError(
                    f"{self.path}: rows {rows[key]} and {number} (from 0) are of the same "
                    f"architecture {key}"
                )
        if not rows:
            raise ValueError(f"{self.path} has no row of an architecture of this space")
        columns = {
            name: _numbers(table[name])
            for name in table.column_names
            if name not in used and _is_metric(name, table.schema.field(name).type)
        }
        return TableLookup(self.path, space, rows, columns, tuple(objectives))


class TableLookup:
    """Finds an architecture's row by its key.

    Args:
        path: of the file, for messages.
        space: knows which architectures are isomorphic.
        rows: row number by key.
        columns: metrics by name, shape (rows,).
        objectives: metrics that must be there.
    """

    def __init__(
        self,
        path: str,
        space: ArchSpace,
        rows: dict[str, int],
        columns: dict[str, NDArray[np.float64]],
        objectives: tuple[str, ...],
    ) -> None:
        self._path, self._rows, self._columns = path, rows, columns
        self._isomorphism, self._objectives = space.isomorphism, objectives
        self.metrics = tuple(columns)

    def __call__(self, arch: Arch) -> dict[str, float]:
        """Return the metrics of an architecture.

        Raises:
            LookupError: the table has no row for it.
            ValueError: an objective is not a number there.
        """
        row = self._rows.get(arch.key)
        if row is None and self._isomorphism is not None:
            row = self._rows.get(self._isomorphism(arch).key)
        if row is None:
            raise LookupError(f"{self._path} has no row for architecture {arch.key}: {dict(arch)}")
        found = {name: float(column[row]) for name, column in self._columns.items()}
        for metric in self._objectives:
            if metric in found and not math.isfinite(found[metric]):
                raise ValueError(
                    f"{self._path}: {metric!r} is {found[metric]} in row {row} (from 0), "
                    f"architecture {arch.key}"
                )
        return {name: value for name, value in found.items() if math.isfinite(value)}


def _read(path: str) -> pa.Table:
    files, name = opened(path)
    with reaching(path):
        kind = files.get_file_info(name).type
    if kind == fs.FileType.NotFound:
        raise FileNotFoundError(f"table: there is no file {path}")
    try:
        if name.endswith(".csv"):
            with files.open_input_stream(name) as stream:
                return _as_written(csv.read_csv(stream, parse_options=_LINES))
        return parquet.read_table(name, filesystem=files)
    except pa.ArrowInvalid as error:
        kind = "CSV" if name.endswith(".csv") else "Parquet"
        raise ValueError(f"{path} cannot be read as {kind}: {error}") from error


def _as_written(table: pa.Table) -> pa.Table:
    """Return a table with the texts of which ``raynas trials --csv`` made its cells."""
    columns = [
        pa.array(map(as_written, column.to_pylist()), column.type)
        if pa.types.is_string(column.type)
        else column
        for column in table.columns
    ]
    return pa.table(columns, names=list(map(as_written, table.column_names)))


def _keys(
    table: pa.Table, space: ArchSpace, path: str
) -> tuple[Iterator[tuple[int, str]], set[str]]:
    """Return (row number, key) of every row of the space, and the columns that say so."""
    columns = set(table.column_names)
    by_label = {label: _column(label, columns) for label in space.labels}
    taken = {name for name in by_label.values() if name is not None}
    if len(taken) == len(by_label):
        return _by_labels(table, space, by_label, path), taken
    if _KEY in columns:
        return enumerate(table[_KEY].cast(pa.string()).to_pylist()), taken
    if _ARCH in columns:
        return _by_json(table[_ARCH].to_pylist(), path), taken
    missing = next(label for label, name in by_label.items() if name is None)
    hint = nearest(missing, columns)
    raise ValueError(
        f"{path} does not say which architectures its rows are of: it has neither "
        f"{_CHOICE + missing!r} nor {missing!r} for the label {missing!r}, nor {_KEY!r} nor "
        f"{_ARCH!r}; {hint}"
    )


def _column(label: str, columns: set[str]) -> str | None:
    return next((name for name in (_CHOICE + label, label) if name in columns), None)


def _by_json(texts: Sequence[Any], path: str) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(texts):
        try:
            yield number, Arch.from_json(str(text)).key
        except InvalidArch as error:
            raise ValueError(f"{path}: row {number} (from 0), {_ARCH!r}: {error}") from None


def _by_labels(
    table: pa.Table, space: ArchSpace, names: dict[str, str | None], path: str
) -> Iterator[tuple[int, str]]:
    """Yield the rows that are of the space; a table may know more than is searched."""
    decisions = [space.decisions[label] for label in names]
    nested = any(decision.opens for decision in decisions)
    values = [
        _values(decision, table[name].to_pylist(), path, str(name))
        for decision, name in zip(decisions, names.values(), strict=True)
    ]
    for number, row in enumerate(zip(*values, strict=True)):
        taken = {d.label: v for d, v in zip(decisions, row, strict=True) if v is not ABSENT}
        with suppress(InvalidArch):
            reached = space.reached(taken) if nested or len(taken) < len(decisions) else taken
            yield number, Arch({label: taken[label] for label in reached}).key


class _Absent(Enum):
    """What stands for a cell that holds no option; None may be one."""

    ABSENT = 0


ABSENT = _Absent.ABSENT
Cell: TypeAlias = Value | Literal[_Absent.ABSENT]


def _values(decision: Decision, cells: list[Any], path: str, name: str) -> list[Cell]:
    """Return a column's cells as values of a decision."""
    plain = [plain_value(cell) for cell in cells]
    known = _read_as_json(decision, plain) or {cell: _value(decision, cell) for cell in {*plain}}
    some = list(dict.fromkeys(str(cell) for cell in cells if cell not in (None, "")))[:3]
    if some and all(value is ABSENT for cell, value in known.items() if cell not in (None, "")):
        raise ValueError(
            f"{path}: column {name!r} holds no option of {decision.label!r}: expected "
            f"{list(decision.options)}, got {', '.join(some)}"
        )
    return [known[cell] for cell in plain]


def _read_as_json(decision: Decision, cells: list[Any]) -> dict[Any, Cell] | None:
    """Return what a trial table's cells of JSON stand for; None where they are none."""
    if not in_json(decision):
        return None
    known: dict[Any, Cell] = {}
    for cell in {*cells}:
        try:
            known[cell] = _none(decision) if cell in (None, "") else _parsed(decision, cell)
        except (TypeError, ValueError):
            return None
    return known if any(value is not ABSENT for value in known.values()) else None


def _parsed(decision: Decision, cell: Any) -> Value:
    """Return the value of a cell of JSON, or of a list of such; raise ValueError if it is none."""
    if isinstance(decision, Subset):
        listed = json.loads(cell) if isinstance(cell, str) else cell
        value = tuple(plain_value(json.loads(option)) for option in listed)
    else:
        value = plain_value(json.loads(cell))
    if value not in decision:
        raise ValueError(value)
    return value


def _none(decision: Decision) -> Cell:
    """Return what an empty cell stands for; where it is not reached, it is left out later."""
    return None if None in decision else ABSENT


def _value(decision: Decision, cell: Any) -> Cell:
    """Return the value of a cell that somebody wrote by hand or with another program."""
    if isinstance(cell, float) and cell.is_integer() and int(cell) in decision:
        return int(cell)  # what pandas makes of integers where some are missing
    if cell in decision:
        return cell  # type: ignore[no-any-return]
    if cell in (None, ""):
        return _none(decision)
    if not isinstance(cell, str | bool | int | float):
        return ABSENT
    if not isinstance(decision, Subset):
        by_text = {str(option): option for option in decision.options}
        if str(cell) in by_text:
            return by_text[str(cell)]
    with suppress(ValueError):
        parsed = plain_value(json.loads(str(cell)))
        if parsed in decision:
            return parsed  # type: ignore[no-any-return]
    return ABSENT


def _is_metric(name: str, kind: pa.DataType) -> bool:
    number = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    return number and name not in RESERVED and not name.startswith(_CHOICE)


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(
        zero_copy_only=False
    )
    return np.array(numbers, dtype=np.float64)
