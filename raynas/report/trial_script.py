"""The table of all trials in the page: sorted by its heads, filtered by words and comparisons."""

from __future__ import annotations

SHOWN = 1000  # rows at once; more make a page slow

TRIALS = (
    f"const SHOWN = {SHOWN};"
    + """

function matcher(columns, rows, text) {
  const tests = text.trim().split(/\\s+/).filter(Boolean).map(term => {
    const parts = /^([\\w.]+)(<=|>=|<|>|=)(-?[\\d.]+(?:e[-+]?\\d+)?)$/i.exec(term);
    const column = parts && columns.find(c => c.name === parts[1] && c.values);
    if (!column) return at => rows[at].includes(term.toLowerCase());
    const bound = Number(parts[3]), values = column.values;
    const compare = {"<": v => v < bound, ">": v => v > bound, "<=": v => v <= bound,
      ">=": v => v >= bound, "=": v => v === bound}[parts[2]];
    return at => values[at] !== null && compare(values[at]);
  });
  return at => tests.every(test => test(at));
}

function compared(column, down) {
  const of = column.values || column.texts, sign = down ? -1 : 1;
  return (a, b) => {
    if (of[a] === null || of[b] === null) return (of[a] === null) - (of[b] === null);
    const order = typeof of[a] === "number" ? of[a] - of[b] : String(of[a]).localeCompare(of[b]);
    return sign * order || a - b;
  };
}

function trialTable(place, trials) {
  const count = trials.keys.length, {columns, keys, briefs, archs} = trials;
  const rows = keys.map((key, at) =>
    [...columns.map(c => c.texts[at]), key, archs[at]].join(" ").toLowerCase());
  const input = place.querySelector("input"), status = place.querySelector("[role=status]");
  const head = place.querySelector("thead"), body = place.querySelector("tbody");
  let by = null, down = true;

  function cell(row, text) {
    row.insertCell().textContent = text;
  }

  function fill() {
    const keep = matcher(columns, rows, input.value);
    let order = [...keys.keys()].filter(keep);
    if (by !== null) order.sort(compared(columns[by], down));
    const found = order.length;
    order = order.slice(0, SHOWN);
    body.replaceChildren(...order.map(at => {
      const row = document.createElement("tr");
      for (const column of columns) cell(row, column.texts[at]);
      const details = document.createElement("details");
      const summary = document.createElement("summary");
      summary.textContent = briefs[at];
      details.append(summary, keys[at] + ": " + archs[at]);
      row.insertCell().append(details);
      return row;
    }));
    const shown = found > SHOWN ? ", the first " + SHOWN.toLocaleString("en") + " shown" : "";
    status.textContent =
      found.toLocaleString("en") + " of " + count.toLocaleString("en") + " trials" + shown;
  }

  const titles = document.createElement("tr");
  columns.forEach((column, at) => {
    const th = document.createElement("th"), button = document.createElement("button");
    th.scope = "col";
    button.type = "button";
    button.textContent = column.title;
    button.addEventListener("click", () => {
      down = by === at ? !down : Boolean(column.values) && column.name !== "trial";
      by = at;
      for (const other of titles.cells) other.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", down ? "descending" : "ascending");
      fill();
    });
    th.append(button);
    titles.append(th);
  });
  const last = document.createElement("th");
  last.scope = "col";
  last.textContent = "Architecture";
  titles.append(last);
  head.append(titles);
  input.addEventListener("input", fill);
  fill();
}
"""
)
