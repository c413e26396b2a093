"""``raynas run`` and ``raynas convert``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from raynas.cli.common import (
    Answer,
    AsJson,
    Pairs,
    Track,
    app,
    out_console,
    pairs,
    stoppable,
    trackers,
)


@app.command()
def run(
    config: Annotated[str, typer.Argument(help="YAML file: supernet, search and retrain steps.")],
    sets: Annotated[
        Pairs | None,
        typer.Option("--set", help="key.path=value in place of the file's: search.trials=500."),
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="With the file's own values for a short run.")
    ] = False,
    out: Annotated[str | None, typer.Option(help="Folder or URI. [default: the file's]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --out.")] = False,
    track: Track = None,
    as_json: AsJson = False,
) -> Answer | None:
    """Run the steps of a configuration file."""
    from raynas.api import run as run_steps
    from raynas.report.as_json import steps_answer
    from raynas.report.console import Line
    from raynas.report.outcome import show_search, show_supernet, show_training
    from raynas.results.result import Result

    outcomes = stoppable(run_steps)(
        config,
        sets=pairs(sets or [], "--set"),
        smoke=smoke,
        out=out,
        resume=resume,
        track=trackers(track),
        progress=Line(),
    )
    if as_json:
        return steps_answer(outcomes)
    for outcome in outcomes:
        if isinstance(outcome, str):
            show_supernet(out_console, outcome)
        elif isinstance(outcome, Result):
            show_search(out_console, outcome)
        else:
            show_training(out_console, outcome)
    return None


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="YAML file of Vega's or ModularNAS'.")],
    target: Annotated[str | None, typer.Argument(help="File to write. [default: print it]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Turn a configuration of Vega's or ModularNAS' into one that raynas run takes."""
    from raynas.setup.vega.file import convert as converted

    text = converted(source, target, force=force)
    if target is None:
        sys.stdout.write(text)
        return
    for line in text.splitlines():
        if line.startswith("# "):
            print(line.removeprefix("# "), file=sys.stderr)
