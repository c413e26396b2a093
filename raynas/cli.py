"""The command line: the same names and defaults as the Python functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
import yaml
from rich.console import Console
from typer.exceptions import TyperException

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Neural architecture search on Ray. With --debug anywhere, errors show their traceback.",
)
Pairs = list[str]
P = ParamSpec("P")
T = TypeVar("T")
out_console = Console(soft_wrap=False)

Run = Annotated[str, typer.Argument(help="Folder of a run.")]


def pairs(given: Sequence[str], flag: str) -> dict[str, Any]:
    """Read ``key=value`` texts; values are YAML, so numbers, booleans and lists are understood.

    >>> pairs(["width=0.25", "sizes=[3, 5]", "name=abc"], "--option")
    {'width': 0.25, 'sizes': [3, 5], 'name': 'abc'}
    """
    read = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"{flag}: expected key=value, got {text!r}")
        read[key] = yaml.safe_load(value)
    return read


@app.command()
def search(
    space: Annotated[
        str | None,
        typer.Argument(help="Registered space, or module:Class of your own; --resume knows it."),
    ] = None,
    algo: Annotated[
        str | None,
        typer.Option(help="Sampler or one-shot algorithm. [default: regularized_evolution]"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Registered data set. [default: digits, where any is used]")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="What is to be learned. [default: classification]")
    ] = None,
    evaluator: Annotated[
        str | None, typer.Option(help="Registered evaluator. [default: shared]")
    ] = None,
    supernet: Annotated[
        str | None, typer.Option(help="Trained supernet to search: its folder, or a run's.")
    ] = None,
    objective: Annotated[
        Pairs | None, typer.Option(help="METRIC:max or METRIC:min. [default: accuracy:max]")
    ] = None,
    scalarize: Annotated[
        Pairs | None, typer.Option(help="METRIC=weight, to merge several objectives into one.")
    ] = None,
    constraint: Annotated[
        Pairs | None, typer.Option(help="METRIC<NUMBER or METRIC>NUMBER, such as macs<60e6.")
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(help="Of latency_ms: cpu or gpu, measured here once, or a table's file."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Architectures to evaluate in all. [default: 100]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the supernet's training.")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes the run. [default: 0]")] = None,
    out: Annotated[
        str | None, typer.Option(help="Run folder or URI. [default: runs/SPACE-ALGO-N]")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with --out, by its own settings where none is said."),
    ] = False,
    option: Annotated[Pairs | None, typer.Option(help="key=value, of the algorithm.")] = None,
    space_option: Annotated[Pairs | None, typer.Option(help="key=value, of the space.")] = None,
    data_option: Annotated[Pairs | None, typer.Option(help="key=value, of the data.")] = None,
    task_option: Annotated[Pairs | None, typer.Option(help="key=value, of the task.")] = None,
    evaluator_option: Annotated[
        Pairs | None, typer.Option(help="key=value, of the evaluator.")
    ] = None,
    supernet_option: Annotated[
        Pairs | None,
        typer.Option(help="key=value, of the supernet's training: lr, precision, ..."),
    ] = None,
    ray_option: Annotated[
        Pairs | None, typer.Option(help="key=value, of Ray: workers, address, ...")
    ] = None,
) -> None:
    """Search SPACE and print the best architectures."""
    from raynas.api import search as run
    from raynas.core.objectives import parse_goal
    from raynas.report.console import Line
    from raynas.report.outcome import show_search
    from raynas.storage.run_folder import absolute

    trained = pairs(supernet_option or [], "--supernet-option")
    scoring = pairs(evaluator_option or [], "--evaluator-option")
    if supernet and trained:
        raise ValueError(
            "--supernet-option is for training one, and --supernet gives a trained one"
        )
    result = stoppable(run)(
        space if space is None or ":" not in space else _own(space),
        algo,
        data=data,
        task=_task(task, task_option),
        evaluator=[evaluator or "shared", scoring] if scoring else evaluator,
        supernet=absolute(supernet) if supernet else trained or None,
        objectives=dict(map(parse_goal, objective)) if objective else None,
        scalarize=pairs(scalarize, "--scalarize") if scalarize else None,
        constraints=constraint,
        latency=latency,
        trials=trials,
        epochs=epochs,
        seed=seed,
        out=out,
        resume=resume,
        ray=pairs(ray_option, "--ray-option") if ray_option else None,
        options=pairs(option, "--option") if option else None,
        space_options=pairs(space_option, "--space-option") if space_option else None,
        data_options=pairs(data_option, "--data-option") if data_option else None,
        progress=Line(),
    )
    show_search(out_console, result)


def _task(name: str | None, options: Pairs | None) -> Any:
    """Return a task by name, with its options if there are any."""
    given = pairs(options or [], "--task-option")
    return [name or "classification", given] if given else name


def stoppable(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that Ctrl-C says what it left, and ends with code 130."""

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt as stop:
            print(f"stopped {stop}".strip(), file=sys.stderr)
            raise typer.Exit(130) from None

    return run


def _own(path: str) -> Any:
    from raynas.setup.objects import imported

    return imported(path)


@app.command()
def profile(
    space: Annotated[str, typer.Argument(help="Registered space, or module:Class of your own.")],
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
    space_option: Annotated[Pairs | None, typer.Option(help="key=value, of the space.")] = None,
    input_shape: Annotated[
        str | None, typer.Option(help="Of one example, such as 3,32,32, for a space of your own.")
    ] = None,
) -> None:
    """Print what SPACE costs before anything is trained, and whether constraints can be met."""
    from raynas.costing import profile as run

    shape = pairs([f"shape=[{input_shape}]"], "--input-shape")["shape"] if input_shape else None
    found = run(
        _own(space) if ":" in space else space,
        constraints=constraint,
        latency=latency,
        samples=samples,
        seed=seed,
        space_options=pairs(space_option or [], "--space-option"),
        input_shape=tuple(shape) if shape else None,
    )
    out_console.print(found, highlight=False)


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
def retrain(
    run: Annotated[
        str,
        typer.Argument(
            help="Folder of a run; or, with --space, an architecture: a .json file or a genotype."
        ),
    ],
    trial: Annotated[int | None, typer.Option(help="Its number. [default: the best]")] = None,
    space: Annotated[
        str | None, typer.Option(help="Of an architecture: registered, or module:Class.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Registered data set. [default: RUN's]")] = None,
    task: Annotated[
        str | None, typer.Option(help="What is to be learned. [default: RUN's]")
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
    data_option: Annotated[Pairs | None, typer.Option(help="key=value, of the data.")] = None,
    task_option: Annotated[Pairs | None, typer.Option(help="key=value, of the task.")] = None,
    ray_option: Annotated[
        Pairs | None, typer.Option(help="key=value, of Ray: train_workers, ...")
    ] = None,
) -> None:
    """Train an architecture to the end: the best of RUN, from scratch, unless other is said."""
    from raynas.api import retrain as train
    from raynas.report.console import Line
    from raynas.report.outcome import show_training
    from raynas.results.result import Result

    trained = stoppable(train)(
        run,
        arch=None if trial is None else _arch_of(Result(run), trial),
        space=space if space is None or ":" not in space else _own(space),
        data=data,
        task=_task(task, task_option),
        epochs=epochs,
        inherit=inherit,
        seed=seed,
        out=out,
        resume=resume,
        ray=pairs(ray_option, "--ray-option") if ray_option else None,
        options=pairs(option, "--option") if option else None,
        space_options=pairs(space_option, "--space-option") if space_option else None,
        data_options=pairs(data_option, "--data-option") if data_option else None,
        progress=Line(),
    )
    show_training(out_console, trained)


def _arch_of(result: Any, trial: int) -> Any:
    """Return the architecture of a run's trial."""
    from raynas.core.arch import Arch

    frame = result.trials
    archs = frame.loc[frame["trial"] == trial, "arch"].tolist()
    if not archs:
        known = f"{frame['trial'].min()} to {frame['trial'].max()}" if len(frame) else "none"
        raise ValueError(f"--trial: {result.path} has no trial {trial}; it has {known}")
    return Arch.from_json(archs[0])


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
    arch = _arch_of(result, number)
    result.export(file, arch, whole=whole)
    line = f"{file}: trial {number} ({arch.key})"
    if whole:
        line += ", at full width, with fresh weights: untrained"
    elif not file.endswith(".json") and result.rebuilt.narrow:
        line += f", {NARROW}"
    out_console.print(line, highlight=False, soft_wrap=True, markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 failed, 2 misused, 130 stopped."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = [argument for argument in given if argument != "--debug"]
    if str(Path.cwd()) not in sys.path:  # `raynas` is a script: a user's own modules lie here
        sys.path.insert(0, str(Path.cwd()))
    try:
        code = app(arguments, standalone_mode=False, prog_name="raynas")
    except TyperException as error:
        text = getattr(error, "format_message", error.__str__)()
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
        return 2
    except Exception as error:
        if arguments != given:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return int(code or 0)
