"""Tables of numbers and categories, from a Parquet or CSV file, prepared by scikit-learn."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raynas.core.errors import nearest
from raynas.data.errors import in_words
from raynas.data.module import DATA, DataModule, Examples, Splits
from raynas.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["auto", "class", "number"]
Rows = NDArray[np.int64]
FEW_CLASSES = 20  # different whole numbers that are taken for classes at most
SECONDS_A_DAY = 86_400
UNREADABLE = (
    *(ValueError, KeyError, EOFError, ImportError, OSError),
    *(lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error),
)
ONE_HOT = 32  # different categories of a column that get a feature each at most


@dataclass(frozen=True)
class Table:
    """A table that was read and prepared.

    Attributes:
        splits: of features and targets.
        classes: that the targets are indices of; None where they are numbers.
        features: what each feature is, by scikit-learn's names.
    """

    splits: Splits
    classes: tuple[Any, ...] | None
    features: tuple[str, ...]


@DATA.register("tabular")
class Tabular(DataModule):
    """Rows of a Parquet or CSV file, one column of which is to be predicted.

    Numbers, and dates as days, are standardised; the categories of a column are one feature each,
    or, if they are more than 32, one standardised code together. What is missing is imputed: the
    median of a number, the most frequent category. All that is fitted to the training rows alone.

    Args:
        path: of the file.
        target: column to predict.
        kind: ``class`` takes targets for classes, ``number`` leaves them as they are, in their own
            unit; ``auto`` decides: text, and whole numbers of at most 20 values, are classes.
        valid: share of the rows to validate.
        test: share of the rows to test; 0 leaves none.
        split_seed: of the draw of these rows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no column ``target``, rows without a target, or too few rows; or an
            option is out of range.
    """

    name = "tabular"
    at_hand = True  # it is read when it is made, to know its features

    def __init__(
        self,
        *,
        path: str,
        target: str = "",
        kind: Kind = "auto",
        valid: float = 0.2,
        test: float = 0.0,
        split_seed: int = 0,
    ) -> None:
        if kind not in ("auto", "class", "number"):
            raise ValueError(f"tabular: no kind {kind!r}; {nearest(kind, ('class', 'number'))}")
        if not (valid > 0 and test >= 0 and valid + test < 1):
            raise ValueError(
                f"tabular: expected valid > 0, test >= 0 and valid + test < 1, got {valid}, {test}"
            )
        self.path, self.target, self.kind = path, target, kind
        self.valid, self.test, self.split_seed = valid, test, split_seed
        _check_target(Path(path), target)
        table = self._table
        self.classes, self.features = table.classes, table.features
        self.num_classes = None if table.classes is None else len(table.classes)
        self.input_shape = (len(table.features),)
        self.batch_size = min(128, max(2, len(table.splits.train[1]) // 30))

    def learning(self, task: Task) -> DataModule:
        """Return the data as another task takes them: a regression's targets are numbers.

        Raises:
            ValueError: the target is text, or its kind was said to be another.
        """
        numbers = self.kind == "number" or (self.kind == "auto" and task.name == "regression")
        if task.name == "regression" and not numbers:
            raise ValueError(
                f"tabular: kind is {self.kind!r}, and a regression learns numbers: leave it out"
            )
        other: Tabular = self
        if numbers and self.kind == "auto":
            other = Tabular(
                path=self.path,
                target=self.target,
                kind="number",
                valid=self.valid,
                test=self.test,
                split_seed=self.split_seed,
            )
        return super(Tabular, other).learning(task)

    def load(self) -> Splits:
        """Return the splits."""
        return self._table.splits

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_table"}

    @cached_property
    def _table(self) -> Table:
        frame = _read(Path(self.path))
        targets, classes = _targets(frame.pop(self.target), self.kind, self.path)
        frame = _plain(frame, self.path)
        parts = self._rows(len(frame))
        transformer = _transformer(frame.iloc[parts[0]]).fit(frame.iloc[parts[0]])

        def examples(rows: Rows) -> Examples:
            features = np.asarray(transformer.transform(frame.iloc[rows]), dtype=np.float32)
            return torch.from_numpy(features), targets[rows]

        splits = Splits(*(examples(rows) for rows in parts if len(rows)))
        return Table(splits, classes, tuple(transformer.get_feature_names_out().tolist()))

    def _rows(self, count: int) -> tuple[Rows, Rows, Rows]:
        """Return the rows of train, valid and test."""
        valid, test = max(1, round(self.valid * count)), round(self.test * count)
        if count - valid - test < 1:
            raise ValueError(f"tabular: {self.path} has too few rows to be split: {count}")
        order = np.random.default_rng(self.split_seed).permutation(count)
        return order[valid + test :], order[:valid], order[valid : valid + test]


def _check_target(path: Path, target: str) -> None:
    """Raise FileNotFoundError without a file, ValueError if it has no such column or no other."""
    if not path.exists():
        names = [child.name for child in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"tabular: no file {path}; {nearest(path.name, names)}")
    columns = _columns(path)
    if not target:
        raise ValueError(
            f"tabular: expected target=, the column of {path} to predict; {nearest('', columns)}"
        )
    if target not in columns:
        raise ValueError(f"tabular: {path} has no column {target!r}; {nearest(target, columns)}")
    if len(columns) < 2:
        raise ValueError(f"tabular: {path} has no column beside {target!r} to predict it from")


def _columns(path: Path) -> list[str]:
    import pandas as pd

    with _reading(path):
        if _is_csv(path):
            return [str(name) for name in pd.read_csv(path, nrows=0).columns]
        import pyarrow.dataset as ds

        return list(ds.dataset(path, format="parquet").schema.names)


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    with _reading(path):
        return pd.read_csv(path) if _is_csv(path) else pd.read_parquet(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of what file it is that it cannot be read; an archive is read, and unpacked nowhere.

    Raises:
        ValueError: it holds something else than its name says.
    """
    kind = "CSV" if _is_csv(path) else "Parquet"
    try:
        yield
    except UNREADABLE as error:
        raise ValueError(f"tabular: {path} cannot be read as {kind}: {in_words(error)}") from error


def _is_csv(path: Path) -> bool:
    """Return whether a file is CSV, compressed or not; else it is Parquet, as a folder may be.

    Raises:
        ValueError: it is called neither.
    """
    if ".csv" in path.suffixes:
        return True
    if path.is_dir() or path.suffix in (".parquet", ".pq"):
        return False
    raise ValueError(f"tabular: expected a file .parquet or .csv, got {path}")


def _plain(frame: pd.DataFrame, path: str) -> pd.DataFrame:
    """Return a table of columns of floats and of text, with NaN for what is missing."""
    import pandas as pd

    plain = {name: _plain_column(column) for name, column in frame.items()}
    for name, column in plain.items():
        infinite = np.flatnonzero(np.isinf(column)).tolist() if column.dtype == float else []
        if infinite:
            raise ValueError(
                f"tabular: {path} has an infinite {name!r} in row {infinite[0]} (from 0)"
            )
    return pd.DataFrame(plain)


def _plain_column(column: pd.Series[Any]) -> pd.Series[Any]:
    from pandas.api import types

    if types.is_datetime64_any_dtype(column):
        days: pd.Series[Any] = (column - column.min()).dt.total_seconds() / SECONDS_A_DAY
        return days
    if types.is_numeric_dtype(column):  # bool as well
        return column.astype("Float64").astype(float)
    return column.map(str, na_action="ignore").astype(object)


def _transformer(frame: pd.DataFrame) -> Any:
    """Return scikit-learn's transformer for the columns of training rows, not fitted yet."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    numbers = SimpleImputer(strategy="median", keep_empty_features=True)
    frequent = SimpleImputer(strategy="most_frequent", keep_empty_features=True)
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    steps = {
        "number": (numbers, StandardScaler()),
        "category": (frequent, OneHotEncoder(handle_unknown="ignore", sparse_output=False)),
        "code": (frequent, codes, StandardScaler()),
    }
    kinds = {name: _kind_of(column) for name, column in frame.items()}
    columns = {kind: [name for name in kinds if kinds[name] == kind] for kind in steps}
    return ColumnTransformer(
        [(kind, make_pipeline(*steps[kind]), columns[kind]) for kind in steps if columns[kind]],
        verbose_feature_names_out=False,
    )


def _kind_of(column: pd.Series[Any]) -> str:
    """Return how a column becomes features; of what is missing everywhere, nothing is known."""
    if column.dtype == float or not column.notna().any():
        return "number"
    return "category" if column.nunique() <= ONE_HOT else "code"


def _targets(
    column: pd.Series[Any], kind: Kind, path: str
) -> tuple[Tensor, tuple[Any, ...] | None]:
    """Return class indices with their classes, or numbers as they are."""
    from pandas.api import types

    missing = np.flatnonzero(column.isna())
    if len(missing):
        raise ValueError(
            f"tabular: {path} has no {column.name!r} in {len(missing)} rows, the first of them row "
            f"{missing[0]} (from 0); leave these out"
        )
    number = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
    if kind == "number" and not number:
        raise ValueError(
            f"tabular: kind='number' needs numbers, and {column.name!r} of {path} holds "
            f"{column.iloc[0]!r}"
        )
    few = types.is_integer_dtype(column) and column.nunique() <= FEW_CLASSES
    if kind == "number" or (kind == "auto" and number and not few):
        return torch.tensor(column.to_numpy(dtype=np.float32)), None
    values = column.to_numpy() if number or types.is_bool_dtype(column) else column.map(str)
    classes, indices = np.unique(np.asarray(values), return_inverse=True)
    return torch.tensor(indices, dtype=torch.int64), tuple(classes.tolist())
