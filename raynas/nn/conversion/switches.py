"""Switching an elastic model: what each module reads is made once for each value of its labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import product
from math import prod
from operator import itemgetter
from typing import Any
from weakref import WeakValueDictionary

from raynas.core.arch import Value
from raynas.nn.conversion.converted import CUTS
from raynas.nn.conversion.plan import Plan
from raynas.nn.conversion.readers import Reader, Values

Labels = tuple[str, ...]
Update = tuple[dict[str, Any], str, Any]  # what is set, by its name, in a dictionary
Member = Callable[[Values], Update]
Group = tuple[Callable[[Any], Any], dict[Any, list[Update]], list[Member], int]
AT_ONCE = 16  # so many combinations of values are made beforehand
REMEMBERED = 64  # so many are remembered
LAST = 4  # where there are more, the last few are


class CutAttributes(dict[str, Any]):
    """What a module reads in place of its attributes, by their names."""


class Switches:
    """Sets what all modules of a model read.

    Where labels have few combinations of values, what each of them means is made beforehand.

    Args:
        readers: of the model; each of its modules has cuts of its own, empty at first.
        plan: of the model.
    """

    def __init__(self, readers: Iterable[Reader], plan: Plan) -> None:
        self._largest = plan.largest
        self._options = {label: options for label, (_, options) in plan.sizes.items()}
        self._equal: WeakValueDictionary[Any, CutAttributes] = WeakValueDictionary()
        members: dict[Labels, list[Member]] = defaultdict(list)
        for labels, member in self._members(readers):
            members[labels].append(member)
        self._groups = [self._group(labels, several) for labels, several in members.items()]

    def __call__(self, arch: Mapping[str, Value]) -> None:
        """Let the model be an architecture; decisions that are not in it count as the largest."""
        values = dict(self._largest)
        values.update(arch.items())
        for pick, states, members, most in self._groups:
            key = pick(values)
            updates = states.get(key)
            if updates is None:
                if len(states) >= most:
                    states.clear()
                updates = states[key] = [member(values) for member in members]
            for holder, name, value in updates:
                holder[name] = value

    def _members(self, readers: Iterable[Reader]) -> Iterator[tuple[Labels, Member]]:
        by_module: dict[int, list[Reader]] = defaultdict(list)
        for reader in readers:
            by_module[id(reader.module)].append(reader)
        for several in by_module.values():
            labels = tuple(dict.fromkeys(label for reader in several for label in reader.labels))
            if self._combinations(labels) <= REMEMBERED:
                yield labels, partial(self._together, several)
            else:
                yield from ((reader.labels, partial(_alone, reader)) for reader in several)

    def _group(self, labels: Labels, members: list[Member]) -> Group:
        pick, combinations = itemgetter(*labels), self._combinations(labels)
        states: dict[Any, list[Update]] = {}
        if combinations <= AT_ONCE:
            for taken in product(*(self._options[label] for label in labels)):
                values = self._largest | dict(zip(labels, taken, strict=True))
                states[pick(values)] = [member(values) for member in members]
        return pick, states, members, LAST if combinations > REMEMBERED else combinations

    def _combinations(self, labels: Labels) -> int:
        return prod(len(self._options[label]) for label in labels)

    def _together(self, readers: list[Reader], values: Values) -> Update:
        """Return what sets all cuts of a module; modules whose cuts are equal share them."""
        read = {reader.name: reader.read(values) for reader in readers}
        cuts = CutAttributes({name: value for name, value in read.items() if value is not None})
        parts = ((n, v if isinstance(v, int | tuple) else id(v)) for n, v in cuts.items())
        cuts = self._equal.setdefault(frozenset(parts), cuts)
        return vars(readers[0].module), CUTS, cuts


def _alone(reader: Reader, values: Values) -> Update:
    """Return what sets one cut of a module that has too many combinations of them."""
    return vars(reader.module)[CUTS], reader.name, reader.read(values)
