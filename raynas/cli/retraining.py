"""``raynas retrain``."""

from __future__ import annotations

from typing import Annotated

import typer

from raynas.cli.common import (
    Answer,
    AsJson,
    DataOptions,
    Elastic,
    ModelOptions,
    Pairs,
    TaskOptions,
    Track,
    TrainRayOptions,
    app,
    arch_of,
    out_console,
    own_or_name,
    stoppable,
    trackers,
    with_options,
)
from raynas.cli.completion import complete_run, complete_space, completes


@app.command()
def retrain(
    run: Annotated[
        str,
        typer.Argument(
            help="Folder of a run; or, with --space, an architecture: a .json file or a genotype.",
            autocompletion=complete_run,
        ),
    ],
    trial: Annotated[int | None, typer.Option(help="Its number. [default: the best]")] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="Of an architecture: registered, or module:Class.",
            autocompletion=complete_space,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Registered data set. [default: RUN's]", autocompletion=completes("data")
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="What is to be learned. [default: RUN's]", autocompletion=completes("tasks")
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the training. [default: 100]")] = None,
    inherit: Annotated[
        bool, typer.Option("--inherit", help="Begin with the weights of the run's supernet.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Fixes the training. [default: RUN's]")] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder or URI. [default: RUN/retrained/N]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with --out, or the newest in RUN.")
    ] = False,
    option: Annotated[
        Pairs | None,
        typer.Option(help="key=value, of the training: optimizer, lr, mixup, drop_path, ..."),
    ] = None,
    space_option: Annotated[
        Pairs | None, typer.Option(help="key=value that differs, of the space: channels, ...")
    ] = None,
    model_option: ModelOptions = None,
    elastic: Elastic = None,
    data_option: DataOptions = None,
    task_option: TaskOptions = None,
    ray_option: TrainRayOptions = None,
    track: Track = None,
    as_json: AsJson = False,
) -> Answer | None:
    """Train an architecture to the end: the best of RUN, from scratch, unless other is said."""
    from raynas.api import retrain as train
    from raynas.report.as_json import training_answer
    from raynas.report.console import Line
    from raynas.report.outcome import show_training
    from raynas.results.result import Result

    trained = stoppable(train)(
        run,
        arch=None if trial is None else arch_of(Result(run), trial),
        space=own_or_name(space),
        data=data,
        epochs=epochs,
        inherit=inherit,
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
        return training_answer(trained)
    show_training(out_console, trained)
    return None
