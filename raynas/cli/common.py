"""What all commands share: the application, and how flags are read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, ParamSpec, Protocol, TypeVar

import typer
from rich.console import Console

from raynas.cli.completion import complete_run, completes
from raynas.cli.exit_codes import STOPPED
from raynas.core.locations import is_uri
from raynas.core.model_names import is_own_path

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Neural architecture search on Ray. With --debug anywhere, errors show their traceback.",
)
Pairs = list[str]
P = ParamSpec("P")
T = TypeVar("T")
out_console = Console(soft_wrap=False)


class Answer(Protocol):
    """What a command returns with ``--json``: see ``raynas.report.json_objects``."""

    def text(self) -> str:
        """Return it as strict JSON."""
        ...


Run = Annotated[str, typer.Argument(help="Folder of a run.", autocompletion=complete_run)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, and nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Write over a file that is there.")]
TaskName = Annotated[
    str | None,
    typer.Option(
        help="What is to be learned. [default: classification]", autocompletion=completes("tasks")
    ),
]
SpaceOptions = Annotated[Pairs | None, typer.Option(help="key=value, of the space.")]
ModelOptions = Annotated[
    Pairs | None, typer.Option(help="key=value, of a library's model: hidden_size, weights, ...")
]
Elastic = Annotated[
    Pairs | None,
    typer.Option(help="What of a model may become smaller: width=0.5,1.0, depth=true, kernel=3,5."),
]
DataOptions = Annotated[Pairs | None, typer.Option(help="key=value, of the data.")]
TaskOptions = Annotated[Pairs | None, typer.Option(help="key=value, of the task.")]
TrainRayOptions = Annotated[
    Pairs | None, typer.Option(help="key=value, of Ray: train_workers, ...")
]
Objectives = Annotated[
    Pairs | None, typer.Option(help="METRIC:max or METRIC:min. [default: accuracy:max]")
]
Bounds = Annotated[
    Pairs | None, typer.Option(help="METRIC<NUMBER or METRIC>NUMBER, such as macs<60e6.")
]
AlgoOptions = Annotated[Pairs | None, typer.Option(help="key=value, of the algorithm.")]
EvaluatorOptions = Annotated[Pairs | None, typer.Option(help="key=value, of the evaluator.")]
Track = Annotated[
    list[str] | None,
    typer.Option(
        help="Tracker, such as tensorboard, mlflow, wandb, or mlflow:experiment=NAME,uri=URI.",
        autocompletion=completes("trackers"),
    ),
]


def pairs(given: Iterable[str], flag: str) -> dict[str, Any]:
    """Read ``key=value`` texts; values are YAML, so numbers, booleans and lists are understood.

    >>> pairs(["width=0.25", "sizes=[3, 5]", "name=abc", "lr=3e-4"], "--option")
    {'width': 0.25, 'sizes': [3, 5], 'name': 'abc', 'lr': 0.0003}
    """
    from raynas.setup.yaml_text import read_yaml

    read = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"{flag}: expected key=value, got {text!r}")
        try:
            read[key] = read_yaml(value)
        except ValueError as error:
            raise ValueError(f"{flag}: {text!r}: {error}") from None
    return read


def trackers(given: Sequence[str] | None) -> list[tuple[str, dict[str, Any]]] | None:
    """Read names of trackers, and their options behind a colon; None where there are none.

    >>> trackers(["tensorboard", "mlflow:experiment=mine,uri=http://host:5000"])
    [('tensorboard', {}), ('mlflow', {'experiment': 'mine', 'uri': 'http://host:5000'})]
    """
    parts = [text.partition(":") for text in given or ()]
    named = [(n, pairs(filter(None, options.split(",")), "--track")) for n, _, options in parts]
    return named or None


def with_options(
    task: str | None,
    *,
    option: Pairs | None,
    space_option: Pairs | None,
    data_option: Pairs | None,
    task_option: Pairs | None,
    ray_option: Pairs | None,
    model_option: Pairs | None = None,
    elastic: Pairs | None = None,
) -> dict[str, Any]:
    """Return the arguments that searches and trainings have alike, of flags of their names."""
    of_task = pairs(task_option or [], "--task-option")
    return {
        "task": [task or "classification", of_task] if of_task else task,
        "options": pairs_or_none(option, "--option"),
        "space_options": space_options(space_option, model_option, elastic),
        "data_options": pairs_or_none(data_option, "--data-option"),
        "ray": pairs_or_none(ray_option, "--ray-option"),
    }


def space_options(
    space_option: Pairs | None, model_option: Pairs | None, elastic: Pairs | None
) -> dict[str, Any] | None:
    """Return the options of a space, of flags of their names; None where there are none.

    >>> space_options(None, ["hidden_size=64"], ["width=0.5,1", "depth=true", "skip=*attn,fc"])
    {'hidden_size': 64, 'elastic': {'width': [0.5, 1], 'depth': True, 'skip': ['*attn', 'fc']}}
    """
    options = pairs(space_option or [], "--space-option")
    options |= pairs(model_option or [], "--model-option")
    if elastic:
        options["elastic"] = {
            key: value for text in elastic for key, value in _elastic(text).items()
        }
    return options or None


def _elastic(text: str) -> dict[str, Any]:
    """Read ``width=0.5,1.0``; several values need no brackets, and patterns no quotes."""
    key, _, value = text.partition("=")
    if key in ("only", "skip") and value:
        return {key: value.split(",")}
    listed = "," in value and not value.startswith("[")
    return pairs([f"{key}=[{value}]" if listed else text], "--elastic")


def final_words(top: int | None, options: Pairs | None) -> int | dict[str, Any] | None:
    """Return what ``raynas.search`` takes as ``final``, of flags of that name.

    >>> final_words(5, ["seeds=1", "epochs=10"]), final_words(0, None)
    ({'top': 5, 'seeds': 1, 'epochs': 10}, 0)

    Raises:
        ValueError: options of an end that is left out, or how many twice.
    """
    if not options:
        return top
    given = pairs(options, "--final-option")
    if top == 0:
        raise ValueError("--final 0 leaves the end out: leave out --final-option")
    if top is not None and "top" in given:
        raise ValueError(f"--final {top} and --final-option top={given['top']}: leave out either")
    return ({} if top is None else {"top": top}) | given


def stoppable(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that Ctrl-C says what it left, and ends with code 130."""

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt as stop:
            print(f"stopped {stop}".strip(), file=sys.stderr)
            raise typer.Exit(STOPPED) from None

    return run


def own_or_name(space: str | None) -> Any:
    """Return a registered space's or a model's name, or what ``module:Class`` names."""
    from raynas.setup.objects import imported

    return imported(space) if space is not None and is_own_path(space) else space


def writable(file: str, *, force: bool) -> None:
    """Check that a file can be made without writing over one that nobody asked to.

    Args:
        file: local path.
        force: whether somebody asked to.

    Raises:
        OSError: a file or a folder is there, or no folder to write it to.
        ValueError: it is a URI.
    """
    if is_uri(file):
        raise ValueError(f"{file} is a URI: expected a local file, which may be copied there")
    path = Path(file)
    if path.is_dir():
        raise IsADirectoryError(f"{file} is a folder; name a file")
    if path.exists() and not force:
        raise FileExistsError(f"{file} is there already: name another file, or pass --force")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")


def pairs_or_none(given: Sequence[str] | None, flag: str) -> dict[str, Any] | None:
    """Read texts as ``pairs`` does; None where the flag was not given."""
    return pairs(given, flag) if given else None


def arch_of(result: Any, trial: int) -> Any:
    """Return the architecture of a run's trial."""
    from raynas.core.arch import Arch

    frame = result.trials
    archs = frame.loc[frame["trial"] == trial, "arch"].tolist()
    if not archs:
        known = f"{frame['trial'].min()} to {frame['trial'].max()}" if len(frame) else "none"
        raise ValueError(f"--trial: {result.path} has no trial {trial}; it has {known}")
    return Arch.from_json(archs[0])
