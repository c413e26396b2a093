"""Datasets of Ray Data: the same rows as in memory, shared by ranks, and errors told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import ray
import torch

from raynas.data import TensorData
from raynas.data.errors import ReadError
from raynas.data.module import DataWarning
from raynas.data.ray_split import WINDOW, RaySplit
from raynas.data.reading import Reading
from raynas.data.split import split_of
from raynas.setup.resolve_data import resolve_data
from tests.nests import same

pytestmark = pytest.mark.usefixtures("local_ray")

COUNT, SIZE = 75, 2  # more rows than two windows of batches hold


def row(index: int) -> dict[str, Any]:
    return {"x": np.arange(3, dtype=np.float32) + index, "n": index, "label": index % 3}


@pytest.fixture(scope="module")
def dataset(local_ray: None) -> Any:  # noqa: ARG001 - Ray must be there first
    """Rows in several blocks, made when they are read."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data.range(COUNT, override_num_blocks=3).map(lambda given: row(int(given["id"])))


def batches(split: Any, order: Any = None, size: int = SIZE, **where: Any) -> Any:
    return list(split.batches(order, size, **({"epoch": 0, "seed": 0} | where)))


def seen(given: Any) -> list[int]:
    return [int(n) for inputs, _ in given for n in inputs["n"]]


@pytest.mark.full
def test_a_stream_gives_what_memory_gives(dataset: Any) -> None:
    streamed, held = (
        TensorData((dataset, dataset), hold=hold).load().train for hold in ("stream", "memory")
    )
    assert isinstance(streamed, RaySplit)
    assert not streamed.in_memory
    memory = split_of(held)
    assert same(batches(streamed, size=20), batches(memory, size=20))
    expected = [row(index) for index in (5, 2, 5, 70)]
    x, y = streamed.some([5, 2, 5, 70])
    assert x["x"].tolist() == [given["x"].tolist() for given in expected]
    assert y.tolist() == [given["label"] for given in expected]
    assert same((x, y), memory.some([5, 2, 5, 70]))
    assert streamed.nbytes() == memory.nbytes()
    data = TensorData((dataset, dataset))
    assert split_of(data.load().train).in_memory
    assert data.num_classes == 3
    assert TensorData((dataset, dataset), hold="stream", num_classes=3).num_classes == 3


def test_rows_are_shuffled_by_seed_and_epoch(dataset: Any) -> None:
    """That 32 rows stay in order, or come twice in one order, has a chance of less than 1e-30."""
    split, order = RaySplit(dataset), np.arange(COUNT)
    first, again, epoch, seed = (
        seen(batches(split, order, **where)) for where in ({}, {}, {"epoch": 1}, {"seed": 1})
    )
    assert first == again
    window = WINDOW * SIZE
    for drawn in (first, epoch, seed):
        assert len(drawn) == COUNT - 1  # the incomplete last batch is left out
        assert sorted(drawn[:window]) == list(range(window))
        assert sorted(drawn[window : 2 * window]) == list(range(window, 2 * window))
    assert len({tuple(drawn) for drawn in (first, epoch, seed, list(range(COUNT - 1)))}) == 4
    assert seen(batches(split)) == list(range(COUNT))


def ranks_of(split: Any, order: Any) -> Any:
    return [batches(split, order, 10, rank=rank, world=2) for rank in (0, 1)]


@pytest.mark.parametrize("order", [None, np.arange(COUNT)])
def test_ranks_share_every_batch(dataset: Any, order: Any) -> None:
    split = RaySplit(dataset)
    first, second = ranks_of(split, order)
    whole = batches(split, order, 10)
    assert len(first) == len(second) == len(whole) == (8 if order is None else 7)
    for batch, mine, others in zip(whole, first, second, strict=True):
        assert seen([mine]) == seen([batch])[::2]
        assert seen([others]) == seen([batch])[1::2]


def test_a_rank_in_another_process_takes_the_same_rows(dataset: Any) -> None:
    """Two of them have both CPUs to themselves, and yet the rows are there."""
    packed = ray.cloudpickle.dumps(RaySplit(dataset))

    @ray.remote(num_cpus=1)
    def rank(number: int) -> list[int]:
        split = ray.cloudpickle.loads(packed)
        return [
            int(n)
            for inputs, _ in split.batches(
                np.arange(COUNT), 10, epoch=2, seed=1, rank=number, world=2
            )
            for n in inputs["n"]
        ]

    here = [
        seen(batches(RaySplit(dataset), np.arange(COUNT), 10, epoch=2, seed=1, rank=r, world=2))
        for r in (0, 1)
    ]
    assert ray.get([rank.remote(0), rank.remote(1)]) == here


def test_one_column_is_the_input_and_labels_may_be_none(dataset: Any) -> None:
    lone = RaySplit(dataset.drop_columns(["n"]))
    x, y = lone.some([4])
    assert x.tolist() == [[4.0, 5.0, 6.0]]
    assert y.tolist() == [1]
    assert RaySplit(dataset.select_columns(["x"])).some([4])[1] is None
    numbers = RaySplit(dataset, reading=Reading(labels="n"))
    assert set(numbers.example(1)) == {"x", "label"}
    assert numbers.some([4])[1].tolist() == [4]


def test_floats_are_used_in_float32_after_a_notice(dataset: Any) -> None:
    doubles = dataset.map(
        lambda given: {"x": given["x"].astype(np.float64), "label": given["label"]}
    )
    for hold in ("memory", "stream"):
        with pytest.warns(DataWarning, match="inputs of torch.float64 are used in float32"):
            data = resolve_data((doubles, doubles), {"hold": hold}).module
        assert split_of(data.load().train).example(1).dtype == torch.float32


def test_one_dataset_alone_is_split_by_seed_and_said(dataset: Any) -> None:
    with pytest.warns(DataWarning, match="60 examples to train, 15 to validate"):
        data = resolve_data(dataset, {"split_seed": 1}).module
    parts = [split_of(part).held().inputs["n"].tolist() for part in data.load().parts()[:2]]
    assert [len(part) for part in parts] == [60, 15]
    assert sorted(parts[0] + parts[1]) == list(range(COUNT))


def test_what_a_dataset_raises_is_one_sentence(dataset: Any) -> None:
    def broken(given: dict[str, Any]) -> dict[str, Any]:
        if given["n"] == 40:
            raise ValueError("a broken row")
        return given

    says = r"^data: the train split, a Dataset, raised ValueError: a broken row$"
    with pytest.raises(ReadError, match=says):
        batches(RaySplit(dataset.map(broken)))


def test_what_ray_data_cannot_do_is_told(dataset: Any) -> None:
    with pytest.raises(ValueError, match="takes no collate_fn; use its map_batches"):
        TensorData((dataset, dataset), collate_fn=list)
    with pytest.raises(ValueError, match="the valid split is empty"):
        TensorData((dataset, dataset.limit(0)))


def test_the_users_dataset_stays_as_it_was(dataset: Any) -> None:
    before = dataset.context.execution_options.preserve_order
    split = RaySplit(dataset)
    batches(split)
    split.example(1)
    assert dataset.context.execution_options.preserve_order == before
