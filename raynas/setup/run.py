"""A search from its strategy to the last trial."""

from __future__ import annotations

import shlex
from contextlib import nullcontext, suppress

from raynas.core.errors import Interrupted, SearchFailed
from raynas.core.final_request import FINAL
from raynas.core.finalists import best_trial
from raynas.core.fixed import write_arch
from raynas.core.progress import Progress
from raynas.core.study import Study
from raynas.core.trial import Trial
from raynas.evaluators.kept_weights import keep_only
from raynas.evaluators.spec import EvaluatorSpec
from raynas.evaluators.with_latency import with_latency
from raynas.setup.prepare import Prepared
from raynas.setup.runner import Runner, runner_of
from raynas.setup.study_of_run import study_of
from raynas.storage.json_files import write_text
from raynas.storage.run_folder import BEST, Folder
from raynas.storage.tables import load_trials


def run_search(run: Prepared, progress: Progress) -> Trial | None:
    """Evaluate until the configuration is fulfilled.

    Args:
        run: its parts.
        progress: told how it comes along.

    Returns:
        The best trial; None where none was completed.

    Raises:
        OSError: the folder cannot be written to.
        SearchFailed: the objective is not among the metrics, or nothing keeps the bounds.
        Interrupted: Ctrl-C; what was told is in the folder.
    """
    config, space = run.config, run.problem.space.arch_space
    study: Study | None = None
    best: Trial | None = None
    failure: OSError | None = None
    try:
        history = load_trials(config.out, space)
        spec = run.strategy.evaluation.evaluator
        if len(history) >= config.trials:
            study = study_of(run, spec, history, progress.recorded, trials=config.trials)
            progress.phase(_left(run, study))
            if run.final is None:
                return study.best
        elif run.final is not None:
            begun = Folder(config.out).has(FINAL)
            progress.phase(run.final.budget(config.trials, begun=begun))
        with runner_of(config.ray) as runner:
            if study is None:
                spec = run.strategy.evaluation.prepared(config.out, config.seed, runner, progress)
                spec = with_latency(spec, None if run.latency is None else run.latency.tells)
                study = study_of(run, spec, history, progress.recorded, trials=config.trials)
                _evaluate(study, spec, run, runner, progress)
            if run.final is not None:
                run.final.run(_judged(run, study), config.out, runner, progress)
            best = _best(run, study)
            if run.final is not None and best is not None:
                run.final.keep_weights(config.out, best)
            return best
    except OSError as error:
        failure = error
        raise
    except KeyboardInterrupt:
        raise Interrupted(_stopped(run, study)) from None
    finally:
        if study is not None:
            # what cannot be written to any more has been told of already
            with suppress(OSError) if failure is not None else nullcontext():
                _leave(config.out, best or _best(run, study), study.best)


def _stopped(run: Prepared, study: Study | None) -> str:
    """Return in words when a run was stopped, and how it goes on."""
    config = run.config
    after = "before the first of" if study is None else f"after {study.told} of"
    ending = run.final is not None and study is not None and study.finished
    where = ", while its best were evaluated again" if ending else ""
    return (
        f"{after} {config.trials} trials{where}; go on with out={config.out!r}, resume=True "
        f"(--out {shlex.quote(config.out)} --resume)"
    )


def _left(run: Prepared, study: Study) -> str:
    """Return in words what is left to do of a run whose trials are told."""
    told = f"{study.told} of {run.config.trials} trials are told"
    if run.final is None:
        return f"nothing is left to do: {told}"
    left = run.final.left(_judged(run, study), run.config.out)
    if not left:
        return f"nothing is left to do: {told}, and the best are evaluated again"
    return f"{told}, and at the end {run.final.counted(left)} left"


def _evaluate(
    study: Study, spec: EvaluatorSpec, run: Prepared, runner: Runner, progress: Progress
) -> None:
    """Evaluate what a study asks for.

    Raises:
        SearchFailed: the objective is not among the metrics, or nothing keeps the bounds.
    """
    space = run.problem.space.arch_space
    if study.told:
        progress.told(study)
    if study.note:
        progress.phase(study.note)
    runner.run_study(study, space, spec, run.config.out, progress)
    if not study.told and space.violation is not None:
        raise SearchFailed(f"no architecture was found that keeps {space.violation}")


def _judged(run: Prepared, study: Study) -> list[Trial]:
    """Return the trials in a run's folder as its bounds and weights of now judge them."""
    trials = load_trials(run.config.out, run.problem.space.arch_space)
    return [study.judged(trial) for trial in trials]


def _best(run: Prepared, study: Study) -> Trial | None:
    """Return which is best, by what its end has evaluated so far, where it has one."""
    if run.final is None:
        return study.best
    return best_trial(_judged(run, study), run.final.scores(run.config.out))


def _leave(out: str, best: Trial | None, searched: Trial | None) -> None:
    """Leave the best architecture beside the table, and weights that its evaluator returned.

    Args:
        out: folder of the run.
        best: that trial.
        searched: the best by the search's own score, the only one of which there are weights.
    """
    keep_only(out, [trial.arch for trial in (best, searched) if trial is not None])
    if best is not None:
        write_text(Folder(out), BEST, write_arch(best.arch))
    else:
        Folder(out).remove(BEST)  # of a run under looser bounds
