"""What a differentiable search learns: one vector of logits per label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from raynas.core.arch import Atom, Value
from raynas.core.errors import InvalidSpace
from raynas.nn.mutable import outermost

Probabilities = Mapping[str, NDArray[np.float64]]
Rank = Callable[[NDArray[np.float64], int | None], float]


@dataclass(frozen=True)
class Logits:
    """One learned vector.

    Attributes:
        label: of the choice whose candidates it weighs.
        options: the candidates, one logit each.
        none: position of the candidate that gives zeros; None if there is none.
        node: the vectors of one node compete for its places.
        keep: how many places a node has.
        group: vectors that are normalised together (SGAS).
        picks_none: whether an architecture may pick the candidate that gives zeros.
    """

    label: str
    options: tuple[Atom, ...]
    none: int | None = None
    node: str = ""
    keep: int = 1
    group: str = ""
    picks_none: bool = True


def logits_of(model: nn.Module) -> dict[str, Logits]:
    """Return the vectors that a search of the model learns, by label.

    Raises:
        InvalidSpace: a mutable that cannot be relaxed (the message says which and why), or one
            label that stands for two kinds of vectors.
    """
    found: dict[str, Logits] = {}
    for mutable in outermost(model):
        for vector in mutable.logits():
            if found.setdefault(vector.label, vector) != vector:
                raise InvalidSpace(
                    f"label {vector.label!r} stands for {found[vector.label]} and for {vector}"
                )
    return found


def derived(module: nn.Module, p: Probabilities, rank: Rank) -> dict[str, Value]:
    """Return the architecture that probabilities prefer.

    Args:
        module: with mutables.
        p: by label, shape (options,); of cells also by the labels of their nodes' sources, where a
            search weighs edges.
        rank: strength of an edge from its vector and the position of ``none``; a node keeps the
            strongest edges, ties going to the first.
    """
    return {k: v for mutable in outermost(module) for k, v in mutable.derive(p, rank).items()}
