"""Samples of large products of cases: ``make test`` runs a sample, ``make test-all`` every case."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import pytest

Case = tuple[Any, ...]
Shows = Callable[[Case], Iterable[Hashable]]


def representative(cases: Sequence[Case], shows: Shows, seed: int) -> list[Case]:
    """Return cases, few of them, that show whatever any of the cases does.

    Args:
        cases: in any order.
        shows: the properties of a case.
        seed: of the order in which the cases are looked at; one that shows nothing new is left out.
    """
    seen: set[Hashable] = set()
    kept = set()
    for case in random.Random(seed).sample(cases, len(cases)):
        if new := set(shows(case)) - seen:
            seen |= new
            kept.add(case)
    return [case for case in cases if case in kept]


def sampled(cases: Sequence[Case], shows: Shows, seed: int) -> list[Any]:
    """Return all cases for ``parametrize``; those outside of the sample are marked ``full``."""
    kept = set(representative(cases, shows, seed))
    return [pytest.param(*c, marks=() if c in kept else pytest.mark.full) for c in cases]
