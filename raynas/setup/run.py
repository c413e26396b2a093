"""A search from its strategy to the last trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raynas.core.config import SearchConfig
from raynas.core.errors import Interrupted, SearchFailed
from raynas.core.feasible import Violation
from raynas.core.fixed import write_arch
from raynas.core.progress import Progress
from raynas.core.study import Study, StudyInfo
from raynas.evaluators.spec import EvaluatorSpec
from raynas.evaluators.with_latency import with_latency
from raynas.setup.problem import Problem
from raynas.setup.runner import runner_of
from raynas.setup.strategy import SearchStrategy
from raynas.storage.run_folder import BEST, Folder

if TYPE_CHECKING:
    from raynas.costs.latency import LatencyTable


def run_search(
    config: SearchConfig,
    problem: Problem,
    strategy: SearchStrategy,
    latency: LatencyTable | None,
    progress: Progress,
) -> None:
    """Evaluate until the configuration is fulfilled.

    Args:
        config: of the run, whose folder is claimed.
        problem: space and goals.
        strategy: proposes and evaluates.
        latency: looked up beside the evaluator; None without.
        progress: told how it comes along.

    Raises:
        SearchFailed: the objective is not among the metrics, or nothing keeps the bounds.
        Interrupted: Ctrl-C; what was told is in the folder.
    """
    study: Study | None = None
    try:
        with runner_of(config.ray, progress) as runner:
            spec = strategy.evaluation.prepared(config.out, config.seed, runner, progress)
            spec = with_latency(spec, latency)
            study = _study(config, problem, strategy, spec)
            progress.phase("starting workers")
            space = problem.space.arch_space
            runner.run_study(study, space, spec, config.out, progress)
            if not study.told and space.violation is not None:
                raise SearchFailed(f"no architecture was found that keeps {space.violation}")
    except KeyboardInterrupt:
        told = "before the first of" if study is None else f"after {study.told} of"
        raise Interrupted(
            f"{told} {config.trials} trials; go on with out={config.out!r}, resume=True "
            f"(--out {config.out} --resume)"
        ) from None
    finally:
        progress.close()
        if study is not None and study.best is not None:
            Folder(config.out).write(BEST, write_arch(study.best.arch))
        elif study is not None:
            Folder(config.out).remove(BEST)  # of a run under looser bounds


def _study(
    config: SearchConfig, problem: Problem, strategy: SearchStrategy, spec: EvaluatorSpec
) -> Study:
    from raynas.storage.tables import TrialStore, load_trials

    space = problem.space.arch_space
    history = load_trials(config.out, space)
    return Study(
        strategy.sampler(config, history),
        problem.goals,
        trials=config.trials,
        setting=StudyInfo(
            algo=config.algo.name, evaluator=spec.name, epochs=spec.epochs, seed=config.seed
        ),
        sink=TrialStore(config.out, space, spec.metrics).append,
        bounds=space.violation if isinstance(space.violation, Violation) else None,
        history=history,
        make_sampler=lambda: strategy.sampler(config, history),
    )
