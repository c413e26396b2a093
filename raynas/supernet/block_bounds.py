"""The bounds that combinations of blocks have to keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from raynas.core.arch import Arch
from raynas.core.block_division import EXACT
from raynas.core.blocks import Blocks
from raynas.core.constraints import Constraint
from raynas.core.feasible import Cheap
from raynas.supernet.block_amounts import Amounts, amounts_of
from raynas.supernet.block_peaks import PeakBound
from raynas.supernet.block_program import BlockProgram


def _unbounded(_arch: Arch) -> bool:
    return True


@dataclass(frozen=True)
class BlockBounds:
    """Bounds on costs of combinations of blocks.

    Attributes:
        amounts: of costs that add up, also in pairs.
        peaks: bounds on others.
        keeps: whether an architecture keeps all of them, by its own costs.
    """

    amounts: tuple[Amounts, ...] = ()
    peaks: tuple[PeakBound, ...] = ()
    keeps: Callable[[Arch], bool] = _unbounded


def bounds_of(blocks: Blocks, costs: Cheap, constraints: Sequence[Constraint]) -> BlockBounds:
    """Return how bounds on costs are kept by combinations of blocks.

    Args:
        blocks: of the space.
        costs: of an architecture, by metric.
        constraints: on these.

    Raises:
        ValueError: blocks do not add up to a metric, nor does each of them raise or lower it
            alone; or no combination keeps a bound.
    """
    amounts, peaks = list[Amounts](), list[PeakBound]()
    for constraint in constraints:
        summed = amounts_of(blocks, costs, constraint)
        if summed is not None:
            amounts.append(summed)
            continue
        for one_end in _ends(constraint):
            peak = PeakBound(blocks, costs, one_end)
            if not peak.monotone:
                raise ValueError(
                    f"constraint {constraint}: {constraint.metric} is no sum over blocks, nor does "
                    "each block raise or lower it alone: bound another cost, or search with "
                    "another algorithm"
                )
            peaks.append(peak)

    def keeps(arch: Arch) -> bool:
        metrics = costs(arch)
        return all(constraint.holds(metrics) for constraint in constraints)

    bounds = BlockBounds(tuple(amounts), tuple(peaks), keeps)
    _check_reachable(blocks, bounds)
    return bounds


def _ends(constraint: Constraint) -> list[Constraint]:
    name, ends = constraint.metric, [(constraint.low, None), (None, constraint.high)]
    return [Constraint(name, *pair) for pair in ends if pair != (None, None)]


def _check_reachable(blocks: Blocks, bounds: BlockBounds) -> None:
    held = f", with {', '.join(blocks.held)} as in the whole" if blocks.held else ""
    zeros = [np.zeros(size) for size in blocks.sizes]
    program = BlockProgram(zeros, bounds.amounts, bounds.peaks)
    least = list[str]()
    for one in bounds.amounts:
        low, high = (one.of(program.extreme(one, largest=largest)) for largest in (False, True))
        least.append(f"{one.constraint.metric} {low:.6g}")
        _check_end(one.constraint, low, high, held)
    for peak in bounds.peaks:
        value = peak.value(peak.easiest)
        least.append(f"{peak.constraint.metric} {value:.6g}")
        _check_end(peak.constraint, value, value, held)
    if least and program.best() is None:
        every = [*(a.constraint for a in bounds.amounts), *(p.constraint for p in bounds.peaks)]
        raise ValueError(
            f"constraints {' and '.join(map(str, every))}: no combination of "
            f"blocks keeps all of them; the smallest of each alone are {', '.join(least)}{held}"
        )


def _check_end(constraint: Constraint, least: float, most: float, held: str) -> None:
    name, low, high = constraint.metric, constraint.low, constraint.high
    for broken, word, value in (
        (high is not None and least > high * (1 + EXACT), "smallest", least),
        (low is not None and most < low * (1 - EXACT), "largest", most),
    ):
        if broken:
            raise ValueError(
                f"constraint {constraint}: no combination of blocks keeps it; the {word} {name} is "
                f"{value:.6g}{held}"
            )
