"""Rows of the architectures that stand for all that compute the same."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from raynas.core.codes import Codes, Rows

KEPT = 20_000  # rows whose representatives are remembered


class CanonicalRows:
    """Replaces rows by those of their representatives.

    Two cells that differ in an edge that leads nowhere share few decisions, and are the same
    network: as representatives they share all.

    Args:
        codes: of a space with an isomorphism.
    """

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        self._remembered = lru_cache(maxsize=KEPT)(self._of_bytes)

    def __bool__(self) -> bool:
        return self._codes.space.isomorphism is not None

    def of(self, rows: Rows) -> Rows:
        """Return the rows of the representatives, shape (N, K) as theirs."""
        if not self or not len(rows):
            return rows
        return np.array([self._remembered(row.tobytes()) for row in rows], dtype=rows.dtype)

    def _of_bytes(self, row: bytes) -> Rows:
        codes = self._codes
        arch = codes.decode(np.frombuffer(row, dtype=np.int32))
        return codes.encode(codes.space.canonical(arch))
