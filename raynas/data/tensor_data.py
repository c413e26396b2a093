"""Data from anybody's torch datasets."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from raynas.core.nest import Nest, leaves, lone_shape, mapped, signature, zipped
from raynas.data.classes import class_count
from raynas.data.examples import as_float32, is_class_index
from raynas.data.holding import Hold, part_of, read_all
from raynas.data.module import DataModule, DataWarning, Examples, Part, Splits
from raynas.data.reading import Reading
from raynas.data.seeding import random_states
from raynas.data.sources import Source, is_ray, plain_tensors, sources_of
from raynas.data.split import Split, split_of
from raynas.data.streamed import StreamedSplit


class TensorData(DataModule):
    """Data from torch datasets, held in memory or streamed.

    An item is a pair of inputs and target, a tuple of inputs with the target last, or a dict; see
    ``raynas.data.examples``. Splits of less than 1 GiB are held in memory, others are read by
    ``loader_workers`` while they are used.

    A training dataset in memory that gives other items when it is read again is read anew for every
    epoch; a streamed one always is. Its transforms should draw from the global generators of torch,
    numpy or Python, which are seeded; what draws from others cannot be repeated.

    Args:
        datasets: ``(train, valid[, test])``, or a dict of these: datasets, map-style or iterable,
            with a length, or DataLoaders, of which dataset, collation, batch size, workers and a
            sampler are taken. One dataset alone is split by ``split_seed``, a fifth to validate,
            after a warning.
        name: what the configuration calls it.
        batch_size: for training.
        hold: ``memory`` or ``stream`` all splits, whatever their size.
        loader_workers: processes that read a streamed split ahead; two if nothing is said.
        labels: key of the target in dict items; None takes ``labels``, ``label`` or ``target``.
        collate_fn: makes a batch of a list of items; without, they are stacked.
        split_seed: splits one dataset alone.
        num_classes: of streamed data that do not say it themselves.

    Raises:
        ValueError: not two or three splits, an empty one, or inputs of different shapes.
        TypeError: a split is no dataset with a length, or an item holds what makes no tensor.
        ReadError: a dataset raises.
    """

    at_hand = True

    def __init__(
        self,
        datasets: Any,
        *,
        name: str = "own",
        batch_size: int | None = None,
        hold: Hold = "auto",
        loader_workers: int | None = None,
        labels: str | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        split_seed: int = 0,
        num_classes: int | None = None,
    ) -> None:
        sources = [
            _with(source, loader_workers, collate_fn) for source in sources_of(datasets, split_seed)
        ]
        readings = [Reading(labels=labels, collate_fn=source.collate_fn) for source in sources]
        pairs = zip(sources, readings, strict=True)
        self._splits = Splits(*(part_of(source, reading, hold) for source, reading in pairs))
        self.name = name
        self._check_shapes()
        self.input_shape = lone_shape(self.signature)
        declared = class_count(self._parts(), labels)
        self.num_classes = declared if num_classes is None else num_classes
        count, own = len(split_of(self._splits.train)), batch_size or sources[0].batch_size
        # a BatchNorm refuses to train on one example
        self.batch_size = own or min(128, max(2, count // 30))
        self._reading = readings[0]
        self._varying = sources[0].dataset if self._varies(sources[0].dataset) else None

    def load(self) -> Splits:
        """Return the splits."""
        return self._splits

    @cached_property
    def signature(self) -> Any:
        """Shapes, without the batch, and dtypes of the inputs as a model gets them."""
        return signature(split_of(self._splits.train).example(1))

    def in_float32(self) -> TensorData:
        """Return the data with floats of the weights' own type, after a warning if they change."""
        others = [text for part in self._parts() for text in _other_floats(part)]
        if not others:
            return self
        text = f"data: {others[0]} are used in float32, as weights are"
        warnings.warn(text, DataWarning, stacklevel=2)
        other = copy.copy(self)
        other._splits = Splits(*(_in_float32(part) for part in self._parts()))
        other.__dict__.pop("signature", None)
        return other

    def as_loaded(self) -> TensorData:
        """Return the data as first read, without the dataset, for evaluators that do not train."""
        other = copy.copy(self)
        other._varying = None
        return other

    def epoch_examples(self) -> Examples | None:
        """Read a training dataset that varies; None if it does not.

        Raises:
            ValueError: there are other numbers of examples than at first, inputs of other shapes,
                or classes that were not there.
        """
        if self._varying is None:
            return None
        x, y = read_all(self._varying, "train", self._reading)
        now, before = _shapes(x), _shapes(self._splits.train[0])
        if now != before:
            raise ValueError(
                f"data: the train split has inputs of shape {now}, and had {before} when it was "
                "first read"
            )
        if is_class_index(y) and self.num_classes is not None and int(y.max()) >= self.num_classes:
            raise ValueError(
                f"data: the train split has the class {int(y.max())}, and there were only "
                f"{self.num_classes} classes when it was first read"
            )
        return _like(x, self._splits.train[0]), None if y is None else _like(
            y, self._splits.train[1]
        )

    def _parts(self) -> list[Part]:
        return [part for part in self._splits.parts() if part is not None]

    def _check_shapes(self) -> None:
        """Raise ValueError if splits have inputs of different shapes, none of them padded."""
        splits = [split_of(part) for part in self._parts()]
        if any(isinstance(s, StreamedSplit) and s.reading.collate_fn for s in splits):
            return
        shapes = {str(_shapes_in(signature(split.example(1)))) for split in splits}
        if len(shapes) > 1:
            text = ", ".join(sorted(shapes))
            raise ValueError(f"data: splits have inputs of different shapes: {text}")

    def _varies(self, dataset: Any) -> bool:
        """Return whether a dataset in memory gives other items when read again, now or some time.

        Transforms that are seldom applied draw nevertheless.
        """
        train = self._splits.train
        plain = plain_tensors(dataset) and self._reading.collate_fn is None
        if isinstance(train, Split) or is_ray(dataset) or plain:
            return False
        before = random_states()
        again = read_all(dataset, "train", self._reading)
        return not _equal(train, again) or random_states() != before


def _with(
    source: Source, workers: int | None, collate_fn: Callable[[list[Any]], Any] | None
) -> Source:
    """Return a source with what the user says beside it."""
    if workers is not None:
        source = replace(source, loading=replace(source.loading, workers=workers))
    return source if collate_fn is None else replace(source, collate_fn=collate_fn)


def _equal(examples: Examples, others: Examples) -> bool:
    if str(_shapes(examples)) != str(_shapes(others)):
        return False
    pairs = zip(leaves(examples), leaves(others), strict=True)
    return all(x is y or _same(x, y) for x, y in pairs)


def _same(x: Tensor, y: Tensor) -> bool:
    return x.dtype == y.dtype and torch.allclose(x, y, rtol=0, atol=0, equal_nan=True)


def _shapes(nest: Nest) -> Any:
    """Return the shapes of a nest of tensors, None where there are no targets."""
    return mapped(lambda leaf: None if leaf is None else tuple(leaf.shape), nest)


def _like(nest: Nest, other: Nest) -> Nest:
    """Return a nest, cut off from weights, in the types of another."""
    return zipped(lambda pair: pair[0].to(pair[1].dtype).detach(), [nest, other])


def _shapes_in(signed: Any) -> Any:
    """Return the shapes in a signature."""
    if isinstance(signed, list):
        return [_shapes_in(part) for part in signed]
    if "keywords" in signed:
        return {name: _shapes_in(part) for name, part in signed["keywords"].items()}
    return signed["shape"]


def _other_floats(part: Part) -> list[str]:
    """Return which floats of a split, if any, are not of the weights' own type."""
    split = split_of(part)
    batch = split.held([0])
    roles = {"inputs": batch.inputs, "targets": batch.targets}
    return [
        f"{role} of {leaf.dtype}"
        for role, nest in roles.items()
        for leaf in leaves(nest)
        if leaf is not None and leaf.is_floating_point() and leaf.dtype != torch.float32
    ]


def _in_float32(part: Part) -> Part:
    if isinstance(part, Split):
        return part.in_float32()
    return tuple(as_float32(nest) for nest in part)
