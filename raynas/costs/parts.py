"""A network's costs as a tree: parts that run as a whole, and switches that pick among them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

from raynas.core.arch import Atom, Value


class Factor(NamedTuple):
    """One condition of a path.

    Attributes:
        label: of a decision.
        at: position of the value among the decision's options.
        value: that the decision takes, or holds if it is a set.
        within: whether the decision is a set, so that two of its values do not exclude each other.
    """

    label: str
    at: int
    value: Value
    within: bool = False

    def holds(self, value: Value) -> bool:
        """Return whether the value of a decision that is reached fulfils the condition."""
        if self.within and isinstance(value, tuple):
            return self.value in value
        return value == self.value


Path = tuple[Factor, ...]
UNREACHED = object()  # None may be an option


class Gate(NamedTuple):
    """What an edge of a cell needs besides its operation: that its node reads its source."""

    label: str
    source: Atom
    sources: tuple[Atom, ...]


@dataclass(frozen=True)
class Rule:
    """Which of a switch's parts run.

    Attributes:
        labels: of the decisions that it looks at.
        domains: of each, the values in the order of a probability vector.
        runs: from the value (the tuple of values, if there are several labels) to the parts.
        gate: a further condition of all parts.
    """

    labels: tuple[str, ...]
    domains: tuple[tuple[Value, ...], ...]
    runs: Mapping[Any, tuple[int, ...]]
    gate: Gate | None = None

    def paths(self, part: int) -> Iterator[Path]:
        """Yield the conditions under which a part runs; at most one of them holds at a time."""
        for key, parts in self.runs.items():
            if part in parts:
                values = (key,) if len(self.labels) == 1 else key
                triples = zip(self.labels, values, self.domains, strict=True)
                path = tuple(Factor(label, d.index(v), v) for label, v, d in triples)
                if self.gate is not None:
                    label, source, sources = self.gate
                    path += (Factor(label, sources.index(source), source, within=True),)
                yield path


@dataclass
class Switch:
    """Parts of which an architecture runs some.

    Attributes:
        rule: which.
        parts: one per candidate, block or combination of values.
        default: the parts that a supernet runs while nothing is decided and one is needed.
    """

    rule: Rule
    parts: list[Part]
    default: tuple[int, ...] = (0,)


@dataclass
class Part:
    """A stretch of a network that runs as a whole, and the switches in it.

    Attributes:
        amount: multiply-accumulates, or milliseconds: what adds up.
        peak_bytes: largest sum of tensors alive.
        params: sizes by identity, so that tied ones count once.
    """

    amount: float = 0
    peak_bytes: int = 0
    params: dict[Hashable, int] = field(default_factory=dict)
    switches: list[Switch] = field(default_factory=list)

    def add(self, other: Part) -> None:
        """Take in what runs whenever this part does; switches of one rule become one."""
        self.amount += other.amount
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.params |= other.params
        for switch in other.switches:
            same = next((s for s in self.switches if s.rule == switch.rule), None)
            if same is None:
                fresh = Switch(switch.rule, [Part() for _ in switch.parts], switch.default)
                self.switches.append(fresh)
                same = fresh
            for ours, theirs in zip(same.parts, switch.parts, strict=True):
                ours.add(theirs)

    def walk(self, path: Path = ()) -> Iterator[tuple[Path, Part]]:
        """Yield every part below (and this one) with the conditions under which it runs.

        A part that runs under several is yielded for each.
        """
        yield path, self
        for switch in self.switches:
            for at, part in enumerate(switch.parts):
                for further in switch.rule.paths(at):
                    whole = joined(path, further)
                    if whole is not None:
                        yield from part.walk(whole)


def joined(path: Path, further: Path) -> Path | None:
    """Return both conditions as one, each once; None if they exclude each other."""
    for factor in further:
        if factor in path:
            continue
        if any(f.label == factor.label and not (f.within and factor.within) for f in path):
            return None
        path += (factor,)
    return path


class Row:
    """A part made ready for look-ups: plain sums, tied parameters apart."""

    __slots__ = ("amount", "params", "peak_bytes", "switches", "tied")

    def __init__(self, part: Part, tied: frozenset[Hashable]) -> None:
        self.amount, self.peak_bytes = part.amount, part.peak_bytes
        self.tied = {key: size for key, size in part.params.items() if key in tied}
        self.params = sum(part.params.values()) - sum(self.tied.values())
        self.switches = [_Picks(switch, tied) for switch in part.switches]

    @property
    def free(self) -> bool:
        """Whether it costs nothing."""
        return not (self.amount or self.peak_bytes or self.params or self.tied or self.switches)

    def add_to(self, sum_: list[Any], tied: dict[Hashable, int], arch: Mapping[str, Value]) -> None:
        """Add what an architecture runs to [params, amount, peak_bytes]."""
        sum_[0] += self.params
        sum_[1] += self.amount
        if self.peak_bytes > sum_[2]:
            sum_[2] = self.peak_bytes
        if self.tied:
            tied |= self.tied
        for switch in self.switches:
            for row in switch.picked(arch):
                row.add_to(sum_, tied, arch)


class _Picks:
    """Which rows of a switch an architecture runs, by the values of the labels that decide it."""

    __slots__ = ("gate", "label", "labels", "rows")

    def __init__(self, switch: Switch, tied: frozenset[Hashable]) -> None:
        rule = switch.rule
        rows = [Row(part, tied) for part in switch.parts]
        self.gate, self.labels = rule.gate, rule.labels
        self.label = rule.labels[0] if len(rule.labels) == 1 else None
        # a switch over several labels has a key for every combination, most of which run nothing
        self.rows = {
            key: some
            for key, parts in rule.runs.items()
            if (some := tuple(rows[at] for at in parts if not rows[at].free))
        }

    def picked(self, arch: Mapping[str, Value]) -> tuple[Row, ...]:
        """Return the rows that an architecture runs."""
        if self.gate is not None:
            origin = arch.get(self.gate.label)
            source = self.gate.source
            if not (source in origin if isinstance(origin, tuple) else source == origin):
                return ()
        if self.label is not None:
            return self.rows.get(arch.get(self.label, UNREACHED), ())
        return self.rows.get(tuple([arch.get(label, UNREACHED) for label in self.labels]), ())


def without_repetition(part: Part, held: frozenset[Hashable] = frozenset()) -> None:
    """Leave out, within switches, the parameters that are there whatever the switch says."""
    part.params = {key: size for key, size in part.params.items() if key not in held}
    held |= part.params.keys()
    for switch in part.switches:
        for inner in switch.parts:
            without_repetition(inner, held)


def tied_in(part: Part) -> frozenset[Hashable]:
    """Return the parameters of several parts that may run together."""
    places: dict[Hashable, list[Path]] = {}
    for path, inner in part.walk():
        for key in inner.params:
            places.setdefault(key, []).append(path)
    together: dict[tuple[Path, ...], bool] = {}
    for paths in map(tuple, places.values()):
        if paths not in together:
            together[paths] = any(joined(a, b) is not None for a, b in combinations(paths, 2))
    return frozenset(key for key, paths in places.items() if together[tuple(paths)])
