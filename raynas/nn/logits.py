"""What a differentiable search learns: one vector of logits per label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raynas.core.arch import Atom

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
        picks: how many options an architecture picks.
    """

    label: str
    options: tuple[Atom, ...]
    none: int | None = None
    node: str = ""
    keep: int = 1
    group: str = ""
    picks_none: bool = True
    picks: int = 1
