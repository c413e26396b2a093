"""A folder of Parquet files that only grows: numbered parts, each written whole, read as one table.

A part is named ``part-000007.parquet``, or ``part-<writer>-000007.parquet`` where several write at
once; ``part-000001-000064.parquet`` holds what parts 1 to 64 held. A name always stands for the
same rows, so that

* a writer only ever adds the next number, by renaming a finished file: what is there is whole;
* many small parts are merged by writing the range first and deleting its members afterwards: a
  reader that finds both, after a crash in between, takes the range, and the next writer tidies up;
* a part can be rewritten with more columns at any time, whoever wrote it;
* rows that are done again, such as epochs after the last checkpoint, are taken out from the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from raynas.core.errors import StoreMismatch
from raynas.storage.file_systems import OBJECT_STORES, opened, reaching
from raynas.storage.rows import fitted
from raynas.storage.sealed import is_intact

TRIES = 3  # a reader that meets a merge half way looks again

# Makes one schema of several, each with the name of its file; raises StoreMismatch if it cannot.
Combine = Callable[[Iterable[tuple[str, pa.Schema]]], pa.Schema]
Version = tuple[int | None, int | None]  # of a file: time of its last change, and its size


@dataclass(frozen=True, order=True)
class Part:
    """A file, by its name: who wrote it, and which of the writer's numbers it holds.

    >>> Part.parse("part-east-000001-000064.parquet")
    Part(writer='east', first=1, last=64)
    >>> Part("", 7, 7).name
    'part-000007.parquet'
    """

    writer: str
    first: int
    last: int

    @classmethod
    def parse(cls, name: str) -> Part | None:
        """Return the part of that name, or None if it is no part's name."""
        found = re.fullmatch(r"part-(?:([A-Za-z]\w*)-)?(\d{6,})(?:-(\d{6,}))?\.parquet", name)
        part = found and cls(found[1] or "", int(found[2]), int(found[3] or found[2]))
        return part if part and 1 <= part.first <= part.last and part.name == name else None

    @property
    def name(self) -> str:
        """The name of its file."""
        writer = f"{self.writer}-" if self.writer else ""
        last = f"-{self.last:06}" if self.last > self.first else ""
        return f"part-{writer}{self.first:06}{last}.parquet"


class Parts:
    """The parts of one folder, as a reader sees them.

    Args:
        out: the run's folder, a local path or a URI that ``pyarrow.fs`` knows.
        folder: the folder inside it.
        combine: makes one schema of those of the parts.
    """

    def __init__(self, out: str, folder: str, combine: Combine) -> None:
        self._fs, self._root = opened(out)
        self._out, self._folder, self._combine = out, folder, combine
        self._versions: dict[Part, Version] = {}

    @property
    def _puts_whole(self) -> bool:
        return self._fs.type_name in OBJECT_STORES

    def _path(self, part: Part) -> str:
        return f"{self._root}/{self._folder}/{part.name}"

    def _listed(self) -> list[Part]:
        """Return every part, in order, a merged one before its members.

        Raises:
            StoreMismatch: a Parquet file in the folder is no part.
        """
        folder = fs.FileSelector(f"{self._root}/{self._folder}", allow_not_found=True)
        with reaching(self._out):
            files = {file.base_name: file for file in self._fs.get_file_info(folder)}
        parts: list[Part] = []
        self._versions = {}
        for name, file in files.items():
            if part := Part.parse(name):
                parts.append(part)
                self._versions[part] = file.mtime_ns, file.size
            elif name.endswith(".parquet") and not name.startswith((".", "_")):
                raise StoreMismatch(
                    f"{self._root}/{self._folder} holds {name}, which is not a part of it: "
                    "expected names like part-000001.parquet"
                )
        return sorted(parts, key=lambda part: (part.writer, part.first, -part.last))

    def present(self) -> list[Part]:
        """Return the parts that together hold every row once, in order.

        Raises:
            StoreMismatch: a part is missing, or a Parquet file in the folder is no part.
        """
        for _ in range(TRIES):
            parts, missing = [], []
            ends: dict[str, int] = {}
            for part in self._listed():
                end = ends.get(part.writer, 0)
                if part.last > end:
                    if part.first != end + 1:
                        missing.append(Part(part.writer, end + 1, part.first - 1).name)
                    parts.append(part)
                    ends[part.writer] = part.last
            if not missing:
                return parts
        raise StoreMismatch(f"{self._root}/{self._folder} lacks {', '.join(missing)}")

    def _load(self, part: Part) -> pa.Table:
        return self._selected(part, lambda _: True)[1]

    def _selected(self, part: Part, wanted: Callable[[str], bool]) -> tuple[pa.Schema, pa.Table]:
        """Return all columns' types, and the rows with the wanted columns."""
        with self._opened(part) as file:
            schema = file.schema_arrow
            names = [name for name in schema.names if wanted(name)]
            try:
                # Arrow takes ``valid`` for ``valid.loss`` as well
                table = file.read(names, use_threads=False).select(names)
                table.validate(full=True)  # that text is text, in a file without a digest
            except (pa.ArrowException, OSError, ValueError) as error:
                raise self._damaged(part, f"is damaged: {error}") from error
            return schema, table

    def _opened(self, part: Part) -> pq.ParquetFile:
        with reaching(self._out), self._fs.open_input_file(self._path(part)) as file:
            whole: bytes = file.read()
        if not is_intact(whole):
            raise self._damaged(part, "is damaged: it is not as it was written")
        try:
            return pq.ParquetFile(pa.BufferReader(whole))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(part, f"is not a Parquet file: {error}") from error

    def _damaged(self, part: Part, why: str) -> StoreMismatch:
        text = " ".join(why.split()).rstrip(".")
        return StoreMismatch(f"{self._path(part)} {text}; restore it from a copy")

    def read(self, wanted: Callable[[str], bool] = lambda _: True) -> pa.Table:
        """Return all rows in order of writer and number, with the columns of all parts.

        Args:
            wanted: says by its name whether a column is to be read.

        Raises:
            StoreMismatch: a part is missing, foreign, or contradicts another one's columns.
        """
        for tried in range(TRIES):
            parts = self.present()
            try:
                with ThreadPoolExecutor() as pool:
                    loaded = list(pool.map(self._selected, parts, repeat(wanted)))
                break
            except FileNotFoundError:
                if tried == TRIES - 1:
                    raise
        named = zip(map(self._path, parts), loaded, strict=True)
        whole = self._combine([(path, schema) for path, (schema, _) in named])
        schema = pa.schema([field for field in whole if wanted(field.name)])
        tables = (fitted(table, schema) for _, table in loaded)
        return pa.concat_tables([schema.empty_table(), *tables])
