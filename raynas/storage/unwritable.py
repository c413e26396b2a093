"""What is said where a run's folder cannot be written to any more, as on a full disk."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable"),
    errno.EIO: "see to its disk",
}


@contextmanager
def writing(path: str, unfinished: str | None = None) -> Iterator[None]:
    """Say in a sentence why a file cannot be written; whatever else goes wrong stays as it is.

    Args:
        path: of what is written.
        unfinished: local file or folder that holds a part of it; it is removed, for it takes room.

    Raises:
        OSError: there is no room, no permission, or the disk fails; ``errno`` says which.
    """
    try:
        yield
    except OSError as error:
        if unfinished is not None:
            with suppress(OSError):
                _remove(unfinished)
        if error.errno not in _ADVICE:
            raise
        failure = OSError(
            f"{path} cannot be written: {os.strerror(error.errno)}; {_ADVICE[error.errno]}, and go "
            "on with resume=True (--resume)"
        )
        failure.errno = error.errno
        raise failure from error


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
