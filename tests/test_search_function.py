"""Searching with a function of one's own: no torch model, no supernet, with Ray and inline."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from torch import nn

import raynas
from raynas.core.errors import Interrupted, SearchFailed, StoreMismatch
from raynas.evaluators.functions import wants_module
from tests.inline import INLINE
from tests.toynet import ToyNet

SPACE = raynas.ArchSpace.of(depth=[1, 2, 3, 4], width=[8, 16, 32], kernel=[3, 5, 7])


def score(arch: raynas.Arch) -> dict[str, float]:
    depth, width, kernel = (float(arch[name]) for name in ("depth", "width", "kernel"))  # type: ignore[arg-type]
    return {"accuracy": depth * width - kernel, "latency_ms": depth * width * kernel}


def keys(frame: pd.DataFrame) -> list[str]:
    return [str(key) for key in frame["arch_key"]]


@pytest.mark.usefixtures("local_ray")
def test_a_plain_space_and_a_function_give_a_table(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    result = raynas.search(SPACE, "random", evaluator=score, trials=36, out=out)
    table = pd.read_parquet(tmp_path / "run" / "trials")  # without raynas
    assert pq.read_table(tmp_path / "run" / "trials").num_rows == 36
    assert len(result.trials) == 36 == SPACE.size() == table["arch_key"].nunique()
    assert set(table["status"]) == {"completed"}
    assert result.best.arch == {"depth": 4, "width": 32, "kernel": 3}
    assert result.best.objective == 4 * 32 - 3 == table["objective"].max()
    assert json.loads((tmp_path / "run" / "best.json").read_text()) == dict(result.best.arch)
    row = table.set_index("arch_key").loc[result.best.arch.key]
    assert row["latency_ms"] == 4 * 32 * 3
    assert (row["choice.depth"], row["choice.width"], row["choice.kernel"]) == (4, 32, 3)
    assert len(set(table["worker"])) == 2, "both workers work"
    assert list(raynas.load(out).trials.columns) == list(result.trials.columns)
    assert sorted([*table["asked_event"], *table["told_event"]]) == list(range(72))


def test_one_worker_with_batches_of_one_repeats_by_its_seed(tmp_path: Path) -> None:
    def run(name: str, seed: int) -> list[str]:
        out = str(tmp_path / name)
        return keys(
            raynas.search(SPACE, evaluator=score, trials=30, seed=seed, out=out, ray=INLINE).trials
        )

    assert run("a", 1) == run("b", 1) != run("c", 2)


def test_resumed_equals_never_stopped(tmp_path: Path) -> None:
    def run(name: str, trials: int, resume: bool = False) -> list[str]:
        out = str(tmp_path / name)
        found = raynas.search(
            SPACE, evaluator=score, trials=trials, out=out, resume=resume, ray=INLINE
        )
        return keys(found.trials)

    whole, part = run("whole", 30), run("parts", 21)
    assert whole[:21] == part
    assert run("parts", 30, resume=True) == whole
    assert run("parts", 30, resume=True) == whole, "nothing is left to do"


def test_a_resumed_run_with_another_sampler_repeats_nothing(tmp_path: Path) -> None:
    out = str(tmp_path)
    raynas.search(SPACE, "random", evaluator=score, trials=20, out=out, ray=INLINE)
    result = raynas.search(
        SPACE, "regularized_evolution", evaluator=score, trials=36, out=out, resume=True, ray=INLINE
    )
    assert result.trials["arch_key"].nunique() == 36
    assert list(result.trials["algo"]) == ["random"] * 20 + ["regularized_evolution"] * 16


def test_a_failing_evaluation_is_a_row_and_the_search_goes_on(tmp_path: Path) -> None:
    def brittle(arch: raynas.Arch) -> object:
        returns: dict[object, object] = {1: {"accuracy": float("nan")}, 2: "good", 3: None}
        if arch["kernel"] == 5:
            raise ArithmeticError("no kernel of five here")
        return returns.get(arch["depth"], {"accuracy": 1.0})

    table = raynas.search(
        SPACE, "random", evaluator=brittle, trials=36, out=str(tmp_path), ray=INLINE
    ).trials.set_index("arch_key")
    assert (table["status"] == "failed").sum() == 36 - 6
    assert table[table["status"] == "failed"]["objective"].isna().all()

    def error(**choices: int) -> str:
        return str(table.loc[raynas.Arch(choices).key, "error"])

    assert "ArithmeticError: no kernel of five here" in error(depth=4, width=8, kernel=5)
    assert "'accuracy' is nan" in error(depth=1, width=8, kernel=3)
    assert "must return a dict" in error(depth=2, width=8, kernel=3)
    assert "'good' (str)" in error(depth=2, width=8, kernel=3)
    assert "got None (NoneType)" in error(depth=3, width=8, kernel=3)


def test_all_failed_says_why(tmp_path: Path) -> None:
    def broken(_: raynas.Arch) -> float:
        raise OSError("disk on fire")

    result = raynas.search(SPACE, evaluator=broken, trials=5, out=str(tmp_path), ray=INLINE)
    with pytest.raises(LookupError, match="all 5 failed, the first with OSError: disk on fire"):
        _ = result.best


@pytest.mark.usefixtures("local_ray")
def test_an_objective_that_is_not_measured_ends_the_search(tmp_path: Path) -> None:
    with pytest.raises(SearchFailed, match=r"no metric 'acuracy'.*did you mean 'accuracy'"):
        raynas.search(
            SPACE, evaluator=score, objectives={"acuracy": "max"}, trials=36, out=str(tmp_path)
        )
    rows = pd.read_parquet(tmp_path / "trials")
    assert 1 <= len(rows) < 36
    assert set(rows["status"]) == {"failed"}


def test_a_minimised_metric_enters_negated_and_stays_as_measured(tmp_path: Path) -> None:
    result = raynas.search(
        SPACE,
        evaluator=score,
        objectives={"latency_ms": "min"},
        trials=36,
        out=str(tmp_path),
        ray=INLINE,
    )
    assert result.best.metrics["latency_ms"] == 1 * 8 * 3 == -(result.best.objective or 0)
    front = result.pareto({"accuracy": "max", "latency_ms": "min"})
    beaten = [
        any(
            (a >= row.accuracy and m <= row.latency_ms) and (a > row.accuracy or m < row.latency_ms)
            for a, m in zip(result.trials["accuracy"], result.trials["latency_ms"], strict=True)
        )
        for row in result.trials.itertuples()
    ]
    assert set(front["trial"]) == set(result.trials["trial"][[not b for b in beaten]])


def test_a_bare_number_is_the_objective(tmp_path: Path) -> None:
    result = raynas.search(
        SPACE, evaluator=lambda arch: len(arch), trials=3, out=str(tmp_path), ray=INLINE
    )
    assert list(result.trials["accuracy"]) == [3.0] * 3


def test_a_space_smaller_than_the_budget_is_searched_whole(tmp_path: Path) -> None:
    space = raynas.ArchSpace.of(x=[1, 2, 3], y=[1, 2])
    result = raynas.search(space, evaluator=lambda _: 1.0, trials=50, out=str(tmp_path), ray=INLINE)
    assert len(result.trials) == 6 == result.trials["arch_key"].nunique()


def test_a_function_of_a_module_gets_the_built_module(tmp_path: Path) -> None:
    def count(net: nn.Module) -> dict[str, float]:
        return {"size": sum(p.numel() for p in net.parameters())}

    result = raynas.search(
        ToyNet,
        "random",
        evaluator=count,
        objectives={"size": "min"},
        trials=18,
        out=str(tmp_path),
        ray=INLINE,
    )
    assert result.best.arch == {"first": "k3", "second": 0, "third": 0}
    net = result.model()
    assert sum(p.numel() for p in net.parameters()) == result.best.metrics["size"]


@pytest.mark.full  # with larger batches always: test_robust_workers.py
@pytest.mark.usefixtures("local_ray")
def test_an_evaluator_that_kills_its_process_fails_alone(tmp_path: Path) -> None:
    def deadly(arch: raynas.Arch) -> float:
        if arch["depth"] == 2 and arch["kernel"] == 3 and arch["width"] == 8:
            os._exit(1)
        return 1.0

    config = raynas.RayConfig(workers=2, batch=1)
    table = raynas.search(
        SPACE, "random", evaluator=deadly, trials=36, out=str(tmp_path), ray=config
    ).trials
    failed = table[table["status"] == "failed"]
    assert len(table) == 36
    assert keys(failed) == [raynas.Arch({"depth": 2, "width": 8, "kernel": 3}).key]
    assert "process" in failed["error"].iloc[0]


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    out = str(tmp_path)
    raynas.search(SPACE, "random", evaluator=score, trials=2, out=out, ray=INLINE)
    with pytest.raises(FileExistsError, match=r"holds another run \(random on ArchSpace\)"):
        raynas.search(SPACE, "random", evaluator=score, trials=2, out=out, ray=INLINE)
    other = raynas.ArchSpace.of(x=[1, 2])
    with pytest.raises(StoreMismatch, match="was run with space"):
        raynas.search(other, "random", evaluator=score, trials=2, out=out, resume=True, ray=INLINE)
    with pytest.raises(StoreMismatch, match="was run with evaluator"):
        raynas.search(SPACE, "random", evaluator=len, trials=3, out=out, resume=True, ray=INLINE)
    with pytest.raises(StoreMismatch, match="was run with seed 0, not 1"):
        raynas.search(
            SPACE, "random", evaluator=score, trials=3, out=out, seed=1, resume=True, ray=INLINE
        )
    assert len(raynas.load(out).trials) == 2


def test_resuming_with_other_options_is_refused(tmp_path: Path) -> None:
    out = str(tmp_path)
    raynas.search(SPACE, evaluator=score, trials=2, out=out, ray=INLINE)
    more = {"population": 30}
    with pytest.raises(StoreMismatch, match="was run with algo regularized_evolution"):
        raynas.search(
            SPACE, evaluator=score, trials=3, out=out, options=more, resume=True, ray=INLINE
        )


def test_ctrl_c_is_a_keyboard_interrupt_of_its_own() -> None:
    assert issubclass(Interrupted, KeyboardInterrupt)


def test_a_callable_object_of_a_module_gets_the_module() -> None:
    class Judge:
        def __call__(self, net: nn.Module) -> float:
            return float(len(list(net.parameters())))

    def judge(net: nn.Module, scale: float) -> float:
        return scale * len(list(net.parameters()))

    assert wants_module(Judge())
    assert wants_module(partial(judge, scale=2.0))
    assert not wants_module(score)
    with pytest.raises(ValueError, match="an ArchSpace builds none"):
        raynas.search(SPACE, evaluator=Judge(), trials=1)


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": "mnist"}, "uses no data of ours"),
        ({"supernet": "nowhere"}, "go with the evaluator 'shared'"),
        ({"epochs": 3}, "go with the evaluator 'shared'"),
        ({"objectives": {"duration_s": "min"}}, "named like a column"),
        ({"objectives": "accuracy"}, "expected a dict, got 'accuracy'"),
        ({"options": 3}, "expected a dict, got 3"),
        ({"algo": object()}, "expected a registered name or a configured .* got a object"),
        ({"evaluator": "shard"}, "did you mean 'shared'"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_starts(
    given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises((LookupError, TypeError, ValueError), match=said):
        raynas.search(SPACE, **{"evaluator": score, "out": tmp_path / "run", **given})
    assert not (tmp_path / "run").exists()


def test_a_folder_of_a_run_that_never_began_is_free(tmp_path: Path) -> None:
    raynas.search(SPACE, "random", evaluator=score, trials=1, out=str(tmp_path), ray=INLINE)
    for part in (tmp_path / "trials").iterdir():
        part.unlink()
    (tmp_path / "trials").rmdir()
    result = raynas.search(SPACE, "random", evaluator=score, trials=2, out=tmp_path, ray=INLINE)  # type: ignore[arg-type]
    assert len(result.trials) == 2


@pytest.mark.usefixtures("local_ray")
def test_more_workers_than_cpus_or_architectures_do_not_wait(tmp_path: Path) -> None:
    space = raynas.ArchSpace.of(x=[1])
    config = raynas.RayConfig(workers=8)
    result = raynas.search(space, evaluator=lambda _: 1.0, trials=9, out=str(tmp_path), ray=config)
    assert len(result.trials) == 1


def test_a_sampler_of_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match=r"an ArchSpace, got ModelSpace; .* arch_space"):
        raynas.sampler("random", raynas.space("nas_bench_macro"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an ArchSpace, got str"):
        raynas.sampler("random", "mlp")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed: expected at least 0, got -1"):
        raynas.sampler("random", SPACE, seed=-1)
