"""Inputs of a model with what it makes of them, and fewer of their rows."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest, leaves, rows, taken
from raynas.nn.conversion.laws import agree, outputs


@dataclass(frozen=True)
class Sample:
    """Inputs, and what a model makes of them.

    Attributes:
        inputs: a batch.
        outputs: the model's.
    """

    inputs: Nest
    outputs: list[Tensor]

    def first_rows(self, model: nn.Module, count: int) -> Sample:
        """Return the first so many rows, where the model takes them as it takes all."""
        if rows(self.inputs) <= count:
            return self
        few = taken(self.inputs, slice(count))
        try:
            made = outputs(model, few)
        except Exception:
            return self
        lengths = [len(t) for t in made if t.dim()]
        return Sample(few, made) if lengths == [count] * len(made) else self


def sample_of(model: nn.Module, example: Nest) -> Sample:
    """Return an example with what a model makes of it, which is the same each time.

    Raises:
        InvalidSpace: it takes none such, or gives different outputs.
    """
    name = type(model).__name__
    try:
        first = outputs(model, example)
    except Exception as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        shapes = [tuple(leaf.shape) for leaf in leaves(example) if isinstance(leaf, Tensor)]
        raise InvalidSpace(
            f"{name} does not take the example, of shapes {shapes}: {text}"
        ) from error
    if not first:
        raise InvalidSpace(
            f"{name} returns no tensors that could be compared: expected a tensor, or tuples, "
            "lists, dicts or dataclasses of tensors"
        )
    if not agree(first, outputs(model, example)):
        raise InvalidSpace(
            f"{name} gives different outputs for one input in evaluation mode: what depends on "
            "chance or on earlier passes cannot be compared, so nothing can be made elastic"
        )
    return Sample(example, first)
