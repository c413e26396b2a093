"""``raynas dashboard``."""

from __future__ import annotations

from typing import Annotated

import typer

from raynas.cli.common import Run, app, out_console, stoppable


@app.command()
def dashboard(
    run: Run,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is reached from here alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
) -> None:
    """Show a run in optuna-dashboard, with the report's pictures; Ctrl-C ends it."""
    from raynas.results.dashboard import check_free, serve
    from raynas.results.result import Result

    result = Result(run)
    check_free(host, port)
    served = result.dashboard()
    name = f"[{host}]" if ":" in host else host
    line = f"http://{name}:{port}/dashboard shows {len(result.trials)} trials; Ctrl-C ends it"
    out_console.print(line, highlight=False, soft_wrap=True, markup=False)
    stoppable(serve)(served, host, port)
