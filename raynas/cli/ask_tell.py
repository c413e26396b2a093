"""``raynas ask`` and ``raynas tell``: somebody else's loop, as lines of JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raynas.cli.common import (
    AlgoOptions,
    Bounds,
    DataOptions,
    Elastic,
    EvaluatorOptions,
    ModelOptions,
    Objectives,
    Pairs,
    SpaceOptions,
    TaskName,
    TaskOptions,
    app,
    own_or_name,
    pairs,
    pairs_or_none,
    stoppable,
    with_options,
)

if TYPE_CHECKING:
    from raynas.core.trial import Trial
    from raynas.setup.ask_tell import Answer, AskTell

SPENT = 3  # exit code: nothing is left to ask, or no budget to tell


@app.command()
def ask(
    run: Annotated[str, typer.Argument(help="Folder of a run; with --space, it begins there.")],
    count: Annotated[int, typer.Option(help="Proposals, at most.", min=1)] = 1,
    pending: Annotated[
        bool, typer.Option("--pending", help="What was handed out and never told, instead.")
    ] = False,
    space: Annotated[
        str | None,
        typer.Option(help="Registered space, module:Class of your own, or a model: timm:resnet18."),
    ] = None,
    algo: Annotated[
        str | None, typer.Option(help="Sampler. [default: regularized_evolution]")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Results to tell in all: the budget. [default: 100]")
    ] = None,
    objective: Objectives = None,
    constraint: Bounds = None,
    evaluator: Annotated[
        str | None, typer.Option(help="What tell --evaluate measures by. [default: none]")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Registered data set of the evaluator.")] = None,
    task: TaskName = None,
    seed: Annotated[int | None, typer.Option(help="Fixes the proposals. [default: 0]")] = None,
    option: AlgoOptions = None,
    space_option: SpaceOptions = None,
    model_option: ModelOptions = None,
    elastic: Elastic = None,
    data_option: DataOptions = None,
    task_option: TaskOptions = None,
    evaluator_option: EvaluatorOptions = None,
) -> None:
    """Print proposals of RUN as JSON, one a line; exit code 3 if nothing is left to ask."""
    from raynas.core.objectives import parse_goal
    from raynas.setup.asked_begin import ask_tell

    scoring = pairs(evaluator_option or [], "--evaluator-option")
    if scoring and evaluator is None:
        raise ValueError("--evaluator-option is of an evaluator: name it (--evaluator)")
    given = with_options(
        task,
        option=option,
        space_option=space_option,
        model_option=model_option,
        elastic=elastic,
        data_option=data_option,
        task_option=task_option,
        ray_option=None,
    )
    study = ask_tell(
        own_or_name(space),
        algo,
        out=run,
        trials=trials,
        objectives=dict(map(parse_goal, objective)) if objective else None,
        constraints=constraint,
        evaluator=[evaluator, scoring] if scoring else evaluator,
        data=data,
        seed=seed,
        **given,
    )
    proposals = study.pending() if pending else study.ask(count)
    for proposal in proposals:
        _print(proposal.as_line())
    if not proposals and not pending:
        _print(_done(study))
        raise typer.Exit(SPENT)


@app.command()
def tell(
    run: Annotated[str, typer.Argument(help="Folder of a run.")],
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Measure by the run's own evaluator.")
    ] = False,
    ray_option: Annotated[
        Pairs | None, typer.Option(help="key=value, of an evaluation: cpus_per_worker, ...")
    ] = None,
) -> None:
    """Read results of RUN as JSON lines, and print what the archive holds of each.

    A line is {"trial": 3, "metrics": {"accuracy": 0.9}}, or {"arch": {...}, "metrics": {...}} of an
    architecture that nobody asked; "error" stands in place of metrics that there are not. With
    --evaluate it is {"trial": 3} or {"arch": {...}}. Exit code 3 if the budget has no room for one.
    """
    from raynas.setup.asked_begin import ask_tell

    study = ask_tell(out=run, ray=pairs_or_none(ray_option, "--ray-option"))
    results = study.read(sys.stdin)
    spent = False
    answers = study.evaluate_all(results) if evaluate else iter(study.tell_all(results))

    def answered() -> None:
        nonlocal spent
        for answer in answers:
            spent = spent or answer.trial is None
            _print(_done(study) if answer.trial is None else _known(study, answer.trial, answer))

    stoppable(answered)()
    if spent:
        raise typer.Exit(SPENT)


def _known(study: AskTell, trial: Trial, answer: Answer) -> dict[str, Any]:
    """Return what the archive holds of a trial, and how much of the budget is left."""
    line = _trial(trial) | {"status": trial.status}
    if trial.error is not None:
        line["error"] = trial.error
    if answer.repeated:
        line["repeated"] = True
    return line | {"told": study.told, "trials": study.trials}


def _done(study: AskTell) -> dict[str, Any]:
    """Return that nothing is left, and the best there is."""
    told, best = study.told, study.best
    why = "the budget is spent" if told >= study.trials else "the space holds no more"
    line = {"done": True, "why": why, "told": told, "trials": study.trials}
    return line | {"best": None if best is None else _trial(best)}


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "arch_key": trial.arch.key,
        "arch": dict(trial.arch),
        "objective": trial.objective,
        "metrics": {**trial.metrics, **trial.text_metrics},
    }


def _print(line: dict[str, Any]) -> None:
    print(json.dumps(line, allow_nan=False), flush=True)
