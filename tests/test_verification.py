"""Whether scores can be trusted: statistics by hand, and retraining by real Ray."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

import raynas
from raynas.cli import main
from raynas.core.arch import Arch
from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.errors import UnknownName
from raynas.core.trial import Trial
from raynas.report.trial_tables import verification_table
from raynas.results.analysis import kendall, mean_difference
from raynas.results.verification import summary
from raynas.storage.run_folder import CONFIG, Folder
from raynas.storage.table_writers import TrialStore
from tests.inline import INLINE
from tests.toynet import ToyNet


def test_intervals() -> None:
    x = np.arange(12.0)
    y = x.copy()
    y[[0, 5]] = y[[5, 0]]
    tau = kendall(x, y)
    assert tau.low is not None
    assert tau.high is not None
    assert tau.value == pytest.approx(kendalltau(x, y).statistic)
    assert tau.low < tau.value <= tau.high <= 1.0
    assert kendall(x, np.ones(12)).value == 0.0
    gap = mean_difference(np.array([2.0, 4.0]), np.array([1.0, 1.0, 1.0]))
    assert (gap.value, gap.low, gap.high) == (2.0, 1.0, 3.0)  # of two values, both or either
    assert str(gap) == "2.000 (95 %: 1.000 to 3.000)"


@pytest.mark.parametrize(("best", "random"), [([2.0], [1.0]), ([2.0, 3.0], [1.0]), ([2.0], [1, 3])])
def test_one_sample_has_no_interval(best: list[float], random: list[float]) -> None:
    gap = mean_difference(np.array(best), np.array(random))
    assert gap.value == np.mean(best) - np.mean(random)
    assert (gap.low, gap.high) == (None, None)
    assert str(gap) == f"{gap.value:.3f}"


def test_a_summary_by_hand() -> None:
    archs = [Arch({"a": i}) for i in range(4)]
    scores = [0.9, 0.8, 0.5, 0.4]
    rows = pd.DataFrame(
        [
            {"arch_key": a.key, "arch": a.to_json(), "accuracy": score + shift}
            for a, score in zip(archs, scores, strict=True)
            for shift in (-0.1, 0.1)
        ]
    )
    cheap = {a.key: c for a, c in zip(archs, [0.7, 0.6, 0.3, 0.2], strict=True)}
    found = summary(rows, archs[:2], archs[2:], cheap)
    assert list(found.table["group"]) == ["best", "best", "random", "random"]
    assert list(found.table["mean"]) == pytest.approx(scores)
    assert list(found.table["seeds"]) == [2, 2, 2, 2]
    assert list(found.table["std"]) == pytest.approx([0.2 / np.sqrt(2)] * 4)
    assert found.gain.value == pytest.approx(0.4)
    assert found.correlation is not None
    assert found.correlation.value == 1.0
    assert str(found).startswith("best less random: 40.00 percentage points (95 %: 30.00 to 50.00)")
    single = summary(rows, archs[:1], archs[3:], cheap)
    assert str(single) == "best less random: 50.00 percentage points of stand-alone accuracy"
    estimates = json.loads(single.to_json())
    assert estimates["gain"] == {"value": pytest.approx(0.5), "low": None, "high": None}
    alone = summary(rows, archs[:2], archs[2:], {archs[0].key: 0.7})
    assert alone.correlation is None


@pytest.mark.usefixtures("local_ray")
def test_the_best_and_random_ones_are_retrained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    result = raynas.search(ToyNet, "random", trials=4, epochs=1, out=out, ray=INLINE)
    with pytest.raises(LookupError, match=r"call Result\.verify first"):
        result.rank_correlation()
    training = {"epochs": 1, "batch_size": 64}
    found = result.verify(top=2, seeds=2, options=training, ray={"workers": 1})
    table = found.table
    assert list(table["group"].value_counts()) == [2, 2]
    assert table["arch_key"].nunique() == 4
    assert list(table["seeds"]) == [2] * 4
    assert set(table.loc[table["group"] == "best", "arch_key"]) == set(result.top(2)["arch_key"])
    assert table["cheap"].between(0, 1).all()
    assert found.correlation is not None
    files = sorted((tmp_path / "run" / "verify").rglob("*.parquet"))
    assert "Kendall" in raynas.load(out, space=ToyNet).folder.read("verified.json")
    page = Path(result.report(str(tmp_path / "report.html"))).read_text()
    assert "Retrained on their own" in page
    flags = ["--top", "2", "--seeds", "2", "--option", "epochs=1", "--option", "batch_size=64"]
    assert main(["verify", out, *flags]) == 0
    said = capsys.readouterr().out
    assert "best less random" in said
    assert "measured again" not in said  # there is no supernet
    assert " cheap " in said
    again = raynas.load(out, space=ToyNet).verify(top=2, seeds=2, options=training)
    assert sorted((tmp_path / "run" / "verify").rglob("*.parquet")) == files  # nothing anew
    pd.testing.assert_frame_equal(again.table, table)


def test_rank_correlation_of_two_evaluators(tmp_path: Path) -> None:
    space = raynas.ArchSpace.of(a=list(range(5)))
    config = SearchConfig(
        space=ComponentSpec(name="toy"),
        algo=ComponentSpec(name="random"),
        evaluator=ComponentSpec(name="shared"),
        objectives={"accuracy": "max"},
        out=str(tmp_path),
    )
    Folder(str(tmp_path)).write(CONFIG, config.to_json())

    def write(folder: str, evaluator: str, epochs: int, scores: list[float]) -> None:
        trials = [
            Trial(
                arch=Arch({"a": i}),
                number=i,
                objective=score,
                metrics={"accuracy": score},
                evaluator=evaluator,
                epochs=epochs,
                told_event=2 * i + 1,
            )
            for i, score in enumerate(scores)
        ]
        TrialStore(str(tmp_path / folder), space, ("accuracy",)).append(trials)

    write("", "shared", 0, [0.1, 0.2, 0.3, 0.4, 0.5])
    write("verify/long/seed-0", "standalone", 9, [0.1, 0.2, 0.4, 0.3])
    write("verify/long/seed-1", "standalone", 9, [0.1, 0.2, 0.4, 0.3])
    write("verify/short/seed-0", "standalone", 1, [0.9, 0.8, 0.7, 0.6])  # another measure
    result = raynas.load(str(tmp_path))
    # four architectures in common, one of six pairs the other way round
    assert result.rank_correlation().value == pytest.approx(4 / 6)
    with pytest.raises(LookupError, match="there are scores by shared, standalone"):
        result.rank_correlation("shared", "table")
    with pytest.raises(UnknownName, match="no evaluator named 'standalon'; did you mean 'standalo"):
        result.rank_correlation("shared", "standalon")


def run_of(out: Path, space: raynas.ArchSpace, scores: list[float]) -> raynas.Result:
    """Return a run of ToyNet in which the first architectures have these scores."""
    config = SearchConfig(
        space=ComponentSpec(name="tests.toynet:ToyNet"),
        algo=ComponentSpec(name="random"),
        data=ComponentSpec(name="digits"),
        evaluator=ComponentSpec(name="function"),
        objectives={"accuracy": "max"},
        out=str(out),
    )
    Folder(str(out)).write(CONFIG, config.to_json())
    trials = [
        Trial(arch=arch, number=i, objective=x, metrics={"accuracy": x}, told_event=2 * i + 1)
        for i, (arch, x) in enumerate(zip(space, scores, strict=False))
    ]
    TrialStore(str(out), space, ("accuracy",)).append(trials)
    return raynas.load(str(out))


def test_without_others_nothing_is_trained(tmp_path: Path) -> None:
    space = raynas.ModelSpace(ToyNet).arch_space
    result = run_of(tmp_path, space, [0.01 * i for i in range(18)])
    with pytest.raises(ValueError, match=r"0 are left besides the 18 best.*at most 17, got 20"):
        result.verify(top=20)
    assert not (tmp_path / "verify").exists()


def test_a_run_without_scores_says_so(tmp_path: Path) -> None:
    result = run_of(tmp_path, raynas.ModelSpace(ToyNet).arch_space, [])
    with pytest.raises(LookupError, match="there are no scores at all"):
        result.rank_correlation()


def test_the_table_says_which_scores_were_measured_again() -> None:
    frame = pd.DataFrame(columns=["group", "cheap", "mean", "std", "seeds", "arch_key"])
    table = verification_table(frame, rescored=True)
    assert [column.header for column in table.columns][1] == "rescored"
    assert "measured again on all validation examples" in str(table.caption)


def test_nothing_to_verify_is_refused(tmp_path: Path) -> None:
    assert main(["verify", str(tmp_path)]) == 2
