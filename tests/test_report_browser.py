"""The pages in a real browser, as wide as a desk and as a phone."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import raynas
from raynas.core.config import ComponentSpec
from raynas.results.run_list import RunList
from raynas.results.ui_server import UiServer
from tests.runs_on_disk import all_trials, failed, gradient_history, write_run
from tests.test_plots import VERIFIED

WIDTHS = (1280, 390)
PICTURES = (
    *("architecture", "tradeoff", "progress", "training", "preferences", "edge_scores"),
    *("importance", "choices", "parallel", "lineage", "rank_correlation", "timeline"),
)

# Texts of a picture that lie over one another, by more than a few pixels of a line's spacing.
OVERLAPS = """key => {
  const place = document.getElementById(key), found = [];
  const texts = [...place.querySelectorAll("svg text")].filter(t =>
    t.textContent.trim() && t.getBoundingClientRect().width && !t.closest(".parcoords, .modebar"));
  const boxes = texts.map(t => t.getBoundingClientRect());
  for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
    const a = boxes[i], b = boxes[j];
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 3 && tall > 4) found.push(texts[j].textContent + " / " + texts[i].textContent);
  }
  const bar = place.querySelector(".cbfills");
  if (bar) {
    const a = bar.getBoundingClientRect();
    texts.forEach((t, i) => {
      const b = boxes[i];
      if (Math.min(a.right, b.right) > Math.max(a.left, b.left) + 1 &&
          Math.min(a.bottom, b.bottom) > Math.max(a.top, b.top) + 1)
        found.push("colour bar / " + t.textContent);
    });
  }
  return found;
}"""
MARKS = """key => document.getElementById(key).querySelectorAll(
  ".trace path, .trace text, .scatterlayer path, .scatterlayer text, .heatmaplayer image, "
  + ".barlayer path, canvas").length"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium or Chrome here, which shows the pages")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of runs, one with something for every picture."""
    root = tmp_path_factory.mktemp("runs")
    trials = [*all_trials(), failed(27, "ValueError: no")]
    whole = write_run(
        root / "whole", trials, history=gradient_history(), algo=ComponentSpec(name="sgas")
    )
    (root / "whole" / "verified.json").write_text(json.dumps(VERIFIED))
    one = write_run(root / "one", all_trials()[:1], history=gradient_history(1))
    many = [*all_trials()] * 60
    write_run(root / "many", [_numbered(n, t) for n, t in enumerate(many)])
    for run in (whole, one, raynas.load(str(root / "many"))):
        run.report()
    return root


def _numbered(number: int, trial: Any) -> Any:
    fields = vars(trial) | {"number": number, "told_event": 2 * number + 1}
    return type(trial)(**fields)


@pytest.fixture(params=[WIDTHS[0], pytest.param(WIDTHS[1], marks=pytest.mark.full)])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """Return an empty page, in which nothing may go wrong."""
    faults: list[str] = []
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    yield page
    page.close()
    assert faults == []


def opened(page: Page, address: str) -> Page:
    page.goto(address)
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    return page


def fits(page: Page) -> bool:
    """Return whether nothing is wider than the window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.mark.parametrize("page", WIDTHS, indirect=True)
def test_every_picture_has_content_and_nothing_overlaps(page: Page, root: Path) -> None:
    opened(page, f"file://{root}/whole/report.html")
    assert fits(page)
    for key in PICTURES:
        assert page.evaluate(MARKS, key) > 0, key
        assert page.evaluate(OVERLAPS, key) == [], key
        assert page.get_attribute(f"#{key}", "aria-label"), key
    cut = page.evaluate(
        "[...document.querySelectorAll('.wide')].filter(box => "
        "(box.scrollWidth > box.clientWidth + 1) !== (getComputedStyle("
        "box.nextElementSibling).display === 'block')).length"
    )
    assert cut == 0  # what is cut says that it scrolls, and nothing else does


def test_trials_are_sorted_and_filtered(page: Page, root: Path) -> None:
    opened(page, f"file://{root}/whole/report.html")
    heads = page.locator("#trials th button")
    names = heads.all_inner_texts()

    def column(name: str) -> list[str]:
        cell = f"#trials tbody td:nth-child({names.index(name) + 1})"
        return page.locator(cell).all_inner_texts()

    assert column("Accuracy")[0] == "72.00 %"
    heads.nth(names.index("MACs")).focus()
    page.keyboard.press("Enter")
    assert column("MACs")[0].startswith("10.00 M")
    assert column("MACs")[-1] == "-"
    page.keyboard.press("Enter")
    assert column("MACs")[0].startswith("2.00")
    assert page.get_attribute("#trials th[aria-sort]", "aria-sort") == "ascending"
    page.fill("#trials input", "layer1/op:\u00a0pool accuracy>=0.71".replace("\u00a0", " "))
    assert page.inner_text("#trials [role=status]").startswith("6 of 28")
    page.fill("#trials input", "failed")
    assert column("Status") == ["failed"]


def test_one_trial_and_one_epoch_have_sound_axes(page: Page, root: Path) -> None:
    opened(page, f"file://{root}/one/report.html")
    assert fits(page)
    keys = page.evaluate("[...document.querySelectorAll('[role=img]')].map(place => place.id)")
    assert keys == ["architecture", "training", "preferences", "edge_scores", "timeline"]
    ticks = page.locator("#training .xtick text, #preferences .xtick text").all_text_contents()
    assert set(ticks) == {"1"}


def test_many_trials_are_shown_in_part_and_all_are_filtered(page: Page, root: Path) -> None:
    opened(page, f"file://{root}/many/report.html")
    rows = page.locator("#trials tbody tr")
    assert rows.count() == 1000
    assert "1,620 of 1,620 trials, the first 1,000 shown" in page.inner_text("#trials")
    page.fill("#trials input", "trial=1619")
    assert rows.count() == 1


def test_runs_are_listed_compared_and_opened(page: Page, root: Path) -> None:
    with UiServer(RunList(str(root)), every_s=0.5) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            opened(page, server.url)
            assert fits(page)
            assert page.locator("tbody tr").count() == 3
            assert page.evaluate(MARKS, "history") > 0
            assert page.evaluate(OVERLAPS, "history") == []
            write_run(root / "later", all_trials()[:3])
            page.wait_for_selector("text=later")
            page.uncheck("input[aria-label='compare many']")
            page.click("a:has-text('whole')")
            page.wait_for_selector("body[data-ready] #trials")
        finally:
            shutil.rmtree(root / "later", ignore_errors=True)
            server.shutdown()
            thread.join()
