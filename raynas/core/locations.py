"""Paths and URIs as texts: what lies under one, what it is called, and what it must not show."""

from __future__ import annotations

import re

SECRET_WORDS = ("key", "secret", "token", "password", "passwd", "sig")  # in names of options
# keys may hold slashes that should have been written as %2F: they are not shown either
_USER = re.compile(r"\b([A-Za-z][\w+.-]*://)[^\s@'\"/:?]*:[^\s@'\"?]+@")
_QUERY = re.compile(rf"([?&][\w.-]*(?:{'|'.join(SECRET_WORDS)})[\w.-]*=)[^&\s'\"]+", re.IGNORECASE)
MASK = "***"


def is_uri(path: str) -> bool:
    """Return whether a path is a URI.

    >>> is_uri("s3://bucket/run"), is_uri("runs/1")
    (True, False)
    """
    return "://" in path


def under(path: str, *names: str) -> str:
    """Return what lies in a folder; what a URI says after a question mark stays at its end.

    >>> under("runs/1", "trials")
    'runs/1/trials'
    >>> under("s3://bucket/run?scheme=http", "verify", "seed-0")
    's3://bucket/run/verify/seed-0?scheme=http'
    """
    place, mark, query = _parts(path)
    if mark or is_uri(path):
        place = place.rstrip("/")
    return "/".join([place, *names]) + mark + query


def parent(path: str) -> str:
    """Return the folder that something lies in.

    >>> parent("s3://bucket/run/supernet?scheme=http")
    's3://bucket/run?scheme=http'
    """
    place, mark, query = _parts(path)
    return place.rstrip("/").rpartition("/")[0] + mark + query


def last_name(path: str) -> str:
    """Return what a file or folder is called.

    >>> last_name("s3://bucket/run?scheme=http"), last_name("runs/1/")
    ('run', '1')
    """
    return _parts(path)[0].rstrip("/").rpartition("/")[2]


def masked(text: str) -> str:
    """Return a text without the keys and passwords of the URIs in it.

    >>> masked("s3://AKIA:abc%2Fd@bucket/run?region=eu-west-1 is there")
    's3://***@bucket/run?region=eu-west-1 is there'
    >>> masked("abfs://c@a.net/run?client_secret=abc&tenant_id=1")
    'abfs://c@a.net/run?client_secret=***&tenant_id=1'
    """
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\1{MASK}", _USER.sub(rf"\1{MASK}@", text))


def _parts(path: str) -> tuple[str, str, str]:
    """Return what comes before a URI's question mark, the mark, and what comes behind it."""
    return path.partition("?") if is_uri(path) else (path, "", "")
