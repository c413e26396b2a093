"""Scoring each architecture by training it on its own, from fresh weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from raynas.core.config import validated
from raynas.core.evaluator import EVALUATORS, SuccessiveHalving, numbers
from raynas.core.train_settings import TrainSettings
from raynas.data.module import DataModule
from raynas.supernet.network_training import NetworkTraining


@EVALUATORS.register("standalone")
class Standalone:
    """Trains every architecture for some epochs, inside a worker that outlives it, and validates.

    Metrics: those of the task, of a classification ``accuracy`` and ``loss``, on the whole
    validation split. The column ``epochs`` says how
    long each was really trained.

    With ``early_stopping``, Ray Tune's ASHA stops those that score worse than others after as many
    epochs. A stopped one is ``completed`` with the metrics of its last epoch and no objective:
    scores of different epochs are never compared, so only fully trained ones can be best, and
    samplers learn of the others only that they were seen. Comparisons begin anew when a run is
    resumed.

    Args:
        epochs: passes over the training split; this and the following are ``TrainSettings``.
        batch_size: examples per step; None takes the data set's own.
        optimizer: ``sgd``, ``adamw``, ``rmsprop``, or a function.
        lr: learning rate at the top of its schedule.
        momentum: of SGD and RMSprop.
        nesterov: whether SGD's momentum is Nesterov's.
        weight_decay: of the optimizer.
        decay_norms: whether it acts on norms and biases too.
        schedule: ``cosine``, ``linear``, ``step``, ``constant``, or a function.
        warmup: share of all steps over which the learning rate rises.
        lr_step_epochs: epochs after which ``step`` lowers the learning rate.
        lr_step_factor: by which.
        accumulate: batches whose gradients make one step.
        label_smoothing: of the cross-entropy that is trained.
        aux_weight: of the loss of each of a network's auxiliary outputs, if it has such.
        clip: largest norm of the gradient; None does not clip.
        ema: decay of an average of the weights, by which networks are validated.
        mixup: alpha; 0 does not mix.
        cutmix: alpha; 0 does not mix.
        cutout: pixels; 0 cuts nothing.
        drop_path: of cells, at the last epoch.
        teacher: a network that outputs are drawn to besides.
        teacher_weight: of that part of the loss.
        teacher_temperature: of its logits.
        precision: float32, or bfloat16 or float16 for convolutions and matrix products; validation
            is in float32.
        channels_last: whether images and weights lie in memory with channels last (NHWC).
        sync_batch_norm: whether BatchNorm takes its statistics from the batches of all ranks, where
            several train one network.
        early_stopping: whether weak ones are stopped; compares one score, so it must be off where
            there are several objectives.
        grace_epochs: after which they are first compared.
        reduction_factor: of those compared, one in so many goes on.

    Raises:
        ValueError: a setting out of its range, or more grace epochs than epochs.
    """

    metrics_of_task = True

    def __init__(
        self,
        *,
        epochs: int = 30,
        batch_size: int | None = None,
        optimizer: Any = "sgd",
        lr: float = 0.05,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 4e-5,
        decay_norms: bool = True,
        schedule: Any = None,
        warmup: float | None = None,
        lr_step_epochs: int = 30,
        lr_step_factor: float = 0.1,
        accumulate: int = 1,
        label_smoothing: float = 0.1,
        aux_weight: float = 0.4,
        clip: float | None = 5.0,
        ema: float | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        cutout: int = 0,
        drop_path: float = 0.0,
        teacher: Any = None,
        teacher_weight: float = 1.0,
        teacher_temperature: float = 1.0,
        precision: Literal["float32", "bfloat16", "float16"] = "float32",
        channels_last: bool = True,
        sync_batch_norm: bool = False,
        early_stopping: bool = True,
        grace_epochs: int = 1,
        reduction_factor: float = 4.0,
    ) -> None:
        self.epochs, self.batch_size, self.optimizer, self.lr = epochs, batch_size, optimizer, lr
        self.momentum, self.nesterov = momentum, nesterov
        self.weight_decay, self.decay_norms = weight_decay, decay_norms
        self.schedule, self.warmup = schedule, warmup
        self.lr_step_epochs, self.lr_step_factor = lr_step_epochs, lr_step_factor
        self.accumulate, self.label_smoothing = accumulate, label_smoothing
        self.aux_weight, self.clip, self.ema = aux_weight, clip, ema
        self.mixup, self.cutmix, self.cutout, self.drop_path = mixup, cutmix, cutout, drop_path
        self.teacher, self.teacher_weight = teacher, teacher_weight
        self.teacher_temperature, self.precision = teacher_temperature, precision
        self.channels_last, self.sync_batch_norm = channels_last, sync_batch_norm
        self.early_stopping, self.grace_epochs = early_stopping, grace_epochs
        self.reduction_factor = reduction_factor
        fields = {name: getattr(self, name) for name in TrainSettings.model_fields}
        self.settings = validated(TrainSettings, fields)
        if early_stopping and not 1 <= grace_epochs <= epochs:
            raise ValueError(
                f"grace_epochs: expected 1 to {epochs} (the epochs), got {grace_epochs}"
            )
        if not reduction_factor > 1:
            raise ValueError(f"reduction_factor: expected more than 1, got {reduction_factor}")

    @property
    def stopping(self) -> SuccessiveHalving | None:
        """How weak ones are stopped; None if they are not."""
        if not self.early_stopping:
            return None
        return SuccessiveHalving(
            grace_epochs=self.grace_epochs, reduction_factor=self.reduction_factor
        )

    def train_epochs(
        self, net: nn.Module, data: DataModule, seed: int
    ) -> Iterator[dict[str, float]]:
        """Train, and yield the metrics after every epoch."""
        training = NetworkTraining(net, data, self.settings, seed=seed)
        while training.epoch < self.epochs:
            training.run_epoch()
            with training.validated_weights():  # which the network has until the next epoch
                yield numbers(training.measured())  # where the loss is nan, others mean nothing
