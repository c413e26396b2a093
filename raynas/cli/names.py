"""``raynas list`` and ``raynas describe``."""

from __future__ import annotations

from typing import Annotated

import typer

from raynas.cli.common import Answer, AsJson, app, out_console
from raynas.cli.completion import complete_any, complete_kind


@app.command("list")
def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="algorithms, spaces, operators, evaluators, data, ...",
            autocompletion=complete_kind,
        ),
    ] = None,
    as_json: AsJson = False,
) -> Answer | None:
    """List registered names; MB{3,5}E{3,6} stands for MB3E3, MB3E6, MB5E3 and MB5E6."""
    from raynas.report.json_objects import Names
    from raynas.report.plugin import name_list
    from raynas.setup.registries import available, registries

    listed = {name: available(name) for name in ([kind] if kind else registries())}
    if as_json:
        return Names(names=listed)
    for one, names in listed.items():
        text = name_list(names, out_console.width)
        out_console.print(f"{one}:\n{text}", highlight=False, markup=False, soft_wrap=True)
    return None


@app.command()
def describe(
    name: Annotated[
        str,
        typer.Argument(
            help="Registered name, module:Class of your own, or a model: timm:resnet18.",
            autocompletion=complete_any,
        ),
    ],
    as_json: AsJson = False,
) -> Answer | None:
    """Print what a name stands for, its options and their defaults, and an example."""
    from raynas.report.plugin import reflowed
    from raynas.setup.registries import describe as text
    from raynas.setup.registries import description

    if as_json:
        return description(name)
    told = reflowed(text(name), out_console.width)
    out_console.print(told, highlight=False, markup=False, soft_wrap=True)
    return None
