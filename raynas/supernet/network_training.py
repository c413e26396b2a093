"""The training of one plain network, from its initial weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from raynas.core.nest import call
from raynas.core.train_settings import TrainSettings
from raynas.data.module import DataModule
from raynas.data.split import Split
from raynas.nn.drop_path import DropPath
from raynas.supernet.loop import TrainingLoop

ROWS = 512  # of a rank, per pass of validation
VALIDATION = 3  # the stream of what layers draw while it is validated


class NetworkTraining(TrainingLoop):
    """Trains a network without choices, epoch by epoch.

    SGD under the schedule of supernets: a rise over the first tenth of all steps, then a cosine. In
    a process group every rank takes its share of each batch, and gradients are averaged.

    Args:
        model: trained in place; it is moved to the device.
        data: its splits and augmentation.
        settings: epochs, batch size, optimizer, precision.
        seed: fixes the order of images, their augmentation, and what layers such as dropout draw.
        device: that everything lives on; None takes that of the data.

    Raises:
        ValueError: the batch is larger than the training split, or does not divide by the ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        data: DataModule,
        settings: TrainSettings,
        *,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(model, data, settings, seed=seed, device=device)
        self._drop_path = DropPath(self.model) if settings.drop_path else None

    def validate(self, split: Split | None = None) -> dict[str, float]:
        """Return the task's metrics, such as ``accuracy`` and ``loss``, in evaluation mode.

        Args:
            split: to validate on; None takes the validation split.
        """
        with self.validated_weights():
            return self.measured(split)

    @contextmanager
    def validated_weights(self) -> Iterator[None]:
        """Let the model have the weights that are validated: their average, if one is kept.

        Ranks have seen different batches; buffers, such as the statistics of BatchNorms, are then
        those of the first.
        """
        with nullcontext() if self.averaged is None else self.averaged.applied():
            self._group.broadcast_buffers(self.model)
            yield

    def measured(self, split: Split | None = None) -> dict[str, float]:
        """Return the task's metrics of the weights as they are, in evaluation mode.

        Every rank takes its share of the split, and has the metrics of all of it.

        Args:
            split: None takes the validation split.
        """
        split = self._valid if split is None else split
        state = self._task.state()
        self.model.eval()
        with torch.no_grad(), self._own_random_state(self.epoch, VALIDATION):
            for batch in split.batches(
                None,
                ROWS * self.world,
                epoch=0,
                seed=self.seed,
                rank=self.rank,
                world=self.world,
                device=self.device,
            ):
                inputs, targets = self._task.examples(*batch)
                out = call(self.model, self._task.inputs(inputs, targets))
                state.update(self._task.output(out), targets)
        if self.world == 1:
            return state.compute()
        whole = self._task.state()
        for taken in self._group.gathered(state):
            whole.merge(taken)
        return whole.compute()

    def _run_epoch(self) -> dict[str, float]:
        """Train on an epoch's batches; return the mean training ``loss`` and the last ``lr``."""
        losses: list[Tensor] = []
        if self._drop_path is not None:
            self._drop_path.probability = self.settings.drop_path * self.epoch / self.epochs
        for batch in self._training_batches(self._base_batch):
            loss = self._loss(self.model, batch)
            self.descend(loss)
            losses.append(loss.detach())
        return {"loss": self._mean_loss(losses), "lr": self.lr}

    def _loss_error(self, loss: float, batch: int) -> FloatingPointError:
        return FloatingPointError(
            f"the training loss is {loss} in epoch {self.epoch}; try a lower learning rate "
            f"(lr={self.settings.lr})"
        )
