"""The command line: the same names and defaults as the Python functions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from typer.exceptions import TyperException

from raynas.cli import costs, names, pipelines, results, retraining, search, supernets
from raynas.cli.common import app as app
from raynas.cli.common import out_console as out_console

# importing one registers its commands
COMMANDS = (search, supernets, retraining, pipelines, results, costs, names)


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
