"""How the report looks."""

from __future__ import annotations

from raynas.report.pictures.style import FONT

STYLE = """
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
.wide { overflow-x: auto; background: linear-gradient(to right, #fff 40%, transparent) left,
  linear-gradient(to left, #fff 40%, transparent) right,
  linear-gradient(to right, #1f293333, transparent) left,
  linear-gradient(to left, #1f293333, transparent) right;
  background-repeat: no-repeat; background-size: 48px 100%, 48px 100%, 14px 100%, 14px 100%;
  background-attachment: local, local, scroll, scroll; }
.wide.scrolls + .more { display: block; }
.more { display: none; margin: 2px 0 0; color: var(--quiet); font-size: 12px; text-align: right; }
.tall { max-height: 70vh; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th, td { padding: 6px 16px 6px 0; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; }
th { color: var(--quiet); font-weight: 400; font-size: 13px; }
th:last-child, td:last-child { text-align: left; white-space: normal; padding: 6px 0 6px 8px;
  min-width: 260px; overflow-wrap: anywhere; }
td summary { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 60ch; }
td:last-child { max-width: 480px; }
th button { all: unset; cursor: pointer; }
th button:focus-visible, .wide:focus-visible { outline: 2px solid #3a6ea5; outline-offset: 1px; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.errors td:last-child { min-width: 260px; }
.filter { display: flex; flex-wrap: wrap; gap: 6px 16px; align-items: baseline;
  margin-bottom: 8px; font-size: 13px; color: var(--quiet); }
.filter input { font: inherit; padding: 4px 8px; width: 260px; max-width: 100%;
  border: 1px solid #9aa5b1; border-radius: 4px; }
@media (hover: none) { .modebar-container { display: none; } }
@media (max-width: 600px) {
  body { padding: 20px 14px 40px; }
  h1 { font-size: 21px; }
  .tiles { gap: 10px 24px; } .tiles dd { font-size: 20px; }
  .facts { grid-template-columns: 1fr; gap: 8px; }
}
@media print { .tall { max-height: none; } }
""".replace("FONT", FONT)
