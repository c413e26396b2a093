"""One class for each example."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from raynas.core.nest import Nest, described
from raynas.tasks.class_labels import (
    as_tensor,
    check_classes,
    check_scores,
    check_weights,
    class_weights_of,
    classes_in,
    is_integer,
)
from raynas.tasks.metric_state import Part, Whole
from raynas.tasks.own_metrics import LOSS
from raynas.tasks.task import TASKS, Task

SUM_TOLERANCE = 1e-3  # of probabilities to 1; half precision keeps three digits


@TASKS.register("classification")
class Classification(Task):
    """Cross-entropy of logits, shape (n, classes); columns ``accuracy`` and ``loss``.

    Targets are class indices, shape (n,), or probabilities, shape (n, classes); the class of these
    is the most probable one.

    >>> Classification(top_k=(5,)).metrics
    ('accuracy', 'top5_accuracy', 'loss')

    Args:
        class_weights: of each class in the loss, which is the weighted mean, as torch's.
        top_k: numbers K, each of a further column ``topK_accuracy``: the share of examples whose
            class is among the K largest logits.
        loss: in place of the cross-entropy, a function of (logits, targets).
        metrics: further columns, see ``Task``.
        objective: in place of ``accuracy:max``.
    """

    name = "classification"
    smooths = True
    single_output: ClassVar[bool] = True
    class_dim: ClassVar[int | None] = 1
    default_objective: ClassVar[str] = "accuracy:max"

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        top_k: tuple[int, ...] = (),
        loss: Callable[..., Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        objective: str | None = None,
    ) -> None:
        self.class_weights = class_weights_of(class_weights, self.name)
        self.top_k = tuple(top_k)
        if any(k < 1 for k in self.top_k):
            raise ValueError(f"task 'classification': top_k must be at least 1, got {self.top_k}")
        super().__init__(loss=loss, metrics=metrics, objective=objective)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the metrics, besides the loss."""
        return ("accuracy", *(f"top{k}_accuracy" for k in self.top_k))

    def criterion(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        """Return the cross-entropy."""
        target = target.long() if is_integer(target) else target.to(output.dtype)
        weight = as_tensor(self.class_weights, output)
        return functional.cross_entropy(output, target, weight, label_smoothing=smoothing)

    def parts(self) -> list[Part]:
        """Return what computes all columns at once over all logits."""
        return [Whole(self._columns_of)]

    def reward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the accuracy if it is the objective: without a loss, and without waiting."""
        if self.objective != ("accuracy", "max") or "accuracy" in self.own_metrics:
            return super().reward(output, target)
        return _share(output.argmax(1) == _classes(target))

    def width(self, targets: Nest) -> int | None:
        """Return how many classes there are."""
        if isinstance(targets, Tensor) and targets.is_floating_point() and targets.dim() == 2:
            return targets.shape[1]
        return classes_in(targets)

    def check_fit(self, output: Any, target: Any, *, width: int | None, where: str) -> None:
        """Raise ValueError unless there are logits of all classes, and one class an example."""
        check_scores(output, 2, "(n, classes)", where)
        if output.dim() != 2:
            raise ValueError(
                f"{where}: the model returns {described(output)}, expected logits of shape "
                "(n, classes); task='segmentation' has classes of pixels"
            )
        rows, outputs = output.shape
        check_weights(self.class_weights, outputs, where)
        if max(self.top_k, default=1) > outputs:
            raise ValueError(
                f"{where}: top_k is {self.top_k}, and the model gives {outputs} outputs"
            )
        if is_integer(target) and target.shape == (rows,):
            check_classes(target, outputs, width=width, where=where)
        elif not _probabilities(target, output):
            raise ValueError(
                f"{where}: the targets are {described(target)}, expected class indices of shape "
                f"({rows},), or probabilities of shape ({rows}, {outputs}) that sum to 1"
            )

    def _columns_of(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        classes = _classes(target)
        right = {"accuracy": _share(logits.argmax(1) == classes)}
        for k in self.top_k:
            among = (logits.topk(k, dim=1).indices == classes[:, None]).any(1)
            right[f"top{k}_accuracy"] = _share(among)
        return right | {LOSS: self.loss(logits, target)}


def _classes(target: Tensor) -> Tensor:
    return target if is_integer(target) else target.argmax(1)


def _share(right: Tensor) -> Tensor:
    return right.double().mean()


def _probabilities(target: Any, output: Tensor) -> bool:
    if not isinstance(target, Tensor) or not target.is_floating_point():
        return False
    if target.shape != output.shape:
        return False
    sums = target.double().sum(1)
    return bool((target >= 0).all() and ((sums - 1).abs() <= SUM_TOLERANCE).all())
