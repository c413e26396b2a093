"""Hypervolume and knee of a front, by numbers worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from raynas.core.objectives import hypervolume, knee_point

# unit cubes below (3, 1, 1), (1, 2, 1) and (1, 1, 3)
STAIRS = np.array([[3.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 3.0]])


def test_hypervolume_of_boxes_by_hand() -> None:
    zero = np.zeros(3)
    assert hypervolume(STAIRS[:1], zero) == 3.0
    assert hypervolume(STAIRS, zero) == 3 + 1 + 2  # what each has beyond the unit cube they share
    assert hypervolume(np.array([[2.0], [5.0]]), np.array([1.0])) == 4.0
    assert hypervolume(np.array([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]]), np.zeros(2)) == 6.0


def test_copies_beaten_points_and_points_below_the_reference_add_nothing() -> None:
    zero = np.zeros(3)
    more = np.vstack([STAIRS, STAIRS[:1], [[2.0, 1.0, 1.0], [9.0, 9.0, 0.0], [9.0, -1.0, 9.0]]])
    assert hypervolume(more, zero) == hypervolume(STAIRS, zero)
    assert hypervolume(np.empty((0, 3)), zero) == 0.0


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_hypervolume_counts_the_cells_of_a_grid(m: int) -> None:
    rng = np.random.default_rng(m)
    for size in (1, 4, 9):
        points = rng.integers(-1, 5, size=(size, m)).astype(float)
        cells = np.array(list(product(range(-1, 4), repeat=m))) + 1  # upper corners
        inside = np.any(np.all(cells[:, None] <= points[None], axis=2), axis=1)
        assert hypervolume(points, np.full(m, -1.0)) == inside.sum()


def test_the_knee_bulges_furthest_from_the_line_between_the_ends() -> None:
    # shares of the range: (0, 1), (0.5, 0.9), (0.75, 0.5), (1, 0)
    front = np.array([[0.0, 200.0], [2.0, 190.0], [3.0, 150.0], [4.0, 100.0]])
    assert knee_point(front) == 1
    beaten = np.array([[1.9, 189.0], [-50.0, 0.0]])  # which also widen the range of all points
    assert knee_point(np.vstack([beaten, front])) == 3


def test_the_knee_of_one_point_or_of_equal_ones_is_the_first() -> None:
    assert knee_point(np.array([[1.0, 2.0, 3.0]])) == 0
    assert knee_point(np.array([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]])) == 1
    with pytest.raises(ValueError, match="at least one point"):
        knee_point(np.empty((0, 2)))
