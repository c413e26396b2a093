"""The next token at each position."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from raynas.core.nest import Nest, described
from raynas.tasks.class_labels import check_classes, check_scores, classes_in, is_integer
from raynas.tasks.dense_cross_entropy import dense_cross_entropy, summed
from raynas.tasks.metric_state import Part, Sums
from raynas.tasks.own_metrics import LOSS
from raynas.tasks.task import TASKS, Task


@TASKS.register("language_modeling")
class LanguageModeling(Task):
    """Cross-entropy of logits, shape (n, T, tokens), against the next tokens, shape (n, T).

    Data without targets are sequences of token ids, shape (n, T + 1): all but the last are the
    inputs, all but the first the targets. Columns are means over all tokens of a split:
    ``perplexity``, exp of the cross-entropy; ``bits_per_token``, the cross-entropy in base 2;
    ``accuracy``; and ``loss``, the cross-entropy in nats. Logits of shape (n, tokens) against
    targets of shape (n,), the token after a whole context, do as well.

    Args:
        ignore_index: target where there is no token, such as padding.
        loss: in place of the cross-entropy, a function of (logits, targets); its evaluation is the
            mean over batches, weighted by their rows, since outputs are not kept. The perplexity
            remains the cross-entropy's.
        metrics: further columns, see ``Task``.
        objective: in place of ``perplexity:min``.
    """

    name = "language_modeling"
    smooths = True
    single_output: ClassVar[bool] = True
    class_dim: ClassVar[int | None] = -1
    keeps_outputs: ClassVar[bool] = False
    lower_is_better: ClassVar[tuple[str, ...]] = (LOSS, "perplexity", "bits_per_token")
    default_objective: ClassVar[str] = "perplexity:min"

    def __init__(
        self,
        *,
        ignore_index: int = -100,
        loss: Callable[..., Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        objective: str | None = None,
    ) -> None:
        self.ignore_index = ignore_index
        super().__init__(loss=loss, metrics=metrics, objective=objective)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the metrics, besides the loss."""
        return ("perplexity", "bits_per_token", "accuracy")

    def examples(self, inputs: Nest, target: Nest) -> tuple[Nest, Nest]:
        """Return token ids and the next ones.

        Raises:
            ValueError: there are no targets, and inputs are no sequences of at least two token ids.
        """
        if target is not None:
            return inputs, target
        if not is_integer(inputs) or inputs.dim() < 2 or inputs.shape[-1] < 2:
            raise ValueError(
                f"task 'language_modeling': inputs without targets are {described(inputs)}, "
                "expected token ids of shape (n, T), T at least 2"
            )
        return inputs[..., :-1], inputs[..., 1:]

    def criterion(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        """Return the cross-entropy."""
        logits, tokens = _flat(output, target)
        ignored = self.ignore_index
        return dense_cross_entropy(logits, tokens, ignore_index=ignored, smoothing=smoothing)

    def parts(self) -> list[Part]:
        """Return what computes the columns from sums over tokens."""
        own = [] if self.own_loss is None else [self.loss_part()]
        return [Sums(self._counted, _columns), *own]

    def width(self, targets: Nest) -> int | None:
        """Return one more than the highest token."""
        return classes_in(targets, self.ignore_index)

    def check_fit(self, output: Any, target: Any, *, width: int | None, where: str) -> None:
        """Raise ValueError unless there are logits of all tokens, and a token for each position."""
        check_scores(output, 2, "(n, T, tokens)", where)
        if not is_integer(target) or target.shape != output.shape[:-1]:
            raise ValueError(
                f"{where}: the targets are {described(target)} and the model returns "
                f"{described(output)}, expected token ids of shape {tuple(output.shape[:-1])}"
            )
        ignored = self.ignore_index
        check_classes(target, output.shape[-1], width=width, where=where, ignore_index=ignored)

    def _counted(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        logits, tokens = _flat(output, target)
        counts = tokens != self.ignore_index
        right = (logits.argmax(1) == tokens) & counts
        return {**summed(logits, tokens, ignore_index=self.ignore_index), "right": right.sum()}


def _flat(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return output.flatten(0, -2), target.flatten().long()


def _columns(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    mean = sums["loss"] / sums["weight"]
    return {
        "perplexity": mean.exp(),
        "bits_per_token": mean / math.log(2),
        "accuracy": sums["right"] / sums["weight"],
        LOSS: mean,
    }
