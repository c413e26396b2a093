"""The store: what is appended stays, comes back equal, and opens without raynas."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Subset
from raynas.core.errors import StoreMismatch
from raynas.core.evaluator import RESERVED
from raynas.core.trial import Status, Trial
from raynas.storage import part_writer
from raynas.storage.table_schemas import trial_schema
from raynas.storage.table_writers import HistoryStore, TrialStore
from raynas.storage.tables import load_trials, read_history, read_trials

ROOT = Path(__file__).parent.parent
FLAT = ArchSpace.of(depth=[2, 3, 4], op=["conv3", "conv5"])
RICH = ArchSpace(
    (
        Choice("op/a.1", ("conv", "pool"), {"conv": ArchSpace((Choice("kernel", (3, 5)),))}),
        Choice("rate", (0.0, 0.25, 0.5)),
        Choice("bias", (True, False)),
        Choice("mixed", (1, "one", 0.5)),
        Choice("huge", (2**70, 1)),
        Subset("from", ("s0", "s1", "s2"), 2),
        Subset("any", (1, 2, 3), None, {3: ArchSpace((Subset("odd", (7, "seven"), None),))}),
    )
)
UTC_US = pa.timestamp("us", tz="UTC")


def numbered(numbers: Iterable[int], space: ArchSpace = FLAT, **metrics: float) -> list[Trial]:
    """Return trials with these numbers, told in their order."""
    return [
        Trial(
            arch=space.sample(np.random.default_rng(n)),
            number=n,
            told_event=n,
            objective=n / 8,
            metrics={"accuracy": n / 8, **metrics},
        )
        for n in numbers
    ]


def files(out: Path, folder: str = "trials") -> list[str]:
    """Return the names of the part files."""
    return sorted(path.name for path in (out / folder).iterdir())


# --- round trip -----------------------------------------------------------------------------------

instants = st.datetimes(
    min_value=datetime(1970, 1, 1),
    max_value=datetime(2100, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))]),
)
names = st.text(st.characters(codec="utf-8"), min_size=1).filter(
    lambda name: name not in RESERVED and not name.startswith("choice.")
)
numbers = st.floats(allow_nan=False)
texts = st.text(st.characters(codec="utf-8"))
counts = st.integers(0, 2**62)


@st.composite
def trials(draw: st.DrawFn) -> list[Trial]:
    """Draw trials of RICH, told one after the other, with whatever metrics."""
    known = draw(st.lists(names, max_size=6, unique=True))
    known, said = known[:4], known[4:]
    return [
        Trial(
            arch=RICH.sample(np.random.default_rng(draw(st.integers(0, 10**6)))),
            number=draw(counts),
            status=draw(st.sampled_from(Status.__args__)),  # type: ignore[attr-defined]
            objective=draw(st.none() | numbers),
            metrics=draw(st.dictionaries(st.sampled_from(known), numbers)) if known else {},
            text_metrics=draw(st.dictionaries(st.sampled_from(said), texts)) if said else {},
            algo=draw(texts),
            evaluator=draw(st.sampled_from(["shared", ""])),
            epochs=draw(counts),
            seed=draw(counts),
            asked_event=draw(counts),
            told_event=event,
            started_utc=draw(instants),
            finished_utc=draw(instants),
            duration_s=draw(numbers),
            node=draw(texts),
            worker=draw(st.sampled_from(["17", "18"])),
            error=draw(st.none() | texts),
            left_out=draw(st.none() | texts),
            parent=draw(st.none() | st.sampled_from(["55327d8bf662197b", "0"])),
            predicted=draw(st.none() | numbers),
        )
        for event in range(draw(st.integers(0, 5)))
    ]


@settings(max_examples=60, deadline=None)
@given(told=trials(), size=st.integers(1, 3), declared=st.lists(names, max_size=2, unique=True))
def test_load_gives_back_what_was_appended(
    told: list[Trial], size: int, declared: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as out:
        store = TrialStore(out, RICH, declared)
        for start in range(0, len(told), size):
            store.append(told[start : start + size])
        loaded = load_trials(out, RICH)
        assert loaded == told
        assert all(trial.started_utc.tzinfo is UTC for trial in loaded)
        if told:
            assert pd.read_parquet(f"{out}/trials").shape == read_trials(out).shape


def test_an_empty_run_reads_as_no_rows_of_the_base_columns(tmp_path: Path) -> None:
    assert read_trials(str(tmp_path / "nowhere")).schema == trial_schema(None)
    assert load_trials(str(tmp_path / "nowhere")) == []
    assert read_history(str(tmp_path / "nowhere")).num_rows == 0


def test_trials_come_in_the_order_in_which_they_were_told(tmp_path: Path) -> None:
    told = numbered(range(9))
    store = TrialStore(str(tmp_path), FLAT)
    for chunk in (told[6:], told[:3], told[3:6]):
        store.append(chunk)
    assert load_trials(str(tmp_path)) == told


def test_an_error_that_utf8_cannot_hold_is_kept_readable(tmp_path: Path) -> None:
    store = TrialStore(str(tmp_path), FLAT)
    store.append([Trial.failed(FLAT.sample(np.random.default_rng(0)), "no file 'a\udcff'")])
    assert load_trials(str(tmp_path))[0].error == r"no file 'a\udcff'"


def test_loading_with_a_space_refuses_architectures_of_another(tmp_path: Path) -> None:
    TrialStore(str(tmp_path), FLAT).append(numbered([0]))
    assert len(load_trials(str(tmp_path), FLAT)) == 1
    with pytest.raises(StoreMismatch, match=r"'depth' is [234], not one of its options"):
        load_trials(str(tmp_path), ArchSpace.of(depth=[7], op=["conv3", "conv5"]))


# --- columns --------------------------------------------------------------------------------------

EXPECTED = {
    "trial": pa.int64(),
    "arch_key": pa.string(),
    "arch": pa.string(),
    "choice.op/a.1": pa.string(),
    "choice.kernel": pa.int64(),
    "choice.rate": pa.float64(),
    "choice.bias": pa.bool_(),
    "choice.mixed": pa.string(),
    "choice.huge": pa.string(),
    "choice.from": pa.list_(pa.string()),
    "choice.any": pa.list_(pa.int64()),
    "choice.odd": pa.list_(pa.string()),
    "status": pa.string(),
    "objective": pa.float64(),
    "accuracy": pa.float64(),
    "latency_ms": pa.float64(),
    "algo": pa.string(),
    "parent": pa.string(),
    "predicted": pa.float64(),
    "evaluator": pa.string(),
    "epochs": pa.int64(),
    "seed": pa.int64(),
    "asked_event": pa.int64(),
    "told_event": pa.int64(),
    "started_utc": UTC_US,
    "finished_utc": UTC_US,
    "duration_s": pa.float64(),
    "node": pa.string(),
    "worker": pa.string(),
    "error": pa.string(),
    "left_out": pa.string(),
}


def test_the_columns_on_disk_are_exactly_the_declared_ones(tmp_path: Path) -> None:
    store = TrialStore(str(tmp_path), RICH, ["accuracy", "latency_ms"])
    store.append([Trial.failed(RICH.sample(np.random.default_rng(0)), "no memory")])
    schema = pq.read_schema(tmp_path / "trials" / "part-000001.parquet")
    assert {field.name: field.type for field in schema} == EXPECTED
    assert schema.names == list(EXPECTED)
    assert schema == store.schema == trial_schema(RICH, ["accuracy", "latency_ms"])


def test_choices_stand_in_their_columns_and_null_where_they_are_not_reached(tmp_path: Path) -> None:
    conv: dict[str, Value] = {"op/a.1": "conv", "kernel": 5, "rate": 0.25, "bias": True}
    pool: dict[str, Value] = {"op/a.1": "pool", "rate": 0.0, "bias": False}
    conv |= {"mixed": "one", "huge": 1}
    pool |= {"mixed": 0.5, "huge": 2**70}
    archs = [
        Arch({**conv, "from": ("s0", "s2"), "any": (1, 3), "odd": (7, "seven")}),
        Arch({**pool, "from": ("s1", "s2"), "any": ()}),
    ]
    for arch in archs:
        RICH.check(arch)
    TrialStore(str(tmp_path), RICH).append([Trial(arch=arch) for arch in archs])
    rows = pq.read_table(tmp_path / "trials").to_pylist()
    choices = [{k[7:]: v for k, v in row.items() if k.startswith("choice.")} for row in rows]
    written = {"mixed": '"one"', "huge": "1", "from": ["s0", "s2"], "any": [1, 3]}
    assert choices[0] == {**conv, **written, "odd": ["7", '"seven"']}
    written = {"mixed": "0.5", "huge": str(2**70), "from": ["s1", "s2"], "any": []}
    assert choices[1] == {**pool, **written, "kernel": None, "odd": None}
    assert [row["arch_key"] for row in rows] == [arch.key for arch in archs]


def test_the_documentation_names_every_column_and_its_type() -> None:
    text = (ROOT / "docs" / "trials.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \|", text, re.MULTILINE)
    schema = trial_schema(ArchSpace.of(label=["a"]), ["metric"])
    renamed = {"choice.label": "choice.<label>", "metric": "<metric>"}
    types = {"choice.label": "see below"}
    assert rows == [
        (
            renamed.get(field.name, field.name),
            types.get(field.name, str(field.type).replace("tz=", "")),
        )
        for field in schema
    ]


def test_a_metric_may_not_be_named_like_a_column(tmp_path: Path) -> None:
    store = TrialStore(str(tmp_path), FLAT)
    for name in ("status", "choice.depth", "number"):
        with pytest.raises(ValueError, match=f"metric '{name}' is named like a column"):
            store.append([Trial.completed(Arch({"depth": 2, "op": "conv3"}), 0.5, **{name: 1.0})])
        with pytest.raises(ValueError, match=f"metric '{name}' is named like a column"):
            trial_schema(FLAT, [name])
    assert files(tmp_path) == []


# --- widening -------------------------------------------------------------------------------------


def test_declared_metrics_are_columns_even_if_every_trial_failed(tmp_path: Path) -> None:
    TrialStore(str(tmp_path), FLAT, ["accuracy"]).append(
        [Trial.failed(FLAT.sample(np.random.default_rng(0)), "no memory")]
    )
    frame = pd.read_parquet(tmp_path / "trials")
    assert frame["accuracy"].isna().tolist() == [True]
    assert frame["accuracy"].dtype == np.float64
    assert load_trials(str(tmp_path))[0].metrics == {}


def test_a_metric_that_comes_later_is_a_column_of_every_file(tmp_path: Path) -> None:
    store = TrialStore(str(tmp_path), FLAT, ["accuracy"])
    told = numbered([0, 1]), numbered([2], latency_ms=4.0), numbered([3]), numbered([4], loss=1.0)
    for chunk in told:
        store.append(chunk)
    frame = pd.read_parquet(tmp_path / "trials")
    assert frame["latency_ms"].tolist()[2] == 4.0
    assert frame["latency_ms"].isna().tolist() == [True, True, False, True, True]
    schemas = [pq.read_schema(tmp_path / "trials" / name) for name in files(tmp_path)]
    assert len(schemas) == 4
    assert all(schema == store.schema for schema in schemas)
    assert store.schema == trial_schema(FLAT, ["accuracy", "latency_ms", "loss"])
    assert load_trials(str(tmp_path)) == [trial for chunk in told for trial in chunk]


def test_a_store_that_declares_more_widens_what_is_there(tmp_path: Path) -> None:
    TrialStore(str(tmp_path), FLAT, ["accuracy"]).append(numbered([0]))
    TrialStore(str(tmp_path), FLAT, ["accuracy", "macs"])
    assert "macs" in pd.read_parquet(tmp_path / "trials").columns


def test_widening_that_was_cut_off_half_way_is_completed(tmp_path: Path) -> None:
    store = TrialStore(str(tmp_path), FLAT)
    for n in range(4):
        store.append(numbered([n]))
    shutil.copytree(tmp_path / "trials", tmp_path / "narrow")
    store.append(numbered([4], macs=8.0))
    (tmp_path / "trials" / "part-000005.parquet").unlink()  # not yet written at the crash
    for name in ("part-000003.parquet", "part-000004.parquet"):  # not yet rewritten
        shutil.copy(tmp_path / "narrow" / name, tmp_path / "trials" / name)
    assert load_trials(str(tmp_path)) == numbered(range(4))
    assert pd.read_parquet(tmp_path / "trials")["macs"].isna().all()
    again = TrialStore(str(tmp_path), FLAT)
    assert {str(pq.read_schema(p)) for p in (tmp_path / "trials").iterdir()} == {str(again.schema)}


# --- resuming, several writers, other file systems ------------------------------------------------


def test_a_store_on_an_old_folder_goes_on_numbering(tmp_path: Path) -> None:
    for n in range(3):
        TrialStore(str(tmp_path), FLAT).append(numbered([n]))
    assert files(tmp_path) == [f"part-00000{n}.parquet" for n in (1, 2, 3)]
    assert load_trials(str(tmp_path)) == numbered(range(3))


def test_nothing_to_append_writes_nothing(tmp_path: Path) -> None:
    TrialStore(str(tmp_path), FLAT).append([])
    assert files(tmp_path) == []


def test_parts_of_several_writers_read_as_one(tmp_path: Path) -> None:
    east = TrialStore(str(tmp_path), FLAT, ["accuracy"], writer="east")
    west = TrialStore(str(tmp_path), FLAT, ["accuracy"], writer="west_2")
    alone = TrialStore(str(tmp_path), FLAT, ["accuracy"])
    for n, store in enumerate([east, west, alone, west, east, alone]):
        store.append(numbered([n]))
    assert "part-east-000002.parquet" in files(tmp_path)
    assert load_trials(str(tmp_path)) == numbered(range(6))
    plain = pd.read_parquet(tmp_path / "trials")
    assert sorted(plain["trial"]) == list(range(6))


def without_lineage(out: Path) -> None:
    """Make of every part what earlier releases wrote."""
    for path in (out / "trials").iterdir():
        later = ["parent", "predicted", "left_out"]
        pq.write_table(pq.read_table(path).drop_columns(later), path)


def test_a_folder_of_an_earlier_release_is_read_and_gone_on_with(tmp_path: Path) -> None:
    told = numbered(range(4))
    store = TrialStore(str(tmp_path), FLAT)
    store.append(told[:2])
    store.append(told[2:3])
    without_lineage(tmp_path)
    assert load_trials(str(tmp_path)) == told[:3]
    assert read_trials(str(tmp_path))["parent"].null_count == 3
    last = replace(told[3], parent=told[0].arch.key, predicted=0.25)
    TrialStore(str(tmp_path), FLAT).append([last])
    assert load_trials(str(tmp_path)) == [*told[:3], last]
    frame = pd.read_parquet(tmp_path / "trials")
    assert frame["predicted"].isna().tolist() == [True, True, True, False]


def test_lineage_of_another_type_is_refused(tmp_path: Path) -> None:
    TrialStore(str(tmp_path), FLAT).append(numbered([0]))
    path = tmp_path / "trials" / "part-000001.parquet"
    table = pq.read_table(path).drop_columns(["parent"])
    pq.write_table(table.append_column("parent", pa.array([1])), path)
    with pytest.raises(StoreMismatch, match=r"column 'parent' of .* holds int64, expected string"):
        read_trials(str(tmp_path))


@pytest.mark.parametrize("name", ["parent", "predicted", "duplicates", "left_out"])
def test_a_metric_of_an_earlier_release_whose_name_is_taken_is_refused(
    name: str, tmp_path: Path
) -> None:
    TrialStore(str(tmp_path), FLAT, ["accuracy"]).append(numbered([0]))
    without_lineage(tmp_path)
    path = tmp_path / "trials" / "part-000001.parquet"
    pq.write_table(pq.read_table(path).append_column(name, pa.array([0.5])), path)
    told = rf"part-000001\.parquet has a metric '{name}' of an earlier .* to 'my_{name}'"
    for use in (read_trials, load_trials, lambda out: TrialStore(out, FLAT)):
        with pytest.raises(StoreMismatch, match=told):
            use(str(tmp_path))
    renamed = [f"my_{n}" if n == name else n for n in pq.read_schema(path).names]
    pq.write_table(pq.read_table(path).rename_columns(renamed), path)
    assert load_trials(str(tmp_path))[0].metrics == {"accuracy": 0.0, f"my_{name}": 0.5}


def test_text_is_a_column_of_its_own_from_the_first_row_that_has_it(tmp_path: Path) -> None:
    one, two, three = numbered(range(3))
    store = TrialStore(str(tmp_path), FLAT)
    store.append([one])
    said = replace(two, text_metrics={"weights": "s3://a", "note": ""}, left_out="curve: a list")
    store.append([said])
    three = replace(three, text_metrics={"note": ""}, left_out="")
    store.append([three])
    assert load_trials(str(tmp_path)) == [one, said, three]
    table = pq.read_table(tmp_path / "trials")
    assert table["weights"].to_pylist() == [None, "s3://a", None]
    assert table["note"].to_pylist() == [None, "", ""]
    assert table["left_out"].to_pylist() == [None, "curve: a list", ""]
    assert load_trials(str(tmp_path))[1].text_metrics == {"weights": "s3://a", "note": ""}


def test_a_column_of_numbers_takes_no_text_and_one_of_text_every_number(tmp_path: Path) -> None:
    one, two, three = numbered(range(3), f1=0.5)
    plain = {"accuracy": 0.0}
    store = TrialStore(str(tmp_path), FLAT, ["accuracy"])
    store.append([replace(one, text_metrics={"state": "ok"})])
    store.append([replace(two, metrics=plain, text_metrics={"f1": "n/a"}, left_out="before")])
    store.append([replace(three, metrics={**plain, "state": 3.0})])
    loaded = load_trials(str(tmp_path))
    assert [trial.metrics.get("f1") for trial in loaded] == [0.5, None, None]
    assert [trial.text_metrics for trial in loaded] == [{"state": "ok"}, {}, {"state": "3.0"}]
    told = "before; metric 'f1' is a number in other rows, got 'n/a' (str)"
    assert [trial.left_out for trial in loaded] == [None, told, None]


def test_a_number_and_a_text_of_one_new_name_in_one_batch_are_a_column_of_numbers(
    tmp_path: Path,
) -> None:
    one, two = numbered(range(2))
    text = replace(one, text_metrics={"f1": "n/a"})
    TrialStore(str(tmp_path), FLAT).append([text, replace(two, metrics={"f1": 0.25})])
    assert [t.metrics.get("f1") for t in load_trials(str(tmp_path))] == [None, 0.25]


def test_a_metric_that_was_text_is_no_objective(tmp_path: Path) -> None:
    TrialStore(str(tmp_path), FLAT).append(
        [replace(numbered([0])[0], text_metrics={"state": "ok"})]
    )
    with pytest.raises(StoreMismatch, match=r"column 'state' of .* holds string, expected double"):
        TrialStore(str(tmp_path), FLAT, ["state"])


def test_a_writer_whose_metrics_differ_hides_no_other_column(tmp_path: Path) -> None:
    east = TrialStore(str(tmp_path), FLAT, writer="east")
    west = TrialStore(str(tmp_path), FLAT, writer="west")
    east.append(numbered([0]))
    west.append(numbered([1], macs=8.0))
    east.append(numbered([2], loss=0.5))
    expected = [*numbered([0]), *numbered([1], macs=8.0), *numbered([2], loss=0.5)]
    assert load_trials(str(tmp_path)) == expected
    assert {"macs", "loss"} <= set(pd.read_parquet(tmp_path / "trials").columns)


def test_one_writers_merge_leaves_the_others_files_alone(tmp_path: Path) -> None:
    east = TrialStore(str(tmp_path), FLAT, writer="east")
    west = TrialStore(str(tmp_path), FLAT, writer="west")
    for n in range(part_writer.FAN):
        east.append(numbered([2 * n]))
        if n < 3:
            west.append(numbered([2 * n + 1]))
    assert files(tmp_path) == [
        "part-east-000001-000064.parquet",
        *(f"part-west-00000{n}.parquet" for n in (1, 2, 3)),
    ]
    numbers = sorted({*range(0, 2 * part_writer.FAN, 2), 1, 3, 5})
    assert load_trials(str(tmp_path)) == numbered(numbers)


def test_two_processes_under_one_name_are_told_apart(tmp_path: Path) -> None:
    one, two = TrialStore(str(tmp_path), FLAT), TrialStore(str(tmp_path), FLAT)
    one.append(numbered([0]))
    with pytest.raises(StoreMismatch, match=r"part-000001\.parquet is there already"):
        two.append(numbered([1]))
    assert load_trials(str(tmp_path)) == numbered([0])


@pytest.mark.parametrize("name", ["7", "a-b", "east/west", "é "])
def test_a_writers_name_must_fit_into_a_file_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a writer's name is a letter"):
        TrialStore(str(tmp_path), FLAT, writer=name)


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_run_may_live_at_a_uri(scheme: str, tmp_path: Path) -> None:
    memory = f"fsspec+memory://{uuid.uuid4().hex}/run"
    out = (tmp_path / "run").as_uri() if scheme == "file" else memory
    told = numbered(range(part_writer.FAN + 2))
    for chunk in (told[:2], told[2:]):  # the second store goes on where the first stopped
        store = TrialStore(out, FLAT)
        for trial in chunk:
            store.append([trial])
    store.append(numbered([99], macs=8.0))
    assert load_trials(out) == [*told, *numbered([99], macs=8.0)]
    HistoryStore(out).append([{"epoch": 0, "loss": 0.5}])
    assert read_history(out).to_pylist() == [{"epoch": 0, "loss": 0.5}]


def test_a_relative_folder_is_found_after_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = TrialStore("runs/a b#%20", FLAT)
    monkeypatch.chdir("/")
    store.append(numbered([0]))
    assert load_trials(str(tmp_path / "runs" / "a b#%20")) == numbered([0])


# --- merging, and what a crash leaves -------------------------------------------------------------


def test_many_small_parts_become_few(tmp_path: Path) -> None:
    store = TrialStore(str(tmp_path), FLAT)
    told = numbered(range(3 * part_writer.FAN))
    most = 0
    for trial in told:
        store.append([trial])
        most = max(most, len(files(tmp_path)))
    assert most < part_writer.FAN
    assert files(tmp_path)[0] == "part-000001-000190.parquet"
    assert load_trials(str(tmp_path)) == told


def test_a_large_part_is_not_written_again(tmp_path: Path) -> None:
    store = TrialStore(str(tmp_path), FLAT)
    few, many = numbered([0, 1]), numbered([7]) * part_writer.SMALL
    for chunk in (few, many, *[few] * part_writer.FAN):
        store.append(chunk)
    assert files(tmp_path) == [
        "part-000001.parquet",
        "part-000002.parquet",
        "part-000003-000066.parquet",
    ]
    expected = Counter({0: part_writer.FAN + 1, 1: part_writer.FAN + 1, 7: part_writer.SMALL})
    assert Counter(pd.read_parquet(tmp_path / "trials")["trial"]) == expected


@pytest.fixture(scope="module")
def single_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of 64 appends, none of them merged."""
    out = tmp_path_factory.mktemp("single")
    (out / "trials").mkdir()
    for n in range(
        part_writer.FAN
    ):  # each is the first part of a folder of its own, so nothing merges
        alone = out / "alone"
        TrialStore(str(alone), FLAT).append(numbered([n]))
        name = f"part-{n + 1:06}.parquet"
        shutil.move(alone / "trials" / "part-000001.parquet", out / "trials" / name)
    return out


@pytest.mark.parametrize("deleted", [None, 0, 1, 31, 63, 64])
def test_a_merge_may_be_cut_off_at_every_step(
    deleted: int | None, single_parts: Path, tmp_path: Path
) -> None:
    """The steps: 64 parts; the merged one comes; its members go one by one."""
    merged = TrialStore(str(tmp_path / "merged"), FLAT)
    for n in range(part_writer.FAN):
        merged.append(numbered([n]))
    assert files(tmp_path / "merged") == ["part-000001-000064.parquet"]
    out = tmp_path / "run"
    shutil.copytree(single_parts / "trials", out / "trials")
    if deleted is not None:
        shutil.copy(tmp_path / "merged" / "trials" / "part-000001-000064.parquet", out / "trials")
        for n in range(deleted):
            (out / "trials" / f"part-{n + 1:06}.parquet").unlink()

    told = numbered(range(part_writer.FAN))
    assert load_trials(str(out)) == told
    assert set(pd.read_parquet(out / "trials")["trial"]) == set(range(part_writer.FAN))

    store = TrialStore(str(out), FLAT)
    assert load_trials(str(out)) == told
    assert sorted(pd.read_parquet(out / "trials")["trial"]) == list(range(part_writer.FAN))
    for n in range(part_writer.FAN, 2 * part_writer.FAN + 3):
        store.append(numbered([n]))
    expected = list(range(2 * part_writer.FAN + 3))
    assert sorted(pd.read_parquet(out / "trials")["trial"]) == expected
    assert load_trials(str(out)) == numbered(expected)


def test_a_cut_off_merge_is_tidied_up_by_its_own_writer_only(
    single_parts: Path, tmp_path: Path
) -> None:
    merged = TrialStore(str(tmp_path), FLAT, writer="east")
    for n in range(part_writer.FAN):
        merged.append(numbered([n]))
    for n in (1, 2, 64):  # as if it had not come to delete these
        single = single_parts / "trials" / f"part-{n:06}.parquet"
        shutil.copy(single, tmp_path / "trials" / f"part-east-{n:06}.parquet")
    crashed = files(tmp_path)
    assert len(crashed) == 4
    TrialStore(str(tmp_path), FLAT, writer="west").append(numbered([part_writer.FAN]))
    assert files(tmp_path) == [*crashed, "part-west-000001.parquet"]
    assert load_trials(str(tmp_path)) == numbered(range(part_writer.FAN + 1))
    TrialStore(str(tmp_path), FLAT, writer="east")
    assert files(tmp_path) == ["part-east-000001-000064.parquet", "part-west-000001.parquet"]
    assert load_trials(str(tmp_path)) == numbered(range(part_writer.FAN + 1))


APPENDING = """
import sys
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.trial import Trial
from raynas.storage.table_writers import TrialStore
from raynas.storage.tables import load_trials

out = sys.argv[1]
told = load_trials(out)
store = TrialStore(out, ArchSpace.of(depth=[2, 3, 4]), ["accuracy"])
number = max((trial.number for trial in told), default=-1) + 1
print("from", number, flush=True)
while number < 5_000:  # far more than any test waits for
    size = 1 + number % 3
    metrics = {"accuracy": 0.5, **({"late": 1.0} if number > 40 else {})}
    store.append(
        [
            Trial(arch=Arch({"depth": 2}), number=n, told_event=n, metrics=metrics)
            for n in range(number, number + size)
        ]
    )
    number += size
    print(number, flush=True)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python program that can import raynas."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def run_until_killed(out: Path, appends: int, seconds: float) -> tuple[int, int]:
    """Append in another process and kill it some time after so many appends.

    Returns how many rows there were at its start, and how many it acknowledged in all.
    """
    process = start(APPENDING, out)
    assert process.stdout is not None
    begun = int(process.stdout.readline().removeprefix("from "))
    lines = [process.stdout.readline() for _ in range(appends)]
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    lines += process.stdout.readlines()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return begun, int(lines[-1])


def test_a_kill_at_any_instant_loses_no_acknowledged_trial(tmp_path: Path) -> None:
    chance = random.Random(0)
    acknowledged = 0
    for _ in range(6):  # 120 appends or more, so that merges are among them
        begun, done = run_until_killed(tmp_path, chance.randint(20, 60), chance.uniform(0, 0.02))
        assert begun - acknowledged in (0, 1, 2, 3)  # rows written and not yet acknowledged
        acknowledged = done
        for plain in (
            pd.read_parquet(tmp_path / "trials")["trial"].tolist(),
            pq.read_table(tmp_path / "trials")["trial"].to_pylist(),
            read_trials(str(tmp_path))["trial"].to_pylist(),
        ):
            assert set(range(done)) <= set(plain)
            assert max(plain) < done + 3
        assert [trial.number for trial in load_trials(str(tmp_path))] == sorted(set(plain))


KILLED_AT_A_RENAME = """
import os, signal, sys

name, left = sys.argv[2], int(sys.argv[3])

def count(event, arguments):
    global left
    if event == "os.rename" and str(arguments[1]).endswith(name):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
"""


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("part-000001.parquet", 1),
        ("part-000001.parquet", 2),  # when a new metric widens every part
        ("part-000020.parquet", 2),
        ("part-000064.parquet", 1),
        ("part-000001-000064.parquet", 1),
        ("part-000065.parquet", 1),
    ],
)
def test_a_kill_before_a_file_gets_its_name_loses_nothing(
    name: str, time: int, tmp_path: Path
) -> None:
    process = start(KILLED_AT_A_RENAME + APPENDING, tmp_path, name, time)
    done = int(process.communicate()[0].splitlines()[-1].removeprefix("from "))
    assert process.returncode == -signal.SIGKILL
    told = [trial.number for trial in load_trials(str(tmp_path))]
    if name.startswith("part-000001-"):  # the merge follows a write that is not acknowledged yet
        assert told[:done] == list(range(done))
        assert len(files(tmp_path)) == part_writer.FAN
    else:
        assert told == list(range(done))
    if done:
        assert sorted(pd.read_parquet(tmp_path / "trials")["trial"]) == told


FULL = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from test_store import FLAT, TrialStore, numbered

store = TrialStore(sys.argv[1], FLAT)
store.append(numbered([0]))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
try:
    store.append(numbered([1]))
except OSError as error:
    print(error.errno, error, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
if sys.argv[3] == "go on":
    store.append(numbered([2]))
"""


@pytest.mark.parametrize("then", ["stop", "go on"])
def test_a_disk_that_is_full_in_the_middle_of_a_write_spoils_nothing(
    then: str, tmp_path: Path
) -> None:
    process = start(FULL, tmp_path, Path(__file__).parent, then)
    said = process.communicate()[0]
    assert said.startswith(f"{errno.EFBIG} {tmp_path}")
    assert "cannot be written: File too large; make room" in said
    assert process.returncode == 0
    expected = [0, 2] if then == "go on" else [0]
    assert pd.read_parquet(tmp_path / "trials")["trial"].tolist() == expected
    assert load_trials(str(tmp_path)) == numbered(expected)


# --- what is not ours -----------------------------------------------------------------------------


def other_parquet(path: Path, columns: dict[str, Sequence[object]]) -> None:
    """Write a Parquet file that raynas did not write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize("name", ["data.parquet", "part-0.parquet", "part-000000.parquet"])
def test_a_file_of_another_name_is_refused(name: str, tmp_path: Path) -> None:
    other_parquet(tmp_path / "trials" / name, {"x": [1]})
    with pytest.raises(StoreMismatch, match=f"holds {re.escape(name)}, which is not a part"):
        TrialStore(str(tmp_path), FLAT)
    with pytest.raises(StoreMismatch, match=f"holds {re.escape(name)}, which is not a part"):
        read_trials(str(tmp_path))
    assert files(tmp_path) == [name]


def test_a_part_without_our_columns_is_refused(tmp_path: Path) -> None:
    other_parquet(tmp_path / "trials" / "part-000001.parquet", {"trial": [1], "x": [1.0]})
    with pytest.raises(StoreMismatch, match=r"part-000001\.parquet has no column 'arch_key'"):
        read_trials(str(tmp_path))


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "part-000001.parquet").write_bytes(b"not a table at all")
    with pytest.raises(StoreMismatch, match=r"part-000001\.parquet is not a Parquet file"):
        TrialStore(str(tmp_path), FLAT)


def test_a_missing_part_is_noticed(tmp_path: Path) -> None:
    store = TrialStore(str(tmp_path), FLAT)
    for n in range(4):
        store.append(numbered([n]))
    (tmp_path / "trials" / "part-000002.parquet").unlink()
    with pytest.raises(StoreMismatch, match=r"lacks part-000002\.parquet"):
        read_trials(str(tmp_path))


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (ArchSpace.of(depth=[2.0, 3.0], op=["conv3"]), "'choice.depth' of .* int64, expected d"),
        (ArchSpace.of(depth=[2, 3]), "the column 'choice.op' of another search space"),
        (ArchSpace.of(depth=[2], op=["x"], width=[1]), "no column 'choice.width'"),
        (None, "the column 'choice.depth' of another search space"),
    ],
)
def test_another_spaces_trials_are_refused(
    space: ArchSpace | None, told: str, tmp_path: Path
) -> None:
    TrialStore(str(tmp_path), FLAT).append(numbered([0]))
    with pytest.raises(StoreMismatch, match=told):
        TrialStore(str(tmp_path), space)
    assert load_trials(str(tmp_path)) == numbered([0])


def test_an_architecture_of_another_space_is_refused(tmp_path: Path) -> None:
    store = TrialStore(str(tmp_path), FLAT)
    with pytest.raises(StoreMismatch, match=r"column 'choice\.depth' holds int64"):
        store.append([Trial(arch=Arch({"depth": "deep", "op": "conv3"}))])
    assert files(tmp_path) == []


# --- history --------------------------------------------------------------------------------------


def test_history_keeps_its_rows_in_order_with_columns_of_their_own(tmp_path: Path) -> None:
    store = HistoryStore(str(tmp_path))
    store.append([{"epoch": 0, "loss": 0.5, "phase": "warmup"}])
    store.append([{"epoch": 1, "loss": 0.25, "phase": "search", "alpha/op": 0.75}])
    HistoryStore(str(tmp_path)).append([{"epoch": 2, "phase": None}])
    store = HistoryStore(str(tmp_path))
    store.append([])
    rows = [
        {"epoch": 0, "loss": 0.5, "phase": "warmup", "alpha/op": None},
        {"epoch": 1, "loss": 0.25, "phase": "search", "alpha/op": 0.75},
        {"epoch": 2, "loss": None, "phase": None, "alpha/op": None},
    ]
    assert read_history(str(tmp_path)).to_pylist() == rows
    assert pq.read_table(tmp_path / "history").to_pylist() == rows


def test_a_history_column_of_whole_numbers_may_turn_out_fractional(tmp_path: Path) -> None:
    store = HistoryStore(str(tmp_path))
    store.append([{"accuracy": 0}])
    store.append([{"accuracy": 0.5}, {"accuracy": 1}])
    store.append([{"accuracy": 1}])
    assert pd.read_parquet(tmp_path / "history")["accuracy"].tolist() == [0.0, 0.5, 1.0, 1.0]
    assert read_history(str(tmp_path)).schema == pa.schema({"accuracy": pa.float64()})


def test_a_history_column_is_not_text_here_and_a_number_there(tmp_path: Path) -> None:
    store = HistoryStore(str(tmp_path))
    store.append([{"lr": 0.1}])
    with pytest.raises(StoreMismatch, match="column 'lr' of the new rows holds string"):
        store.append([{"lr": "cosine"}])
    with pytest.raises(StoreMismatch, match="column 'x' of the new rows holds string"):
        store.append([{"x": 1}, {"x": "one"}])
    with pytest.raises(ValueError, match="history column 'x' holds numbers or text, got a list"):
        store.append([{"x": [1]}])  # type: ignore[dict-item]
    assert read_history(str(tmp_path)).to_pylist() == [{"lr": 0.1}]


def test_a_foreign_history_is_refused(tmp_path: Path) -> None:
    other_parquet(tmp_path / "history" / "part-000001.parquet", {"x": [[1]]})
    with pytest.raises(StoreMismatch, match=r"column 'x' of .* expected numbers or text"):
        read_history(str(tmp_path))


def test_history_parts_are_merged_as_well(tmp_path: Path) -> None:
    for n in range(part_writer.FAN + 1):  # a store opened anew each time, as the training loop does
        HistoryStore(str(tmp_path)).append([{"epoch": n}])
    assert files(tmp_path, "history") == ["part-000001-000064.parquet", "part-000065.parquet"]
    assert read_history(str(tmp_path))["epoch"].to_pylist() == list(range(part_writer.FAN + 1))
