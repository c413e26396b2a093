"""``raynas train-supernet``."""

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
    SpaceOptions,
    TaskName,
    TaskOptions,
    Track,
    TrainRayOptions,
    app,
    out_console,
    own_or_name,
    stoppable,
    trackers,
    with_options,
)
from raynas.cli.completion import complete_run, complete_space, completes


@app.command("train-supernet")
def train_supernet(
    space: Annotated[
        str,
        typer.Argument(
            help="Registered space, module:Class of your own, or a model: timm:resnet18.",
            autocompletion=complete_space,
        ),
    ],
    algo: Annotated[
        list[str] | None,
        typer.Option(
            help="One-shot algorithm; several train one after the other. [default: spos]",
            autocompletion=completes("algorithms"),
        ),
    ] = None,
    data: Annotated[
        str, typer.Option(help="Registered data set.", autocompletion=completes("data"))
    ] = "digits",
    task: TaskName = None,
    supernet: Annotated[
        str | None,
        typer.Option(
            help="Trained supernet whose weights it begins with.", autocompletion=complete_run
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the training, of each algorithm.")] = None,
    seed: Annotated[int, typer.Option(help="Fixes the training.")] = 0,
    out: Annotated[str | None, typer.Option(help="Folder. [default: runs/SPACE-ALGO-N]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --out.")] = False,
    option: Annotated[
        Pairs | None, typer.Option(help="key=value, of the algorithm and its training: lr, ...")
    ] = None,
    space_option: SpaceOptions = None,
    model_option: ModelOptions = None,
    elastic: Elastic = None,
    data_option: DataOptions = None,
    task_option: TaskOptions = None,
    ray_option: TrainRayOptions = None,
    track: Track = None,
    as_json: AsJson = False,
) -> Answer | None:
    """Train a supernet of SPACE, to be searched again and again: raynas search --supernet."""
    from raynas.api import train_supernet as train
    from raynas.report.as_json import supernet_answer
    from raynas.report.console import Line
    from raynas.report.outcome import show_supernet

    given = algo or ["spos"]
    path = stoppable(train)(
        own_or_name(space),
        given[0] if len(given) == 1 else given,
        data=data,
        supernet=supernet,
        epochs=epochs,
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
        return supernet_answer(path)
    show_supernet(out_console, path)
    return None
