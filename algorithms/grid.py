"""Grid search: every architecture once, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Literal, get_args

import numpy as np

from raynas.core.alias import Alias
from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision, Subset, Subspace
from raynas.core.deduplicator import Deduplicator
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.trial import Trial

PATIENCE = 5_000  # architectures beyond the bounds that are passed over for one within

Order = Literal["shuffled", "first_fastest", "last_fastest"]


@SAMPLERS.register(
    "grid",
    aliases={
        "GridSearchOptim": Alias(presets={"order": "first_fastest"}),
        "GridSearch": Alias(),
    },
)
class GridSearch(Sampler):
    """Counts through the space like an odometer: the last decision turns fastest.

    Differs: the options of each decision are shuffled by the seed, so that a grid cut short does
    not always see the first options only. Where thousands in a row break the space's bounds, the
    next one is drawn and mutated until it keeps them, as by ``random``; half as many are passed
    over for the one after it.

    Args:
        space: what is searched.
        seed: fixes the order, where it is shuffled.
        order: ``shuffled``, options in random order and the last decision fastest; or options as
            the space has them, and ``first_fastest`` or ``last_fastest`` which decision turns
            fastest.

    Raises:
        ValueError: another order.
    """

    startup: int | None = None

    def __init__(self, space: ArchSpace, *, seed: int, order: Order = "shuffled") -> None:
        if order not in get_args(Order):
            raise ValueError(f"order is one of {', '.join(get_args(Order))}, got {order!r}")
        rng = np.random.default_rng(seed)
        self._space, self._rng = space, rng
        self._visited = Deduplicator(space, rng)
        self._patience = PATIENCE
        if order == "shuffled":
            self._rest = _in_shuffled_order(space, rng)
        else:
            self._rest = iter(space if order == "last_fastest" else _reversed(space, {}))

    def ask(self) -> Arch:
        """Return the next architecture that was neither proposed nor told before."""
        bounded = self._space.violation is not None
        for arch in islice(self._rest, self._patience if bounded else None):
            if self._visited.is_open(arch):
                self._visited.add(arch)
                self._patience = PATIENCE
                return arch
        if bounded:
            self._patience = max(1, self._patience // 2)
            return self._visited.propose(lambda: self._space.sample(self._rng))
        raise self._visited.exhausted()

    def tell(self, trial: Trial) -> None:
        """Count the architecture as seen; its score changes nothing."""
        self._visited.add(trial.arch)


def _in_shuffled_order(space: ArchSpace, rng: np.random.Generator) -> Iterator[Arch]:
    """Yield every architecture of the space once, without listing them first."""
    subsets = [d for d in space.decisions.values() if isinstance(d, Subset)]
    for arch in _shuffled(space, rng, {}):
        in_order: dict[str, Value] = {}
        for subset in subsets:
            if isinstance(picked := arch.get(subset.label), tuple):
                in_order[subset.label] = tuple(o for o in subset.options if o in picked)
        yield Arch(arch | in_order)


def _reversed(space: Subspace, turned: dict[str, Decision]) -> ArchSpace:
    """Return the same space with its decisions in reverse order, inside of options too."""
    for decision in space.choices:
        if decision.label not in turned:
            opens = {option: _reversed(inner, turned) for option, inner in decision.opens.items()}
            turned[decision.label] = replace(decision, opens=opens)
    return ArchSpace(tuple(turned[decision.label] for decision in reversed(space.choices)))


def _shuffled(
    space: Subspace, rng: np.random.Generator, shuffled: dict[str, Decision]
) -> ArchSpace:
    """Return the same space with the options of every decision in random order."""
    for decision in space.choices:
        if decision.label not in shuffled:
            opens = {o: _shuffled(inner, rng, shuffled) for o, inner in decision.opens.items()}
            order = rng.permutation(len(decision.options)).tolist()
            options = tuple(decision.options[i] for i in order)
            shuffled[decision.label] = replace(decision, options=options, opens=opens)
    return ArchSpace(tuple(shuffled[decision.label] for decision in space.choices))
