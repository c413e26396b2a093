"""Whether the examples of a source are held in memory or streamed, and how they are read in."""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch.utils.data import IterableDataset

from raynas.core.errors import nearest
from raynas.data.examples import settled
from raynas.data.module import Examples
from raynas.data.ray_split import RaySplit
from raynas.data.reading import Reading, read, read_in_turn
from raynas.data.sources import Source, is_ray, plain_tensors
from raynas.data.split import Split
from raynas.data.streamed import StreamedSplit

Hold = Literal["auto", "memory", "stream"]
LIMIT = 2**30  # bytes; what takes more is streamed


def part_of(source: Source, reading: Reading, hold: Hold) -> Examples | Split:
    """Return the examples of a source: in memory if they take less than 1 GiB, else streamed.

    What has a ``collate_fn`` or a sampler of its own is streamed too: the one may make batches of
    many lengths, the other draws each epoch's examples.

    Args:
        source: of one split.
        reading: how its items become batches.
        hold: ``memory`` or ``stream`` instead.

    Raises:
        ValueError: another ``hold``, or a sampler where everything is to be in memory.
        TypeError, ValueError, ReadError: an example cannot be read.
    """
    check_hold(hold)
    streamed = _streamed(source, reading)
    if hold == "stream":
        return streamed
    if source.sampler is not None and hold == "memory":
        kind = type(source.sampler).__name__
        raise ValueError(
            f"data: hold='memory' does not go with the {kind} of the {source.split} split, which "
            "is drawn anew in every epoch; leave hold out"
        )
    if hold == "auto" and (source.sampler is not None or _is_large(streamed)):
        return streamed
    if isinstance(streamed, StreamedSplit):
        return read_all(source.dataset, source.split, reading)
    held = streamed.held()
    return held.inputs, held.targets


def _streamed(source: Source, reading: Reading) -> StreamedSplit | RaySplit:
    if not is_ray(source.dataset):
        return StreamedSplit(
            source.dataset,
            source.split,
            reading=reading,
            loading=source.loading,
            sampler=source.sampler,
        )
    if reading.collate_fn is not None:
        raise ValueError("data: a Ray Data dataset takes no collate_fn; use its map_batches")
    split = RaySplit(source.dataset, source.split, reading=reading)
    if not len(split):
        raise ValueError(f"data: the {source.split} split is empty")
    return split


def _is_large(streamed: StreamedSplit | RaySplit) -> bool:
    """Return whether examples are better streamed than held."""
    if streamed.reading.collate_fn is not None:
        return True
    return not plain_tensors(streamed.dataset) and streamed.nbytes() >= LIMIT


def check_hold(hold: str) -> None:
    """Raise ValueError, naming the nearest, if this is no way to hold data."""
    if hold not in get_args(Hold):
        raise ValueError(f"data: no way to hold data is {hold!r}; {nearest(hold, get_args(Hold))}")


def read_all(dataset: Any, split: str, reading: Reading) -> Examples:
    """Read every example of a dataset; what is random draws from the global generators."""
    tensors = plain_tensors(dataset)
    if tensors and reading.collate_fn is None and reading.labels is None:
        *inputs, targets = tensors if len(tensors) > 1 else (*tensors, None)
        return settled(inputs[0] if len(inputs) == 1 else tuple(inputs), targets)
    if isinstance(dataset, IterableDataset):
        items = list(read_in_turn(dataset, split))
    else:
        items = [read(dataset, index, split) for index in range(len(dataset))]
    return reading.batch(items, split, range(len(items)))
