"""Parquet files encoded here hold what Arrow's would, and are read by Arrow as its own are."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raynas.core.archspace import ArchSpace
from raynas.core.errors import StoreMismatch
from raynas.core.trial import Trial
from raynas.storage import parquet, part_writer
from raynas.storage.few_rows import FewRows
from raynas.storage.rows import Rows, joined
from raynas.storage.table_writers import HistoryStore, TrialStore
from raynas.storage.tables import load_trials, read_history, read_trials

UTC_MICROS = pa.timestamp("us", tz="UTC")
DEEP = ArchSpace.of(**{f"c{i:04}": ["a", "b", "c"] for i in range(1000)})

VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.bool_(): st.booleans(),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.string(): st.text(st.characters(codec="utf-8"), max_size=300),
    UTC_MICROS: st.datetimes(
        datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.sampled_from([UTC, timezone.min])
    ),
}


@st.composite
def rows(draw: st.DrawFn) -> Rows:
    """Draw columns of every type, with none, some or only nulls where these are allowed."""
    count = draw(st.sampled_from([1, 2, 7, 8, 9, 64, 65, 200]))
    fields, columns = [], []
    for i in range(draw(st.sampled_from([1, 3, 13, 14, 15, 16]))):
        kind = draw(st.sampled_from(list(VALUES)))
        nullable = draw(st.booleans())
        some = draw(st.lists(VALUES[kind], min_size=1, max_size=4))
        lacking = [None] * draw(st.integers(0, 3)) if nullable else []
        seed = draw(st.integers(0, 2**32))
        picked = np.random.default_rng(seed).integers(len(some) + len(lacking), size=count)
        columns.append(tuple([*some, *lacking][at] for at in picked))
        name = f"ö{i}" + "x" * draw(st.sampled_from([0, 1, 62, 63, 64, 130]))
        fields.append(pa.field(name, kind, nullable))
    if draw(st.booleans()):
        columns[0] = (None,) * count
        fields[0] = fields[0].with_nullable(True)
    return Rows(pa.schema(fields), columns)


@given(content=rows())
@settings(max_examples=150, deadline=None)
def test_arrow_reads_what_it_would_have_written(content: Rows) -> None:
    encoded = FewRows(content.schema).encode(content.columns)
    assert encoded is not None
    read = pq.read_table(pa.BufferReader(encoded))
    expected = content.table()
    assert read.schema.equals(expected.schema)  # nullability as well
    assert read.equals(expected)
    assert repr(read.to_pydict()) == repr(expected.to_pydict())  # -0.0 is not 0.0
    metadata = pq.read_metadata(pa.BufferReader(encoded))
    assert (metadata.num_rows, metadata.num_columns) == (len(content), len(content.columns))


def test_not_a_number_stays_one() -> None:
    encoded = FewRows(pa.schema({"x": pa.float64()})).encode([[float("nan"), None]])
    assert encoded is not None
    assert repr(pq.read_table(pa.BufferReader(encoded))["x"].to_pylist()) == "[nan, None]"


@pytest.mark.parametrize(
    ("kind", "nullable", "value"),
    [
        (pa.int64(), True, True),
        (pa.int64(), True, 2**63),
        (pa.int64(), True, 1.0),
        (pa.int64(), True, np.int64(1)),
        (pa.int64(), False, None),
        (pa.float64(), True, 1),
        (pa.bool_(), True, 1),
        (pa.string(), True, 1),
        (pa.string(), True, b"a"),
        (pa.string(), True, ["a"]),
        (pa.string(), True, "\ud800"),
        (pa.string(), False, None),
        (UTC_MICROS, True, datetime(2026, 1, 1)),
        (pa.timestamp("us"), True, datetime(2026, 1, 1, tzinfo=UTC)),
        (pa.list_(pa.string()), True, ["a"]),
        (pa.int32(), True, 1),
    ],
)
def test_what_is_not_of_its_columns_type_is_left_to_arrow(
    kind: pa.DataType, nullable: bool, value: object
) -> None:
    schema = pa.schema([pa.field("first", pa.string()), pa.field("x", kind, nullable)])
    assert FewRows(schema).encode([("a",), (value,)]) is None


def test_rows_become_one_table_whatever_they_came_as() -> None:
    schema = pa.schema({"a": pa.int64(), "b": pa.string()})
    first, second = Rows(schema, [[1, 2], ["x", None]]), Rows(schema, [(3,), ("y",)])
    narrow = Rows(pa.schema({"a": pa.int64()}), [[4]])
    table = joined([first, second, narrow, first.table(), second], schema)
    assert table.schema.equals(schema)
    assert table["a"].to_pylist() == [1, 2, 3, 4, 1, 2, 3]
    assert table["b"].to_pylist() == ["x", None, "y", None, "x", None, "y"]


# --- what an append costs -------------------------------------------------------------------------


def trials(count: int, first: int = 0) -> list[Trial]:
    """Return trials of a thousand decisions."""
    rng = np.random.default_rng(first)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        Trial(
            arch=DEEP.sample(rng),
            number=n,
            told_event=n,
            metrics={"valid": 0.5, "valid.loss": 1.5 + n},
            started_utc=began + timedelta(seconds=n),
        )
        for n in range(first, first + count)
    ]


def test_an_append_writes_one_file_and_touches_no_other(tmp_path: Path) -> None:
    store = TrialStore(str(tmp_path), DEEP, ["valid", "valid.loss"])
    before: dict[str, os.stat_result] = {}
    for n in range(5):
        store.append(trials(1, n))
        now = {file.name: file.stat() for file in (tmp_path / "trials").iterdir()}
        assert now.keys() - before.keys() == {f"part-{n + 1:06}.parquet"}
        assert all(now[name] == stat for name, stat in before.items())
        before = now
    # of a row: the names of a column in schema and footer, its page's head, and its value
    assert max(stat.st_size for stat in before.values()) < 100 * 1000 + 20_000
    assert load_trials(str(tmp_path), DEEP) == [t for n in range(5) for t in trials(1, n)]


@pytest.mark.parametrize("count", [1, part_writer.FEW, part_writer.FEW + 1])
def test_small_and_large_parts_read_the_same(count: int, tmp_path: Path) -> None:
    told = trials(count)
    TrialStore(str(tmp_path), DEEP).append(told)
    file = tmp_path / "trials" / "part-000001.parquet"
    by_arrow = "parquet-cpp-arrow" in str(pq.read_metadata(file).created_by)
    assert by_arrow == (count > part_writer.FEW)
    assert load_trials(str(tmp_path)) == told
    frame = pd.read_parquet(tmp_path / "trials")
    for label in ("c0000", "c0999"):
        assert frame[f"choice.{label}"].tolist() == [trial.arch[label] for trial in told]
    assert read_trials(str(tmp_path)).column_names == frame.columns.tolist()


def test_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    """Arrow would give ``valid.loss`` to who asks for ``valid``."""
    store = TrialStore(str(tmp_path), DEEP)
    store.append(trials(2))
    parts = parquet.Parts(str(tmp_path), "trials", lambda found: next(iter(found))[1])
    table = parts.read(lambda name: name in ("trial", "valid"))
    assert table.to_pydict() == {"trial": [0, 1], "valid": [0.5, 0.5]}
    assert parts.read().num_columns == 1000 + 3 + 2 + 2 + 15


def test_a_value_that_fits_no_column_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = TrialStore(str(tmp_path), ArchSpace.of(depth=[2, 3]))
    other = ArchSpace.of(depth=["deep", "flat"]).sample(np.random.default_rng(0))
    with pytest.raises(StoreMismatch, match=r"column 'choice\.depth' holds int64"):
        store.append([Trial(arch=other)])
    assert list((tmp_path / "trials").iterdir()) == []


def test_history_of_many_columns_is_written_so_as_well(tmp_path: Path) -> None:
    store = HistoryStore(str(tmp_path))
    expected = [{"epoch": e, **{f"alpha.{i}": e + i / 1000 for i in range(1000)}} for e in range(3)]
    for row in expected:
        store.append([row])
    assert read_history(str(tmp_path)).to_pylist() == expected
    files = list((tmp_path / "history").iterdir())
    assert not any(pq.read_metadata(file).created_by for file in files)
