"""Architectures that compute the same are one to the model of ``predictor``."""

from __future__ import annotations

import numpy as np
import pytest

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.candidates import Candidates
from raynas.core.canonical_rows import CanonicalRows
from raynas.core.codes import Codes
from raynas.core.kernel_ridge import KernelRidge
from raynas.core.likeness import Likeness
from raynas.search_spaces.nas_bench_201 import LABELS, OPERATIONS, canonical

CELLS = ArchSpace.of(**dict.fromkeys(LABELS, OPERATIONS))
CLASSES = ArchSpace(CELLS.choices, isomorphism=canonical)


def test_rows_of_one_class_are_one() -> None:
    codes, rng = Codes(CLASSES), np.random.default_rng(0)
    rows = codes.uniform(200, rng)
    made = CanonicalRows(codes).of(rows)
    assert [codes.decode(row) for row in made] == [canonical(codes.decode(row)) for row in rows]
    assert (made != rows).any(1).sum() > 20
    assert CanonicalRows(codes).of(rows[:0]).shape == (0, len(LABELS))


def test_a_space_without_classes_compares_what_it_has() -> None:
    assert Likeness.of(Codes(CELLS)).canonical is None
    assert Likeness.of(Codes(CLASSES)).canonical is not None
    deep = ArchSpace(ArchSpace.of(**{f"p{i}": range(5) for i in range(200)}).choices, _itself)
    assert Likeness.of(Codes(deep)).canonical is None


def _itself(arch: Arch) -> Arch:
    return arch


def test_bounds_of_one_class_are_equal() -> None:
    """Also where only another member has been scored, of which the model is then sure."""
    codes, rng = Codes(CLASSES), np.random.default_rng(1)
    rows = codes.uniform(300, rng)
    classes = [canonical(codes.decode(row)).key for row in rows]
    points, targets = rows[:40], rng.standard_normal((40, 1))
    around = Candidates(rows, np.full(len(rows), -1), rows[:0])
    mean, upper = KernelRidge(Likeness.of(codes), points, targets, rows[:0], noise=0.1).bounds(
        around
    )
    several = [key for key in set(classes) if classes.count(key) > 1]
    assert len(several) > 20
    for key in several:
        members = [at for at, own in enumerate(classes) if own == key]
        for bound in (mean, upper):
            assert bound[members] == pytest.approx(np.repeat(bound[members[:1]], len(members), 0))
    plain = KernelRidge(Likeness.of(Codes(CELLS)), points, targets, rows[:0], noise=0.1)
    apart = plain.bounds(around)[0]
    assert any(
        np.ptp(apart[[at for at, own in enumerate(classes) if own == key]]) > 0.1 for key in several
    )
