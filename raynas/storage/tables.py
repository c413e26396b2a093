"""What a run leaves on disk: trials and training history, as plain Parquet folders.

Any program that reads Parquet opens ``out/trials`` and ``out/history`` as they are, while the run
goes on, after it, and after it was killed. ``docs/trials.md`` explains the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.errors import InvalidArch, StoreMismatch
from raynas.core.trial import Trial
from raynas.storage.parquet import Parts
from raynas.storage.parts_read_again import PartsReadAgain
from raynas.storage.table_schemas import (
    BASE,
    NUMBER,
    TEXT,
    UTC_TIME,
    is_choice,
    metrics_of,
    one_history_schema,
    one_trial_schema,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_trials(out: str) -> pa.Table:
    """Return all trials of a run in the order in which they were told, whoever wrote them.

    Raises:
        StoreMismatch: the folder holds something else, or lacks a part.
    """
    return _in_order(Parts(out, "trials", one_trial_schema).read())


def _in_order(table: pa.Table) -> pa.Table:
    """Return trials in the order of tells, in which a single writer has left them."""
    told = table["told_event"].to_numpy()
    return table if (told[1:] >= told[:-1]).all() else table.sort_by("told_event")


def load_trials(out: str, space: ArchSpace | None = None) -> list[Trial]:
    """Return the trials of a run as they were appended, in the order in which they were told.

    Args:
        out: the run's folder.
        space: if given, every architecture is checked to lie in it.

    Raises:
        StoreMismatch: the folder holds something else, or another space's architectures.
    """
    parts = Parts(out, "trials", one_trial_schema)
    table = _in_order(parts.read(lambda name: not is_choice(name)))  # ``arch`` says it all
    columns = {name: table[name].to_pylist() for name in BASE if BASE[name] != UTC_TIME}
    for name in ("started_utc", "finished_utc"):
        instants = table[name].cast(pa.int64()).to_pylist()
        columns[name] = [_EPOCH + timedelta(microseconds=micros) for micros in instants]
    columns["number"] = columns.pop("trial")
    del columns["arch_key"]
    columns["arch"] = [_arch(text, space, out) for text in columns["arch"]]
    kinds = metrics_of(table.schema)
    for field, kind in (("metrics", NUMBER), ("text_metrics", TEXT)):
        names = [name for name in kinds if kinds[name] == kind]
        columns[field] = _by_row(names, [table[name].to_pylist() for name in names]) or [
            {} for _ in range(table.num_rows)
        ]
    rows = zip(*columns.values(), strict=True)
    return [Trial(**dict(zip(columns, row, strict=True))) for row in rows]


def _by_row(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return what is there of each row."""
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*columns, strict=True)
    ]


def _arch(text: str, space: ArchSpace | None, out: str) -> Arch:
    arch = Arch.from_json(text)
    if space is not None:
        try:
            space.check(arch)
        except InvalidArch as error:
            raise StoreMismatch(f"{out} holds another space's trials: {error}") from error
    return arch


def history_of(out: str) -> Parts:
    """Return what reads a run's training history again and again while it is written."""
    return PartsReadAgain(out, "history", one_history_schema)


def read_history(out: str) -> pa.Table:
    """Return all rows of a run's training history, in the order in which they were appended.

    Raises:
        StoreMismatch: the folder holds something else, or lacks a part.
    """
    return Parts(out, "history", one_history_schema).read()
