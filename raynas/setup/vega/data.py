"""Data sets of theirs, as names and options of ours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from raynas.setup.vega.names import looked_up
from raynas.setup.vega.recipe import check_args
from raynas.setup.vega.schema import Dataset

NAMES = {
    "Cifar10": "cifar10",
    "Cifar100": "cifar100",
    "Mnist": "mnist",
    "FashionMnist": "fashion_mnist",
    "Imagenet": "imagefolder",
    "ClassificationDataset": "imagefolder",
    "ImageFolder": "imagefolder",
    "Digits": "digits",
}
SMALL_SETS = {"cifar10": 50_000, "cifar100": 50_000, "mnist": 60_000, "fashion_mnist": 60_000}
PATHS = ("data_path", "root", "path")


@dataclass
class Data:
    """A data set, its options, the batch, and what is to be said of them.

    Attributes:
        name: registered here.
        options: of the data set.
        batch_size: None where the file names none.
        train_portion: share of the training examples that are trained on.
        notes: what differs.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    train_portion: float | None = None
    notes: list[str] = field(default_factory=list)


def data_of(dataset: Dataset, where: str) -> Data:
    """Return what a data set is here.

    Raises:
        LookupError, ValueError: its name or an argument is not known.
    """
    name = looked_up(NAMES, dataset.type, "data set", f"{where}.type")
    given = {**dataset.args, **dataset.common, **dataset.train}
    check_args(given, (*PATHS, "batch_size", "train_portion", "download", "size"), where)
    data = Data(name, batch_size=_number(given, "batch_size", int, where))
    path = next((given[key] for key in PATHS if key in given), None)
    if name == "imagefolder":
        if path is None:
            raise ValueError(f"{where}.common.data_path: name the folder of the images")
        data.options["path"] = path
    elif name in SMALL_SETS and path is not None:
        data.options["root"] = path
    if name in SMALL_SETS and given.get("download") is not None:
        data.options["download"] = bool(given["download"])
    if name in ("digits", "imagefolder") and "size" in given:
        data.options["size"] = given["size"]
    data.train_portion = _number(given, "train_portion", float, where)
    _divide(data, f"{where}.common.train_portion")
    return data


def _divide(data: Data, where: str) -> None:
    """Hold back what the file does not train on, or the default where it trains on all."""
    portion = data.train_portion
    if portion is None:
        return
    if not 0 < portion <= 1:
        raise ValueError(f"{where}: expected a share above 0 and at most 1, got {portion}")
    if portion == 1:
        data.notes.append(
            f"differs: {where}: some training examples are held back to validate, as many as the "
            "data set does by itself"
        )
    elif data.name in SMALL_SETS:
        data.options["valid"] = round(SMALL_SETS[data.name] * (1 - portion))
    elif data.name == "imagefolder":
        data.options["valid"] = round(1 - portion, 10)
    else:
        data.notes.append(f"ignored: {where}: {data.name} has a validation split of its own")


def _number(given: dict[str, Any], key: str, kind: type[int] | type[float], where: str) -> Any:
    value = given.get(key)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise ValueError(f"{where}.common.{key}: expected a number, got {value!r}")
    return kind(value)
