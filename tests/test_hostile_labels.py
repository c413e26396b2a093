"""Labels, names and errors that a page or a spreadsheet could run are text to both."""

from __future__ import annotations

import csv
import io
import itertools
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import raynas
from raynas.cli import main
from raynas.core.arch import Arch
from raynas.core.config import ComponentSpec
from raynas.core.trial import Trial
from raynas.costs.latency_files import Entry, read_entries, write_entries
from raynas.storage.table_writers import TrialStore
from tests.inline import INLINE
from tests.runs_on_disk import all_trials, gradient_history, trial, write_run

SCRIPT = "<script>window.ran=1</script>"
HOSTILE = (
    *(SCRIPT, "</script><img src=x onerror=window.ran=1>", '"onload="window.ran=1'),
    *("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"),
)


def hostile(number: int) -> Trial:
    """Return a trial of a hostile option under hostile labels, or one that failed so."""
    text = HOSTILE[number % len(HOSTILE)]
    other = HOSTILE[(number + 1) % len(HOSTILE)]
    made = trial(number, {f"{SCRIPT}/op": text, '"onload="x/op': other}, 0.5 + number / 99, 1e6)
    if number % 3 < 2:
        return made
    return replace(made, status="failed", objective=None, metrics={}, error=f"{text}: {text}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run all of whose texts are hostile."""
    out = tmp_path_factory.mktemp("hostile") / "run"
    history = [
        {"algo": "sgas", "epoch": row["epoch"], "loss": 1.0, f"alpha.{SCRIPT}.{SCRIPT}": 0.5}
        | {f"alpha.{SCRIPT}.b": 0.5, f"score.{SCRIPT}": 0.5}
        for row in gradient_history()
    ]
    write_run(out, [], history=history, space=ComponentSpec(name=SCRIPT), trials=18)
    TrialStore(str(out), None).append([hostile(number) for number in range(18)])
    return out


def test_a_report_holds_no_label_as_markup(run: Path) -> None:
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    bare = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.S)  # ours
    assert "<script" not in bare
    assert "<img" not in bare
    assert '"onload' not in bare
    assert "&lt;script&gt;" in bare


@pytest.mark.full
def test_a_browser_runs_no_label(run: Path) -> None:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium or Chrome here, which shows the pages")
    assert main(["report", str(run)]) == 0
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"file://{run}/report.html")
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        for place in page.locator("[role=img]").all():
            place.hover(force=True)
        assert page.evaluate("window.ran === undefined")
        browser.close()


def check_inert(text: str) -> list[list[str]]:
    """Return the rows of a CSV file, none of whose cells is a formula."""
    rows = list(csv.reader(io.StringIO(text, newline="")))
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "+", "@", "\t", "\r"))
        assert not cell.startswith("-") or float(cell) < 0
    return rows


def test_a_table_for_spreadsheets_holds_no_formula(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trials", str(run), "--csv"]) == 0
    rows = check_inert(capsys.readouterr().out)
    assert len(rows) == 19
    errors = [row[rows[0].index("error")] for row in rows[1:]]
    assert any(error.startswith("'-2+3: ") for error in errors)


CELLS = (*HOSTILE, "'=1", "''-x", "'plain", "-5", "'-5", "-1e3", "a\rb", "a\n=b", "plain", "")
NUMBERS = (-5, 3, -0.25)


def test_a_table_of_latencies_holds_no_formula_and_is_read_as_it_was(tmp_path: Path) -> None:
    labels = [cell for cell in CELLS if cell]
    space = raynas.ArchSpace.of(**{key: list(CELLS) for key in labels}, numbers=list(NUMBERS))
    places = itertools.product(labels, CELLS)
    entries = [Entry((label,), (cell,), float(at)) for at, (label, cell) in enumerate(places)]
    entries += [Entry(("numbers",), (number,), float(at)) for at, number in enumerate(NUMBERS)]
    file = tmp_path / "table.csv"
    write_entries([Entry((), (), 0.5), *entries], file)
    check_inert(file.read_bytes().decode())
    assert read_entries(file, space) == [Entry((), (), 0.5), *entries]


def scored(arch: Mapping[str, Any]) -> dict[str, float]:
    return {"accuracy": -CELLS.index(arch["=op"]) + arch["n"], "=SUM(A1)": -arch["n"]}


def test_a_table_of_trials_holds_no_formula_and_scores_as_they_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = raynas.ArchSpace.of(**{"=op": [cell for cell in CELLS if cell]}, n=list(NUMBERS))
    given: dict[str, Any] = {"trials": 3 * len(CELLS) - 3, "ray": INLINE}
    run = raynas.search(space, "grid", evaluator=scored, out=str(tmp_path / "run"), **given)
    assert main(["trials", run.path, "--csv"]) == 0
    file = tmp_path / "trials.csv"
    file.write_text(text := capsys.readouterr().out, newline="")
    assert len(check_inert(text)) == 1 + given["trials"]
    table = ("table", {"path": str(file)})
    again = raynas.search(space, "grid", evaluator=table, out=str(tmp_path / "again"), **given)
    for column in ("arch", "accuracy", "=SUM(A1)"):
        assert again.trials[column].tolist() == run.trials[column].tolist()


def test_numbers_and_plain_texts_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = [replace(t, objective=-0.5, metrics={"accuracy": -0.5}) for t in all_trials()[:2]]
    write_run(tmp_path, told)
    assert main(["trials", str(tmp_path), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["accuracy"] for row in rows} == {"-0.5"}
    assert {Arch.from_json(row["arch"]).key for row in rows} == {row["arch_key"] for row in rows}
