"""Model-guided search: a predictor of scores proposes what it is most hopeful about.

Ours, after predictor-based search (White, Neiswanger and Savani, 2019, arXiv:1910.11858) and
upper confidence bounds (Srinivas et al., 2010, arXiv:0912.3995). Shapes: N points, F features,
C candidates, M objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.candidates import candidates
from raynas.core.codes import Codes, Rows
from raynas.core.deduplicator import Deduplicator
from raynas.core.designs import Designs
from raynas.core.feasible import repaired
from raynas.core.kernel_ridge import KernelRidge
from raynas.core.likeness import Likeness
from raynas.core.measurement_noise import earlier_noise, own_noise
from raynas.core.objectives import pareto_mask
from raynas.core.points import Numbers, Points
from raynas.core.ranking import scores_of
from raynas.core.sampler import SAMPLERS, Origin, Sampler
from raynas.core.similarity import EqualDecisions
from raynas.core.surrogate import Matrix, expected, improvement, kernel, ranked
from raynas.core.trial import Trial
from raynas.supernet.blas import one_blas_thread
from raynas.supernet.forecast import Forecast, forecast
from raynas.supernet.forest import forest_bounds

Model = Literal["quadratic", "forest", "mlp"]

FITTED = 200  # points that a model is fitted on: one half the best, one half random others
CENTRES = 8  # best points whose surroundings are candidates
FRONT_CENTRES = 16  # the same with several objectives, drawn from the front
IN_FLIGHT = 64  # latest queries in flight that the model takes into account
MISFIT, MISFITS = 0.1, 0.03  # variance that the kernel leaves: of one objective's ranks, of several
NEW, GROWTH = 10, 1.5  # networks are fitted anew to so many more points, and to half as many again


@dataclass(eq=False)
class Episode:
    """One climb from a design of its own: its points, and how long nothing got better."""

    design: list[Rows]
    members: list[int] = field(default_factory=list)
    best: float = float("-inf")
    peak: Rows | None = None
    stale: int = 0


@SAMPLERS.register("predictor", aliases=("ModelBasedOptim",))
class Predictor(Sampler):
    """Fits a model to the ranks of all scores, and asks the candidate of the largest upper bound.

    An episode begins with a design in which every option occurs, then lets the model choose among
    neighbours and mutants of the best. In a space of more than 400 changes of one decision, it
    looks at those of which the quadratic model, which counts no options there, expects most, and at
    many of them made at once. When it stagnates, another begins far from the peaks found so far,
    and its model sees its own points only; from then on every second query is chosen by a model of
    all points. With several objectives there is one model each and a single episode; asked is the
    candidate whose vector of bounds adds most hypervolume to the front, in ranks.

    An architecture that is told several times counts as one of the mean score. How far such scores
    lie apart is noise, of which a mean has less.

    A warm start takes the scores of an earlier run, of the same decisions and objectives, for its
    own: there is no design. The best of them that keeps the bounds of this search is asked first,
    and what it scores here moves all others to the scale of this run, which may be another
    supernet's or another evaluator's; then come those that the model is most hopeful about. The
    earlier scores have the noise that makes the scores of both runs likeliest. Where the earlier
    run has changed since a search was begun, that search is not resumed by replay: what it was told
    is told again, and it goes on from there.

    Args:
        space: what is searched.
        seed: fixes the run.
        model: ``quadratic``, kernel ridge regression with kernel 0.3 s + 0.7 s^2 of the share s of
            equal decisions; of numbers listed in order half is how near they are. It is an average
            of three, in which 0, 0.3 or 0.6 of s are how many options are in common wherever they
            stand, by what is probable, and in the place of architectures that compute the same what
            stands for them is compared; ``forest``, scikit-learn's random forest, its deviation
            taken over trees; or ``mlp``, Once-for-All's accuracy predictor (Cai et al., 2020,
            arXiv:1908.09791) with what it errs by as the deviation, and one quadratic model of what
            it leaves, so that every trial counts at once. It is fitted anew now and then, and then
            what it expects most of is sought by evolution, within the bounds.
        warm_start: folder or URI of an earlier run; None begins with nothing.
        objectives: names of the scores that trials are told with, if there are several.

    Raises:
        ValueError: another model, or the earlier run is of another space or has scored nothing.
    """

    multi_objective = True

    def __init__(
        self,
        space: ArchSpace,
        *,
        seed: int,
        model: Model = "quadratic",
        warm_start: str | None = None,
        objectives: tuple[str, ...] = (),
    ) -> None:
        if model not in get_args(Model):
            raise ValueError(f"expected model 'quadratic', 'forest' or 'mlp', got {model!r}")
        self._space, self._model, self._objectives = space, model, objectives
        self._seed, self._warm_start = seed, warm_start
        self._rng = np.random.default_rng(seed)
        self._visited = Deduplicator(space, self._rng)
        self.origin = Origin()
        self._codes = Codes(space)
        quadratic = model == "quadratic"
        self._likeness = (
            Likeness.of(self._codes) if quadratic else Likeness(EqualDecisions(self._codes))
        )
        self._designs = Designs(self._likeness.equal, self._rng)
        self._seen: set[bytes] = set()
        self._points = Points(self._codes)
        self._inside = np.zeros(0, dtype=bool)  # which points of an earlier run keep the bounds
        self._patience = max(20, 3 * int(self._codes.changes.sum()) // 2)
        self._peaks: list[Rows] = []
        self._turn = False
        self._flying: dict[str, tuple[Rows, Episode | None]] = {}
        self._forecasts: dict[bool, Forecast] = {}  # of all points, and of the episode's
        self._episode = (
            Episode(self._designs.draw()) if warm_start is None else self._warm(warm_start)
        )
        self.startup = len({row.tobytes() for row in self._episode.design})

    def ask(self) -> Arch:
        """Return the next of a design, or the candidate that a model is most hopeful about."""
        episode: Episode | None = self._episode
        row, origin = self._next_of_design(), Origin()
        if row is None:
            everywhere = bool(self._peaks) and self._turn
            self._turn = not self._turn
            if everywhere:
                episode = None
            members = range(len(self._points)) if everywhere else self._episode.members
            with one_blas_thread():
                row, origin = self._most_hopeful(members, everywhere)
        arch = self._visited.propose(
            lambda: self._space.sample(self._rng) if row is None else self._codes.decode(row)
        )
        self._flying[arch.key] = self._see(arch), episode
        self.origin = origin if self._visited.drawn else Origin()
        return arch

    def tell(self, trial: Trial) -> None:
        """Learn from a trial, whoever proposed it; a failed one is a query without improvement."""
        self._visited.add(trial.arch)
        scores = scores_of(trial, self._objectives)
        asked = self._flying.pop(trial.arch.key, None)
        row, episode = asked or (self._see(trial.arch), self._episode)
        if trial.status == "duplicate":
            scores = None  # no other measurement
        points = len(self._points)
        number = points if scores is None else self._points.add(row, scores)
        if number < points:
            self._measured_again(number)
            return
        if episode is None:
            return
        if scores is not None:
            episode.members.append(number)
        better = scores is not None and scores[0] > episode.best
        if scores is not None and better:
            episode.best, episode.peak = scores[0], row
            # asked before this was known, hence no sign that nothing is better
            episode.stale = -sum(asked_by is episode for _, asked_by in self._flying.values())
        elif asked is not None:
            episode.stale += 1
        if len(self._objectives) < 2 and self._episode.stale >= self._patience:
            self._restart()

    def _measured_again(self, number: int) -> None:
        """Take the mean of a point's scores for its score."""
        if number in self._episode.members:
            scores = self._points.scores(self._episode.members)[:, 0]
            self._episode.best = float(scores.max())
            self._episode.peak = self._points.rows[self._episode.members[int(scores.argmax())]]

    def _see(self, arch: Arch) -> Rows:
        row = self._codes.encode(arch)
        self._seen.add(self._codes.keys(row[None])[0])
        return row

    # --- an earlier run ---

    def _warm(self, path: str) -> Episode:
        """Return an episode of an earlier run's points, whose design is the best one."""
        from raynas.storage.earlier_run import scored_trials

        points: dict[str, tuple[Rows, tuple[float, ...]]] = {}
        try:
            for trial in scored_trials(path, self._space):
                scores = scores_of(trial, self._objectives)
                if scores is not None:
                    points[trial.arch.key] = self._codes.encode(trial.arch), scores
            if not points:
                raise ValueError(f"the run in {path} has no finite score")
        except ValueError as error:
            raise ValueError(f"warm_start: {error}") from None
        self._points = Points(self._codes, list(points.values()))
        numbers = list(range(len(self._points)))
        archs = [self._codes.decode(row) for row in self._points.rows]
        self._inside = np.array([self._visited.is_open(arch) for arch in archs], dtype=bool)
        best = self._points.best_first(numbers)
        inside = [self._points.rows[number] for number in best if self._inside[number]]
        return Episode(inside[:1] or self._brought_inside([archs[i] for i in best]), numbers)

    def _brought_inside(self, best: list[Arch]) -> list[Rows]:
        """Return a design of the best architectures, changed until they keep the bounds."""
        changed = (repaired(self._space, arch, self._rng) for arch in best[: self._designs.size])
        rows = [self._codes.encode(arch) for arch in changed if arch is not None]
        return list({row.tobytes(): row for row in rows}.values())

    def note(self) -> str:
        """Say how many scores it begins with, and how well a network tells them."""
        if not self._points.earlier:
            return ""
        text = f"beginning with {self._points.earlier} scores of {self._warm_start}"
        if self._model != "mlp":
            return text
        return f"{text}, {'; '.join(map(str, self._first_forecast.reports))}"

    @cached_property
    def _first_forecast(self) -> Forecast:
        """Of the earlier run alone: whoever asks for it first, and whatever was told by then."""
        numbers = np.arange(self._points.earlier)
        return self._fit(numbers, self._points.scores(numbers, moved=False))

    # --- episodes ---

    def _next_of_design(self) -> Rows | None:
        while self._episode.design:
            row = self._episode.design.pop(0)
            if self._visited.is_open(self._codes.decode(row)):
                return row
        return None

    def _restart(self) -> None:
        """Begin an episode far from all peaks."""
        if self._episode.peak is not None:
            self._peaks.append(self._episode.peak)
        self._forecasts.pop(False, None)
        self._episode = Episode(self._designs.far_from(self._peaks))

    # --- the model's choice ---

    def _most_hopeful(self, members: Sequence[int], everywhere: bool) -> tuple[Rows | None, Origin]:
        """Return the unseen candidate of the largest acquisition, or None if there is none."""
        points = self._points
        valid = points.valid(members)
        own = points.own(valid)
        inside = own.copy()
        inside[~own] = self._inside[valid[~own]]
        if not inside.any():
            return None, Origin()
        scores = points.scores(valid)
        several = scores.shape[1] > 1
        best = self._best_first(scores)
        fitted = self._fitted(best, own)
        view = self._forecast(valid, scores, everywhere) if self._model == "mlp" else None
        targets = ranked(scores[fitted]) if view is None else ranked(scores)[fitted]
        rows = points.rows[valid[fitted]]
        noise = own_noise(points, scores[fitted], targets)
        left = targets if view is None else targets - view.mean(rows)
        ridge = self._ridge(valid[fitted], left, noise)
        centres = best
        if not own.all():
            expected_N = ridge.means()[:, 0] + (0.0 if view is None else view.mean(rows)[:, 0])
            centres = self._centres_beyond(scores, inside, fitted, expected_N)
        centres = centres[: FRONT_CENTRES if several else CENTRES]
        around = candidates(
            self._codes,
            points.rows[valid[centres]],
            self._rng,
            seen=self._seen,
            pool=None if view is None else view.pool,
            gains=partial(self._gains, ridge) if self._model == "quadratic" else None,
        )
        if not len(around):
            return None, Origin()
        if self._model == "forest":
            mean, upper = self._forest_bounds(rows, targets, around.rows)
        else:
            mean, upper = ridge.bounds(around)
        if view is not None:
            mean, upper = view.mean(around.rows) + mean, view.deviation * (upper - mean)
            upper += mean
        hope = improvement(upper, targets, own[fitted]) if several else upper[:, 0]
        chosen = self._first_open(around.rows, np.argsort(-hope, kind="stable"))
        if chosen is None:
            return None, Origin()
        centre = valid[centres[around.owners[chosen]]] if around.owners[chosen] >= 0 else -1
        key = None  # an earlier run's trial is no parent
        if centre >= points.earlier:
            key = self._codes.decode(points.rows[centre]).key
        score = None if several else expected(mean[chosen, 0], targets[:, 0], scores[fitted, 0])
        return around.rows[chosen], Origin(key, score)

    def _first_open(self, rows: Rows, order: Numbers) -> int | None:
        for i in order.tolist():
            if self._visited.is_open(self._codes.decode(rows[i])):
                return int(i)
            self._seen.update(self._codes.keys(rows[i : i + 1]))  # nor will it be open later
        return None

    def _centres_beyond(
        self, scores: Matrix, inside: NDArray[np.bool_], fitted: Numbers, expected_N: Matrix
    ) -> Numbers:
        """Return centres where some points are of an earlier run, perhaps beyond these bounds.

        They are the best that is expected, since an earlier run's scores may be noise.
        """
        inner = fitted[inside[fitted]]
        if scores.shape[1] > 1 or not len(inner):
            return np.flatnonzero(inside)[self._best_first(scores[inside])]
        return inner[np.argsort(-expected_N[inside[fitted]], kind="stable")]

    def _forecast(
        self, members: Sequence[int] | Numbers, scores: Matrix, everywhere: bool
    ) -> Forecast:
        """Return predictors of the members' ranks, fitted anew if there are many more by now."""
        view = self._forecasts.get(everywhere)
        if view is None and members[0] < self._points.earlier and not everywhere:
            view = self._first_forecast
        if view is None or len(members) >= max(view.count + NEW, GROWTH * view.count):
            view = self._fit(members, scores)
        self._forecasts[everywhere] = view
        return view

    def _fit(self, members: Sequence[int] | Numbers, scores: Matrix) -> Forecast:
        rows = self._points.rows[members]
        best = np.argsort(-scores[:, 0], kind="stable")[:FRONT_CENTRES]
        targets = ranked(scores)
        return forecast(self._space, self._codes, rows, targets, rows[best], seed=self._seed)

    def _best_first(self, scores: Matrix) -> NDArray[np.intp]:
        """Return the best points in order; with several objectives the front, in random order."""
        if scores.shape[1] == 1:
            return np.argsort(-scores[:, 0], kind="stable")[: FITTED // 2]
        return self._rng.permutation(np.flatnonzero(pareto_mask(scores)))[:FITTED]

    def _fitted(self, best: NDArray[np.intp], own_N: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the points that a model is fitted to: of too many, own ones before others."""
        if len(own_N) <= FITTED:
            return np.arange(len(own_N))
        others = self._rng.permutation(np.setdiff1d(np.arange(len(own_N)), best))
        others = others[np.argsort(~own_N[others], kind="stable")]
        return np.concatenate([best, others[: FITTED - len(best)]])

    def _ridge(self, numbers: Numbers, targets: Matrix, noise: float) -> KernelRidge:
        """Return the model of points.

        Args:
            numbers: of the points.
            targets: theirs.
            noise: variance of one measurement of this run.
        """
        rows, own = self._points.rows[numbers], self._points.own(numbers)
        misfit = MISFIT if targets.shape[1] == 1 else MISFITS
        noise_N = misfit + noise / self._points.measurements(numbers)
        if not own.all():
            compared = self._likeness.compared(rows)
            known = kernel(self._likeness.equal.between(compared, compared))
            noise_N += earlier_noise(known, targets, noise_N, own) * ~own
        flying = self._table([row for row, _ in self._flying.values()][-IN_FLIGHT:])
        noise_P = np.append(noise_N, np.full(len(flying), misfit + noise))
        return KernelRidge(self._likeness, rows, targets, flying, noise=noise_P)

    def _gains(self, ridge: KernelRidge, centres: Rows) -> Matrix:
        """Return what values add at each centre, to objectives weighed at random if several."""
        weights = self._rng.dirichlet(np.ones(ridge.objectives), size=len(centres))
        return ridge.gains(centres, weights)

    def _forest_bounds(self, rows: Rows, targets: Matrix, around: Rows) -> tuple[Matrix, Matrix]:
        features, seed = self._codes.features, int(self._rng.integers(2**31))
        return forest_bounds(features(rows), targets, features(around), seed=seed)

    def _table(self, rows: Sequence[Rows]) -> Rows:
        """Return rows as one array, also if there are none."""
        return np.array(rows, dtype=np.int32).reshape(len(rows), len(self._codes.sizes))
