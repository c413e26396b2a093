"""How tasks are given, and what is refused before anything is trained."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import classification as tm

from raynas.core.errors import UnknownName
from raynas.tasks import TASKS, Task
from raynas.tasks.classification import Classification
from raynas.tasks.from_model import FromModel
from raynas.tasks.language_modeling import LanguageModeling
from raynas.tasks.multilabel import Multilabel
from raynas.tasks.regression import Regression
from raynas.tasks.resolve import task_of
from raynas.tasks.segmentation import Segmentation


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def whole(high: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def evaluated(task: Task, output: Any, target: Any, size: int = 7) -> dict[str, float]:
    state = task.state()
    for part, targets in zip(output.split(size), target.split(size), strict=True):
        state.update(part, targets)
    return state.compute()


@pytest.mark.parametrize(
    "given",
    [
        "classification",
        "Classification",
        None,
        {"type": "classification"},
        {"type": "classification", "args": {}},
        ["classification", {}],
        Classification(),
    ],
)
def test_forms_of_a_task(given: object) -> None:
    task = task_of(given)
    assert isinstance(task, Classification)
    assert (task.name, task.options(), task.objective) == (
        "classification",
        {},
        ("accuracy", "max"),
    )


def test_options_are_plain_and_make_the_task_again() -> None:
    for given in [
        ["classification", {"top_k": [3], "class_weights": [1, 2]}],
        ["multilabel", {"pos_weight": 2}],
        ["regression", {"loss": "huber", "delta": 2.0}],
        ["segmentation", {"ignore_index": 0}],
    ]:
        options = json.loads(json.dumps(task_of(given).options()))
        assert options == given[1]
    assert task_of("regression", loss="mae").options() == {"loss": "mae"}
    own = task_of("regression", loss=functional.l1_loss, metrics={"m": max}, objective="m:min")
    assert own.options() == {}
    assert (own.own_loss, own.own_metrics, own.own_objective) == (
        functional.l1_loss,
        {"m": max},
        "m:min",
    )


def test_what_is_given_beside_a_task_is_added_to_it() -> None:
    task = Classification(top_k=(2,), metrics={"a": max})
    more = task_of(task, metrics={"b": min}, objective="b")
    assert more.metrics == ("accuracy", "top2_accuracy", "loss", "a", "b")
    assert (more.objective, task.objective) == (("b", "max"), ("accuracy", "max"))
    assert task_of(task) is task
    assert isinstance(task_of(None, loss=functional.mse_loss), Task)
    assert task_of(None, metrics={"a": max}).metrics == ("accuracy", "loss", "a")


def test_tasks_may_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = type(TASKS)("task", "raynas.tasks", group="raynas.tasks", base=Task)
    monkeypatch.setattr("raynas.tasks.resolve.TASKS", registry)

    @registry.register("quantile")
    def quantile(*, level: float = 0.5) -> Task:
        return Task(loss=lambda o, t: torch.maximum(level * (t - o), (level - 1) * (t - o)).mean())

    @registry.register("log_cosh")
    class LogCosh(Task):
        def criterion(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
            return (output - target).cosh().log().mean()

    task = task_of(["quantile", {"level": 0.9}])
    assert (task.name, task.options()) == ("quantile", {"level": 0.9})
    assert task.loss(torch.zeros(2), torch.ones(2)).item() == pytest.approx(0.9)
    other = task_of("log_cosh", metrics={"rows": lambda outputs, _: len(outputs)})
    assert (other.name, other.metrics) == ("log_cosh", ("loss", "rows"))
    assert evaluated(other, torch.zeros(9), torch.ones(9))["loss"] == pytest.approx(
        math.log(math.cosh(1)), rel=1e-6
    )


# refusals


def make(maker: Callable[..., Task], *args: Any, **options: Any) -> Task:
    """Make a task of what types forbid."""
    return maker(*args, **options)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: Task(), "^a task of one's own needs a loss: raynas.Task"),
        (
            lambda: make(Task, loss="mae"),
            "must be a function of .*, got 'mae'; task='regression' has",
        ),
        (lambda: make(Task, loss=3), r"^loss must be a function of \(output, target\), got 3$"),
        (lambda: Task(loss=nn.MSELoss), r"^loss is the class MSELoss, expected an object: MSELoss"),
        (lambda: Task(loss=nn.Linear(1, 1)), "^loss Linear has parameters, which would not be"),
        (lambda: Classification(metrics={"loss": max}), "^metric 'loss' is the task's loss"),
        (lambda: Classification(metrics={"macs": max}), "^metric 'macs' is a cost that raynas"),
        (lambda: Classification(metrics={"latency_ms": max}), "'latency_ms' is a cost that raynas"),
        (lambda: Classification(metrics={"number": max}), "named like a column of the trial table"),
        (lambda: Classification(metrics={"choice.a": max}), "named like a column of the trial tab"),
        (lambda: Classification(metrics={"a:b": max}), "^metric 'a:b': a name holds no ':'"),
        (lambda: Classification(metrics={"": max}), "^a metric's name must be a non-empty string"),
        (
            lambda: make(Classification, metrics={3: max}),
            "^a metric's name must be a non-empty string",
        ),
        (lambda: Classification(metrics={"f1": "f1"}), "^metric 'f1' must be a function of .*'f1'"),
        (
            lambda: make(Classification, metrics=["f1"]),
            r"^metrics must be a dict from name .* \['f1'\]",
        ),
        (lambda: Classification(metrics={"f1": tm.MulticlassF1Score}), "is the class MulticlassF1"),
        (
            lambda: Classification(metrics={"a": torchmetrics.MetricCollection([])}),
            "^metric 'a' is a MetricCollection: give it as metrics= itself$",
        ),
        (lambda: task_of("classification", objective="acuracy"), "did you mean 'accuracy'"),
        (lambda: task_of("classification", objective=""), "objective '': no metric ''; known: acc"),
        (lambda: task_of("classification", objective="accuracy:top"), "'max' or 'min' .* 'top'"),
        (
            lambda: make(task_of, "classification", objective=3),
            "must be text such as 'loss:min', got 3",
        ),
        (lambda: Classification(class_weights=[1, -1]), "must be finite, at least 0 and not all 0"),
        (lambda: Classification(class_weights=[0, 0]), "must be finite, at least 0 and not all 0"),
        (lambda: Classification(top_k=(0,)), "top_k must be at least 1"),
        (lambda: Multilabel(pos_weight=0), "pos_weight must be above 0 and finite, got 0"),
        (lambda: Regression(loss="hubber"), "no loss 'hubber'; did you mean 'huber'"),
        (lambda: Regression(delta=1.0), "delta is an option of loss='huber' alone"),
        (lambda: Regression(loss="huber", delta=0.0), "delta must be above 0 and finite, got 0"),
        (lambda: task_of(["classification", {"topk": (5,)}]), "'topk'; did you mean 'top_k'"),
        (lambda: task_of(["classification", {"top_k": "a"}]), "option 'top_k'"),
        (lambda: task_of(3), "expected a name"),
        (lambda: task_of(Classification), "expected a name"),
    ],
)
def test_what_no_task_is_made_of(act: Callable[[], Any], told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=told) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_the_nearest_task_is_named() -> None:
    with pytest.raises(UnknownName, match="no task named 'clasification'; did you mean 'class"):
        task_of("clasification")
    for name in ("own_metrics", "resolve"):  # files of the folder that hold none
        with pytest.raises(UnknownName):
            task_of(name)


def test_a_slip_in_a_subclass_is_told() -> None:
    with pytest.raises(TypeError, match="did you mean 'keeps_outputs'"):
        type("Slip", (Task,), {"keep_outputs": False})


LOGITS, CLASSES = numbers(4, 3), torch.tensor([0, 1, 2, 0])
PIXELS, MASKS = numbers(2, 3, 4, 4), whole(3, 2, 4, 4)
TOKENS, IDS = numbers(2, 4, 5), whole(5, 2, 4)


@pytest.mark.parametrize(
    ("task", "output", "target", "told"),
    [
        (Classification(), LOGITS, CLASSES + 1, r"the label 3 is out of range: .* 3 outputs, for"),
        (Classification(), LOGITS, CLASSES - 1, "the label -1 is out of range: the model gives 3"),
        (Classification(), LOGITS, CLASSES[:, None], r"targets are \(4, 1\) int64, expected class"),
        (Classification(), LOGITS, CLASSES.float(), r"targets are \(4,\) float32, expected class"),
        (Classification(), LOGITS, LOGITS, r"probabilities of shape \(4, 3\) that sum to 1$"),
        (Classification(), LOGITS, None, "the targets are None, expected class indices"),
        (Classification(), LOGITS[:, 0], CLASSES, r"\(4,\) float32, expected logits of shape \(n,"),
        (Classification(), PIXELS, MASKS, "task='segmentation' has classes of pixels$"),
        (Classification(), CLASSES[:, None], CLASSES, r"\(4, 1\) int64, expected logits"),
        (Classification(top_k=(5,)), LOGITS, CLASSES, r"top_k is \(5,\), and the model gives 3 ou"),
        (Classification(class_weights=[1, 2]), LOGITS, CLASSES, "class_weights holds 2 numbers, "),
        (Multilabel(), LOGITS, CLASSES, "one class for each example is task='classification'$"),
        (Multilabel(), LOGITS, whole(2, 4, 3) * 2, "a label is 2, expected 0 or 1$"),
        (Multilabel(), LOGITS, None, r"the targets are None and the model returns \(4, 3\)"),
        (
            Multilabel(),
            PIXELS,
            PIXELS.sign().relu(),
            r"expected logits and targets of shape \(n, l",
        ),
        (Multilabel(pos_weight=[1]), LOGITS, whole(2, 4, 3), "pos_weight holds 1 numbers, and"),
        (Regression(), LOGITS, CLASSES, r"targets are \(4,\) int64 and the model returns \(4, 3\)"),
        (Regression(), CLASSES, CLASSES, r"the model returns \(4,\) int64, expected floats$"),
        (Segmentation(), PIXELS, MASKS[:, :2], r"expected class indices of shape \(2, 4, 4\)$"),
        (Segmentation(), PIXELS, MASKS.float(), r"targets are \(2, 4, 4\) float32 and the model"),
        (Segmentation(), PIXELS, MASKS + 1, r"to 2 \(or 255, which is ignored\)$"),
        (Segmentation(), LOGITS, CLASSES, r"expected logits of shape \(n, classes, H, W\)$"),
        (LanguageModeling(), TOKENS, IDS[:, 1:], r"expected token ids of shape \(2, 4\)$"),
        (LanguageModeling(), TOKENS, IDS + 1, "the label 5 is out of range: the model gives 5 out"),
        (FromModel(metrics={"a": max}), (LOGITS.sum(), None), CLASSES, "no logits, from which 'a'"),
        (Regression(), LOGITS, LOGITS / 0, "the loss is inf: the targets hold nan or infinity$"),
        (Regression(), LOGITS * math.nan, LOGITS, "the loss is nan: the model's output holds nan"),
        (Task(loss=torch.sub), LOGITS, LOGITS, r"the loss gives \(4, 3\) float32, expected a ten"),
        (Task(loss=lambda *_: 3.0), LOGITS, LOGITS, r"the loss gives float, expected a tensor"),
        (Task(loss=lambda o, _: o.detach().mean()), LOGITS, LOGITS, "the loss has no gradient for"),
        (Task(loss=torch.mm), LOGITS, LOGITS, r"the loss fails: RuntimeError: .* \(outputs \(4, 3"),
        (Task(loss=lambda o: o.mean()), LOGITS, None, "the loss fails: TypeError: .* targets None"),
    ],
)
def test_what_does_not_fit(task: Task, output: Any, target: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"^the valid split: .*{told}") as caught:
        task.check(output, target, width=None, where="the valid split")
    assert "\n" not in str(caught.value)


def test_classes_of_all_data_count_not_those_of_a_batch() -> None:
    Classification().check(LOGITS, CLASSES, width=3, where="net")
    with pytest.raises(ValueError, match=r"^net: the label 9 is out of range: the model gives 3"):
        Classification().check(LOGITS, CLASSES, width=10, where="net")


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        (tm.MulticlassF1Score(3, average=None), r"gives \(3,\) float32, expected one number$"),
        (tm.MulticlassF1Score(2), "fails: "),
        (lambda outputs, _: outputs.sum(0), r"gives \(3,\) float32, expected one number$"),
        (lambda *_: "high", "gives str, expected one number$"),
        (lambda outputs, _: outputs.nothing, "fails: AttributeError: 'Tensor' object has no"),
        (lambda _: 0.0, "fails: TypeError: "),
    ],
)
def test_metrics_are_tried_before_training(metric: Any, told: str) -> None:
    task = Classification(metrics={"own": metric})
    with pytest.raises(ValueError, match=f"^net: metric 'own' {told}"):
        task.check(LOGITS, CLASSES, width=None, where="net")


def test_what_is_undefined_for_a_few_examples_may_pass() -> None:
    def strict(_: Tensor, targets: Tensor) -> float:
        if len(targets.unique()) < 2:
            raise ValueError("only one class")
        return 1.0

    task = Classification(metrics={"strict": strict})
    task.check(LOGITS[:2], CLASSES[[0, 0]], width=None, where="net")
    with pytest.raises(ValueError, match=r"^metric 'strict' fails: ValueError: only one class$"):
        evaluated(task, LOGITS[:2], CLASSES[[0, 0]])


def test_outputs_made_in_inference_mode_can_be_checked() -> None:
    with torch.inference_mode():
        Classification().check(LOGITS.clone(), CLASSES.clone(), width=None, where="net")
