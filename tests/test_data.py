"""Data sets: splits, normalisation, augmentation, and what is said of data that do not fit."""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from raynas.data import DataModule, Splits, TensorData
from raynas.data.digits import Digits
from raynas.data.errors import ReadError
from raynas.data.image_sets import FOLDER
from raynas.data.module import DATA, flipped, shifted
from raynas.data.split import MemorySplit
from raynas.setup.problem import Data
from raynas.setup.resolve_data import resolve_data
from raynas.setup.resolve_task import with_task

Raw = NDArray[np.uint8]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(x: Tensor) -> list[list[float]]:
    return sorted(x.flatten(1).tolist())


def test_digits_are_split_into_all_of_them() -> None:
    splits = Digits(size=8).load()
    assert splits.test is not None
    shapes = [tuple(x.shape) for x, _ in (splits.train, splits.valid, splits.test)]
    assert shapes == [(1000, 1, 8, 8), (400, 1, 8, 8), (397, 1, 8, 8)]
    x = torch.cat([splits.train[0], splits.valid[0], splits.test[0]])
    y = torch.cat([splits.train[1], splits.valid[1], splits.test[1]])
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)
    own = torch.cat(
        [(images - images.mean()).flatten(1) / images.std(), torch.tensor(bunch.target)[:, None]], 1
    )
    assert rows(torch.cat([x.flatten(1), y[:, None]], 1)) == rows(own)  # each once, with its class
    assert abs(x.mean()) < 1e-5
    assert abs(x.std() - 1) < 1e-5
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_digits_of_every_class_are_in_every_split() -> None:
    splits = Digits().load()
    assert splits.test is not None
    for _, y in (splits.train, splits.valid, splits.test):
        assert y.bincount().min() > 0.05 * len(y)


@pytest.mark.parametrize("size", [8, 16, 21])
def test_digits_are_enlarged_to_the_size(size: int) -> None:
    data = Digits(size=size)
    x, _ = data.load().train
    assert data.input_shape == tuple(x.shape[1:]) == (1, size, size)
    small, _ = Digits(size=8).load().train
    pooled = torch.nn.functional.interpolate(x, (8, 8), mode="area")
    assert torch.corrcoef(torch.stack([pooled.flatten(), small.flatten()]))[0, 1] > 0.9


def test_digits_are_a_function_of_the_split_seed() -> None:
    first, again, other = (Digits(split_seed=seed).load().train for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


@pytest.mark.parametrize("size", [7, 0, -16])
def test_digits_cannot_be_made_smaller(size: int) -> None:
    with pytest.raises(ValueError, match=f"at least 8, got {size}"):
        Digits(size=size)


def naively_shifted(x: Tensor, pixels: int, moves: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    count, _, height, width = x.shape
    for i in range(count):
        down, right = (int(m) - pixels for m in moves[:, i, 0])
        for row in range(height):
            for column in range(width):
                if 0 <= row + down < height and 0 <= column + right < width:
                    out[i, :, row, column] = x[i, :, row + down, column + right]
    return out


@pytest.mark.parametrize("pixels", [0, 1, 3])
def test_shifting_is_what_a_loop_does(pixels: int) -> None:
    x = torch.randn(12, 2, 5, 7, generator=rng())
    kept = x.clone()
    moves = torch.randint(2 * pixels + 1, (2, 12, 1), generator=rng(4))
    out = shifted(x, pixels, rng(4))
    assert torch.equal(out, naively_shifted(x, pixels, moves))
    assert torch.equal(x, kept)
    assert (moves[:, :, 0].unique(dim=1).shape[1] > 1) == (pixels > 0)
    assert torch.equal(out, x) == (pixels == 0)


def test_flipping_is_what_a_loop_does() -> None:
    x = torch.randn(12, 2, 3, 4, generator=rng())
    coins = (torch.rand(12, generator=rng(4)) < 0.5).tolist()
    expected = torch.stack(
        [t[:, :, [3, 2, 1, 0]] if c else t for t, c in zip(x, coins, strict=True)]
    )
    assert torch.equal(flipped(x, rng(4)), expected)
    assert {True, False} == set(coins)


@pytest.mark.parametrize(
    ("name", "shape", "pixels", "mirrors"),
    [
        ("digits", (1, 16, 16), 1, False),
        ("mnist", (1, 28, 28), 2, False),
        ("fashion_mnist", (1, 28, 28), 2, True),
        ("cifar10", (3, 32, 32), 4, True),
        ("cifar100", (3, 32, 32), 4, True),
    ],
)
def test_augmentation(name: str, shape: tuple[int, ...], pixels: int, mirrors: bool) -> None:
    data, x, draws = DATA[name](), torch.randn(9, *shape, generator=rng()), rng(1)
    assert (data.name, data.input_shape) == (name, shape)
    expected = shifted(x, pixels, draws)
    expected = flipped(expected, draws) if mirrors else expected
    assert torch.equal(data.augment(x, rng(1)), expected)


def idx(array: Raw) -> bytes:
    """MNIST's format: two zeros, type 8 (bytes), dimensions, sizes, numbers."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_mnist(root: Path, kind: str, parts: dict[str, tuple[Raw, list[int]]]) -> None:
    folder = root / kind / "raw"
    folder.mkdir(parents=True)
    for split, (images, classes) in parts.items():
        stem = "t10k" if split == "test" else split
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(idx(images[:, 0]))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx(np.array(classes, np.uint8)))


def write_cifar(
    root: Path, kind: str, parts: dict[str, tuple[Raw, list[int]]], patch: pytest.MonkeyPatch
) -> None:
    """CIFAR's pickles; torchvision's list of checksums, of the real files, is given these."""
    folder, key = ("cifar-10-batches-py", "labels"), "label_names"
    files = {
        "train": ["data_batch_1", "data_batch_2"],
        "test": ["test_batch"],
        "meta": "batches.meta",
    }
    if kind == "CIFAR100":
        folder, key = ("cifar-100-python", "fine_labels"), "fine_label_names"
        files = {"train": ["train"], "test": ["test"], "meta": "meta"}
    (root / folder[0]).mkdir(parents=True)

    def write(name: str, content: object) -> str:
        data = pickle.dumps(content)
        (root / folder[0] / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    cls = getattr(torchvision.datasets, kind)
    for split, (images, classes) in parts.items():
        names, listed = files[split], []
        for n, name in enumerate(names):
            some = slice(n, None, len(names))
            content = {"data": images[some].reshape(-1, 3072), folder[1]: classes[some]}
            listed.append([name, write(name, content)])
        patch.setattr(cls, f"{split}_list", listed)
    name = str(files["meta"])
    patch.setattr(cls, "meta", {"filename": name, "key": key, "md5": write(name, {key: []})})


KINDS = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}


@pytest.mark.parametrize("name", KINDS)
def test_an_image_set_is_read_from_its_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DATA[name](root=str(tmp_path), valid=7, split_seed=3)
    assert data.input_shape is not None
    assert data.num_classes is not None
    numbers = np.random.default_rng(0)
    parts: dict[str, tuple[Raw, list[int]]] = {}
    for split, count in (("train", 30), ("test", 12)):
        images = numbers.integers(256, size=(count, *data.input_shape), dtype=np.uint8)
        images[:, 0, 0, 0] = np.arange(count)  # tells an image from the others
        parts[split] = images, numbers.integers(data.num_classes, size=count).tolist()
    if name.startswith("cifar"):
        write_cifar(tmp_path, KINDS[name], parts, monkeypatch)
    else:
        write_mnist(tmp_path, KINDS[name], parts)
    splits = data.load()
    assert splits.test is not None
    assert [len(y) for _, y in (splits.train, splits.valid, splits.test)] == [23, 7, 12]

    whole = torch.tensor(parts["train"][0]).double() / 255
    mean, std = whole.mean((0, 2, 3), keepdim=True), whole.std((0, 2, 3), keepdim=True)
    seen = []
    for x, y in (splits.train, splits.valid, splits.test):
        assert x.dtype == torch.float32
        raw = ((x.double() * std + mean) * 255).round().to(torch.uint8).numpy()
        images, classes = parts["test" if y is splits.test[1] else "train"]
        at = raw[:, 0, 0, 0].tolist()
        assert (raw == images[at]).all()
        assert y.tolist() == [classes[i] for i in at]
        seen.append(set(at))
    assert seen[0] | seen[1] == set(range(30))
    assert not seen[0] & seen[1]
    assert seen[2] == set(range(12))
    again, other = (
        DATA[name](root=str(tmp_path), valid=7, split_seed=seed).load() for seed in (3, 4)
    )
    assert torch.equal(again.valid[0], splits.valid[0])
    assert not torch.equal(other.valid[0], splits.valid[0])
    few = DATA[name](root=str(tmp_path), train=5, valid=7, split_seed=3).load()
    assert torch.equal(few.train[0], splits.train[0][:5])
    assert torch.equal(few.valid[0], splits.valid[0])


@pytest.mark.parametrize("size_bytes", [0, 3, 7, 15])
@pytest.mark.parametrize("file", ["train-images-idx3", "t10k-labels-idx1"])
def test_a_half_unpacked_image_set_is_named(file: str, size_bytes: int, tmp_path: Path) -> None:
    """torchvision takes a file that is there for a whole one, also with ``download``."""
    images = np.zeros((20, 1, 28, 28), np.uint8)
    write_mnist(tmp_path, "MNIST", {split: (images, [1] * 20) for split in ("train", "test")})
    cut = tmp_path / "MNIST" / "raw" / f"{file}-ubyte"
    cut.write_bytes(cut.read_bytes()[:size_bytes])
    said = f"mnist: files under {tmp_path} are damaged: remove them and pass download=true"
    for download in (False, True):
        with pytest.raises(ReadError, match=re.escape(said)):
            DATA["mnist"](root=str(tmp_path), valid=7, download=download).load()


@pytest.mark.parametrize("name", KINDS)
def test_missing_files_are_told_with_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        DATA[name](root=str(tmp_path)).load()
    text = str(caught.value)
    assert all(part in text for part in (name, str(tmp_path), "root=", "download=true"))


@pytest.mark.parametrize("valid", [0, -1, 50_000])
def test_some_images_must_be_left(valid: int) -> None:
    with pytest.raises(ValueError, match=f"0 < valid < 50000, got {valid}"):
        DATA["cifar10"](valid=valid)


def test_training_on_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="train of at least 1, got 0"):
        DATA["cifar10"](train=0)


def test_nothing_is_read_or_fetched_before_it_is_needed() -> None:
    data = DATA["cifar10"]()
    assert isinstance(data, DataModule)
    assert (getattr(data, "root", ""), getattr(data, "download", None)) == (str(FOLDER), False)
    assert data.num_classes == 10


class Pairs(Dataset[Any]):
    """Items one by one, without tensors behind them."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Doubled(TensorDataset):
    """Does something to every item, which its tensors do not show."""

    def __getitem__(self, index: int) -> Any:
        return 2 * self.tensors[0][index], self.tensors[1][index]


X, Y = torch.arange(12.0).view(6, 2), torch.tensor([0, 2, 1, 0, 1, 2])
GOOD = TensorDataset(X, Y)
KINDS_OF_CLASS: list[Callable[[int], Any]] = [int, torch.tensor, np.int64, np.uint8]


@pytest.mark.parametrize("kind", KINDS_OF_CLASS)
def test_items_and_tensors_give_the_same(kind: Callable[[int], Any]) -> None:
    pairs = Pairs([(x, kind(y)) for x, y in zip(X, Y.tolist(), strict=True)])
    data = TensorData((pairs, GOOD, Subset(GOOD, [5, 0])), name="mine")
    splits = data.load()
    assert (data.name, data.num_classes, data.input_shape) == ("mine", 3, (2,))
    for x, y in (splits.train, splits.valid):
        assert torch.equal(x, X)
        assert torch.equal(y, Y)
        assert y.dtype == torch.int64
    assert splits.test is not None
    assert torch.equal(splits.test[0], X[[5, 0]])
    assert torch.equal(splits.test[1], Y[[5, 0]])


def test_items_are_what_a_dataset_makes_of_its_tensors() -> None:
    data = TensorData((Doubled(X, Y), ConcatDataset([GOOD, GOOD])))
    assert torch.equal(data.load().train[0], 2 * X)
    assert len(data.load().valid[1]) == 12
    assert data.load().test is None


def test_classes_are_those_of_all_splits() -> None:
    assert TensorData((Subset(GOOD, [0, 2]), GOOD)).num_classes == 3


@pytest.mark.parametrize(("count", "batch"), [(6, 2), (300, 10), (100_000, 128)])
def test_the_batch_size_follows_the_training_split(count: int, batch: int) -> None:
    many = TensorDataset(torch.zeros(count, 1), torch.arange(count) % 2)
    assert TensorData((many, GOOD_1)).batch_size == batch
    assert TensorData((many, GOOD_1), batch_size=3).batch_size == 3


GOOD_1 = TensorDataset(torch.zeros(2, 1), torch.tensor([0, 1]))


class Endless(IterableDataset[Any]):
    """A data set without a length."""

    def __iter__(self) -> Iterator[Any]:
        return iter(GOOD)


@pytest.mark.parametrize(
    ("datasets", "kind", "message"),
    [
        ((GOOD,), ValueError, r"\(train, valid\[, test\]\), got 1"),
        ((GOOD,) * 4, ValueError, "got 4"),
        ((GOOD, Pairs([])), ValueError, "valid split is empty"),
        ((GOOD, GOOD, TensorDataset(X[:0], Y[:0])), ValueError, "test split is empty"),
        ((GOOD, GOOD_1), ValueError, r"splits have inputs of different shapes: .*\[1\].*\[2\]"),
        (
            (Pairs([(X[0], 0), (X[0, :1], 1)]), GOOD),
            ValueError,
            r"train has inputs of different shapes: \(2,\) float32 in train\[0\] and "
            r"\(1,\) float32 in train\[1\]; make them alike in the dataset's transform, or pass "
            r"collate_fn",
        ),
        (
            (Endless(), GOOD),
            TypeError,
            "train split must be a dataset with a length, got a Endless: define its __len__",
        ),
        ((GOOD, 3), TypeError, "valid split .* got a int"),
        ((GOOD, {1, 2}), TypeError, "valid split .* got a set"),
        (
            (GOOD, Pairs([(X[0], 0), X[0]])),
            ValueError,
            r"valid has targets of different shapes: \(\) int64 in valid\[0\] and None in valid\[1",
        ),
        ((Pairs([(X[0], "cat")]), GOOD), TypeError, r"train\[0\] has a str among its target"),
        ((Pairs([{"x": "cat"}]), GOOD), TypeError, r"train\[0\] has a str among its inputs"),
        ((Pairs([(None, 0)]), GOOD), TypeError, r"train\[0\] has a NoneType among its inputs"),
        ((Pairs([{"label": 0}]), GOOD), ValueError, r"train\[0\] is a dict of no inputs"),
        ((Pairs([[[1], [2, 3]]]), GOOD), TypeError, r"train\[0\] has inputs that make no tensor"),
    ],
)
def test_data_that_do_not_fit_are_told(
    datasets: tuple[Any, ...], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        TensorData(datasets)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (0 * Y, "train split has only one class, 0, in 6"),
        (0 * Y + 3, "train split has only one class, 3, in"),
        (Y - 1, "train has the class index -1, which is negative"),
    ],
)
def test_classes_that_cannot_be_learned_are_told(train: Tensor, message: str) -> None:
    data = TensorDataset(X, train), GOOD
    with pytest.raises(ValueError, match=message):
        TensorData(data).load().check_classes()
    resolved = resolve_data(data, {}).module
    with pytest.raises(ValueError, match=message):
        resolved.check(resolved.load())
    numbers = with_task(Data(None, resolved), "regression").module
    numbers.check(numbers.load())  # of which there may be any
    floats = TensorDataset(X, train.float()), GOOD
    TensorData(floats).load().check_classes()  # another task's targets are no class indices


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 5, 3000])
def test_inputs_that_are_no_numbers_are_told(bad: float, at: int) -> None:
    x, y = torch.zeros(4000, 3), torch.arange(4000) % 2
    x[at:, 1] = bad
    with pytest.raises(ValueError, match=rf"valid\[{at}\] has inputs that are infinite or no numb"):
        resolve_data((TensorDataset(0 * x.nan_to_num(), y), TensorDataset(x, y)), {})


def test_a_number_for_each_example_is_looked_at_too() -> None:
    lone = Splits((torch.tensor([1.0, np.nan]), Y[:2]), (X, Y))
    with pytest.raises(ValueError, match=r"train\[1\]"):
        lone.check_finite()


def test_splits_move_together() -> None:
    splits = TensorData((GOOD, GOOD)).load()
    moved = splits.to(torch.device("meta"))
    assert isinstance(moved, Splits)
    assert {t.device.type for pair in (moved.train, moved.valid) for t in pair} == {"meta"}
    assert moved.test is None
    whole = Splits(splits.train, splits.valid, splits.valid)
    assert whole.parts() == (splits.train, splits.valid, splits.valid)
    assert whole.to(torch.device("cpu")).parts()[2] is not None
    held = Splits(MemorySplit(X, Y), MemorySplit(X)).to(torch.device("meta"))
    assert held.train.inputs.is_meta
    assert held.train.targets.is_meta
    assert held.valid.targets is None


def test_a_data_module_must_say_how_it_loads() -> None:
    with pytest.raises(TypeError, match=r"DataModule must define load\(\)"):
        DataModule().load()
    assert DataModule().augment(X, rng()) is X
