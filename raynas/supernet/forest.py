"""What a random forest expects, and where its trees disagree.

Shapes: N points, F features, C candidates, M objectives.
"""

from __future__ import annotations

import numpy as np

from raynas.core.surrogate import Matrix

TREES = 50


def forest_bounds(
    fitted_NF: Matrix, targets_NM: Matrix, candidates_CF: Matrix, *, seed: int
) -> tuple[Matrix, Matrix]:
    """Return mean and mean + deviation over a random forest's trees, each of shape (C, M)."""
    from sklearn.ensemble import RandomForestRegressor

    mean, upper = [], []
    for target in targets_NM.T:
        forest = RandomForestRegressor(TREES, random_state=seed).fit(fitted_NF, target)
        trees = np.stack([tree.predict(candidates_CF) for tree in forest.estimators_])
        mean.append(trees.mean(0))
        upper.append(trees.mean(0) + trees.std(0))
    return np.round(np.stack(mean, axis=1), 9), np.round(np.stack(upper, axis=1), 9)
