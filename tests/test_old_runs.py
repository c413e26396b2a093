"""Run folders that release 0.1 wrote are loaded, reported, queried and gone on with.

``fixtures/runs_0_1`` holds them; its README says what was called. What is expected here was printed
by the code that wrote them, and stands as it came.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from io import StringIO
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from torch import Tensor, nn

import raynas
from raynas.cli import main
from raynas.core.errors import StoreMismatch
from raynas.core.sampler import SAMPLERS, Sampler

FIXTURE = Path(__file__).parent / "fixtures" / "runs_0_1"
EVALUATED = ("function", "stopped", "supernet", "one_shot")  # "training" was stopped before
INLINE = {"inline": True}

SPACE = raynas.ArchSpace.of(depth=[1, 2, 3, 4], width=[8, 16, 32], norm=["batch", "layer", False])
SMALL = {"size": 8}
MLP = {"widths": [8, 16], "max_depth": 2, "expansions": [1, 2]}
EVOLUTION = {"population": 5, "tournament": 3}

# Trial, arch_key, status, objective, accuracy, and a second metric, in the order of tells.
Row = tuple[int, str, str, float, float, float]
ROWS: dict[str, list[Row]] = {
    "function": [
        (0, "80ad59c9fa74392f", "completed", 0.692, 0.692, 32),
        (1, "8022d77383750451", "completed", 0.092, 0.092, 8),
        (2, "bc63180813d7cb89", "completed", 0.684, 0.684, 64),
        (3, "3a9b4629f5f61fe8", "completed", 0.292, 0.292, 8),
        (4, "b143793dc466718b", "completed", 0.584, 0.584, 48),
        (5, "6aca65f6dcc52f41", "infeasible", nan, 0.668, 128),
        (6, "3b66bf8d18b05ce1", "completed", 0.592, 0.592, 32),
        (7, "4ee29ce8dd1ae55a", "infeasible", nan, 0.568, 128),
        (8, "31c2bd60a820e7b8", "completed", 0.584, 0.584, 64),
        (9, "e4dbf325b0cdc2d4", "failed", nan, nan, nan),
        (10, "cae712b315df2224", "completed", 0.384, 0.384, 16),
        (11, "58469dfdecce73da", "completed", 0.492, 0.492, 24),
    ],
    "stopped": [
        (0, "67427c9842f0830a", "completed", 0.472, 0.568, 96),
        (1, "31c2bd60a820e7b8", "completed", 0.520, 0.584, 64),
        (2, "52f1d689ecfeefe2", "completed", 0.268, 0.292, 24),
        (3, "3a9b4629f5f61fe8", "completed", 0.284, 0.292, 8),
        (5, "238342465b09c0ad", "completed", 0.384, 0.392, 8),
        (4, "b143793dc466718b", "completed", 0.536, 0.584, 48),
        (7, "67427c9842f0830a", "duplicate", 0.472, 0.568, 96),
        (6, "f1b62d56e436f075", "completed", 0.336, 0.368, 32),
        (8, "9394f605ab191ba0", "completed", 0.452, 0.484, 32),
    ],
    "supernet": [
        (0, "02b3905cc6b1366c", "completed", 0.6575, 0.6575, 976),
        (1, "cacd1510c683cb34", "completed", 0.5775, 0.5775, 1696),
        (2, "64c905e44876e599", "completed", 0.6625, 0.6625, 976),
        (3, "99fc9c8bf54bcced", "completed", 0.6675, 0.6675, 976),
        (4, "3e5729060bc0014d", "completed", 0.6650, 0.6650, 1104),
        (5, "3bc41660c9679d69", "completed", 0.6775, 0.6775, 976),
    ],
    "one_shot": [
        (0, "8a816f200d1f131f", "completed", 0.4775, 0.4775, 13120),
        (1, "b98618ded0a98f6a", "completed", 0.3300, 0.3300, 4928),
        (2, "c2875dd4f9bb8879", "completed", 0.5100, 0.5100, 13120),
    ],
    "training": [],
}
SECOND = {"function": "size", "stopped": "size", "supernet": "macs", "one_shot": "macs"}
BEST: dict[str, dict[str, object]] = {
    "function": {"depth": 4, "norm": "batch", "width": 8},
    "stopped": {"depth": 3, "norm": "batch", "width": 16},
    "supernet": {
        "block1/activation": "relu",
        "block1/expansion": 1,
        "block2/activation": "silu",
        "block2/expansion": 2,
        "depth": 2,
        "dropout": 0.2,
        "width": 8,
    },
    "one_shot": {"act": "silu", "conv": "k5", "pool": "max"},
}

# What the code of then told next, where the same folder went on with one worker.
NEXT: dict[str, list[Row]] = {
    "function": [
        (12, "d8231e13422f16bc", "failed", nan, nan, nan),
        (13, "16857399d84ee106", "completed", 0.592, 0.592, 24),
        (14, "5266634e236a9e5d", "completed", 0.392, 0.392, 16),
        (15, "dbb4f91fc8724d87", "completed", 0.484, 0.484, 48),
        (16, "238342465b09c0ad", "completed", 0.392, 0.392, 8),
        (17, "67427c9842f0830a", "completed", 0.568, 0.568, 96),
    ],
    "supernet": [
        (6, "a02157fb9d798c4f", "completed", 0.6625, 0.6625, 720),
        (7, "3ed34d2707449cdb", "completed", 0.5775, 0.5775, 1696),
        (8, "8c6459916187b84d", "completed", 0.6650, 0.6650, 1104),
    ],
    "one_shot": [
        (3, "aa6e8b618132f8c5", "completed", 0.3325, 0.3325, 4928),
        (4, "fce7b8b8764ec5ea", "completed", 0.1000, 0.1000, 832),
    ],
}

IMAGES = 0.0051  # two of 400 images: sums of floats differ between machines

# --- what the scripts held that wrote the folders -------------------------------------------------

CALLED: list[raynas.Arch] = []


def score(arch: raynas.Arch) -> dict[str, float]:
    """Count the call; some architectures fail."""
    CALLED.append(arch)
    if arch["depth"] == 4 and arch["norm"] is False:
        raise ArithmeticError("four layers need a norm")
    bonus = {"batch": 0.3, "layer": 0.2, False: 0.0}[arch["norm"]]
    depth, width = (float(arch[name]) for name in ("depth", "width"))  # type: ignore[arg-type]
    return {"accuracy": bonus + depth / 10 - width / 1000, "size": depth * width}


class Repeating(Sampler):
    """Draws from the space with repetition."""

    def __init__(self, space: raynas.ArchSpace, *, seed: int) -> None:
        self._space, self._rng = space, np.random.default_rng(seed)

    def ask(self) -> raynas.Arch:
        return self._space.sample(self._rng)

    def tell(self, trial: raynas.Trial) -> None: ...


class Net(nn.Module):
    """One convolution of three, one activation of two, one pooling of two."""

    def __init__(self) -> None:
        super().__init__()
        convs = {
            f"k{k}": nn.Sequential(nn.Conv2d(1, 8, k, padding=k // 2), nn.BatchNorm2d(8))
            for k in (1, 3, 5)
        }
        self.conv = raynas.nn.LayerChoice(convs, label="conv")
        self.act = raynas.nn.LayerChoice({"relu": nn.ReLU(), "silu": nn.SiLU()}, label="act")
        pools = {"max": nn.MaxPool2d(4), "mean": nn.AvgPool2d(4)}
        self.pool = raynas.nn.LayerChoice(pools, label="pool")
        self.head = nn.Linear(8 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.act(self.conv(x))).flatten(1))
        return logits


# --- the folders, moved ---------------------------------------------------------------------------


@pytest.fixture
def moved(tmp_path: Path) -> Callable[[str], str]:
    """Give a run's folder, moved to where it was not written; every call gives the same."""

    def move(name: str) -> str:
        path = tmp_path / "moved" / name
        return str(path if path.exists() else shutil.copytree(FIXTURE / name, path))

    return move


def shown(path: str | Path) -> str:
    """Return the text that a page shows."""
    page = Path(path).read_text(encoding="utf-8")
    page = re.sub(r"(?s)<script.*?</script>|<style.*?</style>", "", page)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def contents(*path: str) -> dict[Path, bytes]:
    """Return every file below a folder, with what it holds."""
    return {file: file.read_bytes() for file in Path(*path).rglob("*") if file.is_file()}


def check_rows(frame: pd.DataFrame, rows: list[Row], second: str) -> None:
    """Compare a table's rows with what stands above."""
    assert frame["trial"].tolist() == [row[0] for row in rows]
    assert frame["arch_key"].tolist() == [row[1] for row in rows]
    assert frame["status"].tolist() == [row[2] for row in rows]
    for name, at in (("objective", 3), ("accuracy", 4)):
        expected = [row[at] for row in rows]
        assert frame[name].tolist() == pytest.approx(expected, abs=IMAGES, nan_ok=True)
    assert frame[second].tolist() == pytest.approx([row[5] for row in rows], nan_ok=True)


def check_kept(path: str, name: str) -> pd.DataFrame:
    """Check that what was told before stands as it was; return what was told since."""
    before = raynas.load(str(FIXTURE / name)).trials.drop(columns="duplicates")
    after = raynas.load(path).trials.drop(columns="duplicates")
    assert_frame_equal(after.head(len(before)), before, check_exact=True)
    return after.iloc[len(before) :]


def check_once(path: str) -> None:
    """Check that no architecture was evaluated twice, and every place of order is taken once."""
    frame = raynas.load(path).trials
    assert frame.loc[frame["status"] == "completed", "arch_key"].is_unique
    evaluated = frame[frame["status"].isin(["completed", "infeasible"])]
    assert evaluated["arch_key"].is_unique
    assert sorted(frame["trial"]) == list(range(len(frame)))
    events = [*frame["asked_event"], *frame["told_event"]]
    assert len(set(events)) == len(events)


def validation_score(net: nn.Module) -> tuple[float, float]:
    """Return accuracy and loss on the validation split of the digits, 8x8."""
    from raynas.data.module import DATA

    x, y = DATA["digits"](**SMALL).load().valid
    with torch.no_grad():
        logits = net(x)
    accuracy = (logits.argmax(1) == y).double().mean().item()
    return accuracy, nn.functional.cross_entropy(logits, y).item()


# --- the fixture itself ---------------------------------------------------------------------------


def test_the_fixture_is_whole_and_names_no_machine() -> None:
    assert {path.name for path in FIXTURE.iterdir() if path.is_dir()} == ROWS.keys()
    files = [path for path in FIXTURE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000
    assert [
        str(path) for path in files if re.search(rb"/(tmp|home|root)/", path.read_bytes())
    ] == []
    for name in ROWS:
        result = raynas.load(str(FIXTURE / name))
        assert result.config.out == f"runs/{name}"
        assert set(result.trials["node"]) <= {"node"}


# --- loading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVALUATED)
def test_trials_are_those_that_were_told(name: str, moved: Callable[[str], str]) -> None:
    result = raynas.load(moved(name))
    check_rows(result.trials, ROWS[name], SECOND[name])
    assert_frame_equal(result.judged, result.trials)
    assert result.best.arch == BEST[name]
    assert json.loads((Path(result.path) / "best.json").read_text("utf-8")) == BEST[name]


def test_every_kind_of_column_reads_as_it_was_written(moved: Callable[[str], str]) -> None:
    trials = raynas.load(moved("function")).trials
    columns = "trial arch_key arch choice.depth choice.width choice.norm status objective accuracy"
    columns += " size algo parent predicted evaluator epochs seed asked_event told_event"
    columns += " started_utc finished_utc duration_s node worker error left_out duplicates"
    assert trials.columns.tolist() == columns.split()
    assert trials["choice.norm"].tolist()[:4] == ['"batch"', "false", '"batch"', '"layer"']
    assert trials["arch"].tolist()[1] == '{"depth":1,"norm":false,"width":8}'
    assert trials["choice.width"].tolist() == [8, 8, 16, 8, 16, 32, 8, 32, 16, 16, 16, 8]
    assert trials["parent"].tolist()[6:8] == ["80ad59c9fa74392f", "3b66bf8d18b05ce1"]
    assert "ArithmeticError: four layers need a norm" in trials["error"].tolist()[9]
    assert trials["started_utc"].dtype == "datetime64[us, UTC]"
    duplicates = raynas.load(moved("stopped")).trials["duplicates"]
    assert duplicates.tolist() == [1, 0, 0, 0, 0, 0, 1, 0, 0]
    nested = raynas.load(moved("supernet")).trials
    assert isnan(nested["choice.block2/expansion"].tolist()[1]), "a depth of 1 has no second block"
    assert nested["choice.block2/expansion"].tolist()[2:] == [2, 2, 2, 2]
    assert nested["latency_ms"].tolist()[5] == 0.9763875001453926


def test_history_is_what_was_trained(moved: Callable[[str], str]) -> None:
    spos = raynas.load(moved("supernet")).history
    assert (spos["algo"].tolist(), spos["epoch"].tolist()) == (["spos", "spos"], [0, 1])
    assert spos["loss"].tolist() == pytest.approx([2.105618, 1.858943], abs=1e-6)
    darts = raynas.load(moved("one_shot")).history
    assert darts["step"].tolist() == [15, 30]
    assert darts["accuracy"].tolist() == pytest.approx([0.26, 0.4775])
    assert darts["alpha.conv.k5"].tolist() == pytest.approx([0.333649, 0.335972], abs=1e-6)
    assert raynas.load(moved("function")).history.empty


def test_a_run_that_was_stopped_in_training_loads(moved: Callable[[str], str]) -> None:
    result = raynas.load(moved("training"))
    assert (len(result.trials), len(result.history)) == (0, 2)
    with pytest.raises(LookupError, match="no completed trial"):
        _ = result.best
    assert "Training of the supernet" in shown(result.report())


# --- questions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "top", "front", "own_front", "knee", "volume"),
    [
        ("function", [0, 2, 6], [0, 11, 10, 3], [0], 0, 26.336),
        ("stopped", [4, 1, 0], [1, 4, 8, 5], [1, 4, 8, 5], 4, 19.488),
        ("supernet", [5, 3, 4], [5], [5], 5, 72.0),
        ("one_shot", [2, 0, 1], [2, 1], [2], 1, 0.0),
    ],
)
def test_the_best_and_the_front_are_those_of_then(
    name: str,
    top: list[int],
    front: list[int],
    own_front: list[int],
    knee: int,
    volume: float,
    moved: Callable[[str], str],
) -> None:
    result = raynas.load(moved(name))
    goals = {"accuracy": "max", SECOND[name]: "min"}
    assert result.top(3)["trial"].tolist() == top
    assert result.best.number == top[0]
    assert result.pareto(goals)["trial"].tolist() == front
    assert result.pareto()["trial"].tolist() == own_front
    assert result.knee(goals)["trial"] == knee
    assert result.hypervolume(objectives=goals) == pytest.approx(volume)


def test_queries_are_answered_from_what_was_told(moved: Callable[[str], str]) -> None:
    bounded = raynas.load(moved("function"))
    assert bounded.query()["trial"].tolist() == [0, 2, 6, 8, 4, 11, 10, 3, 1]
    assert bounded.query([])["trial"].tolist() == [0, 2, 5, 6, 8, 4, 7, 11, 10, 3, 1]
    assert bounded.query(["size<32"])["trial"].tolist() == [0, 6, 11, 10, 3, 1]
    assert raynas.load(moved("stopped")).query(["size<32"])["trial"].tolist() == [8, 5]
    supernet = raynas.load(moved("supernet"))
    assert supernet.query({"macs": (1000, None)})["trial"].tolist() == [4, 1]
    assert supernet.query(["latency_ms<0.9"])["trial"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("function", [("depth", 0.751077, 0.382), ("norm", 0.492209, 0.494), ("width", 0, 0.127)]),
        ("one_shot", [("conv", 0.942608, 0.16375), ("act", 0, 0.10625), ("pool", 0, 0)]),
    ],
)
def test_importance_is_what_it_was(
    name: str, expected: list[tuple[str, float, float]], moved: Callable[[str], str]
) -> None:
    table = raynas.load(moved(name)).importance()
    rows = table[["choice", "importance", "effect"]].to_numpy().tolist()
    assert [row[0] for row in rows] == [row[0] for row in expected]
    assert [row[1:] for row in rows] == [pytest.approx(row[1:], abs=1e-5) for row in expected]


# --- reports, tables and files --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "phrases"),
    [
        ("function", ["12 of 12", "9 completed, 2 infeasible, 1 failed", "four layers need"]),
        ("stopped", ["9 of 16", "8 completed, 1 duplicate", "Accuracy against size"]),
        ("supernet", ["6 of 6", "macs <= 2.5 k", "Training of the supernet", "Retrained on their"]),
        ("one_shot", ["3 of 3", "Training of the supernet", "What every choice came to prefer"]),
    ],
)
def test_a_report_shows_the_run(
    name: str,
    phrases: list[str],
    moved: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = moved(name)
    assert main(["report", path]) == 0
    assert capsys.readouterr().out.split() == [f"{path}/report.html"]
    text = shown(f"{path}/report.html")
    best = raynas.load(path).best
    first = (
        f"Best: trial {best.number} {best.arch.key} Accuracy {100 * best.metrics['accuracy']:.2f}"
    )
    for phrase in [first, *phrases]:
        assert phrase in text
    for _, key, status, objective, *_ in ROWS[name]:
        assert (key in text) == (status != "infeasible")
        assert status == "duplicate" or isnan(objective) or key in text


def test_the_report_of_a_verified_run_says_what_was_said(
    moved: Callable[[str], str], tmp_path: Path
) -> None:
    page = shown(raynas.load(moved("supernet")).report(str(tmp_path / "page.html")))
    assert "best less random: -18.00 percentage points (95 %: -19.75 to -16.00)" in page
    assert "Kendall's tau of cheap and stand-alone score: -0.733 (95 %: -1.000 to 0.091)" in page
    assert "random 57.50 % 46.75 %" in page


@pytest.mark.parametrize("name", EVALUATED)
def test_the_command_line_prints_all_columns(
    name: str, moved: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trials", moved(name), "--csv", "--sort", "trial"]) == 0
    table = pd.read_csv(StringIO(capsys.readouterr().out)).sort_values("told_event")
    check_rows(table.reset_index(drop=True), ROWS[name], SECOND[name])


@pytest.mark.parametrize("name", EVALUATED)
def test_decisions_are_exported(
    name: str,
    moved: Callable[[str], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raynas.load(moved(name)).export(tmp_path / "best.json")
    assert json.loads((tmp_path / "best.json").read_text("utf-8")) == BEST[name]
    assert main(["export", moved(name), str(tmp_path / "first.json"), "--trial", "0"]) == 0
    assert ROWS[name][0][1] in capsys.readouterr().out
    first = raynas.load(moved(name)).trials["arch"].tolist()[0]
    assert json.loads((tmp_path / "first.json").read_text("utf-8")) == json.loads(first)


# --- networks with the supernet's weights ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "accuracy", "loss", "params"),
    [("supernet", 0.6775, 1.407674, 1082), ("one_shot", 0.5100, 1.665021, 554)],
)
def test_the_best_network_scores_what_it_scored(
    name: str, accuracy: float, loss: float, params: int, moved: Callable[[str], str]
) -> None:
    net = raynas.load(moved(name)).model()
    assert not net.training
    assert sum(p.numel() for p in net.parameters()) == params
    measured = validation_score(net)
    assert measured[0] == pytest.approx(accuracy, abs=IMAGES)
    assert measured[1] == pytest.approx(loss, rel=2e-3)


def test_another_trial_is_a_network_as_well(moved: Callable[[str], str]) -> None:
    result = raynas.load(moved("supernet"))
    net = result.model(json.loads(result.trials["arch"].tolist()[1]))
    assert validation_score(net)[0] == pytest.approx(0.5775, abs=IMAGES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("supernet", [(5, 0.6775, 0.659950), (3, 0.6675, 0.654912), (4, 0.6650, 0.649874)]),
        ("one_shot", [(2, 0.510, 0.531486), (0, 0.475, 0.496222), (1, 0.330, 0.350126)]),
    ],
)
def test_rescoring_gives_the_numbers_of_then(
    name: str, expected: list[tuple[int, float, float]], moved: Callable[[str], str]
) -> None:
    rows = raynas.load(moved(name)).rescore(3)
    assert rows["trial"].tolist() == [row[0] for row in expected]
    for column, at in (("valid_accuracy", 1), ("test_accuracy", 2)):
        assert rows[column].tolist() == pytest.approx([row[at] for row in expected], abs=IMAGES)


def test_an_old_supernet_is_searched_in_another_folder(
    moved: Callable[[str], str], tmp_path: Path
) -> None:
    result = raynas.search(
        "mlp",
        supernet=moved("supernet"),
        constraints=["macs<2500"],
        trials=6,
        seed=1,
        out=str(tmp_path / "again"),
        ray=INLINE,
        options={"population": 3},
        space_options=MLP,
        data_options=SMALL,
    )
    check_rows(result.trials, ROWS["supernet"], "macs")
    assert not (tmp_path / "again" / "supernet").exists(), "nothing was trained"


# --- verified -------------------------------------------------------------------------------------


def test_the_scores_of_two_evaluators_are_compared(moved: Callable[[str], str]) -> None:
    tau = raynas.load(moved("supernet")).rank_correlation()
    assert tau.value == pytest.approx(1 / 3)
    with pytest.raises(LookupError, match="call Result"):
        raynas.load(moved("one_shot"), space=Net).rank_correlation()


def test_verifying_again_trains_nothing_and_says_the_same(moved: Callable[[str], str]) -> None:
    path = moved("supernet")
    before = contents(path, "verify")
    verification = raynas.load(path).verify(top=3, seeds=1, options={"epochs": 1}, ray=INLINE)
    assert contents(path, "verify") == before
    assert verification.gain.value == pytest.approx(-0.18)
    rows = verification.table[["arch_key", "group", "mean"]].to_numpy().tolist()
    assert rows == [
        ["3bc41660c9679d69", "best", 0.2875],
        ["3e5729060bc0014d", "best", 0.2725],
        ["99fc9c8bf54bcced", "best", 0.2650],
        ["3d89e18e8abd1c91", "random", 0.4675],
        ["001b60e6065e9284", "random", 0.4625],
        ["8bf059d30c8e8ad1", "random", 0.4350],
    ]


# --- going on -------------------------------------------------------------------------------------


def search_function(path: str, **changed: Any) -> raynas.Result:
    """Go on with the run ``function``."""
    given: dict[str, Any] = {"trials": 18, "seed": 3, "resume": True, "options": EVOLUTION}
    given |= {"algo": "regularized_evolution", "constraints": ["size<100"], "ray": INLINE}
    return raynas.search(SPACE, evaluator=score, out=path, **(given | changed))


def test_a_search_goes_on_where_the_old_code_would(moved: Callable[[str], str]) -> None:
    path = moved("function")
    CALLED.clear()
    result = search_function(path)
    new = check_kept(path, "function")
    check_rows(new, NEXT["function"], "size")
    check_once(path)
    assert [arch.key for arch in CALLED] == [row[1] for row in NEXT["function"]]
    assert result.config.out == path
    assert result.best.number == 0


def test_another_algorithm_goes_on_with_an_old_run(moved: Callable[[str], str]) -> None:
    path = moved("function")
    CALLED.clear()
    search_function(path, algo="random", options={}, trials=36)
    new = check_kept(path, "function")
    check_once(path)
    assert set(new["algo"]) == {"random"}
    told = {row[1] for row in ROWS["function"]}
    assert sorted([*told, *(arch.key for arch in CALLED)]) == sorted(arch.key for arch in SPACE)


def test_wider_bounds_count_what_an_old_run_told(moved: Callable[[str], str]) -> None:
    result = search_function(moved("function"), trials=12, constraints=["size<200"])
    assert result.trials["status"].tolist().count("infeasible") == 2, "rows keep what was told"
    assert result.judged["status"].tolist().count("completed") == 11
    assert result.top(3)["trial"].tolist() == [0, 2, 5]


@pytest.fixture
def repeating(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler ``repeating`` is registered while a test runs."""
    list(SAMPLERS)  # whatever a file registers later would be forgotten with it
    for names in ("_entries", "_aliases", "_names"):
        monkeypatch.setattr(SAMPLERS, names, dict(vars(SAMPLERS)[names]))
    SAMPLERS.register("repeating", Repeating)


@pytest.mark.usefixtures("repeating")
def test_a_search_that_was_stopped_asks_the_rest(moved: Callable[[str], str]) -> None:
    path = moved("stopped")
    CALLED.clear()
    raynas.search(
        SPACE,
        "repeating",
        evaluator=score,
        objectives={"accuracy": "max", "size": "min"},
        scalarize={"accuracy": 1.0, "size": -0.001},
        trials=16,
        seed=5,
        out=path,
        resume=True,
        ray=INLINE,
    )
    new = check_kept(path, "stopped")
    assert len(new) == 7
    check_once(path)
    trials = raynas.load(path).trials
    sampler = Repeating(SPACE, seed=5)
    drawn = [sampler.ask().key for _ in range(16)]
    assert trials.sort_values("trial")["arch_key"].tolist() == drawn
    told = {row[1] for row in ROWS["stopped"]}
    assert sorted(arch.key for arch in CALLED) == sorted(set(drawn) - told)
    again = trials[trials["arch_key"] == "67427c9842f0830a"]
    assert again["status"].tolist() == ["completed", "duplicate"]
    assert again["objective"].tolist() == pytest.approx([0.472, 0.472])
    new_again = trials.loc[trials["status"] == "duplicate", "arch_key"]
    assert sorted(new_again) == sorted(
        key for key in set(drawn) for _ in range(drawn.count(key) - 1)
    )


def test_an_old_folder_is_not_written_over(moved: Callable[[str], str]) -> None:
    path = moved("function")
    before = contents(path)
    with pytest.raises(FileExistsError, match="holds another run"):
        search_function(path, resume=False)
    with pytest.raises(StoreMismatch, match="seed 3, not 4"):
        search_function(path, seed=4)
    with pytest.raises(StoreMismatch, match="was run with algo"):
        search_function(path, options={"population": 6})
    assert contents(path) == before


@pytest.mark.usefixtures("local_ray")
def test_shared_weights_go_on_scoring_by_the_command_line(
    moved: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = moved("supernet")
    weights = contents(path, "supernet")
    arguments = ["search", "mlp", "--algo", "regularized_evolution", "--trials", "9", "--seed", "1"]
    arguments += ["--space-option", "widths=[8,16]", "--space-option", "max_depth=2"]
    arguments += ["--space-option", "expansions=[1,2]", "--data-option", "size=8", "--epochs", "2"]
    arguments += ["--constraint", "macs<2500", "--constraint", "latency_ms<50", "--latency", "cpu"]
    arguments += [
        "--option",
        "population=3",
        "--ray-option",
        "workers=1",
        "--ray-option",
        "batch=1",
    ]
    assert main([*arguments, "--out", path, "--resume"]) == 0
    assert "9 trials (9 completed)" in capsys.readouterr().out
    new = check_kept(path, "supernet")
    check_rows(new, NEXT["supernet"], "macs")
    # latencies come from the table that was measured then
    expected = [0.6402064999520007, 0.5840970001145251, 0.9593204999873706]
    assert new["latency_ms"].tolist() == pytest.approx(expected, rel=1e-12)
    check_once(path)
    assert len(raynas.load(path).history) == 2, "nothing was trained"
    assert contents(path, "supernet") == weights


def search_net(path: str, trials: int, epochs: int, seed: int, ray: dict[str, Any]) -> None:
    """Go on with a run on ``Net``."""
    raynas.search(
        Net,
        "darts",
        trials=trials,
        epochs=epochs,
        seed=seed,
        out=path,
        resume=True,
        ray=ray,
        options={"lr": 0.1},
        data_options=SMALL,
    )


def test_a_one_shot_run_scores_the_next_most_probable(moved: Callable[[str], str]) -> None:
    path = moved("one_shot")
    search_net(path, trials=5, epochs=2, seed=2, ray=INLINE)
    check_rows(check_kept(path, "one_shot"), NEXT["one_shot"], "macs")
    check_once(path)
    assert len(raynas.load(path).history) == 2, "nothing was trained"


def check_trained_on(path: str, ray: dict[str, Any]) -> None:
    """Go on with the run ``training``, and compare with what the old code did then."""
    before = raynas.load(path).history
    search_net(path, trials=2, epochs=4, seed=4, ray=ray)
    result = raynas.load(path)
    assert result.history["epoch"].tolist() == [0, 1, 2, 3]
    assert_frame_equal(result.history.head(2), before, check_exact=True)
    assert result.history["step"].tolist() == [15, 30, 45, 60]
    rates = [0.087671, 0.054512, 0.019882, 0.004066]
    assert result.history["lr"].tolist() == pytest.approx(rates, abs=1e-6)
    # fresh weights would begin at 2.26; the order of images may be another
    assert result.history["loss"].tolist()[2:] == pytest.approx([1.607185, 1.417430], rel=0.04)
    k5 = result.history["alpha.conv.k5"].tolist()
    assert k5[2:] == pytest.approx([0.337754, 0.339422], abs=2e-3)
    trials = result.trials
    assert trials["arch"].tolist()[0] == '{"act":"relu","conv":"k5","pool":"max"}'
    assert trials["accuracy"].tolist()[0] == pytest.approx(0.675, abs=0.1)
    assert (len(trials), set(trials["status"])) == (2, {"completed"})


def test_a_training_that_was_stopped_goes_on_in_this_process(moved: Callable[[str], str]) -> None:
    check_trained_on(moved("training"), INLINE)


@pytest.mark.usefixtures("local_ray")
def test_a_training_that_was_stopped_goes_on_with_ray(moved: Callable[[str], str]) -> None:
    check_trained_on(moved("training"), {"workers": 1})
