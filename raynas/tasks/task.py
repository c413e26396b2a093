"""What a model is trained for: a loss, metrics, and what a search optimises."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from raynas.core.capabilities import refuse_misspelt
from raynas.core.nest import Nest, described
from raynas.core.options import options_of
from raynas.core.registry import Registry
from raynas.tasks.metric_state import MetricState, Part, Sums, Whole, device_of, row_count
from raynas.tasks.objective import Objective, parsed_objective
from raynas.tasks.outputs import in_float32, main_and_auxiliary, main_output
from raynas.tasks.own_loss import check_loss_function, on_device_of, scalar
from raynas.tasks.own_metrics import LOSS, own_metrics, parts_of
from raynas.tasks.trial_run import check_loss, check_metrics

APART = ("loss", "metrics", "objective")  # options that are objects of a user's own


class Task:
    """A task of one's own: a loss, metrics and an objective; and the base of all others.

    >>> import torch
    >>> task = Task(
    ...     loss=torch.nn.functional.l1_loss,
    ...     metrics={"bias": lambda outputs, targets: (outputs - targets).mean()},
    ...     objective="loss:min",
    ... )
    >>> state = task.state()
    >>> state.update(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
    >>> state.update(torch.tensor([-3.0]), torch.tensor([0.0]))
    >>> state.compute()
    {'loss': 2.0, 'bias': 0.0}

    A subclass is another task: it defines ``criterion``, and maybe ``columns`` and ``parts``.

    Args:
        loss: a differentiable function of (output, target) that returns a scalar tensor, in place
            of the task's own. It gets what the model returns, in float32 at least, in plain tuples
            and dicts whatever classes of these the model uses.
        metrics: further columns by name, each a function of (outputs, targets), called once with
            all of a split, on the CPU, or an object of torchmetrics, updated by batches.
        objective: what a search optimises, such as ``"f1:max"``.

    Attributes:
        name: what the configuration calls the task.
        smooths: whether the loss takes label smoothing.
        computes_loss_in_model: whether the model is called with the targets, and returns a loss.
        single_output: whether the output is one tensor; others in a tuple or list, or in a dict
            under ``aux``, are then auxiliary. Else what the model returns is the output.
        class_dim: dimension of an output along which logits of exclusive classes lie; None if it
            has no such.
        keeps_outputs: whether a loss of one's own is evaluated once over all outputs of a split;
            else losses of batches are averaged, weighted by their rows. Metrics that are functions
            need all outputs in either case.
        lower_is_better: columns to be minimised.
        default_objective: in place of the option.
        metrics: names of the columns, in order; ``loss`` is always among them.
        objective: a column, and ``max`` or ``min``.
        own_loss: a loss in place of the task's own, or None.
        own_metrics: by column.
        own_objective: as given, or None.

    Raises:
        ValueError: no loss, or a column or objective that cannot be named so.
        TypeError: a loss or metric of another kind.
    """

    name: str = "own"
    smooths: bool = False
    computes_loss_in_model: ClassVar[bool] = False
    single_output: ClassVar[bool] = False
    keeps_outputs: ClassVar[bool] = True
    class_dim: ClassVar[int | None] = None
    lower_is_better: ClassVar[tuple[str, ...]] = (LOSS,)
    default_objective: ClassVar[str] = "loss:min"

    metrics: tuple[str, ...]
    objective: Objective
    own_loss: Callable[..., Any] | None
    own_metrics: dict[str, Callable[..., Any]]
    own_objective: str | None

    def __init__(
        self,
        *,
        loss: Callable[..., Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        objective: str | None = None,
    ) -> None:
        self._recorded: dict[str, Any] | None = None
        self._take(loss, own_metrics(metrics), objective)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        refuse_misspelt(cls.__name__, vars(cls), Task)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the metrics that the task measures by itself, besides its loss."""
        return ()

    def criterion(self, output: Any, target: Any, smoothing: float) -> Tensor:
        """Return the task's own loss, a scalar.

        Args:
            output: what ``output`` returns.
            target: of as many rows.
            smoothing: of the labels; 0 where the task does not smooth.
        """
        raise TypeError(
            f"{type(self).__name__} must define criterion(output, target, smoothing), or be given "
            "a loss"
        )

    def parts(self) -> list[Part]:
        """Return what computes the task's columns and its loss, afresh for one split."""
        return [self.loss_part()]

    def check_fit(self, output: Any, target: Any, *, width: int | None, where: str) -> None:
        """Raise ValueError where an output does not fit a target.

        Here nothing is known of them but that numbers of different shapes, such as (n, 1) and (n,),
        would be stretched over each other without a word.

        Args:
            output: of a batch.
            target: of it.
            width: how many outputs the targets of all data need; None if that is not known.
            where: that the batch comes from.
        """
        tensors = [t for t in (output, target) if isinstance(t, Tensor) and t.is_floating_point()]
        if len(tensors) == 2 and tensors[0].shape != tensors[1].shape:
            raise ValueError(
                f"{where}: outputs have shape {tuple(tensors[0].shape)} and targets "
                f"{tuple(tensors[1].shape)}: make them one shape, in the model or the loss' data; "
                "task='regression', loss=... does"
            )

    def width(self, targets: Nest) -> int | None:
        """Return how many outputs targets need; None if that is not known, as here."""
        return None

    def examples(self, inputs: Nest, target: Nest) -> tuple[Nest, Nest]:
        """Return a batch of the data as the task takes it, here unchanged."""
        return inputs, target

    def inputs(self, inputs: Nest, target: Nest) -> Nest:
        """Return what the model is called with, here the inputs alone."""
        return inputs

    def output(self, out: object) -> Any:
        """Return what loss and metrics take of what a model returns, in float32 at least.

        Raises:
            TypeError: the output is to be one tensor, and there is none.
        """
        return in_float32(main_output(out) if self.single_output else out)

    def distilled(self, output: Any) -> Tensor:
        """Return what of an output is drawn to a teacher's, here all.

        Raises:
            TypeError: it is no lone tensor.
        """
        if not isinstance(output, Tensor):
            raise TypeError(
                f"task {self.name!r}: a teacher's outputs are learned where they are one tensor, "
                f"and the model returns {described(output)}: leave the teacher out (distill=0)"
            )
        return output

    def measured(self, output: Any, target: Any) -> tuple[Any, Any]:
        """Return what metrics of one's own take of an output and a target, here all."""
        return output, target

    def loss(self, output: Any, target: Any, *, smoothing: float = 0.0) -> Tensor:
        """Return the loss, a differentiable scalar.

        Args:
            output: what ``output`` returns.
            target: of as many rows.
            smoothing: of the labels.

        Raises:
            ValueError: the loss gives no scalar, or the task does not smooth and is to.
        """
        if smoothing and not self.smooths:
            raise ValueError(
                f"label_smoothing is {smoothing}, and the loss of task {self.name!r} has none"
            )
        if self.own_loss is None:
            return self.criterion(output, target, smoothing)
        return scalar(on_device_of(output, self.own_loss)(output, target))

    def reward(self, output: Any, target: Any) -> Tensor:
        """Return what an output is worth to a search that learns by rewards, shape ().

        It is the objective if that is to be maximised, else 1 / (1 + objective), continued by
        1 - objective below 0; nan where a batch leaves the objective undefined.

        Args:
            output: what ``output`` returns.
            target: of as many rows.
        """
        state = self.state()
        state.update(output, target)
        metric, goal = self.objective
        value = state.compute()[metric]
        if goal == "min":
            value = 1 / (1 + value) if value >= 0 else 1 - value
        return torch.tensor(value, dtype=torch.float64, device=device_of(output))

    def training_loss(
        self, out: object, target: Any, *, smoothing: float, aux_weight: float
    ) -> Tensor:
        """Return the loss of what a model returns in training mode.

        Args:
            out: an output, and auxiliary outputs if the task's output is one tensor.
            target: of as many rows.
            smoothing: of the labels.
            aux_weight: of the loss of each auxiliary output.
        """
        parts = main_and_auxiliary(out) if self.single_output else (out,)
        first, *others = (in_float32(part) for part in parts)
        loss = self.loss(first, target, smoothing=smoothing)
        for part in others:
            loss = loss + aux_weight * self.loss(part, target, smoothing=smoothing)
        return loss

    def state(self) -> MetricState:
        """Return what accumulates the metrics of one split."""
        own = parts_of(self.own_metrics, self.measured)
        return MetricState(self.metrics, [*self.parts(), *own], self.measured)

    def loss_part(self) -> Part:
        """Return what evaluates the loss: over a whole split, or as a mean over rows."""
        if self.keeps_outputs:
            return Whole(self._loss_column)
        return Sums(self._weighted_loss, _mean_loss)

    def check(self, output: Any, target: Any, *, width: int | None, where: str) -> None:
        """Try loss and metrics on a batch.

        Args:
            output: what ``output`` returns for the batch.
            target: of it.
            width: how many outputs the targets of all data need; None if that is not known.
            where: that the batch comes from.

        Raises:
            ValueError: output and target do not fit, or the loss or a metric fails.
        """
        self.check_fit(output, target, width=width, where=where)
        check_loss(self.loss, output, target, where)
        check_metrics(self.state(), output, target, where)

    def options(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, as plain data.

        Loss, metrics and objective of one's own are apart: ``own_loss``, ``own_metrics`` and
        ``own_objective``.
        """
        if self._recorded is not None:
            return dict(self._recorded)
        declared = options_of(type(self), without=APART)
        given = {name: getattr(self, name) for name in declared if hasattr(self, name)}
        return {name: value for name, value in given.items() if value != declared[name].default}

    def named(self, name: str, options: Mapping[str, Any] | None = None) -> Self:
        """Return the task under the name it is registered by.

        Args:
            name: what the configuration calls it.
            options: that a function made it with; None leaves them to its attributes.
        """
        self.name, self._recorded = name, None if options is None else dict(options)
        return self

    def with_own(
        self,
        *,
        loss: Any = None,
        metrics: Any = None,
        objective: str | None = None,
    ) -> Self:
        """Return the task with a loss or objective in place of its own, and further metrics."""
        other = copy.copy(self)
        other._take(
            self.own_loss if loss is None else loss,
            self.own_metrics | own_metrics(metrics),
            self.own_objective if objective is None else objective,
        )
        return other

    def _take(
        self, loss: Any, metrics: dict[str, Callable[..., Any]], objective: str | None
    ) -> None:
        if loss is None and type(self).criterion is Task.criterion:
            raise ValueError(
                "a task of one's own needs a loss: raynas.Task(loss=function of (output, target))"
            )
        check_loss_function(loss)
        self.own_loss, self.own_metrics, self.own_objective = loss, metrics, objective
        self.smooths = type(self).smooths and loss is None
        self.metrics = tuple(dict.fromkeys((*self.columns, LOSS, *metrics)))
        self.objective = parsed_objective(
            self.default_objective if objective is None else objective,
            self.metrics,
            self.lower_is_better,
            metrics,
        )

    def _loss_column(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        return {LOSS: self.loss(outputs, targets)}

    def _weighted_loss(self, output: Any, target: Any) -> dict[str, Tensor]:
        loss = self.loss(output, target).double()
        rows = row_count(output, target)
        return {"loss": loss * rows, "rows": loss.new_tensor(rows)}


def _mean_loss(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    return {LOSS: sums["loss"] / sums["rows"]}


TASKS: Registry[Callable[..., Task]] = Registry(
    "task", "raynas.tasks", group="raynas.tasks", base=Task
)
