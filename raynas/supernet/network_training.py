"""The training loop of one plain network, from its initial weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.config import TrainSettings
from raynas.data.module import DataModule, Examples
from raynas.supernet.distributed import ProcessGroup
from raynas.supernet.precision import PrecisionPolicy
from raynas.supernet.protocol import Batch, cosine

ROWS = 512  # per pass of validation


class NetworkTraining:
    """Trains a network without choices, epoch by epoch.

    SGD under the schedule of supernets: a rise over the first tenth of all steps, then a cosine. A
    result depends on network, data, settings and seed alone, whatever the process did before. In a
    process group every rank takes its share of each batch, and gradients are averaged.

    Args:
        net: on the device of the data; it is trained in place.
        data: its splits and augmentation.
        settings: epochs, batch size, optimizer, precision.
        seed: fixes the order of images, their augmentation, and what layers such as dropout draw.

    Raises:
        ValueError: the batch is larger than the training split, or does not divide by the ranks.
    """

    def __init__(
        self, net: nn.Module, data: DataModule, settings: TrainSettings, *, seed: int = 0
    ) -> None:
        self.net, self.settings, self.seed = net, settings, seed
        self.epoch = self.step = 0
        self._data = data
        splits = data.load()
        self._train, self._valid = splits.train, splits.valid
        self._batch = settings.batch_size or data.batch_size
        self._ranks = ProcessGroup()
        self._ranks.check_batch(self._batch, len(self._train[1]))
        self._passes = PrecisionPolicy(settings, self._train[0].device, self._ranks.world)
        self._passes.placed(net)
        self._ranks.broadcast(net)
        self.optimizer = torch.optim.SGD(
            net.parameters(),
            settings.lr,
            settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov and settings.momentum > 0,
        )

    @property
    def steps(self) -> int:
        """How many steps there will be."""
        return self.settings.epochs * (len(self._train[1]) // self._batch)

    def run_epoch(self) -> dict[str, float]:
        """Train one epoch; return the mean training ``loss`` and the last ``lr``.

        Raises:
            FloatingPointError: the loss is no finite number.
        """
        self.net.train()
        losses, lr = [], 0.0
        with own_draws(self._train[0].device, self._number(self.epoch, 2)):
            for batch in self._batches():
                lr = self._set_lr()
                losses.append(self._descend(batch))
                self.step += 1
        mean = torch.stack(losses).double().mean()
        self._ranks.average([mean])
        loss = float(mean)
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"the training loss is {loss} in epoch {self.epoch}; try a lower learning rate "
                f"(lr={self.settings.lr})"
            )
        self.epoch += 1
        return {"loss": loss, "lr": lr}

    @torch.no_grad()
    def validate(self, examples: Examples | None = None) -> dict[str, float]:
        """Return ``accuracy`` (0 to 1) and ``loss`` (mean cross-entropy), in evaluation mode.

        Args:
            examples: inputs and classes; None takes the validation split.
        """
        x, y = examples or self._valid
        self.net.eval()
        logits = torch.cat([self.net(part) for part in x.split(ROWS)]).float()
        right = (logits.argmax(1) == y).double().mean()
        return {"accuracy": float(right), "loss": float(functional.cross_entropy(logits, y))}

    def _descend(self, batch: Batch) -> Tensor:
        x, y = batch
        logits = self._passes.logits(self.net, x)
        loss = functional.cross_entropy(logits, y, label_smoothing=self.settings.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._ranks.average([p.grad for p in self.net.parameters() if p.grad is not None])
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip)
        self.optimizer.step()
        return loss.detach()

    def _batches(self) -> Iterator[Batch]:
        """Yield an epoch's batches, augmented; the incomplete last one is left out."""
        x, y = self._train
        order = torch.from_numpy(np.random.default_rng([self.seed, self.epoch]).permutation(len(y)))
        for start in range(0, len(y) - self._batch + 1, self._batch):
            share = order[start : start + self._batch][self._ranks.rank :: self._ranks.world]
            index = share.to(y.device)
            rng = torch.Generator().manual_seed(self._number(self.step, 1))
            yield self._passes.images(self._data.augment(x[index], rng)), y[index]

    def _set_lr(self) -> float:
        lr = self.settings.lr * cosine(self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _number(self, position: int, stream: int) -> int:
        own = [self._ranks.rank] if self._ranks.rank else []  # ranks draw different numbers
        return int(np.random.default_rng([self.seed, position, stream, *own]).integers(2**31))


@contextmanager
def own_draws(device: torch.device, seed: int) -> Iterator[None]:
    """Let layers draw from ``seed``, and leave the global random state as it was."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
