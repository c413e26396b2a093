"""What users give as data: loaders and samplers, named splits, one dataset alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from raynas.data import TensorData
from raynas.data.holding import LIMIT
from raynas.data.module import DataWarning
from raynas.data.readers import Loading
from raynas.data.split import split_of
from raynas.setup.resolve_data import resolve_data
from tests.datasets import (
    COUNT,
    ITEMS,
    InTurn,
    Items,
    Padded,
    batches,
    order_of,
    plain_dataset,
    ragged,
    streamed,
)
from tests.nests import same

# --- what is given ---


def test_loaders_say_how_they_are_read() -> None:
    dataset = Items(ragged)
    loader = DataLoader(
        dataset, batch_size=5, collate_fn=Padded(), num_workers=2, prefetch_factor=3, shuffle=True
    )
    data = TensorData((loader, DataLoader(dataset, collate_fn=Padded())))
    train, valid = data.load().train, data.load().valid
    assert train.loading == Loading(workers=2, prefetch=3, pin_memory=False)
    assert valid.loading == Loading(workers=0, prefetch=2, pin_memory=False)
    assert (train.dataset, train.sampler, data.batch_size) == (dataset, None, 5)
    assert isinstance(train.reading.collate_fn, Padded)
    more = TensorData((loader, loader), loader_workers=1, batch_size=4)
    assert (more.load().train.loading.workers, more.batch_size) == (1, 4)


@pytest.mark.parametrize(
    "sampler",
    [
        SequentialSampler(plain_dataset()),
        RandomSampler(plain_dataset()),
        DistributedSampler(plain_dataset(), num_replicas=2, rank=0),
    ],
)
def test_loaders_over_all_examples_are_read_in_our_order(sampler: Any) -> None:
    """A DistributedSampler's ranks are ours."""
    loader = DataLoader(plain_dataset(), batch_size=4, sampler=sampler)
    x, y = TensorData((loader, loader)).load().train
    assert same((x, y), plain_dataset().tensors)


def test_a_loader_over_a_subset_is_that_subset() -> None:
    loader = DataLoader(plain_dataset(), sampler=SubsetRandomSampler([7, 3, 4]))
    x, y = TensorData((plain_dataset(), loader)).load().valid
    assert same((x, y), plain_dataset()[[7, 3, 4]])


def test_what_another_sampler_draws_is_an_epoch() -> None:
    """That two epochs of 40 draws agree has a chance of less than 1e-16."""
    weights = [0.0] * 10 + [1.0] * 13
    own = torch.Generator()
    for sampler in (
        WeightedRandomSampler(weights, 40),
        WeightedRandomSampler(weights, 40, generator=own),
    ):
        loader = DataLoader(Items(ITEMS["dict"]), sampler=sampler)
        split = TensorData((loader, Items(ITEMS["dict"]))).load().train
        assert len(split) == 40
        drawn = [
            torch.cat([x["n"] for x, _ in batches(split, order_of(40), epoch=e)]).tolist()
            for e in (0, 0, 1)
        ]
        assert drawn[0] == drawn[1] != drawn[2]
        assert len(drawn[0]) == 36
        assert min(map(min, drawn)) >= 10
        assert split.some([0, 39])[0]["n"].shape == (2,)
    with pytest.raises(ValueError, match="does not go with the WeightedRandomSampler of the train"):
        TensorData((loader, loader), hold="memory")


class Reversed(torch.utils.data.Sampler[int]):
    """Backwards, from where an epoch says."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(COUNT - 1 - self.epoch, -1, -1))

    def __len__(self) -> int:
        return COUNT


def test_a_sampler_is_told_its_epoch_and_one_of_batches_is_taken_apart() -> None:
    dataset = Items(ITEMS["dict"])
    for loader in (
        DataLoader(dataset, sampler=Reversed()),
        DataLoader(dataset, batch_sampler=BatchSampler(Reversed(), 4, drop_last=False)),
    ):
        split = TensorData((loader, dataset)).load().train
        for epoch in (2, 0):
            seen = torch.cat([x["n"] for x, _ in batches(split, epoch=epoch)])
            assert seen.tolist() == list(range(COUNT - 1 - epoch, -1, -1))


def test_what_a_loader_cannot_hand_over_is_told() -> None:
    with pytest.raises(ValueError, match="the train DataLoader has batch_size=None"):
        TensorData((DataLoader(plain_dataset(), batch_size=None), plain_dataset()))
    seeding = DataLoader(plain_dataset(), worker_init_fn=print)
    with pytest.warns(DataWarning, match="worker_init_fn of the valid DataLoader is not called"):
        TensorData((plain_dataset(), seeding))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_over_an_iterable_is_read_by_one_process(workers: int) -> None:
    loader = DataLoader(InTurn(ITEMS["dict"]), batch_size=5, num_workers=workers)
    data = TensorData((loader, plain_like()), hold="stream")
    assert same(batches(data.load().train), batches(streamed(Items(ITEMS["dict"]))))
    assert data.batch_size == 5


def plain_like() -> Items:
    return Items(ITEMS["dict"])


@pytest.mark.parametrize("valid", ["valid", "val", "validation"])
def test_splits_may_have_names(valid: str) -> None:
    small = Subset(plain_dataset(), [0, 1])
    data = resolve_data({"test": small, valid: small, "train": plain_dataset()}, {}).module
    assert [len(split_of(part)) for part in data.load().parts()] == [COUNT, 2, 2]
    with pytest.raises(ValueError, match="no split is called 'trian'; did you mean 'train'"):
        TensorData({"trian": small})
    with pytest.raises(ValueError, match=r"one train and one valid split, got \['val', 'valid'\]"):
        TensorData({"val": small, "valid": small})


# --- one dataset alone ---


@pytest.mark.parametrize("hold", ["memory", "stream"])
@pytest.mark.parametrize("given", [plain_dataset(), Items(ITEMS["tensor and class"])])
def test_one_dataset_alone_is_split_by_seed_and_said(given: Any, hold: Any) -> None:
    says = "one dataset alone is split by seed 3: 18 examples to train, 5 to validate; give (train,"
    with pytest.warns(DataWarning, match=re.escape(says)):
        data = resolve_data(given, {"hold": hold, "split_seed": 3, "loader_workers": 0}).module
    with pytest.warns(DataWarning):
        other = TensorData({"train": given, "test": plain_dataset()}, hold=hold, split_seed=4)
    parts = [
        split_of(part).some(range(n))[0]
        for part, n in zip(data.load().parts(), (18, 5), strict=False)
    ]
    whole = plain_dataset().tensors[0]
    assert torch.equal(torch.cat(parts).sort(dim=0).values, whole)
    assert not torch.equal(split_of(other.load().valid).some(range(5))[0], parts[1])
    assert len(split_of(other.load().test)) == COUNT


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            Items(ITEMS["dict"], 1),
            "1 example cannot be split into train and valid; give two at least",
        ),
        (InTurn(ITEMS["dict"]), "a InTurn that is read in its own order cannot be split by seed"),
        (DataLoader(plain_dataset(), sampler=Reversed()), "TensorDataset that is read in its own"),
    ],
)
def test_what_cannot_be_split_is_told(given: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        resolve_data(given, {})


def test_two_examples_can_be_split() -> None:
    with pytest.warns(DataWarning, match="1 examples to train, 1 to validate"):
        TensorData(Items(ITEMS["dict"], 2))


# --- what is held ---


class Counted:
    """Makes images of 3 MB, and counts them."""

    read = 0

    def __call__(self, index: int) -> tuple[Tensor, int]:
        self.read += 1
        return torch.zeros(3, 1000, 1000, dtype=torch.uint8), index % 2


def test_what_takes_a_gigabyte_is_streamed_without_being_read() -> None:
    many, few = Counted(), Counted()
    data = TensorData((Items(many, LIMIT // 3_000_000 + 1), Items(few, 3)))
    assert not data.load().train.in_memory
    assert split_of(data.load().valid).in_memory
    assert many.read < 20
    assert LIMIT <= data.load().train.nbytes() < 1.01 * LIMIT


def test_tensors_that_lie_in_memory_stay_there() -> None:
    x = torch.zeros(1, 2).expand(LIMIT, 2)  # of 8 GiB, if it were not one row
    data = TensorData((TensorDataset(x, torch.zeros(1).expand(LIMIT)), plain_dataset_of_two()))
    assert data.load().train[0] is x


def plain_dataset_of_two() -> TensorDataset:
    return TensorDataset(torch.zeros(2, 2), torch.zeros(2))


def test_a_way_to_hold_data_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match="no way to hold data is 'streams'; did you mean 'stream'"):
        TensorData((plain_dataset(), plain_dataset()), hold="streams")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data 'own' has no option 'workers'; did you mean"):
        resolve_data((plain_dataset(), plain_dataset()), {"workers": 2})


# --- how many classes ---


class Named(Items):
    classes = ("ant", "bee", "cat", "dog")


class WithTargets(Items):
    targets = (0, 1, 2, 2, 4)


class Feature:
    num_classes = 7


class WithFeatures(Items):
    """As a dataset of Hugging Face says it."""

    features = {"labels": Feature(), "x": object()}  # noqa: RUF012


@pytest.mark.parametrize(
    ("dataset", "classes"),
    [
        (Named(ITEMS["tensor and class"]), 4),
        (Subset(Named(ITEMS["tensor and class"]), [1, 2]), 4),
        (WithTargets(ITEMS["tensor and class"]), 5),
        (WithFeatures(ITEMS["dict"]), 7),
        (Items(ITEMS["dict"]), None),
        (Named(ITEMS["mask"]), None),
        (Named(ITEMS["numpy"]), None),
    ],
)
def test_streamed_classes_are_as_many_as_a_dataset_says(dataset: Any, classes: int | None) -> None:
    data = TensorData((dataset, dataset), hold="stream")
    assert data.num_classes == classes
    assert TensorData((dataset, dataset), hold="stream", num_classes=9).num_classes == 9


def test_classes_in_memory_are_counted_and_other_targets_have_none() -> None:
    for kind, classes in (("tensor and class", 3), ("dict in a pair", None), ("no labels", None)):
        dataset = Items(ITEMS[kind])
        assert TensorData((dataset, dataset)).num_classes == classes
