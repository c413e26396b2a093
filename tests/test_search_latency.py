"""Latency as objective and constraint of a search: looked up, measured once, kept by the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import raynas
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.errors import StoreMismatch
from raynas.core.evaluator import Budget, Evaluator, Measurement
from raynas.core.objectives import pareto_mask
from raynas.core.train_settings import TrainSettings
from raynas.costs import LatencyTable
from raynas.costs.latency_files import Entry, from_json, to_json
from raynas.costs.timing import latency_from
from raynas.evaluators import Shared
from raynas.evaluators.with_latency import LatencyEvaluator
from raynas.nn import LayerChoice
from raynas.setup.latency_source import gives_latency, hardware_table
from raynas.storage.run_folder import Folder
from raynas.supernet import scoring
from tests.inline import INLINE
from tests.toynet import ToyNet, conv

SPACE = raynas.ModelSpace(ToyNet).arch_space


def table() -> LatencyTable:
    """Latencies that no two architectures share: 1, 2 or 4 ms and so on in every place."""
    entries = [Entry((), (), 0.5)]
    for at, (label, decision) in enumerate(SPACE.decisions.items()):
        for i, option in enumerate(decision.options):
            entries.append(Entry((label,), (option,), float(3**at * i)))
    return LatencyTable(entries, SPACE)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = str(tmp_path / "phone.csv")
    table().save(path)
    return path


def counted(net: nn.Module) -> dict[str, float]:
    return {"accuracy": float(sum(p.numel() for p in net.parameters()))}


def archs_of(result: raynas.Result) -> list[Arch]:
    return [Arch.from_json(str(text)) for text in result.trials["arch"]]


def test_latency_by_table_is_an_objective_and_bounds_what_is_evaluated(
    tmp_path: Path, file: str
) -> None:
    given: dict[str, Any] = {
        "algo": "nsga2",
        "evaluator": counted,
        "objectives": {"accuracy": "max", "latency_ms": "min"},
        "constraints": ["latency_ms<11"],
        "latency": file,
        "ray": INLINE,
        "out": str(tmp_path / "run"),
    }
    result = raynas.search(ToyNet, trials=4, **given)
    Path(file).unlink()  # the run has its own copy
    result = raynas.search(ToyNet, trials=18, resume=True, **given)
    known = table()
    inside = {arch for arch in SPACE if known.cost(arch).latency_ms <= 11}
    assert 4 < len(inside) < 18
    assert set(archs_of(result)) == inside
    assert set(result.trials["status"]) == {"completed"}
    wanted = [known.cost(arch).latency_ms for arch in archs_of(result)]
    assert result.trials["latency_ms"].tolist() == wanted
    scores = result.trials[["accuracy", "latency_ms"]].to_numpy() * [1, -1]
    assert len(result.pareto()) == int(pareto_mask(scores).sum()) > 1
    assert result.config.latency == str(Path(file).resolve())
    assert len(result.query(constraints="latency_ms<3")) == sum(ms <= 3 for ms in wanted)
    # another source would give numbers that do not compare
    with pytest.raises(StoreMismatch, match=r"with latency '.*phone.csv', not 'cpu'"):
        raynas.search(ToyNet, trials=18, resume=True, **(given | {"latency": "cpu"}))


@pytest.mark.usefixtures("local_ray")
def test_latency_is_measured_once_where_none_is_given(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "algo": "random",
        "evaluator": "cost",
        "objectives": {"latency_ms": "min"},
        "out": str(tmp_path / "run"),
    }
    raynas.search(ToyNet, trials=3, ray={"workers": 1}, **given)
    measured = (tmp_path / "run" / "latency_cpu.json").read_text()
    result = raynas.search(ToyNet, trials=6, resume=True, ray=INLINE, **given)
    assert (tmp_path / "run" / "latency_cpu.json").read_text() == measured
    assert result.config.latency == "cpu"
    known = LatencyTable(from_json(measured, SPACE), SPACE)
    assert result.trials["latency_ms"].tolist() == [
        known.cost(arch).latency_ms for arch in archs_of(result)
    ]
    assert result.trials["macs"].notna().all()
    assert len(result.trials) == 6
    assert result.best.metrics["latency_ms"] == result.trials["latency_ms"].min()


def test_the_loss_of_a_search_by_gradients_sees_one_measurement(tmp_path: Path) -> None:
    from raynas.setup.resolve import resolve_space
    from raynas.setup.resolve_data import resolve_data

    space = resolve_space(ToyNet, {}, resolve_data("digits", {}))
    folder = Folder(str(tmp_path))
    algo = ComponentSpec(name="darts", options={"hardware": {"target": "cpu"}})
    first = hardware_table(algo, space, folder, 1)
    assert first is not None
    assert first == hardware_table(algo, space, folder, 1) == folder.read("latency_cpu.json")
    assert LatencyTable(from_json(first, SPACE), SPACE).base_ms >= 0
    for hardware in (None, {"target": "macs"}, {"target": "cpu", "table": "phone.csv"}):
        other = ComponentSpec(name="darts", options={"hardware": hardware})
        assert hardware_table(other, space, folder, 1) is None


def test_entries_survive_json_exactly() -> None:
    space = ArchSpace.of(op=["conv", "[x]"], k=[3, 5])
    entries = [
        Entry((), (), 0.1 + 0.2),
        *(Entry(("op",), (op,), 1 / 3) for op in ("conv", "[x]")),
        *(Entry(("k", "op"), (k, "conv"), np.pi) for k in (3, 5)),
        Entry(("k",), ("*",), 0.0),
    ]
    assert from_json(to_json(entries), space) == entries


class _Half(Evaluator):
    """Fails for every second architecture."""

    closed = False

    def close(self) -> None:
        self.closed = True

    def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
        return [
            Measurement(metrics={"accuracy": 1.0}) if at % 2 else Measurement(error="no")
            for at in range(len(archs))
        ]

    def by_epoch(self, arch: Arch, seed: int) -> Any:
        yield Measurement(metrics={"accuracy": 0.1}, epochs=1)
        yield Measurement(metrics={"accuracy": 0.2}, epochs=2)


def test_latency_joins_what_is_measured_and_no_failure() -> None:
    archs = list(SPACE)[:4]
    half = _Half()
    both = LatencyEvaluator(half, table())
    found = both(archs, Budget(), 0)
    assert [one.error for one in found] == ["no", None, "no", None]
    assert [dict(one.metrics) for one in found if one.error] == [{}, {}]
    for arch, one in zip(archs[1::2], found[1::2], strict=True):
        assert one.metrics == {"accuracy": 1.0, "latency_ms": table().cost(arch).latency_ms}
    epochs = list(both.by_epoch(archs[0], 0))
    assert [one.epochs for one in epochs] == [1, 2]
    both.close()
    assert half.closed
    assert {one.metrics["latency_ms"] for one in epochs} == {table().cost(archs[0]).latency_ms}


def test_who_gives_latency_itself() -> None:
    class Clock:
        metrics = ("latency_ms",)

        def measure(self, net: object, data: object, seed: int) -> dict[str, float]:
            return {"latency_ms": 1.0}

    assert gives_latency(Clock())
    assert gives_latency(counted)
    assert gives_latency(["table", {"path": "scores.csv"}])
    for none in ("shared", "standalone", ["cost", {}], {"type": "synflow"}, Shared(cache_mb=0)):
        assert not gives_latency(none)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"objectives": {"latncy_ms": "min"}}, ValueError, "did you mean 'latency_ms'"),
        ({"constraints": "latency<3"}, ValueError, "no metric 'latency'; did you mean"),
        ({"latency": "mobile"}, ValueError, "'mobile' cannot be measured here: pass the path"),
        ({"latency": 3}, TypeError, "expected 'cpu' or 'gpu'.* or the path of a table"),
        ({"latency": "phon.csv", "constraints": "latency_ms<3"}, FileNotFoundError, "phon.csv"),
        ({"constraints": "latency_ms<0.4"}, ValueError, "the smallest latency_ms is 0.5"),
        ({"space": ArchSpace.of(a=[1, 2]), "latency": "cpu"}, ValueError, "no networks to measure"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(
    given: dict[str, Any], error: type[Exception], said: str, tmp_path: Path, file: str
) -> None:
    whole = {"space": ToyNet, "latency": file, "out": str(tmp_path / "run"), **given}
    if isinstance(whole["space"], ArchSpace):
        whole["evaluator"] = len
    with pytest.raises(error, match=said):
        raynas.search(whole.pop("space"), **whole)
    assert not (tmp_path / "run").exists()


def test_an_evaluator_that_gives_latency_takes_no_table(tmp_path: Path, file: str) -> None:
    scores = pd.DataFrame(
        [{"arch": arch.to_json(), "accuracy": 0.5, "latency_ms": 1.0} for arch in SPACE]
    )
    scores.to_parquet(tmp_path / "scores.parquet")
    with pytest.raises(ValueError, match="'table' gives latency_ms: leave out latency="):
        raynas.search(
            ToyNet,
            evaluator=("table", {"path": str(tmp_path / "scores.parquet")}),
            latency=file,
            out=str(tmp_path / "run"),
        )


def test_a_profile_takes_the_same_words(file: str) -> None:
    shape = (1, 16, 16)
    told = raynas.profile(ToyNet, latency=file, samples=20, input_shape=shape)
    assert {one.metrics["latency_ms"] for one in told.archs} <= {
        table().cost(arch).latency_ms for arch in SPACE
    }
    measured = raynas.profile(ToyNet, latency="cpu", samples=20, input_shape=shape)
    assert all(one.metrics["latency_ms"] > 0 for one in measured.archs)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="'gpu' needs a GPU here"):
            latency_from("gpu", ToyNet(), torch.zeros(1, *shape))


def test_the_options_of_shared_are_those_of_its_scorer() -> None:
    assert Shared().chosen == {}
    assert Shared(cache_mb=0).chosen == {"cache_mb": 0}
    assert Shared().settings == {
        "calibration_images": scoring.CALIBRATION_IMAGES,
        "validation_images": scoring.VALIDATION_IMAGES,
        "hold_bytes": scoring.HOLD_MB * 2**20,
        "cache_bytes": scoring.CACHE_MB * 2**20,
    }


def chain() -> nn.Module:
    layers = [LayerChoice([conv(n, 1), conv(n, 3)], f"of {n}") for n in (1, 8)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def test_the_options_of_shared_reach_the_scorer() -> None:
    from raynas.data.digits import Digits
    from raynas.evaluators.shared import SharedEvaluator
    from raynas.supernet.checkpoint import SharedWeights, to_arrays

    space = raynas.ModelSpace(chain)
    weights = SharedWeights(arrays=to_arrays(space.supernet().state_dict()))
    archs = list(space.arch_space)  # the second begins as the first does

    def scored(**options: Any) -> tuple[list[dict[str, float]], int]:
        settings = Shared(**options).settings
        evaluator = SharedEvaluator(space, Digits(), weights, 0, settings=settings)
        rows = [dict(one.metrics) for one in evaluator(archs, Budget(), 0)]
        return rows, evaluator._scorer.cache.hits

    few: dict[str, Any] = {"calibration_images": 16, "validation_images": 8}
    cached, hits = scored(**few)
    plain, none = scored(cache_mb=0, **few)
    assert cached == plain
    assert none == 0
    assert all(float(8 * row["accuracy"]).is_integer() for row in plain)
    other, _ = scored(calibration_images=32, validation_images=8)
    assert [row["loss"] for row in other] != [row["loss"] for row in plain]
    assert hits > 0


def written(out: Path, **fields: Any) -> SearchConfig:
    """Return the configuration of a run in a folder."""
    plain = {
        "space": ComponentSpec(name="net"),
        "algo": ComponentSpec(name="random"),
        "objectives": {"a": "max"},
    }
    evaluator = ComponentSpec(name="shared")
    return SearchConfig(**{**plain, "evaluator": evaluator, "out": str(out), **fields})


def test_a_table_of_a_run_that_measured_nothing_is_forgotten(tmp_path: Path) -> None:
    """Its source may have changed since."""
    folder, config = Folder(str(tmp_path)), written(tmp_path)
    folder.write("run.json", config.to_json())
    folder.write("latency_cpu.json", "[]")
    folder.begin(config, resume=True)
    assert not folder.has("latency_cpu.json")
    folder.write("latency_cpu.json", "[]")
    (tmp_path / "trials").mkdir()
    folder.begin(config, resume=True)
    assert folder.has("latency_cpu.json")


def test_options_of_a_later_release_had_their_defaults(tmp_path: Path) -> None:
    """What differs beyond them is all that is said."""
    now = {"seed": 1} | TrainSettings(epochs=3).model_dump()
    old = {k: v for k, v in now.items() if k not in ("precision", "channels_last")}
    folder = Folder(str(tmp_path))
    folder.write(
        "run.json", written(tmp_path, supernet=ComponentSpec(name="spos", options=old)).to_json()
    )
    (tmp_path / "trials").mkdir()
    folder.begin(written(tmp_path, supernet=ComponentSpec(name="spos", options=now)), resume=True)
    other = now | {"precision": "bfloat16", "lr": 0.5}
    folder.write(
        "run.json", written(tmp_path, supernet=ComponentSpec(name="spos", options=old)).to_json()
    )
    with pytest.raises(StoreMismatch) as caught:
        folder.begin(
            written(tmp_path, supernet=ComponentSpec(name="spos", options=other)), resume=True
        )
    text = str(caught.value)
    assert "spos {'lr': 0.05, 'precision': 'float32'}, not spos {" in text
    assert "epochs" not in text


def test_latencies_cannot_join_a_run_without(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("run.json", written(tmp_path).to_json())
    (tmp_path / "trials").mkdir()
    with pytest.raises(StoreMismatch, match="was run without latencies, which are asked for now"):
        folder.begin(written(tmp_path, latency="cpu"), resume=True)


def test_what_gives_latencies_itself_needs_no_table() -> None:
    class GivesLatency(Evaluator):
        def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
            return [Measurement(metrics={"latency_ms": 777.0}) for _ in archs]

    table: Any = None  # never looked up
    told = LatencyEvaluator(GivesLatency(), table)([Arch({})], Budget(), 0)
    assert told[0].error == "the evaluator gives latency_ms itself: leave out latency="
    assert not told[0].metrics
