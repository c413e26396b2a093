"""The programs under examples/: short, and what they print says that something was learned."""

from __future__ import annotations

import ast
import re
import runpy
import warnings
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import optuna
import pytest

import raynas
from raynas.data.module import DataWarning
from tests.inline import inline

EXAMPLES = Path(__file__).parent.parent / "examples"
LINES = 25  # of a program that shows one thing, blank ones not counted
# of the first row that a program prints: a column, and what it is at least (or at most)
LEARNED = {
    "regression": ("valid_r2", 0.3, 1.0),
    "two_inputs": ("accuracy", 0.5, 1.0),
    "multilabel": ("f1", 0.8, 1.0),
    "segmentation": ("mean_iou", 0.35, 1.0),
    "token_ids": ("accuracy", 0.75, 1.0),
    "character_transformer": ("perplexity", 1.0, 40.0),
    "image_folder": ("valid_accuracy", 0.15, 1.0),
    "lightning_loop": ("accuracy", 0.7, 1.0),
    "multi_objective": ("accuracy", 0.7, 1.0),
    "graphs": ("accuracy", 0.5, 1.0),
    "modular_nas_port": ("accuracy", 0.4, 1.0),
    "nni_port": ("acc1", 0.7, 1.0),
    "ask_and_tell": ("accuracy", 0.8, 0.9),
    "optuna_study": ("accuracy", 0.8, 1.0),
    "existing_llama": ("valid_perplexity", 5.0, 18.0),
    "existing_model": ("valid_accuracy", 0.4, 1.0),
    "plain_tune": ("accuracy", 0.7, 0.85),
}
ON_RAY = ["two_inputs", "plain_tune"]
# of these, `make examples` and `make test-all` run every one
SLOW = {
    "character_transformer",
    "existing_llama",
    "existing_model",
    "graphs",
    "image_folder",
    "modular_nas_port",
    "multi_objective",
    "multilabel",
    "regression",
    "segmentation",
    "two_inputs",
}
LONGER = {"own_space", "lightning_loop", "latency_constrained", "nni_port"}


def program(name: str) -> Any:
    """Return a parameter of a test, of those that take long marked so."""
    return pytest.param(name, marks=[pytest.mark.full] if name in SLOW else [])


def test_all_programs_are_known() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.py")} == LEARNED.keys() | LONGER


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("name", [program(name) for name in ON_RAY])
def test_some_of_them_run_on_ray(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_and_check(name, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    "name",
    [program(name) for name in LEARNED if name not in ON_RAY],
)
def test_a_short_program_learns(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, where a search gives what it gives on Ray."""
    for public in ("search", "retrain"):
        function = inline(getattr(raynas, public))
        monkeypatch.setattr(raynas, public, function, raising=False)
    run_and_check(name, tmp_path, monkeypatch, capsys)


def run_and_check(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, (column, least, most) = EXAMPLES / f"{name}.py", LEARNED[name]
    lines = sum(bool(line.strip()) for line in file.read_text().splitlines())
    assert lines <= LINES or name in LONGER
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # that one folder is split
        if name == "lightning_loop":
            warnings.simplefilter("ignore")  # Lightning's, of its own and of few workers
        verbosity = optuna.logging.get_verbosity()
        runpy.run_path(str(file), run_name="__main__")
        optuna.logging.set_verbosity(verbosity)
    printed = capsys.readouterr().out
    assert least <= first_value(printed, column) <= most, printed


def first_value(printed: str, column: str) -> float:
    """Return a column's value in the first row of a printed table, or behind its name in a dict."""
    if told := re.search(rf"'{column}': ([\d.]+)", printed):
        return float(told[1])
    lines = printed.splitlines()
    at = next(i for i, line in enumerate(lines) if column in line.split())
    place = len(lines[at].split()) - lines[at].split().index(column)
    return float(lines[at + 1].split()[-place])


@pytest.mark.full
def test_the_notebook_runs_and_learns(tmp_path: Path) -> None:
    """In a kernel of its own, as it stands; it says itself that all is done in one process."""
    notebook = nbformat.read(EXAMPLES / "first_search.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    kinds = {kind for output in shown for kind in output.get("data", ())}
    assert "application/vnd.plotly.v1+json" in kinds
    trained = ast.literal_eval(shown[-1]["data"]["text/plain"])
    assert trained["valid_accuracy"] > 0.5  # chance is 0.1
