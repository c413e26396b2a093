"""Laws of data of every kind: batches, epochs, ranks, travelling, what they say of themselves."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from ray import cloudpickle
from torch.utils.data import DataLoader, WeightedRandomSampler

from raynas.core.nest import leaves, mapped, signature, taken
from raynas.data import TensorData
from raynas.data.digits import Digits
from raynas.data.imagefolder import ImageFolder
from raynas.data.module import DataModule
from raynas.data.reading import Reading
from raynas.data.split import Split, split_of
from raynas.data.streamed import StreamedSplit
from raynas.data.tabular import Tabular
from raynas.data.text import Text
from tests.datasets import ITEMS, InTurn, Items, Padded, pixels, ragged
from tests.nests import same

SIZE = 6  # of a batch
Make = Callable[[Path, str], DataModule]


def drawn(index: int) -> Any:
    """Return an item with a number that two readings share with a chance of 2e-16."""
    return np.array([index, random.random()]), index % 3


def folder(path: Path, hold: Any) -> ImageFolder:
    for part, each in (("train", 7), ("val", 5)):
        for label, name in enumerate(("ant", "bee")):
            (path / part / name).mkdir(parents=True, exist_ok=True)
            for at in range(each):
                image = Image.fromarray(pixels(10 * label + at, 12, 9, 3))
                image.save(path / part / name / f"{at}.png")
    return ImageFolder(path=str(path), size=7, hold=hold, loader_workers=0)


def table(path: Path, _: str) -> Tabular:
    numbers = np.random.default_rng(0).normal(size=(30, 3))
    file = path / "table.parquet"
    pd.DataFrame(numbers, columns=["a", "b", "c"]).to_parquet(file)
    return Tabular(path=str(file), target="c")


def text(path: Path, hold: Any) -> Text:
    file = path / "text.txt"
    file.write_bytes(np.random.default_rng(0).bytes(150))
    return Text(path=str(file), context=5, valid=0.2, test=0.2, hold=hold, loader_workers=0)


def weighted(*_: object) -> TensorData:
    sampler = WeightedRandomSampler([1.0] * 20, 20)
    dataset = Items(ITEMS["dict"], 20)
    return TensorData((DataLoader(dataset, sampler=sampler), dataset), hold="stream")


def own(make_items: Callable[[int], Any], kind: Any = Items, **options: Any) -> Make:
    def make(_: Path, hold: Any) -> TensorData:
        datasets = kind(make_items, 20, 20), kind(make_items, 9, 9)
        return TensorData(datasets, hold=hold, loader_workers=0, **options)

    return make


def items(make: Callable[[int], Any], count: int, _: int) -> Items:
    return Items(make, count)


KINDS: dict[str, Any] = {
    "digits": lambda *_: Digits(size=8),
    "image folder": folder,
    "table": table,
    "text": text,
    "sampler": weighted,
    "iterable": own(ITEMS["two inputs"], InTurn),
    "padded": own(ragged, items, collate_fn=Padded()),
    "drawn": own(drawn, items),
    "drawn in turn": own(drawn, InTurn),
} | {f"items: {name}": own(make, items) for name, make in ITEMS.items()}
RANDOM = {"image folder", "sampler", "drawn", "drawn in turn"}  # to train
every_kind = pytest.mark.parametrize("kind", KINDS)
every_hold = pytest.mark.parametrize("hold", ["memory", "stream"])


def splits(data: DataModule) -> list[Split]:
    return [split_of(part) for part in data.load().parts() if part is not None]


def batches(split: Split, *, shuffled: bool, **where: Any) -> list[Any]:
    order = np.random.default_rng(1).permutation(len(split)) if shuffled else None
    return list(split.batches(order, SIZE, **({"epoch": 0, "seed": 0} | where)))


@every_kind
def test_examples_are_the_same_held_or_streamed(kind: str, tmp_path: Path) -> None:
    """But for what is drawn at random: in memory, that is drawn for all in turn."""
    held, streamed = (splits(KINDS[kind](tmp_path, hold)) for hold in ("memory", "stream"))
    assert len(held) == len(streamed)
    for part, other in list(zip(held, streamed, strict=True))[kind in RANDOM :]:
        if kind.startswith("drawn"):
            continue
        assert len(part) == len(other)
        if kind == "padded":  # in memory to the longest of all
            part, other = (mine.held(range(SIZE)) for mine in (part, other))
            assert same(mapped(lambda x: x[:, :5], part.inputs), other.inputs)
            continue
        assert same(batches(part, shuffled=False), batches(other, shuffled=False))
        assert same(part.some([3, 1]), other.some([3, 1]))
        if kind != "iterable":
            assert same(batches(part, shuffled=True), batches(other, shuffled=True))


@every_kind
def test_what_is_held_of_a_stream_is_the_stream_of_what_is_held(kind: str, tmp_path: Path) -> None:
    for split in splits(KINDS[kind](tmp_path, "stream"))[kind in RANDOM :]:
        memory = split.held()
        if kind.startswith("drawn") or kind == "padded" or memory.targets is None:
            continue
        pairs = [(taken(memory.inputs, at), taken(memory.targets, at)) for at in range(len(memory))]
        again = StreamedSplit(pairs, reading=Reading(prepare=memory.prepare))
        for shuffled in (False, True):
            assert same(batches(memory, shuffled=shuffled), batches(again, shuffled=shuffled))


@every_kind
@every_hold
def test_an_epoch_is_read_again_as_it_was(kind: str, hold: str, tmp_path: Path) -> None:
    first, again = (KINDS[kind](tmp_path, hold) for _ in range(2))
    train, other = splits(first)[0], splits(again)[0]
    if kind.startswith("drawn") and hold == "memory":
        with pytest.raises(AssertionError):  # read from the global generators, as they stand
            assert same(batches(train, shuffled=True), batches(other, shuffled=True))
        epochs = [read_anew(data, seed) for data, seed in ((first, 0), (again, 0), (first, 1))]
        assert same(epochs[0], epochs[1])
        assert not same(epochs[0], epochs[2])
        return
    for epoch in (0, 3):
        mine, others = (
            batches(split, shuffled=True, epoch=epoch, seed=2) for split in (train, other)
        )
        assert same(mine, others)
        assert same(mine, batches(train, shuffled=True, epoch=epoch, seed=2))


def read_anew(data: DataModule, seed: int) -> Any:
    random.seed(seed)
    return data.epoch_examples()


@every_kind
@every_hold
def test_epochs_differ_where_something_is_random_and_only_there(
    kind: str, hold: str, tmp_path: Path
) -> None:
    """Weighted draws of 20 agree with a chance of 1e-26, parts of 14 images of less than 1e-20."""
    data = KINDS[kind](tmp_path, hold)
    train = splits(data)[0]
    epochs = [batches(train, shuffled=False, epoch=epoch) for epoch in (0, 1)]
    seeds = [batches(train, shuffled=False, seed=seed) for seed in (0, 1)]
    if kind.startswith("drawn") and hold == "memory":
        assert same(*epochs)
        assert data.epoch_examples() is not None  # read by the loop, for every epoch
        return
    assert data.epoch_examples() is None
    assert same(*epochs) == same(*seeds) == (kind not in RANDOM)


@every_kind
@every_hold
@pytest.mark.parametrize("shuffled", [False, True])
def test_two_ranks_share_every_batch(kind: str, hold: str, shuffled: bool, tmp_path: Path) -> None:
    for split in splits(KINDS[kind](tmp_path, hold)):
        whole = batches(split, shuffled=shuffled, epoch=1)
        parts = [batches(split, shuffled=shuffled, epoch=1, rank=rank, world=2) for rank in (0, 1)]
        for rank, part in enumerate(parts):
            shares = [mapped_rows(batch, rank) for batch in whole]
            if len(next(leaves(shares[-1]))) == 0:  # one example is left for the last batch
                shares.pop()
            assert len(part) == len(shares)
            if kind != "padded":  # where each rank pads for itself
                assert same(part, shares)
        counts = [sum(len(next(leaves(batch))) for batch in given) for given in (whole, *parts)]
        assert counts[0] == counts[1] + counts[2]
        assert counts[0] == (len(split) - len(split) % SIZE if shuffled else len(split))


def mapped_rows(batch: Any, rank: int) -> Any:
    return mapped(lambda leaf: None if leaf is None else leaf[rank::2], batch)


@every_kind
@every_hold
def test_data_travel(kind: str, hold: str, tmp_path: Path) -> None:
    data = KINDS[kind](tmp_path, hold)
    copy = cloudpickle.loads(cloudpickle.dumps(data))
    for part, other in zip(splits(data), splits(copy), strict=True):
        assert same(batches(part, shuffled=True), batches(other, shuffled=True))
    assert (copy.signature, copy.num_classes) == (data.signature, data.num_classes)
    assert copy.as_loaded().epoch_examples() is None


@every_kind
@every_hold
def test_data_say_what_a_model_gets(kind: str, hold: str, tmp_path: Path) -> None:
    data = KINDS[kind](tmp_path, hold)
    for split in splits(data):
        for shuffled in (False, True):
            for inputs, targets in batches(split, shuffled=shuffled):
                if kind != "padded":
                    assert signature(inputs) == data.signature
                if data.num_classes is not None:
                    assert targets.min() >= 0
                    assert targets.max() < data.num_classes
                assert not any(leaf.dtype == torch.uint8 for leaf in leaves(inputs))
    alone = data.signature if isinstance(data.signature, dict) else {}
    assert data.input_shape == (tuple(alone["shape"]) if "shape" in alone else None)


@every_kind
@every_hold
def test_reading_leaves_the_global_random_states_alone(
    kind: str, hold: str, tmp_path: Path
) -> None:
    for split in splits(KINDS[kind](tmp_path, hold)):
        before = torch.get_rng_state().tolist(), random.getstate()
        batches(split, shuffled=True, epoch=1)
        split.some([0])
        split.nbytes()
        assert (torch.get_rng_state().tolist(), random.getstate()) == before
