"""Scoring each architecture by training it on its own, from fresh weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn

from raynas.core.config import TrainSettings, validated
from raynas.core.evaluator import EVALUATORS, SuccessiveHalving, numbers
from raynas.data.module import DataModule
from raynas.supernet.network_training import NetworkTraining


@EVALUATORS.register("standalone")
class Standalone:
    """Trains every architecture for some epochs, inside a worker that outlives it, and validates.

    Metrics: ``accuracy`` and ``loss`` on the whole validation split. The column ``epochs`` says how
    long each was really trained.

    With ``early_stopping``, Ray Tune's ASHA stops those that score worse than others after as many
    epochs. A stopped one is ``completed`` with the metrics of its last epoch and no objective:
    scores of different epochs are never compared, so only fully trained ones can be best, and
    samplers learn of the others only that they were seen. Comparisons begin anew when a run is
    resumed.

    Args:
        epochs: passes over the training split.
        batch_size: images per step; None takes the data set's own.
        lr: learning rate of SGD at the top of its schedule.
        momentum: of SGD.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: of SGD.
        label_smoothing: of the cross-entropy that is trained.
        aux_weight: of the cross-entropy of each of a network's auxiliary logits, if it has such.
        clip: largest norm of the gradient; None does not clip.
        precision: float32, or bfloat16 for convolutions and matrix products; validation is in
            float32.
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

    metrics = ("accuracy", "loss")

    def __init__(
        self,
        *,
        epochs: int = 30,
        batch_size: int | None = None,
        lr: float = 0.05,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 4e-5,
        label_smoothing: float = 0.1,
        aux_weight: float = 0.4,
        clip: float | None = 5.0,
        precision: Literal["float32", "bfloat16"] = "float32",
        channels_last: bool = True,
        sync_batch_norm: bool = False,
        early_stopping: bool = True,
        grace_epochs: int = 1,
        reduction_factor: float = 4.0,
    ) -> None:
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        self.label_smoothing, self.aux_weight, self.clip = label_smoothing, aux_weight, clip
        self.precision, self.channels_last = precision, channels_last
        self.sync_batch_norm = sync_batch_norm
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
            yield numbers(training.validate())  # where the loss is nan, accuracy means nothing
