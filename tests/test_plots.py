"""The pictures of a run: each has the numbers of its table, or says in one sentence why not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from torch import nn

import raynas
from raynas.cli import main
from raynas.core.arch import Arch, Value
from raynas.core.config import ComponentSpec
from raynas.core.errors import UnknownName
from raynas.report.columns import column_texts
from raynas.report.network import network_of
from raynas.report.packed import unpacked
from raynas.report.pictures.predicted import left_out_predictions
from raynas.report.pictures.style import NothingToDraw, count_axis
from raynas.results.option_names import names_of, option_names
from raynas.results.plots import PICTURES, Plots
from tests.runs_on_disk import all_trials, failed, gradient_history, write_run

VERIFIED = {
    "metric": "accuracy",
    "said": "well",
    "rows": [
        {"group": g, "cheap": c, "mean": m, "std": 0.0, "seeds": 1, "arch_key": k}
        for g, c, m, k in (
            ("best", 0.9, 0.8, "a"),
            ("best", 0.8, 0.9, "b"),
            ("random", 0.1, 0.2, "c"),
        )
    ],
}
every_picture = pytest.mark.parametrize("name", PICTURES)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> raynas.Result:
    """Return a run that has something for every picture."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    result = write_run(
        out, all_trials(), history=gradient_history(), algo=ComponentSpec(name="sgas")
    )
    (out / "verified.json").write_text(json.dumps(VERIFIED))
    return result


def named(figure: go.Figure) -> dict[str, Any]:
    """Return the traces by name."""
    return {trace.name: trace for trace in figure.data}


# Laws of all


def test_every_method_is_listed() -> None:
    methods = {name for name in vars(Plots) if not name.startswith("_")}
    assert methods == set(PICTURES) == set(dir(Plots(lambda: None)))  # type: ignore[arg-type, return-value]


@every_picture
def test_a_picture_has_data_and_a_size(run: raynas.Result, name: str) -> None:
    figure = getattr(run.plot, name)()
    assert isinstance(figure, go.Figure)
    assert figure.layout.height or name in ("history", "pareto")
    assert figure.data
    drawn = json.loads(figure.to_json())["data"]
    assert max(len(json.dumps(trace)) for trace in drawn) > 100
    assert figure.to_json() == getattr(run.plot, name)().to_json()


@every_picture
def test_a_picture_of_nothing_says_why_in_one_sentence(tmp_path: Path, name: str) -> None:
    empty = write_run(tmp_path / "empty", [])
    broken = write_run(tmp_path / "failed", [failed(n, "ValueError: no") for n in range(3)])
    for result in (empty, broken):
        if name == "timeline" and result is broken:
            assert named(result.plot.timeline()).keys() == {"Failed"}
            continue
        with pytest.raises(NothingToDraw) as caught:
            getattr(result.plot, name)()
        assert 20 < len(str(caught.value)) < 200
        assert "\n" not in str(caught.value)


@every_picture
def test_one_trial_is_drawn_or_refused(tmp_path: Path, name: str) -> None:
    one = write_run(tmp_path, all_trials()[:1])
    try:
        figure = getattr(one.plot, name)()
    except NothingToDraw:
        assert name not in ("architecture", "timeline")
    else:
        assert name in ("architecture", "timeline")
        assert figure.data


@pytest.mark.parametrize("picture", ["pareto", "rank_correlation"])
def test_a_misspelt_metric_gets_the_nearest(run: raynas.Result, picture: str) -> None:
    for axis in ({"x": "mac"}, {"x": "accuracy", "y": "mac"}):
        with pytest.raises(UnknownName, match="no trial has a metric 'mac'; did you mean 'macs'"):
            getattr(run.plot, picture)(**axis)


# Numbers


def test_history_has_every_trial_and_the_best_so_far(run: raynas.Result) -> None:
    traces = named(run.plot.history())
    assert list(traces["Trial"].y) == pytest.approx((run.trials["accuracy"] * 100).tolist())
    best = np.maximum.accumulate(run.trials["accuracy"].to_numpy()) * 100
    assert list(traces["Best so far"].y) == pytest.approx([*best, best[-1]])


def test_pareto_takes_the_metrics_that_are_named(run: raynas.Result) -> None:
    figure = run.plot.pareto(x="accuracy", y="macs")
    front = run.pareto({"macs": "min", "accuracy": "max"})
    drawn = named(figure)["Pareto front"]
    assert sorted(drawn.y) == pytest.approx(sorted(front["macs"] / 1e6))
    assert "layer1/op:\N{NO-BREAK SPACE}" in drawn.hovertext[0]
    assert figure.layout.xaxis.title.text == "Accuracy (%)"


def test_importance_is_that_of_the_table(run: raynas.Result) -> None:
    table = run.importance()
    (bars,) = run.plot.importance().data
    shown = table[table["importance"] > 0]
    assert list(bars.x) == pytest.approx((shown["importance"] * 100).tolist())
    assert run.plot.importance().layout.yaxis.ticktext[0] == "layer1/op"
    (costs,) = run.plot.importance("macs").data
    assert costs.hovertext[0].startswith("<b>layer2/depth</b>")


def test_alphas_and_scores_are_those_of_the_history(run: raynas.Result) -> None:
    figure = run.plot.alphas()
    assert figure.data[0].z.tolist() == [[0.75, 0.5, 0.75, 1.0]] * 2
    assert [a.text for a in figure.layout.annotations] == ["conv", "conv"]
    assert "0.5" in figure.data[0].hovertext[0][0]  # an option that holds a point
    scores = run.plot.sgas()
    assert scores.data[0].z.tolist() == [[0.25, 0.5, 0.75, 1.0]] * 2
    assert (list(scores.data[1].x), list(scores.data[1].y)) == ([4, 4], [0, 1])


def test_predictions_of_the_algorithm_are_taken_where_there_are(tmp_path: Path) -> None:
    trials = [replace(t, predicted=t.metrics["accuracy"] / 2) for t in all_trials()[:4]]
    figure = write_run(tmp_path, trials).plot.predicted()
    assert list(named(figure)["Trial"].x) == pytest.approx([25.0, 25.0, 25.0, 25.5])
    assert "beforehand" in figure.layout.xaxis.title.text


def test_predictions_leave_out_what_they_predict(run: raynas.Result) -> None:
    data = run.report_data
    places = list(range(len(run.trials)))
    guessed = left_out_predictions(data, places)
    assert np.corrcoef(guessed, run.trials["accuracy"])[0, 1] > 0.8
    other = data.told.assign(objective=data.told["objective"].where(data.told.index != 7, 99.0))
    vars(data)["told"] = other
    assert left_out_predictions(data, places)[7] == pytest.approx(guessed[7])


def test_rank_correlation_of_verified_and_of_metrics(run: raynas.Result) -> None:
    figure = run.plot.rank_correlation()
    assert list(figure.data[0].x) == [3.0, 2.0, 1.0]
    assert list(figure.data[0].y) == [2.0, 3.0, 1.0]
    assert figure.layout.title.text == "Kendall's tau 0.33"
    assert run.plot.rank_correlation(y="accuracy").layout.title.text == "Kendall's tau 1.00"


def test_timeline_has_training_before_the_trials(run: raynas.Result) -> None:
    figure = run.plot.timeline()
    factor = {"Time (s)": 1.0, "Time (min)": 60.0}[figure.layout.xaxis.title.text]
    bars = {name: np.array(t.x, float).reshape(-1, 3) * factor for name, t in named(figure).items()}
    ends = np.array([[0, 5], [5, 10], [10, 15], [15, 20]])
    np.testing.assert_allclose(bars["Training"][:, :2], ends, atol=1e-9)
    assert bars["Completed"][0, :2].tolist() == pytest.approx([20, 29])
    rows = np.array(named(figure)["Completed"].y, float).reshape(-1, 3)[:, 0]
    assert rows.tolist() == [1 + number % 2 for number in range(27)]


def test_lineage_goes_back_to_the_first(run: raynas.Result) -> None:
    path = named(run.plot.lineage())["Ancestry of the best"]
    best = run.best.number
    assert list(path.x)[:2] == [best, best + 1]
    assert list(path.x)[-3:-1] == [1, 2]


def test_parallel_runs_through_the_choices_that_matter(run: raynas.Result) -> None:
    (lines,) = run.plot.parallel().data
    assert lines.dimensions[0].label == "layer1/op"
    assert list(lines.dimensions[0].ticktext) == ["conv", "pool", "skip"]
    assert lines.dimensions[-1].values.tolist() == pytest.approx(
        (run.trials["accuracy"] * 100).tolist()
    )


# The network


@pytest.mark.parametrize(
    ("arch", "cells", "groups", "chain"),
    [
        (
            {"c/n0/from": ("s0", "s1"), "c/n0/op/s0": "x", "c/n0/op/s1": "y"},
            {"c": [("s0", "n0"), ("s1", "n0")]},
            [],
            False,
        ),
        ({"c/n0/from0": "s1", "c/n0/op0": "x"}, {"c": [("s1", "n0")]}, [], False),
        ({"edge_1_0": "x", "edge_2_1": "y"}, {"cell": [("0", "1"), ("1", "2")]}, [], False),
        (
            {"stage1_block1": "x", "stage1_block2": "y"},
            {},
            ["stage1_block1", "stage1_block2"],
            True,
        ),
        ({"layer0/op": "x", "layer1/op": "y", "layer1/skip": (0,)}, {}, ["layer0", "layer1"], True),
        ({"op": "x", "depth": 2}, {}, ["op", "depth"], False),
    ],
)
def test_labels_tell_the_network(
    arch: dict[str, Value], cells: dict[str, Any], groups: list[str], chain: bool
) -> None:
    network = network_of(Arch(arch))
    assert {c.name: [(e.source, e.node) for e in c.edges] for c in network.cells} == cells
    assert [group.name for group in network.groups] == groups
    assert network.chain == chain


@pytest.mark.parametrize(
    "arch",
    [
        {"edge_1_0": "none", "edge_2_0": "conv", "edge_2_1": "pool"},
        {
            **{"c/n0/from": ("s0", "s1"), "c/n0/op/s0": "x", "c/n0/op/s1": "y"},
            **{"c/n1/from": ("s0", "n0"), "c/n1/op/s0": "x", "c/n1/op/n0": "y"},
        },
        {f"stage{n}.kernel": n for n in range(9)} | {f"stage{n}.expand": n for n in range(9)},
        {"op": "a rather long name of an option, which is cut", "block.depth": 3, "block.width": 4},
    ],
)
def test_boxes_do_not_overlap(run: raynas.Result, arch: dict[str, Value]) -> None:
    figure = run.plot.architecture(arch)
    boxes = [s for s in figure.layout.shapes if s.type == "rect"]
    assert len(boxes) == len(named(figure)["Parts"].text)
    for at, one in enumerate(boxes):
        assert one.x0 >= 0
        assert one.x1 <= figure.layout.width
        assert one.y1 <= figure.layout.height
        for other in boxes[:at]:
            apart_x = one.x1 <= other.x0 or other.x1 <= one.x0
            assert apart_x or one.y1 <= other.y0 or other.y1 <= one.y0


def test_unnamed_candidates_are_called_by_their_class() -> None:
    assert names_of([nn.SiLU(), nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)]) == [
        "SiLU",
        "LeakyReLU 1",
        "LeakyReLU 2",
    ]
    act = raynas.nn.LayerChoice([nn.SiLU(), nn.ReLU()], label="act")
    op = raynas.nn.LayerChoice({"a": nn.SiLU(), "b": nn.ReLU()}, label="op")
    assert option_names(nn.Sequential(act, op)) == {"act": ["SiLU", "ReLU"]}


def test_names_of_candidates_are_drawn(run: raynas.Result) -> None:
    data = replace(run.report_data, option_names={"act": ["SiLU", "ReLU"]})
    figure = Plots(lambda: data).architecture({"act": 1})
    assert "act: ReLU" in named(figure)["Parts"].text


# Axes and columns


@pytest.mark.parametrize(
    ("first", "last", "step"), [(1, 2, 1), (1, 9, 1), (1, 10, 2), (1, 100, 20), (1, 10_000, 2000)]
)
def test_what_is_counted_has_whole_ticks(first: int, last: int, step: int) -> None:
    assert count_axis(first, last)["dtick"] == step


def test_a_column_has_one_unit_and_equal_decimals() -> None:
    texts = column_texts([1.5e6, 97_785.0, float("nan"), 2e6], "macs")
    assert texts == ["1.500 M", "0.098 M", "-", "2.000 M"]
    assert column_texts([0.5, 1.0], "accuracy") == ["50.00 %", "100.00 %"]


# Files


@pytest.mark.parametrize("write", ["python", "command"])
def test_files_by_their_endings(run: raynas.Result, tmp_path: Path, write: str) -> None:
    page, plain = tmp_path / "h.html", tmp_path / "h.json"
    for file in (page, plain):
        if write == "python":
            run.plot.history(file=file)
        else:
            assert main(["plot", run.path, "history", str(file)]) == 0
    assert json.loads(plain.read_text())["data"][0]["name"] == "Trial"
    text = re.search(r'id="data">(.*?)</script>', page.read_text(), flags=re.DOTALL)
    assert text is not None
    assert json.loads(unpacked(text[1]))["figures"].keys() == {"history"}


def test_a_png_is_an_image(run: raynas.Result, tmp_path: Path) -> None:
    if shutil.which("chromium") is None and shutil.which("google-chrome") is None:
        pytest.skip("no Chrome or Chromium here, which draws images")
    run.plot.history(file=tmp_path / "h.png")
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["histry", "x.png"], "no picture 'histry'; did you mean 'history'"),
        (["history", "x.pgn"], "ends in one of .png"),
        (["history", "nowhere/x.png"], "there is no folder 'nowhere'"),
        (["history", "x.json", "--x", "macs"], "--x goes with pareto and rank_correlation"),
        (["pareto", "x.json", "--x", "mac"], "did you mean 'macs'"),
    ],
)
def test_what_a_command_cannot_draw_is_said(
    run: raynas.Result,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plot", run.path, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_picture_is_not_written_over(run: raynas.Result, tmp_path: Path) -> None:
    file = tmp_path / "h.json"
    draw: Callable[..., int] = lambda *more: main(["plot", run.path, "history", str(file), *more])  # noqa: E731
    assert [draw(), draw(), draw("--force")] == [0, 2, 0]
