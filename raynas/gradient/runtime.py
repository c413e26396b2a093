"""The runtime of a chain of super-kernels, by look-up, differentiable in their indicators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raynas.core.errors import InvalidSpace
from raynas.core.metrics import LATENCY
from raynas.core.nest import Nest, call
from raynas.gradient.hardware import Hardware
from raynas.gradient.thresholds import Indicators
from raynas.nn.mutable import activate_unchecked, each_route, freeze, inner_space
from raynas.nn.super_kernel import SKIPPED, WHOLE, SuperKernel

Blocks = Mapping[str, Sequence[SuperKernel]]


@dataclass(frozen=True)
class BlockCosts:
    """What the options of a block cost.

    Attributes:
        half: of kernel 5 and expansion 3.
        full: of kernel 5 and expansion 6.
        small_full: of kernel 3 and expansion 6.
        skipped: of a block that is left out.
    """

    half: float
    full: float
    small_full: float
    skipped: float

    @classmethod
    def of(cls, costs: Mapping[str, float]) -> BlockCosts:
        """Return the costs of options by name."""
        return cls(costs["MB5E3"], costs["MB5E6"], costs["MB3E6"], costs.get(SKIPPED, 0.0))

    def expected(self, on: Indicators) -> Tensor:
        """Return r(d50, d100) * (R3 / R5 + (1 - R3 / R5) * d5), shape ().

        Source: arXiv:1904.02877, equations 9 and 10. R3 / R5 is taken at expansion 6.
        """
        channels = self.half + on.d100 * (self.full - self.half)
        r = self.skipped + on.d50 * (channels - self.skipped)
        ratio = self.small_full / self.full
        return r * (ratio + (1 - ratio) * on.d5)


class Runtime:
    """The sum of what is fixed and of every block's cost.

    Args:
        hardware: whose ``target`` and ``table`` say what is counted or looked up.
        model: a supernet, whose routes, mode and state are kept.
        blocks: its super-kernels by label.
        example: a batch of one.

    Attributes:
        metric: that the costs are of.
        fixed: of what all architectures have.
        costs: by label, of all blocks of that label together.

    Raises:
        ValueError: a table of latencies of several decisions at once.
    """

    def __init__(self, hardware: Hardware, model: nn.Module, blocks: Blocks, example: Nest) -> None:
        by_option: dict[str, dict[str, float]]
        if hardware.table is None:
            self.metric: str = hardware.target
            self.fixed, by_option = counted(model, blocks, example, self.metric)
        else:
            self.metric = LATENCY
            self.fixed, by_option = looked_up(model, blocks, hardware.table)
        self.costs = {label: BlockCosts.of(costs) for label, costs in by_option.items()}

    def expected(self, indicators: Mapping[str, Indicators]) -> Tensor:
        """Return the runtime, shape (), differentiable in the indicators of every label."""
        parts = [costs.expected(indicators[label]) for label, costs in self.costs.items()]
        return self.fixed + torch.stack(parts).sum()


def counted(
    model: nn.Module, blocks: Blocks, example: Nest, metric: str
) -> tuple[float, dict[str, dict[str, float]]]:
    """Count what is fixed, and what every option costs, by label.

    Args:
        model: a supernet.
        blocks: its super-kernels by label.
        example: a batch of one.
        metric: ``macs`` or ``params``.
    """
    from raynas.costs.network_cost import cost_of

    whole = dict.fromkeys(blocks, WHOLE)
    inputs = _block_inputs(model, blocks, whole, example)
    costs = {
        label: {
            option: float(
                sum(
                    getattr(cost_of(block.frozen({label: option}, {}), inputs[block]), metric)
                    for block in own
                )
            )
            for option in own[0].options
        }
        for label, own in blocks.items()
    }
    total = float(getattr(cost_of(freeze(model, whole), example), metric))
    return total - sum(options[WHOLE] for options in costs.values()), costs


def _block_inputs(
    model: nn.Module, blocks: Blocks, arch: Mapping[str, str], example: Nest
) -> dict[SuperKernel, Tensor]:
    """Return what every block is called with."""
    from raynas.costs.meter import evaluating

    inputs: dict[SuperKernel, Tensor] = {}

    def note(block: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(block, SuperKernel)
        inputs[block] = args[0]

    restore = each_route(model, lambda mutable: mutable.route)
    activate_unchecked(model, arch)
    with ExitStack() as undo, evaluating(model):
        for own in blocks.values():
            for block in own:
                undo.callback(block.register_forward_pre_hook(note).remove)
        call(model, example)
    restore()
    for own in blocks.values():
        for block in own:
            if block not in inputs:
                raise InvalidSpace(f"super-kernel {block.label!r} is never called by its model")
    return inputs


def looked_up(
    model: nn.Module, blocks: Blocks, table: str
) -> tuple[float, dict[str, dict[str, float]]]:
    """Read what is fixed, and every option's latency, by label; milliseconds.

    Raises:
        ValueError: an entry is of several decisions.
    """
    from raynas.costs.latency import LatencyTable  # with a data frame library behind it

    fixed = 0.0
    costs = {label: dict.fromkeys(own[0].options, 0.0) for label, own in blocks.items()}
    for term in LatencyTable.load(table, inner_space(model)).terms(LATENCY):
        if len(term.path) > 1:
            labels = [factor.label for factor in term.path]
            raise ValueError(
                f"hardware.table: single_path_nas needs one latency for each option of a block, "
                f"got one of {labels} together"
            )
        if not term.path:
            fixed += term.amount
        for factor in term.path:
            costs[factor.label][str(factor.value)] += term.amount
    return fixed, costs
