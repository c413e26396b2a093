"""How weights are trained: optimizer, course of the learning rate, loss, as options of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from raynas.core.config import validated
from raynas.core.errors import nearest
from raynas.core.train_settings import TrainSettings
from raynas.setup.vega.names import is_name, looked_up
from raynas.setup.vega.schema import Spec, Trainer

OPTIMIZERS = {"SGD": "sgd", "Adam": "adamw", "AdamW": "adamw", "RMSprop": "rmsprop"}
PARAMETERS = ("lr", "momentum", "weight_decay", "nesterov")
TORCH_SGD = {"lr": 0.001, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False}  # its defaults
LOSSES = {
    "CrossEntropyLoss": 0.0,
    "CrossEntropySoftTargetLoss": 0.0,
    "CrossEntropyLabelSmoothLoss": 0.1,
    "CrossEntropyLabelSmooth": 0.1,
}
SMOOTHINGS = ("smoothing", "eps", "epsilon")
COURSES = {
    "CosineAnnealingLR": "cosine",
    "StepLR": "step",
    "LinearLR": "linear",
    "ConstantLR": "constant",
}


@dataclass
class Recipe:
    """Options of a training, and what is to be said of them."""

    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def recipe_of(trainer: Trainer, where: str, *, own_course: bool) -> Recipe:
    """Return what a trainer's settings are here.

    Args:
        trainer: of the file.
        where: it stands, by key path.
        own_course: whether the algorithm has a course of the learning rate that is to stand.

    Raises:
        LookupError, ValueError: an optimizer, a course, a loss or a parameter is not known.
    """
    recipe = Recipe()
    if trainer.optimizer is not None:
        _optimizer(trainer.optimizer, f"{where}.optimizer", recipe)
    clip = trainer.grad_clip if trainer.w_grad_clip is None else trainer.w_grad_clip
    recipe.options["clip"] = clip or None  # 0 is off there
    loss = trainer.loss or trainer.criterion
    recipe.options["label_smoothing"] = 0.0 if loss is None else _smoothing(loss, f"{where}.loss")
    if trainer.lr_scheduler is not None:
        _course(trainer, f"{where}.lr_scheduler", recipe, own_course=own_course)
    try:
        validated(TrainSettings, recipe.options)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return recipe


def check_args(given: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raise ValueError for an argument that is not known; the nearest is named."""
    known = list(known)
    for key in given:
        if key not in known:
            raise ValueError(f"no setting is named '{where}.{key}'; {nearest(str(key), known)}")


def _optimizer(spec: Spec, where: str, recipe: Recipe) -> None:
    kind = looked_up(OPTIMIZERS, spec.type, "optimizer", f"{where}.type")
    given = dict(spec.args)
    if is_name(spec.type, "Adam") and given.get("weight_decay"):
        recipe.notes.append(
            f"differs: {where}: AdamW's weight decay, which Adam's is not, acts here"
        )
    if kind == "adamw" and given.pop("betas", None):
        recipe.notes.append(f"ignored: {where}.params.betas: those of the optimizer stand")
    check_args(given, PARAMETERS, f"{where}.params")
    whole = {**TORCH_SGD, **given} if kind == "sgd" else {"optimizer": kind, **given}
    recipe.options |= whole


def _smoothing(loss: Spec, where: str) -> float:
    value = looked_up(LOSSES, loss.type, "loss", f"{where}.type")
    check_args(loss.args, SMOOTHINGS if value else (), f"{where}.args")
    given = next(iter(loss.args.values()), value)
    if not isinstance(given, int | float):
        raise ValueError(f"{where}.args: expected a number, got {given!r}")
    return float(given)


def _course(trainer: Trainer, where: str, recipe: Recipe, *, own_course: bool) -> None:
    spec = trainer.lr_scheduler
    assert spec is not None
    course = looked_up(COURSES, spec.type, "lr_scheduler", f"{where}.type")
    if own_course:
        recipe.notes.append(
            f"differs: {where}: the algorithm's own cosine stands, over its epochs, where there it "
            f"is {spec.type} {spec.args}"
        )
        return
    recipe.options["schedule"] = course
    if course == "cosine":
        check_args(spec.args, ("T_max", "eta_min", "by_epoch"), f"{where}.params")
        if spec.args.get("T_max", trainer.epochs) != trainer.epochs or spec.args.get("eta_min"):
            recipe.notes.append(
                f"differs: {where}: the cosine here ends with the epochs of its step, at 0 (there "
                f"T_max {spec.args.get('T_max')}, eta_min {spec.args.get('eta_min', 0)})"
            )
    elif course == "step":
        check_args(spec.args, ("step_size", "gamma", "by_epoch"), f"{where}.params")
        recipe.options["lr_step_epochs"] = spec.args.get("step_size", 30)
        recipe.options["lr_step_factor"] = spec.args.get("gamma", 0.1)
    else:
        check_args(spec.args, ("by_epoch",), f"{where}.params")
