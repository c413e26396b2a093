"""Dividing a space into blocks: what costs together is scored together, or tied in pairs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.blocks import Block, Blocks, end
from raynas.core.decision import Decision
from raynas.core.feasible import Cheap
from raynas.core.metrics import PEAKS

MAX_VARIANTS = 64
MAX_PAIRED = 4000  # pairs of variants in tied blocks: a program of more takes many seconds
CHECKED = 8  # random architectures whose costs are compared with those of pairs
EXACT = 1e-9  # share of a cost by which sums may differ from it

Unit = tuple[Decision, ...]
Ties = list[set[int]]  # by number, which others a unit costs something with that is no sum


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
    gives more variants than ``max_variants``, the decision that costs together with most others, as
    the width of a residual sum, becomes a block of its own that is tied to these, until no block
    has more. It is held as the parent has it where costs of three such blocks together are none of
    pairs, or more than 4,000 pairs of variants would be tied.

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
    known = [_corner(units)]
    division = _divided(units, _ties(parent, units, costs, known), max_variants)
    blocks = _within(division, parent, MAX_PAIRED)
    if costs is not None and not _explained(blocks, costs):
        known.append(_drawn(units))  # what does not show at the corner
        division = _divided(units, _ties(parent, units, costs, known), max_variants)
        blocks = _within(division, parent, MAX_PAIRED)
        while division.shared and not _explained(blocks, costs):
            division.hold()
            blocks = division.blocks(parent)
    if not blocks.blocks and space.size() > 1:
        raise ValueError(
            f"no block has between 2 and max_variants={max_variants} variants, as all decisions "
            "depend on each other: allow more, or search with another algorithm"
        )
    return blocks


@dataclass
class _Division:
    """Units by what becomes of them.

    Attributes:
        units: all.
        ties: of them.
        groups: of units that make a block.
        shared: units that are a block each and tied to others, those with most ties first.
        held: units that stay as in the parent.
    """

    units: Sequence[Unit]
    ties: Ties
    groups: list[list[int]]
    shared: list[int]
    held: list[int]

    def hold(self) -> None:
        """Hold the first of the shared ones."""
        self.held.append(self.shared.pop(0))

    def blocks(self, parent: Arch) -> Blocks:
        """Return the blocks."""
        groups = sorted([*self.groups, *([unit] for unit in self.shared)])
        made = [_block([d for i in group for d in self.units[i]], parent) for group in groups]
        several = [at for at, block in enumerate(made) if len(block.variants) > 1]
        ties = [
            (a, b)
            for (a, first), (b, other) in combinations(enumerate(several), 2)
            if any(self.ties[i] & set(groups[other]) for i in groups[first])
        ]
        alone = [label for b in made if len(b.variants) == 1 for label in b.space.labels]
        held = [label for i in sorted(self.held) for label in ArchSpace(self.units[i]).labels]
        return Blocks(parent, tuple(made[at] for at in several), (*held, *alone), tuple(ties))


def _divided(units: Sequence[Unit], ties: Ties, max_variants: int) -> _Division:
    free, shared, held = set(range(len(units))), list[int](), list[int]()
    sizes = [ArchSpace(unit).size() for unit in units]
    while True:
        groups = _components(free, ties)
        wide = [group for group in groups if math.prod(sizes[i] for i in group) > max_variants]
        if not wide:
            return _Division(units, ties, groups, shared, held)
        group = wide[0]
        hub = max(group, key=lambda i: (len(ties[i] & set(group)), sizes[i], -i))
        free.remove(hub)
        (held if sizes[hub] > max_variants else shared).append(hub)


def _within(division: _Division, parent: Arch, most: int) -> Blocks:
    """Return blocks of which no more pairs of variants are tied, more units being held."""
    while True:
        blocks = division.blocks(parent)
        if not division.shared or sum(_cells(blocks)) <= most:
            return blocks
        division.hold()


def _cells(blocks: Blocks) -> list[int]:
    return [blocks.sizes[a] * blocks.sizes[b] for a, b in blocks.ties]


def _explained(blocks: Blocks, costs: Cheap) -> bool:
    """Return whether costs of the smallest and of random ones follow from those of tied pairs."""
    rng, whole = np.random.default_rng(0), _sums(costs(blocks.parent))

    def beside(pick: Mapping[int, int]) -> Mapping[str, float]:
        metrics = costs(blocks.arch(blocks.replaced(pick)))
        return {name: metrics[name] - value for name, value in whole.items()}

    for pick in (blocks.corner, *(blocks.drawn(rng) for _ in range(CHECKED))):
        real = beside(dict(enumerate(pick)))
        told = dict.fromkeys(whole, 0.0)
        alone = [beside({at: number}) for at, number in enumerate(pick)]
        pairs = [beside({a: pick[a], b: pick[b]}) for a, b in blocks.ties]
        for name in whole:
            told[name] = sum(each[name] for each in alone)
            for (a, b), both in zip(blocks.ties, pairs, strict=True):
                told[name] += both[name] - alone[a][name] - alone[b][name]
            if not close(told[name], real[name], whole[name]):
                return False
    return True


def close(first: float, other: float, scale: float) -> bool:
    """Return whether two costs agree, up to rounding of sums of the scale's size."""
    return abs(first - other) <= EXACT * max(abs(scale), abs(first), abs(other))


def _sums(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in PEAKS}


def _units(space: ArchSpace) -> list[Unit]:
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


def _corner(units: Sequence[Unit]) -> list[Arch]:
    """Return the smallest of each unit."""
    return [ArchSpace(unit).decided(lambda d: end(d, last=False)) for unit in units]


def _drawn(units: Sequence[Unit]) -> list[Arch]:
    rng = np.random.default_rng(0)
    return [ArchSpace(unit).sample(rng) for unit in units]


def _ties(
    parent: Arch, units: Sequence[Unit], costs: Cheap | None, probes: Sequence[Sequence[Arch]]
) -> Ties:
    """Return with which others each unit costs something that is no sum.

    Seen in the second difference of the costs where both are as in one of the probes.
    """
    ties: Ties = [set() for _ in units]
    if costs is None:
        return ties
    labels = [ArchSpace(unit).labels for unit in units]
    whole = _sums(costs(parent))
    for probe in probes:

        def cost(*changed: int, probe: Sequence[Arch] = probe) -> dict[str, float]:
            without = {label for i in changed for label in labels[i]}
            taken = {label: value for label, value in parent.items() if label not in without}
            for i in changed:
                taken |= dict(probe[i])
            return _sums(costs(Arch(taken)))

        alone = [cost(i) for i in range(len(units))]
        for i, j in combinations(range(len(units)), 2):
            if j in ties[i]:
                continue
            for name, value in cost(i, j).items():
                added = alone[i][name] + alone[j][name] - whole[name]
                if not close(value, added, whole[name]):
                    ties[i].add(j)
                    ties[j].add(i)
    return ties


def _components(free: set[int], ties: Ties) -> list[list[int]]:
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
