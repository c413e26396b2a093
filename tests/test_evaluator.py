"""What an evaluator may return, how many architectures a worker is sent, and what is best."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from raynas.core.batching import LARGEST, BatchSize
from raynas.core.evaluator import RESERVED, describe, measure, numbers, sorted_out
from raynas.core.objectives import MissingObjective, Objective, pareto_mask, parse_goal
from raynas.storage.table_schemas import trial_schema

# --- metrics --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "returned",
    [
        0.5,
        Fraction(1, 2),
        np.float32(0.5),
        np.float64(0.5),
        np.array(0.5),
        torch.tensor(0.5),
        torch.tensor([[0.5]], dtype=torch.float64),
    ],
    ids=repr,
)
def test_every_kind_of_number_becomes_a_float(returned: object) -> None:
    for metrics in (numbers({"accuracy": returned}), numbers(returned, ["accuracy"])):
        assert metrics == {"accuracy": 0.5}
        assert type(metrics["accuracy"]) is float


def test_whole_numbers_and_flags_are_numbers() -> None:
    returned = {"params": 10**9, "fits": True, "steps": np.int64(3), "seen": torch.tensor(4)}
    assert numbers(returned) == {"params": 1e9, "fits": 1.0, "steps": 3.0, "seen": 4.0}
    assert numbers({}) == {}


@pytest.mark.parametrize(
    ("returned", "error", "told"),
    [
        ({"loss": math.nan}, ValueError, "metric 'loss' is nan"),
        ({"loss": -math.inf}, ValueError, "metric 'loss' is -inf"),
        ({"loss": torch.tensor(math.nan)}, ValueError, "metric 'loss' is nan"),
        ({"loss": "0.5"}, TypeError, r"metric 'loss' must be a number, got '0.5' \(str\)"),
        ({"loss": None}, TypeError, r"metric 'loss' must be a number, got None \(NoneType\)"),
        ({"loss": [0.5]}, TypeError, r"metric 'loss' must be a number, got \[0.5\] \(list\)"),
        ({"loss": np.zeros(2)}, TypeError, "metric 'loss' must be one number, got array"),
        ({"loss": torch.zeros(2)}, TypeError, r"metric 'loss' must be one number, got tensor"),
        ({"loss": 10**400}, TypeError, "metric 'loss' must be one number, got 1000"),
        ({"loss": 1j}, TypeError, "metric 'loss' must be a number, got 1j"),
        ({1: 0.5}, TypeError, r"a metric's name must be a non-empty string, got 1 \(int\)"),
        ({"": 0.5}, TypeError, "a metric's name must be a non-empty string, got ''"),
        ({"choice.depth": 0.5}, ValueError, "metric 'choice.depth' is named like a column"),
        ({"arch_key": 0.5}, ValueError, "metric 'arch_key' is named like a column"),
        (None, TypeError, r"must return a dict from metric name to number, .* got None"),
        ("0.5", TypeError, r"must return a dict from metric name to number, .* got '0.5' \(str\)"),
        ([("loss", 0.5)], TypeError, "must return a dict from metric name to number"),
        ("x" * 99, TypeError, r"got 'x{56}\.\.\. \(str\)"),
        (math.nan, ValueError, "metric 'accuracy' is nan"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_measurement_is_refused(
    returned: object, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        numbers(returned, ["accuracy"])


@pytest.mark.parametrize("names", [[], ["accuracy", "loss"]])
def test_a_bare_number_needs_one_name(names: list[str]) -> None:
    with pytest.raises(TypeError, match=r"must return a dict from metric name .* got 0\.5"):
        numbers(0.5, names)


def test_every_column_of_the_trial_table_is_reserved() -> None:
    assert {*trial_schema(None).names, "duplicates"} <= RESERVED  # the last one is of Result.trials
    for name in RESERVED:
        with pytest.raises(ValueError, match=f"metric '{name}' is named like a column"):
            numbers({name: 1.0})


# --- measuring ------------------------------------------------------------------------------------


def test_a_measurement_holds_the_metrics_and_the_time() -> None:
    found = measure(lambda: {"accuracy": 0.5})
    assert found.metrics == {"accuracy": 0.5}
    assert found.error is None
    assert found.started_s > 1e9
    assert 0 <= found.duration_s < 3600
    assert measure(lambda: 0.5, ["accuracy"]).metrics == {"accuracy": 0.5}


def broken() -> object:
    """Fail as an evaluator of a user fails."""
    raise RuntimeError("no\nmemory  left")


def test_what_raises_becomes_one_line_that_names_its_place() -> None:
    found = measure(broken)
    line = broken.__code__.co_firstlineno + 2
    assert found.error == f"RuntimeError: no memory left (in broken, line {line})"
    assert found.metrics == {}


def test_what_is_no_number_leaves_the_others_alone() -> None:
    found = measure(
        lambda: {
            "accuracy": 0.5,
            "auc": math.nan,
            "top": np.float32(math.inf),
            "f1": None,
            "weights": "s3://a",
            "name": np.str_("n"),
            "curve": [1, 2],
            "by_class": {"cat": 0.1},
            "tensor": torch.zeros(2),
            "raw": b"x",
            "status": "fine",
            3: 0.5,
        }
    )
    assert found.error is None
    assert found.metrics == {"accuracy": 0.5}
    assert found.text_metrics == {"weights": "s3://a", "name": "n"}
    assert type(found.text_metrics["name"]) is str
    assert found.unusable == {
        "auc": "metric 'auc' is nan",
        "top": "metric 'top' is inf",
        "f1": "metric 'f1' must be a number, got None (NoneType)",
        "curve": "metric 'curve' must be a number, got [1, 2] (list)",
        "by_class": "metric 'by_class' must be a number, got {'cat': 0.1} (dict)",
        "tensor": "metric 'tensor' must be one number, got tensor([0., 0.]) (Tensor)",
        "raw": "metric 'raw' must be a number, got b'x' (bytes)",
        "status": "metric 'status' is named like a column of the trial table; rename it",
        "3": "a metric's name must be a non-empty string, got 3 (int)",
    }


def test_what_is_no_mapping_becomes_an_error() -> None:
    told = "TypeError: the evaluator must return a dict from metric name to number, got None"
    found = measure(lambda: None)
    assert str(found.error).startswith(told)
    assert (found.metrics, found.text_metrics, found.unusable) == ({}, {}, {})


def test_a_bare_nan_is_the_metric_that_it_stands_for() -> None:
    assert sorted_out(math.nan, ["loss"]).unusable == {"loss": "metric 'loss' is nan"}


def test_ctrl_c_is_no_failure() -> None:
    def stopped() -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(stopped)


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, BaseException])
def test_an_exit_is_a_failure_like_any_other(kind: type[BaseException]) -> None:
    def leaving() -> object:
        raise kind(3)

    assert str(measure(leaving).error).startswith(f"{kind.__name__}: 3 (in leaving, line ")


class Nameless:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no name")


class Mute(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def mute() -> object:
    raise Mute


def long_winded() -> object:
    raise ValueError("caf\udce9 " * 10**6)


def test_what_an_evaluator_says_fits_a_table() -> None:
    assert "<its repr raised RuntimeError> (Nameless)" in str(measure(Nameless).error)
    assert str(measure(mute).error).startswith("Mute: <its text raised RuntimeError> (in mute")
    said = measure(long_winded)
    assert "(5000000 characters)" in str(said.error)
    assert len(str(said.error)) < 2_500
    assert len(str(said.traceback)) < 60_000
    texts = {"where": "caf\udce9", "log": "x" * 2_000_000, "\udce9": "a"}
    found = sorted_out({**texts, "bad": Nameless()})
    assert found.text_metrics == {"where": "caf\\udce9"}
    assert found.unusable == {
        "log": "metric 'log' has 2000000 characters, and 1000000 are kept",
        "\\udce9": "metric '\\udce9' has a name that is no text in UTF-8; rename it",
        "bad": "metric 'bad' must be a number, got <its repr raised RuntimeError> (Nameless)",
    }
    all_said = [said.error, said.traceback, *found.unusable, *found.unusable.values()]
    "".join(map(str, all_said)).encode("utf-8")


def test_a_forked_child_ends_with_its_evaluation() -> None:
    reader, writer = os.pipe()

    def forking() -> float:
        os.write(writer, b"x" if os.fork() else b"c")
        return 0.5

    assert measure(forking, ["accuracy"]).metrics == {"accuracy": 0.5}
    os.close(writer)
    _, status = os.wait()
    with os.fdopen(reader, "rb") as pipe:
        assert sorted(pipe.read()) == sorted(b"xc")
    assert status == 0


def test_an_exception_that_was_never_raised_has_no_place() -> None:
    assert describe(ValueError("no")) == "ValueError: no"


# --- batches --------------------------------------------------------------------------------------


def sizes(batch: BatchSize, rounds: int, *, told: int = 10_000) -> list[int]:
    """Return the next sizes, with many trials told before."""
    return [batch.next(asked=told, told=told) for _ in range(rounds)]


def test_nothing_is_batched_before_the_first_measurement() -> None:
    assert sizes(BatchSize(workers=1), 4) == [1, 1, 1, 1]


def test_a_batch_doubles_up_to_the_largest() -> None:
    batch = BatchSize(workers=1)
    batch.measured(seconds=0.0, count=1)
    assert sizes(batch, 8) == [1, 2, 4, 8, 16, 32, 32, 32]
    assert LARGEST == 32


@pytest.mark.parametrize(("seconds", "expected"), [(0.02, 15), (0.1, 3), (0.16, 1), (9.0, 1)])
def test_a_batch_takes_no_longer_than_its_target(seconds: float, expected: int) -> None:
    batch = BatchSize(workers=1, target_s=0.31)
    batch.measured(seconds=4 * seconds, count=4)
    assert sizes(batch, 8)[-1] == expected


def test_the_sampler_does_not_fly_blind() -> None:
    batch = BatchSize(workers=2)
    batch.measured(seconds=0.0, count=1)
    grown = [batch.next(asked=told, told=told) for told in (0, 16, 31, 32, 63, 64, 160, 800, 800)]
    assert grown == [1, 1, 1, 2, 3, 4, 8, 16, 32]  # two workers: twice as many in flight


def test_first_asks_that_need_no_tell_are_shared_out_at_once() -> None:
    batch = BatchSize(workers=3, startup=20)
    batch.measured(seconds=0.0, count=1)
    assert [batch.next(asked=asked, told=0) for asked in (0, 1, 2, 4, 8, 15, 19, 20)] == [
        *(1, 2, 4, 6, 4, 2, 1, 1)
    ]


def test_a_sampler_that_never_learns_may_fly_blind() -> None:
    batch = BatchSize(workers=1, startup=None)
    batch.measured(seconds=0.0, count=1)
    assert [batch.next(asked=0, told=0) for _ in range(6)] == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("workers", "batch_s", "arch_s", "seconds", "expected"),
    [
        (1000, 0.008, 0.0, 1.0, 10),  # 1,000 batches a second would take the driver 8 s
        (1000, 0.008, 0.0004, 1.0, 20),
        (1000, 0.008, 0.0, 60.0, 1),
        (1000, 0.1, 0.0, 1.0, LARGEST),
        (50, 0.008, 0.0, 1.0, 1),
        (1000, 0.008, 0.0, 0.01, 1),  # trials are cheap: what counts is what the sampler knows
        (1000, 0.008, 0.02, 1.0, 1),  # a slow sampler is no faster in batches
    ],
)
def test_workers_do_not_wait_for_a_driver_that_cannot_keep_up(
    workers: int, batch_s: float, arch_s: float, seconds: float, expected: int
) -> None:
    batch = BatchSize(workers=workers)
    batch.measured(seconds=seconds, count=1)
    for _ in range(100):
        batch.handled(batch_s, arch_s)
    assert sizes(batch, 8, told=workers)[-1] == expected


def test_a_fixed_size_is_kept() -> None:
    batch = BatchSize(workers=1, fixed=5)
    batch.measured(seconds=100.0, count=1)
    assert sizes(batch, 3) == [5, 5, 5]


def test_a_slow_spell_shrinks_the_batch_and_it_recovers() -> None:
    batch = BatchSize(workers=1)
    batch.measured(seconds=0.01, count=1)
    assert sizes(batch, 7)[-1] == 30
    batch.measured(seconds=1.01, count=1)  # 0.7 * 0.01 + 0.3 * 1.01 = 0.31 seconds each
    assert sizes(batch, 1) == [1]
    for _ in range(40):
        batch.measured(seconds=0.01, count=1)
    assert sizes(batch, 7) == [2, 4, 8, 16, 29, 29, 29]


@settings(deadline=None)
@given(
    seconds=st.lists(st.floats(-1, 1e9, allow_subnormal=True), max_size=30),
    counts=st.integers(0, 100),
    startup=st.none() | st.integers(0, 100),
    told=st.integers(0, 10**6),
)
def test_a_batch_is_never_empty_nor_too_large(
    seconds: list[float], counts: int, startup: int | None, told: int
) -> None:
    batch = BatchSize(workers=3, startup=startup)
    last = 1
    for taken in seconds:
        batch.measured(taken, counts)
        size = batch.next(asked=told, told=told)
        assert 1 <= size <= min(LARGEST, max(2 * last, 1))
        last = size


def test_times_below_every_clock_do_not_overflow() -> None:
    batch = BatchSize(workers=1)
    batch.measured(seconds=5e-324, count=1)
    assert sizes(batch, 6)[-1] == LARGEST


# --- objectives -----------------------------------------------------------------------------------


def test_an_objective_is_always_maximised() -> None:
    assert Objective("accuracy").score({"accuracy": 0.5, "loss": 2.0}) == 0.5
    assert Objective("loss", "min").score({"accuracy": 0.5, "loss": 2.0}) == -2.0
    with pytest.raises(ValueError, match="objective 'loss': expected 'max' or 'min', got 'least'"):
        Objective("loss", "least")  # type: ignore[arg-type]


def test_a_missing_objective_names_the_nearest_metric() -> None:
    with pytest.raises(MissingObjective, match=r"no metric 'acuracy', .* did you mean 'accuracy'"):
        Objective("acuracy").score({"accuracy": 0.5, "loss": 0.5})


@pytest.mark.parametrize(
    ("text", "goal"),
    [("loss:min", ("loss", "min")), ("accuracy", ("accuracy", "max")), ("a:max", ("a", "max"))],
)
def test_a_goal_is_read_from_text(text: str, goal: tuple[str, str]) -> None:
    assert parse_goal(text) == goal


def beaten(point: NDArray[Any], others: NDArray[Any]) -> bool:
    """Return whether another point is nowhere worse and somewhere better, in plain words."""
    return any(
        all(o >= p for o, p in zip(other, point, strict=True))
        and any(o > p for o, p in zip(other, point, strict=True))
        for other in others
    )


shapes = arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12).filter(
    lambda shape: shape[1] <= 4
)


@settings(deadline=None)
@given(
    scores=arrays.arrays(
        np.float64,
        shapes,
        elements=st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0, 2.0])
        | st.floats(allow_nan=False),
    )
)
def test_the_front_is_what_nothing_beats(scores: NDArray[np.float64]) -> None:
    mask = pareto_mask(scores)
    assert mask.shape == (len(scores),)
    assert mask.tolist() == [not beaten(point, scores) for point in scores]
