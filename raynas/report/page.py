"""The report of a run: one HTML page that needs no network, now or in ten years."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from raynas.core.config import ComponentSpec
from raynas.core.constraints import Constraint, as_constraints
from raynas.core.train_settings import TrainSettings
from raynas.report.findings import ReportData, Scale, opponent, plain, top
from raynas.report.pictures import FONT, choices, decided, progress, shown, tradeoff, training
from raynas.report.relaxed import edge_scores, preferences
from raynas.report.trial_tables import RESCORED, best_trials, number

BEST_SHOWN, ERRORS_SHOWN = 10, 20
ALWAYS = ("epochs", "batch_size", "lr", "weight_decay")  # of a training, chosen or not
DEFAULTS = TrainSettings().model_dump()
OPEN = 24  # decisions of the best architecture up to which they are not folded away
_CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,  # on by default: a button that uploads the chart
    "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
}


class Picture(NamedTuple):
    """A section of the page: what stands above a figure, what below, and how it is drawn."""

    key: str
    title: str
    caption: str
    draw: Callable[[ReportData], go.Figure | None]


def write_report(data: ReportData, file: str) -> None:
    """Write the report as one HTML file."""
    with open(file, "w", encoding="utf-8") as out:
        out.write(report_page(data))


def report_page(data: ReportData) -> str:
    """Return the report as one HTML page, with plotly.js in it and no reference to a network."""
    name = escape(f"{data.config.space.name}, searched by {data.config.algo.name}")
    body = [f"<h1>{name}</h1>", _best(data), _facts(data)]
    body += [_picture(data, picture) for picture in PICTURES]
    body += [_top_table(data), _verified(data), _errors(data)]
    return _PAGE.format(
        title=name,
        style=_STYLE.replace("FONT", FONT),
        plotly=get_plotlyjs(),
        touch=_TOUCH,
        body="\n".join(filter(None, body)),
    )


def _picture(data: ReportData, picture: Picture) -> str:
    figure = picture.draw(data)
    if figure is None:
        return ""
    html = to_html(
        figure,
        config=dict(_CONFIG),
        include_plotlyjs=False,
        full_html=False,
        div_id=picture.key,
        default_height=f"{figure.layout.height}px",
    )
    objective, other = Scale(plain(data.objective.metric).name).title, opponent(data)
    title = picture.title.format(objective=objective, other=other and plain(other.metric).name)
    width = (figure.layout.meta or {}).get("min_width", 0)
    box = f'<div class="wide"><div style="min-width: {width}px">{html}</div></div>'
    return f"<section><h2>{escape(title)}</h2>\n{box}\n<p>{escape(picture.caption)}</p></section>"


PICTURES = (
    Picture(
        "tradeoff",
        "{objective} against {other}",
        "Every point is a trial. No trial is at least as good as one on the Pareto front in both "
        "directions and better in one. The star is the best by the objective alone; ties go to "
        "the lower loss.",
        tradeoff,
    ),
    Picture(
        "progress",
        "{objective} in the course of the search",
        "Trials in the order in which their results came in, failed ones counted but not drawn.",
        progress,
    ),
    Picture(
        "training",
        "Training of the supernet",
        "Loss on training examples, and the score on validation examples: of the architecture "
        "found so far or, where an algorithm learns none, the mean of a few random ones. While a "
        "single path is warmed up, the others stay at chance.",
        training,
    ),
    Picture(
        "preferences",
        "What every choice came to prefer",
        "Probability of each choice's likeliest option, epoch by epoch; the option of the last "
        "epoch stands on the right. Pale rows are undecided: their options are about as likely.",
        preferences,
    ),
    Picture(
        "edge_scores",
        "How edges were scored, and decided",
        "The score of every edge, normalised over the edges of its kind. A star is the epoch in "
        "which an edge was decided for an operation; of the others of a full node, none is kept.",
        edge_scores,
    ),
    Picture(
        "choices",
        "How the trials with each option did",
        "Plain averages: the mean objective of the trials that took an option, less the mean of "
        "all completed trials; blue is better. They show what went together in the trials that "
        "this search happened to try, not what an option causes. A number in a cell counts its "
        "trials where they are fewer than five; a blank has none.",
        choices,
    ),
)


def _best(data: ReportData) -> str:
    if data.best.empty:
        return f'<p class="none">No trial was completed ({escape(_told(data)) or "none ran"}).</p>'
    (row,) = data.best.to_dict("records")
    tiles = [
        f"<div><dt>{escape(plain(name).title)}</dt><dd>{number(row[name], name)}</dd></div>"
        for name in data.metrics
        if pd.notna(row[name])
    ]
    arch = data.archs[int(data.best.index[0])]
    chips = [
        f"<li>{escape(label)} <b>{escape(shown(v, single=label in data.single))}</b></li>"
        for label, v in arch.items()
    ]
    return (
        f"<p>Best: trial {row['trial']} <code>{escape(row['arch_key'])}</code></p>"
        f'<dl class="tiles">{"".join(tiles)}</dl>'
        f"<details{' open' if len(arch) <= OPEN else ''}>"
        f"<summary>Its {len(arch)} decisions</summary>"
        f'<ul class="chips">{"".join(chips)}</ul></details>'
    )


def _facts(data: ReportData) -> str:
    config = data.config
    told = _told(data)
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
        "Trials": f"{len(data.told)} of {config.trials}" + (f" ({told})" if told else ""),
        "Seed": str(config.seed),
        "Time": _time(data.told, data.history),
        "Versions": ", ".join(f"{name} {version}" for name, version in config.versions.items()),
    }
    items = [f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items() if v]
    return f'<dl class="facts">{"".join(items)}</dl>'


def _told(data: ReportData) -> str:
    counts = data.told["status"].value_counts()
    return ", ".join(f"{count} {status}" for status, count in counts.items())


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
    told = [f"{n} {v if isinstance(v, str) else json.dumps(v)}" for n, v in options.items()]
    return named.name + (f" ({', '.join(told)})" if told else "")


def _time(told: pd.DataFrame, history: pd.DataFrame) -> str:
    """Return when the trials ran, and how long they and the training of a supernet took.

    Nothing if the trials' times were not kept.
    """
    if told.empty or told["started_utc"].min().year < 2000:
        return ""
    begin, end = told["started_utc"].min(), told["finished_utc"].max()
    trials_s = (end - begin).total_seconds()
    when = f"trials from {begin:%Y-%m-%d %H:%M} UTC"
    if history.empty:
        return f"{when}, for {_duration(trials_s)}"
    training_s = float(history["duration_s"].sum())
    return (
        f"{_duration(training_s + trials_s)} ({_duration(training_s)} of training, "
        f"{_duration(trials_s)} of trials); {when}"
    )


def _duration(seconds: float) -> str:
    """Return a duration in the two units that matter.

    >>> _duration(41.6), _duration(3725), _duration(200_000)
    ('42 s', '1 h 2 min', '55 h 33 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = int(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _top_table(data: ReportData) -> str:
    frame = top(data, BEST_SHOWN)
    if frame.empty:
        return ""
    rows = []
    for at, row in zip(frame.index, frame.to_dict("records"), strict=True):
        arch = data.archs[int(at)]
        made = ", ".join(decided(arch, data.single))
        key = f"<summary><code>{escape(row['arch_key'])}</code></summary>"
        numbers = [number(row[name], name) for name in data.metrics]
        rows.append([str(row["trial"]), *numbers, f"<details>{key}{escape(made)}</details>"])
    heads = ["Trial", *(escape(plain(name).title) for name in data.metrics), "Architecture"]
    return f"<section><h2>{best_trials(len(rows))}</h2>{_table(heads, rows)}</section>"


def _verified(data: ReportData) -> str:
    if data.verified is None:
        return ""
    rows, metric = [], data.verified.get("metric", "accuracy")  # older releases knew no other
    for row in data.verified["rows"]:
        scores = [number(row[name], metric) for name in ("cheap", "mean", "std")]
        key = f"<code>{escape(row['arch_key'])}</code>"
        rows.append([escape(row["group"]), *scores, str(row["seeds"]), key])
    rescored = data.config.supernet is not None
    cheap = "Rescored" if rescored else "Search's score"
    heads = ["Group", cheap, "Alone", "± seeds", "Seeds", "Architecture"]
    lines = [*data.verified["said"].splitlines(), *([f"Rescored: {RESCORED}."] if rescored else [])]
    said = "<br>".join(map(escape, lines))
    return f"<section><h2>Retrained on their own</h2>{_table(heads, rows)}<p>{said}</p></section>"


def _errors(data: ReportData) -> str:
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
    table = _table(["Trial", "Architecture", "Error"], rows)
    return f'<section class="errors"><h2>{len(failed)} failed{first}</h2>{table}</section>'


def _table(heads: Iterable[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table of cells that are HTML already, in a box that scrolls on its own."""
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


_STYLE = """
:root { color-scheme: light; --ink: #1f2933; --quiet: #616e7c; --line: #e4e7eb; --best: #d9480f; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 32px 24px 64px; max-width: 1080px; background: #fff;
  color: var(--ink); font: 15px/1.5 FONT; }
h1 { margin: 0 0 4px; font-size: 26px; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 0 0 8px; font-size: 18px; }
section { margin-top: 44px; }
section > p { margin: 8px 0 0; color: var(--quiet); font-size: 13px; max-width: 76ch; }
code { font: 0.92em ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; }
dl, dd, ul { margin: 0; padding: 0; }
dt { color: var(--quiet); font-size: 13px; }
.none { color: var(--best); }
.tiles { display: flex; flex-wrap: wrap; gap: 12px 36px; margin: 12px 0; }
.tiles dd { font-size: 24px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles div:first-child dd { color: var(--best); font-weight: 600; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr));
  gap: 12px 32px; margin-top: 24px; padding: 16px 0;
  border: solid var(--line); border-width: 1px 0; }
.facts dd { overflow-wrap: anywhere; }
summary { cursor: pointer; }
.chips { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 8px; list-style: none;
  font-size: 13px; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th, td { padding: 6px 16px 6px 0; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; }
th { color: var(--quiet); font-weight: 400; font-size: 13px; }
th:last-child, td:last-child { text-align: left; white-space: normal; padding: 6px 0 6px 8px;
  min-width: 180px; overflow-wrap: anywhere; }
.errors td:last-child { min-width: 260px; }
@media (hover: none) { .modebar-container { display: none; } }
@media (max-width: 600px) {
  body { padding: 20px 14px 40px; }
  h1 { font-size: 21px; }
  .tiles { gap: 10px 24px; } .tiles dd { font-size: 20px; }
  .facts { grid-template-columns: 1fr; gap: 8px; }
}
"""

# Where a finger drags, it scrolls the page; a mouse zooms.
_TOUCH = """
if (window.matchMedia("(hover: none)").matches)
  for (const div of document.querySelectorAll(".plotly-graph-div"))
    Plotly.relayout(div, {dragmode: false});
"""

# The policy lets the page load nothing from anywhere; plotly's WebGL points compile functions.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:">
<title>{title}</title>
<style>{style}</style>
<script>{plotly}</script>
</head>
<body>
{body}
<script>{touch}</script>
</body>
</html>
"""
