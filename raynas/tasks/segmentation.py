"""A class for each pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from raynas.core.nest import Nest, described
from raynas.tasks.class_labels import (
    check_classes,
    check_scores,
    check_weights,
    class_weights_of,
    classes_in,
    is_integer,
)
from raynas.tasks.dense_cross_entropy import dense_cross_entropy, summed
from raynas.tasks.metric_state import Part, Sums
from raynas.tasks.own_metrics import LOSS
from raynas.tasks.task import TASKS, Task


@TASKS.register("segmentation")
class Segmentation(Task):
    """Cross-entropy of logits, shape (n, classes, H, W), against classes, shape (n, H, W).

    Pixels of the class ``ignore_index`` do not count. Columns are ``mean_iou``, intersection over
    union of each class over all pixels of a split, averaged over the classes that are there or
    predicted; ``pixel_accuracy``; and ``loss``, the weighted mean over pixels. Volumes, shape
    (n, classes, D, H, W), and sequences do as well, and masks of shape (n, 1, H, W).

    Args:
        class_weights: of each class in the loss.
        ignore_index: class of the pixels that do not count.
        loss: in place of the cross-entropy, a function of (logits, targets); its evaluation is the
            mean over batches, weighted by their rows, since outputs are not kept.
        metrics: further columns, see ``Task``.
        objective: in place of ``mean_iou:max``.
    """

    name = "segmentation"
    smooths = True
    single_output: ClassVar[bool] = True
    class_dim: ClassVar[int | None] = 1
    keeps_outputs: ClassVar[bool] = False
    default_objective: ClassVar[str] = "mean_iou:max"

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        ignore_index: int = 255,
        loss: Callable[..., Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        objective: str | None = None,
    ) -> None:
        self.class_weights = class_weights_of(class_weights, self.name)
        self.ignore_index = ignore_index
        super().__init__(loss=loss, metrics=metrics, objective=objective)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the metrics, besides the loss."""
        return ("mean_iou", "pixel_accuracy")

    def criterion(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        """Return the cross-entropy."""
        return dense_cross_entropy(
            output,
            _mask(output, target),
            ignore_index=self.ignore_index,
            class_weights=self.class_weights,
            smoothing=smoothing,
        )

    def parts(self) -> list[Part]:
        """Return what computes the columns from a confusion matrix and sums."""
        matrix = Sums(self._confusion, _columns)
        if self.own_loss is not None:
            return [matrix, self.loss_part()]
        return [matrix, Sums(self._losses, _mean_loss)]

    def width(self, targets: Nest) -> int | None:
        """Return how many classes there are."""
        return classes_in(targets, self.ignore_index)

    def check_fit(self, output: Any, target: Any, *, width: int | None, where: str) -> None:
        """Raise ValueError unless there are logits of all classes, and a class for each pixel."""
        check_scores(output, 3, "(n, classes, H, W)", where)
        outputs = output.shape[1]
        check_weights(self.class_weights, outputs, where)
        shape = (output.shape[0], *output.shape[2:])
        if not is_integer(target) or tuple(_mask(output, target).shape) != shape:
            raise ValueError(
                f"{where}: the targets are {described(target)} and the model returns "
                f"{described(output)}, expected class indices of shape {shape}"
            )
        ignored = self.ignore_index
        check_classes(target, outputs, width=width, where=where, ignore_index=ignored)

    def _losses(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return summed(
            output,
            _mask(output, target),
            ignore_index=self.ignore_index,
            class_weights=self.class_weights,
        )

    def _confusion(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        classes = output.shape[1]
        target = _mask(output, target).long()
        counts = target != self.ignore_index
        pairs = target[counts] * classes + output.argmax(1)[counts]
        matrix = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        return {"matrix": matrix}


def _columns(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    matrix = sums["matrix"].double()  # of true and predicted classes
    right = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - right
    return {
        "mean_iou": (right / union)[union > 0].mean(),
        "pixel_accuracy": right.sum() / matrix.sum(),
    }


def _mean_loss(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    return {LOSS: sums["loss"] / sums["weight"]}


def _mask(output: Tensor, target: Tensor) -> Tensor:
    """Return a mask without the channel that some transforms give it."""
    channel = target.dim() == output.dim() and target.shape[1] == 1
    return target.squeeze(1) if channel else target
