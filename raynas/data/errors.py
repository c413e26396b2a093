"""What a data set raises, in one sentence."""

from __future__ import annotations

from textwrap import shorten

LONGEST = 300  # characters of somebody else's error


class ReadError(RuntimeError):
    """A data set that raises where an example is read; the sentence says which."""


class ReadersRestarted(UserWarning):
    """Processes that read a data set ended, and new ones go on in their place."""


def in_words(error: BaseException) -> str:
    r"""Return an exception's type and text on one line.

    >>> in_words(ValueError("a broken file\nof two lines"))
    'ValueError: a broken file of two lines'
    """
    text = shorten(str(error), LONGEST, placeholder=" ...")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
