"""``--json``: one strict object on standard output, as declared, and nothing beside it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
import yaml

import raynas
from raynas.cli import app, main
from raynas.report import json_objects
from raynas.report.json_objects import Answer, plain
from raynas.report.run_rows import Picture, Runs
from raynas.results.result import Result
from raynas.setup.registries import available

SPACE = "tests.toynet:ToyNet"
INLINE = ["--ray-option", "inline=true"]
SMALL = [*INLINE, "--data-option", "size=8"]
# they serve, write a file that is the answer, or speak lines of JSON without being asked to
WITHOUT = {"dashboard", "convert", "ask", "tell"}
ANSWERS: dict[str, type[Answer]] = {
    "list": json_objects.Names,
    "describe": json_objects.Description,
    "profile": json_objects.Profile,
    "search": json_objects.Search,
    "train-supernet": json_objects.Supernet,
    "retrain": json_objects.Training,
    "run": json_objects.Steps,
    "trials": json_objects.Trials,
    "verify": json_objects.Verified,
    "export": json_objects.Exported,
    "report": json_objects.Report,
    "plot": Picture,
    "ui": Runs,
}
PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
STEPS = {
    "space": SPACE,
    "data": "digits",
    "data_options": {"size": 8},
    "ray": {"inline": True},
    "steps": [
        {"supernet": {"epochs": 1}},
        {"search": {"algo": "random", "trials": 3}},
        {"retrain": {"epochs": 1}},
    ],
}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all commands of these tests are given."""
    path = tmp_path_factory.mktemp("json")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield path


@pytest.fixture(scope="module")
def steps(folder: Path) -> dict[str, Any]:
    """What ``raynas run`` told of a supernet, a search of it, and a retraining."""
    (folder / "steps.yaml").write_text(yaml.safe_dump(STEPS))
    return told("run", "steps.yaml", "--out", "steps")


@pytest.fixture(scope="module")
def run(steps: dict[str, Any]) -> str:
    """Folder of the search."""
    return str(steps["steps"][1]["path"])


def told(*arguments: str) -> dict[str, Any]:
    """Give a command and return its object, which is all that standard output holds."""
    written = StringIO()
    with redirect_stdout(written):
        code = main([*arguments, "--json"])
    assert code == 0, arguments
    text = written.getvalue()
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    answer: dict[str, Any] = strict(text)
    return answer


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def declared(model: type[Answer], answer: dict[str, Any]) -> None:
    """Check that an answer has the fields of its declaration, and no others."""
    assert model.model_validate(answer).model_dump(mode="json") == answer
    assert list(answer) == list(model.model_fields)


def test_every_command_that_a_script_reads_has_it() -> None:
    group: Any = typer.main.get_command(app)
    having = {
        name
        for name, command in group.commands.items()
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert set(group.commands) - having == WITHOUT


def rows_of(heading: str) -> dict[str, str]:
    """Return the rows of a table in ``docs/commands.md``, by the commands in their first column."""
    part = PAGE.read_text().partition(f"{heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|") for line in part.splitlines() if line.startswith("| `")]
    return {
        word: "|".join(rest)
        for _, first, *rest in cells
        for word in re.findall(r"`(?:raynas )?([a-z-]+)", first)
    }


def test_the_page_on_commands_knows_all_of_them_and_their_fields() -> None:
    group: Any = typer.main.get_command(app)
    assert set(rows_of("# Commands")) == set(group.commands)
    fields = rows_of("## JSON for scripts")
    assert set(fields) == set(group.commands) - WITHOUT == set(ANSWERS)
    for command, model in ANSWERS.items():
        named = set(re.findall(r"`(\w+)`", fields[command]))
        assert set(model.model_fields) <= named, command


def test_run_tells_each_step_as_its_own_command_does(steps: dict[str, Any]) -> None:
    declared(json_objects.Steps, steps)
    assert [step["kind"] for step in steps["steps"]] == ["supernet", "search", "retrain"]
    supernet, search, trained = steps["steps"]
    assert supernet["epochs"] == {"spos": 1}
    assert math.isfinite(supernet["metrics"]["loss"])
    assert search["count"] == 3
    assert search["front"] is None
    assert search["top"][0]["trial"] == search["best"]["trial"]
    assert "test_accuracy" in search["top"][0]["metrics"]
    assert Path(search["report"]).is_file()
    assert trained["arch"] == search["best"]["arch"]
    assert trained["epochs"] == 1
    for step in steps["steps"]:
        assert Path(step["path"]).is_dir()


def test_trials_are_all_columns_as_sorted(run: str) -> None:
    answer = told("trials", run)
    declared(json_objects.Trials, answer)
    rows = answer["trials"]
    assert answer["objectives"] == {"accuracy": "max"}
    assert len(rows) == 3
    assert set(rows[0]) == set(Result(run).judged)
    scores = [row["objective"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert rows[0]["arch"] == dict(Result(run).best.arch)
    by_number = told("trials", run, "--sort", "trial")["trials"]
    assert [row["trial"] for row in by_number] == [2, 1, 0]
    assert datetime.fromisoformat(rows[0]["started_utc"]).tzinfo == UTC


def test_what_no_trial_measured_is_null() -> None:
    def judge(arch: Any) -> dict[str, float]:
        if arch["x"] == 2:
            raise RuntimeError("no such card")
        none = (
            {"loss": math.nan, "ratio": math.inf} if arch["x"] == 1 else {"loss": 1.5, "ratio": 2}
        )
        return {"accuracy": arch["x"] / 4, **none}

    space = raynas.ArchSpace.of(x=[1, 2, 3])
    raynas.search(space, "grid", evaluator=judge, trials=3, out="odd", ray={"inline": True})
    answer = told("trials", "odd")
    declared(json_objects.Trials, answer)
    rows = {row["arch"]["x"]: row for row in answer["trials"]}
    assert rows[2]["status"] == "failed"
    assert (rows[2]["objective"], rows[2]["accuracy"]) == (None, None)
    assert "no such card" in rows[2]["error"]
    assert (rows[1]["loss"], rows[1]["ratio"], rows[1]["error"]) == (None, None, None)
    assert (rows[3]["accuracy"], rows[3]["loss"], rows[3]["ratio"]) == (0.75, 1.5, 2)


def test_search_tells_the_front_of_several_objectives() -> None:
    goals = ["--objective", "accuracy:max", "--objective", "params:min"]
    judged = ["--evaluator", "standalone", "--trials", "2"]
    judged += ["--evaluator-option", "epochs=1", "--evaluator-option", "early_stopping=false"]
    answer = told("search", "mlp", "--algo", "nsga2", *judged, *goals, "--out", "two", *SMALL)
    declared(json_objects.Search, answer)
    assert answer["path"] == str(Path("two").resolve())
    assert answer["statuses"] == {"completed": 2}
    assert {arch["trial"] for arch in answer["front"]} <= {0, 1}
    assert answer["front"]
    assert set(answer["best"]["metrics"]) >= {"accuracy", "params", "loss"}


def test_train_supernet_and_a_search_of_what_it_says() -> None:
    answer = told("train-supernet", SPACE, "--epochs", "1", "--out", "supernet", *SMALL)
    declared(json_objects.Supernet, answer)
    flags = ["--supernet", answer["path"], "--algo", "random", "--trials", "1", "--out", "of_it"]
    assert told("search", SPACE, *flags, *SMALL)["count"] == 1


def test_retrain(run: str) -> None:
    answer = told("retrain", run, "--trial", "1", "--epochs", "2", *INLINE)
    declared(json_objects.Training, answer)
    assert answer["epochs"] == 2
    assert answer["best_epoch"] in {0, 1}
    assert answer["key"] == Result(run).trials.set_index("trial").loc[1, "arch_key"]
    assert {"valid_accuracy", "test_accuracy"} <= set(answer["metrics"])


def test_verify_says_null_of_what_one_seed_cannot_tell(run: str) -> None:
    few = ["--top", "1", "--seeds", "1", "--option", "epochs=1"]
    answer = told("verify", run, *few, *INLINE)
    declared(json_objects.Verified, answer)
    assert answer["metric"] == "accuracy"
    assert [row["group"] for row in answer["architectures"]] == ["best", "random"]
    assert all(row["std"] is None for row in answer["architectures"])
    assert answer["gain"]["low"] is None
    assert answer["correlation"] is None


def test_export_says_what_is_in_the_file(run: str) -> None:
    answer = told("export", run, "best.json")
    declared(json_objects.Exported, answer)
    assert answer["arch"] == json.loads(Path("best.json").read_text())
    assert answer["trial"] == Result(run).best.number
    study = told("export", run, "study.db")
    declared(json_objects.Exported, study)
    assert Path(study["file"]).is_file()
    assert study["trial"] is study["arch"] is None


def test_report_plot_and_ui_say_where_and_what(run: str) -> None:
    page = told("report", run, "--out", "page.html")
    declared(json_objects.Report, page)
    assert Path(page["file"]).read_text().startswith("<!")
    picture = told("plot", run, "history", "history.json")
    declared(Picture, picture)
    assert json.loads(Path(picture["file"]).read_text())["data"]
    runs = told("ui", "steps")
    declared(Runs, runs)
    assert {row["name"] for row in runs["runs"]} >= {Path(run).name}


def test_list_and_describe() -> None:
    everything = told("list")
    declared(json_objects.Names, everything)
    assert everything["names"]["spaces"] == available("spaces")
    assert told("list", "tasks") == {"names": {"tasks": available("tasks")}}
    for name in ("regularized_evolution", "spos", "mobilenet_v2_cifar", "MB3E3", SPACE):
        answer = told("describe", name)
        declared(json_objects.Description, answer)
        assert answer["plugins"][0]["doc"]
    (plugin,) = told("describe", "regularized_evolution")["plugins"]
    population = {option["name"]: option for option in plugin["options"]}["population"]
    assert population == {"name": "population", "default": 20, "required": False}


def test_profile() -> None:
    answer = told("profile", "mlp", "--samples", "10", "--constraint", "params<5e4")
    declared(json_objects.Profile, answer)
    assert [arch["which"] for arch in answer["archs"]] == ["smallest", "median", "largest"]
    (bound,) = answer["constraints"]
    assert (bound["metric"], bound["low"], bound["high"]) == ("params", None, 5e4)
    assert bound["possible"] is True
    assert bound["least"] < 5e4 < bound["most"]
    assert answer["size"] > 0
    assert {decision["label"] for decision in answer["decisions"]} >= {"width", "depth"}


def test_plain_values_are_strict() -> None:
    time = datetime(2026, 1, 2, 3, tzinfo=UTC)
    given = {
        1: np.float32("nan"),
        "few": (np.int64(3), True, None, "text", -math.inf),
        "array": np.array([[1.5, np.nan]]),
        "when": [time, pd.NaT],
        "function": max,
    }
    read = strict(json.dumps(plain(given), allow_nan=False))
    assert read == {
        "1": None,
        "few": [3, True, None, "text", None],
        "array": [[1.5, None]],
        "when": [time.isoformat(), None],
        "function": str(max),
    }
