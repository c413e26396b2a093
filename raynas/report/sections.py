"""The parts of the report that are text and tables, as HTML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import pandas as pd

from raynas.core.config import ComponentSpec
from raynas.core.constraints import Constraint, as_constraints
from raynas.core.train_settings import TrainSettings
from raynas.report.columns import column_texts
from raynas.report.duration import time_taken
from raynas.report.findings import ReportData, top
from raynas.report.scale import plain
from raynas.report.trial_rows import brief
from raynas.report.trial_tables import RESCORED, best_trials, number

BEST_SHOWN, ERRORS_SHOWN = 10, 20
ALWAYS = ("epochs", "batch_size", "lr", "weight_decay")  # of a training, chosen or not
DEFAULTS = TrainSettings().model_dump()
OPEN = 24  # decisions of the best architecture up to which they are not folded away
TEST = "test_"


def best_section(data: ReportData) -> str:
    """Return what was found: number, metrics, test scores, decisions; or that nothing was."""
    if data.best.empty:
        return f'<p class="none">No trial was completed ({escape(told(data)) or "none ran"}).</p>'
    (row,) = data.best.to_dict("records")
    measured = {name: row[name] for name in data.metrics if pd.notna(row[name])}
    tiles = [(plain(name).title, number(value, name)) for name, value in measured.items()]
    tiles += _test_tiles(data, row["arch_key"])
    boxes = [f"<div><dt>{escape(title)}</dt><dd>{value}</dd></div>" for title, value in tiles]
    arch = data.archs[int(data.best.index[0])]
    chips = [
        f"<li>{escape(label)} <b>{escape(data.picked(label, v))}</b></li>"
        for label, v in arch.items()
    ]
    return (
        f"<p>Best: trial {row['trial']} <code>{escape(row['arch_key'])}</code></p>"
        f'<dl class="tiles">{"".join(boxes)}</dl>'
        f"<details{' open' if len(arch) <= OPEN else ''}>"
        f"<summary>Its {len(arch)} decisions</summary>"
        f'<ul class="chips">{"".join(chips)}</ul></details>'
    )


def _test_tiles(data: ReportData, key: str) -> list[tuple[str, str]]:
    """Return the scores on test examples: with the supernet's weights, and after retraining."""
    tiles = []
    for metrics, how in ((data.tested.get(key, {}), ""), (data.retrained, ", retrained")):
        for name, value in metrics.items():
            if name.startswith(TEST) and not name.endswith("loss"):
                tiles.append((f"{plain(name).title}{how}", number(value, name)))
    return tiles


def facts_section(data: ReportData) -> str:
    """Return what was searched, how, and how long it took."""
    config = data.config
    counts = told(data)
    goals = {"max": "maximise", "min": "minimise"}
    facts = {
        "Space": _named(config.space),
        "Algorithm": _named(config.algo),
        "Data": _named(config.data) or "none",
        "Task": _named(config.task),
        "Evaluator": _named(config.evaluator),
        "Supernet": _named(config.supernet),
        "Objective": ", ".join(f"{goals[goal]} {m}" for m, goal in config.objectives.items()),
        "Constraints": ", ".join(map(_bound, as_constraints(config.constraints))),
        "Trials": f"{len(data.told)} of {config.trials}" + (f" ({counts})" if counts else ""),
        "Seed": str(config.seed),
        "Time": time_taken(data.told, data.history),
        "Versions": ", ".join(f"{name} {version}" for name, version in config.versions.items()),
    }
    items = [f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items() if v]
    return f'<dl class="facts">{"".join(items)}</dl>'


def told(data: ReportData) -> str:
    """Return how many trials there are of each status."""
    counts = data.told["status"].value_counts()
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def top_section(data: ReportData) -> str:
    """Return the best trials as a table."""
    frame = top(data, BEST_SHOWN)
    if frame.empty:
        return ""
    columns = [column_texts(frame[name].tolist(), name) for name in data.metrics]
    rows = []
    for row, (at, trial) in enumerate(zip(frame.index, frame["trial"], strict=True)):
        arch = data.archs[int(at)]
        key = f"<summary>{escape(brief(data, arch))}</summary>"
        made = escape(", ".join(data.decided(arch)))
        made = f"<code>{escape(arch.key)}</code>: {made}"
        numbers = [escape(texts[row]) for texts in columns]
        rows.append([str(trial), *numbers, f"<details>{key}{made}</details>"])
    heads = ["Trial", *(escape(plain(name).title) for name in data.metrics), "Architecture"]
    title = best_trials(len(rows))
    return f"<section><h2>{title}</h2>{html_table(title, heads, rows)}</section>"


def verified_section(data: ReportData) -> str:
    """Return what retraining the best gave, if it was done."""
    if data.verified is None:
        return ""
    records, metric = data.verified["rows"], data.verified.get("metric", "accuracy")
    scores = [
        column_texts([row[name] for row in records], metric) for name in ("cheap", "mean", "std")
    ]
    rows = [
        [
            escape(row["group"]),
            *(texts[at] for texts in scores),
            str(row["seeds"]),
            f"<code>{escape(row['arch_key'])}</code>",
        ]
        for at, row in enumerate(records)
    ]
    rescored = data.config.supernet is not None
    cheap = "Rescored" if rescored else "Search's score"
    heads = ["Group", cheap, "Alone", "± seeds", "Seeds", "Architecture"]
    lines = [*data.verified["said"].splitlines(), *([f"Rescored: {RESCORED}."] if rescored else [])]
    said = "<br>".join(map(escape, lines))
    title = "Retrained on their own"
    return f"<section><h2>{title}</h2>{html_table(title, heads, rows)}<p>{said}</p></section>"


def errors_section(data: ReportData) -> str:
    """Return the first errors, if there were any."""
    failed = data.told[data.told["status"] == "failed"]
    if failed.empty:
        return ""
    rows = [
        [str(trial), f"<code>{escape(key)}</code>", escape(error if isinstance(error, str) else "")]
        for trial, key, error in zip(
            failed["trial"], failed["arch_key"], failed["error"], strict=True
        )
    ][:ERRORS_SHOWN]
    first = f", the first {len(rows)}" if len(rows) < len(failed) else ""
    table = html_table("Errors", ["Trial", "Architecture", "Error"], rows)
    return f'<section class="errors"><h2>{len(failed)} failed{first}</h2>{table}</section>'


def html_table(name: str, heads: Iterable[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table of cells that are HTML already, in a box that scrolls on its own.

    Args:
        name: what it is called where it is read aloud.
        heads: of its columns.
        rows: its cells.
    """
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name)}">{table}</div>'


def _says(name: str, value: object) -> bool:
    """Return whether an option is worth a word: of a training's many, those that were chosen."""
    return value is not None and (name in ALWAYS or DEFAULTS.get(name, ...) != value)


def _bound(constraint: Constraint) -> str:
    """Return a constraint with its numbers as people read them.

    >>> _bound(Constraint("macs", high=40e6)), _bound(Constraint("accuracy", 0.9, 1.0))
    ('macs <= 40 M', '90.00 % <= accuracy <= 100.00 %')
    """
    name = constraint.metric
    low, high = (b if b is None else number(b, name) for b in (constraint.low, constraint.high))
    if low is None:
        return f"{name} <= {high}"
    return f"{name} >= {low}" if high is None else f"{low} <= {name} <= {high}"


def _named(named: ComponentSpec | None) -> str:
    if named is None:
        return ""
    options = {name: value for name, value in named.options.items() if _says(name, value)}
    said = [f"{n} {v if isinstance(v, str) else json.dumps(v)}" for n, v in options.items()]
    return named.name + (f" ({', '.join(said)})" if said else "")
