"""What the report's page does: unpack and draw the pictures, sort and filter the trials.

Where a finger drags, it scrolls the page; a mouse zooms.
"""

from __future__ import annotations

from raynas.report.trial_script import TRIALS

DRAW = """
const CONFIG = {responsive: true, displaylogo: false, showSendToCloud: false,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]]};
const touch = window.matchMedia("(hover: none)").matches;

function draw(id, figure) {
  const layout = figure.layout, clear = "rgba(0,0,0,0)";
  layout.paper_bgcolor = layout.plot_bgcolor = clear;  // what hints at scrolling shows through
  if (touch) layout.dragmode = false;
  return Plotly.newPlot(id, figure.data, layout, {...CONFIG});
}

function watchWidth() {
  const boxes = document.querySelectorAll(".wide");
  const look = box => box.classList.toggle("scrolls", box.scrollWidth > box.clientWidth + 1);
  const observer = new ResizeObserver(entries => entries.forEach(e => look(e.target)));
  for (const box of boxes) {
    if (!box.nextElementSibling || !box.nextElementSibling.classList.contains("more")) {
      const hint = document.createElement("p");
      hint.className = "more";
      hint.textContent = "scroll sideways for more \\u2192";
      box.after(hint);
    }
    observer.observe(box);
    look(box);
  }
}
"""

UNPACK = """
async function unpacked(id) {
  const text = document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function show() {
  const data = JSON.parse(await unpacked("data"));
  if (data.trials) trialTable(document.getElementById("trials"), data.trials);
  watchWidth();
  const script = document.createElement("script");
  script.textContent = await unpacked("plotly");
  document.head.append(script);
  for (const [id, figure] of Object.entries(data.figures)) await draw(id, figure);
  watchWidth();
  document.body.dataset.ready = "yes";
}

if ("DecompressionStream" in window) show();
else document.getElementById("old").hidden = false;
"""

SCRIPT = TRIALS + DRAW + UNPACK
