"""A space in blocks: decisions that are scored together, each with its variants beside a parent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset

Pick = tuple[int, ...]  # of each block, which of its variants


@dataclass(frozen=True)
class Block:
    """Decisions that are scored together.

    Attributes:
        space: of these decisions and all that they open.
        variants: its architectures; the parent's own comes first.
    """

    space: ArchSpace
    variants: tuple[Arch, ...]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {variant.key: number for number, variant in enumerate(self.variants)}

    def number(self, arch: Mapping[str, Value]) -> int | None:
        """Return which variant an architecture of the whole space has; None if none of them."""
        own = Arch({label: arch[label] for label in self.space.labels if label in arch})
        return self._numbers.get(own.key)


@dataclass(frozen=True)
class Blocks:
    """A space as a product of blocks, some decisions being held as the parent has them.

    Attributes:
        parent: the architecture in which blocks are replaced.
        blocks: those that have several variants.
        held: labels of the decisions that stay as in the parent.
        ties: pairs of blocks whose costs do not add up, such as the width of a residual sum and a
            layer that reads it; the costs of three blocks follow from those of their pairs.
    """

    parent: Arch
    blocks: tuple[Block, ...]
    held: tuple[str, ...]
    ties: tuple[tuple[int, int], ...] = ()

    @property
    def zero(self) -> Pick:
        """The parent's variants."""
        return (0,) * len(self.blocks)

    @property
    def corner(self) -> Pick:
        """The variants of the smallest numbers, and of last options where they are none."""
        ends = [b.space.decided(lambda decision: end(decision, last=False)) for b in self.blocks]
        numbers = (b.number(arch) for b, arch in zip(self.blocks, ends, strict=True))
        return tuple(number or 0 for number in numbers)

    def drawn(self, rng: np.random.Generator) -> Pick:
        """Return random variants."""
        return tuple(int(rng.integers(size)) for size in self.sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many variants each block has."""
        return tuple(len(block.variants) for block in self.blocks)

    def arch(self, pick: Sequence[int]) -> Arch:
        """Return the architecture of one variant for each block."""
        taken = {label: self.parent[label] for label in self.held if label in self.parent}
        for block, number in zip(self.blocks, pick, strict=True):
            taken |= dict(block.variants[number])
        return Arch(taken)

    def pick(self, arch: Mapping[str, Value]) -> Pick | None:
        """Return the variants of an architecture; None where it differs in what is held."""
        if any(arch.get(label) != self.parent.get(label) for label in self.held):
            return None
        numbers = [block.number(arch) for block in self.blocks]
        return None if None in numbers else tuple(n for n in numbers if n is not None)

    def replaced(self, numbers: Mapping[int, int]) -> Pick:
        """Return the parent's variants but for some blocks.

        Args:
            numbers: of variants, by the position of their block.
        """
        return tuple(numbers.get(at, 0) for at in range(len(self.blocks)))

    def singles(self) -> Iterator[Pick]:
        """Yield what replaces one block of the parent, block by block."""
        for at, size in enumerate(self.sizes):
            for number in range(1, size):
                yield self.replaced({at: number})

    def space_of(self, space: ArchSpace) -> ArchSpace:
        """Return the part of a space that the blocks span, within its bounds."""
        held = [_held(d, self.parent) for d in space.choices if d.label in self.held]
        free = [d for block in self.blocks for d in block.space.choices]
        return ArchSpace((*held, *free), space.isomorphism, space.violation)


def largest(space: ArchSpace) -> Arch:
    """Return the architecture of the largest numbers, and of first options where they are none.

    >>> largest(ArchSpace.of(width=[16, 64, 32], op=["conv", "pool"]))
    Arch({'width': 64, 'op': 'conv'})
    """
    return space.decided(lambda decision: end(decision, last=True))


def end(decision: Decision, *, last: bool) -> Value:
    """Return a decision's largest or smallest number; of others the first, or the last, option."""
    if isinstance(decision, Subset):
        most = len(decision.options) if decision.k is None else decision.k
        least = 0 if decision.k is None else decision.k
        return decision.options[: most if last else least]
    numbers = [option for option in decision.options if type(option) in (int, float)]
    if len(numbers) < len(decision.options):
        return decision.options[0 if last else -1]
    return max(numbers) if last else min(numbers)  # type: ignore[type-var]


def _held(decision: Decision, parent: Arch) -> Decision:
    """Return a decision, with all that it opens, that can be taken as the parent has it alone."""
    value = parent[decision.label]
    picked = (value,) if isinstance(decision, Choice) else value
    assert isinstance(picked, tuple)
    opens = {
        option: ArchSpace(tuple(_held(d, parent) for d in decision.opens[option].choices))
        for option in picked
        if option in decision.opens
    }
    if isinstance(decision, Choice):
        return Choice(decision.label, picked, opens)
    return Subset(decision.label, picked or decision.options[:1], len(picked), opens)
