"""Hardware in the loss: an expected cost whose gradient reaches the logits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from raynas.core.config import validated
from raynas.core.metrics import DEVICES, LATENCY
from raynas.core.nest import Nest
from raynas.core.temporary import temporary_folder

if TYPE_CHECKING:
    from raynas.costs.cost_table import CostTable
    from raynas.costs.latency import LatencyTable

Target = Literal["macs", "params", "cpu", "gpu", "mobile"]


class Hardware(BaseModel):
    """What is to be small besides the loss.

    Attributes:
        target: ``macs`` and ``params`` are counted; ``cpu`` and ``gpu`` are latencies measured
            here, operator by operator; ``mobile`` is a latency that ``table`` holds.
        table: file of latencies (see ``raynas.costs.latency.LatencyTable``), in place of measuring;
            for the three latencies only.
        form: ``add`` is loss + weight * (cost / reference - 1); ``mul_log`` is weight * loss *
            (ln cost / ln reference) ** power (ProxylessNAS, arXiv:1812.00332, as in the authors'
            code; FBNet, arXiv:1812.03443, equation 3, has no reference).
        reference: the cost aimed at; None takes the expected cost at the start for ``add`` and
            1 for the logarithm in ``mul_log``.
        weight: None takes 0.1 for ``add`` and 0.2 for ``mul_log``.
        power: of the logarithm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Target = "macs"
    table: str | None = None
    form: Literal["add", "mul_log"] = "add"
    reference: float | None = Field(default=None, gt=0.0)
    weight: float | None = Field(default=None, ge=0.0)
    power: float = Field(default=0.6, gt=0.0)


def checked_hardware(given: Hardware | Mapping[str, Any] | None) -> Hardware | None:
    """Return the settings, from a mapping if they came as one.

    Raises:
        ValueError: in one sentence, what is wrong where.
    """
    if given is None or isinstance(given, Hardware):
        return given
    try:
        return validated(Hardware, given)
    except ValueError as error:
        raise ValueError(f"hardware.{error}") from None


@contextmanager
def options_with_latency(
    options: Mapping[str, Any], latency: str | None
) -> Iterator[Mapping[str, Any]]:
    """Give an algorithm's options, with a table of latencies as a file that lasts as long.

    Args:
        options: of a one-shot algorithm.
        latency: the table as JSON; None leaves the options as they are.
    """
    hardware = checked_hardware(options.get("hardware"))
    if latency is None or hardware is None:
        yield options
        return
    with temporary_folder() as folder:
        file = folder / "latency.json"
        file.write_text(latency, encoding="utf-8")
        yield {**options, "hardware": hardware.model_copy(update={"table": str(file)})}


class Penalty:
    """Adds the expected cost of a relaxed model to a loss.

    Args:
        hardware: which cost, and how.
        model: a supernet; its routes, mode and state are kept.
        example: a batch of one.

    Raises:
        ValueError: a target that needs a table or a GPU which is not there, or has no use for the
            table that is; or a reference that the logarithm cannot take.
    """

    def __init__(self, hardware: Hardware, model: nn.Module, example: Nest) -> None:
        self.hardware = hardware
        timed = hardware.target in (*DEVICES, "mobile")
        self.metric = LATENCY if timed else hardware.target
        if hardware.table is not None and not timed:
            raise ValueError(f"hardware.table is of latencies, hardware.target {hardware.target!r}")
        self._costs = _costs(hardware, model, example)
        self.reference = hardware.reference
        usual = 0.1 if hardware.form == "add" else 0.2
        self.weight = usual if hardware.weight is None else hardware.weight
        if (
            hardware.form == "mul_log"
            and hardware.reference is not None
            and hardware.reference <= 1
        ):
            raise ValueError(
                f"hardware.reference must be above 1 for mul_log, got {hardware.reference}: the "
                "logarithm of the cost is divided by its own"
            )

    def expected(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the expected cost, differentiable in the weights of every choice."""
        return self._costs.expected(weights, self.metric)

    def aim(self, cost: float) -> None:
        """Take the expected cost at the start for a reference that is not given."""
        if self.hardware.form == "add" and self.reference is None:
            self.reference = max(cost, 1e-12)

    def __call__(self, loss: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the loss with the cost's part."""
        cost = self.expected(weights)
        if self.hardware.form == "add":
            assert self.reference is not None
            return loss + self.weight * (cost / self.reference - 1)
        base = 1.0 if self.reference is None else math.log(self.reference)
        # an expected cost below 1 would have a logarithm that no power can take
        ratio = cost.clamp_min(1.0 + 1e-6).log() / base
        return self.weight * loss * ratio**self.hardware.power


def _costs(hardware: Hardware, model: nn.Module, example: Nest) -> CostTable | LatencyTable:
    from raynas.costs.cost_table import CostTable
    from raynas.costs.latency import LatencyTable  # with a data frame library behind it
    from raynas.costs.timing import latency_from

    target = hardware.target
    if target in ("macs", "params"):
        return CostTable(model, example)
    if hardware.table is not None:
        return LatencyTable.load(hardware.table, model)
    if target == "mobile":
        raise ValueError("hardware.target 'mobile' needs hardware.table, a file of latencies")
    if target == "gpu" and not torch.cuda.is_available():
        raise ValueError("hardware.target 'gpu' needs a GPU here, or a hardware.table")
    return latency_from(target, model, example)
