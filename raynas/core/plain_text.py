"""Text of users' code, made fit for files: of bounded length, in characters that UTF-8 has."""

from __future__ import annotations

LONGEST_SENTENCE, LONGEST_TRACEBACK, LONGEST_TEXT = 2_000, 50_000, 1_000_000  # characters


def plain_text(text: str, longest: int) -> str:
    r"""Return text with lone surrogates written out, and its middle left out if it is too long.

    >>> plain_text("caf\udce9", 100)
    'caf\\udce9'
    >>> plain_text("x" * 100, 30)
    'xxxxx ... (100 characters) ... xxxxx'

    Args:
        text: any.
        longest: characters that are kept, about.
    """
    length, text = len(text), text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) > longest:
        kept = max(longest - 20, 2) // 2
        text = f"{text[:kept]} ... ({length} characters) ... {text[-kept:]}"
    return text


def is_plain(text: str) -> bool:
    r"""Return whether UTF-8 has all characters of a text.

    >>> is_plain("café"), is_plain("caf\udce9")
    (True, False)
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
