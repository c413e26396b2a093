"""What a run found: ``raynas trials``, ``report``, ``verify`` and ``export``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from raynas.cli.common import (
    Answer,
    AsJson,
    Force,
    Pairs,
    Run,
    app,
    arch_of,
    out_console,
    pairs,
    stoppable,
    writable,
)
from raynas.core.locations import is_uri


@app.command()
def trials(
    run: Run,
    sort: Annotated[str, typer.Option(help="Column, largest first.")] = "objective",
    csv: Annotated[bool, typer.Option("--csv", help="All columns, comma-separated.")] = False,
    as_json: AsJson = False,
) -> Answer | None:
    """Print a run's trials."""
    from raynas.core.errors import nearest
    from raynas.report.as_json import trials_answer
    from raynas.report.order import best_first
    from raynas.report.trial_tables import columns_of, flat, for_spreadsheets, trial_table
    from raynas.results.result import Result

    result = Result(run)
    frame = result.judged
    if sort not in frame:
        raise ValueError(f"--sort: no column is named {sort!r}; {nearest(sort, frame.columns)}")
    frame = best_first(frame, sort)
    if as_json and csv:
        raise ValueError("--json and --csv are two forms of the same; choose one")
    if as_json:
        return trials_answer(result, frame)
    if csv:
        sys.stdout.write(for_spreadsheets(flat(frame)))
        return None
    metrics = [*result.config.objectives, "loss", "params", "macs"]
    out_console.print(trial_table(frame, columns_of(metrics), result.path))
    return None


@app.command()
def report(
    run: Run,
    out: Annotated[str | None, typer.Option(help="File. [default: RUN/report.html]")] = None,
    force: Force = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write it anew until the run has ended, or Ctrl-C.")
    ] = False,
    every: Annotated[
        float | None, typer.Option(help="Seconds between two pages, with --watch. [default: 5]")
    ] = None,
    as_json: AsJson = False,
) -> Answer | None:
    """Write pictures of a run as one HTML page that opens offline."""
    from raynas.report.json_objects import Report
    from raynas.results.result import Result

    if every is not None and not watch:
        raise ValueError("--every goes with --watch")
    result = Result(run)
    if out is not None:
        writable(out, force=force)
    file = _watched(run, out, every) if watch else result.report(out)
    if as_json:
        return Report(file=file)
    out_console.print(file, highlight=False, soft_wrap=True, markup=False)
    return None


def _watched(run: str, out: str | None, every: float | None) -> str:
    """Write a report until its run has ended, saying how far it is, and return its path."""
    from raynas.results.watch import EVERY_S, watch

    def say(file: str, told: int, planned: int) -> None:
        print(f"{file}: {told}/{planned} trials", file=sys.stderr, flush=True)

    return stoppable(watch)(run, out, every_s=EVERY_S if every is None else every, wrote=say)


@app.command()
def verify(
    run: Run,
    top: Annotated[int, typer.Option(help="How many of the best.")] = 5,
    seeds: Annotated[int, typer.Option(help="Trainings of each architecture.")] = 3,
    option: Annotated[
        Pairs | None, typer.Option(help="key=value of the training, such as epochs=10.")
    ] = None,
    ray_option: Annotated[Pairs | None, typer.Option(help="key=value, of Ray.")] = None,
    as_json: AsJson = False,
) -> Answer | None:
    """Retrain the best of a run, and as many random architectures, to see what scores are worth."""
    from raynas.report.as_json import verified_answer
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
    if as_json:
        return verified_answer(result.path, found)
    out_console.print()
    rescored = result.config.supernet is not None
    out_console.print(verification_table(found.table, rescored=rescored, metric=found.metric))
    out_console.print(str(found), highlight=False, soft_wrap=True)
    return None


@app.command()
def export(
    run: Run,
    file: Annotated[
        str,
        typer.Argument(
            help="Ends in .json (decisions), .pt (weights), .pt2, .onnx or .pte (network); or in "
            ".db or .journal: all trials, as a study of Optuna; or in /: a folder that a converted "
            "model loads from without raynas."
        ),
    ],
    trial: Annotated[int | None, typer.Option(help="Its number. [default: the best]")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="The network at full width, with fresh weights.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> Answer | None:
    """Write an architecture of a run, all of its trials, or a retrained network to a file.

    RUN/retrained/N is the folder of a retrained network.
    """
    from raynas.report.json_objects import Exported
    from raynas.report.outcome import NARROW
    from raynas.results.optuna_study import ENDINGS
    from raynas.results.result import Result
    from raynas.storage.retrain_folder import is_retraining

    if is_retraining(run):
        if trial is not None or whole or file.endswith(ENDINGS):
            raise ValueError(
                f"export: {run} holds one trained network: leave out --trial and --whole, and name "
                "no study"
            )
        return _export_trained(run, file, force=force, as_json=as_json)
    result = Result(run)
    if file.endswith(ENDINGS):
        if trial is not None or whole:
            raise ValueError(f"export: {file} takes all trials: leave out --trial and --whole")
        writable(file, force=force)
        return _export_trials(result, file, force=force, as_json=as_json)
    number = result.best.number if trial is None else trial
    arch = arch_of(result, number)
    _check_place(file, force=force)
    loaded_by = None
    with _said_meanwhile(result.config.space.name, file):
        if file.endswith("/"):
            loaded_by = result.save(file, arch, whole=whole, force=force)
        else:
            result.export(file, arch, whole=whole)
    if as_json:
        return Exported(file=file, trial=number, key=arch.key, arch=dict(arch), whole=whole)
    line = f"{file}: trial {number} ({arch.key})"
    if whole:
        line += ", at full width, with fresh weights: untrained"
    elif not file.endswith(".json") and result.rebuilt.is_trained(arch):
        line += ", as trained at the end of the search"
    elif not file.endswith(".json") and result.rebuilt.narrow:
        line += f", {NARROW}"
    if loaded_by is not None:
        line += f", loaded by {loaded_by}"
    out_console.print(line, highlight=False, soft_wrap=True, markup=False)
    return None


@contextmanager
def _said_meanwhile(space: str, file: str) -> Iterator[None]:
    """Say that a network is made: where somebody looks on, and of a model that is converted again.

    Args:
        space: its name.
        file: that the network is for.
    """
    from raynas.core.model_names import is_model_name
    from raynas.report.console import Line, progress_of

    news = Line() if is_model_name(space) else progress_of(None)
    if not file.endswith(".json"):
        news.phase(f"making the network for {file}")
    try:
        yield
    finally:
        news.close()


def _check_place(file: str, *, force: bool) -> None:
    """Raise an error unless a file can be written, or what is named is a folder by its end."""
    if file.endswith("/"):
        return
    if not Path(file).suffix and not is_uri(file):
        what = "has no ending that says what to write (raynas export --help)"
        if Path(file).is_dir():
            what = "is a folder; name a file"
        raise ValueError(
            f"export: {file} {what}; a folder for a converted model's network ends in /: {file}/"
        )
    writable(file, force=force)


def _export_trials(result: Any, file: str, *, force: bool, as_json: bool) -> Answer | None:
    """Write all trials of a run as a study of Optuna, and say so."""
    from raynas.core.locations import last_name
    from raynas.report.json_objects import Exported

    result.export(file, force=force)
    if as_json:
        return Exported(file=file, trial=None, key=None, arch=None, whole=False)
    name = last_name(result.path)
    line = f"{file}: {len(result.trials)} trials as the study {name!r} of Optuna"
    out_console.print(line, highlight=False, soft_wrap=True, markup=False)
    return None


def _export_trained(run: str, file: str, *, force: bool, as_json: bool) -> Answer | None:
    """Write a retrained network, and say so."""
    from raynas.report.json_objects import Exported
    from raynas.results.trained import Trained

    trained, loaded_by = Trained(run), ""
    _check_place(file, force=force)
    with _said_meanwhile(trained.config.space.name, file):
        if file.endswith("/"):
            loaded_by = f", loaded by {trained.save(file, force=force)}"
        else:
            trained.export(file)
    arch = trained.arch
    if as_json:
        return Exported(file=file, trial=None, key=arch.key, arch=dict(arch), whole=False)
    line = f"{file}: {arch.key}, retrained{loaded_by}"
    out_console.print(line, highlight=False, soft_wrap=True, markup=False)
    return None
