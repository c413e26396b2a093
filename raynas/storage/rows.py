"""Rows of a table on their way to a file: as Python values, or as Arrow's tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, TypeAlias

import pyarrow as pa

from raynas.core.errors import StoreMismatch


@dataclass(frozen=True)
class Rows:
    """Rows as Python values: few of them need no table, which costs more than its rows.

    Attributes:
        schema: the columns.
        columns: the values of each, as many everywhere.
    """

    schema: pa.Schema
    columns: Sequence[Sequence[Any]]

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def table(self) -> pa.Table:
        """Return the rows as a table.

        Raises:
            StoreMismatch: a value does not fit its column.
        """
        pairs = zip(self.schema, self.columns, strict=True)
        arrays = [_array(field.name, field.type, values) for field, values in pairs]
        return pa.table(arrays, self.schema)


Content: TypeAlias = "Rows | pa.Table"


def _array(name: str, kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise StoreMismatch(f"column {name!r} holds {kind}: {error}") from error


def fitted(content: Content, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of ``schema``, null where the rows have none."""
    table = content.table() if isinstance(content, Rows) else content
    if table.schema.equals(schema):
        return table
    have = set(table.schema.names)
    columns = [
        table[field.name].cast(field.type)
        if field.name in have
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def joined(contents: Iterable[Content], schema: pa.Schema) -> pa.Table:
    """Return all rows as one table; values become arrays once for all, not once for each."""
    tables: list[pa.Table] = []
    for plain, group in groupby(
        contents, lambda c: isinstance(c, Rows) and c.schema.equals(schema)
    ):
        if plain:
            parts = zip(*(rows.columns for rows in group), strict=True)
            tables.append(Rows(schema, [list(chain.from_iterable(p)) for p in parts]).table())
        else:
            tables += [fitted(content, schema) for content in group]
    return pa.concat_tables(tables).combine_chunks()  # many short ones are slow to write
