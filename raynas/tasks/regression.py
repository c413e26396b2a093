"""Numbers for each example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from raynas.core.errors import nearest
from raynas.core.nest import Nest
from raynas.tasks.alignment import aligned, by_output, check_aligned, outputs_for
from raynas.tasks.metric_state import Part, Sums
from raynas.tasks.own_metrics import LOSS
from raynas.tasks.task import TASKS, Task

LOSSES = ("mse", "mae", "huber")
Counted = dict[str, Tensor]


@TASKS.register("regression")
class Regression(Task):
    """Squared, absolute or Huber loss; columns ``r2``, ``mse``, ``mae`` and ``loss``.

    Outputs and targets are of one shape, (n,), (n, k) or more; dimensions of size 1 behind the
    batch do not count, so (n, 1) fits (n,). ``r2`` is the coefficient of determination, averaged
    over the k outputs: 1 for a perfect model, 0 for the mean of the targets, of no scale and so
    comparable between data sets, which is why it is the objective. An output whose targets are all
    equal counts 1 if it is exact and else 0, as in scikit-learn; one example has none (nan). What
    has more than two dimensions is taken as one output.

    Args:
        loss: ``"mse"`` (default), ``"mae"`` or ``"huber"``, or a function of (outputs, targets).
        delta: at which Huber's loss turns from squared to absolute, 1 if not given.
        metrics: further columns, see ``Task``.
        objective: in place of ``r2:max``.

    Raises:
        ValueError: a loss of another name, or a delta of another loss.
    """

    name = "regression"
    single_output: ClassVar[bool] = True
    lower_is_better: ClassVar[tuple[str, ...]] = (LOSS, "mse", "mae")
    default_objective: ClassVar[str] = "r2:max"

    def __init__(
        self,
        *,
        loss: str | Callable[..., Any] = "mse",
        delta: float | None = None,
        metrics: Mapping[str, Any] | None = None,
        objective: str | None = None,
    ) -> None:
        self.loss_name, self.delta = "mse", delta
        if delta is not None and not 0 < delta < float("inf"):
            raise ValueError(f"task 'regression': delta must be above 0 and finite, got {delta}")
        super().__init__(loss=loss, metrics=metrics, objective=objective)  # type: ignore[arg-type]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the metrics, besides the loss."""
        return ("r2", "mse", "mae")

    def criterion(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        """Return the mean of the squared, absolute or Huber loss."""
        return self._elementwise(output, target).mean()

    def loss(self, output: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Return the loss; also one of one's own is given targets of the output's shape."""
        return super().loss(output, aligned(output, target), smoothing=smoothing)

    def measured(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and targets of one shape and type."""
        return output, aligned(output, target)

    def parts(self) -> list[Part]:
        """Return what computes the columns from sums in float64."""
        own = [] if self.own_loss is None else [self.loss_part()]
        return [Sums(self._counted, _columns, _combined), *own]

    def reward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return 1 / (2 - r2) if r2 is the objective: 1 is perfect, 1/2 the mean of the targets."""
        worth = super().reward(output, target)
        return 1 / (2 - worth) if self.objective == ("r2", "max") else worth

    def width(self, targets: Nest) -> int | None:
        """Return how many numbers an example has."""
        return outputs_for(targets)

    def check_fit(self, output: Any, target: Any, *, width: int | None, where: str) -> None:
        """Raise ValueError unless there is one output for each number of the target."""
        check_aligned(output, target, where, "one output for each number of a target")

    def options(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, as plain data."""
        name = {} if self.loss_name == "mse" else {"loss": self.loss_name}
        return super().options() | name

    def _take(
        self, loss: Any, metrics: dict[str, Callable[..., Any]], objective: str | None
    ) -> None:
        if isinstance(loss, str):
            if loss not in LOSSES:
                raise ValueError(f"task 'regression': no loss {loss!r}; {nearest(loss, LOSSES)}")
            self.loss_name, loss = loss, None
        if self.delta is not None and (loss is not None or self.loss_name != "huber"):
            raise ValueError("task 'regression': delta is an option of loss='huber' alone")
        super()._take(loss, metrics, objective)

    def _elementwise(self, output: Tensor, target: Tensor) -> Tensor:
        if self.loss_name == "huber":
            delta = 1.0 if self.delta is None else self.delta
            return functional.huber_loss(output, target, reduction="none", delta=delta)
        if self.loss_name == "mae":
            return functional.l1_loss(output, target, reduction="none")
        return functional.mse_loss(output, target, reduction="none")

    def _counted(self, output: Tensor, target: Tensor) -> Counted:
        output, target = output.double(), aligned(output.double(), target)
        error, target_NK = by_output(output - target), by_output(target)
        mean_K = target_NK.mean(0)
        return {
            "rows": mean_K.new_tensor(len(target_NK)),
            "loss": self._elementwise(output, target).sum(),
            "absolute": error.abs().sum(),
            "squared": error.square().sum(0),
            "mean": mean_K,
            "scatter": (target_NK - mean_K).square().sum(0),
        }


def _combined(first: Counted, second: Counted) -> Counted:
    """Return the sums of two sets, means and scatters merged as in Chan et al., 1979."""
    total = {name: first[name] + second[name] for name in first}
    share = second["rows"] / total["rows"]
    apart = second["mean"] - first["mean"]
    total["mean"] = first["mean"] + apart * share
    total["scatter"] = total["scatter"] + apart.square() * first["rows"] * share
    return total


def _columns(sums: Counted) -> dict[str, Tensor]:
    elements = sums["rows"] * sums["mean"].numel()
    return {
        "r2": _r2(sums),
        "mse": sums["squared"].sum() / elements,
        "mae": sums["absolute"] / elements,
        LOSS: sums["loss"] / elements,
    }


def _r2(sums: Counted) -> Tensor:
    if sums["rows"] < 2:
        return torch.full_like(sums["rows"], float("nan"))
    rounding = sums["rows"] * (4 * torch.finfo(torch.float64).eps * sums["mean"]).square()
    varies = sums["scatter"] > rounding
    ratio = sums["squared"] / sums["scatter"].where(varies, torch.ones_like(sums["scatter"]))
    constant = (sums["squared"] == 0).double() + 0 * sums["squared"]  # nan stays nan
    return (1 - ratio).where(varies, constant).mean()
