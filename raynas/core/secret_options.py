"""Options that hold passwords, keys or tokens: they are handed on, and stand in no file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from raynas.core.locations import MASK, masked

_NAME = (
    r"(?:[\w.-]*[_.-])?"
    r"(?:password|passwd|pwd|secret|token|credentials?|api_?key|access_key|private_key)"
)
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
_ASSIGNED = re.compile(rf"(?<![\w.-])({_NAME}=)[^,\s]+", re.IGNORECASE)
_USER = re.compile(r"\b(https?://)[^\s@/?#'\"]+@", re.IGNORECASE)
_MASKED_OPTION = re.compile(rf"(?<=[?&])[\w.-]*={re.escape(MASK)}&?")


def without_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without those that are secret by name, and without the passwords of URIs.

    >>> without_secrets({"uri": "https://me:pass@host/x?api_key=k&y=1", "password": "p", "n": 2})
    {'uri': 'https://host/x?y=1', 'n': 2}
    """
    return {
        name: _open(value)
        for name, value in options.items()
        if not (isinstance(value, str) and _is_secret(name))
    }


def secret_names(options: Mapping[str, Any]) -> list[str]:
    """Return the names of options that ``without_secrets`` leaves out or changes.

    >>> secret_names({"uri": "https://me:pass@host", "password": "p", "n": 2})
    ['uri', 'password']
    """
    kept = without_secrets(options)
    return [name for name, value in options.items() if name not in kept or kept[name] != value]


def secrets_of(options: Mapping[str, Any]) -> list[str]:
    """Return the texts that are secret as a whole, the longest first."""
    return sorted(_secrets(options, False), key=len, reverse=True)


def masked_options(text: str) -> str:
    """Return a command line without what it assigns to secret options.

    >>> masked_options("--track mine:password=p,uri=https://me:pass@host")
    '--track mine:password=***,uri=https://***@host'
    """
    return masked(_ASSIGNED.sub(rf"\1{MASK}", text))


def _is_secret(name: object) -> bool:
    return _SECRET_NAME.fullmatch(str(name)) is not None


def _open(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_secrets(value)
    if isinstance(value, list | tuple):
        return [_open(inner) for inner in value]
    if not isinstance(value, str) or "://" not in value:
        return value
    hidden = masked(_USER.sub(r"\1", value))
    return _MASKED_OPTION.sub("", hidden.replace(f"{MASK}@", "")).rstrip("?&")


def _secrets(value: Any, secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _secrets(inner, secret or _is_secret(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets(inner, secret)
    elif secret and isinstance(value, str) and value:
        yield value
