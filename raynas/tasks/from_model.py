"""A model that returns its own loss, as Hugging Face's do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from raynas.core.nest import Nest, described
from raynas.tasks.outputs import in_float32
from raynas.tasks.task import TASKS, Task

LABELS = "labels"  # the keyword under which models of Hugging Face take them


@TASKS.register("from_model")
class FromModel(Task):
    """The loss that the model returns, called with the labels; columns ``loss`` and one's own.

    The inputs are a dict, to which the targets are added as ``labels``, or under their own names if
    they are a dict. The model returns an object with ``loss`` and maybe ``logits``, a dict with
    them, or a tuple that begins with them. The evaluated loss is the mean over batches, weighted by
    their rows. Metrics of one's own get (logits, targets).

    Args:
        metrics: columns, see ``Task``.
        objective: in place of ``loss:min``.
    """

    name = "from_model"
    computes_loss_in_model: ClassVar[bool] = True
    keeps_outputs: ClassVar[bool] = False

    def __init__(
        self, *, metrics: Mapping[str, Any] | None = None, objective: str | None = None
    ) -> None:
        super().__init__(metrics=metrics, objective=objective)

    def criterion(self, output: tuple[Tensor, Any], target: Any, smoothing: float) -> Tensor:
        """Return the model's loss."""
        return output[0]

    def inputs(self, inputs: Nest, target: Nest) -> Nest:
        """Return the inputs with the targets among them.

        Raises:
            ValueError: inputs are no dict, or hold what targets are added as.
        """
        if target is None:
            return inputs
        more = target if isinstance(target, Mapping) else {LABELS: target}
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"task 'from_model': the inputs are {described(inputs)}, expected a dict, to which "
                "the labels are added"
            )
        if both := sorted(inputs.keys() & more.keys()):
            raise ValueError(f"task 'from_model': inputs and targets both hold {both[0]!r}")
        return {**inputs, **more}

    def output(self, out: object) -> tuple[Tensor, Any]:
        """Return the model's loss, and its logits or None.

        Raises:
            TypeError: it returns no loss.
        """
        loss, logits = _loss_and_logits(out)
        if not isinstance(loss, Tensor) or loss.dim():
            raise TypeError(
                f"task 'from_model': the model returns {described(out)}, expected an object with a "
                "scalar loss, a dict with 'loss' or a tuple that begins with it"
            )
        return in_float32(loss), in_float32(logits)

    def training_loss(
        self, out: object, target: Any, *, smoothing: float, aux_weight: float
    ) -> Tensor:
        """Return the model's loss, to which it has added what it has of auxiliary losses."""
        return self.loss(self.output(out), target, smoothing=smoothing)

    def distilled(self, output: tuple[Tensor, Any]) -> Tensor:
        """Return the logits, whose squared difference is learned.

        Raises:
            TypeError: the model returns none.
        """
        return super().distilled(output[1])

    def measured(self, output: tuple[Tensor, Any], target: Any) -> tuple[Any, Any]:
        """Return the logits and the labels."""
        return output[1], target

    def check_fit(self, output: Any, target: Any, *, width: int | None, where: str) -> None:
        """Raise ValueError if there are metrics, and no logits to compute them from."""
        if self.own_metrics and output[1] is None:
            raise ValueError(
                f"{where}: the model returns no logits, from which "
                f"{', '.join(map(repr, self.own_metrics))} would be computed"
            )

    def _take(self, loss: Any, metrics: dict[str, Any], objective: str | None) -> None:
        if loss is not None:
            raise ValueError("task 'from_model' takes no loss: the model returns it")
        super()._take(loss, metrics, objective)


def _loss_and_logits(out: object) -> tuple[Any, Any]:
    if isinstance(out, Mapping):
        return out.get("loss"), out.get("logits")
    if isinstance(out, tuple | list):
        return (*out, None, None)[:2]
    return getattr(out, "loss", None), getattr(out, "logits", None)
