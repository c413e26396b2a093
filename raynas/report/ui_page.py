"""The page of ``raynas ui``: a list of runs, their curves and fronts, links to their reports."""

from __future__ import annotations

from raynas.report.page_script import DRAW
from raynas.report.page_style import STYLE

_STYLE = """
table td:nth-child(2), table th:nth-child(2) { text-align: left; }
td.state-open { color: #0b6b3a; } td.state-broken { color: var(--best); }
#note { color: var(--quiet); font-size: 13px; }
a { color: #2b5c8f; }
"""

SCRIPT = """
const COLUMNS = [["name", "Run"], ["state", "State"], ["trials", "Trials"], ["best", "Best"],
  ["metric", "Metric"], ["algo", "Algorithm"], ["space", "Space"], ["updated_utc", "Updated"]];
const picked = new Set(), every = Number(document.body.dataset.every) * 1000;
let first = true, drawn = "";

function best(run) {
  if (run.best === null) return "-";
  const share = run.metric.endsWith("accuracy") && run.best >= 0 && run.best <= 1;
  return share ? (100 * run.best).toFixed(2) + " %" : String(Number(run.best.toPrecision(4)));
}

function told(run) {
  if (run.state === "broken") return "-";
  const failed = run.failed ? " (" + run.failed + " failed)" : "";
  return run.told + " / " + run.planned + failed;
}

function rowOf(run) {
  const row = document.createElement("tr"), box = document.createElement("input");
  box.type = "checkbox";
  box.checked = picked.has(run.name);
  box.disabled = run.state === "broken";
  box.setAttribute("aria-label", "compare " + run.name);
  box.addEventListener("change", () => {
    if (box.checked) picked.add(run.name); else picked.delete(run.name);
    compare();
  });
  row.insertCell().append(box);
  const texts = {...run, best: best(run), trials: told(run)};
  for (const [key] of COLUMNS) {
    const cell = row.insertCell();
    if (key === "name" && run.state !== "broken") {
      const link = document.createElement("a");
      link.href = "/report?run=" + encodeURIComponent(run.name);
      link.textContent = run.name;
      cell.append(link);
    } else cell.textContent = texts[key] === null ? "-" : texts[key];
    if (key === "state") cell.className = "state-" + run.state;
  }
  if (run.error) row.lastChild.textContent = run.error;
  return row;
}

async function refresh() {
  const answer = await fetch("/api/runs");
  const {runs, root} = await answer.json();
  document.getElementById("root").textContent = root;
  if (first) for (const run of runs.slice(0, 8)) if (run.best !== null) picked.add(run.name);
  first = false;
  const focus = document.activeElement && document.activeElement.getAttribute("aria-label");
  const body = document.querySelector("tbody");
  body.replaceChildren(...runs.map(rowOf));
  if (focus) for (const box of body.querySelectorAll("input"))
    if (box.getAttribute("aria-label") === focus) box.focus();
  document.getElementById("none").hidden = runs.length > 0;
  const news = JSON.stringify(runs);
  if (news !== drawn) { drawn = news; await compare(); }
}

async function compare() {
  const query = new URLSearchParams([...picked].map(name => ["run", name]));
  const answer = await fetch("/api/compare?" + query);
  const {figures, note} = await answer.json();
  document.getElementById("note").textContent = note;
  for (const id of ["history", "front"]) {
    const place = document.getElementById(id);
    place.closest("section").hidden = !figures[id];
    if (figures[id]) await draw(id, figures[id]);
  }
  watchWidth();
  document.body.dataset.ready = "yes";
}

async function follow() {
  try { await refresh(); document.getElementById("lost").hidden = true; }
  catch (error) { document.getElementById("lost").hidden = false; }
  setTimeout(follow, every);
}

const head = document.createElement("tr");
for (const title of ["", ...COLUMNS.map(column => column[1])]) {
  const th = document.createElement("th");
  th.scope = "col";
  th.textContent = title || "Compare";
  head.append(th);
}
document.querySelector("thead").append(head);
follow();
"""


def ui_page(every_s: float) -> str:
    """Return the page.

    Args:
        every_s: seconds between two looks at the runs.
    """
    return _PAGE.format(style=STYLE + _STYLE, every=every_s)


def ui_script() -> str:
    """Return what the page does."""
    return DRAW + SCRIPT


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>raynas runs</title>
<style>{style}</style>
</head>
<body data-every="{every:g}">
<h1>Runs</h1>
<p><code id="root"></code></p>
<p id="lost" class="none" role="status" hidden>The server does not answer: raynas ui has ended.</p>
<p id="none" hidden>There is no run in this folder yet.</p>
<div class="wide" tabindex="0" role="region" aria-label="Runs">\
<table><thead></thead><tbody></tbody></table></div>
<p id="note" role="status"></p>
<section hidden><h2>Best so far</h2>
<div class="wide"><div id="history" role="img" aria-label="Best so far of the compared runs" \
style="height: 440px"></div></div></section>
<section hidden><h2>Pareto fronts</h2>
<div class="wide"><div id="front" role="img" aria-label="Pareto fronts of the compared runs" \
style="height: 440px"></div></div></section>
<script src="/plotly.js"></script>
<script src="/ui.js"></script>
</body>
</html>
"""
