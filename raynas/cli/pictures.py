"""Pictures of runs: ``raynas plot`` and ``raynas ui``."""

from __future__ import annotations

from typing import Annotated

import typer

from raynas.cli.common import Answer, AsJson, Force, Run, app, out_console, stoppable, writable

Metric = Annotated[str | None, typer.Option(help="Metric.")]
TAKES = {"pareto": ("x", "y"), "rank_correlation": ("x", "y"), "importance": ("metric",)}


def complete_picture(incomplete: str) -> list[str]:
    """Complete the name of a picture."""
    from raynas.results.plots import PICTURES

    return [name for name in PICTURES if name.startswith(incomplete)]


@app.command()
def plot(
    run: Run,
    picture: Annotated[
        str,
        typer.Argument(
            help="history, pareto, choices, importance, architecture, timeline, ...",
            autocompletion=complete_picture,
        ),
    ],
    file: Annotated[
        str, typer.Argument(help="Ends in .png, .svg, .pdf, .jpg, .webp, .html or .json.")
    ],
    x: Metric = None,
    y: Metric = None,
    metric: Metric = None,
    force: Force = False,
    as_json: AsJson = False,
) -> Answer | None:
    """Write one picture of a run to a file."""
    from raynas.core.errors import nearest
    from raynas.report.figure_files import checked_figure_file
    from raynas.report.run_rows import Picture
    from raynas.results.plots import PICTURES
    from raynas.results.result import Result

    if picture not in PICTURES:
        raise ValueError(f"there is no picture {picture!r}; {nearest(picture, PICTURES)}")
    given = {"x": x, "y": y, "metric": metric}
    options = {name: value for name, value in given.items() if value is not None}
    for name in options:
        if name not in TAKES.get(picture, ()):
            takers = [taker for taker, names in TAKES.items() if name in names]
            raise ValueError(f"--{name} goes with {' and '.join(takers)}, not with {picture}")
    checked_figure_file(file)
    writable(file, force=force)
    getattr(Result(run).plot, picture)(**options, file=file)
    if as_json:
        return Picture(picture=picture, file=file)
    out_console.print(file, highlight=False, soft_wrap=True, markup=False)
    return None


@app.command()
def ui(
    folder: Annotated[str, typer.Argument(help="Folder of runs, or of one.")] = "runs",
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 0,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2)] = 5.0,
    as_json: AsJson = False,
) -> Answer | None:
    """Show the runs of a folder in the browser, compare them and follow them; Ctrl-C ends it."""
    from raynas.results.run_list import RunList
    from raynas.results.ui_server import UiServer, runs_answer

    runs = RunList(folder)
    if as_json:
        return runs_answer(runs)
    with UiServer(runs, host=host, port=port, every_s=every) as server:
        line = f"{server.url} shows the runs in {runs.root}; Ctrl-C ends it"
        out_console.print(line, highlight=False, soft_wrap=True, markup=False)
        stoppable(server.serve_forever)()
    return None
