"""How weights are trained: one recipe for supernets, and for networks that are trained alone."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    PositiveInt,
    field_serializer,
    field_validator,
    model_validator,
)

from raynas.core.config import Strict
from raynas.core.errors import nearest
from raynas.core.recorded_objects import recorded_object

OPTIMIZERS = ("sgd", "adamw", "rmsprop")
SCHEDULES = ("cosine", "linear", "step", "constant")


class TrainSettings(Strict):
    """How weights are trained, whatever the algorithm.

    Attributes:
        epochs: passes over the training split.
        batch_size: examples per step over all ranks; None takes the data set's own.
        optimizer: ``sgd``, ``adamw`` or ``rmsprop``, or a function of parameters (or groups of
            them) and the learning rate that returns a torch optimizer.
        lr: learning rate at the top of its schedule.
        momentum: of SGD and RMSprop.
        nesterov: whether the momentum of SGD is Nesterov's.
        weight_decay: of the optimizer; AdamW's is decoupled.
        decay_norms: whether it acts on norms, biases and other parameters of one dimension too.
        schedule: ``cosine``, ``linear``, ``step`` or ``constant``, or a function of step and steps
            that returns a factor of ``lr``; None takes the algorithm's own, of networks trained
            alone a cosine after a rise over a tenth of all steps.
        warmup: share of all steps over which the learning rate rises to its top; None leaves that
            to the algorithm, and is 0 where a schedule is named.
        lr_step_epochs: epochs after which ``step`` multiplies the learning rate.
        lr_step_factor: by which.
        accumulate: batches whose gradients make one step of the optimizer.
        label_smoothing: of the cross-entropy; tasks without labels have none.
        aux_weight: of the loss of each of a model's auxiliary outputs (a model may return a tuple
            of an output and such in training mode), beside that of its output; 0.4 as in DARTS.
        clip: largest norm of the gradient; None does not clip.
        ema: decay of an exponential moving average of the weights, which the trained network has;
            a network trained alone is validated with it. None keeps none.
        mixup: alpha of the Beta distribution that mixes two examples (arXiv:1710.09412); 0 does
            not mix.
        cutmix: alpha of the one that pastes a patch of another image (arXiv:1905.04899); with
            ``mixup`` too, each batch takes one of both at random.
        cutout: side of the square of pixels that is cut out of every training image
            (arXiv:1708.04552); 0 cuts nothing.
        drop_path: probability at the last epoch, rising linearly from 0, with which an example
            skips a path of a cell (arXiv:1605.07648); 0 drops none.
        teacher: a trained network that the outputs are drawn to besides (arXiv:1503.02531), or the
            path of one that ``torch.export`` saved; None has none.
        teacher_weight: of that part of the loss.
        teacher_temperature: by which logits are divided in it.
        precision: of convolutions and matrix products; ``bfloat16`` and ``float16`` run them under
            autocast. Weights, gradients, outputs and the loss stay in float32, and so does all
            scoring. float16, whose range is small, has its loss scaled and needs a GPU. Both are
            for GPUs: CPUs without matrix units take longer with them.
        channels_last: whether images and weights lie in memory with channels last (NHWC).
        sync_batch_norm: whether BatchNorm takes its statistics from the batches of all ranks
            together, so that more ranks train as one would; one rank has the whole batch anyway.
    """

    epochs: PositiveInt = 30
    batch_size: PositiveInt | None = None
    optimizer: Any = "sgd"
    lr: float = Field(default=0.05, gt=0.0)
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    nesterov: bool = True
    weight_decay: float = Field(default=4e-5, ge=0.0)
    decay_norms: bool = True
    schedule: Any = None
    warmup: float | None = Field(default=None, ge=0.0, lt=1.0)
    lr_step_epochs: PositiveInt = 30
    lr_step_factor: float = Field(default=0.1, gt=0.0)
    accumulate: PositiveInt = 1
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    aux_weight: float = Field(default=0.4, ge=0.0)
    clip: float | None = Field(default=5.0, gt=0.0)
    ema: float | None = Field(default=None, gt=0.0, lt=1.0)
    mixup: float = Field(default=0.0, ge=0.0)
    cutmix: float = Field(default=0.0, ge=0.0)
    cutout: int = Field(default=0, ge=0)
    drop_path: float = Field(default=0.0, ge=0.0, lt=1.0)
    teacher: Any = None
    teacher_weight: float = Field(default=1.0, ge=0.0)
    teacher_temperature: float = Field(default=1.0, gt=0.0)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = True
    sync_batch_norm: bool = False

    @field_validator("optimizer")
    @classmethod
    def _optimizer(cls, given: Any) -> Any:
        return _named_or_called("optimizer", given, OPTIMIZERS)

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, given: Any) -> Any:
        return None if given is None else _named_or_called("schedule", given, SCHEDULES)

    @field_serializer("optimizer", "schedule", "teacher")
    def _path(self, value: Any) -> Any:
        """Write a function as ``module:name``, and a teacher's class."""
        if value is None or isinstance(value, str):
            return value
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}:{named.__qualname__}"

    @model_validator(mode="after")
    def _no_option_is_ignored(self) -> TrainSettings:
        """Refuse what the others leave without effect."""
        if self.optimizer == "adamw" and self.momentum not in (0.9, 0.0):
            raise ValueError("momentum is of sgd and rmsprop: adamw has none; leave it out")
        if self.schedule != "step" and (self.lr_step_epochs, self.lr_step_factor) != (30, 0.1):
            raise ValueError(
                "lr_step_epochs and lr_step_factor are of schedule='step': name it, or leave "
                "them out"
            )
        if callable(self.schedule) and self.warmup is not None:
            raise ValueError("warmup is of named schedules: a function has the whole course")
        if self.teacher is None and (self.teacher_weight, self.teacher_temperature) != (1.0, 1.0):
            raise ValueError("teacher_weight and teacher_temperature go with a teacher")
        return self


def _named_or_called(what: str, given: Any, names: tuple[str, ...]) -> Any:
    """Return a name that is known, or a function; one of a run folder is imported."""
    if callable(given) or given in names:
        return given
    if isinstance(given, str) and ":" in given:
        return _imported(what, given)
    hint = nearest(given, names) if isinstance(given, str) else f"one of {', '.join(names)}"
    raise ValueError(f"expected {', '.join(names)} or a function; {hint}")


def _imported(what: str, path: str) -> Any:
    try:
        return recorded_object(path)
    except LookupError as error:
        raise ValueError(
            f"the {what} was a function of a user's own, which cannot be imported here ({error}): "
            "pass it anew"
        ) from None
