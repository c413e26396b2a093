"""REINFORCE over a factorised policy (Williams, 1992; for architectures: arXiv:1611.01578)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.categorical import decide
from raynas.core.decision import Choice, Decision
from raynas.core.deduplicator import Deduplicator
from raynas.core.ranking import scores_of
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.trial import Trial

Vector = NDArray[np.float64]

BOUND = 10.0


@SAMPLERS.register("reinforce", aliases=("PolicyBasedRL",))
class Reinforce(Sampler):
    """Learns one logit per option by gradient ascent on the expected score.

    Every reached decision with logits l picks a set S of options with a probability proportional
    to exp(sum of l over S): a softmax for a ``Choice``, k of n for a ``Subset``, independent
    coins where it may pick any number. The gradient of the log-probability is then 1[i in S] minus
    the chance that option i is picked.

    Differs: the advantage (score minus a moving average of scores) is divided by a moving standard
    deviation, so that no setting depends on the metric's scale; no architecture is proposed twice:
    where the policy draws nothing new, a random change of what it drew is proposed, and learned
    from as if drawn. Strangers' trials move neither policy nor baseline: they were not drawn from
    the policy.

    Args:
        space: what is searched.
        seed: fixes the run.
        learning_rate: step along the gradient (ours).
        baseline_decay: weight of the past in the moving averages.
        entropy: weight of the policy's entropy, in standard deviations of the score (ours).

    Raises:
        ValueError: unless learning_rate > 0, 0 <= baseline_decay < 1 and entropy >= 0.
    """

    def __init__(
        self,
        space: ArchSpace,
        *,
        seed: int,
        learning_rate: float = 0.3,
        baseline_decay: float = 0.8,
        entropy: float = 0.1,
    ) -> None:
        if not (learning_rate > 0 and 0 <= baseline_decay < 1 and entropy >= 0):
            raise ValueError(
                "expected learning_rate > 0, 0 <= baseline_decay < 1 and entropy >= 0, got "
                f"{learning_rate}, {baseline_decay} and {entropy}"
            )
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._visited = Deduplicator(space, self._rng)
        self._rate, self._entropy = learning_rate, entropy
        self._logits = {label: np.zeros(len(d.options)) for label, d in space.decisions.items()}
        self._baseline = Baseline(baseline_decay)
        self._flying: set[str] = set()

    def ask(self) -> Arch:
        """Return an unseen architecture drawn from the policy, or changed from one that was."""
        arch = self._visited.propose(self._draw)
        self._flying.add(arch.key)
        return arch

    def _draw(self) -> Arch:
        arch = decide(self._space, self._value, self._rng)
        movable = arch in self._visited and self._space.size() > 1
        return self._space.mutate(arch, self._rng) if movable else arch

    def _value(self, decision: Decision) -> Value:
        bits = draw(self._logits[decision.label], _number(decision), self._rng)
        if isinstance(decision, Choice):
            return decision.options[int(bits.argmax())]
        return tuple(o for o, bit in zip(decision.options, bits, strict=True) if bit)

    def tell(self, trial: Trial) -> None:
        """Move the policy towards an own trial that is better than the average, or away from it."""
        self._visited.add(trial.arch)
        own = trial.arch.key in self._flying
        self._flying.discard(trial.arch.key)
        scores = scores_of(trial)
        if not own or scores is None:
            return
        advantage = self._baseline.advantage(scores[0])
        for label, decision in self._space.reached(trial.arch).items():
            logits, k = self._logits[label], _number(decision)
            bits = np.array(decision.encode(trial.arch[label]))
            ascent = advantage * (bits - chances(logits, k))
            ascent += self._entropy * entropy_gradient(logits, k)
            # bounded, so that no option is ever beyond reach
            self._logits[label] = np.clip(logits + self._rate * ascent, -BOUND, BOUND)


class Baseline:
    """Moving mean and deviation of the scores; plain ones until the decay is the slower.

    >>> baseline = Baseline(0.9)
    >>> [round(baseline.advantage(score), 3) for score in (5.0, 9.0, 1.0)]
    [0.0, 1.414, -1.441]
    """

    def __init__(self, decay: float) -> None:
        self.mean = 0.0
        self.variance = 0.0
        self._decay = decay
        self._count = 0

    def advantage(self, score: float) -> float:
        """Return by how many deviations a score lies above the mean before it; then count it."""
        self._count += 1
        weight = max(1 - self._decay, 1 / self._count)
        above = score - self.mean if self._count > 1 else 0.0
        self.mean = score if self._count == 1 else self.mean + weight * above
        self.variance += weight * (above**2 - self.variance)
        return above / math.sqrt(self.variance) if self.variance > 0 else 0.0


def _number(decision: Decision) -> int | None:
    return 1 if isinstance(decision, Choice) else decision.k


def draw(logits: Vector, k: int | None, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a set of k options (of any number if None), shape (options,)."""
    coins = rng.random(len(logits))
    if k is None:
        return coins < chances(logits, None)
    weights = np.exp(logits - logits.max())
    sums = _sums(weights, k)
    bits = np.zeros(len(logits), dtype=bool)
    for i, coin in enumerate(coins):
        bits[i] = k > 0 and coin * sums[i, k] < weights[i] * sums[i + 1, k - 1]
        k -= int(bits[i])
    return bits


def chances(logits: Vector, k: int | None) -> Vector:
    """Return how likely each option is picked, shape (options,).

    >>> chances(np.log([1.0, 2.0, 3.0]), 1).round(3).tolist()
    [0.167, 0.333, 0.5]
    >>> chances(np.log([1.0, 2.0, 3.0]), 2).round(3).tolist()  # sets weigh 2, 3 and 6
    [0.455, 0.727, 0.818]
    """
    if k is None:
        return np.asarray(1 / (1 + np.exp(-logits)))
    if k == 0:
        return np.zeros(len(logits))
    weights = np.exp(logits - logits.max())
    if k == 1:
        return np.asarray(weights / weights.sum())
    others = [_sums(np.delete(weights, i), k - 1)[0, k - 1] for i in range(len(weights))]
    return np.asarray(weights * others / _sums(weights, k)[0, k])


def _sums(weights: Vector, k: int) -> Vector:
    """Return at [i, j] the total weight of all sets of j from option i on (their products)."""
    sums = np.zeros((len(weights) + 1, k + 1))
    sums[:, 0] = 1.0
    for i in reversed(range(len(weights))):
        sums[i, 1:] = sums[i + 1, 1:] + weights[i] * sums[i + 1, :-1]
    return sums


def entropy_gradient(logits: Vector, k: int | None) -> Vector:
    """Return how the entropy grows with each logit, shape (options,).

    It is minus the covariance of the picks times the logits, which is how the chances change as all
    logits grow in proportion: a central difference, good to eight digits.
    """
    step = 1e-4
    grown, shrunk = chances(logits * (1 + step), k), chances(logits * (1 - step), k)
    return np.asarray((shrunk - grown) / (2 * step))
