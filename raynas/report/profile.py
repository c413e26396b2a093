"""What a space costs before anything is trained, and whether constraints can be met."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from typing import Literal

import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.constraints import Constraint
from raynas.core.decision import Choice, Decision
from raynas.core.errors import nearest
from raynas.core.metrics import LATENCY
from raynas.costs.cost_bounds import CostBound, cost_bound
from raynas.costs.cost_table import CostTable
from raynas.costs.coverage import Converted
from raynas.costs.latency import LatencyTable
from raynas.report.fixed_parts import fixed_parts
from raynas.report.trial_tables import number

Z_95 = 1.959964  # two-sided, 95 %
Share = tuple[float, float, float]  # with the ends of its interval
NARROWEST = 16  # characters of a column of labels or options; of keys, half


@dataclass(frozen=True)
class Profiled:
    """One architecture and its costs.

    Attributes:
        which: smallest, median or largest, by multiply-accumulates.
        arch: itself.
        metrics: its costs.
    """

    which: str
    arch: Arch
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Reach:
    """Whether, and how often, a constraint is met.

    Attributes:
        constraint: itself.
        least: the architecture with the least of its metric.
        most: that with the most.
        share: of the sampled architectures that meet it.
        low: of the 95 % interval of the share in the whole space.
        high: of the same.
    """

    constraint: Constraint
    least: CostBound
    most: CostBound
    share: float
    low: float
    high: float

    @property
    def possible(self) -> bool | None:
        """Whether an architecture meets it; None if that is not known.

        A range between the ends may lie in a gap, and ends that a local search found may be beaten.
        """
        if self.share or any(self.constraint.allows(end.value) for end in (self.least, self.most)):
            return True
        low, high = self.constraint.low, self.constraint.high
        below = self.least.exact and high is not None and self.least.value > high
        above = self.most.exact and low is not None and self.most.value < low
        return False if below or above else None


@dataclass(frozen=True)
class SpaceProfile:
    """What a space costs.

    Attributes:
        name: of the space.
        size: number of architectures.
        decisions: every decision, in the tree's order.
        archs: the smallest, the median of the sampled, and the largest architecture.
        exact: whether no architecture is smaller than the smallest or larger than the largest.
        reaches: one per constraint.
        share: of the sampled architectures that meet all constraints.
        low: of the 95 % interval of that share in the whole space.
        high: of the same.
        samples: how many architectures were drawn, each decision uniformly.
        note: why costs are measured one by one; None if they are looked up.
        conversion: what is elastic of a model that was converted; None for other spaces.
    """

    name: str
    size: int
    decisions: tuple[Decision, ...]
    archs: tuple[Profiled, Profiled, Profiled]
    exact: bool
    reaches: tuple[Reach, ...]
    share: float
    low: float
    high: float
    samples: int
    note: str | None = None
    conversion: Converted | None = None

    @property
    def feasible(self) -> bool | None:
        """Whether some architecture meets all constraints; None if that is not known."""
        if self.share or not self.reaches:
            return True
        return False if any(reach.possible is False for reach in self.reaches) else None

    def __str__(self) -> str:
        text = StringIO()
        Console(file=text, width=100, color_system=None).print(self)
        return text.getvalue().rstrip()

    def __rich__(self) -> Group:
        parts: list[Table | Text] = [_line(f"{self.name}: {_count(self.size)} architectures")]
        if self.conversion is not None:
            parts.append(_line(f"{self.conversion.line()}."))
        parts += [_line(""), self._costs()]
        if not self.exact:
            parts.append(_line("Smallest and largest are what a local search found."))
        if self.note is not None:
            parts.append(_line(f"Costs are measured one by one: {self.note}."))
        if self.reaches:
            parts += [_line(""), self._constraints(), *map(_line, self._conclusions())]
        parts += [_line(""), self._decided()]
        if self.conversion is not None and self.conversion.fixed:
            parts += [_line(""), fixed_parts(self.conversion.fixed)]
        return Group(*parts)

    def _costs(self) -> Table:
        metrics = list(self.archs[0].metrics)
        table = _table("Costs of one example's pass, ranked by macs", ["architecture"], [])
        rows = [[number(one.metrics[m], m) for m in metrics] for one in self.archs]
        for metric, column in zip(metrics, zip(*rows, strict=True), strict=True):
            _add_wrapped(table, metric, max(map(len, column)), justify="right")
        _add_wrapped(table, "key", NARROWEST // 2)
        for one, cells in zip(self.archs, rows, strict=True):
            table.add_row(one.which, *cells, one.arch.key)
        return table

    def _constraints(self) -> Table:
        title = f"Constraints, on {self.samples} architectures drawn at random"
        table = _table(title, ["constraint"], ["least", "most", "met by", "95 % interval"])
        for reach in self.reaches:
            metric = reach.constraint.metric
            ends = [
                number(end.value, metric) + ("" if end.exact else " (found)")
                for end in (reach.least, reach.most)
            ]
            share = _percent(reach.share), _interval(reach.low, reach.high)
            table.add_row(_bound(reach.constraint), *ends, *share)
        if len(self.reaches) > 1:
            table.add_row(
                "all together", "", "", _percent(self.share), _interval(self.low, self.high)
            )
        return table

    def _conclusions(self) -> list[str]:
        lines = []
        for reach in self.reaches:
            if reach.possible is False:
                lines.append(f"No architecture meets {_bound(reach.constraint)}.")
            elif reach.possible is None:
                lines.append(f"No architecture was found that meets {_bound(reach.constraint)}.")
        if not lines and self.feasible is None:
            lines.append("No architecture was found that meets all constraints at once.")
        return lines

    def _decided(self) -> Table:
        many = len(self.decisions)
        table = _table(f"{many} decision{'' if many == 1 else 's'}", [], [])
        _add_wrapped(table, "label", NARROWEST)
        table.add_column("picks", no_wrap=True)
        _add_wrapped(table, "options", NARROWEST)
        for (picks, options), alike in groupby(self.decisions, _row):
            labels = [decision.label for decision in alike]
            more = f" to {labels[-1]} ({len(labels)})" if len(labels) > 1 else ""
            table.add_row(Text(labels[0] + more), picks, Text(options))
        return table


def space_profile(
    name: str,
    space: ArchSpace,
    costs: CostTable,
    *,
    constraints: Sequence[Constraint] = (),
    latency: LatencyTable | None = None,
    samples: int = 1000,
    seed: int = 0,
    conversion: Converted | None = None,
) -> SpaceProfile:
    """Return what a space costs.

    Args:
        name: of the space.
        space: of the architectures.
        costs: of its supernet.
        constraints: to be met.
        latency: of its operators.
        samples: architectures to draw for the median and the shares.
        seed: fixes the draws.
        conversion: what is elastic, of a model that was converted.

    Raises:
        ValueError: no samples, or a constraint on a metric that is not known before training.
    """
    if type(samples) is not int or samples < 1:
        raise ValueError(f"samples must be a whole number of at least 1, got {samples!r}")
    check_metrics(constraints, costs.metrics, latency is not None)

    def metrics(arch: Arch) -> dict[str, float]:
        extra = {} if latency is None else latency.cost(arch).as_metrics()
        return costs.cost(arch).as_metrics() | extra

    def ends(metric: str) -> tuple[CostBound, CostBound]:
        table = latency if metric == LATENCY and latency is not None else costs
        least, most = (cost_bound(space, table, metric, goal) for goal in ("min", "max"))
        return least, most

    bounds = {metric: ends(metric) for metric in {"macs", *(c.metric for c in constraints)}}
    least, most = bounds["macs"]
    rng = np.random.default_rng(seed)
    archs = [space.sample(rng) for _ in range(samples)]
    rows = [metrics(arch) for arch in archs]
    middle = archs[_middle([row["macs"] for row in rows])]
    shares, together = _shares(constraints, rows)
    return SpaceProfile(
        name=name,
        size=space.size(),
        decisions=tuple(space.decisions.values()),
        archs=(
            Profiled("smallest", least.arch, metrics(least.arch)),
            Profiled("median", middle, metrics(middle)),
            Profiled("largest", most.arch, metrics(most.arch)),
        ),
        exact=least.exact and most.exact,
        reaches=tuple(
            Reach(constraint, *bounds[constraint.metric], *share)
            for constraint, share in zip(constraints, shares, strict=True)
        ),
        share=together[0],
        low=together[1],
        high=together[2],
        samples=samples,
        note=costs.exact_per_arch,
        conversion=conversion,
    )


def _middle(values: Sequence[float]) -> int:
    """Return where the median lies, the lower one of two."""
    return int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])


def _shares(
    constraints: Sequence[Constraint], rows: Sequence[Mapping[str, float]]
) -> tuple[list[Share], Share]:
    """Return which share of architectures meets each constraint, and all of them."""
    met = [[constraint.holds(row) for constraint in constraints] for row in rows]
    each = [wilson(sum(row[at] for row in met), len(rows)) for at in range(len(constraints))]
    return each, wilson(sum(map(all, met)), len(rows))


def check_metrics(constraints: Sequence[Constraint], counted: Sequence[str], latency: bool) -> None:
    """Raise ValueError for a constraint on what is not known before training.

    Args:
        constraints: to check.
        counted: metrics that an architecture alone tells.
        latency: whether there is a table of it.
    """
    known = (*counted, LATENCY) if latency else counted
    for constraint in constraints:
        if constraint.metric == LATENCY and not latency:
            raise ValueError(
                f"a constraint on {LATENCY} needs a latency table: pass latency= (--latency), "
                "'cpu' or 'gpu' to measure one here, or a file, such as a run's latency_cpu.json"
            )
        if constraint.metric not in known:
            hint = nearest(constraint.metric, known)
            raise ValueError(f"no metric {constraint.metric!r} is known before training; {hint}")


def wilson(hits: int, count: int) -> Share:
    """Return a share and its 95 % interval (Wilson, 1927), which also holds near 0 and 1.

    >>> [round(one, 4) for one in wilson(0, 1000)]
    [0.0, 0.0, 0.0038]
    """
    share, z2 = hits / count, Z_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    return share, low, 1.0 if hits == count else min(1.0, centre + half)


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _add_wrapped(
    table: Table, name: str, narrowest: int, *, justify: Literal["left", "right"] = "left"
) -> None:
    """Add a column that goes on in another line where a terminal is narrow, and hides nothing."""
    table.add_column(name, overflow="fold", min_width=narrowest, justify=justify)


def _line(text: str) -> Text:
    return Text(text)


def _bound(constraint: Constraint) -> str:
    low, high = constraint.low, constraint.high
    left = "" if low is None or high is None else f"{number(low)} <= "
    right = f" <= {number(high)}" if high is not None else f" >= {number(low)}"
    return f"{left}{constraint.metric}{right}"


def _row(decision: Decision) -> tuple[str, str]:
    return _picks(decision), ", ".join(map(str, decision.options))


def _picks(decision: Decision) -> str:
    if isinstance(decision, Choice):
        return "1"
    return "any" if decision.k is None else str(decision.k)


def _count(size: int) -> str:
    return f"{size:,}" if size < 10**9 else f"{size:.3e}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f} %"
