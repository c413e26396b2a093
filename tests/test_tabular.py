"""Tables from files: features against scikit-learn's own, targets, splits, and what is told."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris

import raynas
from raynas.core.config import ComponentSpec
from raynas.data.module import DATA, DataModule
from raynas.data.tabular import FEW_CLASSES, ONE_HOT, Tabular
from raynas.setup.resolve_data import rebuild_data, resolve_data
from tests.inline import INLINE
from tests.nests import same

ROWS = 40


def frame() -> pd.DataFrame:
    """Return a table of every kind of column, some of it missing."""
    draw = np.random.default_rng(0)
    days = pd.Series(pd.to_datetime("2024-02-28") + pd.to_timedelta(np.arange(ROWS), unit="D"))
    table = pd.DataFrame(
        {
            "height": draw.normal(170, 10, ROWS),
            "count": draw.integers(0, 9, ROWS),
            "smokes": draw.random(ROWS) < 0.5,
            "town": draw.choice(["Bonn", "Kiel", "Ulm"], ROWS),
            "seen": days,
            "code": [f"c{i}" for i in range(ROWS)],
            "empty": np.full(ROWS, np.nan),
            "price": draw.normal(3, 1, ROWS),
            "grade": draw.choice(["good", "bad"], ROWS),
        }
    )
    table.loc[3, "height"] = np.nan
    table.loc[5, "town"] = None
    table.loc[7, "seen"] = pd.NaT
    return table


def write(table: pd.DataFrame, folder: Path, kind: str = "parquet") -> str:
    file = folder / f"table.{kind}"
    if "csv" in kind:
        table.to_csv(file, index=False)
    else:
        table.to_parquet(file)
    return str(file)


def numbers(column: Any, train: Any) -> Any:
    """Return a column with the training median for what is missing, standardised by training."""
    filled = column.fillna(column[train].median())
    return (filled - filled[train].mean()) / filled[train].std(ddof=0)


def rows_of(count: int = ROWS, seed: int = 0, valid: int = 8, test: int = 0) -> list[Any]:
    order = np.random.default_rng(seed).permutation(count)
    return [order[valid + test :], order[:valid], order[valid : valid + test]]


def test_features_are_those_of_the_training_rows(tmp_path: Path) -> None:
    """Recomputed with pandas alone."""
    table = frame()
    data = Tabular(path=write(table, tmp_path), target="grade")
    train, valid, _ = rows_of()
    towns = table["town"].fillna(table["town"][train].mode()[0])
    codes = {code: at for at, code in enumerate(sorted(table["code"][train]))}
    days = (table["seen"] - table["seen"].min()) / pd.Timedelta(days=1)
    expected = {
        "height": numbers(table["height"], train),
        "count": numbers(table["count"].astype(float), train),
        "smokes": numbers(table["smokes"].astype(float), train),
        "seen": numbers(days, train),
        "empty": pd.Series(np.zeros(ROWS)),
        "price": numbers(table["price"], train),
        **{f"town_{town}": (towns == town).astype(float) for town in ("Bonn", "Kiel", "Ulm")},
    }
    assert len(codes) <= ONE_HOT
    expected |= {f"code_{code}": (table["code"] == code).astype(float) for code in codes}
    assert data.features == tuple(expected)
    assert data.input_shape == (len(expected),)
    features = pd.DataFrame(expected)
    for part, rows in zip(data.load().parts(), (train, valid), strict=False):
        x, y = part
        assert x.dtype == torch.float32
        assert np.allclose(x, features.iloc[rows], atol=1e-5)
        assert y.tolist() == [["bad", "good"].index(grade) for grade in table["grade"][rows]]
    assert (data.classes, data.num_classes) == (("bad", "good"), 2)
    assert data.load().test is None


def test_many_categories_are_one_standardised_code(tmp_path: Path) -> None:
    count = 100
    table = pd.DataFrame(
        {"code": [f"{i % 50:02}" for i in range(count)], "y": 0.5 * np.arange(count)}
    )
    data = Tabular(path=write(table, tmp_path), target="y")
    train, valid, _ = rows_of(count, valid=20)
    names = sorted(set(table["code"][train]))
    codes = table["code"].map(lambda code: float(names.index(code)) if code in names else -1.0)
    expected = ((codes - codes[train].mean()) / codes[train].std(ddof=0)).to_numpy()
    for (x, y), rows in zip(data.load().parts()[:2], (train, valid), strict=True):
        assert np.allclose(x[:, 0], expected[rows], atol=1e-5)
        assert torch.equal(y, torch.tensor(0.5 * rows, dtype=torch.float32))  # in their own unit
    assert (data.num_classes, data.classes, data.input_shape) == (None, None, (1,))


def test_a_category_that_training_has_not_is_none_of_its_features(tmp_path: Path) -> None:
    table = pd.DataFrame({"town": ["Ulm", "Kiel"] * 10, "y": [0.5, 1.5] * 10})
    seldom = rows_of(20, valid=4)[1][0]
    table.loc[seldom, "town"] = "Bonn"
    x, _ = Tabular(path=write(table, tmp_path), target="y").load().valid
    assert x[0].tolist() == [0.0, 0.0]
    assert x[1:].sum(1).tolist() == [1.0] * 3


@pytest.mark.parametrize("kind", ["parquet", "pq", "csv", "csv.gz"])
def test_kinds_of_file_give_the_same(tmp_path: Path, kind: str) -> None:
    table = frame().drop(columns="seen")  # CSV knows no dates
    data = Tabular(path=write(table, tmp_path, kind), target="price", test=0.1)
    (tmp_path / "parts").mkdir()
    table.to_parquet(tmp_path / "parts" / "0.parquet")
    reference = Tabular(path=str(tmp_path / "parts"), target="price", test=0.1)
    assert data.features == reference.features
    for part, other in zip(data.load().parts(), reference.load().parts(), strict=True):
        assert torch.allclose(part[0], other[0], atol=1e-6)
        assert torch.allclose(part[1], other[1])


def test_shares_and_seed_decide_which_rows_are_where(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": np.arange(50.0), "y": np.arange(50.0)})
    path = write(table, tmp_path)
    data = Tabular(path=path, target="y", valid=0.3, test=0.1, split_seed=5)
    parts = [part[1].tolist() for part in data.load().parts()]
    assert [len(part) for part in parts] == [30, 15, 5]
    assert sorted(row for part in parts for row in part) == list(range(50))
    assert parts == [rows.tolist() for rows in rows_of(50, 5, 15, 5)]
    other = Tabular(path=path, target="y", valid=0.3, test=0.1, split_seed=6)
    assert other.load().valid[1].tolist() != parts[1]


# --- targets ---


@pytest.mark.parametrize(
    ("column", "kind", "classes"),
    [
        (["b", "a"] * 10, "auto", ("a", "b")),
        ([True, False] * 10, "auto", (False, True)),
        ([3, 7] * 10, "auto", (3, 7)),
        (pd.Categorical(["b", "a"] * 10), "auto", ("a", "b")),
        (list(range(20)), "auto", tuple(range(FEW_CLASSES))),
        (list(range(20)), "number", None),
        ([0.5, 1.5] * 10, "auto", None),
        ([0.5, 1.5] * 10, "class", (0.5, 1.5)),
        (pd.array([3, 7] * 10, dtype="Int64"), "auto", (3, 7)),
    ],
)
def test_kinds_of_target(tmp_path: Path, column: Any, kind: Any, classes: Any) -> None:
    table = pd.DataFrame({"x": np.arange(20.0), "y": column})
    data = Tabular(path=write(table, tmp_path), target="y", kind=kind)
    _, y = data.load().train
    rows = rows_of(20, valid=4)[0]
    assert data.classes == classes
    assert data.num_classes == (None if classes is None else len(classes))
    if classes is None:
        assert y.dtype == torch.float32
        assert y.tolist() == [float(column[row]) for row in rows]
    else:
        assert y.dtype == torch.int64
        assert [classes[at] for at in y] == [column[row] for row in rows]


def test_many_whole_numbers_are_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": np.arange(21.0), "y": np.arange(21)})
    assert Tabular(path=write(table, tmp_path), target="y").classes is None


def test_real_tables(tmp_path: Path) -> None:
    iris, diabetes = load_iris(as_frame=True).frame, load_diabetes(as_frame=True).frame
    data = Tabular(path=write(iris, tmp_path), target="target")
    assert (data.num_classes, data.input_shape, data.batch_size) == (3, (4,), 4)
    (tmp_path / "more").mkdir()
    data = Tabular(path=write(diabetes, tmp_path / "more"), target="target", kind="number")
    assert (data.num_classes, data.input_shape) == (None, (10,))
    x, y = data.load().train
    assert torch.allclose(x.mean(0), torch.zeros(10), atol=1e-5)
    assert torch.allclose(x.std(0, correction=0), torch.ones(10), atol=1e-5)
    assert set(y.tolist()) <= set(diabetes["target"].tolist())


# --- how a run records it ---


def test_a_run_records_where_the_table_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(frame(), tmp_path)
    monkeypatch.chdir(tmp_path)
    data = resolve_data("tabular:table.parquet", {"target": "price", "test": 0.1})
    options = {"path": str(tmp_path / "table.parquet"), "target": "price", "test": 0.1}
    assert data.spec == ComponentSpec(name="tabular", options=options)
    own = resolve_data(Tabular(path="table.parquet", target="price", test=0.1), {})
    monkeypatch.chdir("/")
    for spec in (data.spec, own.spec):
        assert spec is not None
        again = rebuild_data(ComponentSpec.model_validate_json(spec.model_dump_json()))
        assert again is not None
        assert same(again.module.load().parts(), data.module.load().parts())


def test_a_table_travels_by_its_path(tmp_path: Path) -> None:
    table = pd.concat([frame()] * 50)
    data = Tabular(path=write(table, tmp_path), target="price")
    packed = pickle.dumps(data)
    assert len(packed) < 5_000
    copy: DataModule = pickle.loads(packed)
    assert same(copy.load().parts(), data.load().parts())
    assert (
        copy.signature
        == data.signature
        == {"shape": list(data.input_shape or ()), "dtype": "float32"}
    )


def test_prices_are_searched_and_looked_up_in_the_folder(tmp_path: Path) -> None:
    path = write(frame(), tmp_path)
    run = raynas.search(
        "mlp",
        "random",
        data=f"tabular:{path}",
        data_options={"target": "price"},
        task="regression",
        supernet={"epochs": 1},
        trials=2,
        out=str(tmp_path / "run"),
        ray=INLINE,
    )
    assert set(run.trials["status"]) == {"completed"}
    again = raynas.load(str(tmp_path / "run"))
    x, _ = again.rebuilt.data.load().valid
    with torch.no_grad():
        assert again.model(again.best.arch)(x).shape == (8, 1)  # as many outputs as targets need


# --- what is told ---


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "prise"}, "has no column 'prise'; did you mean 'price'"),
        ({}, r"expected target=, the column of .* to predict; known: code, count, "),
        ({"target": "town"}, r"has no 'town' in 1 rows, the first of them row 5 \(from 0\)"),
        (
            {"target": "grade", "kind": "number"},
            "kind='number' needs numbers, and 'grade' .* 'good'",
        ),
        ({"target": "price", "kind": "klass"}, "no kind 'klass'; did you mean 'class'"),
        ({"target": "price", "valid": 0}, "valid > 0, .* got 0, 0.0"),
        ({"target": "price", "valid": 0.6, "test": 0.4}, r"valid \+ test < 1, got 0.6, 0.4"),
    ],
)
def test_options_that_do_not_fit_are_told(tmp_path: Path, options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Tabular(path=write(frame(), tmp_path), **options)


def test_files_that_do_not_fit_are_told(tmp_path: Path) -> None:
    path = write(frame(), tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"no file .*/tabel.parquet; did you mean 'table.parquet'"
    ):
        resolve_data(f"tabular:{tmp_path}/tabel.parquet", {"target": "price"})
    (tmp_path / "table.txt").touch()
    with pytest.raises(ValueError, match=r"expected a file .parquet or .csv, got .*/table.txt"):
        Tabular(path=str(tmp_path / "table.txt"), target="price")
    lone = write(frame()[["price"]], tmp_path, "pq")
    with pytest.raises(ValueError, match="has no column beside 'price' to predict it from"):
        Tabular(path=lone, target="price")
    few = write(frame()[:1], tmp_path, "pq")
    with pytest.raises(ValueError, match="too few rows to be split: 1"):
        Tabular(path=few, target="price")
    infinite = frame()
    infinite.loc[9, "height"] = -np.inf
    with pytest.raises(ValueError, match=r"has an infinite 'height' in row 9 \(from 0\)"):
        Tabular(path=write(infinite, tmp_path), target="price")
    assert path.endswith(".parquet")


def test_it_is_registered() -> None:
    assert DATA["Tabular"] is Tabular
