"""The one who adds to a folder of Parquet files: parts, each written whole, and merged when many.

Parts of few rows, which a search writes most of, are encoded by ``few_rows``; the rest by Arrow.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from raynas.core.errors import StoreMismatch
from raynas.storage.few_rows import FewRows
from raynas.storage.file_systems import reaching
from raynas.storage.parquet import Combine, Part, Parts
from raynas.storage.rows import Content, Rows, fitted, joined
from raynas.storage.sealed import seal
from raynas.storage.unwritable import writing

FEW = 64  # a part of at most so many rows is encoded without Arrow
SMALL = 1_000  # a part of fewer rows may be merged
FAN = 64  # so many small parts in a row are merged into one


class PartWriter(Parts):
    """The parts of one folder, and one writer who appends to them.

    Every part has every column: a new one is added to all parts at once, so that programs which
    take the columns of the first file, or refuse files that differ, read the folder as well.

    Args:
        out: the run's folder, a local path or a URI that ``pyarrow.fs`` knows.
        folder: the folder inside it.
        combine: makes one schema of those of the parts.
        schema: the columns that every part has from the start.
        writer: a letter, then letters and digits; needed where several write at once.
    """

    def __init__(
        self, out: str, folder: str, combine: Combine, schema: pa.Schema, writer: str = ""
    ) -> None:
        super().__init__(out, folder, combine)
        if writer and not re.fullmatch(r"[A-Za-z]\w*", writer):
            raise ValueError(f"a writer's name is a letter, then letters or digits, got {writer!r}")
        self._writer = writer
        self._token = secrets.token_hex(4)
        with reaching(out):
            self._fs.create_dir(f"{self._root}/{folder}", recursive=True)
        self._sweep()
        self.schema = schema
        self._encodings: dict[bool, dict[str, Any]] = {}  # of small and of large parts
        self._few: FewRows | None = None
        self._widen(self._taken_stock())

    def _sweep(self) -> None:
        """Remove what a killed process of this writer had not finished."""
        if self._fs.type_name == "local":
            for name in os.listdir(self._root):
                if re.fullmatch(rf"\.{self._folder}-{self._writer}[0-9a-f]{{8}}\.tmp", name):
                    os.unlink(f"{self._root}/{name}")
        for part in set(self._listed()).difference(self.present()):
            if part.writer == self._writer:  # a merge was cut off before it deleted its members
                self._delete(part)

    def _own(self) -> list[Part]:
        return [part for part in self.present() if part.writer == self._writer]

    def _taken_stock(self) -> dict[Part, pq.FileMetaData]:
        """See what is there, and return the footers of all parts."""
        own, footers = self._own(), self._footers()
        self._number = own[-1].last if own else 0
        # trailing parts of this writer that may still be merged, with their rows where at hand
        self._small: list[tuple[Part, Content | None]] = []
        for part in own:
            self._note(part, None, footers[part].num_rows)
        return footers

    def cut(self, column: str, least: float) -> None:
        """Take out this writer's last rows, those with at least ``least`` in a column.

        They go from the end, so that none is missing between others if this is cut off.

        Args:
            column: of numbers that never fall.
            least: of what is taken out.
        """
        for part in reversed(self._own()):
            table = self._load(part)
            if column not in table.schema.names:
                break
            kept = table.filter(~(table[column].to_numpy() >= least))
            if kept.num_rows == table.num_rows:
                break
            if kept.num_rows:
                self._put(part, fitted(kept, self.schema))
            else:
                self._delete(part)
        self._taken_stock()

    def _footers(self) -> dict[Part, pq.FileMetaData]:
        found = {}
        for part in self.present():
            # another writer may have merged it meanwhile, and keeps its own schema
            with contextlib.suppress(FileNotFoundError), self._opened(part) as file:
                found[part] = file.metadata
        return found

    def append(self, rows: Rows) -> None:
        """Add rows as one part: after a crash they are there all together or not at all.

        Raises:
            StoreMismatch: their values or columns contradict what is there, or somebody else writes
                under the same writer's name.
        """
        if not rows.schema.equals(self.schema):
            table = rows.table()  # what fits no column adds none
            new = ("the new rows", rows.schema)
            if not self._combine([("this store", self.schema), new]).equals(self.schema):
                self._widen(self._footers(), new)
        fits = rows.schema.equals(self.schema)
        content: Content = rows if fits else fitted(table, self.schema)
        part = Part(self._writer, self._number + 1, self._number + 1)
        path = self._path(part)
        if self._is_there(path):
            raise StoreMismatch(f"{path} is there already: another process writes to this folder")
        self._put(part, content)
        self._number += 1
        self._note(part, content, len(rows))
        if len(self._small) >= FAN:
            self._merge()

    def _is_there(self, path: str) -> bool:
        if not self._puts_whole:
            return bool(self._fs.get_file_info(path).type != fs.FileType.NotFound)
        try:
            with reaching(self._out), self._fs.open_input_file(path):  # one request, and no listing
                return True
        except FileNotFoundError:
            return False

    def _note(self, part: Part, content: Content | None, rows: int) -> None:
        if rows < SMALL:
            self._small.append((part, content))
        else:
            self._small.clear()

    def _merge(self) -> None:
        parts = [part for part, _ in self._small]
        contents = [self._load(part) if rows is None else rows for part, rows in self._small]
        table = joined(contents, self.schema)
        whole = Part(self._writer, parts[0].first, parts[-1].last)
        self._put(whole, table)
        for part in parts:
            self._delete(part)
        self._small.clear()
        self._note(whole, None, table.num_rows)

    def _widen(self, footers: dict[Part, pq.FileMetaData], *others: tuple[str, pa.Schema]) -> None:
        """Let the schema hold the columns of all parts and others, and give them to all parts."""
        schemas = {part: footer.schema.to_arrow_schema() for part, footer in footers.items()}
        named = [(self._path(part), schema) for part, schema in schemas.items()]
        self.schema = self._combine([("this store", self.schema), *named, *others])
        self._encodings.clear()
        self._few = None
        for part, schema in schemas.items():
            if not schema.equals(self.schema):
                with contextlib.suppress(FileNotFoundError):
                    self._put(part, fitted(self._load(part), self.schema))

    def _put(self, part: Part, content: Content) -> None:
        """Write a file such that its name never stands for a part of it."""
        rows, path = self._encoded(content), self._path(part)
        # beside the folder, not in it: some programs read hidden files as well
        hidden = f"{self._root}/.{self._folder}-{self._writer}{self._token}.tmp"
        if self._fs.type_name == "local":
            with writing(path, unfinished=hidden):
                with open(hidden, "wb") as file:
                    file.write(rows)
                    file.flush()
                    os.fsync(file.fileno())  # or a power cut may keep the name and lose the rows
                os.replace(hidden, path)
        elif self._puts_whole:
            self._write(path, rows)
        else:
            self._write(hidden, rows)
            self._fs.move(hidden, path)

    def _encoded(self, content: Content) -> bytes:
        """Return the bytes of a file; Arrow makes those that ``few_rows`` does not."""
        if isinstance(content, Rows) and len(content) <= FEW:
            self._few = self._few or FewRows(self.schema)
            if (encoded := self._few.encode(content.columns)) is not None:
                return seal(encoded)
        table = content.table() if isinstance(content, Rows) else content
        large = table.num_rows >= SMALL
        if large not in self._encodings:
            self._encodings[large] = _encoding(self.schema, large)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, **self._encodings[large])
        return seal(sink.getvalue().to_pybytes())

    def _delete(self, part: Part) -> None:
        with reaching(self._out):
            self._fs.delete_file(self._path(part))

    def _write(self, path: str, rows: bytes) -> None:
        with reaching(self._out), self._fs.open_output_stream(path) as stream:
            stream.write(rows)


def _encoding(schema: pa.Schema, large: bool) -> dict[str, Any]:
    """Return how each column is written: measured for parts of 100 trials of 20 choices.

    No statistics and no copy of the Arrow schema, which cost more than the rows of a small part;
    few-valued columns as dictionaries, and the rest by what its type packs best; zstd only where
    it gains, since setting it up costs more than a short column: not for the numbers of a small
    part, and at its lowest level, since higher ones gain nothing.
    """
    dictionary, encoding, compression = [], {}, {}
    for field in schema:
        nested = pa.types.is_list(field.type)
        kind = field.type.value_type if nested else field.type
        path = f"{field.name}.list.element" if nested else field.name
        if field.name in ("arch", "arch_key"):
            compression[path] = "zstd"
        elif pa.types.is_string(kind) or field.name.startswith("choice."):
            dictionary.append(path)
        elif pa.types.is_floating(kind):
            encoding[path] = "BYTE_STREAM_SPLIT"
            if large:
                compression[path] = "zstd"
        else:
            encoding[path] = "DELTA_BINARY_PACKED"
    return {
        "use_dictionary": dictionary,
        "column_encoding": encoding,
        "compression": compression or "none",
        "write_statistics": False,
        "store_schema": False,
    }
