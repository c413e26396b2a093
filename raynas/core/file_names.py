"""Names of users' own as names of files: none leads out of its folder."""

from __future__ import annotations

import re

LONGEST = 120  # characters: file systems take 255 bytes


def file_name(text: str) -> str:
    """Return a text as a part of a file's name: one name, in one folder, of bounded length.

    >>> file_name("../../etc/passwd"), file_name("darts-spos"), file_name("a" * 500) == "a" * 120
    ('.._.._etc_passwd', 'darts-spos', True)
    """
    return re.sub(r"[/\\\x00-\x1f\x7f]", "_", text)[:LONGEST]


def check_inside(name: str) -> None:
    """Raise ValueError if a path leads, or may lead, out of the folder that it is taken in."""
    parts = name.split("/")
    if not name or "\0" in name or ".." in parts or parts[0] == "":
        raise ValueError(f"{name!r} is no name of a file in a folder")
