"""What users give as data: datasets, DataLoaders, or one dataset alone, which is split by seed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
)

from raynas.core.errors import nearest
from raynas.data.module import NAMES, DataWarning
from raynas.data.readers import Loading

VALID_SHARE = 0.2  # of one dataset alone
WORDS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "test"}


@dataclass(frozen=True)
class Source:
    """Where the examples of a split come from.

    Attributes:
        split: train, valid or test.
        dataset: with a length; map-style or iterable.
        loading: how many processes are to read it.
        collate_fn: makes a batch of a list of items; None stacks them.
        batch_size: that came with it.
        sampler: indices of an epoch, where these are no order of all examples.
    """

    split: str
    dataset: Any
    loading: Loading = field(default_factory=Loading)
    collate_fn: Callable[[list[Any]], Any] | None = None
    batch_size: int | None = None
    sampler: Iterable[Any] | None = None


def sources_of(given: Any, split_seed: int) -> list[Source]:
    """Return the sources of train, valid and, if there is one, test.

    Args:
        given: ``(train, valid[, test])``, a dict of these, or one dataset alone, of which a fifth,
            drawn by ``split_seed``, is to validate.
        split_seed: of that draw.

    Raises:
        ValueError: not two or three splits, or an empty one; or one that cannot be split.
        TypeError: a split is no dataset, or has no length.
    """
    if isinstance(given, Mapping):
        named = _by_name(given)
        if "valid" in named:
            return [_source(part, split) for split, part in named.items()]
        return [*_divided(_source(named.pop("train"), "train"), split_seed)] + [
            _source(part, split) for split, part in named.items()
        ]
    if not isinstance(given, tuple | list):
        return [*_divided(_source(given, "train"), split_seed)]
    if len(given) not in (2, 3):
        raise ValueError(f"data: expected (train, valid[, test]), got {len(given)} items")
    return [_source(part, split) for part, split in zip(given, NAMES, strict=False)]


def plain_tensors(dataset: Any) -> tuple[Tensor, ...]:
    """Return the tensors whose rows are the items, or nothing if more is done to these."""
    plain = getattr(type(dataset), "__getitem__", None) is TensorDataset.__getitem__
    return tuple(dataset.tensors) if plain else ()


def is_dataset(given: Any) -> bool:
    """Return whether this may be a dataset alone, or a DataLoader."""
    return (
        isinstance(given, DataLoader | Dataset)
        or is_ray(given)
        or (isinstance(given, Sized) and hasattr(given, "__getitem__"))
    )


def is_ray(dataset: Any) -> bool:
    """Return whether a dataset is one of Ray Data, which is not imported here."""
    return hasattr(dataset, "iter_torch_batches") and hasattr(dataset, "materialize")


def _by_name(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the splits of a dict under the names that raynas has for them, in its order."""
    for word in given:
        if word not in WORDS:
            raise ValueError(f"data: no split is called {word!r}; {nearest(str(word), WORDS)}")
    named = {WORDS[word]: part for word, part in given.items()}
    if "train" not in named or len(named) < len(given):
        raise ValueError(f"data: expected one train and one valid split, got {sorted(given)}")
    return {split: named[split] for split in NAMES if split in named}


def _source(given: Any, split: str) -> Source:
    source = _of_loader(given, split) if isinstance(given, DataLoader) else Source(split, given)
    dataset, kind = source.dataset, type(source.dataset).__name__
    if is_ray(dataset):
        return source
    if isinstance(dataset, IterableDataset):
        if not isinstance(dataset, Sized):
            raise TypeError(
                f"data: the {split} split must be a dataset with a length, got a {kind}: define "
                "its __len__, the number of examples of an epoch"
            )
    elif not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
        raise TypeError(f"data: the {split} split must be a dataset with a length, got a {kind}")
    if not len(dataset):
        raise ValueError(f"data: the {split} split is empty")
    return source


def _of_loader(loader: DataLoader[Any], split: str) -> Source:
    """Return the source behind a DataLoader, which is made anew for every epoch's order."""
    if loader.batch_sampler is None and not isinstance(loader.dataset, IterableDataset):
        raise ValueError(
            f"data: the {split} DataLoader has batch_size=None, so that its items are batches; "
            "give a dataset of examples"
        )
    if loader.worker_init_fn is not None:
        text = f"data: worker_init_fn of the {split} DataLoader is not called; raynas seeds readers"
        warnings.warn(text, DataWarning, stacklevel=2)
    collate = loader.collate_fn
    return replace(
        _sampled(loader, split),
        loading=Loading(loader.num_workers, loader.prefetch_factor or 2, loader.pin_memory),
        collate_fn=None if collate is default_collate else collate,
        batch_size=loader.batch_size,
    )


def _sampled(loader: DataLoader[Any], split: str) -> Source:
    """Return the loader's dataset, and its sampler where raynas may not choose the order."""
    dataset, sampler = loader.dataset, loader.sampler
    if isinstance(dataset, IterableDataset):
        return Source(split, dataset)
    if loader.batch_size is None:
        return Source(split, dataset, sampler=loader.batch_sampler)
    if type(sampler) is SubsetRandomSampler:
        return Source(split, Subset(dataset, list(sampler.indices)))
    whole = type(sampler) in (SequentialSampler, DistributedSampler) or (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.num_samples == len(dataset)  # type: ignore[arg-type]
    )
    return Source(split, dataset, sampler=None if whole else sampler)


def _divided(source: Source, split_seed: int) -> tuple[Source, Source]:
    """Return train and valid, drawn from one source, after saying so.

    Raises:
        ValueError: it is read in an order of its own, or has one example only.
    """
    dataset, kind = source.dataset, type(source.dataset).__name__
    if isinstance(dataset, IterableDataset) or source.sampler is not None:
        raise ValueError(
            f"data: a {kind} that is read in its own order cannot be split by seed; give (train, "
            "valid)"
        )
    count = int(dataset.count()) if is_ray(dataset) else len(dataset)
    if count < 2:
        raise ValueError(
            f"data: {count} example cannot be split into train and valid; give two at least, or "
            "(train, valid)"
        )
    few = max(1, round(VALID_SHARE * count))
    text = (
        f"data: one dataset alone is split by seed {split_seed}: {count - few} examples to train, "
        f"{few} to validate; give (train, valid) to split it otherwise"
    )
    warnings.warn(text, DataWarning, stacklevel=2)
    if is_ray(dataset):
        train, valid = dataset.train_test_split(few, shuffle=True, seed=split_seed)
    else:
        order = np.random.default_rng(split_seed).permutation(count)
        train, valid = (_subset(dataset, part) for part in (order[few:], order[:few]))
    return replace(source, dataset=train), replace(source, dataset=valid, split="valid")


def _subset(dataset: Any, indices: np.ndarray[Any, Any]) -> Any:
    if tensors := plain_tensors(dataset):
        return TensorDataset(*(tensor[indices] for tensor in tensors))
    return Subset(dataset, indices.tolist())
