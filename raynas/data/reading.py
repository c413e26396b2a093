"""How items become batches: collation, types, and one sentence on what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from raynas.core.nest import Nest, described, mapped, zipped
from raynas.data.errors import ReadError, in_words
from raynas.data.examples import as_float32, example_of, model_inputs, settled


@dataclass(frozen=True)
class Reading:
    """How the items of a data set become batches of examples.

    Attributes:
        labels: key of a dict item's target; None takes the first usual one.
        collate_fn: makes a batch of a list of items; None stacks them.
        prepare: makes of a batch of inputs, as it is kept, what the model gets.
        float32: whether floats of other types are read in float32.
    """

    labels: str | None = None
    collate_fn: Callable[[list[Any]], Any] | None = None
    prepare: Callable[[Nest], Nest] = model_inputs
    float32: bool = False

    def batch(self, items: Sequence[Any], split: str, indices: Sequence[int]) -> tuple[Nest, Nest]:
        """Return inputs and targets, the batch first.

        Args:
            items: as the data set gives them.
            split: that they are of.
            indices: of the items, for messages.

        Raises:
            TypeError, ValueError: the items do not fit, as ``example_of`` says, or each other.
            ReadError: ``collate_fn`` raises.
        """
        return self.settled(*self._collated(items, split, indices))

    def settled(self, inputs: Nest, targets: Nest) -> tuple[Nest, Nest]:
        """Return a batch in the types that it is kept in."""
        inputs, targets = settled(inputs, targets)
        return (as_float32(inputs), as_float32(targets)) if self.float32 else (inputs, targets)

    def _collated(
        self, items: Sequence[Any], split: str, indices: Sequence[int]
    ) -> tuple[Nest, Nest]:
        if self.collate_fn is None:
            pairs = zip(items, indices, strict=True)
            examples = [example_of(item, f"{split}[{at}]", self.labels) for item, at in pairs]
            return stacked(examples, split, indices)
        where = f"{split}[{indices[0]}]" + (f" and {len(items) - 1} more" if items[1:] else "")
        try:
            batch = self.collate_fn(list(items))
        except Exception as error:
            raise ReadError(f"data: collate_fn raised {in_words(error)} for {where}") from error
        return example_of(batch, f"what collate_fn made of {where}", self.labels)


def stacked(
    examples: Sequence[tuple[Nest, Nest]], split: str, indices: Sequence[int]
) -> tuple[Nest, Nest]:
    """Return one batch of examples that are alike.

    Raises:
        ValueError: they are of different shapes or structure; two are named.
    """
    inputs = [example[0] for example in examples]
    targets = [example[1] for example in examples]
    try:
        some = None if all(target is None for target in targets) else zipped(torch.stack, targets)
        return zipped(torch.stack, inputs), some
    except (RuntimeError, TypeError, ValueError, KeyError):
        _explain("inputs", inputs, split, indices)
        _explain("targets", targets, split, indices)
        raise


def joined(batches: Sequence[tuple[Nest, Nest]]) -> tuple[Nest, Nest]:
    """Return one batch of several."""
    if len(batches) == 1:
        return batches[0]
    inputs = zipped(torch.cat, [batch[0] for batch in batches])
    if batches[0][1] is None:
        return inputs, None
    return inputs, zipped(torch.cat, [batch[1] for batch in batches])


def _explain(role: str, nests: Sequence[Nest], split: str, indices: Sequence[int]) -> None:
    """Raise ValueError, naming the first that is of another shape than the first of all."""
    first = _shapes(nests[0])
    for at, nest in zip(indices, nests, strict=True):
        if _shapes(nest) != first:
            raise ValueError(
                f"data: {split} has {role} of different shapes: {described(nests[0])} in "
                f"{split}[{indices[0]}] and {described(nest)} in {split}[{at}]; make them alike in "
                "the dataset's transform, or pass collate_fn"
            )


def _shapes(nest: Nest) -> object:
    return None if nest is None else mapped(lambda leaf: tuple(leaf.shape), nest)


def read(dataset: Any, index: int, split: str) -> Any:
    """Return an item.

    Raises:
        ReadError: the data set raises.
    """
    try:
        return dataset[index]
    except ReadError:  # of a data set inside this one
        raise
    except Exception as error:
        raise _read_error(dataset, index, split, error) from error


def read_in_turn(
    dataset: Any, split: str, before: Callable[[int], None] = lambda _: None
) -> Iterator[Any]:
    """Yield as many items of an iterable data set as it says that it has.

    Args:
        dataset: that is iterated, from its beginning.
        split: that it is.
        before: called with the position of every item that is about to be read.

    Raises:
        ReadError: it raises, or ends before.
    """
    items = None
    for at in range(len(dataset)):
        before(at)
        try:
            items = iter(dataset) if items is None else items
            item = next(items)
        except StopIteration:
            kind = type(dataset).__name__
            raise ReadError(
                f"data: the {split} split, a {kind}, ended after {at} examples, and its length is "
                f"{len(dataset)}"
            ) from None
        except ReadError:
            raise
        except Exception as error:
            raise _read_error(dataset, at, split, error) from error
        yield item


def _read_error(dataset: Any, index: int, split: str, error: Exception) -> ReadError:
    return ReadError(f"data: {split}[{index}] of {type(dataset).__name__} raised {in_words(error)}")
