"""The best of a search that are evaluated again at its end, and which of them is best then."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from raynas.core.goals import Goals
from raynas.core.objectives import hypervolume, pareto_mask
from raynas.core.study import rank
from raynas.core.trial import Trial


@dataclass(frozen=True, kw_only=True)
class FinalScore:
    """What the evaluations at the end of a search gave of one architecture.

    Attributes:
        objective: mean over seeds of the score that is maximised.
        seeds: how many evaluations.
        means: of each objective's metric, as measured.
        deviations: over seeds, of a sample; of one seed there are none.
    """

    objective: float
    seeds: int
    means: Mapping[str, float]
    deviations: Mapping[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Means and deviations by the names of their columns."""
        means = {f"final_{name}": value for name, value in self.means.items()}
        return means | {f"final_{name}_std": value for name, value in self.deviations.items()}


def finalists(trials: Iterable[Trial], count: int, goals: Goals) -> list[Trial]:
    """Return the trials whose architectures are to be evaluated again, each architecture once.

    With one objective they are the best; of several, those of the front that together dominate
    most, picked one after another (greedy hypervolume, from the worst of the front on).

    Args:
        trials: as the bounds and weights of now judge them.
        count: of them at most.
        goals: of the search.
    """
    ranked = _ranked(trials)
    if not goals.several:
        return ranked[:count]
    scores_NM = np.array([trial.scores for trial in ranked], dtype=np.float64)
    if not len(scores_NM):
        return []
    front = [int(at) for at in np.flatnonzero(pareto_mask(scores_NM))]
    low, high = scores_NM[front].min(0), scores_NM[front].max(0)
    spans = np.where(high > low, high - low, 1.0)
    points_NM = (scores_NM - low) / spans
    worst = np.full(points_NM.shape[1], -0.1)  # beyond the ends, which else would add nothing
    picked: list[int] = []
    while front and len(picked) < count:
        best = max(front, key=lambda at: (hypervolume(points_NM[[*picked, at]], worst), -at))
        picked.append(best)
        front.remove(best)
    return [ranked[at] for at in picked]


def best_trial(trials: Iterable[Trial], finals: Mapping[str, FinalScore]) -> Trial | None:
    """Return the best trial; None if none has a finite objective.

    Where architectures were evaluated at the end of the search, it is the best of these.

    Args:
        trials: as the bounds and weights of now judge them.
        finals: by architecture key.
    """
    ranked = _ranked(trials)
    last = [trial for trial in ranked if trial.arch.key in finals]
    if not last:
        return ranked[0] if ranked else None
    return max(last, key=lambda trial: (finals[trial.arch.key].objective, rank(trial)))


def _ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Return the best trial of every architecture that was scored, the best first."""
    scored = (t for t in trials if t.objective is not None and math.isfinite(t.objective))
    best: dict[str, Trial] = {}
    for trial in sorted(scored, key=rank, reverse=True):
        best.setdefault(trial.arch.key, trial)
    return list(best.values())


def final_scores(by_seed: Sequence[Iterable[Trial]], goals: Goals) -> dict[str, FinalScore]:
    """Return the scores of the architectures that every seed's evaluation has completed.

    Args:
        by_seed: for every seed, the trials of its evaluations.
        goals: of now. Bounds are checked on what was measured again.
    """
    completed = [_completed(trials, goals) for trials in by_seed]
    first, *others = completed or [{}]
    whole = [key for key in first if all(key in seed for seed in others)]
    return {key: _score([seed[key] for seed in completed], goals) for key in whole}


def best_seeds(by_seed: Mapping[int, Iterable[Trial]], goals: Goals) -> dict[str, int]:
    """Return with which seed each architecture was best, by its key; the first where they tie.

    Args:
        by_seed: trials of its evaluations.
        goals: of now.
    """
    best: dict[str, tuple[float, int]] = {}
    for seed, trials in by_seed.items():
        for key, trial in _completed(trials, goals).items():
            score = goals.merged(trial.metrics)
            if key not in best or score > best[key][0]:
                best[key] = score, seed
    return {key: seed for key, (_, seed) in best.items()}


def _completed(trials: Iterable[Trial], goals: Goals) -> dict[str, Trial]:
    judged = []
    for trial in trials:
        bounds = (bound for bound in goals.constraints if bound.metric in trial.metrics)
        allowed = all(bound.holds(trial.metrics) for bound in bounds)
        judged.append(goals.judged(trial, allowed=allowed, epochs=trial.epochs))
    return {
        trial.arch.key: trial
        for trial in judged
        if trial.status == "completed" and trial.objective is not None
    }


def _score(trials: Sequence[Trial], goals: Goals) -> FinalScore:
    names = [objective.metric for objective in goals.objectives]
    values = {name: np.array([trial.metrics[name] for trial in trials]) for name in names}
    several = len(trials) > 1
    return FinalScore(
        objective=float(np.mean([goals.merged(trial.metrics) for trial in trials])),
        seeds=len(trials),
        means={name: float(of.mean()) for name, of in values.items()},
        deviations={n: float(of.std(ddof=1)) for n, of in values.items()} if several else {},
    )
