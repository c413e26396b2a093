"""Any number of labels for each example."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from raynas.core.nest import Nest, described
from raynas.tasks.alignment import aligned, by_output, check_aligned, outputs_for
from raynas.tasks.class_labels import as_tensor, check_weights
from raynas.tasks.metric_state import Part, Sums
from raynas.tasks.own_metrics import LOSS
from raynas.tasks.task import TASKS, Task


@TASKS.register("multilabel")
class Multilabel(Task):
    """Binary cross-entropy of logits, shape (n, labels), against 0 and 1 of any type.

    A label is predicted where its probability is above 0.5. Columns are ``f1``, the mean over
    labels of F1, 0 for a label that is neither there nor predicted, as in scikit-learn and
    torchmetrics (macro); ``accuracy``, the share of right answers among all labels of all examples;
    ``exact_match``, the share of examples whose labels are all right; and ``loss``. One label may
    have outputs and targets of shape (n,) or (n, 1).

    Args:
        pos_weight: of examples that have a label, in the loss: for each label, or one for all.
        loss: in place of the binary cross-entropy, a function of (logits, targets).
        metrics: further columns, see ``Task``.
        objective: in place of ``f1:max``.

    Raises:
        ValueError: a weight is not above 0 and finite.
    """

    name = "multilabel"
    single_output: ClassVar[bool] = True
    default_objective: ClassVar[str] = "f1:max"

    def __init__(
        self,
        *,
        pos_weight: float | Sequence[float] | None = None,
        loss: Callable[..., Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        objective: str | None = None,
    ) -> None:
        self.pos_weight = _weights(pos_weight)
        super().__init__(loss=loss, metrics=metrics, objective=objective)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the metrics, besides the loss."""
        return ("f1", "accuracy", "exact_match")

    def criterion(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        """Return the binary cross-entropy."""
        return self._elementwise(output, target).mean()

    def loss(self, output: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Return the loss; also one of one's own gets targets of the output's shape and type."""
        return super().loss(output, aligned(output, target), smoothing=smoothing)

    def measured(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, and whole numbers of their shape."""
        return output, aligned(output, target).long()

    def parts(self) -> list[Part]:
        """Return what computes the columns from counts."""
        own = [] if self.own_loss is None else [self.loss_part()]
        return [Sums(self._counted, _columns), *own]

    def width(self, targets: Nest) -> int | None:
        """Return how many labels there are."""
        return outputs_for(targets)

    def check_fit(self, output: Any, target: Any, *, width: int | None, where: str) -> None:
        """Raise ValueError unless there is a logit for each label, and labels are 0 and 1."""
        hint = (
            "logits and targets of shape (n, labels); one class for each example is "
            "task='classification'"
        )
        check_aligned(output, target, where, hint)
        if output.dim() > 2:
            raise ValueError(f"{where}: the model returns {described(output)}, expected {hint}")
        if isinstance(self.pos_weight, tuple):
            check_weights(self.pos_weight, by_output(output).shape[1], where, "pos_weight")
        wrong = target[(target != 0) & (target != 1)]
        if len(wrong):
            raise ValueError(f"{where}: a label is {wrong[0].item()}, expected 0 or 1")

    def _elementwise(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(
            output, target, pos_weight=as_tensor(self.pos_weight, output), reduction="none"
        )

    def _counted(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        output = by_output(output)
        target = aligned(output, target)
        predicted, there = output > 0, target > 0.5
        right = predicted == there
        return {
            "rows": torch.tensor(len(output), device=output.device),
            "both": (predicted & there).sum(0),
            "either": predicted.sum(0) + there.sum(0),
            "right": right.sum(),
            "exact": right.all(1).sum(),
            "loss": self._elementwise(output, target).double().sum(),
        }


def _columns(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    elements = sums["rows"] * sums["both"].numel()
    f1 = 2 * sums["both"].double() / sums["either"].clamp(min=1)
    return {
        "f1": f1.mean(),
        "accuracy": sums["right"].double() / elements,
        "exact_match": sums["exact"].double() / sums["rows"],
        LOSS: sums["loss"] / elements,
    }


def _weights(given: float | Sequence[float] | None) -> float | tuple[float, ...] | None:
    if given is None:
        return None
    weights = (given,) if isinstance(given, int | float) else tuple(given)
    weights = tuple(float(weight) for weight in weights)
    if not all(0 < weight < math.inf for weight in weights):
        raise ValueError(f"task 'multilabel': pos_weight must be above 0 and finite, got {given}")
    return weights[0] if isinstance(given, int | float) else weights
