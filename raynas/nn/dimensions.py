"""Which decisions are sizes of elastic layers, and of what: Once-for-All's dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from raynas.core.arch import Atom
from raynas.core.decision import Choice
from raynas.nn.conversion.elastic_model import ElasticModel
from raynas.nn.elastic import Elastic
from raynas.nn.expression import Leaf, assignments, evaluate, leaves_of
from raynas.nn.mutable import mutables
from raynas.nn.repeat import Repeat

DIMENSIONS = ("resolution", "kernel", "depth", "width")


@dataclass(frozen=True)
class Dimension:
    """A decision that makes a model larger or smaller.

    Attributes:
        kind: ``resolution``, ``kernel``, ``depth`` or ``width``.
        sizes: of every option, at most, whatever others decide.
    """

    kind: str
    sizes: Mapping[Atom, float]

    @property
    def options(self) -> list[Atom]:
        """The options from the smallest to the largest."""
        return sorted(self.sizes, key=self.sizes.__getitem__)

    @property
    def largest(self) -> Atom:
        """The option of the whole model."""
        return self.options[-1]


def dimensions_of(model: nn.Module) -> dict[str, Dimension]:
    """Return what elastic layers and rows of blocks depend on, by label, in the model's order.

    Of an existing model that became elastic, heads and MLPs are widths, and layers depths.

    A decision with several meanings counts as the first of them.

    Args:
        model: with labels.
    """
    dimensions: dict[str, Dimension] = {}
    for mutable in mutables(model):
        for label, dimension in _of(mutable):
            dimensions.setdefault(label, dimension)
    return dimensions


def _of(mutable: nn.Module) -> Iterator[tuple[str, Dimension]]:
    if isinstance(mutable, Repeat):
        for decision in mutable.choices():
            if isinstance(decision, Choice) and not isinstance(mutable.depth, int):
                sizes = {o: mutable.picked({decision.label: o}) for o in decision.options}
                yield decision.label, Dimension("depth", sizes)
    elif isinstance(mutable, ElasticModel):
        for label, (kind, options) in mutable.plan.sizes.items():
            yield label, Dimension(kind, {option: float(option) for option in options})
    elif isinstance(mutable, Elastic):
        for argument, kind in mutable.dimensions.items():
            size = mutable.arguments[argument]
            for leaf in leaves_of(size):
                if isinstance(leaf.decision(), Choice):
                    yield leaf.place, Dimension(kind, _sizes(size, leaf))


def _sizes(size: Any, leaf: Leaf) -> dict[Atom, float]:
    """Return the most that a size comes to under every option of one of its values."""
    most: dict[Any, float] = {}
    for arch in assignments(leaves_of(size)):
        value = evaluate(size, arch)
        parts = value if isinstance(value, tuple) else (value,)
        option = arch[leaf.place]
        most[option] = max(most.get(option, 0.0), float(sum(parts)))
    return most
