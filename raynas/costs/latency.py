"""Latency as a sum of look-ups, one for each operator that an architecture picks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path as File

from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset, Subspace
from raynas.core.errors import nearest
from raynas.core.metrics import LATENCY
from raynas.costs.expectation import Expectation, Term, Vector
from raynas.costs.latency_files import ANY, Entry, known_decision, read_entries, write_entries
from raynas.costs.parts import Factor, Path, joined
from raynas.nn.edge import Edge
from raynas.nn.mutable import mutables, space_of


@dataclass(frozen=True)
class Latency:
    """What one forward pass of one example takes.

    Attributes:
        latency_ms: milliseconds.
    """

    latency_ms: float

    def as_metrics(self) -> dict[str, float]:
        """Return the latency as a column of the trial table."""
        return {LATENCY: self.latency_ms}


class LatencyTable:
    """Latency by look-up: the fixed part, and what each picked candidate adds.

    A file has the columns ``layer`` (the label of a decision), ``candidate`` (one of its options)
    and ``latency_ms``, and a row with neither for the part that all architectures have. ``*``
    stands for any option. Where several decisions make up one operator, ``layer`` and ``candidate``
    are JSON lists.

    >>> space = ArchSpace.of(op=["conv", "skip"])
    >>> rows = [Entry((), (), 2.0), Entry(("op",), ("conv",), 1.5), Entry(("op",), ("skip",), 0.0)]
    >>> LatencyTable(rows, space).cost({"op": "conv"})
    Latency(latency_ms=3.5)

    Args:
        entries: at least one for every option of every choice; sets (of a cell's sources, say) may
            have none, and have one for each option that they hold.
        space: of the architectures; or the supernet, which also knows the candidates of a cell that
            give zeros, so that their probabilities need not be left out.

    Raises:
        ValueError: an option has no entry (label and candidate are named), or an entry is of no
            label or option of the space, given twice, or no finite number of at least 0.
    """

    extremes = None

    def __init__(self, entries: Iterable[Entry], space: ArchSpace | nn.Module) -> None:
        nones = nones_of(space)
        space = _space(space)
        self.entries = tuple(entries)
        whole = {  # decisions of which an entry names a whole set, not what is in it
            label
            for entry in self.entries
            for label, value in zip(entry.layer, entry.candidate, strict=True)
            if isinstance(value, tuple) and value not in known_decision(label, space).options
        }
        reached = _ways(space)
        self._due: list[Term] = []
        self._terms: list[Term] = []
        seen: set[tuple[tuple[str, Value], ...]] = set()
        for entry in self.entries:
            key = tuple(zip(entry.layer, entry.candidate, strict=True))
            if not 0 <= entry.latency_ms < float("inf"):
                raise ValueError(f"{entry} is {entry.latency_ms} ms")
            if key in seen:
                raise ValueError(f"{entry} has two latencies")
            seen.add(key)
            factors = (_factor(*pair, space, entry, whole) for pair in key)
            path = tuple(factor for factor in factors if factor is not None)
            self._due.append(Term(path, float(entry.latency_ms)))
            self._terms += _spread(path, float(entry.latency_ms), reached)
        _check_complete(space, self.entries)
        self.base_ms = sum(term.amount for term in self._due if not term.path)
        self._by_first: dict[str, list[Term]] = {}
        for term in self._due:
            if term.path:
                self._by_first.setdefault(term.path[0].label, []).append(term)
        used = {factor.label for term in self._terms for factor in term.path}
        vectors = {
            label: _vector(decision, label in whole, nones.get(label))
            for label, decision in space.decisions.items()
            if label in used
        }
        shifted = [Term(_shifted(term.path, nones), term.amount) for term in self._terms]
        self._expectation = Expectation(vectors, {LATENCY: shifted})

    def cost(self, arch: Mapping[str, Value]) -> Latency:
        """Return the latency of an architecture known to be in the space."""
        total = self.base_ms
        for label in arch:
            for term in self._by_first.get(label, ()):
                if all(f.label in arch and f.holds(arch[f.label]) for f in term.path):
                    total += term.amount
        return Latency(total)

    def expected(self, probabilities: Mapping[str, Tensor], metric: str = LATENCY) -> Tensor:
        """Return the expected latency in milliseconds; gradients go through.

        Args:
            probabilities: by label, shape (options,), in the order of the decision's options, as
                for ``CostTable.expected``; of a set, the probability of each option to be in it,
                which may be left out where it is 1.
            metric: ``latency_ms``.

        Raises:
            ValueError: a vector is missing or of another length.
        """
        return self._expectation(probabilities, metric)

    def terms(self, metric: str) -> list[Term]:
        """Return what the latency is the sum of."""
        if metric != LATENCY:
            raise ValueError(f"no metric {metric!r}; known: {LATENCY}")
        return self._terms

    def save(self, path: str | File) -> None:
        """Write the table to a Parquet, CSV or JSON file, by the path's ending."""
        write_entries(self.entries, path)

    @classmethod
    def load(
        cls,
        path: str | File,
        space: ArchSpace | nn.Module,
        *,
        layers: Mapping[int, str] | None = None,
    ) -> LatencyTable:
        """Read a Parquet, CSV or JSON file, by its ending.

        Besides its own columns it reads those of FBNet's look-up tables: ``layer`` and
        ``block_idx``, both numbers, and ``latency_us``.

        Args:
            path: of the file.
            space: as for ``LatencyTable``.
            layers: of an FBNet table, the decision's label by layer; None takes the space's choices
                in their order.

        Raises:
            ValueError: other columns, or what ``LatencyTable`` refuses.
        """
        return cls(read_entries(path, _space(space), layers), space)


def _factor(
    label: str, value: Value, space: ArchSpace, entry: Entry, whole: set[str]
) -> Factor | None:
    decision = known_decision(label, space)
    if value == ANY and ANY not in decision.options:
        return None
    values = tuple(decision.values()) if label in whole else decision.options
    if value not in values:
        raise ValueError(f"{entry} is none; {nearest(str(value), map(str, values))}")
    within = isinstance(decision, Subset) and label not in whole
    return Factor(label, values.index(value), value, within)


def _vector(decision: Decision, whole: bool, none: int | None) -> Vector:
    if whole:
        return Vector(decision.count())
    length = len(decision.options) + (none is not None)
    return Vector(length, none, needed=isinstance(decision, Choice))


def _shifted(path: Path, nones: Mapping[str, int]) -> Path:
    """Return the path with positions among an edge's candidates, zeros included."""
    return tuple(
        f._replace(at=f.at + 1) if f.label in nones and f.at >= nones[f.label] else f for f in path
    )


Ways = list[tuple[Path, int]]  # conditions, and the sign that they count with


def _ways(space: ArchSpace) -> dict[str, Ways]:
    """Return by label when it is reached: signed conditions that add up to 1 where it is."""
    reached: dict[str, Ways] = {}

    def visit(inner: Subspace, path: Path) -> None:
        for decision in inner.choices:
            ways = reached.setdefault(decision.label, [])
            if (path, 1) not in ways:  # inclusion and exclusion
                both = [(joined(path, other), -sign) for other, sign in ways]
                ways += [(path, 1), *((p, sign) for p, sign in both if p is not None)]
            within = isinstance(decision, Subset)
            for at, option in enumerate(decision.options):
                if option in decision.opens:
                    further = joined(path, (Factor(decision.label, at, option, within),))
                    if further is not None:
                        visit(decision.opens[option], further)

    visit(space, ())
    return {label: _merged(ways) for label, ways in reached.items()}


def _merged(ways: Iterable[tuple[Path, int]]) -> Ways:
    signs: dict[frozenset[Factor], int] = {}
    for path, sign in ways:
        signs[frozenset(path)] = signs.get(frozenset(path), 0) + sign
    return [(tuple(sorted(path)), sign) for path, sign in signs.items() if sign]


def _spread(path: Path, amount: float, reached: Mapping[str, Ways]) -> list[Term]:
    """Return terms that add up to the amount where all labels of a path are reached as it says."""
    ways: Ways = [(path, 1)]
    for factor in path:
        pairs = ((joined(a, b), s * t) for a, s in ways for b, t in reached[factor.label])
        ways = [(both, sign) for both, sign in pairs if both is not None]
    return [Term(way, sign * amount) for way, sign in _merged(ways)]


def _check_complete(space: ArchSpace, entries: tuple[Entry, ...]) -> None:
    covered = {pair for e in entries for pair in zip(e.layer, e.candidate, strict=True)}
    for label, decision in space.decisions.items():
        if isinstance(decision, Choice) and (label, ANY) not in covered:
            for option in decision.options:
                if (label, option) not in covered:
                    raise ValueError(f"layer {label!r}, candidate {option!r}: there is no latency")


def nones_of(space: ArchSpace | nn.Module) -> dict[str, int]:
    """Return, by label of a cell's edge, the position of the candidate that gives zeros."""
    if isinstance(space, ArchSpace):
        return {}
    edges = (edge for edge in mutables(space) if isinstance(edge, Edge))
    return {str(edge.label): edge.none for edge in edges if edge.none is not None}


def _space(space: ArchSpace | nn.Module) -> ArchSpace:
    return space if isinstance(space, ArchSpace) else space_of(space)
