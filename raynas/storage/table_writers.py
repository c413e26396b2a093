"""What appends to a run's tables: told trials, and epochs of training history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import pyarrow as pa

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision, Subset
from raynas.core.evaluator import shown
from raynas.core.trial import Trial
from raynas.storage.part_writer import PartWriter
from raynas.storage.rows import Rows
from raynas.storage.table_schemas import (
    BASE,
    CHOICE,
    NUMBER,
    PLAIN,
    TEXT,
    in_json,
    is_choice,
    metric_schema,
    metrics_of,
    one_history_schema,
    one_trial_schema,
    trial_schema,
)

_FIELDS = attrgetter(*({"trial": "number", "arch_key": "arch.key"}.get(n, n) for n in BASE))


class TrialStore:
    """Appends told trials to ``out/trials``.

    Args:
        out: the run's folder, a local path or a URI that ``pyarrow.fs`` knows.
        space: gives the ``choice.<label>`` columns; None leaves them out.
        metrics: names of metrics that are columns from the start; others join when first told.
        writer: a name, if several processes append to the same folder at once.

    Raises:
        StoreMismatch: the folder holds another space's trials, or something else.
    """

    def __init__(
        self, out: str, space: ArchSpace | None, metrics: Sequence[str] = (), *, writer: str = ""
    ) -> None:
        declared = trial_schema(space, metrics)
        decisions = {} if space is None else space.decisions
        self._mixed = {label: d for label, d in decisions.items() if in_json(d)}
        self._parts = PartWriter(out, "trials", one_trial_schema, declared, writer)
        self._filling = _Filling(self.schema, self._mixed)

    @property
    def schema(self) -> pa.Schema:
        """The columns of every part."""
        return self._parts.schema

    def append(self, trials: Sequence[Trial]) -> None:
        """Write trials as one part: after a kill all of them are there, or none.

        Raises:
            StoreMismatch: an architecture does not fit the columns of the store's space.
            ValueError: a metric is named like another column.
        """
        if not trials:
            return
        if self._filling.schema is not self.schema:
            self._filling = _Filling(self.schema, self._mixed)
        filling = self._filling
        metrics = dict(filling.metrics)
        for trial in trials:
            for name in trial.metrics:
                metrics.setdefault(name, NUMBER)
        for trial in trials:
            for name in trial.text_metrics:
                metrics.setdefault(name, TEXT)
        if len(metrics) > len(filling.metrics):
            choices = {field.name: field.type for field in self.schema if is_choice(field.name)}
            filling = _Filling(metric_schema(choices, metrics), self._mixed)
        self._parts.append(filling.rows(trials))


class _Filling:
    """How the columns of one schema are filled: worked out once, since parts may be small."""

    def __init__(self, schema: pa.Schema, mixed: Mapping[str, Decision]) -> None:
        self.schema = schema
        self.metrics = metrics_of(schema)
        self._names = schema.names
        self._labels = [n.removeprefix(CHOICE) for n in self._names if is_choice(n)]
        self._mixed = [mixed[label] for label in self._labels if label in mixed]

    def rows(self, trials: Sequence[Trial]) -> Rows:
        """Return trials as rows."""
        values: dict[str, Sequence[Any]] = dict(
            zip(BASE, zip(*map(_FIELDS, trials), strict=True), strict=True)
        )
        values["arch"] = [trial.arch.to_json() for trial in trials]
        values["error"] = [_printable(trial.error) for trial in trials]
        chosen = zip(*(trial.arch.at(self._labels) for trial in trials), strict=True)
        for label, column in zip(self._labels, chosen, strict=True):
            values[CHOICE + label] = column
        for decision in self._mixed:
            values[CHOICE + decision.label] = [_jsoned(decision, t.arch) for t in trials]
        for name, kind in self.metrics.items():
            value = _text_of if kind == TEXT else _number_of
            values[name] = [value(trial, name) for trial in trials]
        values["left_out"] = [_printable(self._left_out(trial)) for trial in trials]
        return Rows(self.schema, [values[name] for name in self._names])

    def _left_out(self, trial: Trial) -> str | None:
        """Return what the row does not hold; a column of numbers takes no text."""
        if not trial.text_metrics:
            return trial.left_out
        texts = trial.text_metrics.items()
        refused = [
            f"metric {name!r} is a number in other rows, got {shown(text)}"
            for name, text in texts
            if self.metrics[name] == NUMBER
        ]
        if not refused:
            return trial.left_out
        return "; ".join([*([trial.left_out] if trial.left_out else []), *refused])


def _number_of(trial: Trial, name: str) -> float | None:
    return trial.metrics.get(name)


def _text_of(trial: Trial, name: str) -> str | None:
    """Return the text; a number that comes later into a column of text is written out."""
    if name in trial.metrics:
        return repr(trial.metrics[name])
    return _printable(trial.text_metrics.get(name))


def _jsoned(decision: Decision, arch: Arch) -> str | list[str] | None:
    """Return what an architecture takes as JSON, a set as a list of such; None if it does not."""
    if decision.label not in arch:
        return None
    value = arch[decision.label]
    if isinstance(decision, Subset) and isinstance(value, tuple):
        return [_json(option) for option in value]
    return _json(value)


def _json(option: object) -> str:
    return json.dumps(option, separators=(",", ":"))


def _printable(text: str | None) -> str | None:
    """Return text that UTF-8 can hold; an error may quote a file name that it cannot."""
    return text and text.encode("utf-8", "backslashreplace").decode()


class HistoryStore:
    """Appends rows of training history to ``out/history``, one per epoch.

    Args:
        out: the run's folder, a local path or a URI that ``pyarrow.fs`` knows.
        writer: a name, if several processes append to the same folder at once.
    """

    def __init__(self, out: str, *, writer: str = "") -> None:
        self._parts = PartWriter(out, "history", one_history_schema, pa.schema({}), writer)

    def append(self, rows: Sequence[Mapping[str, float | int | str | None]]) -> None:
        """Write rows as one part; a column is int, float or str, and null where a row lacks it.

        Raises:
            StoreMismatch: a column holds numbers in one row and text in another.
        """
        names = dict.fromkeys(name for row in rows for name in row)
        schema = one_history_schema(
            ("the new rows", pa.schema({name: _number_or_text(name, row[name])}))
            for name in names
            for row in rows
            if row.get(name) is not None
        )
        columns = [[row.get(name) for row in rows] for name in schema.names]
        if len(schema):
            self._parts.append(Rows(schema, columns))

    def forget_from(self, epoch: float) -> None:
        """Take out the rows of an epoch and of those after it, which are trained again."""
        self._parts.cut("epoch", epoch)


def _number_or_text(name: str, value: object) -> pa.DataType:
    for kind in (int, float, str):
        if isinstance(value, kind):
            return PLAIN[kind]
    got = type(value).__name__
    raise ValueError(f"history column {name!r} holds numbers or text, got a {got}")
