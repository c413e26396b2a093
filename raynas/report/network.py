"""What network an architecture's labels describe: cells, a chain of layers, or a tree of decisions.

Labels tell it: ``<cell>/n<i>/from`` and ``<cell>/n<i>/op/<source>`` are a cell whose nodes pick
distinct inputs, ``from<j>`` and ``op<j>`` one whose operations may read any, ``edge_<to>_<from>``
a cell of NAS-Bench-201; labels that count (``stage2_block1``, ``layer3/op``) are a chain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from raynas.core.arch import Arch, Value

FROM = re.compile(r"(?:(?P<cell>.+)/)?(?P<node>n\d+)/from(?P<slot>\d*)")
EDGE = re.compile(r"(?:(?P<cell>.+)[/.])?edge_(?P<to>\d+)_(?P<source>\d+)")
PARTS = re.compile(r"[/.]")
CHAIN_SHARE = 2 / 3  # of groups that count, from which on they are a chain


class CellEdge(NamedTuple):
    """An operation of a cell."""

    source: str
    node: str
    label: str


@dataclass(frozen=True)
class DrawnCell:
    """A cell: its name and its operations, node by node."""

    name: str
    edges: tuple[CellEdge, ...]


@dataclass(frozen=True)
class Group:
    """Decisions of one part of a network, by what stands behind its name.

    Attributes:
        name: of the part.
        labels: by the rest of each, which is empty for a decision that has the part's own name.
    """

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Network:
    """What can be drawn of an architecture.

    Attributes:
        cells: the cells.
        groups: the other decisions.
        chain: whether these follow each other as layers do.
    """

    cells: tuple[DrawnCell, ...]
    groups: tuple[Group, ...]
    chain: bool


def network_of(arch: Arch) -> Network:
    """Return what an architecture's labels describe."""
    edges: dict[str, list[CellEdge]] = {}
    used: set[str] = set()
    for label, value in arch.items():
        for cell, edge in _edges(label, value, arch):
            edges.setdefault(cell, []).append(edge)
            used |= {label, edge.label}
    groups = _groups(label for label in arch if label not in used)
    counted = sum(any(c.isdigit() for c in group.name) for group in groups)
    chain = counted >= 2 and counted >= CHAIN_SHARE * len(groups)
    cells = tuple(DrawnCell(name, tuple(found)) for name, found in edges.items())
    return Network(cells, tuple(groups), chain)


def _edges(label: str, value: Value, arch: Arch) -> list[tuple[str, CellEdge]]:
    if match := EDGE.fullmatch(label):
        source, node = f"{match['source']}", f"{match['to']}"
        return [(match["cell"] or "cell", CellEdge(source, node, label))]
    match = FROM.fullmatch(label)
    if match is None:
        return []
    stem = label.removesuffix(f"from{match['slot']}")
    sources = value if isinstance(value, tuple) else (value,)
    found = []
    for name in map(str, sources):
        operation = f"{stem}op{match['slot']}" if match["slot"] else f"{stem}op/{name}"
        if operation in arch:
            edge = CellEdge(name, match["node"], operation)
            found.append((match["cell"] or "cell", edge))
    return found


def _groups(labels: Iterable[str]) -> list[Group]:
    found: dict[str, dict[str, str]] = {}
    for label in labels:
        *stem, rest = PARTS.split(label)
        name = label[: -len(rest) - 1] if stem else label
        found.setdefault(name, {})[rest if stem else ""] = label
    return [Group(name, labels) for name, labels in found.items()]
