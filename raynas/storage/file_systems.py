"""File systems by URI: opened once a process, with timeouts, and errors that say what to do.

Keys and passwords of a URI never leave this file: ``clean`` takes them off and remembers them for
the bucket, so that what is written, printed and compared holds none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import pyarrow as pa
from pyarrow import fs

from raynas.core.errors import nearest
from raynas.core.locations import MASK, SECRET_WORDS, is_uri, masked

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "hf", "file")
OBJECT_STORES = ("s3", "gcs", "abfs")  # types: a put is atomic there, and a rename is a copy
LIKE = "expected a local folder or a URI such as s3://bucket/run"
S3_OPTIONS = ("region", "scheme", "endpoint_override", "tls_ca_file_path")
S3_SWITCHES = (
    "allow_bucket_creation",
    "allow_bucket_deletion",
    "anonymous",
    "force_virtual_addressing",
)
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
CONNECT_S, REQUEST_S = 3.0, 4.0  # of one try
FIRST_TRIES, TRIES = 3, 8  # to find out whether anybody answers, and once somebody has
GCS_RETRY_S = "30"


@dataclass
class Keys:
    """Keys and passwords by the place that they open, for other processes; never shown.

    Attributes:
        by_place: (scheme, bucket) to what stands before the ``@``, and secret options.
    """

    by_place: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict, repr=False)

    def remember(self) -> None:
        """Let this process open what these open."""
        _KEYS.by_place.update(self.by_place)


_KEYS = Keys()


def known_keys() -> Keys:
    """Return the keys that the URIs of this process have named, to be sent to a worker of ours."""
    return Keys(dict(_KEYS.by_place))


def clean(uri: str) -> str:
    """Return a URI without keys and passwords, which this process remembers for its bucket.

    >>> clean("s3://AKIA:secret@bucket-of-a-doctest/run/?region=eu-west-1")
    's3://bucket-of-a-doctest/run?region=eu-west-1'

    Raises:
        ValueError: no file system has URIs like this one.
    """
    parts = _split(uri)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    options = parse_qsl(parts.query, keep_blank_values=True)
    open_ones = [(k, v) for k, v in options if not _is_secret(k)]
    if user == MASK:
        at = ""
    netloc = host if (colon and parts.scheme == "s3") or not at else f"{name}@{host}"
    query = parts.query
    if colon or len(open_ones) < len(options):
        query = urlencode(open_ones, safe=":/")
        secret = urlencode([option for option in options if option not in open_ones])
        _KEYS.by_place[parts.scheme, netloc] = (user, secret)
    path = parts.path if parts.scheme == "file" else parts.path.rstrip("/")
    return urlunsplit(parts._replace(netloc=netloc, path=path, query=query))


def _is_secret(option: str) -> bool:
    return any(word in option.lower() for word in SECRET_WORDS)


def _split(uri: str) -> SplitResult:
    """Return the parts of a URI.

    Raises:
        ValueError: no file system has URIs like this one.
    """
    scheme, mark, rest = uri.partition("://")
    if not mark:
        scheme, rest = uri.partition(":")[::2]
        raise ValueError(
            f"{masked(uri)} is neither a folder nor a URI: {LIKE} (out=); did you mean "
            f"'{scheme}://{rest.lstrip('/')}'?"
        )
    parts = urlsplit(uri)
    if scheme == "s3" and not parts.netloc.rpartition("@")[2]:
        raise ValueError(f"{masked(uri)} names no bucket (out=): {LIKE}")
    if scheme == "s3" and ":" in parts.netloc and "@" not in parts.netloc:
        raise ValueError(
            f"{scheme}://{MASK} has no bucket behind its keys (out=): expected the key, a colon, "
            "the secret, @, and the bucket, with %2F in place of a slash in a key"
        )
    return parts


def is_misspelt_uri(path: str) -> bool:
    """Return whether a path looks like a URI that lacks a slash.

    >>> is_misspelt_uri("s3:/bucket/run"), is_misspelt_uri("runs/a:/b")
    (True, False)
    """
    scheme, colon, _ = path.partition(":")
    return bool(colon) and scheme in SCHEMES and not is_uri(path)


def opened(path: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path or URI, and the path in it.

    Raises:
        ValueError: no file system has URIs like this one.
        OSError: nobody answers, or there is no such bucket.
    """
    if is_misspelt_uri(path):
        _split(path)
    if not is_uri(path):
        return fs.LocalFileSystem(), os.path.abspath(path)
    parts = _split(clean(path))
    user, secret = _KEYS.by_place.get((parts.scheme, parts.netloc), ("", ""))
    if parts.scheme == "s3":
        bucket = parts.netloc
        environment = tuple((k, v) for k, v in sorted(os.environ.items()) if k.startswith("AWS_"))
        with reaching(path):
            system = _s3(bucket, parts.query, user, environment)
        return system, f"{bucket}{unquote(parts.path)}".rstrip("/")
    query = "&".join(filter(None, [parts.query, secret, *_patience(parts)]))
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{user}@{host}" if user else parts.netloc
    try:
        system, root = fs.FileSystem.from_uri(
            urlunsplit(parts._replace(netloc=netloc, query=query))
        )
    except (pa.ArrowInvalid, ValueError, ImportError, OSError) as error:
        if "Unrecognized filesystem" in str(error):
            raise ValueError(
                f"no file system has URIs like {masked(path)} (out=): {LIKE}; "
                f"{nearest(parts.scheme, SCHEMES)}"
            ) from None
        text = masked(" ".join(str(error).split()))
        raise ValueError(f"{masked(path)} cannot be opened (out=): {text}") from None
    return system, root.rstrip("/")


def _patience(parts: SplitResult) -> list[str]:
    """Return how long to try where the default is a quarter of an hour."""
    google = parts.scheme in ("gs", "gcs") and "retry_limit_seconds" not in parts.query
    return [f"retry_limit_seconds={GCS_RETRY_S}"] if google else []


@lru_cache(maxsize=64)
def _s3(
    bucket: str, query: str, user: str, environment: tuple[tuple[str, str], ...]
) -> fs.S3FileSystem:
    """Return a bucket's file system; of the same settings the same, which keeps its connections.

    Raises:
        ValueError: an option that there is none of.
        OSError: nobody answers, or there is no such bucket.
    """
    settings = _s3_settings(bucket, query, dict(environment))
    if user:
        key, _, secret = user.partition(":")
        settings |= {"access_key": unquote(key), "secret_key": unquote(secret)}
    settings |= {
        "connect_timeout": CONNECT_S,
        "request_timeout": REQUEST_S,
        "allow_delayed_open": True,  # small files take one request in place of three
    }
    first = fs.S3FileSystem(**settings, retry_strategy=_tries(FIRST_TRIES))
    try:
        there = first.get_file_info(bucket).type != fs.FileType.NotFound
    except OSError as error:
        if "NETWORK_CONNECTION" in str(error):
            raise
        there = True  # who may not ask for it may write to it
    if not there and not settings.get("allow_bucket_creation"):
        raise OSError(f"Bucket {bucket!r} not found")
    return fs.S3FileSystem(**settings, retry_strategy=_tries(TRIES))


def _tries(count: int) -> fs.AwsStandardS3RetryStrategy:
    return fs.AwsStandardS3RetryStrategy(max_attempts=count)


def _s3_settings(bucket: str, query: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return how a bucket is reached, by its URI and, where that says nothing, the environment."""
    settings: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in S3_SWITCHES:
            settings[name] = value.lower() in ("true", "1")
        elif name in S3_OPTIONS:
            settings[name] = value
        else:
            known = (*S3_OPTIONS, *S3_SWITCHES)
            raise ValueError(
                f"s3://{bucket} has an option {name!r} that there is none of (out=); "
                f"{nearest(name, known)}"
            )
    endpoint = settings.get("endpoint_override") or _first(environment, ENDPOINTS)
    if endpoint:
        settings["endpoint_override"] = endpoint
    if "region" not in settings and not endpoint and not _first(environment, REGIONS):
        settings["region"] = fs.resolve_s3_region(bucket)
    return settings


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)


@contextmanager
def reaching(path: str) -> Iterator[None]:
    """Say in one sentence what is wrong with a place that cannot be read or written.

    Raises:
        OSError: of the same kind, that names the place and what was expected.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError):
        raise
    except OSError as error:
        if not is_uri(path) or "(out=)" in str(error):
            raise
        gone = any(word in str(error) for word in ("RESOURCE_NOT_FOUND", "NO_SUCH_KEY"))
        kind = FileNotFoundError if gone else type(error)  # removed since it was looked for
        raise kind(f"{masked(path)} cannot be used (out=): {_why(error, path)}") from None


def _why(error: OSError, path: str) -> str:
    """Return what went wrong, and what was expected."""
    text = masked(" ".join(str(error).split()))
    if "NETWORK_CONNECTION" in text:
        where = _endpoint(path)
        detail = text.rpartition("Details:")[2].strip()
        return (
            f"nobody answers{where}; expected an object store there (endpoint_override= in the "
            f"URI, or {ENDPOINTS[-1]}): {detail}"
        )
    if "NO_SUCH_BUCKET" in text or ("Bucket" in text and "not found" in text):
        return f"there is no bucket {urlsplit(clean(path)).netloc!r}; make it, or name another"
    refused = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE", "INVALID_CLIENT_TOKEN_ID")
    if any(word in text for word in refused) or "403" in text:
        return (
            "access is refused; expected credentials that may read and write there "
            f"(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile): {text}"
        )
    return text


def _endpoint(path: str) -> str:
    given = dict(parse_qsl(urlsplit(path).query)).get("endpoint_override")
    endpoint = given or _first(os.environ, ENDPOINTS)
    return f" at {endpoint}" if endpoint else ""
