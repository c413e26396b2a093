"""The documents' site: built without a warning, and whole without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.full
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_search_works_in_files_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        faults: list[str] = []
        page.on("console", lambda message: faults.append(message.text))
        page.on("request", lambda sent: faults.extend([sent.url] * (sent.url[:4] == "http")))
        page.goto((tmp_path / "how_to" / "latency.html").as_uri())
        page.locator("[data-md-component=search-query]").fill("hypervolume")
        page.locator(".md-search-result__item").first.wait_for(timeout=20_000)
        assert "matching" in page.locator(".md-search-result__meta").inner_text()
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto((tmp_path / "reference.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert faults == []
        browser.close()
