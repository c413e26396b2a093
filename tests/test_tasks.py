"""Losses and metrics of the tasks against torch, scikit-learn, torchmetrics and by hand."""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sklearn import metrics as reference
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import classification as tm

from raynas.tasks import Task
from raynas.tasks.classification import Classification
from raynas.tasks.from_model import FromModel
from raynas.tasks.language_modeling import LanguageModeling
from raynas.tasks.multilabel import Multilabel
from raynas.tasks.outputs import main_and_auxiliary, main_output
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


def over_ranks(task: Task, output: Tensor, target: Tensor, *sizes: int) -> dict[str, float]:
    total = task.state()
    for part, targets in zip(output.split(sizes), target.split(sizes), strict=True):
        state = task.state()
        for some, few in zip(part.split(4), targets.split(4), strict=True):
            state.update(some, few)
        total.merge(pickle.loads(pickle.dumps(state)))
    return total.compute()


# classification


def test_classification_is_accuracy_and_cross_entropy_of_all_logits_to_the_bit() -> None:
    logits, classes = numbers(1000, 10), whole(10, 1000)
    right = (logits.argmax(1) == classes).double().mean()
    loss = functional.cross_entropy(logits, classes)
    assert evaluated(Classification(), logits, classes, size=17) == {
        "accuracy": float(right),
        "loss": float(loss),
    }
    smoothed = functional.cross_entropy(logits, classes, label_smoothing=0.1)
    assert torch.equal(Classification().loss(logits, classes, smoothing=0.1), smoothed)
    assert Classification().reward(logits, classes) == right


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_weighted_loss_is_torchs(dtype: torch.dtype) -> None:
    weights = [0.5, 1.0, 4.0]
    task = Classification(class_weights=weights)
    logits, classes = numbers(40, 3), whole(3, 40)
    expected = nn.CrossEntropyLoss(torch.tensor(weights), label_smoothing=0.2)(logits, classes)
    assert torch.equal(task.loss(logits, classes.to(dtype), smoothing=0.2), expected)
    at_once = functional.cross_entropy(logits, classes, torch.tensor(weights))
    assert evaluated(task, logits, classes.to(dtype))["loss"] == float(at_once)
    assert task.options() == {"class_weights": (0.5, 1.0, 4.0)}


def test_top_k_accuracy_is_scikit_learns() -> None:
    logits, classes = numbers(200, 6), whole(6, 200)
    values = evaluated(Classification(top_k=(2, 5)), logits, classes)
    assert list(values) == ["accuracy", "top2_accuracy", "top5_accuracy", "loss"]
    for k in (2, 5):
        expected = reference.top_k_accuracy_score(classes, logits, k=k)
        assert values[f"top{k}_accuracy"] == pytest.approx(expected, abs=1e-12)


def test_probabilities_are_targets_too() -> None:
    logits, soft = numbers(20, 4), numbers(20, 4, seed=5).softmax(1)
    values = evaluated(Classification(), logits, soft)
    assert values["loss"] == float(functional.cross_entropy(logits, soft))
    assert values["accuracy"] == float((logits.argmax(1) == soft.argmax(1)).double().mean())
    assert Classification().width(soft) == 4


# what models return


def test_auxiliary_outputs_join_the_training_loss() -> None:
    first, second, classes = numbers(8, 3), numbers(8, 3, seed=2), whole(3, 8)
    task = Classification()
    main = task.loss(first, classes, smoothing=0.1)
    expected = main + 0.4 * task.loss(second, classes, smoothing=0.1)
    for out in [(first, second), [first, None, second], OrderedDict(out=first, aux=second)]:
        assert torch.equal(
            task.training_loss(out, classes, smoothing=0.1, aux_weight=0.4), expected
        )
        assert torch.equal(task.output(out), first)
    assert torch.equal(
        task.training_loss((first, None), classes, smoothing=0.1, aux_weight=1), main
    )


def test_a_task_of_ones_own_gets_what_the_model_returns() -> None:
    def likelihood(output: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        mean, log_variance = output
        return (log_variance + (mean - target) ** 2 / log_variance.exp()).mean()

    task = Task(loss=likelihood)
    out, target = (numbers(6).bfloat16(), numbers(6, seed=1)), numbers(6, seed=2)
    assert [part.dtype for part in task.output(out)] == [torch.float32, torch.float32]
    trained = task.training_loss(out, target, smoothing=0.0, aux_weight=0.4)
    assert torch.equal(trained, likelihood((out[0].float(), out[1]), target))


@pytest.mark.parametrize(
    ("out", "kind"),
    [
        (None, "None"),
        ({"scores": numbers(2, 3)}, r"\{'scores': \(2, 3\) float32\}"),
        ((), r"\(\)"),
        (("logits", numbers(2, 3)), r"\(str, \(2, 3\) float32\)"),
    ],
)
def test_outputs_without_a_first_tensor_are_refused(out: Any, kind: str) -> None:
    told = f"^the model returns {kind}, expected a tensor, a tuple that begins with one or a dict"
    for reader in (main_output, main_and_auxiliary, Classification().output):
        with pytest.raises(TypeError, match=told):
            reader(out)


def test_an_auxiliary_output_of_another_shape_is_refused() -> None:
    with pytest.raises(TypeError, match=r"\(2, 3\) float32, \(2, 4\) float32\) in training mode"):
        main_and_auxiliary((numbers(2, 3), numbers(2, 4)))


# multilabel


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_multilabel_metrics_are_scikit_learns_and_torchmetrics(dtype: torch.dtype) -> None:
    logits, labels = numbers(50, 4), whole(2, 50, 4)
    logits[:, 3], labels[:, 3] = -1.0, 0  # neither there nor predicted
    values = evaluated(Multilabel(), logits, labels.to(dtype))
    predicted = (logits > 0).int()
    f1 = reference.f1_score(labels, predicted, average="macro", zero_division=0)
    assert values["f1"] == pytest.approx(f1, abs=1e-12)
    assert values["exact_match"] == reference.accuracy_score(labels, predicted)
    assert values["accuracy"] == pytest.approx(1 - reference.hamming_loss(labels, predicted))
    loss = functional.binary_cross_entropy_with_logits(logits, labels.float())
    assert values["loss"] == pytest.approx(float(loss), rel=1e-6)
    for name, metric in (
        ("f1", tm.MultilabelF1Score(4)),
        ("accuracy", tm.MultilabelAccuracy(4)),
        ("exact_match", tm.MultilabelExactMatch(4)),
    ):
        assert values[name] == pytest.approx(float(metric(logits.sigmoid(), labels)), rel=1e-6)


def test_positive_weights_are_torchs() -> None:
    logits, labels = numbers(9, 3), whole(2, 9, 3)
    for given in (2.0, [1.0, 2.0, 5.0]):
        expected = functional.binary_cross_entropy_with_logits(
            logits, labels.float(), pos_weight=torch.tensor(given)
        )
        assert torch.equal(Multilabel(pos_weight=given).loss(logits, labels), expected)


def test_metrics_of_ones_own_get_whole_labels() -> None:
    task = Multilabel(metrics={"auc": tm.MultilabelAUROC(3)}, objective="auc")
    logits, labels = numbers(30, 3), whole(2, 30, 3)
    expected = reference.roc_auc_score(labels, logits, average="macro")
    assert evaluated(task, logits, labels.float())["auc"] == pytest.approx(expected, rel=1e-6)
    assert task.objective == ("auc", "max")


# regression


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_regression_metrics_are_scikit_learns(outputs: int, shift: float) -> None:
    target = numbers(60, outputs).double() * torch.arange(1, outputs + 1) + shift
    output = target + 0.3 * numbers(60, outputs, seed=3).double()
    values = evaluated(Regression(), output, target)
    assert values["r2"] == pytest.approx(reference.r2_score(target, output), rel=1e-9)
    assert values["mse"] == pytest.approx(reference.mean_squared_error(target, output), rel=1e-9)
    assert values["mae"] == pytest.approx(reference.mean_absolute_error(target, output), rel=1e-9)
    assert values["loss"] == pytest.approx(values["mse"], rel=1e-12)
    assert over_ranks(Regression(), output, target, 21, 39) == pytest.approx(values, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ({}, functional.mse_loss),
        ({"loss": "mae"}, functional.l1_loss),
        ({"loss": "huber"}, functional.huber_loss),
        ({"loss": "huber", "delta": 0.3}, lambda o, t: functional.huber_loss(o, t, delta=0.3)),
        ({"loss": functional.smooth_l1_loss}, functional.smooth_l1_loss),
    ],
)
def test_regression_losses_are_torchs(
    options: dict[str, Any], loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    task = task_of(["regression", options])
    output, target = numbers(20, 1), numbers(20, seed=2)
    expected = loss(output.squeeze(1), target)
    for shaped in (output, output.squeeze(1)):  # none is broadcast to (20, 20)
        for aim in (target, target[:, None]):
            assert torch.equal(task.loss(shaped, aim), expected)
            value = evaluated(task, shaped, aim)["loss"]
            assert value == pytest.approx(float(expected), rel=1e-6)


def test_r2_of_equal_targets_and_of_one_example() -> None:
    equal = torch.full((10,), 0.1)
    assert evaluated(Regression(), equal, equal, size=3)["r2"] == 1.0
    assert evaluated(Regression(), equal + 1, equal, size=3)["r2"] == 0.0
    assert math.isnan(evaluated(Regression(), equal[:1], equal[:1])["r2"])
    two = torch.stack([numbers(10), torch.full((10,), 0.5)], 1).double()
    assert evaluated(Regression(), torch.zeros_like(two), two)["r2"] == pytest.approx(
        reference.r2_score(two, torch.zeros_like(two)), rel=1e-6
    )


def test_images_of_numbers_are_one_output() -> None:
    target = numbers(6, 4, 5)
    output = target[:, None] + 0.1
    values = evaluated(Regression(), output, target, size=2)
    assert values["r2"] == pytest.approx(
        reference.r2_score(target.flatten(), output.flatten()), rel=1e-6
    )
    assert Regression().width(target) is None


def test_reward_of_regression() -> None:
    target = numbers(20)
    assert Regression().reward(target, target) == 1.0
    assert Regression().reward(target.mean().expand(20), target) == pytest.approx(0.5)
    assert Regression(objective="mse:min").reward(target + 1, target) == pytest.approx(0.5)
    negative = Task(loss=lambda output, _: output.mean())
    assert negative.reward(torch.tensor([-3.0]), None) == 4.0


# segmentation


def test_segmentation_by_hand() -> None:
    target = torch.tensor([[[0, 0], [1, 255]], [[1, 1], [0, 255]]])
    predicted = torch.tensor([[[0, 1], [1, 2]], [[1, 0], [0, 1]]])
    logits = functional.one_hot(predicted, 3).permute(0, 3, 1, 2).float()
    values = evaluated(Segmentation(), logits, target, size=1)
    assert values["pixel_accuracy"] == pytest.approx(4 / 6)
    assert values["mean_iou"] == pytest.approx((2 / 4 + 2 / 4) / 2)  # class 2 is nowhere


def test_segmentation_is_torchs_and_torchmetrics() -> None:
    logits, target = numbers(9, 4, 5, 6), whole(4, 9, 5, 6)
    target[whole(3, 9, 5, 6, seed=4) == 0] = 255
    weights = [1.0, 2.0, 0.5, 3.0]
    task = Segmentation(class_weights=weights)
    values = evaluated(task, logits, target, size=2)
    loss = nn.CrossEntropyLoss(torch.tensor(weights), ignore_index=255)(logits, target)
    assert values["loss"] == pytest.approx(float(loss), rel=1e-6)
    jaccard = tm.MulticlassJaccardIndex(4, ignore_index=255)(logits, target)
    assert values["mean_iou"] == pytest.approx(float(jaccard), rel=1e-6)
    accuracy = tm.MulticlassAccuracy(4, average="micro", ignore_index=255)(logits, target)
    assert values["pixel_accuracy"] == pytest.approx(float(accuracy), rel=1e-6)
    smoothed = nn.CrossEntropyLoss(torch.tensor(weights), ignore_index=255, label_smoothing=0.1)(
        logits, target
    )
    assert task.loss(logits, target, smoothing=0.1).item() == pytest.approx(smoothed.item())
    masks = target[:, None].to(torch.uint8)  # as torchvision's transforms give them
    assert torch.equal(task.loss(logits, masks), task.loss(logits, target))
    assert task.width(masks) == 4


@pytest.mark.parametrize(
    ("task", "shape", "ignored"),
    [(Segmentation(), (2, 3, 4, 4), 255), (LanguageModeling(), (2, 4, 3), -100)],
)
def test_a_batch_of_nothing_but_ignored_classes_teaches_nothing(
    task: Task, shape: tuple[int, ...], ignored: int
) -> None:
    logits = numbers(*shape).requires_grad_()
    target = torch.full((2, 4, 4) if len(shape) == 4 else (2, 4), ignored)
    task.loss(logits, target).backward()
    assert logits.grad is not None
    assert not logits.grad.any()
    assert task.width(target) is None
    assert math.isnan(evaluated(task, logits.detach(), target)["loss"])


# language modeling


@pytest.mark.parametrize("tokens", [2, 27, 50_257])
def test_the_perplexity_of_a_uniform_model_is_the_size_of_its_vocabulary(tokens: int) -> None:
    logits, target = torch.zeros(6, 4, tokens, dtype=torch.float64), whole(tokens, 6, 4)
    values = evaluated(LanguageModeling(), logits, target, size=4)
    assert values["perplexity"] == pytest.approx(tokens, rel=1e-12)
    assert values["bits_per_token"] == pytest.approx(math.log2(tokens), rel=1e-12)


def test_language_modeling_counts_tokens_not_batches() -> None:
    logits, target = numbers(10, 6, 5), whole(5, 10, 6)
    target[3:, 2:] = -100
    values = evaluated(LanguageModeling(), logits, target, size=3)
    loss = functional.cross_entropy(logits.flatten(0, 1), target.flatten())
    assert values["loss"] == pytest.approx(float(loss), rel=1e-6)
    assert values["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    counts = target != -100
    right = (logits.argmax(-1) == target)[counts].double().mean()
    assert values["accuracy"] == pytest.approx(float(right))
    assert LanguageModeling().loss(logits, target).item() == pytest.approx(float(loss), rel=1e-6)


def test_sequences_without_targets_are_their_own() -> None:
    ids = whole(200, 3, 8).to(torch.uint8)
    ids[0, 0] = 156  # -100 as a byte
    inputs, target = LanguageModeling().examples(ids, None)
    assert torch.equal(inputs, ids[:, :-1])
    assert torch.equal(target, ids[:, 1:])
    assert LanguageModeling().width(ids) == int(ids.max()) + 1
    logits = numbers(3, 7, 256)
    same = evaluated(LanguageModeling(), logits, target)
    assert same == evaluated(LanguageModeling(), logits, target.long())
    assert LanguageModeling().examples(ids, target) == (ids, target)


def test_sequences_that_cannot_be_shifted_are_refused() -> None:
    for inputs in (numbers(3, 4), whole(9, 3, 1), {"ids": whole(9, 3, 4)}):
        with pytest.raises(ValueError, match=r"^task 'language_modeling': inputs without targets"):
            LanguageModeling().examples(inputs, None)


def test_the_token_after_a_context() -> None:
    logits, target = numbers(9, 5), whole(5, 9)
    loss = functional.cross_entropy(logits, target)
    assert evaluated(LanguageModeling(), logits, target)["loss"] == pytest.approx(float(loss))


# a loss from the model


class Model(nn.Module):
    """Classifies two numbers, and returns its loss as models of Hugging Face do."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear, self.kind = nn.Linear(2, 3), kind

    def forward(self, x: Tensor, labels: Tensor) -> Any:
        logits = self.linear(x)
        loss = functional.cross_entropy(logits, labels)
        if self.kind == "object":
            return SimpleNamespace(loss=loss, logits=logits)
        return {"loss": loss, "logits": logits} if self.kind == "dict" else (loss, logits, None)


@pytest.mark.parametrize("kind", ["object", "dict", "tuple"])
def test_a_model_returns_its_loss(kind: str) -> None:
    def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
        return (logits.argmax(1) == labels).double().mean()

    task = FromModel(metrics={"accuracy": accuracy}, objective="accuracy")
    model, x, labels = Model(kind), numbers(10, 2), whole(3, 10)
    state = task.state()
    for part, few in zip(x.split(4), labels.split(4), strict=True):
        given = task.inputs({"x": part}, few)
        assert list(given) == ["x", "labels"]
        state.update(task.output(model(**given)), few)
    logits = model.linear(x)
    expected = functional.cross_entropy(logits, labels)
    values = state.compute()
    assert values["loss"] == pytest.approx(expected.item(), rel=1e-6)  # 4, 4 and 2 rows
    assert values["accuracy"] == float(accuracy(logits, labels))
    assert (task.metrics, task.objective) == (("loss", "accuracy"), ("accuracy", "max"))
    out = model(**task.inputs({"x": x}, labels))
    loss = task.training_loss(out, labels, smoothing=0.0, aux_weight=0.4)
    assert torch.equal(loss, expected)
    assert loss.requires_grad
    task.check(task.output(out), labels, width=None, where="model")


def test_targets_of_several_names_are_added_under_them() -> None:
    task = FromModel()
    assert task.inputs({"ids": 1}, {"start": 2, "end": 3}) == {"ids": 1, "start": 2, "end": 3}
    assert task.inputs({"ids": 1, "labels": 2}, None) == {"ids": 1, "labels": 2}


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda t: t.inputs(numbers(2, 3), whole(2, 2)), r"the inputs are \(2, 3\) float32, exp"),
        (lambda t: t.inputs({"labels": 1}, whole(2, 2)), "inputs and targets both hold 'labels'"),
        (lambda t: t.output(numbers(2, 3)), r"returns \(2, 3\) float32, expected an object with"),
        (lambda t: t.output((numbers(2, 3),)), r"returns \(\(2, 3\) float32\), expected an object"),
        (lambda t: t.with_own(loss=functional.mse_loss), "takes no loss: the model returns it"),
        (lambda _: task_of(["from_model", {"loss": abs}]), "has no option 'loss'"),
    ],
)
def test_what_a_task_of_the_models_loss_refuses(act: Callable[[Task], Any], told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^task 'from_model'.*{told}"):
        act(FromModel())
