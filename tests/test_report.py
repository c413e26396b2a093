"""The report: its numbers by hand, its figures from its numbers, its page without a network."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from raynas.cli import main
from raynas.core.arch import Arch, Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.decision import Choice, Subset
from raynas.core.objectives import Objective
from raynas.core.trial import Trial
from raynas.report.effects import effects
from raynas.report.findings import ReportData, front, opponent, running_best, top
from raynas.report.option_text import atoms, natural
from raynas.report.packed import packed_plotly, unpacked
from raynas.report.page import report_page, write_report
from raynas.report.pictures import choices as choices_file
from raynas.report.pictures import hover, points, style
from raynas.report.pictures.choices import choices
from raynas.report.pictures.history import history as progress
from raynas.report.pictures.pareto import pareto as tradeoff
from raynas.report.pictures.style import NothingToDraw
from raynas.report.pictures.training import training
from raynas.report.scale import plain, scale
from raynas.results.report_data import read_tested, write_tested
from raynas.results.result import Result
from raynas.storage.run_folder import CONFIG, Folder
from raynas.storage.table_writers import HistoryStore, TrialStore
from raynas.storage.tables import read_history, read_trials

Goals = Mapping[str, Literal["max", "min"]]
EVIL = "<script>alert(1)</script>"
SPACE = ArchSpace((Choice("op", ("conv", "skip")), Choice("depth", (2, 10))))

# accuracy, MACs, op, depth; the last one fails
ROWS = [
    (0.50, 2e6, "conv", 2),
    (0.80, 4e6, "conv", 10),
    (0.70, 4e6, "skip", 10),
    (0.80, 3e6, "skip", 2),
    (0.60, 1e6, "skip", 2),
]


def done(number: int, arch: Mapping[str, Value], score: float, **metrics: float) -> Trial:
    """Return a completed trial that was told in the order of its number."""
    return Trial(
        arch=Arch(arch), number=number, objective=score, metrics=metrics, told_event=2 * number + 1
    )


def failed(number: int, error: str, arch: Mapping[str, Value]) -> Trial:
    """Return a failed trial that was told in the order of its number."""
    event = 2 * number + 1
    return Trial(arch=Arch(arch), number=number, status="failed", error=error, told_event=event)


def some_trials() -> list[Trial]:
    """Return five completed trials and, told after the second, a failed one."""
    trials = [
        done(number + (number > 1), {"op": op, "depth": depth}, accuracy, accuracy=accuracy, macs=m)
        for number, (accuracy, m, op, depth) in enumerate(ROWS)
    ]
    return [*trials, failed(2, "ValueError: no", {"op": "conv", "depth": 2})]


def data_of(
    out: Path,
    trials: Sequence[Trial],
    *,
    space: ArchSpace | None = SPACE,
    objectives: Goals | None = None,
    history: Sequence[Mapping[str, float | int | str | None]] = (),
) -> ReportData:
    """Return what a run's folder holds, after writing it through the real stores."""
    folder = Folder(str(out))
    config = SearchConfig(
        space=ComponentSpec(name="mine", options={"width": 0.25}),
        algo=ComponentSpec(name="random"),
        evaluator=ComponentSpec(name="score"),
        objectives={"accuracy": "max"} if objectives is None else dict(objectives),
        trials=max(1, len(trials)),
        out=folder.path,
        versions={"raynas": "0.1.0"},
    )
    folder.write(CONFIG, config.to_json())
    TrialStore(folder.path, space).append(trials)
    HistoryStore(folder.path).append(history)
    return ReportData(
        trials=read_trials(folder.path).to_pandas(),
        history=read_history(folder.path).to_pandas(),
        config=config,
    )


@pytest.fixture
def data(tmp_path: Path) -> ReportData:
    return data_of(tmp_path, some_trials())


def traces(figure: Any) -> dict[str, Any]:
    """Return the traces of a figure by name."""
    return {trace.name: trace for trace in figure.data}


# Numbers


def test_the_best_so_far_is_kept_and_a_failure_takes_a_place(data: ReportData) -> None:
    assert running_best(data).to_dict() == {0: 0.5, 1: 0.8, 3: 0.8, 4: 0.8, 5: 0.8}


def test_the_best_so_far_of_a_minimised_metric_falls(tmp_path: Path) -> None:
    losses = [0.5, 0.7, 0.3, 0.4]
    trials = [done(i, {"op": "conv", "depth": 2}, -x, loss=x) for i, x in enumerate(losses)]
    data = data_of(tmp_path, trials, objectives={"loss": "min"})
    assert running_best(data).to_list() == [0.5, 0.5, 0.3, 0.3]
    assert data.best["trial"].to_list() == [2]


def test_trials_count_in_the_order_of_tells(tmp_path: Path) -> None:
    late = Trial(arch=Arch({"op": "conv", "depth": 2}), objective=0.1, metrics={"accuracy": 0.1})
    early = done(1, {"op": "skip", "depth": 2}, 0.9, accuracy=0.9)
    data = data_of(tmp_path, [Trial(**{**vars(late), "told_event": 9}), early])
    assert data.told["trial"].to_list() == [1, 0]
    assert running_best(data).to_list() == [0.9, 0.9]


def test_ties_go_to_the_lower_loss_then_to_the_earlier_trial(tmp_path: Path) -> None:
    arch: dict[str, Value] = {"op": "conv", "depth": 2}
    losses = [0.3, 0.2, 0.2]
    trials = [done(i, arch, 0.9, accuracy=0.9, loss=x) for i, x in enumerate(losses)]
    data = data_of(tmp_path, trials)
    assert top(data, 2)["trial"].to_list() == [1, 2]
    assert data.best["trial"].to_list() == [Result(data.config.out).best.number] == [1]


def test_the_front_holds_what_no_trial_beats(data: ReportData) -> None:
    line = front(data, Objective("macs", "min"))
    assert line[["macs", "accuracy"]].to_numpy().tolist() == [[1e6, 0.6], [3e6, 0.8]]
    assert front(data, Objective("macs", "max"))["macs"].to_list() == [4e6]


def test_effects_are_differences_of_means(data: ReportData) -> None:
    # the mean of all five is 0.68
    found = {
        (e.decision, e.option): (e.trials, round(e.mean, 9), round(e.effect, 9))
        for e in effects(data)
    }
    assert found == {
        ("op", "conv"): (2, 0.65, -0.03),
        ("op", "skip"): (3, 0.7, 0.02),
        ("depth", "2"): (3, 0.633333333, -0.046666667),
        ("depth", "10"): (2, 0.75, 0.07),
    }
    assert [e.option for e in effects(data)] == ["conv", "skip", "2", "10"]


def test_every_member_of_a_subset_was_taken_and_unreached_decisions_do_not_count(
    tmp_path: Path,
) -> None:
    inner = ArchSpace((Choice("kernel", (3, 5)),))
    opened = Choice("op", ("conv", "skip"), {"conv": inner})
    space = ArchSpace((Subset("in", ("a", "b"), None), opened))
    archs: list[dict[str, Value]] = [
        {"in": ("a", "b"), "op": "conv", "kernel": 5},
        {"in": ("b",), "op": "skip"},
        {"in": (), "op": "skip"},
    ]
    scores = [0.9, 0.6, 0.3]
    trials = [done(i, a, s, accuracy=s) for i, (a, s) in enumerate(zip(archs, scores, strict=True))]
    data = data_of(tmp_path, trials, space=space)
    counts = {(e.decision, e.option): (e.trials, round(e.effect, 9)) for e in effects(data)}
    assert counts == {
        ("in", "a"): (1, 0.3),
        ("in", "b"): (2, 0.15),
        ("op", "conv"): (1, 0.3),
        ("op", "skip"): (2, -0.15),
        ("kernel", "5"): (1, 0.3),
    }


def test_true_and_one_are_two_options(tmp_path: Path) -> None:
    archs: list[dict[str, Value]] = [{"x": True}, {"x": 1}, {"x": "1"}]
    trials = [done(i, arch, 0.5, accuracy=0.5) for i, arch in enumerate(archs)]
    found = effects(data_of(tmp_path, trials, space=None))
    assert [(e.option, e.trials) for e in found] == [("True", 1), ("1", 1), ("1", 1)]


def test_duplicates_and_infeasible_trials_are_no_evidence(tmp_path: Path) -> None:
    first = done(0, {"op": "conv", "depth": 2}, 0.5, accuracy=0.5, macs=1e6)
    again = Trial(**{**vars(first), "number": 1, "told_event": 3, "status": "duplicate"})
    over = done(2, {"op": "skip", "depth": 2}, 0.9, accuracy=0.9, macs=9e6)
    data = data_of(tmp_path, [first, again, Trial(**{**vars(over), "status": "infeasible"})])
    assert [(e.option, e.trials) for e in effects(data)] == [("conv", 1), ("2", 1)]
    assert data.best["trial"].to_list() == [0]
    assert set(traces(tradeoff(data))) >= {"Trial", "Duplicate", "Infeasible"}


@pytest.mark.parametrize(
    ("metrics", "objectives", "expected"),
    [
        ({"macs": 1.0, "params": 2.0}, {"accuracy": "max"}, Objective("macs", "min")),
        ({"macs": 1.0, "margin": 2.0}, {"accuracy": "max", "margin": "max"}, Objective("margin")),
        ({"params": 1.0, "loss": 2.0}, {"accuracy": "max"}, Objective("params", "min")),
        ({"energy_joules": 1.0}, {"accuracy": "max"}, Objective("energy_joules", "min")),
        ({"loss": 1.0}, {"accuracy": "max"}, None),
        ({}, {"accuracy": "max"}, None),
    ],
)
def test_the_objective_is_set_against_the_second_one_or_a_cost(
    tmp_path: Path, metrics: dict[str, float], objectives: Goals, expected: Objective | None
) -> None:
    trial = done(0, {"op": "conv", "depth": 2}, 0.5, accuracy=0.5, **metrics)
    assert (
        opponent(data_of(tmp_path, [trial], objectives=objectives), next(iter(objectives)))
        == expected
    )


@pytest.mark.parametrize(
    ("metric", "largest", "title", "factor"),
    [
        ("accuracy", 0.9, "Accuracy (%)", 100.0),
        ("accuracy", 90.0, "Accuracy", 1.0),
        ("top5_accuracy", 1.0, "Top5 accuracy (%)", 100.0),
        ("macs", 3e8, "MACs (millions)", 1e-6),
        ("macs", 3e10, "MACs (billions)", 1e-9),
        ("params", 2e4, "Params (thousands)", 1e-3),
        ("params", 0.0, "Params", 1.0),
        ("latency_ms", 7.0, "Latency (ms)", 1.0),
        ("activation_bytes", 7e6, "Activation (MB)", 1e-6),
        ("_s", 7.0, "(s)", 1.0),
        ("score", 7.0, "Score", 1.0),
    ],
)
def test_an_axis_has_a_unit(metric: str, largest: float, title: str, factor: float) -> None:
    found = scale(metric, pd.Series([0.0, largest]))
    assert (found.title.strip(), found.factor) == (title, factor)


def test_options_stand_in_natural_order() -> None:
    mixed: list[Atom] = ["9" * 5000, "block10", "block2", 10, 9.5, True]
    assert sorted(mixed, key=natural) == [True, 9.5, 10, "block2", "block10", "9" * 5000]
    assert atoms("ab") == ("ab",)
    assert plain("macs").title == "MACs"


# Figures


def test_the_tradeoff_shows_all_trials_the_front_and_the_best(data: ReportData) -> None:
    figure = tradeoff(data)
    shown = traces(figure)
    assert list(shown["Trial"].x) == pytest.approx([2.0, 4.0, 4.0, 3.0, 1.0])
    assert list(shown["Trial"].y) == pytest.approx([50.0, 80.0, 70.0, 80.0, 60.0])
    assert list(shown["Pareto front"].x) == pytest.approx([1.0, 3.0])
    assert shown["Pareto front"].line.shape == "hv"
    assert (list(shown["Best trial"].x), list(shown["Best trial"].y)) == ([4.0], [80.0])
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == (
        "MACs (millions)",
        "Accuracy (%)",
    )


def test_hovering_tells_trial_key_metrics_and_decisions(data: ReportData) -> None:
    text = traces(tradeoff(data))["Trial"].hovertext[1].replace("\N{NO-BREAK SPACE}", " ")
    key = Arch({"op": "conv", "depth": 10}).key
    assert text.startswith(f"<b>trial 1</b> ({key})<br>accuracy 80.00 %, macs 4 M<br>")
    assert text.endswith("depth: 10, op: conv")


def test_a_long_architecture_is_cut_in_the_hover_only(tmp_path: Path) -> None:
    arch: dict[str, Value] = {f"stage{i}.block{i}.operation": "separable" for i in range(60)}
    trials = [done(number, arch, 0.5, accuracy=0.5, macs=1.0) for number in range(2)]
    data = data_of(tmp_path, trials, space=None)
    lines = traces(tradeoff(data))["Trial"].hovertext[0].split("<br>")
    assert len(lines) <= hover.HOVER_LINES + 5
    assert lines[-1] == "…"
    assert "stage59.block59.operation" in report_page(data)


def test_progress_counts_failures_and_runs_to_the_end(data: ReportData) -> None:
    shown = traces(progress(data))
    assert list(shown["Trial"].x) == [1, 2, 4, 5, 6]
    assert list(shown["Best so far"].x) == [1, 2, 4, 5, 6, 6]
    assert list(shown["Best so far"].y) == pytest.approx([50.0, 80.0, 80.0, 80.0, 80.0, 80.0])
    assert list(shown["Best trial"].x) == [2]


def test_training_shows_loss_and_accuracy_from_epoch_one(tmp_path: Path) -> None:
    history = [{"epoch": float(i), "loss": 2.0 - i, "accuracy": 0.5 + i / 4} for i in range(2)]
    figure = training(data_of(tmp_path, some_trials(), history=history))
    loss, accuracy = figure.data
    assert (list(loss.x), list(loss.y)) == ([1, 2], [2.0, 1.0])
    assert list(accuracy.y) == [50.0, 75.0]
    assert figure.layout.yaxis2.title.text == "Accuracy (%)"


def test_training_makes_do_with_what_the_history_has(tmp_path: Path) -> None:
    figure = training(data_of(tmp_path, [], history=[{"loss": 1.0}, {"loss": 0.5}]))
    (loss,) = figure.data
    assert list(loss.x) == [1, 2]
    with pytest.raises(NothingToDraw, match="no supernet was trained"):
        training(data_of(tmp_path / "other", [], history=[{"lr": 1.0}]))


def test_the_heat_map_names_options_in_cells_where_decisions_differ(data: ReportData) -> None:
    figure = choices(data)
    (heat,) = figure.data
    assert heat.z.round(9).tolist() == [[-3.0, 2.0], [-4.666666667, 7.0]]
    assert heat.text.tolist() == [["conv (2)", "skip (3)"], ["2 (3)", "10 (2)"]]
    assert (heat.zmin, heat.zmax) == pytest.approx((-7.0, 7.0))
    assert figure.layout.xaxis.showticklabels is False
    assert "3 trials, mean accuracy 63.33 %<br>-4.67 percentage points" in heat.hovertext[1][0]


def test_the_heat_map_has_a_column_per_option_where_decisions_agree(tmp_path: Path) -> None:
    space = ArchSpace((Choice("first", ("a", "b")), Choice("second", ("a", "b"))))
    trials = [done(i, {"first": "ab"[i], "second": "b"}, i, gain=float(i)) for i in range(2)]
    data = data_of(tmp_path, trials, space=space, objectives={"gain": "max"})
    figure = choices(data)
    (heat,) = figure.data
    assert heat.text.tolist() == [["1", "1"], ["", "2"]]
    assert pd.isna(heat.z[1][0])
    assert list(figure.layout.xaxis.ticktext) == ["a", "b"]


def test_blue_is_better_whichever_way_the_objective_goes(tmp_path: Path) -> None:
    trials = [done(n, {"op": o, "depth": 2}, -n, loss=n) for n, o in enumerate(["conv", "skip"])]
    for name, goal in (("lower", "min"), ("higher", "max")):
        goals: Goals = {"loss": "min" if goal == "min" else "max"}
        figure = choices(data_of(tmp_path / name, trials, objectives=goals))
        colours = [colour for _, colour in figure.data[0].colorscale]
        assert colours.index(style.POINT) == (0 if goal == "min" else 2)


def test_an_average_of_few_trials_does_not_stretch_the_colours(tmp_path: Path) -> None:
    scores = [0.5] * 6 + [0.6] * 6 + [0.0]
    ops = ["conv"] * 6 + ["skip"] * 6 + ["pool"]
    trials = [
        done(i, {"op": op}, s, accuracy=s)
        for i, (op, s) in enumerate(zip(ops, scores, strict=True))
    ]
    data = data_of(tmp_path, trials, space=None)
    sure = max(abs(e.effect) for e in effects(data) if e.trials >= choices_file.SURE)
    figure = choices(data)
    assert figure.data[0].zmax == pytest.approx(100 * sure)
    assert sure < 0.1 < max(abs(e.effect) for e in effects(data))


def test_many_trials_are_drawn_by_webgl_and_none_is_left_out(
    data: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {trace.type for trace in tradeoff(data).data} == {"scatter"}
    monkeypatch.setattr(points, "WEBGL_OVER", 5)
    for figure in (tradeoff(data), progress(data)):
        assert {trace.type for trace in figure.data} == {"scattergl"}
        assert len(traces(figure)["Trial"].x) == 5


# Page


def body_of(page: str) -> str:
    """Return a page without what is packed in it."""
    assert page.count(packed_plotly()) == 1
    return re.sub(r'<script type="text/plain".*?</script>', "", page, flags=re.DOTALL)


def packed_in(page: str) -> dict[str, Any]:
    """Return the figures and the trials that are packed in a page."""
    text = re.search(r'id="data">(.*?)</script>', page, flags=re.DOTALL)
    assert text is not None
    data: dict[str, Any] = json.loads(unpacked(text[1]))
    return data


def test_the_page_says_what_was_searched_and_what_was_found(data: ReportData) -> None:
    body = html.unescape(body_of(report_page(data)))
    for text in (
        "mine, searched by random",
        "mine (width 0.25)",
        "maximise accuracy",
        "6 of 6 (5 completed, 1 failed)",
        "raynas 0.1.0",
        "Best: trial 1 ",
        "<dd>80.00 %</dd>",
        "Accuracy against MACs",
        "1 failed",
        "ValueError: no",
    ):
        assert text in body


def test_the_page_states_the_constraints(data: ReportData) -> None:
    bounds = {"macs": (None, 40e6), "accuracy": (0.5, None)}
    bounded = replace(data, config=data.config.model_copy(update={"constraints": bounds}))
    body = html.unescape(report_page(bounded))
    assert "<dt>Constraints</dt><dd>macs <= 40 M, accuracy >= 50.00 %</dd>" in body
    assert "Constraints" not in body_of(report_page(data))


def test_scores_that_were_measured_again_are_called_so(data: ReportData) -> None:
    row = {"group": "best", "cheap": 0.7, "mean": 0.8, "std": 0.1, "seeds": 2, "arch_key": "ab"}
    alone = replace(data, verified={"rows": [row], "said": "what it says"})
    shared = alone.config.model_copy(update={"supernet": ComponentSpec(name="single_path")})
    body = body_of(report_page(alone))
    assert ">Search's score</th>" in body
    assert "Rescored" not in body
    body = body_of(report_page(replace(alone, config=shared)))
    assert ">Rescored</th>" in body
    assert "<br>Rescored: the cheap score with the supernet&#x27;s weights, measured again" in body
    assert "Search's score" not in body


def test_the_page_needs_no_network(data: ReportData) -> None:
    page = report_page(data)
    body = body_of(page).replace('href="data:,"', "")
    assert not re.search(r"https?://|(?:src|href)\s*=|@import|url\(|fetch\(", body)
    assert "showSendToCloud: false" in page
    assert unpacked(packed_plotly()) == get_plotlyjs()
    assert "default-src 'none'" in page


def test_names_of_users_are_text(tmp_path: Path) -> None:
    space = ArchSpace((Choice(EVIL, (f"<b>{EVIL}", "y")), Choice("z", ("y",))))
    arch: dict[str, Value] = {EVIL: f"<b>{EVIL}", "z": "y"}
    trials = [done(n, arch, 0.5, **{EVIL: 0.5, f"{EVIL}_ms": 1.0}) for n in range(2)]
    trials += [failed(2, f"<img src=x>{EVIL}", {EVIL: "y", "z": "y"})]
    data = data_of(tmp_path, trials, space=space, objectives={EVIL: "max"})
    body = body_of(report_page(data))
    assert "<script>alert" not in body
    assert "</script>alert" not in body
    assert "<img" not in body
    # plotly reads its texts as HTML, so in them as well a tag must be an entity
    figures = packed_in(report_page(data))["figures"]
    assert {"architecture", "tradeoff", "progress"} <= figures.keys()
    for name, figure in figures.items():
        assert "script>" not in str(figure), name
        assert name in ("importance", "timeline") or "&lt;" in str(figure), name


def test_the_first_twenty_errors_are_shown(tmp_path: Path) -> None:
    trials = [failed(i, f"Error number {i}.", {"op": "conv", "depth": 2}) for i in range(25)]
    body = body_of(report_page(data_of(tmp_path, trials)))
    assert "No trial was completed (25 failed)" in body
    assert "25 failed, the first 20" in body
    assert re.findall(r"Error number (\d+)\.", body) == [str(i) for i in range(20)]


def test_a_run_without_trials_has_a_page(tmp_path: Path) -> None:
    data = data_of(tmp_path, [])
    for draw in (tradeoff, progress, training, choices):
        with pytest.raises(NothingToDraw):
            draw(data)
    page = report_page(data)
    assert "none ran" in page
    assert packed_in(page) == {"figures": {}, "trials": None}
    assert running_best(data).empty
    assert front(data_of(tmp_path / "two", some_trials()[-1:]), Objective("macs")).empty


def test_a_trial_with_nothing_but_its_objective_has_a_page(tmp_path: Path) -> None:
    arch: dict[str, Value] = {"op": "conv", "depth": 2}
    trials = [done(0, arch, 3.0, gain=3.0), done(1, {**arch, "depth": 3}, 2.0, gain=2.0)]
    data = data_of(tmp_path, trials, objectives={"gain": "max"})
    with pytest.raises(NothingToDraw, match="no metric to set against 'gain'"):
        tradeoff(data)
    assert list(traces(progress(data))["Trial"].y) == [3.0, 2.0]
    assert "Gain in the course of the search" in report_page(data)


def test_pictures_of_one_trial_are_left_out(tmp_path: Path) -> None:
    arch: dict[str, Value] = {"op": "conv", "depth": 2}
    trials = [done(0, arch, 0.5, accuracy=0.5, macs=1e6), failed(1, "no", arch)]
    data = data_of(tmp_path, trials)
    for draw in (tradeoff, progress, choices):
        with pytest.raises(NothingToDraw, match="at least 2"):
            draw(data)
    page = report_page(data)
    assert "in the course of the search" not in page
    assert "<h2>The best trial</h2>" in page


def test_the_time_counts_training(tmp_path: Path) -> None:
    began = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    one, two = some_trials()[:2]
    trials = [
        replace(one, started_utc=began, finished_utc=began + timedelta(minutes=5)),
        replace(two, started_utc=began, finished_utc=began + timedelta(minutes=10)),
    ]
    epochs: list[dict[str, float | str | None]] = [
        {"algo": "spos", "epoch": epoch, "duration_s": 900.0} for epoch in range(3)
    ]
    page = report_page(data_of(tmp_path / "trained", trials, history=epochs))
    assert "55 min (45 min of training, 10 min of trials); trials from 2026-01-02 03:04" in page
    page = report_page(data_of(tmp_path / "alone", trials))
    assert "trials from 2026-01-02 03:04 UTC, for 10 min" in page


def test_equal_runs_have_equal_pages(data: ReportData) -> None:
    assert report_page(data) == report_page(data)


def test_a_result_writes_its_report(data: ReportData, tmp_path: Path) -> None:
    written = Result(data.config.out).report()
    assert written == f"{data.config.out}/report.html"
    other = str(tmp_path / "other.html")
    assert Result(data.config.out).report(other) == other
    assert Path(written).read_text("utf-8") == Path(other).read_text("utf-8") == report_page(data)
    write_report(data, written)
    assert Path(written).read_text("utf-8") == report_page(data)


def test_the_command_prints_where_the_report_is(
    data: ReportData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", data.config.out]) == 0
    assert capsys.readouterr().out.strip() == f"{data.config.out}/report.html"
    assert main(["report", data.config.out, "--out", str(tmp_path / "x.html")]) == 0
    assert (tmp_path / "x.html").is_file()
    assert main(["report", str(tmp_path / "nothing")]) == 2


def test_test_scores_stand_beside_the_best(data: ReportData) -> None:
    key = str(data.best["arch_key"].iloc[0])
    tested = {key: {"test_accuracy": 0.75, "test_loss": 1.0}, "other": {"test_accuracy": 0.1}}
    body = body_of(report_page(replace(data, tested=tested, retrained={"test_accuracy": 0.9})))
    assert "<dt>Test accuracy</dt><dd>75.00 %</dd>" in body
    assert "<dt>Test accuracy, retrained</dt><dd>90.00 %</dd>" in body
    assert "10.00 %" not in body


def test_test_scores_are_kept_until_the_supernet_is_trained_on(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    write_tested(folder, 3, {"a": {"test_accuracy": 0.5}})
    write_tested(folder, 3, {"b": {"test_accuracy": 0.6}})
    assert read_tested(folder, 3).keys() == {"a", "b"}
    assert read_tested(folder, 4) == {}
