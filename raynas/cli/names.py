"""``raynas list`` and ``raynas describe``."""

from __future__ import annotations

from typing import Annotated

import typer

from raynas.cli.common import app, out_console


@app.command("list")
def list_names(
    kind: Annotated[
        str | None, typer.Argument(help="algorithms, spaces, operators, evaluators, data, ...")
    ] = None,
) -> None:
    """List registered names; MB{3,5}E{3,6} stands for MB3E3, MB3E6, MB5E3 and MB5E6."""
    from raynas.report.plugin import name_list
    from raynas.setup.registries import available, registries

    for one in [kind] if kind else registries():
        names = name_list(available(one), out_console.width)
        out_console.print(f"{one}:\n{names}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def describe(name: Annotated[str, typer.Argument(help="Registered name.")]) -> None:
    """Print what a registered name is, its options and their defaults."""
    from raynas.report.plugin import reflowed
    from raynas.setup.registries import describe as text

    told = reflowed(text(name), out_console.width)
    out_console.print(told, highlight=False, markup=False, soft_wrap=True)
