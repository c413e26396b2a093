"""The end of a search: its best are evaluated again, and the best of these is the best."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import raynas
from raynas.cli.common import final_words
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.errors import Interrupted, SearchFailed
from raynas.core.finalists import best_trial, final_scores, finalists
from raynas.core.goals import goals_of
from raynas.core.pipeline import pipeline_config
from raynas.core.progress import Progress
from raynas.core.trial import Trial
from raynas.nn import Linear, ValueChoice
from raynas.report.as_json import search_answer
from raynas.report.console import Line
from raynas.report.order import best_first
from raynas.report.outcome import show_search
from raynas.report.page import report_page
from raynas.results.run_state import is_over, signature
from raynas.results.summary import search_summary
from raynas.setup.final_stage import final_seeds
from tests.inline import INLINE

SPACE = ArchSpace.of(x=list(range(12)))
ACCURACY = goals_of({"accuracy": "max"})
BOTH = goals_of({"accuracy": "max", "macs": "min"})
MISLED = {11: 0.2, 10: 0.9, 9: 0.7}  # what the cheap score's best are really worth


def cheap(arch: Arch) -> dict[str, float]:
    """Rank the options by their number."""
    return {"accuracy": arch["x"] / 20}  # type: ignore[operator]


class Wide(nn.Module):
    """One layer of an elastic width."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Linear(4, ValueChoice([1, 2, 3], "width"))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer gives."""
        out: Tensor = self.layer(x)
        return out


class Better:
    """Knows the truth, and counts who asked; each further call for one architecture adds 0.02."""

    stop_after: int | None = None  # Ctrl-C at the call after so many

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __call__(self, arch: Arch) -> dict[str, float]:
        """Return the truth."""
        if self.stop_after is not None and self.calls.total() == self.stop_after:
            raise KeyboardInterrupt
        self.calls[arch.key] += 1
        truth = MISLED.get(int(str(arch["x"])), 0.1)
        return {"accuracy": truth + 0.02 * (self.calls[arch.key] - 1)}


def searched(out: Path, final: Any, **options: Any) -> raynas.Result:
    """Return a search of the whole space by the cheap score."""
    given: dict[str, Any] = {
        "space": SPACE,
        "algo": "grid",
        "evaluator": cheap,
        "trials": 12,
    } | options
    return raynas.search(**given, out=str(out), final=final, ray=INLINE)


class Phases(Progress):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def phase(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> raynas.Result:
    """A search whose three best were evaluated again, twice each."""
    out = tmp_path_factory.mktemp("final") / "run"
    return searched(out, {"top": 3, "seeds": 2, "evaluator": Better()})


def test_the_best_is_the_best_of_those_evaluated_again(run: raynas.Result) -> None:
    """The cheap score's favourite is worth less than the second."""
    assert run.best.arch == {"x": 10}
    assert run.best.objective == 0.5
    assert list(run.top(4)["arch"].map(json.loads)) == [{"x": n} for n in (10, 9, 11, 8)]
    assert json.loads((Path(run.path) / "best.json").read_text()) == {"x": 10}
    assert raynas.load(run.path).best.arch == {"x": 10}


def test_both_scores_stand_in_the_table(run: raynas.Result) -> None:
    """The mean and the sample's deviation of 0.90 and 0.92, and none where nothing was measured."""
    row = run.top(1).iloc[0]
    assert (row["accuracy"], row["objective"], row["final_seeds"]) == (0.5, 0.5, 2)
    assert row["final_accuracy"] == row["final_objective"] == pytest.approx(0.91)
    assert row["final_accuracy_std"] == pytest.approx(0.02 / np.sqrt(2))
    others = run.trials[run.trials["final_seeds"] == 0]
    assert len(others) == 9
    assert others["final_objective"].isna().all()


def test_the_report_tells_both_scores_and_how_well_they_agree(run: raynas.Result) -> None:
    """The search's order 11, 10, 9 is 10, 9, 11 at the end: two of three pairs swap."""
    page = report_page(run.report_data)
    assert "The best, evaluated again" in page
    assert escape("of the search's score and the final one, over its best: -0.333") in page
    assert "91.00 %" in page


def test_the_log_names_trials_by_their_numbers(run: raynas.Result) -> None:
    """Evaluations of the end are numbered from 0 again, which says nothing to who reads it."""
    text = (Path(run.path) / "logs" / "run.log").read_text()
    keys = dict(zip(run.trials["trial"], run.trials["arch_key"], strict=True))
    named = re.findall(r" best +trial (\d+) (\w+)", text)
    assert named
    assert all(keys[int(number)] == key for number, key in named)
    assert f"best     at the end, seed 1: {run.best.arch.key} accuracy=0.9" in text


def test_without_it_nothing_is_added(tmp_path: Path) -> None:
    """No column, no section, and the favourite of the search is the best."""
    run = searched(tmp_path / "run", None)
    assert run.best.arch == {"x": 11}
    assert not [name for name in run.trials if str(name).startswith("final")]
    assert "The best, evaluated again" not in report_page(run.report_data)


def test_the_budget_is_said_before_the_first_trial(tmp_path: Path) -> None:
    """And it is what is spent: three of seven seeds."""
    phases, better = Phases(), Better()
    final = {"top": 3, "seeds": 7, "evaluator": better}
    searched(tmp_path / "run", final, progress=phases)
    said = "at the end the 3 best are evaluated again, 7 times each, by 'function': 21 evaluations"
    assert phases.said[0] == said
    assert sorted(better.calls.values()) == [7, 7, 7]


@pytest.mark.parametrize(
    ("final", "objectives", "said"),
    [
        (
            {"top": 20, "seeds": 2},
            {"accuracy": "max"},
            "the 12 best are {}, 2 times each,{}: 24 {}s",
        ),
        ({"top": 1, "seeds": 1}, {"accuracy": "max"}, "the best is {}{}: 1 {}"),
        (
            {"top": 3, "seeds": 1},
            {"accuracy": "max", "x": "max"},
            "at most 3 best are {}{}: at most 3 {}s",
        ),
    ],
)
def test_the_budget_is_no_more_than_there_can_be(
    tmp_path: Path, final: Any, objectives: Any, said: str
) -> None:
    """A search of fewer trials than its end takes has no more of them; a front may have fewer."""

    def both(arch: Arch) -> dict[str, float]:
        return cheap(arch) | {"x": float(arch["x"])}  # type: ignore[arg-type]

    phases = Phases()
    options = {"evaluator": both, "objectives": objectives, "progress": phases}
    searched(tmp_path / "run", final | {"evaluator": both}, **options)
    words = "evaluated again", " by 'function'", "evaluation"
    assert phases.said[0] == f"at the end {said.format(*words)}"
    searched(tmp_path / "run", final | {"evaluator": both}, **options, resume=True)
    told = "12 of 12 trials are told"
    assert phases.said[-1] == f"nothing is left to do: {told}, and the best are evaluated again"


@pytest.mark.parametrize("stop_after", [0, 1, 3, 5])
def test_what_was_stopped_goes_on(tmp_path: Path, stop_after: int) -> None:
    """A run stopped in the midst of its end measures nothing twice when it goes on."""
    out, stopped = tmp_path / "run", Better()
    stopped.stop_after = stop_after
    with pytest.raises(
        Interrupted, match="after 12 of 12 trials, while its best were evaluated again; go on"
    ):
        searched(out, {"top": 3, "seeds": 2, "evaluator": stopped})
    favourite = 11 if stop_after < 5 else 10  # with five, two have all of their seeds
    assert raynas.load(str(out)).best.arch == {"x": favourite}
    assert json.loads((out / "best.json").read_text()) == {"x": favourite}
    better, phases = Better(), Phases()
    final = {"top": 3, "seeds": 2, "evaluator": better}
    run = searched(out, final, resume=True, progress=phases)
    left = "1 evaluation left" if stop_after == 5 else f"{6 - stop_after} evaluations left"
    assert phases.said[0] == f"12 of 12 trials are told, and at the end {left}"
    assert better.calls.total() == 6 - stop_after
    assert (run.trials["final_seeds"] == 2).sum() == 3
    assert run.best.arch == {"x": 10}


def test_more_trials_bring_new_ones_to_the_end(tmp_path: Path) -> None:
    """Those of an earlier end stay, and only newcomers are measured."""
    out, better = tmp_path / "run", Better()
    final = {"top": 2, "seeds": 1, "evaluator": better}
    first = searched(out, final, trials=6).trials["choice.x"].nlargest(2)
    phases = Phases()
    run = searched(out, final, resume=True, trials=12, progress=phases)
    assert phases.said[0].endswith(
        "the 2 best are evaluated again by 'function': at most 2 evaluations"
    )
    assert sorted(run.trials.query("final_seeds == 1")["choice.x"]) == sorted({*first, 10, 11})
    count = len({*first, 10, 11})
    assert better.calls.total() == count
    searched(out, final, resume=True)
    assert better.calls.total() == count
    assert searched(out, 0, resume=True).best.arch == {"x": 11}


def scaled(arch: Arch, *, factor: float) -> dict[str, float]:
    """Return the truth, or its opposite."""
    return {"accuracy": factor * MISLED.get(int(str(arch["x"])), 0.1)}


class Scaled:
    """The same, as an object."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, arch: Arch) -> dict[str, float]:
        """Return the truth, or its opposite."""
        return scaled(arch, factor=self.factor)


def closed_over(factor: float) -> Callable[[Arch], dict[str, float]]:
    """Return the same as a function within another, which also counts its calls."""
    calls = 0

    def evaluate(arch: Arch) -> dict[str, float]:
        nonlocal calls
        calls += 1
        return scaled(arch, factor=factor)

    return evaluate


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (partial(scaled, factor=1.0), partial(scaled, factor=-1.0)),
        (Scaled(1.0), Scaled(-1.0)),
        (closed_over(1.0), closed_over(-1.0)),
        (lambda arch: scaled(arch, factor=1.0), lambda arch: scaled(arch, factor=-1.0)),
    ],
    ids=["partial", "object", "closure", "lambda"],
)
def test_another_evaluator_of_the_same_name_begins_anew(
    tmp_path: Path, first: Any, other: Any
) -> None:
    """What the one has measured is not taken for what the other would, and is found again."""
    out, final = tmp_path / "run", {"top": 3, "seeds": 1}
    assert searched(out, final | {"evaluator": first}).best.arch == {"x": 10}
    again = searched(out, final | {"evaluator": other}, resume=True)
    assert again.best.arch == {"x": 11}
    assert again.best.objective == 0.55
    assert again.top(1)["final_accuracy"].item() == -0.2
    phases = Phases()
    back = searched(out, final | {"evaluator": first}, resume=True, progress=phases)
    assert back.best.arch == {"x": 10}
    assert not [text for text in phases.said if text.startswith("evaluating")]
    assert len([*(out / "final").iterdir()]) == 2


@pytest.mark.parametrize("made", [partial(scaled, factor=-1.0), Scaled(-1.0)])
def test_going_on_makes_the_evaluator_of_the_end_again(tmp_path: Path, made: Any) -> None:
    """With the arguments that it had, which its class or function alone does not say."""
    out = tmp_path / "run"
    searched(out, {"top": 3, "seeds": 1, "evaluator": made}, trials=8)
    run = searched(out, None, resume=True, trials=12)
    assert sorted(run.trials["final_accuracy"].dropna().unique()) == [-0.9, -0.7, -0.2, -0.1]
    assert len([*(out / "final").iterdir()]) == 1


def test_going_on_without_the_function_of_the_end_says_what_to_pass(tmp_path: Path) -> None:
    """A function within another cannot be imported again, whatever the search goes by."""

    def local(arch: Arch) -> dict[str, float]:
        return cheap(arch)

    out = tmp_path / "run"
    searched(out, {"top": 1, "seeds": 1, "evaluator": local})
    with pytest.raises(LookupError, match=r"evaluator of final of this run .*; pass final=$"):
        searched(out, None, resume=True)
    assert searched(out, 0, resume=True).best.arch == {"x": 11}


def test_an_architecture_that_fails_at_the_end_is_not_the_best(tmp_path: Path) -> None:
    """The second best is, by the seeds that all others have."""

    def fails(arch: Arch) -> dict[str, float]:
        if arch["x"] == 10:
            raise RuntimeError("no memory")
        return {"accuracy": MISLED[arch["x"]]}  # type: ignore[index]

    run = searched(tmp_path / "run", {"top": 3, "seeds": 1, "evaluator": fails})
    assert run.best.arch == {"x": 9}
    assert (run.trials["final_seeds"] == 1).sum() == 2
    said = "At the end 1 of the best failed and cannot be the best, the first"
    assert said in run.report_data.final_said
    assert "with RuntimeError: no memory" in report_page(run.report_data)


def test_an_end_that_fails_altogether_is_said(tmp_path: Path) -> None:
    """The best is the search's, which looks as if nothing had been wrong."""

    def fails(arch: Arch) -> dict[str, float]:
        raise RuntimeError(f"no memory for {arch['x']}")

    run = searched(tmp_path / "run", {"top": 2, "seeds": 3, "evaluator": fails})
    assert run.best.arch == {"x": 11}
    page = report_page(run.report_data)
    assert "The best, evaluated again" in page
    assert "At the end 2 of the best failed" in page
    text = StringIO()
    show_search(Console(file=text, width=200), run)
    assert "At the end 2 of the best failed" in text.getvalue()


def test_the_best_is_told_with_what_its_end_gave(run: raynas.Result) -> None:
    """On the terminal, to scripts and to trackers, which else would have the cheap score alone."""
    text = StringIO()
    show_search(Console(file=text, width=200), run)
    assert "accuracy 50.00 %; at the end accuracy 91.00 %, the mean of 2 seeds" in text.getvalue()
    for metrics in (
        search_answer(run).best.metrics,
        search_summary(run, run.best, files=False).metrics,
    ):
        assert metrics["accuracy"] == 0.5
        assert metrics["final_accuracy"] == pytest.approx(0.91)


@pytest.mark.parametrize(
    ("top", "message"),
    [(0, "--final 0 leaves the end out"), (5, "--final 5 and --final-option top=3")],
)
def test_flags_that_contradict_each_other_are_refused(top: int, message: str) -> None:
    """Neither is ignored."""
    with pytest.raises(ValueError, match=message):
        final_words(top, ["top=3"])


def test_bounds_hold_at_the_end(tmp_path: Path) -> None:
    """What breaks one by the better measurement is not the best, whatever the cheap one said."""

    def cheap_latency(arch: Arch) -> dict[str, float]:
        return cheap(arch) | {"delay": 1.0}

    def slow(arch: Arch) -> dict[str, float]:
        return {"accuracy": MISLED[arch["x"]], "delay": 2.0 if arch["x"] == 10 else 1.0}  # type: ignore[index]

    asked: Counter[str] = Counter()

    def counted(arch: Arch) -> dict[str, float]:
        asked[arch.key] += 1
        return slow(arch)

    final = {"top": 3, "seeds": 1, "evaluator": counted}
    options = {"evaluator": cheap_latency, "constraints": ["delay<1.5"]}
    assert searched(tmp_path / "run", final, **options).best.arch == {"x": 9}
    again = searched(tmp_path / "run", final, **options, resume=True)
    assert again.best.arch == {"x": 9}
    assert set(asked.values()) == {1}, "what broke a bound is not measured again"


def test_bounds_of_now_come_before_what_the_end_gave(tmp_path: Path) -> None:
    """What the search's own measurement refuses, since a resumption, is listed last."""

    def cheap_delay(arch: Arch) -> dict[str, float]:
        return cheap(arch) | {"delay": float(arch["x"])}  # type: ignore[arg-type]

    def quick(arch: Arch) -> dict[str, float]:
        return Better()(arch) | {"delay": 1.0}

    final = {"top": 3, "seeds": 1, "evaluator": quick}
    searched(tmp_path / "run", final, evaluator=cheap_delay)
    run = searched(
        tmp_path / "run", final, evaluator=cheap_delay, constraints=["delay<9.5"], resume=True
    )
    assert run.best.arch == {"x": 9}
    assert list(best_first(run.judged)["choice.x"])[:2] == [9, 8]
    assert set(best_first(run.judged)["choice.x"][-2:]) == {10, 11}


def test_bounds_on_costs_hold_for_what_the_end_measures(tmp_path: Path) -> None:
    """The best that is left in the folder is that which the result tells."""

    def accurate(arch: Arch) -> dict[str, float]:
        return {"accuracy": arch["width"] / 4}  # type: ignore[operator]

    def heavy(arch: Arch) -> dict[str, float]:
        return accurate(arch) | {"macs": 1e9 if arch["width"] == 3 else 1.0}

    run = raynas.search(
        raynas.ModelSpace(Wide, input_shape=(4,)),
        "grid",
        evaluator=accurate,
        constraints=["macs<1e6"],
        trials=3,
        final={"top": 2, "seeds": 1, "evaluator": heavy},
        out=str(tmp_path / "run"),
        ray=INLINE,
    )
    assert run.best.arch == {"width": 2}
    assert json.loads((tmp_path / "run" / "best.json").read_text()) == {"width": 2}


def test_an_end_that_gives_no_objective_is_told_from_the_search(tmp_path: Path) -> None:
    """What was searched is there, with its own best."""
    out = tmp_path / "run"
    with pytest.raises(SearchFailed, match="final: the evaluator returns no metric"):
        searched(out, {"top": 2, "seeds": 1, "evaluator": lambda arch: {"acc": arch["x"]}})
    assert raynas.load(str(out)).best.arch == {"x": 11}
    assert json.loads((out / "best.json").read_text()) == {"x": 11}


def test_a_run_goes_on_until_its_end_is_evaluated(tmp_path: Path) -> None:
    """A report that is written anew meanwhile, and a list of runs, have to see the end."""
    out, over, signatures = tmp_path / "run", list[bool](), set[Any]()

    def better(arch: Arch) -> dict[str, float]:
        run = raynas.load(str(out))
        over.append(is_over(run))
        signatures.add(signature(run.path))
        return {"accuracy": MISLED[arch["x"]]}  # type: ignore[index]

    run = searched(out, {"top": 3, "seeds": 2, "evaluator": better})
    assert over == [False] * 6
    assert is_over(raynas.load(str(out)))
    assert len(signatures | {signature(run.path)}) > 2, "what it evaluates can be seen to change"


def test_a_run_that_goes_on_is_not_over_before_its_newcomers(tmp_path: Path) -> None:
    """``raynas watch`` would stop with the pictures of before: two had been evaluated already."""
    out, over, better = tmp_path / "run", list[bool](), Better()

    def watched(arch: Arch) -> dict[str, float]:
        over.append(is_over(raynas.load(str(out))))
        return better(arch)

    final = {"top": 2, "seeds": 1, "evaluator": watched}
    searched(out, final, trials=6)
    searched(out, final, trials=12, resume=True)
    assert len(over) > 2
    assert not any(over)
    assert is_over(raynas.load(str(out)))


def test_a_run_of_fewer_than_its_end_takes_is_over(tmp_path: Path) -> None:
    """A copy of its folder has other times, by which it cannot be told."""
    run = searched(tmp_path / "run", {"top": 20, "seeds": 1, "evaluator": Better()})
    os.utime(tmp_path / "run" / "best.json", (0, 0))
    assert is_over(run)


def test_the_line_says_what_is_evaluated(tmp_path: Path) -> None:
    """What the end evaluates is no part of the search, and is counted by itself."""
    text = StringIO()
    line = Line(Console(file=text, width=200))
    searched(tmp_path / "run", {"top": 3, "seeds": 2, "evaluator": Better()}, progress=line)
    counts = re.findall(r"^(search|final\S* ?\S* ?\d*) (\d+/\d+)  best", text.getvalue(), re.M)
    last = [(name, count) for name, count in counts if len({*count.split("/")}) == 1]
    assert last == [("search", "12/12"), ("final, seed 1", "3/3"), ("final, seed 2", "3/3")]


def test_weights_of_the_searchs_best_stay(tmp_path: Path) -> None:
    """No others were kept, whichever is the best at the end."""

    def trained(net: nn.Module) -> tuple[dict[str, float], dict[str, Tensor]]:
        weights = {name: torch.full_like(value, 7.0) for name, value in net.state_dict().items()}
        return {"accuracy": float(weights["layer.bias"].numel())}, weights

    def better(arch: Arch) -> dict[str, float]:
        return {"accuracy": -arch["width"]}  # type: ignore[operator]

    run = raynas.search(
        raynas.ModelSpace(Wide, input_shape=(4,)),
        "grid",
        evaluator=trained,
        trials=3,
        final={"top": 3, "seeds": 1, "evaluator": better},
        out=str(tmp_path / "run"),
        ray=INLINE,
    )
    assert run.best.arch == {"width": 1}
    assert run.model({"width": 3}).state_dict()["layer.bias"].tolist() == [7.0] * 3


def trial(number: int, **metrics: float) -> Trial:
    """Return a completed trial of option ``number``."""
    goals = BOTH if "macs" in metrics else ACCURACY
    scores = goals.scores(metrics)
    arch = Arch({"x": number})
    return Trial(arch=arch, number=number, objective=scores[0], scores=scores, metrics=metrics)


def test_finalists_of_several_objectives_dominate_most_together() -> None:
    """By hand: spans are 1, the worst of the front lies at -0.1 and -0.1.

    Alone, (0.9, 0.8) dominates 1.0 * 0.9, more than (1, 0) with 1.1 * 0.1 and (0, 1) with
    0.1 * 1.1; then (0, 1) and (1, 0) each add 0.1 * (1.1 - 0.9) and 0.1 * 0.1 = 0.02 and 0.01.
    """
    points = {0: (1.0, 0.0), 1: (0.9, 0.8), 2: (0.0, 1.0), 3: (0.5, 0.5)}
    trials = [trial(n, accuracy=a, macs=-m) for n, (a, m) in points.items()]
    assert [t.number for t in finalists(trials, 5, BOTH)] == [1, 2, 0], "the dominated never"
    assert [t.number for t in finalists(trials, 2, BOTH)] == [1, 2]


def test_finalists_are_each_architecture_once() -> None:
    """A duplicate takes no place, and what has no score neither."""
    twice = [trial(1, accuracy=0.5), trial(1, accuracy=0.5), trial(2, accuracy=0.4)]
    unscored = Trial(arch=Arch({"x": 3}), status="failed")
    assert [t.number for t in finalists([*twice, unscored], 3, ACCURACY)] == [1, 2]
    assert finalists([unscored], 3, ACCURACY) == finalists([unscored], 3, BOTH) == []


def test_the_best_is_told_by_all_seeds_or_by_none() -> None:
    """An architecture that lacks a seed has no final score; ties go by the search's order."""
    seeds = [[trial(1, accuracy=0.5), trial(2, accuracy=0.9)], [trial(1, accuracy=0.7)]]
    scores = final_scores(seeds, ACCURACY)
    assert {k: s.objective for k, s in scores.items()} == {Arch({"x": 1}).key: pytest.approx(0.6)}
    both = [trial(1, accuracy=0.1), trial(2, accuracy=0.9)]
    best = best_trial(both, scores)
    assert best is not None
    assert best.number == 1
    assert best_trial(both, {}) == both[1]
    assert best_trial([], scores) is None


@pytest.mark.parametrize(
    ("final", "message"),
    [
        (True, "final: expected how many of the best"),
        ("5", "final: expected how many of the best"),
        (-1, "final: top: input should be greater than 0, got -1"),
        ({"seeds": 0, "evaluator": cheap}, "final: seeds: input should be greater than 0, got 0"),
        (5, "final: an ArchSpace builds no networks to train: name what evaluates"),
        ({"epochs": 3}, "final: an ArchSpace builds no networks"),
        ({"evaluator": Better(), "epochs": 3}, "'epochs' is an option of an evaluator that is"),
        ({"evaluator": Better(), "tops": 3}, "did you mean 'top'?"),
        ({"evaluator": "shared"}, "final: shared weights are of the supernet that is searched"),
        ({"evaluator": "external"}, "final: 'external' measures nothing"),
        ({"evaluator": "tabel"}, "final: no evaluator named 'tabel'; did you mean 'table'?"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_starts(
    tmp_path: Path, final: Any, message: str
) -> None:
    """In one sentence that begins with the argument, and without a folder."""
    with pytest.raises((ValueError, TypeError, LookupError)) as refused:
        searched(tmp_path / "run", final)
    assert message in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_what_gives_the_same_each_time_is_asked_once(tmp_path: Path) -> None:
    """A table, and a function that says so; what the run says beforehand is what it does."""
    asked: Counter[str] = Counter()

    def looked_up(arch: Arch) -> dict[str, float]:
        asked[arch.key] += 1
        return {"accuracy": MISLED.get(int(str(arch["x"])), 0.1)}

    looked_up.deterministic = True  # type: ignore[attr-defined]
    phases = Phases()
    run = searched(tmp_path / "a", {"top": 3, "evaluator": looked_up}, progress=phases)
    assert (
        phases.said[0] == "at the end the 3 best are evaluated again by 'function': 3 evaluations"
    )
    assert list(asked.values()) == [1, 1, 1]
    assert run.best.arch == {"x": 10}
    with pytest.raises(ValueError, match=r"final: seeds: 'function' scores .* expected 1, got 2"):
        searched(tmp_path / "b", {"seeds": 2, "evaluator": looked_up})
    with pytest.raises(ValueError, match="evaluates by 'function' with the same options anyway"):
        searched(tmp_path / "b", {"evaluator": looked_up}, evaluator=looked_up)
    pd.DataFrame({"x": range(12), "accuracy": 0.5}).to_parquet(tmp_path / "truth.parquet")
    table = {"top": 2, "evaluator": "table", "path": str(tmp_path / "truth.parquet")}
    run = searched(tmp_path / "c", table)
    assert run.config.final is not None
    assert run.config.final.seeds == 1


def test_a_measure_of_untrained_networks_may_be_taken_again(tmp_path: Path) -> None:
    """Other initial weights give another score, though the search goes by the same measure."""
    run = raynas.search(
        "mlp",
        "random",
        data="digits",
        evaluator="synflow",
        objectives={"synflow": "max"},
        trials=2,
        final={"top": 2, "evaluator": "synflow"},
        out=str(tmp_path / "run"),
        ray=INLINE,
    )
    assert set(run.trials["final_seeds"]) == {3}
    assert (run.trials["final_synflow_std"] > 0).all()


def test_the_same_evaluator_is_refused(tmp_path: Path) -> None:
    """A table gives what it gave; a table of another column may give more."""
    rows = pd.DataFrame({"x": range(12), "accuracy": np.arange(12) / 20, "later": 1.0})
    rows["later"] = [MISLED.get(n, 0.1) for n in range(12)]
    rows.drop(columns="later").to_parquet(tmp_path / "cheap.parquet")
    later = rows.drop(columns="accuracy").rename(columns={"later": "accuracy"})
    later.to_parquet(tmp_path / "later.parquet")
    tables = [["table", {"path": str(tmp_path / f"{n}.parquet")}] for n in ("cheap", "later")]
    with pytest.raises(ValueError, match="evaluates by 'table' with the same options anyway"):
        searched(tmp_path / "run", {"evaluator": tables[0]}, evaluator=tables[0])
    final = {"top": 3, "seeds": 1, "evaluator": "table", "path": str(tmp_path / "later.parquet")}
    assert searched(tmp_path / "run", final, evaluator=tables[0]).best.arch == {"x": 10}


def test_a_metric_that_would_be_hidden_is_refused(tmp_path: Path) -> None:
    """The table has one column of a name."""
    options = {"objectives": {"accuracy": "max", "final_accuracy": "max"}}
    with pytest.raises(ValueError, match="final: 'final_accuracy' is a column of what it gives"):
        searched(tmp_path / "run", {"evaluator": Better()}, **options)


def test_seeds_are_others_than_the_searchs() -> None:
    """Its own has chosen who is compared; shared weights give the same for any."""
    assert final_seeds(3, 1) == [0, 2, 3]
    with pytest.raises(
        ValueError, match="'shared' scores an architecture alike each time: expected 1, got 2"
    ):
        raynas.search(
            "mobilenet_v2_cifar",
            data="digits",
            final={"evaluator": "shared", "validation_images": 3000, "seeds": 2},
            ray=INLINE,
        )


def test_what_the_end_goes_by_is_not_mixed_with_what_the_search_goes_by(tmp_path: Path) -> None:
    """By the function of the search 11, 10, 9; by the table 10, 9, 11; so two of three swap."""
    rows = pd.DataFrame({"x": range(12), "accuracy": [MISLED.get(n, 0.1) for n in range(12)]})
    rows.to_parquet(tmp_path / "truth.parquet")
    searched(tmp_path / "run", {"top": 3, "seeds": 1, "evaluator": Better()})
    final = {"top": 3, "seeds": 1, "evaluator": "table", "path": str(tmp_path / "truth.parquet")}
    run = searched(tmp_path / "run", final, resume=True)
    assert run.rank_correlation("function", "table").value == pytest.approx(-1 / 3)


def test_configuration_files_take_it() -> None:
    """As a number, or with keys."""
    steps: Mapping[str, Any] = {"search": {"space": "nas_bench_201", "final": {"top": 2}}}
    assert pipeline_config(steps, sets={}).steps[0].fields.final == {"top": 2}
    assert pipeline_config(steps, sets={"search.final": 3}).steps[0].fields.final == 3
    with pytest.raises(ValueError, match=r"search\.final.*got True"):
        pipeline_config(steps, sets={"search.final": True})


@pytest.mark.full
def test_networks_are_trained_again_from_fresh_weights(tmp_path: Path) -> None:
    """By ``standalone``, without early stopping, for the epochs that are asked for."""
    run = raynas.search(
        "mlp",
        "random",
        data="digits",
        trials=3,
        epochs=1,
        final={"top": 2, "seeds": 2, "epochs": 1},
        out=str(tmp_path / "run"),
        ray=INLINE,
    )
    assert (run.trials["final_seeds"] == 2).sum() == 2
    assert run.config.final is not None
    assert run.config.final.evaluator.options["early_stopping"] is False
    with pytest.raises(LookupError, match="2 architectures have scores by both 'shared' and"):
        run.rank_correlation()
    (folder,) = (Path(run.path) / "final").iterdir()
    assert {seed.name for seed in folder.iterdir()} == {"seed-1", "seed-2"}
