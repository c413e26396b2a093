"""All candidates together, some of which are dropped at random.

Bender, Kindermans, Zoph, Vasudevan and Le, 2018, "Understanding and Simplifying One-Shot
Architecture Search" (ICML), section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from raynas.gradient.mixed.base import Draw, Op, weighted

Reduction = Literal["sum", "mean"]


@dataclass
class PathDropout:
    """Combines the candidates that a pass keeps; no logits are learned.

    Of k candidates each is dropped with probability ``progress * rate ** (1 / k)``: were all of
    them dropped independently at the end, that had the probability ``rate``. Differs: where all
    are, one that is drawn uniformly is kept, since a network without a way around the choice would
    compute nothing.

    Args:
        rate: at the end, from 0 to below 1.
        reduction: of the kept candidates' outputs: ``sum``, or ``mean``, whose scale is that of a
            single candidate.

    Attributes:
        progress: share of the training that is done, from 0 to 1.
    """

    rate: float
    reduction: Reduction
    progress: float = 0.0
    combines = nests = True

    def probability(self, candidates: int) -> float:
        """Return with what probability one of so many candidates is dropped now.

        >>> PathDropout(0.25, "sum", progress=0.5).probability(2)
        0.25
        """
        return self.progress * float(self.rate ** (1.0 / candidates))

    def draw(self, p: NDArray[np.float64], rng: np.random.Generator) -> Draw:
        """Return the positions of the candidates that are kept."""
        kept = np.flatnonzero(rng.random(len(p)) >= self.probability(len(p)))
        instead = int(rng.integers(len(p)))
        return tuple(kept.tolist()) or (instead,)

    def __call__(self, ops: Sequence[Op], inputs: Sequence[Any], logits: Tensor, draw: Draw) -> Any:
        """Return the kept candidates' sum or mean; the others do not run."""
        share = 1.0 if self.reduction == "sum" else 1.0 / len(draw)
        return weighted([ops[at] for at in draw], inputs, logits.new_full((len(draw),), share))

    def probabilities(self, logits: Tensor, draw: Draw) -> Tensor:
        """Return equal probabilities, for nothing is preferred."""
        return logits.new_full(logits.shape, 1.0 / len(logits))
