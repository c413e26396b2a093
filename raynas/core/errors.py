"""The errors that raynas raises on purpose, and how they name the nearest valid word."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any


class InvalidArch(ValueError):
    """An architecture that its space does not hold."""


class InvalidSpace(ValueError):
    """A space that contradicts itself, such as one label with two sets of options."""


class Exhausted(Exception):
    """A sampler has proposed every architecture it ever will."""


class Waiting(Exception):
    """A sampler proposes nothing before it is told what is in flight."""


class StoreMismatch(ValueError):
    """A folder on disk holds something else than what is being written or read."""


class UnknownName(KeyError):
    """A name that nothing is registered under."""

    def __str__(self) -> str:  # a KeyError shows the repr of its text
        return str(self.args[0])


class Unfinished(LookupError):
    """A run or a training that has not come to what is asked of it, such as a completed trial."""


class SearchFailed(RuntimeError):
    """A search that cannot go on, such as one whose objective is never measured."""


class FolderInUse(RuntimeError):
    """A folder that another run writes to at this moment."""


class Interrupted(KeyboardInterrupt):
    """A run that the user stopped; what was told before is on disk.

    Nobody needs a traceback of Ctrl-C: a script that does not catch it ends with the sentence, and
    so does a cell of a notebook.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        if sys.excepthook is sys.__excepthook__:  # somebody's own stays
            sys.excepthook = _in_one_sentence

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows instead of a traceback."""
        return [f"stopped {self}".strip()]


def _in_one_sentence(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if isinstance(error, Interrupted):
        print(f"stopped {error}".strip(), file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


RUNNING = "This was raised by a run that had begun."


@contextmanager
def running() -> Iterator[None]:
    """Note on an error that what raised it was a run, not the check of what it was asked for."""
    try:
        yield
    except Exception as error:
        error.add_note(RUNNING)
        raise


def failed_running(error: BaseException) -> bool:
    """Return whether an error was raised by a run that had begun (see ``running``)."""
    return RUNNING in getattr(error, "__notes__", ())


SHOWN_NAMES, LONGEST_NAME = 12, 120  # characters: a file may hold a name without end


def nearest(word: str, known: Iterable[object]) -> str:
    """Return a hint that names the known word nearest to ``word``, or the first few of them.

    >>> nearest("regularised_evolution", ["random", "regularized_evolution"])
    "did you mean 'regularized_evolution'?"
    >>> nearest("xyz", ["b", "a"])
    'known: a, b'
    >>> nearest("3", [3, 5])
    'did you mean 3?'
    """
    words = {_short(str(one)): _short(one) for one in known}
    close = difflib.get_close_matches(word, words, n=1)
    if close:
        return f"did you mean {words[close[0]]!r}?"
    names = sorted(words)
    if len(names) > SHOWN_NAMES:
        return f"known: {', '.join(names[: SHOWN_NAMES // 2])}, ... ({len(names)} in all)"
    return f"known: {', '.join(names)}" if names else "none is known"


def _short(name: Any) -> Any:
    """Return a name, or its beginning where it is a text without end."""
    endless = isinstance(name, str) and len(name) > LONGEST_NAME
    return f"{name[:LONGEST_NAME]}..." if endless else name
