"""The training of one plain network, from its initial weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.config import TrainSettings
from raynas.data.module import DataModule, Examples
from raynas.supernet.loop import TrainingLoop
from raynas.supernet.outputs import logits_in

ROWS = 512  # per pass of validation
VALIDATION = 3  # the stream of what layers draw while it is validated


class NetworkTraining(TrainingLoop):
    """Trains a network without choices, epoch by epoch.

    SGD under the schedule of supernets: a rise over the first tenth of all steps, then a cosine. In
    a process group every rank takes its share of each batch, and gradients are averaged.

    Args:
        model: trained in place, on the device of the data.
        data: its splits and augmentation.
        settings: epochs, batch size, optimizer, precision.
        seed: fixes the order of images, their augmentation, and what layers such as dropout draw.

    Raises:
        ValueError: the batch is larger than the training split, or does not divide by the ranks.
    """

    def __init__(
        self, model: nn.Module, data: DataModule, settings: TrainSettings, *, seed: int = 0
    ) -> None:
        super().__init__(model, data, settings, seed=seed)

    def validate(self, examples: Examples | None = None) -> dict[str, float]:
        """Return ``accuracy`` (0 to 1) and ``loss`` (mean cross-entropy), in evaluation mode.

        Args:
            examples: inputs and classes; None takes the validation split.
        """
        x, y = examples or self._valid
        self.model.eval()
        with torch.no_grad(), self._own_random_state(self.epoch, VALIDATION):
            logits = torch.cat([logits_in(self.model(part)) for part in x.split(ROWS)]).float()
        right = (logits.argmax(1) == y).double().mean()
        return {"accuracy": float(right), "loss": float(functional.cross_entropy(logits, y))}

    def _run_epoch(self) -> dict[str, float]:
        """Train on an epoch's batches; return the mean training ``loss`` and the last ``lr``."""
        losses: list[Tensor] = []
        for batch in self._training_batches(self._base_batch):
            loss = self._cross_entropy(self.model, batch)
            self.descend(loss)
            losses.append(loss.detach())
        return {"loss": self._mean_loss(losses), "lr": self.lr}

    def _loss_error(self, loss: float, batch: int) -> FloatingPointError:
        return FloatingPointError(
            f"the training loss is {loss} in epoch {self.epoch}; try a lower learning rate "
            f"(lr={self.settings.lr})"
        )
