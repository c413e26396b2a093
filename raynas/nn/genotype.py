"""Architectures of DARTS cells as genotypes, the form in which papers print them.

A genotype lists two pairs of operation and source for every node of a cell. Sources 0 and 1 are the
cell's inputs, 2 + j is node j (Liu et al., 2019, arXiv:1806.09055; PC-DARTS and SGAS print the
same). Here node i of a cell decides ``normal/n<i>/from``, two of s0, s1, n0, ..., and for each of
them an operation, ``normal/n<i>/op/<source>``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from raynas.core.arch import Arch, Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Subset
from raynas.core.errors import InvalidArch, nearest

CELLS = ("normal", "reduce")
OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
Pair = tuple[str, int]


class Genotype(NamedTuple):
    """Two cells; entries 2 i and 2 i + 1 are the pairs of node i."""

    normal: Sequence[Pair]
    normal_concat: Sequence[int]
    reduce: Sequence[Pair]
    reduce_concat: Sequence[int]


def to_genotype(arch: Mapping[str, Value], nodes: int = 4) -> Genotype:
    """Return the genotype of an architecture of DARTS cells; its ``repr`` is the printed form.

    Args:
        arch: of a cell space with the labels above.
        nodes: of each cell, all of them concatenated.

    Raises:
        InvalidArch: ``arch`` is no such architecture.
    """
    _cells(nodes).check(arch)
    normal, reduce = (_pairs(arch, kind, nodes) for kind in CELLS)
    return Genotype(normal, range(2, 2 + nodes), reduce, range(2, 2 + nodes))


def from_genotype(genotype: Genotype | tuple[Any, ...] | str, nodes: int = 4) -> Arch:
    """Return the architecture of a genotype, or of its printed text, which is never executed.

    >>> arch = from_genotype(
    ...     "Genotype(normal=[('skip_connect', 1), ('sep_conv_3x3', 0)], normal_concat=range(2, 3),"
    ...     " reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=range(2, 3))",
    ...     nodes=1,
    ... )
    >>> arch["normal/n0/from"], arch["normal/n0/op/s1"]
    (('s0', 's1'), 'skip_connect')

    Args:
        genotype: a pair's place within its node does not matter.
        nodes: of each cell.

    Raises:
        InvalidArch: the text is no genotype, or a cell is none; the message says where.
    """
    cells = _parsed(genotype) if isinstance(genotype, str) else genotype
    if not isinstance(cells, tuple) or len(cells) != len(Genotype._fields):
        fields = ", ".join(Genotype._fields)
        raise InvalidArch(f"expected a genotype of {fields}, got {cells!r}")
    normal, normal_concat, reduce, reduce_concat = cells
    decisions: dict[str, Value] = {}
    for kind, pairs, concat in zip(
        CELLS, (normal, reduce), (normal_concat, reduce_concat), strict=True
    ):
        _check_concat(kind, concat, nodes)
        decisions |= _decisions(kind, pairs, nodes)
    return Arch(decisions)


def _sources(node: int) -> tuple[str, ...]:
    return ("s0", "s1", *(f"n{before}" for before in range(node)))


@cache
def _cells(nodes: int) -> ArchSpace:
    """Return the space that all genotypes of ``nodes`` nodes make up."""
    return ArchSpace(tuple(_node(kind, node) for kind in CELLS for node in range(nodes)))


def _node(kind: str, node: int) -> Subset:
    sources = _sources(node)
    opens: dict[Atom, ArchSpace] = {
        s: ArchSpace((Choice(f"{kind}/n{node}/op/{s}", OPERATIONS),)) for s in sources
    }
    return Subset(f"{kind}/n{node}/from", sources, 2, opens)


def _pairs(arch: Mapping[str, Value], kind: str, nodes: int) -> list[Pair]:
    return [
        (str(arch[f"{kind}/n{node}/op/{source}"]), index)
        for node in range(nodes)
        for index, source in enumerate(_sources(node))
        if source in arch[f"{kind}/n{node}/from"]  # type: ignore[operator]
    ]


def _decisions(kind: str, pairs: object, nodes: int) -> Iterator[tuple[str, Value]]:
    if not isinstance(pairs, list | tuple) or len(pairs) != 2 * nodes:
        came = f"{len(pairs)} pairs" if isinstance(pairs, list | tuple) else repr(pairs)
        raise InvalidArch(f"{kind}: expected {2 * nodes} pairs, two for each node, got {came}")
    for node in range(nodes):
        sources = _sources(node)
        picked: dict[int, str] = {}
        for place in (2 * node, 2 * node + 1):
            operation, index = _pair(pairs[place], f"{kind}[{place}], node {node}", len(sources))
            if index in picked:
                raise InvalidArch(f"{kind}, node {node}: expected two sources, got {index} twice")
            picked[index] = operation
        yield f"{kind}/n{node}/from", tuple(sources[index] for index in sorted(picked))
        for index in sorted(picked):
            yield f"{kind}/n{node}/op/{sources[index]}", picked[index]


def _pair(pair: object, where: str, sources: int) -> Pair:
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
        raise InvalidArch(f"{where}: expected an (operation, source) pair, got {pair!r}")
    operation, index = pair
    if operation not in OPERATIONS:
        hint = nearest(operation, OPERATIONS)
        raise InvalidArch(f"{where}: no operation is named {operation!r}; {hint}")
    if type(index) is not int or not 0 <= index < sources:
        raise InvalidArch(f"{where}: expected a source from 0 to {sources - 1}, got {index!r}")
    return operation, index


def _check_concat(kind: str, concat: object, nodes: int) -> None:
    wanted = range(2, 2 + nodes)
    if concat != wanted and not (isinstance(concat, list | tuple) and list(concat) == [*wanted]):
        raise InvalidArch(f"{kind}_concat: expected {wanted}, got {concat!r}")


def _parsed(text: str) -> Genotype:
    """Read ``Genotype(...)``, which may stand behind an assignment or a log line's head."""
    start = re.search(r"\bGenotype\(", text)
    try:
        call = ast.parse(text[start.start() if start else 0 :].strip(), mode="eval").body
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Genotype":
            given = {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
            return Genotype(*map(_literal, call.args), **given)
        why = "it is no call of Genotype"
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        why = str(error)
    short = text if len(text) <= 100 else f"{text[:100]}..."
    raise InvalidArch(f"expected Genotype(normal=[...], ...), got {short!r}: {why}")


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "range" and not node.keywords:
        return range(*(ast.literal_eval(argument) for argument in node.args))
    return ast.literal_eval(node)
