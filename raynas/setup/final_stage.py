"""The end of a search: its best are evaluated again, by a better evaluator and over seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

from raynas.core.arch import Arch
from raynas.core.config import FINAL_SEEDS, FinalConfig
from raynas.core.errors import SearchFailed
from raynas.core.feasible import Violation
from raynas.core.final_request import FINAL, STANDALONE, FinalRequest
from raynas.core.finalists import FinalScore, final_scores, finalists
from raynas.core.goals import Goals
from raynas.core.locations import under
from raynas.core.progress import Progress
from raynas.core.trial import Trial
from raynas.evaluators.external import External
from raynas.evaluators.functions import MakeFunctionEvaluator
from raynas.evaluators.networks import MakeNetworkEvaluator
from raynas.evaluators.spec import EvaluatorSpec
from raynas.evaluators.weights_by_seed import WeightsBySeed
from raynas.evaluators.with_latency import with_latency
from raynas.setup.evaluation import (
    FUNCTION,
    Evaluation,
    evaluation_of,
    shared_evaluation,
    shared_of,
)
from raynas.setup.final_weights import FinalWeights
from raynas.setup.latency_source import LatencySource
from raynas.setup.own_evaluator import told_apart
from raynas.setup.problem import Problem
from raynas.setup.repeated_evaluations import RepeatedEvaluations, measured, seed_folders
from raynas.setup.runner import Runner
from raynas.storage.tables import load_trials


@dataclass(frozen=True, kw_only=True)
class FinalStage:
    """What comes after the last trial.

    Attributes:
        config: how many, and by what.
        evaluation: by the better evaluator.
        problem: of the run.
        latency: where latencies come from; None without.
    """

    config: FinalConfig
    evaluation: Evaluation
    problem: Problem
    latency: LatencySource | None = None

    def budget(self, trials: int, *, begun: bool) -> str:
        """Return in words what it will take.

        Args:
            trials: of the search, at most.
            begun: whether an earlier start has come to its end, and done some of it.
        """
        config, top = self.config, min(self.config.top, trials)
        several = self.problem.goals.several  # whose front may hold fewer
        most = "at most " if several or begun else ""
        which = f"{'at most' if several else 'the'} {top} best are" if top > 1 else "the best is"
        times = f", {config.seeds} times each," if config.seeds > 1 else ""
        by, what = config.evaluator.name, self.counted(top * config.seeds)
        return f"at the end {which} evaluated again{times} by {by!r}: {most}{what}"

    def counted(self, number: int) -> str:
        """Return a number of evaluations in words."""
        epochs = self.evaluation.evaluator.epochs
        if not epochs:
            return _counted(number, "evaluation")
        return f"{_counted(number, 'training')} of {_counted(epochs, 'epoch')}"

    def left(self, trials: Iterable[Trial], out: str) -> int:
        """Return how many evaluations are left; arguments as for ``run``."""
        archs = self._archs(trials)
        return sum(map(len, self._repeated(out).left(archs)))

    def run(self, trials: Iterable[Trial], out: str, runner: Runner, progress: Progress) -> None:
        """Evaluate the best, but for what an earlier start has done.

        Args:
            trials: of the run, as its bounds and weights of now judge them.
            out: folder of the run.
            runner: evaluates.
            progress: told how it comes along.

        Raises:
            SearchFailed, Interrupted: as ``Runner.run_study``.
        """
        archs, repeated = self._archs(trials), self._repeated(out)
        if any(repeated.left(archs)):
            prepared = replace(repeated, spec=self._spec(out, runner, progress))
            try:
                prepared.run(archs, runner, progress, self._weights(out).keep_best)
            except SearchFailed as error:  # of this evaluator, not of the search's
                raise SearchFailed(f"final: {error}") from error

    def _archs(self, trials: Iterable[Trial]) -> list[Arch]:
        best = finalists(trials, self.config.top, self.problem.goals)
        return [trial.arch for trial in best]

    def _repeated(self, out: str) -> RepeatedEvaluations:
        return RepeatedEvaluations(
            space=self.problem.space.arch_space,
            goals=self.problem.goals,
            spec=self.evaluation.evaluator,
            folder=under(out, FINAL, self.config.key),
            seeds=final_seeds(self.config.seeds, self.problem.seed),
            purpose=FINAL,
            out=out,
        )

    def scores(self, out: str) -> dict[str, FinalScore]:
        """Return the final scores in a run's folder, by architecture key."""
        return read_final_scores(out, self.config, self._goals, self.problem.seed)

    def keep_weights(self, out: str, best: Trial) -> None:
        """Remove what networks have learned in a run's folder, but for the best one of its seeds.

        Args:
            out: folder of the run.
            best: of its trials, now that its end is over.
        """
        weights = self._weights(out)
        if weights.has(best.arch):  # those of before stay where bounds of now make another best
            weights.keep_best([best.arch.key])

    @property
    def _goals(self) -> Goals:
        violation, goals = self.problem.space.arch_space.violation, self.problem.goals
        beforehand = violation.constraints if isinstance(violation, Violation) else ()
        # what is known beforehand the better evaluator may measure as well
        return replace(goals, constraints=(*goals.constraints, *beforehand))

    def _weights(self, out: str) -> FinalWeights:
        return final_weights(out, self.config, self._goals, self.problem.seed)

    def _spec(self, out: str, runner: Runner, progress: Progress) -> EvaluatorSpec:
        """Return what workers make, which keeps what it trains."""
        spec = self.evaluation.evaluator
        files = self._weights(out).files
        if self.evaluation.supernet is not None:
            spec = self.evaluation.prepared(out, self.problem.seed, runner, progress)
        elif isinstance(spec.make, MakeFunctionEvaluator):
            spec = replace(spec, make=replace(spec.make, keeper=lambda: files))
        elif isinstance(spec.make, MakeNetworkEvaluator):
            spec = replace(spec, make=replace(spec.make, weights=files))
        return with_latency(spec, None if self.latency is None else self.latency.tells)


def _counted(number: int, what: str) -> str:
    """Return a number of things in words.

    >>> _counted(1, "epoch"), _counted(2, "epoch")
    ('1 epoch', '2 epochs')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def final_stage(
    request: FinalRequest,
    problem: Problem,
    searched: Evaluation,
    latency: LatencySource | None,
) -> FinalStage:
    """Return the end of a search, with all that can be checked beforehand checked.

    Args:
        request: of it.
        problem: of the run.
        searched: how the search itself evaluates: its supernet is at hand.
        latency: where latencies come from; None without.

    Raises:
        ValueError, TypeError, LookupError: the evaluator does not go with the search, or is the one
            that it evaluates with anyway.
    """
    evaluator, timed = _evaluator(request, problem), latency is not None
    try:
        scoring = shared_of(evaluator)
        if scoring is None:
            evaluation = evaluation_of(evaluator, problem, timed=timed)
        elif searched.supernet is None:
            raise ValueError(
                "shared weights are of the supernet that is searched, and here is none: name "
                "another evaluator"
            )
        else:
            evaluation = shared_evaluation(scoring, problem, searched.supernet, timed=timed)
    except (ValueError, TypeError, LookupError) as error:
        text = error.args[0] if error.args else error
        raise type(error)(f"final: {text}") from error
    _check_compares(evaluation, searched)
    _check_columns(problem, searched)
    seeds = _seeds(request.seeds, evaluation)
    named = evaluation.component
    if named.name == FUNCTION:
        named = told_apart(named, evaluator)
    config = FinalConfig(top=request.top, seeds=seeds, evaluator=named)
    return FinalStage(config=config, evaluation=evaluation, problem=problem, latency=latency)


def _check_compares(evaluation: Evaluation, searched: Evaluation) -> None:
    """Raise ValueError where an evaluation would not tell the best apart, or no better."""
    name = evaluation.component.name
    if evaluation.evaluator.stopping is not None:
        raise ValueError(
            f"final: {name!r} would stop weak ones early, and all are to be compared: turn it off "
            "(early_stopping=False)"
        )
    if isinstance(evaluation.evaluator.make, External):
        raise ValueError(f"final: {name!r} measures nothing: name what evaluates the best again")
    same = evaluation.component == searched.component
    if name == FUNCTION:  # another may be called alike
        same = same and evaluation.evaluator.make == searched.evaluator.make
    if same and evaluation.evaluator.deterministic:
        raise ValueError(
            f"final: the search evaluates by {name!r} with the same options anyway; name another "
            "evaluator, or other options"
        )


def _evaluator(request: FinalRequest, problem: Problem) -> Any:
    if request.evaluator == STANDALONE and problem.space.model_space is None:
        raise ValueError(
            "final: an ArchSpace builds no networks to train: name what evaluates the best again, "
            "as final={'top': 5, 'evaluator': function}"
        )
    options = dict(request.options)
    if request.evaluator == STANDALONE:
        options = {"early_stopping": False} | options
    return [request.evaluator, options] if options else request.evaluator


def _seeds(asked: int | None, evaluation: Evaluation) -> int:
    """Return how often each is evaluated.

    Raises:
        ValueError: more than once by what gives the same each time.
    """
    if not evaluation.evaluator.deterministic:
        return asked or FINAL_SEEDS
    if asked is not None and asked > 1:
        raise ValueError(
            f"final: seeds: {evaluation.component.name!r} scores an architecture alike each time: "
            f"expected 1, got {asked}"
        )
    return 1


def _check_columns(problem: Problem, searched: Evaluation) -> None:
    """Raise ValueError where the search measures what stands for the end's in its table."""
    ends = [objective.metric for objective in problem.goals.objectives]
    taken = {f"final_{name}{tail}" for name in ends for tail in ("", "_std")}
    for metric in (*problem.measured(False), *searched.evaluator.metrics):
        if metric in taken:
            raise ValueError(f"final: {metric!r} is a column of what it gives: rename the metric")


def final_seeds(number: int, searched: int) -> list[int]:
    """Return so many seeds, from 0 on without the search's own: that chose what is compared.

    >>> final_seeds(3, 0), final_seeds(3, 7)
    ([1, 2, 3], [0, 1, 2])
    """
    return list(islice((seed for seed in count() if seed != searched), number))


def _folders(out: str, config: FinalConfig, searched: int) -> dict[int, str]:
    """Return the folder of every seed that the best are evaluated with."""
    seeds = final_seeds(config.seeds, searched)
    return dict(zip(seeds, seed_folders(under(out, FINAL, config.key), seeds), strict=True))


def final_weights(out: str, config: FinalConfig, goals: Goals, searched: int) -> FinalWeights:
    """Return what the end of a search has trained in a run's folder.

    Args:
        out: folder of the run.
        config: of its end.
        goals: of the run now.
        searched: seed of the search.
    """
    return FinalWeights(files=WeightsBySeed(_folders(out, config, searched)), goals=goals)


def read_final_scores(
    out: str, config: FinalConfig, goals: Goals, searched: int
) -> dict[str, FinalScore]:
    """Return the final scores in a run's folder, by architecture key.

    Args:
        out: folder of the run.
        config: of its end.
        goals: of the run now.
        searched: seed of the search.
    """
    folders = _folders(out, config, searched).values()
    return final_scores([load_trials(folder) for folder in folders], goals)


def finalists_left(
    trials: Iterable[Trial], out: str, config: FinalConfig, goals: Goals, searched: int
) -> bool:
    """Return whether one of the best is not evaluated again with every seed, or has failed there.

    Args:
        trials: of the run, as its bounds and weights of now judge them.
        out: folder of the run.
        config: of its end.
        goals: of the run now.
        searched: seed of the search.
    """
    folders = _folders(out, config, searched).values()
    archs = {trial.arch for trial in finalists(trials, config.top, goals)}
    return any(archs - measured(load_trials(folder)) for folder in folders)


def failed_finals(out: str, config: FinalConfig, searched: int) -> list[Trial]:
    """Return an evaluation of each architecture that fails at the end, and is not measured there.

    Args:
        out: folder of the run.
        config: of its end.
        searched: seed of the search.
    """
    folders = _folders(out, config, searched).values()
    failed: dict[str, Trial] = {}
    for folder in folders:
        trials = load_trials(folder)
        done = measured(trials)
        for trial in trials:
            if trial.arch not in done:
                failed.setdefault(trial.arch.key, trial)
    return list(failed.values())
