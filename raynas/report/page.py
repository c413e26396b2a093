"""The report of a run: one HTML page that needs no network, now or in ten years."""

from __future__ import annotations

import json
from html import escape

import plotly.graph_objects as go

from raynas.report.final_section import final_section
from raynas.report.findings import ReportData, opponent
from raynas.report.packed import packed, packed_plotly
from raynas.report.page_pictures import PICTURES, Picture, drawn_pictures
from raynas.report.page_script import SCRIPT
from raynas.report.page_style import STYLE
from raynas.report.scale import Scale, plain
from raynas.report.sections import (
    best_section,
    errors_section,
    facts_section,
    top_section,
    verified_section,
)
from raynas.report.trial_rows import trial_rows


def write_report(data: ReportData, file: str) -> None:
    """Write the report as one HTML file."""
    with open(file, "w", encoding="utf-8") as out:
        out.write(report_page(data))


def report_page(data: ReportData, *, refresh_s: float | None = None) -> str:
    """Return the report as one HTML page, with plotly.js in it and no reference to a network.

    Args:
        data: of the run.
        refresh_s: seconds after which the page loads itself again; None never does.
    """
    name = escape(f"{data.config.space.name}, searched by {data.config.algo.name}")
    figures = drawn_pictures(data)
    body = [f"<h1>{name}</h1>", best_section(data), facts_section(data)]
    body += [_picture(data, p, figures[p.key]) for p in PICTURES if p.key in figures]
    body += [top_section(data), final_section(data), verified_section(data), errors_section(data)]
    trials = None if data.told.empty else trial_rows(data)
    body.append(_TRIALS if trials else "")
    return _page(name, body, figures, trials, refresh_s)


def figure_page(figure: go.Figure, name: str) -> str:
    """Return one figure as a page that opens offline.

    Args:
        figure: to show.
        name: of the picture.
    """
    title = escape(name.replace("_", " ").capitalize())
    section = f"<section><h2>{title}</h2>{_box(name, title, figure)}</section>"
    return _page(title, [section], {name: figure}, None, None)


def _page(
    title: str,
    body: list[str],
    figures: dict[str, go.Figure],
    trials: dict[str, object] | None,
    refresh_s: float | None,
) -> str:
    drawn = {key: json.loads(str(figure.to_json())) for key, figure in figures.items()}
    data = json.dumps({"figures": drawn, "trials": trials}, separators=(",", ":"))
    refresh = "" if refresh_s is None else f'\n<meta http-equiv="refresh" content="{refresh_s:g}">'
    return _PAGE.format(
        title=title,
        refresh=refresh,
        style=STYLE,
        body="\n".join(filter(None, body)),
        data=packed(data),
        plotly=packed_plotly(),
        script=SCRIPT,
    )


def _picture(data: ReportData, picture: Picture, figure: go.Figure) -> str:
    metric = data.objective.metric
    objective, other = Scale(plain(metric).name).title, opponent(data, metric)
    title = picture.title.format(objective=objective, other=other and plain(other.metric).name)
    box = _box(picture.key, escape(title), figure)
    return f"<section><h2>{escape(title)}</h2>\n{box}\n<p>{escape(picture.caption)}</p></section>"


def _box(key: str, title: str, figure: go.Figure) -> str:
    """Return the place of a figure, of its height, so that nothing moves when it is drawn.

    Args:
        key: its id.
        title: as HTML, told where a picture cannot be seen.
        figure: that will be drawn there.
    """
    width = (figure.layout.meta or {}).get("min_width", 0)
    return (
        f'<div class="wide"><div id="{key}" role="img" aria-label="{title}" '
        f'style="min-width: {width}px; height: {figure.layout.height}px"></div></div>'
    )


_TRIALS = """<section id="trials"><h2>All trials</h2>
<div class="filter"><label>Filter <input type="search" \
placeholder="words, or macs&lt;1e6 accuracy&gt;0.9"></label><span role="status"></span></div>
<div class="wide tall" tabindex="0" role="region" aria-label="All trials">\
<table><thead></thead><tbody></tbody></table></div>
<p>The best first; a click on a head sorts. A filter of several words and comparisons keeps the \
trials that meet all of them.</p></section>"""

# The policy lets the page load nothing from anywhere; plotly's WebGL points compile functions.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">{refresh}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<p id="old" class="none" hidden>Pictures and the table of trials need a browser of 2023 or later \
(DecompressionStream).</p>
<noscript><p class="none">Pictures and the table of trials need JavaScript.</p></noscript>
<script type="text/plain" id="data">{data}</script>
<script type="text/plain" id="plotly">{plotly}</script>
<script>{script}</script>
</body>
</html>
"""
