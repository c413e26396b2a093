"""Options that are none, lists, or numbers of NumPy: through files, commands and back."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from torch import nn
from torch.utils.data import TensorDataset

import raynas
from raynas.cli import main
from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Subset
from raynas.core.errors import InvalidSpace
from raynas.core.fixed import read_arch
from raynas.core.sampler import SAMPLERS
from raynas.costs import CostTable, LatencyTable, cost_of
from raynas.costs.latency_files import Entry
from raynas.nn import Conv2d, LayerChoice, Linear, Parametrized, ValueChoice
from raynas.nn.construct import construct
from raynas.nn.export import export
from raynas.report.effects import effects
from raynas.report.findings import ReportData
from raynas.results.result import Result
from tests.inline import INLINE

ODD: Any = {
    "norm": (None, "batch"),
    "kernel": [(3, 3), [5, 7], 3],
    "depth": np.arange(2, 5),
    "rate": np.array([0.25, 0.5]),
    "flag": (np.bool_(True), None),
    "only": [None],
    "text": ("1", 1, None, "null", "[1]", (1,)),
}


def odd_space() -> ArchSpace:
    """Return a space with every kind of option, some of it under None."""
    inner = ArchSpace(
        (
            Choice("scale", (None, 0.5)),
            Subset("taps", (None, (1, 2), "a"), 2),
            Subset("numbers", (1, 2, 3), None),
        )
    )
    flat = [Choice(label, tuple(options)) for label, options in ODD.items()]
    return ArchSpace((Choice("top", (None, (1,), "x"), {None: inner}), *flat))


SPACE = odd_space()
ONE_WORKER = {"workers": 1, "batch": 1}


def score(arch: Mapping[str, Value]) -> dict[str, float]:
    """Return a number that tells most architectures apart."""
    at = {label: SPACE.decisions[label].index(value) for label, value in arch.items()}
    return {"accuracy": sum((at[label] + 1) * 3**i for i, label in enumerate(sorted(at))) / 3**11}


def searched(out: Path, evaluator: Any = score, **more: Any) -> Result:
    """Search the odd space in this process."""
    options: dict[str, Any] = {"trials": 40, "seed": 1, "ray": INLINE} | more
    return raynas.search(SPACE, "random", evaluator=evaluator, out=str(out), **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return searched(tmp_path_factory.mktemp("odd") / "run")


def test_evaluators_see_values_of_python(tmp_path: Path) -> None:
    seen: list[Arch] = []

    def watched(arch: Arch) -> float:
        seen.append(arch)
        return 0.5

    searched(tmp_path, watched)
    values = {(label, type(value)) for arch in seen for label, value in arch.items()}
    kinds = {label: {kind for other, kind in values if other == label} for label, _ in values}
    assert kinds["norm"] == {type(None), str}
    assert kinds["kernel"] == {tuple, int}
    assert kinds["depth"] == {int}
    assert kinds["rate"] == {float}
    assert kinds["flag"] == {bool, type(None)}
    assert {arch["kernel"] for arch in seen} == {(3, 3), (5, 7), 3}


def test_rows_hold_them_as_json(run: Result) -> None:
    for row in run.trials.to_dict("records"):
        arch = Arch.from_json(row["arch"])
        SPACE.check(arch)
        assert arch.key == row["arch_key"]
        for label in ("norm", "kernel", "flag", "only", "text", "top", "scale"):
            cell = row[f"choice.{label}"]
            if label not in arch:
                assert pd.isna(cell)
            else:
                assert json.loads(cell) == json.loads(json.dumps(arch[label]))
        assert row["choice.depth"] == arch["depth"]
        if "taps" in arch:
            taps = [json.loads(tap) for tap in row["choice.taps"]]
            assert taps == json.loads(json.dumps(arch["taps"]))
            assert tuple(row["choice.numbers"]) == arch["numbers"]


def test_a_folder_gives_back_space_and_best(run: Result) -> None:
    again = raynas.load(run.path)
    assert again.best.arch.to_json() == run.best.arch.to_json()
    assert score(again.best.arch)["accuracy"] == again.best.metrics["accuracy"]
    written = json.loads((Path(run.path) / "best.json").read_text())
    assert read_arch(SPACE, written).key == run.best.arch.key
    assert read_arch(SPACE, Path(run.path) / "best.json").key == run.best.arch.key


def test_a_run_that_goes_on_equals_one_that_never_stopped(run: Result, tmp_path: Path) -> None:
    searched(tmp_path / "run", trials=15)
    parts = searched(tmp_path / "run", resume=True)
    when = ["started_utc", "finished_utc", "duration_s"]
    assert_frame_equal(run.trials.drop(columns=when), parts.trials.drop(columns=when))


@pytest.mark.usefixtures("local_ray")
def test_workers_are_sent_and_return_what_this_process_would(tmp_path: Path) -> None:
    def evaluator(arch: Mapping[str, Value]) -> dict[str, Any]:
        odd = {"auc": math.nan, "kernel": f"{arch['kernel']}", "curve": [arch["norm"]], "f1": None}
        return score(arch) | odd

    here = searched(tmp_path / "here", evaluator, trials=8).trials
    there = searched(tmp_path / "there", evaluator, trials=8, ray=ONE_WORKER).trials
    assert there["worker"].iloc[0] != here["worker"].iloc[0]
    changing = ["started_utc", "finished_utc", "duration_s", "worker", "node"]
    assert_frame_equal(here.drop(columns=changing), there.drop(columns=changing))
    assert there["left_out"].str.contains("metric 'auc' is nan").all()
    assert set(there["kernel"]) <= {"(3, 3)", "(5, 7)", "3"}


def test_commands_write_and_read_them(
    run: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = run.trials.iloc[3]
    file = tmp_path / "arch.json"
    assert main(["export", run.path, str(file), "--trial", str(row["trial"])]) == 0
    assert read_arch(SPACE, file).key == row["arch_key"]
    for command in (["report", run.path], ["trials", run.path]):
        assert main(command) == 0
    capsys.readouterr()
    assert main(["trials", run.path, "--csv"]) == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert sorted(frame["arch_key"]) == sorted(run.trials["arch_key"])


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_run_is_a_table_for_another(
    kind: str, run: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"{run.path}/trials"
    if kind == "csv":
        assert main(["trials", run.path, "--csv"]) == 0
        path = str(tmp_path / "trials.csv")
        text = capsys.readouterr().out
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        frame.drop(columns=["arch", "arch_key"]).to_csv(path, index=False)
    looked_up = searched(tmp_path / "run", ["table", {"path": path}])
    assert looked_up.trials["accuracy"].tolist() == run.trials["accuracy"].tolist()
    assert set(looked_up.trials["status"]) == {"completed"}


def test_a_table_by_hand_may_leave_none_empty(tmp_path: Path) -> None:
    rows = [
        {"norm": norm, "kernel": kernel, "depth": depth, "accuracy": at / 16}
        for at, (norm, kernel, depth) in enumerate(
            [("", "(3, 3)", 2), ("batch", "[3, 3]", 2), ("", "[3,3]", 3), ("batch", "3", 2)]
        )
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    space = ArchSpace.of(norm=[None, "batch"], kernel=[(3, 3), 3], depth=np.arange(2, 4))
    result = raynas.search(
        space,
        "grid",
        evaluator=["table", {"path": str(tmp_path / "t.csv")}],
        trials=8,
        out=str(tmp_path / "run"),
        ray=INLINE,
    )
    found = {trial["arch"]: trial["accuracy"] for trial in result.top(8).to_dict("records")}
    assert found == {
        '{"depth":2,"kernel":[3,3],"norm":null}': 0.0,
        '{"depth":2,"kernel":[3,3],"norm":"batch"}': 1 / 16,
        '{"depth":3,"kernel":[3,3],"norm":null}': 2 / 16,
        '{"depth":2,"kernel":3,"norm":"batch"}': 3 / 16,
    }


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "nsga2"])
def test_every_sampler_searches_them(name: str, tmp_path: Path) -> None:
    result = raynas.search(
        SPACE, name, evaluator=score, trials=24, out=str(tmp_path), ray=INLINE, seed=2
    )
    for text in result.trials["arch"]:
        SPACE.check(Arch.from_json(text))
    assert result.trials["arch_key"].nunique() == 24
    importance = result.importance()
    assert set(importance["choice"]) <= set(SPACE.labels)


def test_the_report_tells_a_list_that_is_one_option_from_several(run: Result) -> None:
    data = ReportData(trials=run.judged, history=run.history, config=run.config)
    assert data.single >= {"kernel", "norm", "top"}
    assert not data.single & {"taps", "numbers"}
    by_label: dict[str, dict[str, int]] = {}
    for effect in effects(data):
        by_label.setdefault(effect.decision, {})[effect.option] = effect.trials
    assert set(by_label["kernel"]) == {"3", "(3, 3)", "(5, 7)"}
    assert sum(by_label["kernel"].values()) == len(data.completed)
    assert set(by_label["taps"]) == {"None", "(1, 2)", "a"}
    assert sum(by_label["taps"].values()) == 2 * sum(by_label["scale"].values())
    assert set(by_label["norm"]) == {"None", "batch"}
    page = Path(run.report()).read_text(encoding="utf-8")
    kernel = run.best.arch["kernel"]
    assert f"<li>kernel <b>{kernel}</b></li>" in page


# --- in models ------------------------------------------------------------------------------------


def layer(kernel: Any) -> nn.Module:
    """Return a convolution that keeps the shape."""
    return nn.Conv2d(4, 4, kernel, padding="same")


def activation(kind: str | None) -> nn.Module:
    """Return an activation, or none."""
    return nn.Identity() if kind is None else nn.ReLU()


class OddNet(nn.Module):
    """Images of one channel; its decisions have every kind of option."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        candidates = {
            None: nn.Identity(),
            3: layer(3),
            (3, 5): layer((3, 5)),
            0.5: Parametrized(activation, kind=ValueChoice([None, "relu"], label="act")),
        }
        self.choice = LayerChoice(candidates, label="choice")
        sizes = ValueChoice([[1, 3], (3, 1), np.int64(3)], label="kernel")
        self.conv = Parametrized(layer, kernel=sizes)
        width = ValueChoice(np.arange(4, 13, 4), label="width")
        self.wide = Conv2d(4, width, 1)
        self.head = Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        x = self.wide(self.conv(self.choice(self.stem(x))))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


PAIRS: list[tuple[Any, str]] = [
    ("slots", "arch_desc"),
    ("recursive", "recursive_arch_desc"),
    ("params", "params"),
    (("params", {"with_keys": False}), "params"),
]


def test_a_model_s_options_are_those_of_its_keys_and_values() -> None:
    space = raynas.ModelSpace(OddNet).arch_space
    assert space.decisions["choice"].options == (None, 3, (3, 5), 0.5)
    assert space.decisions["kernel"].options == ((1, 3), (3, 1), 3)
    assert space.decisions["width"].options == (4, 8, 12)
    assert space.size() == (3 + 2) * 3 * 3
    net = OddNet()
    names = set(dict(net.choice.candidates.named_children()))
    assert names == {"None", "3", "(3, 5)", "0_5"}
    ints = LayerChoice({np.int64(k): layer(int(k)) for k in np.arange(3, 8, 2)}, "k")
    assert ints.options == (3, 5, 7)
    with pytest.raises(InvalidSpace, match="two candidates would be stored as '3'"):
        LayerChoice({3: layer(3), "3": layer(3)}, "k")


def test_every_architecture_of_a_model_is_built_costed_and_written() -> None:
    space = raynas.ModelSpace(OddNet)
    supernet = space.supernet()
    table = CostTable(supernet, torch.zeros(1, 1, 8, 8))
    for arch in space.arch_space:
        net = space.build(arch)
        assert table.cost(arch) == cost_of(net, torch.zeros(1, 1, 8, 8))
        written = json.loads(json.dumps(export(supernet, arch, "params")))
        assert read_arch(space.arch_space, written).key == arch.key
        for exporter, constructor in PAIRS:
            written = json.loads(json.dumps(export(supernet, arch, exporter)))
            made = construct(supernet, [(constructor, {"arch_desc": written})]).state_dict()
            assert {name: x.shape for name, x in made.items()} == {
                name: x.shape for name, x in net.state_dict().items()
            }


def test_latencies_of_odd_options_survive_their_files(tmp_path: Path) -> None:
    space = ArchSpace(
        (
            Choice("top", (None, (1,)), {None: ArchSpace.of(inner=[None, (3, 5)])}),
            Choice("kernel", ((3, 5), 3, "3x5")),
        )
    )
    times: dict[str, dict[Any, float]] = {
        "top": {None: 1.0, (1,): 2.0},
        "inner": {None: 4.0, (3, 5): 8.0},
        "kernel": {(3, 5): 16.0, 3: 32.0, "3x5": 64.0},
    }
    entries = [
        Entry((label,), (option,), ms)
        for label, by_option in times.items()
        for option, ms in by_option.items()
    ]
    table = LatencyTable(entries, space)
    expected = {
        arch.key: sum(times[label][option] for label, option in arch.items()) for arch in space
    }
    assert {arch.key: table.cost(arch).latency_ms for arch in space} == expected
    for ending in ("json", "csv", "parquet"):
        table.save(str(tmp_path / f"t.{ending}"))
        again = LatencyTable.load(str(tmp_path / f"t.{ending}"), space)
        assert {arch.key: again.cost(arch).latency_ms for arch in space} == expected


def images(count: int) -> TensorDataset:
    x = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(count))
    return TensorDataset(x, torch.arange(count) % 10)


@pytest.mark.parametrize("algo", ["random", "tpe"])
def test_a_supernet_is_trained_scored_and_rebuilt(algo: str, tmp_path: Path) -> None:
    result = raynas.search(
        OddNet,
        algo,
        data=(images(64), images(40)),
        epochs=1,
        trials=12,
        out=str(tmp_path / "run"),
        supernet={"batch_size": 32},
        ray=INLINE,
    )
    assert set(result.trials["status"]) == {"completed"}
    net = result.model()
    assert net(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    result.export(tmp_path / "best.json")
    read = read_arch(raynas.ModelSpace(OddNet).arch_space, tmp_path / "best.json")
    assert read.key == result.best.arch.key
    result.export(tmp_path / "best.pt2")
    Result(result.path).report()


class OddMix(nn.Module):
    """Vectors; two choices whose keys are no text, one in a candidate of the other."""

    def __init__(self) -> None:
        super().__init__()
        inner = LayerChoice({None: nn.Identity(), 1: nn.Linear(6, 6)}, label="inner")
        self.choice = LayerChoice({(1, 2): nn.Tanh(), None: inner, 0.5: nn.ReLU()}, label="choice")
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        logits: torch.Tensor = self.head(self.choice(x))
        return logits


@pytest.mark.parametrize("algo", ["darts", "gdas"])
def test_a_relaxed_search_finds_odd_options(algo: str, tmp_path: Path) -> None:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, x[:, :4].argmax(1))
    result = raynas.search(
        OddMix,
        algo,
        data=(data, data),
        epochs=2,
        trials=4,
        out=str(tmp_path),
        options={"batch_size": 16},
        ray=INLINE,
    )
    space = raynas.ModelSpace(OddMix).arch_space
    archs = [Arch.from_json(text) for text in result.trials["arch"]]
    for arch in archs:
        space.check(arch)
    assert len(archs) == len({arch.key for arch in archs}) >= 3
    assert raynas.load(result.path, data=(data, data)).model() is not None
    result.report()
