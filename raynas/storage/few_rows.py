"""Parquet files of few rows, encoded here: Arrow takes some 30 us for every column of a file.

A search writes a file for every batch of trials, and a trial has a column for every decision: at a
thousand of them, files of a few rows cost more than all the rest. A file is one row group of one
uncompressed page a column, in the encoding PLAIN, without statistics
(https://parquet.apache.org/docs/file-format). Lists, and values of other types than the column's,
are left to Arrow.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa

MAGIC = b"PAR1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Unfit(Exception):
    """A value is not of its column's type."""


class FewRows:
    """Encodes rows of one schema.

    Args:
        schema: the columns.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._kinds = [_kind(field.type) for field in schema]
        self._required = [not field.nullable for field in schema]
        root = b"\x48" + _text("schema") + b"\x15" + _signed(len(schema)) + b"\x00"
        fields = zip(schema, self._kinds, strict=True)
        elements = b"".join(_element(field, kind) for field, kind in fields if kind is not None)
        # file: 1 version, 2 schema
        self._head = b"\x15\x04\x19" + _list_of_structs(len(schema) + 1) + root + elements
        self._chunks = [
            _chunk(field.name, kind)
            for field, kind in zip(schema, self._kinds, strict=True)
            if kind is not None
        ]

    def encode(self, columns: Sequence[Sequence[Any]]) -> bytes | None:
        """Return the file, or None where it has to be left to Arrow."""
        if None in self._kinds or not columns:
            return None
        try:
            pages = self._pages(columns)
        except (Unfit, TypeError):  # unhashable, as a list is
            return None
        return self._file(pages, len(columns[0]))

    def _pages(self, columns: Sequence[Sequence[Any]]) -> list[bytes]:
        count = len(columns[0])
        present, texts = _levels((0,) * count), _Texts()
        pages: dict[tuple[bool, tuple[Any, ...]], bytes] = {}  # choices often agree, in few rows
        laid: list[bytes] = []
        for kind, required, values in zip(self._kinds, self._required, columns, strict=True):
            assert kind is not None
            page = pages.get(key := (required, tuple(values))) if kind.pack is None else None
            if page is None:
                levels = b"" if required else present
                if not required and None in values:
                    levels = _levels(values)
                    values = [value for value in values if value is not None]
                data = texts.joined(values) if kind.pack is None else _numbers(kind, values)
                page = _page(count, levels + data)
                if kind.pack is None:
                    pages[key] = page
            laid.append(page)
        return laid

    def _file(self, pages: list[bytes], rows: int) -> bytes:
        count = b"\x16" + _signed(rows)
        sizes: dict[int, bytes] = {}
        offset, chunks = len(MAGIC), []
        for chunk, page in zip(self._chunks, pages, strict=True):
            size = len(page)
            if size not in sizes:  # 5 values, 6 bytes, 7 bytes compressed
                sizes[size] = count + (b"\x16" + _signed(size)) * 2
            chunks += [chunk, sizes[size], b"\x26", _signed(offset), b"\x00\x00"]  # 9 offset
            offset += size
        # file: 3 rows, 4 row groups; group: 1 chunks, 2 bytes, 3 rows
        group = b"\x19" + _list_of_structs(len(pages)) + b"".join(chunks)
        group += b"\x16" + _signed(offset - len(MAGIC)) + count + b"\x00"
        footer = self._head + count + b"\x19" + _list_of_structs(1) + group + b"\x00"
        return b"".join([MAGIC, *pages, footer, struct.pack("<I", len(footer)), MAGIC])


# --- one column -----------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """How a type is stored.

    Attributes:
        physical: number of Parquet's type.
        logical: fields of the schema's element that say what it stands for.
        type: of the values in Python; no other, for True is not 1.
        pack: makes bytes of numbers; None for text.
    """

    physical: int
    logical: bytes
    type: type
    pack: Callable[[Sequence[Any]], bytes] | None


def _kind(kind: pa.DataType) -> _Kind | None:
    for known, stored in _KINDS.items():
        if kind.equals(known):
            return stored
    return None


class _Texts(dict[Any, bytes]):
    """Texts as they stand in a file, each encoded once: options stand in many columns."""

    def __missing__(self, value: object) -> bytes:
        if not isinstance(value, str):
            raise Unfit
        try:
            encoded = value.encode()
        except UnicodeEncodeError:
            raise Unfit from None
        self[value] = struct.pack("<I", len(encoded)) + encoded
        return self[value]

    def joined(self, values: Sequence[Any]) -> bytes:
        """Return one text after the other."""
        return b"".join(map(self.__getitem__, values))


def _numbers(kind: _Kind, values: Sequence[Any]) -> bytes:
    if not {kind.type}.issuperset(map(type, values)):
        raise Unfit
    assert kind.pack is not None
    try:
        return kind.pack(values)
    except (struct.error, TypeError, OverflowError):  # 64 bits are too few; a time of no zone
        raise Unfit from None


def _bits(flags: Sequence[bool]) -> bytes:
    number = sum(flag << at for at, flag in enumerate(flags))
    return number.to_bytes((len(flags) + 7) // 8, "little")


def _micros(instants: Sequence[datetime]) -> bytes:
    micros = [(instant - _EPOCH) // _MICROSECOND for instant in instants]
    return struct.pack(f"<{len(micros)}q", *micros)


_KINDS = {
    pa.bool_(): _Kind(0, b"", bool, _bits),
    pa.int64(): _Kind(2, b"", int, lambda values: struct.pack(f"<{len(values)}q", *values)),
    pa.float64(): _Kind(5, b"", float, lambda values: struct.pack(f"<{len(values)}d", *values)),
    # 6 UTF8, 10 {1 string}
    pa.string(): _Kind(6, b"\x25\x00\x4c\x1c\x00\x00", str, None),
    # 6 TIMESTAMP_MICROS, 10 {8 timestamp {1 in UTC, 2 {2 microseconds}}}
    pa.timestamp("us", tz="UTC"): _Kind(
        2, b"\x25\x14\x4c\x8c\x11\x1c\x2c\x00\x00\x00\x00", datetime, _micros
    ),
}


# --- Thrift's compact protocol --------------------------------------------------------------------
# A field is one byte, the distance to the last field's number and its type (5 and 6 integers, 8
# text, 9 list, 12 struct), and then its value; a struct ends with 0.


def _unsigned(number: int) -> bytes:
    if number < 1 << 7:
        return bytes((number,))
    if number < 1 << 14:
        return bytes((number & 127 | 128, number >> 7))
    return bytes((number & 127 | 128, number >> 7 & 127 | 128)) + _unsigned(number >> 14)


def _signed(number: int) -> bytes:
    return _unsigned(number << 1)  # those here are never negative


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _unsigned(len(encoded)) + encoded


def _list_of_structs(length: int) -> bytes:
    return bytes([length << 4 | 12]) if length < 15 else b"\xfc" + _unsigned(length)


def _element(field: pa.Field, kind: _Kind) -> bytes:
    """Return a column in the schema: 1 type, 3 repetition (0 required, 1 optional), 4 name."""
    repetition = b"\x25" + _signed(int(field.nullable))
    return (
        b"\x15" + _signed(kind.physical) + repetition + b"\x18" + _text(field.name) + kind.logical
    ) + b"\x00"


def _chunk(name: str, kind: _Kind) -> bytes:
    """Return the beginning of a column's place: 2 offset (unused), 3 {1 type, 2 encodings, …}."""
    encodings = b"\x19\x25\x00\x06"  # PLAIN, and RLE for the levels
    path, uncompressed = b"\x19\x18" + _text(name), b"\x15\x00"
    return b"\x26\x00\x1c\x15" + _signed(kind.physical) + encodings + path + uncompressed


def _levels(values: Sequence[Any]) -> bytes:
    """Return which values are there, as one run, or as bits if some are."""
    missing = values.count(None)
    if missing in (0, len(values)):
        levels = _unsigned(len(values) << 1) + (b"\x00" if missing else b"\x01")
    else:
        bits = _bits([value is not None for value in values])
        levels = _unsigned(len(bits) << 1 | 1) + bits
    return struct.pack("<I", len(levels)) + levels


def _page(values: int, data: bytes) -> bytes:
    """Return a page: 1 kind, 2 bytes, 3 bytes compressed, 5 {1 values, 2 PLAIN, 3 and 4 RLE}."""
    size = b"\x15" + _signed(len(data))
    header = b"\x15\x00" + size * 2
    return header + b"\x2c\x15" + _signed(values) + b"\x15\x00\x15\x06\x15\x06\x00\x00" + data
