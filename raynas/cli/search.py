"""``raynas search``."""

from __future__ import annotations

from typing import Annotated

import typer

from raynas.cli.common import (
    AlgoOptions,
    Answer,
    AsJson,
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
    Track,
    app,
    final_words,
    out_console,
    own_or_name,
    pairs,
    pairs_or_none,
    stoppable,
    trackers,
    with_options,
)
from raynas.cli.completion import complete_run, complete_space, completes


@app.command()
def search(
    space: Annotated[
        str | None,
        typer.Argument(
            help="Registered space, or module:Class of your own; --resume knows it.",
            autocompletion=complete_space,
        ),
    ] = None,
    algo: Annotated[
        str | None,
        typer.Option(
            help="Sampler or one-shot algorithm. [default: regularized_evolution]",
            autocompletion=completes("algorithms"),
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Registered data set. [default: digits, where any is used]",
            autocompletion=completes("data"),
        ),
    ] = None,
    task: TaskName = None,
    evaluator: Annotated[
        str | None,
        typer.Option(
            help="Registered evaluator. [default: shared]", autocompletion=completes("evaluators")
        ),
    ] = None,
    supernet: Annotated[
        str | None,
        typer.Option(
            help="Trained supernet to search: its folder, or a run's.", autocompletion=complete_run
        ),
    ] = None,
    objective: Objectives = None,
    scalarize: Annotated[
        Pairs | None, typer.Option(help="METRIC=weight, to merge several objectives into one.")
    ] = None,
    constraint: Bounds = None,
    latency: Annotated[
        str | None,
        typer.Option(help="Of latency_ms: cpu or gpu, measured here once, or a table's file."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Architectures to evaluate in all. [default: 100]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the supernet's training.")] = None,
    final: Annotated[
        int | None, typer.Option(help="Best ones to evaluate again at the end; best is of these.")
    ] = None,
    final_option: Annotated[
        Pairs | None,
        typer.Option(help="key=value, of that: seeds, evaluator, epochs, ... [default: seeds=3]"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes the run. [default: 0]")] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Run folder or URI. [default: runs/SPACE-ALGO-N]", autocompletion=complete_run
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with --out, by its own settings where none is said."),
    ] = False,
    option: AlgoOptions = None,
    space_option: SpaceOptions = None,
    model_option: ModelOptions = None,
    elastic: Elastic = None,
    data_option: DataOptions = None,
    task_option: TaskOptions = None,
    evaluator_option: EvaluatorOptions = None,
    supernet_option: Annotated[
        Pairs | None,
        typer.Option(help="key=value, of the supernet's training: lr, precision, ..."),
    ] = None,
    ray_option: Annotated[
        Pairs | None, typer.Option(help="key=value, of Ray: workers, address, ...")
    ] = None,
    track: Track = None,
    as_json: AsJson = False,
) -> Answer | None:
    """Search SPACE and print the best architectures."""
    from raynas.api import search as run
    from raynas.core.objectives import parse_goal
    from raynas.report.as_json import search_answer
    from raynas.report.console import Line
    from raynas.report.outcome import show_search
    from raynas.storage.run_folder import absolute

    trained = pairs(supernet_option or [], "--supernet-option")
    scoring = pairs(evaluator_option or [], "--evaluator-option")
    if supernet and trained:
        raise ValueError(
            "--supernet-option is for training one, and --supernet gives a trained one"
        )
    result = stoppable(run)(
        own_or_name(space),
        algo,
        data=data,
        evaluator=[evaluator or "shared", scoring] if scoring else evaluator,
        supernet=absolute(supernet) if supernet else trained or None,
        objectives=dict(map(parse_goal, objective)) if objective else None,
        scalarize=pairs_or_none(scalarize, "--scalarize"),
        constraints=constraint,
        latency=latency,
        trials=trials,
        epochs=epochs,
        final=final_words(final, final_option),
        seed=seed,
        out=out,
        resume=resume,
        **with_options(
            task,
            option=option,
            space_option=space_option,
            model_option=model_option,
            elastic=elastic,
            data_option=data_option,
            task_option=task_option,
            ray_option=ray_option,
        ),
        track=trackers(track),
        progress=Line(),
    )
    if as_json:
        return search_answer(result)
    show_search(out_console, result)
    return None
