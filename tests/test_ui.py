"""``raynas ui`` and ``report --watch``: a real server on a free port, and runs that go on."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from plotly.offline import get_plotlyjs

from raynas.cli import main
from raynas.core.config import ComponentSpec
from raynas.results.run_list import RunList
from raynas.results.ui_server import UiServer
from raynas.results.watch import watch
from raynas.storage.table_writers import TrialStore
from tests.runs_on_disk import SPACE, all_trials, failed, write_run

EVIL = "<script>alert(1)<"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of runs: whole, unfinished, failed, empty and broken ones."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "whole", all_trials())
    write_run(root / "open", all_trials()[:5], trials=100)
    write_run(root / "group" / EVIL, all_trials()[:9], algo=ComponentSpec(name=EVIL))
    write_run(root / "failed", [failed(0, "ValueError: no")])
    write_run(root / "costly", all_trials()[:9], objectives={"macs": "min"})
    write_run(root / "untouched", [])
    (root / "nothing").mkdir()
    (root / "garbled").mkdir()
    (root / "garbled" / "run.json").write_text("{")
    shutil.copytree(root / "whole", root / "torn")
    (part,) = (root / "torn" / "trials").glob("*.parquet")
    part.write_bytes(b"PAR1 no")
    (root.parent / "secret.txt").write_text("secret")
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[UiServer]:
    with UiServer(RunList(str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: UiServer, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer."""
    address, port = server.server_address[:2]
    connection = http.client.HTTPConnection(str(address), int(port), timeout=30)
    try:
        connection.request(method, path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def rows(server: UiServer) -> dict[str, dict[str, Any]]:
    """Return the runs of the list by name."""
    return {row["name"]: row for row in json.loads(ask(server, "/api/runs")[2])["runs"]}


def test_every_run_is_listed_and_broken_ones_with_the_reason(server: UiServer) -> None:
    found = rows(server)
    states = {name: row["state"] for name, row in found.items()}
    assert states == {
        **{"costly": "ended", "failed": "ended", "whole": "ended", f"group/{EVIL}": "ended"},
        **{"open": "open", "untouched": "open"},
        **{"garbled": "broken", "nothing": "broken", "torn": "broken"},
    }
    assert found["whole"]["best"] == pytest.approx(0.72)
    assert (found["open"]["told"], found["open"]["planned"]) == (5, 100)
    assert (found["failed"]["failed"], found["failed"]["best"]) == (1, None)
    assert "holds no run: it has no run.json" in found["nothing"]["error"]
    assert "is not a run's configuration" in found["garbled"]["error"]
    assert found["torn"]["error"]


def test_pages_and_scripts_come_from_here_alone(server: UiServer) -> None:
    status, headers, page = ask(server, "/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"://" not in page
    _, headers, packed = ask(server, "/plotly.js")
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed).decode() == get_plotlyjs()
    assert b"/api/runs" in ask(server, "/ui.js")[2]


def test_runs_of_one_objective_are_compared(server: UiServer) -> None:
    path = "/api/compare?run=whole&run=open&run=costly&run=failed"
    answer = json.loads(ask(server, path)[2])
    assert [trace["name"] for trace in answer["figures"]["history"]["data"]] == ["whole", "open"]
    assert [trace["name"] for trace in answer["figures"]["front"]["data"]] == ["whole", "open"]
    assert answer["note"] == ("Left out: costly minimises macs; failed has no completed trial.")
    assert json.loads(ask(server, "/api/compare")[2]) == {"figures": {}, "note": ""}


def test_names_are_text(server: UiServer) -> None:
    name = quote(f"group/{EVIL}")
    figure = ask(server, f"/api/compare?run={name}")[2].decode()
    assert "&lt;script&gt;" in figure
    status, _, page = ask(server, f"/report?run={name}")
    assert status == 200
    assert b"<script>alert" not in page


def test_a_report_is_drawn_and_nothing_is_written(server: UiServer, root: Path) -> None:
    before = sorted(root.rglob("*"))
    assert b'http-equiv="refresh"' not in ask(server, "/report?run=whole")[2]
    assert b'<meta http-equiv="refresh" content="5">' in ask(server, "/report?run=open")[2]
    assert b"none ran" in ask(server, "/report?run=untouched")[2]
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/report?run=../secret.txt",
        "/report?run=..",
        "/report?run=/etc",
        "/report?run=whole/trials",
        "/report?run=garbled",
        "/report",
        "/report?run=whole&run=open",
        "/run.json",
        "/whole/run.json",
        "/api/compare?run=..%2Fsecret",
    ],
)
def test_nothing_else_is_served(server: UiServer, path: str) -> None:
    status, _, body = ask(server, path)
    assert status == 404
    assert b"secret" not in body.replace(b"../secret", b"")


def test_it_is_read_only_and_for_this_machine(server: UiServer) -> None:
    assert ask(server, "/api/runs", method="POST")[0] == 501
    assert ask(server, "/api/runs", host="evil.example")[0] == 403
    assert ask(server, "/api/runs", host="localhost:80")[0] == 200
    with pytest.raises(ValueError, match="expected a loopback address"):
        UiServer(server.runs, host="0.0.0.0")


def test_a_run_that_goes_on_is_followed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", all_trials()[:3], trials=5)
    runs = RunList(str(tmp_path))
    assert [(row.told, row.state) for row in runs.rows()] == [(3, "open")]
    TrialStore(run.path, SPACE).append(all_trials()[3:4])
    assert [(row.told, row.state) for row in runs.rows()] == [(4, "open")]
    (tmp_path / "a" / "best.json").write_text("{}")
    assert [(row.told, row.state) for row in runs.rows()] == [(4, "ended")]
    later = (tmp_path / "a" / "best.json").stat().st_mtime + 1  # a resumed run writes this again
    os.utime(tmp_path / "a" / "run.json", (later, later))
    assert [row.state for row in runs.rows()] == ["open"]


def test_the_list_is_told_to_scripts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", str(root), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in answer["runs"]} >= {"whole", "nothing", f"group/{EVIL}"}
    assert main(["ui", str(root / "whole"), "--json"]) == 0
    assert [r["name"] for r in json.loads(capsys.readouterr().out)["runs"]] == ["whole"]


def test_a_folder_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ui", str(tmp_path / "no"), "--json"]) == 2
    assert "there is no folder" in capsys.readouterr().err


# Watching


def test_a_watched_report_ends_with_its_run(tmp_path: Path) -> None:
    run = write_run(tmp_path, all_trials()[:2], trials=4)
    pages: list[str] = []
    waiting = all_trials()[2:4]

    def sleep(seconds: float) -> None:
        assert seconds == 0.5
        pages.append((tmp_path / "report.html").read_text())
        TrialStore(run.path, SPACE).append([waiting.pop(0)])

    seen: list[tuple[str, int, int]] = []
    file = watch(run.path, every_s=0.5, wrote=lambda *news: seen.append(news), sleep=sleep)
    assert seen == [(file, told, 4) for told in (2, 3, 4)]
    assert all('<meta http-equiv="refresh" content="0.5">' in page for page in pages)
    assert 'http-equiv="refresh"' not in Path(file).read_text()


def test_an_ended_run_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, all_trials()[:4])
    assert main(["report", run.path, "--watch", "--every", "60"]) == 0
    said = capsys.readouterr()
    assert said.out.strip().endswith("report.html")
    assert "4/4 trials" in said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--every", "3"], "--every goes with --watch"),
        (["--watch", "--every", "0"], "at least 0.2"),
    ],
)
def test_every_needs_watching_and_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    run = write_run(tmp_path, all_trials()[:1])
    assert main(["report", run.path, *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_a_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "--watch"]) != 0
    assert "holds no run" in capsys.readouterr().err
