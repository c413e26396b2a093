"""optuna-dashboard on a run: what it is asked for in a browser, asked without one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

import raynas
from raynas.cli import main
from tests.inline import INLINE

SPACE = raynas.ArchSpace.of(depth=[2, 3, 4], width=[16, 32])
STARTS_S = 120  # after which a server is taken to hang, on a busy machine


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> raynas.Result:
    return raynas.search(
        SPACE,
        "grid",
        evaluator=lambda arch: {
            "accuracy": arch["depth"] / 10,
            "params": arch["depth"] * arch["width"],
        },
        trials=6,
        out=str(tmp_path_factory.mktemp("dashboard") / "shown"),
        ray=INLINE,
    )


def asked(app: Any, path: str) -> Any:
    environment: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": ""}
    setup_testing_defaults(environment)
    status: list[str] = []
    body = b"".join(app(environment, lambda line, *_: status.append(line)))
    assert status == ["200 OK"], body
    return json.loads(body)


def test_it_shows_the_trials_and_our_pictures(run: raynas.Result) -> None:
    app = run.dashboard()
    (summary,) = asked(app, "/api/studies")["study_summaries"]
    assert summary["study_name"] == "shown"
    study = asked(app, f"/api/studies/{summary['study_id']}")
    assert study["directions"] == ["maximize"]
    assert study["objective_names"] == ["accuracy"]
    rows = run.trials.sort_values("trial").to_dict("records")
    assert len(study["trials"]) == 6
    for trial, row in zip(study["trials"], rows, strict=True):
        assert trial["state"] == "Complete"
        assert trial["values"] == [row["accuracy"]]
        params = {param["name"]: int(param["param_external_value"]) for param in trial["params"]}
        assert params == {"depth": row["choice.depth"], "width": row["choice.width"]}
        about = {one["key"]: one["value"] for one in trial["user_attrs"]}
        assert float(about["params"]) == row["params"]
    drawn = {
        picture["id"]: json.loads(picture["graph_object"])
        for picture in study["plotly_graph_objects"]
    }
    assert {"progress", "tradeoff", "choices"} <= drawn.keys()
    assert all(picture["data"] for picture in drawn.values())


@pytest.mark.full
def test_the_command_serves_on_this_machine_alone_until_it_is_interrupted(
    run: raynas.Result,
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "raynas", "dashboard", run.path, "--port", str(port)]
    process = subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(run.path)
    )
    try:
        url = f"http://127.0.0.1:{port}/api/studies"
        shown = json.loads(_answer(url, process))
        assert [one["study_name"] for one in shown["study_summaries"]] == ["shown"]
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=STARTS_S)
    assert f"http://127.0.0.1:{port}/dashboard shows 6 trials" in out


def _answer(url: str, process: subprocess.Popen[str]) -> bytes:
    deadline = time.monotonic() + STARTS_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no answer from {url}: {process.poll()}")


def test_a_port_that_is_taken_and_a_missing_library_are_said(
    run: raynas.Result, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["dashboard", run.path, "--port", port]) == 1
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    assert main(["dashboard", run.path, "--port", port]) == 1
    error = capsys.readouterr().err
    assert "pip install 'raynas[dashboard]'" in error
    assert len(error.splitlines()) == 1
