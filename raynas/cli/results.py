"""What a run found: ``raynas trials``, ``report``, ``verify`` and ``export``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from raynas.cli.common import Pairs, Run, app, arch_of, out_console, pairs, stoppable


@app.command()
def trials(
    run: Run,
    sort: Annotated[str, typer.Option(help="Column, largest first.")] = "objective",
    csv: Annotated[bool, typer.Option("--csv", help="All columns, comma-separated.")] = False,
) -> None:
    """Print a run's trials."""
    from raynas.core.errors import nearest
    from raynas.report.order import best_first
    from raynas.report.trial_tables import flat, trial_table
    from raynas.results.result import Result

    result = Result(run)
    frame = result.judged
    if sort not in frame:
        raise ValueError(f"--sort: no column is named {sort!r}; {nearest(sort, frame.columns)}")
    frame = best_first(frame, sort)
    if csv:
        sys.stdout.write(flat(frame).to_csv(index=False))
        return
    metrics = [*result.config.objectives, "loss", "params", "macs"]
    out_console.print(trial_table(frame, list(dict.fromkeys(metrics)), result.path))


@app.command()
def report(
    run: Run,
    out: Annotated[str | None, typer.Option(help="File. [default: RUN/report.html]")] = None,
) -> None:
    """Write pictures of a run as one HTML page that opens offline."""
    from raynas.results.result import Result

    out_console.print(Result(run).report(out), highlight=False, soft_wrap=True, markup=False)


@app.command()
def verify(
    run: Run,
    top: Annotated[int, typer.Option(help="How many of the best.")] = 5,
    seeds: Annotated[int, typer.Option(help="Trainings of each architecture.")] = 3,
    option: Annotated[
        Pairs | None, typer.Option(help="key=value of the training, such as epochs=10.")
    ] = None,
    ray_option: Annotated[Pairs | None, typer.Option(help="key=value, of Ray.")] = None,
) -> None:
    """Retrain the best of a run, and as many random architectures, to see what scores are worth."""
    from raynas.report.console import Line
    from raynas.report.trial_tables import verification_table
    from raynas.results.result import Result

    result = Result(run)
    found = stoppable(result.verify)(
        top,
        seeds,
        options=pairs(option or [], "--option"),
        ray=pairs(ray_option or [], "--ray-option"),
        progress=Line(),
    )
    out_console.print()
    rescored = result.config.supernet is not None
    out_console.print(verification_table(found.table, rescored=rescored, metric=found.metric))
    out_console.print(str(found), highlight=False, soft_wrap=True)


@app.command()
def export(
    run: Run,
    file: Annotated[
        str,
        typer.Argument(help="Ends in .json (decisions), .pt (weights), .pt2 or .onnx (network)."),
    ],
    trial: Annotated[int | None, typer.Option(help="Its number. [default: the best]")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="The network at full width, with fresh weights.")
    ] = False,
) -> None:
    """Write an architecture of a run to a file."""
    from raynas.report.outcome import NARROW
    from raynas.results.result import Result

    result = Result(run)
    number = result.best.number if trial is None else trial
    arch = arch_of(result, number)
    result.export(file, arch, whole=whole)
    line = f"{file}: trial {number} ({arch.key})"
    if whole:
        line += ", at full width, with fresh weights: untrained"
    elif not file.endswith(".json") and result.rebuilt.narrow:
        line += f", {NARROW}"
    out_console.print(line, highlight=False, soft_wrap=True, markup=False)
