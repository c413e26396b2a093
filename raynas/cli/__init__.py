"""The command line: the same names and defaults as the Python functions."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from typer.exceptions import TyperException

from raynas.cli import (
    ask_tell,
    costs,
    dashboard,
    names,
    pictures,
    pipelines,
    results,
    retraining,
    search,
    supernets,
)
from raynas.cli.common import Answer
from raynas.cli.common import app as app
from raynas.cli.common import out_console as out_console
from raynas.cli.exit_codes import DONE, MISUSED, exit_code
from raynas.cli.model_completion import for_bash
from raynas.core.locations import masked

# importing one registers its commands
COMMANDS = (
    search,
    supernets,
    retraining,
    pipelines,
    ask_tell,
    results,
    pictures,
    dashboard,
    costs,
    names,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    That is 0, 1 failed, 2 misused, 3 nothing left, 130 stopped, or 143 terminated.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = [argument for argument in given if argument != "--debug"]
    if str(Path.cwd()) not in sys.path:  # `raynas` is a script: a user's own modules lie here
        sys.path.insert(0, str(Path.cwd()))
    try:
        returned = _answer(arguments)
    except TyperException as error:
        text = getattr(error, "format_message", error.__str__)()
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
        return MISUSED
    except SystemExit as stop:  # SIGTERM, which was told already
        return int(stop.code or 0)
    except Exception as error:
        if arguments != given:
            raise
        print(f"error: {_sentence(error)}", file=sys.stderr)
        return exit_code(error)
    if isinstance(returned, int):
        return returned
    if returned is not None:
        _write(returned.text())
    return DONE


def _answer(arguments: Sequence[str]) -> Answer | int | None:
    """Run a command and return its exit code, or what it has to say as JSON.

    That leaves standard output to the JSON: what else is printed goes to standard error.
    """

    def run() -> Answer | int | None:
        with for_bash(os.environ):
            returned: Answer | int | None = app(
                list(arguments), standalone_mode=False, prog_name="raynas"
            )
        return returned

    if "--json" not in arguments or "--help" in arguments:
        return run()
    with redirect_stdout(sys.stderr):
        return run()


def _write(text: str) -> None:
    """Write a line to standard output, of which a reader may take what it likes."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # Python would report what is left in its buffer at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _sentence(error: Exception) -> str:
    """Return what an error says, without its own name but where it says nothing else."""
    return masked(" ".join(str(error).split())) or type(error).__name__
