"""How a run finds architectures: by a sampler that proposes, or by training what is proposed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raynas.core.build_sampler import refuse_several
from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.fixed_list import FOUND, FixedListSampler, in_place
from raynas.core.goals import Goals
from raynas.core.options import options_of
from raynas.core.sampler import SAMPLERS, Sampler, SearchFacts
from raynas.core.trial import Trial
from raynas.evaluators.shared import Shared
from raynas.setup.algorithms import name_of, resolve_sampler, trains
from raynas.setup.bounds import costs_beforehand
from raynas.setup.evaluation import Evaluation, evaluation_of, shared_evaluation, shared_of
from raynas.setup.mixed_operator import check_mixed_op
from raynas.setup.problem import Problem
from raynas.setup.supernet_request import phase_of, supernet_to_train
from raynas.setup.supernets import Supernet
from raynas.setup.warm_start import check_warm_start


@dataclass(frozen=True)
class SearchStrategy:
    """An algorithm and how its architectures are evaluated.

    Attributes:
        algo: how the run folder names the algorithm.
        evaluation: of the architectures.
        sampler: makes the sampler once the evaluation is prepared, given the trials of an earlier
            start.
        max_trials: architectures that it proposes at most; None if the space is the limit.
    """

    algo: ComponentSpec
    evaluation: Evaluation
    sampler: Callable[[SearchConfig, list[Trial]], Sampler]
    max_trials: int | None = None


def search_strategy(
    algo: Any,
    problem: Problem,
    *,
    options: Mapping[str, Any],
    evaluator: Any,
    supernet: Any,
    epochs: int | None,
    timed: bool = False,
) -> SearchStrategy:
    """Return the strategy of a search, with all that can be checked beforehand checked.

    Args:
        algo: as for ``raynas.search``, and so are those not listed.
        problem: the space with the bounds that costs alone decide, and all goals that are left.
        options: of the algorithm.
        evaluator: likewise.
        supernet: likewise.
        epochs: likewise.
        timed: whether latencies are looked up beside the evaluator.

    Raises:
        ValueError, LookupError, TypeError: as ``raynas.search``.
    """
    if trains(algo):
        scoring = _check_trained(algo, problem, evaluator)
        start = phase_of(supernet, problem.space, problem.data)
        trained = supernet_to_train(algo, options, problem.space, problem.data, epochs, start=start)
        return _by_training(trained, problem, scoring, timed)
    name, options = name_of(algo), SAMPLERS.options_under(algo, options)
    _check_several(name, problem.goals)
    if problem.space.model_space is not None:
        from raynas.supernet.protocol import ONE_PATH

        check_mixed_op(problem.space.model_space, name, ONE_PATH)
    space, goals = problem.space.arch_space, problem.goals

    def sampler(*_: Any) -> Sampler:
        made = resolve_sampler(name, space, problem.seed, options, goals=goals)
        if facts:
            made.inform(facts[0])
        return made

    facts: list[SearchFacts] = []

    if (path := options.get("warm_start")) and "warm_start" in options_of(SAMPLERS[name]):
        check_warm_start(str(path), problem)
    sampler()  # says what is wrong with its options before anything else
    evaluation = evaluation_of(evaluator, problem, supernet=supernet, epochs=epochs, timed=timed)
    facts.append(
        SearchFacts(
            goals=goals, metrics=evaluation.evaluator.metrics, costs=costs_beforehand(problem.space)
        )
    )
    sampler()  # says what is wrong with the search for it
    return SearchStrategy(ComponentSpec(name=name, options=dict(options)), evaluation, sampler)


def _by_training(
    supernet: Supernet, problem: Problem, scoring: Shared, timed: bool
) -> SearchStrategy:
    violation = problem.space.arch_space.violation

    def sampler(config: SearchConfig, history: list[Trial]) -> Sampler:
        return FixedListSampler(in_place(supernet.top_k(config.out), history, violation))

    assert supernet.training is not None
    return SearchStrategy(
        supernet.training.algo,
        shared_evaluation(scoring, problem, supernet, timed=timed),
        sampler,
        FOUND + (violation is not None),  # and one beyond the bounds
    )


def _check_several(name: str, goals: Goals) -> None:
    """Raise ValueError if a sampler that learns from one score would be told several."""
    names = [objective.metric for objective in goals.objectives] if goals.several else []
    refuse_several(name, names, ", or say how to merge them (scalarize={metric: weight})")


def _check_trained(algo: Any, problem: Problem, evaluator: Any) -> Shared:
    """Return how the trained weights are to score."""
    name = algo if isinstance(algo, str) else type(algo).__name__
    problem.networks(f"{name} trains a model's weights, and a plain ArchSpace has none")
    scoring = shared_of(evaluator)
    if scoring is None:
        raise ValueError(f"{name} scores with the weights that it trains: leave out evaluator=")
    return scoring
