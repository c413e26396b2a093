"""A network that tells a score from the architecture alone (Cai et al., 2020, arXiv:1908.09791).

Once-for-All scores some sub-networks of its supernet, fits a perceptron to what they score, and
searches with that: a prediction takes microseconds where a supernet's forward passes take seconds.
Shapes: N architectures, F values of decisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.codes import Codes, Rows
from raynas.supernet.blas import one_blas_thread

Vector = NDArray[np.float64]

LAYERS = (100, 100, 100)
PENALTY = 1.0  # of squared weights
EPOCHS = 200
HELD_OUT = 0.2
FEWEST = 10  # of fewer architectures none is held out


@dataclass(frozen=True)
class HeldOut:
    """How well a predictor does on architectures that it was not fitted to.

    Attributes:
        fitted: architectures that it was fitted to.
        count: architectures that were held out.
        kendall_tau: rank correlation of what it says with their scores; NaN if all of either are
            equal, or none was held out.
        deviation: root mean square of its errors, in the scores' unit; of the scores themselves
            where none was held out.
    """

    fitted: int
    count: int
    kendall_tau: float
    deviation: float

    def __str__(self) -> str:
        if not self.count:
            return f"fitted to {self.fitted} architectures, none held out"
        return (
            f"fitted to {self.fitted} architectures; on {self.count} held out, Kendall's tau "
            f"{self.kendall_tau:.2f}, error {self.deviation:.3g}"
        )


class AccuracyPredictor:
    """A perceptron of three hidden layers from the values of all decisions to a score.

    An architecture is a 1 for every value that it takes, as a kernel size and an expansion for each
    block and the resolution, and zeros for what it does not reach, as blocks that it skips. What
    is learned is the difference from the mean score, in standard deviations.

    Differs: depths have ones as well; layers of 100 (the authors' have 400) under a penalty of
    squared weights, which errs as little in a ninth of the time; the output keeps its bias.

    Args:
        space: of the architectures.
        seed: of weights, batches, and of which are held out.

    Attributes:
        report: of the last fit; None before.
    """

    def __init__(self, space: ArchSpace, *, seed: int = 0) -> None:
        self._codes, self._seed = Codes(space), seed
        self._net: Any = None
        self._mean, self._scale = 0.0, 1.0
        self.report: HeldOut | None = None

    def fit(self, archs: Sequence[Mapping[str, Value]], scores: Sequence[float]) -> HeldOut:
        """Learn from four fifths of the architectures, and try the network on the others.

        Args:
            archs: of the space.
            scores: one for each, finite.

        Raises:
            ValueError: there are none, or not as many scores, or one is not finite.
        """
        return self.fit_rows(self._rows(archs), np.asarray(scores, dtype=np.float64))

    def fit_rows(self, rows: Rows, scores_N: Vector) -> HeldOut:
        """Learn as ``fit``, from architectures as ``Codes`` of the space have them."""
        if scores_N.shape != (len(rows),) or not len(rows):
            raise ValueError(
                f"expected one score for each of at least one architecture, got {len(rows)} "
                f"architectures and scores of shape {scores_N.shape}"
            )
        if not np.isfinite(scores_N).all():
            raise ValueError("expected finite scores, got nan or infinity among them")
        x_NF = self._codes.one_hot(rows)
        order = np.random.default_rng([self._seed, len(rows)]).permutation(len(rows))
        count = int(HELD_OUT * len(rows)) if len(rows) >= FEWEST else 0
        held, fitted = order[:count], order[count:]
        self._mean, self._scale = float(scores_N[fitted].mean()), float(scores_N[fitted].std())
        differences_N = (scores_N[fitted] - self._mean) / (self._scale or 1.0)
        self._net = _fitted(x_NF[fitted], differences_N, self._seed)
        self.report = self._tried(x_NF[held], scores_N[held], scores_N[fitted])
        return self.report

    def _tried(self, x_NF: NDArray[np.float64], scores_N: Vector, fitted_N: Vector) -> HeldOut:
        from scipy.stats import kendalltau

        if not len(x_NF):
            return HeldOut(len(fitted_N), 0, float("nan"), float(fitted_N.std()))
        said_N = self._said(x_NF)
        deviation = float(np.sqrt(np.mean((said_N - scores_N) ** 2)))
        same = len({*said_N}) < 2 or len({*scores_N}) < 2  # of which SciPy warns
        tau = float("nan") if same else float(kendalltau(said_N, scores_N).statistic)
        return HeldOut(len(fitted_N), len(x_NF), tau, deviation)

    def predict(self, archs: Sequence[Mapping[str, Value]]) -> Vector:
        """Return the expected score of every architecture, shape (N,).

        Raises:
            RuntimeError: nothing was fitted.
        """
        return self.predict_rows(self._rows(archs))

    def predict_rows(self, rows: Rows) -> Vector:
        """Predict as ``predict``, from architectures as ``Codes`` of the space have them."""
        return self._said(self._codes.one_hot(rows))

    def _said(self, x_NF: NDArray[np.float64]) -> Vector:
        if self._net is None:
            raise RuntimeError("the predictor knows no scores yet: call fit first")
        if not len(x_NF):
            return np.zeros(0)
        with one_blas_thread():
            # rounded, so that no linear algebra library's last digits decide an order
            said: Vector = self._mean + self._scale * np.round(self._net.predict(x_NF), 9)
        return said

    def _rows(self, archs: Sequence[Mapping[str, Value]]) -> Rows:
        columns = len(self._codes.sizes)
        rows = [self._codes.encode(arch) for arch in archs]
        return np.array(rows, dtype=np.int32).reshape(len(rows), columns)


def _fitted(x_NF: NDArray[np.float64], differences_N: Vector, seed: int) -> Any:
    """Return the network."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    net = MLPRegressor(
        hidden_layer_sizes=LAYERS, alpha=PENALTY, max_iter=EPOCHS, random_state=seed % 2**32
    )
    with warnings.catch_warnings(), one_blas_thread():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are what is wanted
        return net.fit(x_NF, differences_N)
