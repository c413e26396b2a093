"""Binary gates whose paths do not follow the logits (ModularNAS' BinGateUniform)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raynas.gradient.mixed.base import MIXED_OPS, Draw
from raynas.gradient.mixed.binary_gate import BinaryGate


@MIXED_OPS.register("uniform_gate", aliases=("BinGateUniform", "BinaryGateUniformMixedOp"))
class UniformGate(BinaryGate):
    """As ``BinaryGate``, but active set and path are drawn uniformly.

    The softmax over the active set still stands in the logits' gradient.

    Args:
        mode: ``two``, ``full`` or ``full_v2``.
    """

    def draw(self, p: NDArray[np.float64], rng: np.random.Generator) -> Draw:
        """Return the position of the active candidate, then those of the others in its set."""
        return super().draw(np.full(len(p), 1.0 / len(p)), rng)
