"""The parts of a folder for a reader who comes again: what has not changed is not read again."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from raynas.storage.parquet import Combine, Part, Parts, Version


class PartsReadAgain(Parts):
    """The parts of one folder, for a reader who comes again: what has not changed is kept.

    Args:
        out: the run's folder, a local path or a URI that ``pyarrow.fs`` knows.
        folder: the folder inside it.
        combine: makes one schema of those of the parts.
    """

    def __init__(self, out: str, folder: str, combine: Combine) -> None:
        super().__init__(out, folder, combine)
        self._kept: dict[Part, tuple[Version, tuple[pa.Schema, pa.Table]]] = {}

    def read(self, wanted: Callable[[str], bool] = lambda _: True) -> pa.Table:
        """Return all rows, of which those that are new are read."""
        table = super().read(wanted)
        self._kept = {part: kept for part, kept in self._kept.items() if part in self._versions}
        return table

    def _selected(self, part: Part, wanted: Callable[[str], bool]) -> tuple[pa.Schema, pa.Table]:
        version, kept = self._versions[part], self._kept.get(part)
        if kept is None or kept[0] != version:
            kept = self._kept[part] = version, super()._selected(part, wanted)
        return kept[1]
