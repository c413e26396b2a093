"""Laws that every registered task keeps, and toys that break them."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import ray.cloudpickle
import torch
from torch import Tensor
from torch.nn import functional

from raynas.core.nest import leaves, mapped, taken
from raynas.tasks import TASKS, Task
from raynas.tasks.metric_state import Part, Sums
from raynas.tasks.resolve import task_of

ROWS = 12
SPLITS = [[12], [5, 7], [1, 2, 3, 6], [4, 4, 4], [11, 1]]


@dataclass(frozen=True)
class Example:
    """What a model might return, and targets; a task is tried on those that its check accepts."""

    name: str
    out: Callable[[slice], Any]  # of the rows of a slice
    targets: Any

    def batch(self, rows: slice) -> tuple[Any, Any]:
        return self.out(rows), taken(self.targets, rows)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whole(high: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def with_ignored(targets: Tensor, value: int) -> Tensor:
    return targets.where(whole(4, *targets.shape, seed=2) > 0, torch.tensor(value))


def plain(name: str, output: Tensor, targets: Any) -> Example:
    return Example(name, lambda rows: output[rows], targets)


def examples() -> list[Example]:
    logits, classes = numbers(ROWS, 5), whole(5, ROWS)

    def own_loss(rows: slice) -> dict[str, Tensor]:
        return {
            "loss": functional.cross_entropy(logits[rows], classes[rows]),
            "logits": logits[rows],
        }

    return [
        plain("classes", logits, classes),
        plain("probabilities", logits, numbers(ROWS, 5, seed=3).softmax(1)),
        plain("labels", logits, whole(2, ROWS, 5)),
        plain("one label", logits[:, :1], whole(2, ROWS)),
        plain("numbers", logits, numbers(ROWS, 5, seed=4)),
        plain("one number", logits[:, :1], numbers(ROWS, seed=4)),
        plain("pixels", numbers(ROWS, 4, 3, 2), with_ignored(whole(4, ROWS, 3, 2), 255)),
        plain("tokens", numbers(ROWS, 6, 7), with_ignored(whole(7, ROWS, 6), -100)),
        Example("model's loss", own_loss, classes),
    ]


VARIANTS: dict[str, list[dict[str, Any]]] = {
    "classification": [{}, {"top_k": (2, 3), "class_weights": [1, 2, 3, 4, 0.5]}],
    "multilabel": [{}, {"pos_weight": 3.0}],
    "regression": [{}, {"loss": "mae"}, {"loss": "huber", "delta": 0.5}],
    "segmentation": [{}, {"class_weights": [1, 2, 3, 4.0]}],
}
CASES = [(name, options) for name in sorted(TASKS) for options in VARIANTS.get(name, [{}])]
every = pytest.mark.parametrize(
    "task", [task_of(case) for case in CASES], ids=[f"{name}-{options}" for name, options in CASES]
)


def fitting(task: Task) -> list[tuple[Example, Any, Any]]:
    """Return the examples that a task takes, each with its output and targets."""
    taken_by_task = []
    for example in examples():
        out, targets = example.batch(slice(0, ROWS))
        try:
            output = task.output(out)
            task.check(output, targets, width=task.width(targets), where="example")
        except (TypeError, ValueError):
            continue
        taken_by_task.append((example, output, targets))
    assert taken_by_task, f"{task.name} takes no example"
    return taken_by_task


def measured(task: Task, example: Example, split: list[int]) -> dict[str, float]:
    state, start = task.state(), 0
    for size in split:
        out, targets = example.batch(slice(start, start + size))
        state.update(task.output(out), targets)
        start += size
    return state.compute()


def same(first: dict[str, float], second: dict[str, float]) -> bool:
    return list(first) == list(second) and all(
        math.isclose(first[name], second[name], rel_tol=1e-12, abs_tol=1e-14) for name in first
    )


def law_of_batches(task: Task) -> None:
    """The metrics of a split do not depend on its batches."""
    for example, _, _ in fitting(task):
        at_once = measured(task, example, [ROWS])
        assert all(math.isfinite(value) for value in at_once.values())
        for split in SPLITS:
            assert same(measured(task, example, split), at_once), (example.name, split)


def law_of_ranks(task: Task) -> None:
    """States of two ranks, sent and merged into a third, are that of one; so if one had nothing."""
    for example, _, _ in fitting(task):
        for shares in [[(0, 4), (4, 5), (5, 12)], [(0, 12), (12, 12)], [(0, 0), (0, 12)]]:
            total = task.state()
            for start, stop in shares:
                state = task.state()
                if start < stop:
                    out, targets = example.batch(slice(start, stop))
                    state.update(task.output(out), targets)
                total.merge(pickle.loads(pickle.dumps(state)))
            assert total.rows == ROWS
            assert same(total.compute(), measured(task, example, [ROWS]))


def law_of_loss(task: Task) -> None:
    """The loss is a scalar with a gradient, and that of training is no other."""
    for example, output, targets in fitting(task):
        loss = task.loss(mapped(grown, output), targets)
        assert loss.shape == ()
        assert loss.isfinite()
        moving = mapped(grown, output)
        task.loss(moving, targets).backward()
        grads = [leaf.grad for leaf in leaves(moving) if leaf.grad is not None]
        assert grads
        assert all(grad.isfinite().all() and grad.abs().sum() > 0 for grad in grads)
        out, _ = example.batch(slice(0, ROWS))
        trained = task.training_loss(out, targets, smoothing=0.0, aux_weight=0.4)
        assert torch.equal(trained, loss)
        evaluated = measured(task, example, [ROWS])["loss"]
        assert math.isclose(evaluated, float(loss.detach()), rel_tol=1e-12)


def law_of_names(task: Task) -> None:
    """Columns are what is measured, the objective is one, and plain options make the task again."""
    for example, _, _ in fitting(task):
        assert tuple(measured(task, example, [ROWS])) == task.metrics
    metric, goal = task.objective
    assert metric in task.metrics
    assert "loss" in task.metrics
    assert goal == ("min" if metric in task.lower_is_better else "max")
    assert TASKS.name_of(task.name) == task.name
    options = json.loads(json.dumps(task.options()))
    again = task_of((task.name, options))
    assert (type(again), again.metrics, again.options()) == (
        type(task),
        task.metrics,
        task.options(),
    )
    for example, _, _ in fitting(task):
        assert measured(again, example, [ROWS]) == measured(task, example, [ROWS])


def law_of_pickles(task: Task) -> None:
    """A task that was sent measures what it did."""
    sent = pickle.loads(ray.cloudpickle.dumps(task))
    for example, output, targets in fitting(task):
        assert torch.equal(sent.loss(output, targets), task.loss(output, targets))
        assert measured(sent, example, [5, 7]) == measured(task, example, [5, 7])


def law_of_nan(task: Task) -> None:
    """An output that is no number gives a loss that is none, trained or evaluated, and is told."""
    for _, output, targets in fitting(task):
        bad = mapped(spoilt, output)
        assert task.loss(bad, targets).isnan()
        state = task.state()
        state.update(bad, targets)
        assert math.isnan(state.compute()["loss"])
        with pytest.raises(
            ValueError, match=r"^valid: the loss is nan: the model's output holds nan"
        ):
            task.check(bad, targets, width=None, where="valid")


def law_of_reward(task: Task) -> None:
    """A reward is a positive number of shape ()."""
    for _, output, targets in fitting(task):
        reward = task.reward(output, targets)
        assert reward.shape == ()
        assert reward > 0


def grown(leaf: Tensor) -> Tensor:
    return leaf.detach().clone().requires_grad_()


def spoilt(leaf: Tensor) -> Tensor:
    return torch.full_like(leaf, math.nan)


LAWS = [
    law_of_batches,
    law_of_ranks,
    law_of_loss,
    law_of_names,
    law_of_pickles,
    law_of_nan,
    law_of_reward,
]


@every
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_every_task_keeps(task: Task, law: Callable[[Task], None]) -> None:
    law(task)


@every
def test_no_example_is_no_number(task: Task) -> None:
    with pytest.raises(ValueError, match=r"^metrics need at least one example, got none$"):
        task.state().compute()


@every
def test_an_output_is_in_float32_at_least(task: Task) -> None:
    for example, output, _ in fitting(task):
        halved = mapped(lambda leaf: leaf.bfloat16(), example.out(slice(0, ROWS)))
        for half, full in zip(leaves(task.output(halved)), leaves(output), strict=True):
            assert half.dtype == torch.float32
            assert full.dtype == torch.float64


@every
def test_a_task_that_does_not_smooth_refuses_smoothing(task: Task) -> None:
    for _, output, targets in fitting(task):
        if task.smooths:
            assert task.loss(output, targets, smoothing=0.1) != task.loss(output, targets)
        else:
            with pytest.raises(ValueError, match=r"^label_smoothing is 0\.1, and the loss of task"):
                task.loss(output, targets, smoothing=0.1)


@every
def test_an_objective_of_ones_own_changes_nothing_else(task: Task) -> None:
    other = task.with_own(objective="loss:min")
    assert (other.objective, other.metrics) == (("loss", "min"), task.metrics)
    assert other.options() == task.options()


@every
def test_further_metrics_stand_behind_the_tasks_own(task: Task) -> None:
    other = task.with_own(metrics={"rows": lambda outputs, _: len(outputs)}, objective="rows:max")
    assert other.metrics == (*task.metrics, "rows")
    assert task.metrics == tuple(name for name in other.metrics if name != "rows")
    for example, _, _ in fitting(task):
        assert measured(other, example, [5, 7]) == {**measured(task, example, [5, 7]), "rows": ROWS}


class MeanOfBatches(Task):
    """A toy: averages batches as if they were of one size."""

    name = "classification"

    def criterion(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        return functional.cross_entropy(output, target)

    def parts(self) -> list[Part]:
        return [
            Sums(
                lambda o, t: {"loss": self.loss(o, t).double(), "batches": torch.tensor(1)},
                lambda sums: {"loss": sums["loss"] / sums["batches"]},
            )
        ]


class Forgetful(MeanOfBatches):
    """A toy: a state keeps nothing but its last batch."""

    def parts(self) -> list[Part]:
        return [
            Sums(
                lambda o, t: {"loss": self.loss(o, t).double()},
                lambda sums: {"loss": sums["loss"]},
                combine=lambda *both: both[1],
            )
        ]


class Flat(MeanOfBatches):
    """A toy: its loss has no gradient."""

    def criterion(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        return (output.argmax(1) == target).double().mean() + 0 * output.sum()


class Optimist(MeanOfBatches):
    """A toy: takes what is no number for nothing."""

    def criterion(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        return super().criterion(output, target, smoothing).nan_to_num(0.0)


class Misnamed(MeanOfBatches):
    """A toy: is registered under another name, and measures what it does not say."""

    name = "regression"


@pytest.mark.parametrize(
    ("toy", "law"),
    [
        (MeanOfBatches, law_of_batches),
        (Forgetful, law_of_ranks),
        (Flat, law_of_loss),
        (Optimist, law_of_nan),
        (Misnamed, law_of_names),
    ],
)
def test_a_toy_breaks_the_law(toy: type[Task], law: Callable[[Task], None]) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        law(toy())
