"""Scoring with a supernet's weights (Guo et al., 2020, arXiv:1904.00420)."""

from __future__ import annotations

from raynas.core.evaluator import EVALUATORS


@EVALUATORS.register("shared")
class Shared:
    """Inherits the weights of a supernet, recalibrates BatchNorm, and validates.

    The supernet is trained first unless a trained one is given (``supernet=``). Metrics:
    ``accuracy``, ``loss``, ``params``, ``macs``, ``activation_bytes``.
    """
