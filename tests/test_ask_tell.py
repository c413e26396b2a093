"""Somebody else's loop: asked and told in any process, killed and gone on with, within a budget."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import raynas
from raynas.cli import main
from raynas.core.arch import Arch
from raynas.core.errors import InvalidArch, StoreMismatch
from raynas.evaluators.spec import EvaluatorSpec
from raynas.setup.ask_tell import AskTell
from raynas.setup.asked_begin import ask_tell
from raynas.setup.inline import InlineRunner
from tests.inline import INLINE
from tests.toynet import ToyNet

REPO = Path(__file__).parent.parent
HANGS_S = 300  # after which a process of a test is taken to hang, on a busy machine
SPACE = raynas.ArchSpace.of(x=list(range(12)), y=list(range(12)))
SMALL = {"population": 5, "tournament": 2}


def score(arch: Mapping[str, Any]) -> float:
    return float(arch["x"] + arch["y"])


def begun(tmp_path: Path, **given: Any) -> AskTell:
    given = {"trials": 20, "options": SMALL, **given}
    return ask_tell(SPACE, "regularized_evolution", out=str(tmp_path / "run"), **given)


def again(study: AskTell) -> AskTell:
    """As another process has it."""
    return ask_tell(out=study.path)


def rows(study: AskTell) -> pd.DataFrame:
    return raynas.load(study.path).trials


# --- one loop -------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ["regularized_evolution", "tpe", "random"])
def test_a_loop_finds_what_a_search_finds_whoever_asks_and_tells(tmp_path: Path, algo: str) -> None:
    """Every call is by a new object, which knows the folder alone."""
    options = {"regularized_evolution": SMALL, "tpe": {"startup": 5}, "random": {}}[algo]
    out = str(tmp_path / "searched")
    searched = raynas.search(
        SPACE, algo, evaluator=score, trials=10, options=options, out=out, ray=INLINE
    )
    study = ask_tell(SPACE, algo, trials=10, options=options, out=str(tmp_path / "told"))
    while proposals := again(study).ask():
        again(study).tell(proposals[0].trial, score(proposals[0].arch))
    columns = ["trial", "arch_key", "status", "objective", "parent", "asked_event", "told_event"]
    ours, theirs = rows(study)[columns], searched.trials[columns]
    pd.testing.assert_frame_equal(ours, theirs)
    assert set(rows(study)["evaluator"]) == {"external"}
    assert raynas.load(study.path).best.arch == study.best.arch  # type: ignore[union-attr]
    assert (Path(study.path) / "best.json").is_file()


def test_proposals_in_flight_are_told_in_any_order_and_outlive_their_process(
    tmp_path: Path,
) -> None:
    study = begun(tmp_path)
    first = study.ask(6)
    assert [proposal.trial for proposal in first] == list(range(6))
    study.tell(first[3], score(first[3].arch))
    other = again(study)
    waiting = other.pending()
    assert [p.trial for p in waiting] == [0, 1, 2, 4, 5]
    assert all(p.again for p in waiting)
    assert [p.arch for p in waiting] == [p.arch for p in first if p.trial != 3]
    more = other.ask(2)
    assert [p.trial for p in more] == [6, 7]
    for proposal in (more[1], *waiting, more[0]):
        again(other).tell(proposal, score(proposal.arch))
    assert study.pending() == []
    assert rows(study)["trial"].tolist() == [3, 7, 0, 1, 2, 4, 5, 6]
    goes_on = begun(tmp_path / "once", seed=0)
    asked = goes_on.ask(6)
    goes_on.tell(asked[3], score(asked[3].arch))
    asked += goes_on.ask(2)
    for number in (7, 0, 1, 2, 4, 5, 6):
        goes_on.tell(asked[number], score(asked[number].arch))
    assert goes_on.ask(3) == again(study).ask(3), "as if nobody had stopped"


def test_what_is_never_told_is_handed_out_again_at_the_end(tmp_path: Path) -> None:
    study = begun(tmp_path, trials=5)
    (lost,) = study.ask()
    while (proposal := study.ask()[0]).trial != lost.trial:
        assert not proposal.again
        study.tell(proposal, score(proposal.arch))
    assert proposal.again
    assert proposal.arch == lost.arch
    assert study.told == 4
    assert not study.done
    study.tell(proposal, 1.0)
    assert study.ask() == []
    assert study.done
    assert again(study).done


def test_a_small_space_ends_before_the_budget(tmp_path: Path) -> None:
    study = ask_tell(raynas.ArchSpace.of(x=[1, 2, 3]), "grid", out=str(tmp_path / "run"))
    for proposal in study.ask(10):
        study.tell(proposal, 0.5)
    assert study.told == 3
    assert study.ask() == []
    assert study.done
    assert study.trials == 100


# --- what nobody asked ----------------------------------------------------------------------------


def test_architectures_of_strangers_are_rows_and_the_sampler_learns_of_them(
    tmp_path: Path,
) -> None:
    study = begun(tmp_path)
    for proposal in study.ask(3):
        study.tell(proposal, score(proposal.arch))
    (flying,) = study.ask()
    own = study.tell({"x": 11, "y": 11}, {"accuracy": 22.0, "note": "mine"}, algo="agent")
    assert own is not None
    assert (own.number, own.status, own.text_metrics) == (4, "completed", {"note": "mine"})
    again(study).tell(flying, score(flying.arch))
    frame = rows(study)
    assert frame["algo"].tolist() == ["regularized_evolution"] * 3 + [
        "agent",
        "regularized_evolution",
    ]
    outside = frame[frame["algo"] == "agent"].iloc[0]
    assert outside["asked_event"] == outside["told_event"]
    assert study.best is not None
    assert study.best.arch == own.arch
    children = set()
    while proposals := again(study).ask():
        study.tell(proposals[0], score(proposals[0].arch))
        children.add(rows(study).iloc[-1]["parent"])
    assert own.arch.key in children, "the fittest of 16 tournaments of 2 of 5 in 12 that it lives"
    frame = rows(study)
    assert len(frame) == 20
    assert (frame["arch_key"] == own.arch.key).sum() == 1


def test_a_search_goes_on_where_strangers_have_told(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    first = raynas.search(
        SPACE, evaluator=score, trials=8, options=SMALL, out=out, ray=INLINE
    ).trials
    study = ask_tell(out=out, trials=20, evaluator=score)
    (asked,) = study.ask()
    study.evaluate({"x": 11, "y": 11}, algo="agent")
    study.evaluate(asked)
    result = raynas.search(
        SPACE, evaluator=score, trials=14, out=out, resume=True, options=SMALL, ray=INLINE
    )
    frame = result.trials
    assert len(frame) == 14
    assert frame["arch_key"].head(8).tolist() == first["arch_key"].tolist()
    assert frame["objective"].iloc[8:10].tolist() == [22.0, score(asked.arch)]
    assert frame["trial"].is_unique
    assert result.best.arch == {"x": 11, "y": 11}


def test_what_is_known_is_answered_and_costs_nothing(tmp_path: Path) -> None:
    study = begun(tmp_path)
    (proposal,) = study.ask()
    told = study.tell(proposal, 3.0)
    assert told is not None
    assert study.tell(proposal, 4.0) == told
    assert again(study).tell(dict(proposal.arch), 5.0).objective == 3.0  # type: ignore[union-attr]
    (failing,) = study.ask()
    study.tell(failing, error="out of\nmemory")
    assert again(study).tell(failing, 1.0).error == "out of memory"  # type: ignore[union-attr]
    assert study.told == len(rows(study)) == 2


def test_the_budget_is_kept_by_all_and_may_be_raised(tmp_path: Path) -> None:
    study = begun(tmp_path, trials=3)
    handed = study.ask(3)
    for x in range(3):
        assert study.tell({"x": x, "y": 11}, 1.0) is not None
    assert study.tell(handed[0], 1.0) is None
    assert study.tell({"x": 9, "y": 9}, 1.0) is None
    assert study.ask() == []
    assert study.done
    assert len(rows(study)) == 3
    more = ask_tell(out=study.path, trials=5)
    assert not more.done
    assert [p.trial for p in more.pending()] == [p.trial for p in handed]
    assert more.tell(handed[0], 1.0) is not None


# --- bounds, costs and the run's own evaluator ----------------------------------------------------


def test_costs_are_known_and_bounds_kept(tmp_path: Path) -> None:
    study = ask_tell(
        "mlp", "random", constraints=["params<20000"], trials=6, out=str(tmp_path / "run")
    )
    proposals = study.ask(3)
    assert all(0 < proposal.costs["params"] <= 20000 for proposal in proposals)
    study.tell(proposals[0], 0.5)
    row = rows(study).iloc[0]
    assert row["params"] == proposals[0].costs["params"]
    large: dict[str, Any] = {
        **{f"block{i}/{name}": value for i in (1, 2) for name, value in _block.items()},
        **{"width": 128, "depth": 2, "dropout": 0.0},
    }
    trial = study.tell(large, 0.9)
    assert trial is not None
    assert (trial.status, trial.objective) == ("infeasible", None)


_block = {"expansion": 4, "activation": "relu"}


def measured(arch: Arch) -> dict[str, float]:
    if arch["x"] == 0:
        raise RuntimeError("x is 0")
    return {"accuracy": score(arch)}


def test_an_archive_that_evaluates_proposals_within_the_budget(tmp_path: Path) -> None:
    study = begun(tmp_path, evaluator=measured, trials=4)
    (proposal,) = study.ask()
    found = study.evaluate(proposal)
    assert found is not None
    assert found.objective == score(proposal.arch)
    failed = again(study).evaluate({"x": 0, "y": 1})
    assert failed is not None
    assert failed.status == "failed"
    assert "x is 0" in str(failed.error)
    assert study.evaluate({"x": 0, "y": 1}) == again(study).evaluate({"x": 0, "y": 1})
    assert study.told == 2
    study.evaluate({"x": 1, "y": 1})
    study.evaluate({"x": 1, "y": 2}, algo="agent")
    assert study.evaluate({"x": 1, "y": 3}) is None
    assert rows(study)["evaluator"].tolist() == ["function"] * 4
    with pytest.raises(ValueError, match="measures by its own evaluator 'function'"):
        study.tell({"x": 1, "y": 4}, 1.0)
    with pytest.raises(ValueError, match="has no evaluator"):
        begun(tmp_path / "other").evaluate({"x": 1, "y": 4})


def test_one_call_makes_one_evaluator_for_all_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making one may load a supernet and data; the call goes through to it."""
    made, make = [], InlineRunner.evaluator

    def counted(runner: InlineRunner, spec: EvaluatorSpec) -> Any:
        made.append(spec)
        return make(runner, spec)

    monkeypatch.setattr(InlineRunner, "evaluator", counted)
    study = begun(tmp_path, evaluator=measured)
    lines = study.read(json.dumps({"arch": {"x": x, "y": 1}}) for x in (1, 2, 2, 3))
    answers = list(study.evaluate_all(lines))
    assert [answer.repeated for answer in answers] == [False, False, True, False]
    assert len(made) == 1


def test_a_search_does_not_measure_what_is_told(tmp_path: Path) -> None:
    study = begun(tmp_path)
    with pytest.raises(raynas.core.errors.SearchFailed, match=r"raynas\.ask_tell\(out="):
        raynas.search(out=study.path, resume=True, ray=INLINE)
    assert study.told == 0


# --- what is wrong --------------------------------------------------------------------------------


def test_what_is_wrong_is_said_and_nothing_is_recorded(tmp_path: Path) -> None:
    study = begun(
        tmp_path,
        objectives={"accuracy": "max", "size": "min"},
        constraints=["heat<9"],
        scalarize={"accuracy": 1.0, "size": -1.0},
    )
    (asked,) = study.ask()
    good = {"accuracy": 1.0, "size": 1.0, "heat": 1.0}
    for what, metrics, said in (
        (asked, {"accuracy": 1.0, "heat": 1.0}, "no metric 'size'"),
        (asked, {**good, "accuracy": float("nan")}, "metric 'accuracy' is nan"),
        (asked, {**good, "accuracy": "high"}, "metric 'accuracy' is a number, got 'high'"),
        (asked, {**good, "trial": 1}, "named like a column"),
        ({"x": 1}, good, "'y' is not decided"),
        ({"x": 1, "z": 1}, good, "no decision is labelled 'z'"),
        (7, good, "trial 7 was never asked"),
    ):
        with pytest.raises(ValueError, match=said):
            study.tell(what, metrics)
    with pytest.raises(ValueError, match="metrics, or error"):
        study.tell(asked)
    with pytest.raises(ValueError, match="count: expected at least 1"):
        study.ask(0)
    assert study.told == 0
    assert len(study.pending()) == 1
    with pytest.raises(InvalidArch):
        SPACE.check({"x": 1})
    with pytest.raises(StoreMismatch, match="with seed 0, not 1"):
        ask_tell(out=study.path, seed=1)
    with pytest.raises(ValueError, match="trains a supernet"):
        ask_tell("mlp", "darts", out=str(tmp_path / "darts"))
    with pytest.raises(FileNotFoundError, match="holds no run"):
        ask_tell(out=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="a local folder"):
        ask_tell(SPACE, out="s3://nowhere/run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


# --- lines of JSON --------------------------------------------------------------------------------


class Shell:
    """The commands, with what they read and print."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.run, self._patch, self._capsys = str(folder), monkeypatch, capsys
        self.error = ""

    def __call__(self, command: str, *flags: str, lines: Any = ()) -> tuple[int, list[Any]]:
        given = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        self._patch.setattr(sys, "stdin", io.StringIO(given))
        code = main([command, self.run, *flags])
        printed = self._capsys.readouterr()
        self.error = printed.err
        return code, [json.loads(line) for line in printed.out.splitlines()]


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    return Shell(tmp_path / "run", monkeypatch, capsys)


@pytest.fixture(scope="module")
def asked_twice(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run that was asked twice and is never told."""
    run = str(tmp_path_factory.mktemp("asked") / "run")
    with redirect_stdout(io.StringIO()):
        assert main(["ask", run, "--space", f"{__name__}:SPACE", "--count", "2"]) == 0
    return run


def test_lines_go_round(shell: Shell) -> None:
    begin = ["--space", "tests.toynet:ToyNet", "--data", "digits", "--algo", "random"]
    begin += ["--trials", "3", "--count", "2"]
    code, asked = shell("ask", *begin)
    assert code == 0
    assert [line["trial"] for line in asked] == [0, 1]
    assert asked[0].keys() == {"trial", "arch_key", "arch", "costs"}
    assert asked[0]["costs"]["params"] > 0
    code, waiting = shell("ask", "--pending")
    assert waiting == [{**line, "again": True} for line in asked]
    handed_through = [{**line, "metrics": {"accuracy": 0.5}} for line in waiting]
    code, told = shell("tell", lines=[handed_through[0], "", {"trial": 1, "error": "broke"}])
    assert code == 0
    assert [line["status"] for line in told] == ["completed", "failed"]
    assert told[0]["metrics"]["accuracy"] == told[0]["objective"] == 0.5
    assert told[1]["error"] == "broke"
    code, repeated = shell("tell", lines=[handed_through[0]])
    assert (code, repeated[0]["repeated"], repeated[0]["told"]) == (0, True, 2)
    space = raynas.ModelSpace(ToyNet).arch_space
    rest = [dict(arch) for arch in space if dict(arch) not in [line["arch"] for line in asked]]
    own, other = rest[:2]
    line = {"metrics": {"accuracy": 0.75}, "algo": "agent", "duration_s": 2.5}
    code, told = shell("tell", lines=[{"arch": own, **line}, {"arch": own, **line}])
    assert (code, [line.get("repeated") for line in told]) == (0, [None, True])
    code, done = shell("ask")
    assert code == 3
    assert done[0]["done"] is True
    assert done[0]["told"] == done[0]["trials"] == 3
    assert done[0]["best"]["arch"] == own
    assert done[0]["best"]["metrics"]["accuracy"] == 0.75
    code, refused = shell("tell", lines=[{"arch": other, "metrics": {"accuracy": 1}}])
    assert (code, refused[0]["done"]) == (3, True)
    trials = raynas.load(shell.run).trials
    assert trials["duration_s"].tolist() == [0.0, 0.0, 2.5]
    assert raynas.load(shell.run).report().endswith("report.html")


def test_lines_are_evaluated(shell: Shell) -> None:
    begin = ["--space", "tests.toynet:ToyNet", "--data", "digits", "--trials", "2"]
    begin += ["--evaluator", "cost", "--objective", "params:min"]
    _, asked = shell("ask", *begin)
    line = {key: asked[0][key] for key in ("trial", "arch")}
    code, told = shell("tell", "--evaluate", lines=[line, line])
    assert code == 0
    assert told[0]["metrics"]["params"] == asked[0]["costs"]["params"]
    assert told[1]["repeated"] is True
    assert shell("tell", lines=[{"trial": 0, "metrics": {"params": 1}}])[0] != 0
    assert "its own evaluator 'cost'" in shell.error
    assert shell("tell", "--evaluate", lines=[{"trial": 0, "metrics": {"params": 1}}])[0] != 0
    assert "line 1: the run's evaluator measures" in shell.error


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: expected a JSON object, got '{'"),
        ("[1]", "line 2: expected a JSON object, got '[1]'"),
        ({"metrics": {"accuracy": 1}}, "line 2: expected 'trial' or 'arch'"),
        ({"trail": 0}, "line 2: no key is named 'trail'; did you mean 'trial'?"),
        ({"trial": "0", "metrics": {}}, "line 2: 'trial' is a trial's number, got '0'"),
        ({"trial": True, "metrics": {}}, "line 2: 'trial' is a trial's number, got True"),
        ({"trial": 0}, "line 2: expected 'metrics' or 'error'"),
        ({"trial": 0, "metrics": {}, "error": ""}, "line 2: expected 'metrics' or 'error', got"),
        ({"trial": 0, "metrics": [1]}, "line 2: 'metrics' is an object from metric to number"),
        ({"trial": 0, "metrics": {"acuracy": 1}}, "line 2: no metric 'accuracy'; did you mean"),
        ('{"trial": 0, "metrics": {"accuracy": NaN}}', "line 2: metric 'accuracy' is nan"),
        ({"trial": 9, "metrics": {"accuracy": 1}}, "line 2: trial 9 was never asked"),
        (
            {"arch": {"yy": 1}, "metrics": {}},
            "line 2: no decision is labelled 'yy'; did you",
        ),
        ({"trial": 0, "arch": "x", "metrics": {}}, "line 2: 'arch' is an object"),
        ({"trial": 0, "error": "x", "duration_s": -1}, "line 2: 'duration_s' is a number"),
    ],
)
def test_a_wrong_line_is_named_and_no_line_is_told(
    shell: Shell, asked_twice: str, line: Any, said: str
) -> None:
    shell.run = asked_twice
    good = {"trial": 1, "metrics": {"accuracy": 0.5}}
    code, printed = shell("tell", lines=[good, line])
    assert (code in (1, 2), printed) == (True, [])
    assert said in shell.error
    assert len(shell.error.splitlines()) == 1
    assert ask_tell(out=shell.run).told == 0


# --- several processes ----------------------------------------------------------------------------

LOOP = """
import sys, time
import raynas

study = raynas.ask_tell(out=sys.argv[1])
while proposals := study.ask(2):
    for proposal in proposals:
        time.sleep(0.1)
        study.tell(proposal, float(proposal.arch["x"] + proposal.arch["y"]))
"""


def loop(folder: Path, run: str) -> subprocess.Popen[str]:
    script = folder / "loop.py"
    script.write_text(LOOP)
    return subprocess.Popen(
        [sys.executable, str(script), run],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.full
def test_two_loops_at_once_lose_nothing_when_one_is_killed(tmp_path: Path) -> None:
    """Killed at whatever it does, while this process asks and tells as well, and goes on alone."""
    study = begun(tmp_path, trials=40)
    other = loop(tmp_path, study.path)
    deadline = time.monotonic() + HANGS_S
    while time.monotonic() < deadline and len(rows(study)) < 3:
        assert other.poll() is None, other.communicate()
        time.sleep(0.1)
    for _ in range(2):
        for proposal in study.ask(2):
            study.tell(proposal, score(proposal.arch))
    other.send_signal(signal.SIGKILL)
    other.communicate(timeout=HANGS_S)
    before, waiting = rows(study), study.pending()
    assert 7 <= len(before) < 40
    assert len(set(before["worker"])) == 2
    while proposals := study.ask(4):
        for proposal in proposals:
            study.tell(proposal, score(proposal.arch))
    after = rows(study)
    assert after["arch_key"].is_unique
    assert sorted(after["trial"]) == list(range(40)), "every number that was asked is told"
    pd.testing.assert_frame_equal(after.head(len(before)), before)
    assert {proposal.trial for proposal in waiting} <= set(after["trial"])
    assert study.done
    assert study.pending() == []
    events = [*after["asked_event"], *after["told_event"]]
    assert sorted(events) == list(range(80)), "one order of all asks and tells"


@pytest.mark.full
def test_three_drivers_on_one_archive_evaluate_nothing_twice(tmp_path: Path) -> None:
    """As each would with an evaluator of its own; one is killed, and frees what it held."""
    study = begun(tmp_path, trials=90)
    drivers = [loop(tmp_path, study.path) for _ in range(3)]
    deadline = time.monotonic() + HANGS_S
    while len(set(rows(study)["worker"])) < 3:
        assert time.monotonic() < deadline
        assert all(driver.poll() is None for driver in drivers)
        time.sleep(0.1)
    drivers[0].send_signal(signal.SIGKILL)
    for driver in drivers:
        _, said = driver.communicate(timeout=HANGS_S)
        assert driver.returncode in (0, -signal.SIGKILL), said
    table = rows(study)
    assert table["arch_key"].is_unique
    assert sorted(table["trial"]) == list(range(90)), "what the killed one held is told as well"
    assert set(table["status"]) == {"completed"}
    events = [*table["asked_event"], *table["told_event"]]
    assert sorted(events) == list(range(180))
    assert study.pending() == []
    replayed = ask_tell(out=study.path)
    assert (replayed.told, replayed.done) == (90, True)
