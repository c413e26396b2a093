"""How a run finds architectures: by a sampler that proposes, or by training what is proposed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.fixed_list import FOUND, FixedListSampler, in_place
from raynas.core.goals import Goals
from raynas.core.metrics import LATENCY
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.trial import Trial
from raynas.evaluators.shared import Shared
from raynas.setup import resolve
from raynas.setup.evaluation import check_shared, plan, shared_of, training_plan
from raynas.setup.plans import Plan

if TYPE_CHECKING:
    from raynas.data.module import DataModule


@dataclass(frozen=True)
class SearchStrategy:
    """An algorithm and what it measures with.

    Attributes:
        algo: how the run folder names the algorithm.
        plan: of the measurements.
        sampler: makes the sampler once the plan's recipe is there, given the trials of an earlier
            start.
        most: architectures that it proposes at most; None if the space is the limit.
    """

    algo: ComponentSpec
    plan: Plan
    sampler: Callable[[SearchConfig, list[Trial]], Sampler]
    most: int | None = None


def method(
    algo: Any,
    space: resolve.Space,
    module: DataModule | None,
    data: ComponentSpec | None,
    *,
    options: Mapping[str, Any],
    evaluator: Any,
    supernet: Any,
    epochs: int | None,
    goals: Goals,
    seed: int,
    timed: bool = False,
) -> SearchStrategy:
    """Return the method of a search, with all that can be checked beforehand checked.

    Args:
        algo: as for ``raynas.search``, and so are those not listed.
        space: of the architectures, with the bounds that costs alone decide.
        module: the data.
        data: how the run folder names them.
        options: of the algorithm.
        evaluator: likewise.
        supernet: likewise.
        epochs: likewise.
        goals: objectives, and all constraints that are left.
        seed: likewise.
        timed: whether latencies are looked up beside the evaluator.

    Raises:
        ValueError, LookupError, TypeError: as ``raynas.search``.
    """
    wanted = [objective.metric for objective in goals.objectives]
    wanted += [constraint.metric for constraint in goals.constraints]
    measured = tuple(one for one in dict.fromkeys(wanted) if not (timed and one == LATENCY))
    if resolve.trains(algo):
        scoring = _check_trained(algo, module, evaluator, supernet)
        assert module is not None
        check_shared(measured)
        return _by_training(algo, space, module, data, options, epochs, scoring)
    name = resolve.name_of(algo)
    _check_several(name, goals)

    def sampler(*_: Any) -> Sampler:
        return resolve.resolve_sampler(name, space.arch, seed, options, goals=goals)

    sampler()  # says what is wrong with its options before a plan is made
    how = plan(
        evaluator,
        space,
        module,
        data,
        supernet=supernet,
        epochs=epochs,
        objectives=measured,
        several=goals.several,
    )
    if timed and LATENCY in getattr(how, "metrics", ()):
        raise ValueError(f"the evaluator {how.spec.name!r} gives {LATENCY}: leave out latency=")
    return SearchStrategy(ComponentSpec(name=name, options=dict(options)), how, sampler)


def _by_training(
    algo: Any,
    space: resolve.Space,
    module: DataModule,
    data: ComponentSpec | None,
    options: Mapping[str, Any],
    epochs: int | None,
    scoring: Shared,
) -> SearchStrategy:
    named, settings = resolve.resolve_one_shot(algo, options, epochs)
    how = replace(training_plan(space, module, data, named, settings), scoring=scoring)
    how.check_relaxable()
    violation = space.arch.violation

    def sampler(config: SearchConfig, history: list[Trial]) -> Sampler:
        return FixedListSampler(in_place(how.found(config), history, violation))

    return SearchStrategy(
        named, how, sampler, FOUND + (violation is not None)
    )  # and one beyond them


def _check_several(name: str, goals: Goals) -> None:
    """Raise ValueError if a sampler that learns from one score would be told several."""
    builder = SAMPLERS[name]
    learns = getattr(builder, "startup", 0) is not None  # of the class: None says it never does
    if goals.several and learns and not getattr(builder, "multi_objective", False):
        capable = [n for n, other in SAMPLERS.items() if getattr(other, "multi_objective", False)]
        names = ", ".join(objective.metric for objective in goals.objectives)
        raise ValueError(
            f"{name} optimises one objective, got {names}: use {' or '.join(capable)}, or say how "
            "to merge them (scalarize={metric: weight})"
        )


def _check_trained(algo: Any, module: DataModule | None, evaluator: Any, supernet: Any) -> Shared:
    """Return how the trained weights are to score."""
    name = algo if isinstance(algo, str) else type(algo).__name__
    if module is None:
        raise ValueError(f"{name} trains a model's weights, and a plain ArchSpace has none")
    scoring = shared_of(evaluator)
    if scoring is None:
        raise ValueError(f"{name} scores with the weights that it trains: leave out evaluator=")
    if supernet is not None:
        raise ValueError(f"{name} trains its own supernet: leave out supernet=")
    return scoring
