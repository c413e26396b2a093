"""A run that went on under other bounds or weights: every answer is by those of now."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import raynas
from raynas.cli import main
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.constraints import as_constraints
from raynas.core.evaluator import Measurement
from raynas.core.feasible import Violation
from raynas.core.goals import goals_of
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.study import Study, StudyInfo
from raynas.core.trial import Trial
from raynas.report.effects import effects
from raynas.report.findings import ReportData, front, opponent, running_best
from raynas.results.result import Result
from raynas.storage.run_folder import CONFIG, Folder
from raynas.storage.table_writers import TrialStore
from raynas.storage.tables import load_trials
from tests.inline import INLINE
from tests.toynet import ToyNet

SPACE = ArchSpace.of(op=["conv", "skip"], depth=[2, 10])
BOTH = {"accuracy": "max", "macs": "min"}
# accuracy and MACs in the order of tells; the fourth was beyond a bound of then
ROWS = [(0.5, 2e6), (0.8, 4e6), (0.7, 3e6), (0.9, 9e6)]


def folder(out: Path, rows: Sequence[Mapping[str, float]], **config: Any) -> Result:
    """Return a run of a function whose first start had the bound ``macs <= 5e6``."""
    fields: dict[str, Any] = {"objectives": {"accuracy": "max"}, **config}
    named = {name: ComponentSpec(name="toy") for name in ("space", "algo", "evaluator")}
    settings = SearchConfig(**named, **fields, out=str(out))  # type: ignore[arg-type]
    Folder(str(out)).write(CONFIG, settings.to_json())
    if not (out / "trials").exists():
        beyond = [row.get("macs", 0.0) > 5e6 for row in rows]
        trials = [
            Trial(
                arch=arch,
                number=i,
                status="infeasible" if beyond[i] else "completed",
                objective=None if beyond[i] else row["accuracy"],
                metrics=row,
                told_event=i,
            )
            for i, (arch, row) in enumerate(zip(SPACE, rows, strict=False))
        ]
        TrialStore(str(out), SPACE).append(trials)
    return Result(str(out))


def measured() -> list[dict[str, float]]:
    return [{"accuracy": accuracy, "macs": macs} for accuracy, macs in ROWS]


def numbers(frame: Any) -> list[int]:
    return [int(number) for number in frame["trial"]]


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("high", "kept", "best"), [(3e6, [0, 2], 2), (5e6, [0, 1, 2], 1), (1e7, [0, 1, 2, 3], 3)]
)
def test_the_report_goes_by_the_bounds_of_now(
    high: float, kept: list[int], best: int, tmp_path: Path
) -> None:
    run = folder(tmp_path, measured(), constraints={"macs": (None, high)})
    data = ReportData(trials=run.judged, history=run.history, config=run.config)
    other = opponent(data, data.objective.metric)
    assert other is not None
    assert numbers(data.best) == [run.best.number] == [best]
    assert set(numbers(front(data, other))) == set(numbers(run.pareto(BOTH))) <= set(kept)
    assert running_best(data).index.tolist() == kept
    assert running_best(data).max() == run.best.metrics["accuracy"]
    assert sum(effect.trials for effect in effects(data)) == 2 * len(kept)  # two decisions each
    page = Path(run.report(str(tmp_path / "report.html"))).read_text()
    assert f"Best: trial {best} " in page
    table = page.partition("<h2>The best trials</h2>")[2].partition("</table>")[0]
    assert sorted(map(int, re.findall(r"<tr><td>(\d+)</td>", table))) == kept


def test_the_commands_go_by_the_bounds_of_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder(tmp_path, measured(), constraints={"macs": (None, 3e6)})
    assert main(["trials", run.path, "--csv"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines[:2]] == ["2", "0"]  # the best two come first
    assert list(run.trials["status"]) == ["completed"] * 3 + ["infeasible"]  # as on disk
    assert list(run.judged["status"]) == ["completed", "infeasible"] * 2


def test_what_was_stopped_early_is_not_the_best_of_a_report(tmp_path: Path) -> None:
    run = folder(tmp_path, measured()[:3])
    stopped = Trial(
        arch=list(SPACE)[3], number=3, metrics={"accuracy": 0.99, "macs": 1.0}, told_event=3
    )
    TrialStore(run.path, SPACE).append([stopped])
    again = Result(run.path)
    data = ReportData(trials=again.judged, history=again.history, config=again.config)
    assert numbers(data.best) == [again.best.number] == [1]
    assert 3 not in running_best(data).index


def test_a_bounded_metric_that_is_not_there_is_not_known_to_keep_its_bound(tmp_path: Path) -> None:
    rows = [{**row, "joules": 1.0} if i != 1 else row for i, row in enumerate(measured()[:3])]
    limit = {"joules": (None, 2.0)}
    run = folder(tmp_path, rows, constraints=limit)
    assert run.best.number == 2  # the second has more, and nobody knows its joules
    assert list(run.judged["status"]) == ["completed", "infeasible", "completed"]
    rows_again: list[Trial] = []
    going_on = Study(
        SAMPLERS["random"](SPACE, seed=0),
        goals_of({"accuracy": "max"}, constraints=as_constraints(limit)),
        trials=4,
        setting=StudyInfo(algo="another", evaluator="toy"),
        sink=rows_again.extend,
        history=load_trials(run.path),
    )
    assert going_on.best is not None
    assert going_on.best.number == 2  # best.json is the same
    none = folder(tmp_path, rows, constraints={"watts": (None, 2.0)})
    with pytest.raises(LookupError, match="none is known to keep the bounds, for none has watts"):
        _ = none.best


def test_a_row_has_the_costs_that_were_bounded() -> None:
    rows: list[Trial] = []
    cost = {arch: float(i) for i, arch in enumerate(SPACE)}
    bounds = Violation(as_constraints("macs<=2"), lambda a: {"macs": cost[a], "params": 7.0})
    study = Study(
        SAMPLERS["grid"](SPACE, seed=0),
        goals_of({"accuracy": "max"}),
        trials=4,
        setting=StudyInfo(algo="grid", evaluator="toy"),
        sink=rows.extend,
        bounds=bounds,
    )
    while (asked := study.ask()) is not None:
        study.tell([(asked, Measurement(metrics={"accuracy": 0.5}))])
    assert {row.metrics["macs"] for row in rows if row.scored} == {0.0, 1.0, 2.0}
    assert all("params" not in row.metrics for row in rows if row.scored)


def test_costs_that_were_bounded_later_are_counted(tmp_path: Path) -> None:
    """The function gave none; they need the space, and decide what is retrained as well."""
    space = raynas.ModelSpace(ToyNet)
    size = {
        arch: raynas.cost(space, arch, input_shape=(1, 16, 16)).macs for arch in space.arch_space
    }
    high = sorted(size.values())[5]
    inside = {arch.key for arch, macs in size.items() if macs <= high}
    config = SearchConfig(
        space=ComponentSpec(name="tests.toynet:ToyNet"),
        algo=ComponentSpec(name="random"),
        data=ComponentSpec(name="digits"),
        evaluator=ComponentSpec(name="function"),
        objectives={"accuracy": "max"},
        constraints={"macs": (None, high)},
        out=str(tmp_path),
    )
    Folder(str(tmp_path)).write(CONFIG, config.to_json())
    trials = [
        Trial(arch=arch, number=i, objective=score, metrics={"accuracy": score}, told_event=i)
        for i, (arch, score) in enumerate((arch, 1e-9 * macs) for arch, macs in size.items())
    ]
    TrialStore(str(tmp_path), space.arch_space).append(trials)
    result = raynas.load(str(tmp_path))
    assert max(size, key=lambda arch: size[arch]).key not in inside
    assert result.best.metrics["accuracy"] == pytest.approx(1e-9 * high)
    assert set(result.top(18)["arch_key"]) == inside
    assert set(result.judged["status"]) == {"completed", "infeasible"}
    training = {"epochs": 1, "batch_size": 256}
    found = result.verify(top=2, seeds=1, options=training, ray=INLINE)
    assert list(found.table["group"].value_counts()) == [2, 2]
    assert set(found.table["arch_key"]) <= inside  # the random ones as well
    assert found.table["cheap"].notna().all()
    own = config.model_copy(update={"space": ComponentSpec(name="gone:Net")})
    Folder(str(tmp_path)).write(CONFIG, own.to_json())
    with pytest.raises(
        LookupError, match=r"for none has macs; costs are counted where .* space=\.\."
    ):
        _ = raynas.load(str(tmp_path)).best
    assert raynas.load(str(tmp_path), space=ToyNet).best == result.best


# --- weights --------------------------------------------------------------------------------------


def test_scores_under_other_weights_are_merged_anew(tmp_path: Path) -> None:
    light = {"accuracy": 1.0, "macs": -1e-9}
    heavy = {"accuracy": 1.0, "macs": -1e-6}
    rows = measured()[:3]
    run = folder(tmp_path, rows, objectives=BOTH, scalarize=light)
    assert run.best.number == 1
    other = folder(tmp_path, rows, objectives=BOTH, scalarize=heavy)
    merged = [row["accuracy"] - 1e-6 * row["macs"] for row in rows]
    assert list(other.judged["objective"]) == pytest.approx(merged)
    assert other.best.number == 0
    assert numbers(other.top()) == [0, 2, 1]
    data = ReportData(trials=other.judged, history=other.history, config=other.config)
    assert numbers(data.best) == [0]
    assert running_best(data).to_list() == [0.5] * 3  # the first leads to the end
    alone = folder(tmp_path, rows, objectives=BOTH)  # several objectives, the first in the column
    assert list(alone.judged["objective"]) == [0.5, 0.8, 0.7]


def test_a_sampler_that_goes_on_under_other_weights_is_told_scores_of_one_kind() -> None:
    archs = list(SPACE)
    costs = dict(zip(archs, (2.0, 4.0, 3.0, 9.0), strict=True))

    def study(weight: float, trials: int, rows: list[Trial]) -> Study:
        def fresh() -> Any:
            return Recording(archs)

        return Study(
            fresh(),
            goals_of(BOTH, weights={"accuracy": 1.0, "macs": -weight}),
            trials=trials,
            setting=StudyInfo(algo="toy", evaluator="toy"),
            sink=rows.extend,
            history=list(rows),
            make_sampler=fresh,
        )

    rows: list[Trial] = []
    for weight, trials in ((0.1, 2), (10.0, 4)):
        run = study(weight, trials, rows)
        while (asked := run.ask()) is not None:
            metrics = {"accuracy": costs[asked.arch], "macs": costs[asked.arch]}
            run.tell([(asked, Measurement(metrics=metrics))])
        assert Recording.told == pytest.approx([(1 - weight) * costs[a] for a in archs[:trials]])
    assert run.best is not None
    assert run.best.arch == archs[0]
    assert [row.objective for row in rows[:2]] == pytest.approx([1.8, 3.6])  # what is told stays


class Recording(Sampler):
    """Proposes a list, and keeps what the last one was told."""

    told: list[float | None] = []  # noqa: RUF012

    def __init__(self, archs: Sequence[Arch]) -> None:
        self.left = list(archs)
        Recording.told = []

    def ask(self) -> Arch:
        """Return the next one."""
        return self.left.pop(0)

    def tell(self, trial: Trial) -> None:
        """Keep the objective."""
        Recording.told.append(trial.objective)
