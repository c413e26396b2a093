"""What a command's exit code says."""

from __future__ import annotations

from collections.abc import Iterator

from raynas.core.errors import Unfinished, failed_running

DONE, FAILED, MISUSED, STOPPED = 0, 1, 2, 130

WRONG_INPUT = (ValueError, TypeError, LookupError)
WRONG_PATH = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


def exit_code(error: BaseException) -> int:
    """Return 2 for what another command line would have avoided, 1 for what failed.

    A name, a value or a path that is wrong is found before anything starts; the same kind of error
    out of a run that had begun, such as one of a user's own model, is a failure of the run.
    """
    links = list(_chain(error))
    if isinstance(error, Unfinished) or any(map(failed_running, links)):
        return FAILED
    wrong = isinstance(error, WRONG_INPUT) or any(isinstance(link, WRONG_PATH) for link in links)
    return MISUSED if wrong else FAILED


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from; somebody's own may be raised from itself."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__
