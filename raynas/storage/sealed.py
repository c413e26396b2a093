"""A digest within a Parquet file, so that no flipped bit becomes a number.

Parquet's own checksums leave out the footer, which names the columns and says where they lie. The
digest stands before the footer, where no offset points to and no reader looks, and is taken of all
the rest. Files without one are those of earlier releases, and of other programs.
"""

from __future__ import annotations

import struct
from hashlib import blake2b

TAG = b"\x00raynas.digest\x00"
SIZE = 8  # bytes of the digest


def seal(file: bytes) -> bytes:
    """Return a Parquet file with its digest in it."""
    (footer,) = struct.unpack("<I", file[-8:-4])
    at = len(file) - 8 - footer
    return b"".join([file[:at], TAG, _digest(file[:at], file[at:]), file[at:]])


def is_intact(file: bytes) -> bool:
    """Return whether a file's digest is that of what it holds; true where it has none."""
    at = file.rfind(TAG)
    end = at + len(TAG) + SIZE
    return at < 0 or file[end - SIZE : end] == _digest(file[:at], file[end:])


def _digest(before: bytes, after: bytes) -> bytes:
    whole = blake2b(before, digest_size=SIZE)
    whole.update(after)
    return whole.digest()
