"""``raynas profile``."""

from __future__ import annotations

from typing import Annotated

import typer

from raynas.cli.common import (
    Answer,
    AsJson,
    Elastic,
    ModelOptions,
    Pairs,
    SpaceOptions,
    app,
    out_console,
    own_or_name,
    pairs,
    space_options,
)
from raynas.cli.completion import complete_space


@app.command()
def profile(
    space: Annotated[
        str,
        typer.Argument(
            help="Registered space, module:Class of your own, or a model: timm:resnet18.",
            autocompletion=complete_space,
        ),
    ],
    constraint: Annotated[
        Pairs | None, typer.Option(help="METRIC<NUMBER or METRIC>NUMBER, such as macs<60e6.")
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            help="Table: a .parquet, .csv or .json file, such as a run's latency_cpu.json; "
            "or cpu or gpu, measured here."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="Architectures to draw.")] = 1000,
    seed: Annotated[int, typer.Option(help="Fixes the draws.")] = 0,
    space_option: SpaceOptions = None,
    model_option: ModelOptions = None,
    elastic: Elastic = None,
    input_shape: Annotated[
        str | None, typer.Option(help="Of one example, such as 3,32,32, for a space of your own.")
    ] = None,
    as_json: AsJson = False,
) -> Answer | None:
    """Print what SPACE costs before anything is trained, and whether constraints can be met."""
    from raynas.report.as_json import profile_answer
    from raynas.setup.costing import profile as run

    shape = pairs([f"shape=[{input_shape}]"], "--input-shape")["shape"] if input_shape else None
    found = run(
        own_or_name(space),
        constraints=constraint,
        latency=latency,
        samples=samples,
        seed=seed,
        space_options=space_options(space_option, model_option, elastic),
        input_shape=tuple(shape) if shape else None,
    )
    if as_json:
        return profile_answer(found)
    out_console.print(found, highlight=False)
    return None
