"""How a run finds architectures: by a sampler that proposes, or by training what is proposed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raynas import assemble
from raynas.core.config import Named, SearchConfig
from raynas.core.goals import Goals
from raynas.core.listed import FOUND, Listed
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.measuring import plan, training_plan
from raynas.plans import SHARED, Plan

if TYPE_CHECKING:
    from raynas.data.module import DataModule


@dataclass(frozen=True)
class Method:
    """An algorithm and what it measures with.

    Attributes:
        algo: how the run folder names the algorithm.
        plan: of the measurements.
        sampler: makes the sampler once the plan's recipe is there.
        most: architectures that it proposes at most; None if the space is the limit.
    """

    algo: Named
    plan: Plan
    sampler: Callable[[SearchConfig], Sampler]
    most: int | None = None


def method(
    algo: Any,
    space: assemble.Space,
    module: DataModule | None,
    data: Named | None,
    *,
    options: Mapping[str, Any],
    evaluator: Any,
    supernet: Any,
    epochs: int | None,
    goals: Goals,
    seed: int,
) -> Method:
    """Return the method of a search, with all that can be checked beforehand checked.

    Raises:
        ValueError, LookupError, TypeError: as ``raynas.search``.
    """
    if assemble.trains(algo):
        _check_trained(algo, module, evaluator, supernet)
        assert module is not None
        return _by_training(algo, space, module, data, options, epochs)
    name = assemble.name_of(algo)
    _check_several(name, goals)
    sampler = assemble.resolve_sampler(name, space.arch, seed, options, goals=goals)
    wanted = [objective.metric for objective in goals.objectives]
    wanted += [constraint.metric for constraint in goals.constraints]
    measured = tuple(dict.fromkeys(wanted))
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
    return Method(Named(name=name, options=dict(options)), how, lambda _: sampler)


def _by_training(
    algo: Any,
    space: assemble.Space,
    module: DataModule,
    data: Named | None,
    options: Mapping[str, Any],
    epochs: int | None,
) -> Method:
    named, settings = assemble.resolve_one_shot(algo, options, epochs)
    how = training_plan(space, module, data, named, settings)
    how.check_relaxable()
    return Method(named, how, lambda config: Listed(how.found(config)), FOUND)


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


def _check_trained(algo: Any, module: DataModule | None, evaluator: Any, supernet: Any) -> None:
    name = algo if isinstance(algo, str) else type(algo).__name__
    if module is None:
        raise ValueError(f"{name} trains a model's weights, and a plain ArchSpace has none")
    if evaluator != SHARED:
        raise ValueError(f"{name} scores with the weights that it trains: leave out evaluator=")
    if supernet is not None:
        raise ValueError(f"{name} trains its own supernet: leave out supernet=")
