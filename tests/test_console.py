"""What a run says on the terminal while it goes on, and of its trials afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import raynas
from raynas.cli import main, out_console
from raynas.core.archspace import ArchSpace
from raynas.report.console import Line
from raynas.report.outcome import show_search
from raynas.results.result import Result
from tests.inline import INLINE

SPACE = ArchSpace.of(depth=[1, 2, 3])


def constant(arch: Mapping[str, Any]) -> float:
    """Return one accuracy for all."""
    return 0.5 if arch else 0.0


def said(tmp_path: Path, algo: str, **more: Any) -> list[str]:
    """Return the lines that a search prints where there is no terminal."""
    told = StringIO()
    raynas.search(
        SPACE,
        algo,
        evaluator=lambda arch: {"accuracy": arch["depth"] / 4},
        out=str(tmp_path),
        ray=INLINE,
        progress=Line(Console(file=told, width=200)),
        **more,
    )
    return told.getvalue().splitlines()


@pytest.mark.parametrize("trials", [10, 3, 2])
def test_the_line_ends_when_the_space_holds_no_more(trials: int, tmp_path: Path) -> None:
    done = min(trials, 3)
    lines = [line for line in said(tmp_path, "grid", trials=trials) if line.startswith("search ")]
    assert lines[-1].startswith(f"search {done}/{done}  best accuracy ")
    assert len([line for line in lines if line.startswith(f"search {done}/{done} ")]) == 1


def test_a_bar_on_a_terminal_ends_as_well(tmp_path: Path) -> None:
    line = Line(Console(file=StringIO(), force_terminal=True, width=200))
    raynas.search(
        SPACE,
        "random",
        trials=10,
        evaluator=constant,
        out=str(tmp_path),
        ray=INLINE,
        progress=line,
    )
    (task,) = line._bar.tasks
    assert (task.completed, task.total, task.fields["count"]) == (3, 3, "3/3")


@pytest.fixture
def ties(tmp_path: Path) -> Result:
    """A run whose trials tie in their objective, and two in their loss."""
    losses = {1: 0.5, 2: 0.25, 3: 0.25, 4: 0.75}

    def evaluator(arch: Mapping[str, Any]) -> dict[str, float]:
        return {"accuracy": 0.5, "loss": losses[arch["depth"]], "f1": arch["depth"] // 3}

    space = ArchSpace.of(depth=list(losses))
    raynas.search(space, "grid", trials=4, evaluator=evaluator, out=str(tmp_path), ray=INLINE)
    return Result(str(tmp_path))


@pytest.mark.parametrize("sort", ["objective", "f1"])
def test_trials_are_listed_as_the_best_is_decided(
    sort: str, ties: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ties.trials.to_dict("records")
    rows.sort(key=lambda row: (-row[sort], row["loss"], row["trial"]))
    assert main(["trials", ties.path, "--sort", sort]) == 0
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    listed = [int(words[1]) for words in lines if len(words) > 2 and words[0].isdigit()]
    assert listed == [row["trial"] for row in rows]
    if sort == "objective":
        assert listed == ties.top()["trial"].tolist() == ties.query()["trial"].tolist()
        assert listed[0] == ties.best.number


@pytest.mark.parametrize(("held", "title"), [([1], "The best trial"), ([1, 2], "The best trials")])
def test_one_row_is_not_ten(
    held: list[int], title: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    raynas.search(
        ArchSpace.of(depth=held),
        "random",
        evaluator=constant,
        out=str(run),
        trials=4,
        ray=INLINE,
    )
    show_search(out_console, Result(str(run)))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert title in lines
    page = Path(run / "report.html").read_text(encoding="utf-8")
    assert f"<h2>{title}</h2>" in page
