"""Splits that are streamed: the same examples as in memory, whoever reads them, and errors told."""

from __future__ import annotations

import os
import pickle
import random
import signal
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
)

from raynas.core.nest import mapped
from raynas.core.train_settings import TrainSettings
from raynas.data import TensorData
from raynas.data.errors import ReadError, ReadersRestarted
from raynas.data.module import DataWarning, Splits
from raynas.data.readers import Loading
from raynas.data.split import MemorySplit, split_of
from raynas.setup.resolve_data import resolve_data
from raynas.supernet.network_training import NetworkTraining
from tests.datasets import (
    COUNT,
    ITEMS,
    SIZE,
    InTurn,
    Items,
    Padded,
    batches,
    order_of,
    pixels,
    plain_dataset,
    ragged,
    rows,
    streamed,
)
from tests.nests import same

GPU = torch.device("cuda")
every_number_of_readers = pytest.mark.parametrize(
    "workers", [0, pytest.param(1, marks=pytest.mark.full), 2]
)


# --- the same as in memory ---


@every_number_of_readers
@pytest.mark.parametrize("kind", ITEMS)
def test_a_stream_gives_what_memory_gives(kind: str, workers: int) -> None:
    dataset = Items(ITEMS[kind])
    held = split_of(TensorData((dataset, dataset), hold="memory").load().train)
    split = TensorData((dataset, dataset), hold="stream", loader_workers=workers).load().train
    assert (held.in_memory, split.in_memory) == (True, False)
    assert len(held) == len(split) == COUNT
    for order in (None, order_of()):
        assert same(batches(held, order), batches(split, order))
    assert same(held.some([5, 2, 5]), split.some([5, 2, 5]))
    assert same(held.example(3), split.example(3))
    assert same(held.example(99), split.example(99))
    assert held.nbytes() == split.nbytes()


@every_number_of_readers
def test_an_iterable_gives_what_memory_gives(workers: int) -> None:
    make = ITEMS["two inputs"]
    held = split_of(TensorData((Items(make), Items(make))).load().train)
    split = streamed(InTurn(make), workers)
    for _ in range(2):
        assert same(batches(held), batches(split))
    # an order says how many examples there are, and that the last batch is left out
    assert same(batches(held)[:-1], batches(split, order_of()))
    assert same(held.some([5, 2, 5]), split.some([5, 2, 5]))
    assert split_of(TensorData((InTurn(make), Items(make))).load().train).in_memory


def test_an_order_is_a_batch_sampler() -> None:
    """Batches are those of torch's own loader over the same order."""
    dataset, order = Items(ITEMS["tensor and class"]), order_of()
    loader = DataLoader(dataset, SIZE, sampler=order.tolist(), drop_last=True)
    assert same(batches(streamed(dataset, 2), order), [tuple(batch) for batch in loader])


@pytest.mark.parametrize("make", [Items, InTurn])
@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_every_batch(make: Any, workers: int) -> None:
    whole, order = Items(ITEMS["dict"]), order_of()
    for split in (
        streamed(make(ITEMS["dict"]), workers),
        split_of(TensorData((whole, whole)).load().train),
    ):
        for given in (None, order):
            every = batches(split, given)
            parts = [batches(split, given, rank=rank, world=2) for rank in (0, 1)]
            assert len(parts[0]) == len(parts[1]) == len(every)
            for batch, first, second in zip(every, *parts, strict=True):
                mine, others = (mapped(lambda leaf, r=r: leaf[r::2], batch) for r in (0, 1))  # type: ignore[misc]
                assert same(first, mine)
                assert same(second, others)
                seen = [*first[0]["n"].tolist(), *second[0]["n"].tolist()]
                assert sorted(seen) == sorted(batch[0]["n"].tolist())


def test_a_rank_without_a_share_of_the_last_batch_yields_none() -> None:
    dataset = Items(ITEMS["no labels"], 4)
    for split in (streamed(dataset), MemorySplit(torch.stack([rows(i) for i in range(4)]))):
        lengths = [
            [len(x) for x, _ in split.batches(None, 3, epoch=0, seed=0, rank=rank, world=3)]
            for rank in range(3)
        ]
        assert lengths == [[1, 1], [1], [1]]


# --- types ---


def test_types_of_inputs_and_targets() -> None:
    def item(index: int) -> Any:
        image, mask = pixels(index, 3, 4, 5), pixels(index, 4, 5) > 9
        return {"image": image, "few": pixels(index, 7), "half": np.float16(1), "label": mask}

    (inputs, targets), *_ = batches(streamed(Items(item)))
    expected = {"image": torch.float32, "few": torch.int64, "half": torch.float16}
    assert {name: leaf.dtype for name, leaf in inputs.items()} == expected
    assert targets.dtype == torch.int64
    assert torch.equal(inputs["image"][2], torch.tensor(pixels(2, 3, 4, 5)) / 255)
    assert torch.equal(targets[2], torch.tensor(pixels(2, 4, 5) > 9).long())
    held = TensorData((Items(item), Items(item)))
    assert held.load().train[0]["image"].dtype == torch.uint8  # a quarter of the memory
    assert held.signature["keywords"]["image"] == {"shape": [3, 4, 5], "dtype": "float32"}
    assert held.input_shape is None


def test_palettes_are_colours_of_inputs_and_classes_of_masks() -> None:
    colours = Image.fromarray(pixels(0, 4, 5, 3))
    palette = colours.convert("P")
    data = TensorData((Items(lambda _: (palette, palette)), Items(lambda _: (palette, palette))))
    x, y = data.load().train
    assert torch.equal(x[0], torch.tensor(np.asarray(palette.convert("RGB"))).permute(2, 0, 1))
    assert torch.equal(y[0], torch.tensor(np.asarray(palette)).long())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ["i2", "u2", "f4", "f8"])
def test_arrays_of_any_byte_order_are_read(order: str, code: str) -> None:
    array = np.arange(6, dtype=f"{order}{code}")[::-1].reshape(2, 3)
    array.flags.writeable = False
    x, _ = TensorData((Items(lambda _: (array, 0)), Items(lambda _: (array, 0)))).load().train
    assert x[0].tolist() == array.tolist()
    assert x.dtype == {"i": torch.int64, "u": torch.int64}.get(
        code[0], torch.float32 if code == "f4" else torch.float64
    )


@pytest.mark.parametrize("hold", ["memory", "stream"])
def test_floats_are_used_in_float32_after_one_notice(hold: Any) -> None:
    dataset = Items(lambda i: (rows(i).double(), torch.tensor(0.5 * i).double()))
    assert TensorData((dataset, dataset), hold=hold).signature["dtype"] == "float64"
    with pytest.warns(DataWarning) as notices:
        data = resolve_data((dataset, dataset), {"hold": hold, "loader_workers": 0}).module
    assert [str(notice.message) for notice in notices] == [
        "data: inputs of torch.float64 are used in float32, as weights are"
    ]
    x, y = next(split_of(data.load().train).batches(None, SIZE, epoch=0, seed=0))
    assert (x.dtype, y.dtype, data.signature["dtype"]) == (torch.float32, torch.float32, "float32")
    assert torch.equal(x[3], rows(3))


def test_the_labels_of_a_dict_may_have_any_key() -> None:
    dataset = Items(lambda i: {"x": rows(i), "label": i, "price": 0.5 * i})
    x, y = split_of(TensorData((dataset, dataset), labels="price").load().train).some([3])
    assert set(x) == {"x", "label"}
    assert y.tolist() == [1.5]
    with pytest.raises(ValueError, match="no key 'prize'; did you mean 'price'"):
        TensorData((dataset, dataset), labels="prize")
    pairs = Items(ITEMS["tensor and class"])
    with pytest.raises(
        TypeError, match=r"labels='y' is a key of dict items, and train\[0\] is a t"
    ):
        TensorData((pairs, pairs), labels="y")


# --- random transforms ---


def from_torch() -> float:
    return float(torch.rand(()))


def from_numpy() -> float:
    return float(np.random.rand())  # noqa: NPY002 - which users draw from


def from_python() -> float:
    return random.random()


class Noise:
    """Makes rows with a random number added, of 24 bits at least."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self.draw = draw

    def __call__(self, index: int) -> tuple[Tensor, int]:
        return torch.tensor([index + self.draw()], dtype=torch.float64), index


every_draw = pytest.mark.parametrize("draw", [from_torch, from_numpy, from_python])


@every_draw
@pytest.mark.parametrize("make", [Items, InTurn])
def test_what_is_drawn_depends_on_seed_epoch_and_example_alone(make: Any, draw: Any) -> None:
    """Two draws of 24 bits agree by chance: less than 1e-5 in all that must differ here."""
    splits = [streamed(make(Noise(draw)), workers) for workers in (0, 1, 2)]
    first = batches(splits[0], order_of(), epoch=1, seed=3)
    for split in splits:
        assert same(batches(split, order_of(), epoch=1, seed=3), first)
    assert same(batches(splits[1], order_of(), epoch=1, seed=3), first)
    by_index = dict(zip(*numbers(first), strict=True))
    for other in ({"epoch": 2, "seed": 3}, {"epoch": 1, "seed": 4}):
        drawn = dict(zip(*numbers(batches(splits[0], order_of(), **other)), strict=True))
        assert all(by_index[index] != drawn[index] for index in by_index)
    parts = [x % 1 for x in by_index.values()]
    assert len(set(parts)) == len(parts)
    two = [batches(splits[2], order_of(), epoch=1, seed=3, rank=r, world=2) for r in (0, 1)]
    assert {
        **dict(zip(*numbers(two[0]), strict=True)),
        **dict(zip(*numbers(two[1]), strict=True)),
    } == by_index


def numbers(given: Any) -> tuple[list[int], list[float]]:
    y, x = torch.cat([y for _, y in given]), torch.cat([x for x, _ in given])
    return y.tolist(), x[:, 0].tolist()


@every_draw
def test_order_does_not_change_what_an_example_draws(draw: Any) -> None:
    split = streamed(Items(Noise(draw)))
    whole = dict(zip(*numbers(batches(split)), strict=True))
    shuffled = dict(zip(*numbers(batches(split, order_of())), strict=True))
    assert all(whole[index] == x for index, x in shuffled.items())


@every_draw
@every_number_of_readers
def test_reading_leaves_the_global_random_states_alone(draw: Any, workers: int) -> None:
    before = states()
    split = streamed(Items(Noise(draw)), workers)
    drawn = []
    for _ in split.batches(order_of(), SIZE, epoch=0, seed=0):
        assert states() == before
        drawn.append(random.random())
        before = states()
    split.example(2)
    split.nbytes()
    assert states() == before
    assert len(set(drawn)) == len(drawn)


def states() -> tuple[object, ...]:
    numpys: Any = np.random.get_state()  # noqa: NPY002 - which users draw from
    return torch.get_rng_state().tolist(), numpys[1].tolist(), numpys[2], random.getstate()


# --- trainings ---


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["dict", "image"])
def test_trainings_give_the_same_losses_held_or_streamed(kind: str, workers: int) -> None:
    """To the last bit, in double precision where the data are."""
    first, last = [], []
    for hold in ("memory", "stream"):
        dataset = Items(doubled if kind == "dict" else ITEMS[kind])
        data = TensorData((dataset, dataset), hold=hold, loader_workers=workers)
        model = Net().double() if kind == "dict" else nn.Sequential(nn.Flatten(), nn.Linear(60, 3))
        settings = TrainSettings(epochs=2, batch_size=5, label_smoothing=0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for parameter in model.parameters():
                nn.init.normal_(parameter, std=0.1)
        training = NetworkTraining(model, data, settings, seed=1)
        first.append([training.run_epoch()["loss"] for _ in range(2)])
        last.append(training.validate())
    assert first[0] == first[1]
    assert last[0] == last[1]
    assert first[0][0] != first[0][1]


def doubled(index: int) -> Any:
    return {"x": rows(index).double() / 10, "n": torch.tensor([index]) / 10.0, "label": index % 3}


class Net(nn.Module):
    """Takes two inputs by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        y: Tensor = self.linear(torch.cat([x, n], 1))
        return y


# --- processes ---


class ReadBy:
    """Makes the id of the process that reads."""

    def __call__(self, index: int) -> Tensor:
        return torch.tensor([os.getpid(), index])


def test_processes_read_and_stay_from_epoch_to_epoch() -> None:
    split = streamed(Items(ReadBy()), 2)
    readers = [
        {int(x[0]) for batch, _ in batches(split, epoch=e) for x in batch} for e in (0, 1, 2)
    ]
    assert len(readers[0]) == 2
    assert readers[0] == readers[1] == readers[2]
    assert os.getpid() not in readers[0]
    alone = {int(x[0]) for batch, _ in batches(streamed(InTurn(ReadBy()), 2)) for x in batch}
    assert len(alone) == 1
    assert os.getpid() not in alone


@every_number_of_readers
def test_two_iterations_of_a_split_do_not_disturb_each_other(workers: int) -> None:
    split = streamed(Items(ITEMS["dict"]), workers)
    expected = batches(split, order_of())
    outer = split.batches(order_of(), SIZE, epoch=0, seed=0)
    seen = [next(outer)]
    assert same(batches(split, order_of()), expected)
    seen += list(outer)
    assert same(seen, expected)


@every_number_of_readers
@pytest.mark.parametrize("make", [Items, InTurn])
def test_an_iteration_that_was_left_does_not_reach_into_the_next(make: Any, workers: int) -> None:
    split = streamed(make(ITEMS["dict"]), workers)
    expected = batches(split)
    for _ in range(2):
        left: Any = split.batches(None, SIZE, epoch=0, seed=0)
        next(left)
        left.close()
        assert same(batches(split), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_split_travels(workers: int) -> None:
    split = streamed(Items(Noise(from_python)), workers)
    expected = batches(split, epoch=1)
    assert same(batches(pickle.loads(pickle.dumps(split)), epoch=1), expected)


def test_readers_are_not_held_to_be_too_many() -> None:
    many = streamed(Items(ITEMS["dict"], 4), 1 + len(os.sched_getaffinity(0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(batches(many)) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [({"workers": -1}, "loader_workers is 0 or more, got -1"), ({"prefetch": 0}, "prefetch is 1")],
)
def test_numbers_of_readers_that_make_no_sense_are_told(options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Loading(**options)


# --- errors ---


class Broken:
    """Raises, or ends its process, at one example."""

    def __init__(self, ending: str) -> None:
        self.ending = ending

    def __call__(self, index: int) -> Any:
        if index == 17 and self.ending == "raise":
            raise ValueError("a broken file\nof two lines")
        if index == 17 and self.ending == "exit":
            os._exit(3)
        return (torch.zeros(2 if index == 17 and self.ending == "ragged" else 3), index % 2)


@every_number_of_readers
@pytest.mark.parametrize("make", [Items, InTurn])
def test_what_a_dataset_raises_is_one_sentence(make: Any, workers: int) -> None:
    split = streamed(make(Broken("raise")), workers)
    says = f"data: train[17] of {make.__name__} raised ValueError: a broken file of two lines"
    for _ in range(2):  # and the split is of use thereafter
        with pytest.raises(ReadError) as caught:
            batches(split)
        assert str(caught.value) == says
        assert len(list(split.batches(np.arange(12), 12, epoch=0, seed=0))) == 1


def test_what_a_dataset_raises_while_it_is_read_in_is_the_same_sentence() -> None:
    with pytest.raises(ReadError, match=r"^data: valid\[17\] of Items raised ValueError: a broken"):
        TensorData((Items(ITEMS["tensor and class"]), Items(Broken("raise"))))


@every_number_of_readers
def test_sizes_that_differ_are_told_where_they_are_read(workers: int) -> None:
    split = streamed(Items(Broken("ragged")), workers)
    says = (
        r"train has inputs of different shapes: \(3,\) float32 in train\[12\] and \(2,\) float32 in"
    )
    with pytest.raises(ValueError, match=says + r" train\[17\]; make them alike"):
        batches(split)


@pytest.fixture
def ends_are_seen_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch looks every five seconds whether its processes live."""
    waits = torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(waits, "__defaults__", (0.1,))


@pytest.mark.usefixtures("ends_are_seen_soon")
@pytest.mark.filterwarnings("ignore:.*others go on with batch:UserWarning")
def test_a_reader_that_ends_again_is_told() -> None:
    says = "reads the train split ended unexpectedly, 4 times.*fewer loader_workers than 1"
    with pytest.raises(ReadError, match=says):
        batches(streamed(Items(Broken("exit")), 1))


class EndsOnce:
    """Items of random numbers; the process that reads one of these numbers first is killed."""

    def __init__(self, folder: Path, *numbers: int) -> None:
        self.folder, self.numbers = folder, numbers

    def __call__(self, index: int) -> tuple[Tensor, int]:
        if index in self.numbers:
            with suppress(FileExistsError):
                (self.folder / str(index)).touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return torch.rand(3), index % 2


@pytest.mark.usefixtures("ends_are_seen_soon")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("make", [Items, InTurn])
def test_others_go_on_where_a_reader_ends(make: Any, workers: int, tmp_path: Path) -> None:
    split = streamed(make(EndsOnce(tmp_path, 0, 9, 22)), workers)
    with pytest.warns(ReadersRestarted, match="train split ended.*others go on with batch") as seen:
        interrupted = [batches(split, epoch=e, seed=4) for e in (0, 1)]
    assert 1 <= len(seen) <= 3  # two processes may end at once
    quiet = streamed(make(EndsOnce(tmp_path)))
    assert same(interrupted, [batches(quiet, epoch=epoch, seed=4) for epoch in (0, 1)])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0", "22", "9"]


@pytest.mark.usefixtures("ends_are_seen_soon")
@pytest.mark.filterwarnings("ignore:.*others go on with batch:UserWarning")
def test_readers_that_end_four_times_are_told(tmp_path: Path) -> None:
    split = streamed(Items(EndsOnce(tmp_path, 0, 6, 12, 18)), 1)
    with pytest.raises(ReadError, match="4 times, out of memory perhaps"):
        batches(split)
    assert len(batches(split)) == 4


@every_number_of_readers
def test_an_iterable_that_ends_too_early_is_told(workers: int) -> None:
    split = streamed(InTurn(ITEMS["dict"], count=20), workers)
    says = "the train split, a InTurn, ended after 20 examples, and its length is 23"
    with pytest.raises(ReadError, match=says):
        batches(split)
    long = streamed(InTurn(ITEMS["dict"], count=99), workers)
    assert sum(len(y) for _, y in batches(long)) == COUNT


# --- collation ---


@every_number_of_readers
def test_a_collate_fn_is_honoured(workers: int) -> None:
    data = TensorData((Items(ragged), Items(ragged)), collate_fn=Padded(), loader_workers=workers)
    split = data.load().train
    assert not split.in_memory  # each batch is as long as its longest
    for (x, y), start in zip(batches(split), range(0, COUNT, SIZE), strict=True):
        items = [ragged(i) for i in range(start, min(COUNT, start + SIZE))]
        assert same((x, y), ({"ids": Padded()(items)["ids"]}, torch.tensor([c for _, c in items])))
    assert data.num_classes is None
    held = TensorData((Items(ragged), Items(ragged)), collate_fn=Padded(), hold="memory")
    assert held.load().train[0]["ids"].shape == (COUNT, 5)
    assert held.num_classes == 3


class BadCollation:
    def __call__(self, items: list[Any]) -> Any:
        raise KeyError("ids")


@every_number_of_readers
def test_what_a_collate_fn_raises_is_one_sentence(workers: int) -> None:
    says = r"^data: collate_fn raised KeyError: 'ids' for train\[0\] and 5 more$"
    with pytest.raises(ReadError, match=says):
        batches(streamed(Items(ragged), workers, collate_fn=BadCollation()))


# --- splits of a module ---


def test_a_module_may_mix_pairs_and_splits() -> None:
    x, y = plain_dataset().tensors
    parts = Splits((x, y), streamed(plain_dataset()), MemorySplit(x, y))
    moved = parts.to(torch.device("cpu"))
    for part in moved.parts():
        assert same(batches(split_of(part)), batches(split_of((x, y))))
    assert moved.valid is parts.valid


def test_lengths_that_differ_are_told() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        MemorySplit(torch.zeros(3), torch.zeros(2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_lie_on_the_device(workers: int) -> None:
    expected = batches(streamed(Items(ITEMS["image"])))
    for split in (streamed(Items(ITEMS["image"]), workers), streamed(Items(ITEMS["image"])).held()):
        on_gpu = batches(split, device=GPU)
        assert {x.device.type for x, _ in on_gpu} == {"cuda"}
        assert same([(x.cpu(), y.cpu()) for x, y in on_gpu], expected)
