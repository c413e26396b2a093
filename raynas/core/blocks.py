"""A space in blocks: decisions that cost together, each block with its variants beside a parent."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.feasible import Cheap
from raynas.core.metrics import PEAKS

MAX_VARIANTS = 64
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
    """

    parent: Arch
    blocks: tuple[Block, ...]
    held: tuple[str, ...]

    @property
    def zero(self) -> Pick:
        """The parent's variants."""
        return (0,) * len(self.blocks)

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

    def singles(self) -> Iterator[Pick]:
        """Yield what replaces one block of the parent, block by block."""
        for at, block in enumerate(self.blocks):
            for number in range(1, len(block.variants)):
                yield (*self.zero[:at], number, *self.zero[at + 1 :])

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
    return space.decided(lambda decision: _end(decision, last=True))


def blocks_of(
    space: ArchSpace,
    parent: Arch,
    *,
    costs: Cheap | None = None,
    max_variants: int = MAX_VARIANTS,
) -> Blocks:
    """Return a space in blocks.

    A decision goes with all that it opens, and with those that share a label with it. Decisions
    whose costs are no sum, such as two widths of one layer, make a block together. Where that
    gives more variants than ``max_variants``, the decision that costs together with most others is
    held as the parent has it, as the width of a residual sum, until no block has more.

    Args:
        space: of all decisions.
        parent: in which blocks are replaced.
        costs: of an architecture by metric, all but peaks as sums over layers; None takes the
            decisions for independent.
        max_variants: of a block, at most.

    Raises:
        ValueError: no decision is left that has two values.
    """
    units = _units(space)
    ties = _ties(parent, units, costs)
    free, held = set(range(len(units))), list[int]()
    sizes = [ArchSpace(unit).size() for unit in units]
    while True:
        groups = _components(free, ties)
        wide = [group for group in groups if math.prod(sizes[i] for i in group) > max_variants]
        if not wide:
            break
        group = wide[0]
        hub = max(group, key=lambda i: (len(ties[i] & set(group)), sizes[i], -i))
        free.remove(hub)
        held.append(hub)
    blocks = [_block([d for i in group for d in units[i]], parent) for group in groups]
    several = tuple(block for block in blocks if len(block.variants) > 1)
    if not several and space.size() > 1:
        raise ValueError(
            f"no block has between 2 and max_variants={max_variants} variants, as all decisions "
            "depend on each other: allow more, or search with another algorithm"
        )
    alone = [label for block in blocks if len(block.variants) == 1 for label in block.space.labels]
    held_labels = [label for i in sorted(held) for label in ArchSpace(units[i]).labels]
    return Blocks(parent, several, tuple(held_labels + alone))


def _units(space: ArchSpace) -> list[tuple[Decision, ...]]:
    """Return the decisions at the top, those together that share labels below."""
    owner: dict[str, int] = {}
    home = list(range(len(space.choices)))

    def root(i: int) -> int:
        return i if home[i] == i else root(home[i])

    for i, decision in enumerate(space.choices):
        for label in ArchSpace((decision,)).labels:
            home[root(i)] = root(owner.setdefault(label, i))
    units: dict[int, list[Decision]] = defaultdict(list)
    for i, decision in enumerate(space.choices):
        units[root(i)].append(decision)
    return [tuple(unit) for unit in units.values()]


def _ties(
    parent: Arch, units: Sequence[tuple[Decision, ...]], costs: Cheap | None
) -> list[set[int]]:
    """Return with which others each unit costs something that is no sum.

    Seen in the second difference of the costs where both are at their smallest.
    """
    ties: list[set[int]] = [set() for _ in units]
    if costs is None:
        return ties

    spaces = [ArchSpace(unit) for unit in units]
    least = [s.decided(lambda d: _end(d, last=False)) for s in spaces]

    def cost(*small: int) -> dict[str, float]:
        changed = {label for i in small for label in spaces[i].labels}
        taken = {label: value for label, value in parent.items() if label not in changed}
        for i in small:
            taken |= dict(least[i])
        measured = costs(Arch(taken))
        return {name: value for name, value in measured.items() if name not in PEAKS}

    whole, alone = cost(), [cost(i) for i in range(len(units))]
    for i in range(len(units)):
        for j in range(i):
            both = cost(i, j)
            for name, value in both.items():
                gap = value - alone[i][name] - alone[j][name] + whole[name]
                if abs(gap) > 1e-9 * max(abs(whole[name]), abs(value)):
                    ties[i].add(j)
                    ties[j].add(i)
    return ties


def _components(free: set[int], ties: Sequence[set[int]]) -> list[list[int]]:
    left, groups = set(free), list[list[int]]()
    for first in sorted(free):
        if first not in left:
            continue
        group, waiting = [], [first]
        left.discard(first)
        while waiting:
            group.append(waiting.pop())
            near = ties[group[-1]] & left
            left -= near
            waiting += sorted(near)
        groups.append(sorted(group))
    return groups


def _block(decisions: Sequence[Decision], parent: Arch) -> Block:
    space = ArchSpace(tuple(decisions))
    own = Arch({label: parent[label] for label in space.labels if label in parent})
    return Block(space, (own, *(variant for variant in space if variant != own)))


def _end(decision: Decision, *, last: bool) -> Value:
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
