"""The study of a run: its sampler, its goals and the trials that its folder holds."""

from __future__ import annotations

from collections.abc import Callable

from raynas.core.feasible import Violation
from raynas.core.study import Study, StudyInfo
from raynas.core.trial import Trial
from raynas.evaluators.spec import EvaluatorSpec
from raynas.setup.prepare import Prepared
from raynas.storage.table_writers import TrialStore


def study_of(
    run: Prepared,
    spec: EvaluatorSpec,
    history: list[Trial],
    recorded: Callable[[list[Trial]], None],
    *,
    trials: int,
) -> Study:
    """Return a run's study, which writes what it is told into the run's folder.

    Args:
        run: its parts.
        spec: of the evaluator that measures.
        history: what was told before.
        recorded: called with trials once they are written.
        trials: how many are told in all.
    """
    config, strategy, space = run.config, run.strategy, run.problem.space.arch_space
    store = TrialStore(config.out, space, spec.metrics)

    def keep(told: list[Trial]) -> None:
        store.append(told)
        recorded(told)

    return Study(
        strategy.sampler(config, history),
        run.problem.goals,
        trials=trials,
        setting=StudyInfo(
            algo=config.algo.name, evaluator=spec.name, epochs=spec.epochs, seed=config.seed
        ),
        sink=keep,
        bounds=space.violation if isinstance(space.violation, Violation) else None,
        history=history,
        make_sampler=lambda: strategy.sampler(config, history),
    )
