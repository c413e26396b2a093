"""The training loop under supernets and plain networks: batches, SGD, ranks and checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.config import TrainSettings
from raynas.data.module import DataModule, Examples
from raynas.nn.random_state import own_random_state
from raynas.supernet.distributed import ProcessGroup
from raynas.supernet.precision import PrecisionPolicy
from raynas.supernet.protocol import Batch, cosine
from raynas.supernet.sgd import SGD
from raynas.supernet.streams import stream, stream_seed

ORDER = 0  # the stream of the training split's order


class TrainingLoop(ABC):
    """Trains a model by SGD, epoch by epoch, on one rank or several.

    The order of examples, their augmentation, what a dataset draws that is read anew each epoch,
    and what layers such as dropout draw are functions of seed, epoch or step, and rank. So a result
    depends on model, data, settings and seed alone, whatever the process did before, and a
    checkpoint needs no random states, neither of this device nor of other ranks, to go on as if it
    had not stopped.

    Args:
        model: trained in place; it is moved to the device.
        data: its splits and augmentation.
        settings: epochs, batch size, optimizer, precision.
        seed: fixes all that is random.
        device: that everything lives on; None takes that of the data.

    Attributes:
        model: that is trained.
        optimizer: of its weights.
        settings: epochs, batch size, optimizer, precision.
        seed: that fixes all that is random.
        device: that everything lives on.
        epoch: from 0.
        step: from 0, over all epochs.
        rank: of this process, from 0.
        world: how many ranks there are.

    Raises:
        ValueError: the batch is larger than the training split, or does not divide by the ranks.
    """

    augmentation_stream: ClassVar[int] = 1
    layer_stream: ClassVar[int] = 2
    reading_stream: ClassVar[int] = 4

    def __init__(
        self,
        model: nn.Module,
        data: DataModule,
        settings: TrainSettings,
        *,
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        self.settings, self.seed = settings, seed
        self.epoch = self.step = self._epoch_began = 0
        self._data = data
        splits = data.load() if device is None else data.load().to(device)
        self._train, self._valid = splits.train, splits.valid
        self.device = self._train[0].device
        self._base_batch = settings.batch_size or data.batch_size
        self._group = ProcessGroup()
        self.rank, self.world = self._group.rank, self._group.world
        self._group.check_batch(self._base_batch, len(self._train[1]))
        self._precision = PrecisionPolicy(settings, self.device, self.world)
        self.model = self._precision.placed(model.to(self.device), self._train[0][:2])
        self._weights = list(self.model.parameters())  # a walk at every step would cost 1 %
        self._group.broadcast(self.model)
        self.optimizer: torch.optim.Optimizer = SGD(
            self._weights,
            settings.lr,
            settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov and settings.momentum > 0,
        )

    @property
    def epochs(self) -> int:
        """How many epochs there will be."""
        return self.settings.epochs

    @property
    def steps(self) -> int:
        """How many steps there will be, at the base batch size."""
        return self.settings.epochs * (len(self._train[1]) // self._base_batch)

    @property
    def channels_last(self) -> bool:
        """Whether the model runs with channels last in memory."""
        return self._precision.channels_last

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def run_epoch(self) -> dict[str, float]:
        """Train one epoch and return its row of the history.

        Raises:
            FloatingPointError: the loss is no finite number.
        """
        self._epoch_began = self.step
        with self._own_random_state(self.epoch, self.layer_stream):
            self.model.train()
            row = self._run_epoch()
        self.epoch += 1
        return row

    @abstractmethod
    def _run_epoch(self) -> dict[str, float]:
        """Train on the batches of an epoch and return its row."""

    @abstractmethod
    def _loss_error(self, loss: float, batch: int) -> FloatingPointError:
        """Return what is raised for a batch of this epoch whose loss is no finite number."""

    def _lr_scale(self) -> float:
        """Return by what the learning rate is multiplied at this step."""
        return cosine(self.step, self.steps)

    def descend(self, loss: Tensor) -> None:
        """Step the weights: only those that took part have a gradient, and only those move."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        active = [p for p in self._weights if p.grad is not None]
        mean = loss.detach().clone()
        self.average([*(p.grad for p in active if p.grad is not None), mean])
        self.check(mean)
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(active, self.settings.clip)
        self.optimizer.step()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the ranks, in one flat exchange."""
        self._group.average(tensors)

    def check(self, loss: Tensor) -> None:
        """Raise FloatingPointError, saying where, if a loss averaged over ranks is no number.

        On a GPU, where looking at it would wait for it, that is said at the epoch's end instead.
        """
        if self.device.type == "cpu" and not loss.isfinite():
            raise self._loss_error(float(loss), self.step - self._epoch_began)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the weights that going on needs."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "steps": self.steps,
            "seed": self.seed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where ``state_dict`` was taken, its weights being loaded already.

        Raises:
            ValueError: that training was of another length, and so had another schedule; or of
                another seed.
        """
        if state["steps"] != self.steps:
            raise ValueError(
                f"the training to go on with was of {state['steps']} steps in all, not of "
                f"{self.steps}: use the same epochs and batch_size"
            )
        if state.get("seed", self.seed) != self.seed:  # what is older holds none
            raise ValueError(
                f"the training to go on with was of seed {state['seed']}, not of {self.seed}: use "
                "the same seed"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step = state["epoch"], state["step"]

    def _training_batches(self, size: int) -> Iterator[Batch]:
        """Yield the epoch's batches, augmented, with the learning rate set; count the steps."""
        for x, y in self._batches(self._epoch_examples(), size, self.epoch, ORDER):
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.lr * self._lr_scale()
            yield self._augmented(x), y
            self.step += 1

    def _epoch_examples(self) -> Examples:
        """Return the epoch's training split; all ranks have the same."""
        seed = stream_seed(self.seed, self.epoch, self.reading_stream)
        with own_random_state(self.device, seed):
            examples = self._data.epoch_examples()
        if examples is None:
            return self._train
        return examples[0].to(self.device), examples[1].to(self.device)

    def _batches(self, examples: Examples, size: int, epoch: int, number: int) -> Iterator[Batch]:
        """Yield this rank's share of an epoch's batches, the incomplete last one left out."""
        x, y = examples
        order = torch.from_numpy(stream(self.seed, epoch, number).permutation(len(y)))
        for start in range(0, len(y) - size + 1, size):
            index = order[start + self.rank : start + size : self.world].to(x.device)
            yield x[index], y[index]

    def _augmented(self, x: Tensor) -> Tensor:
        seed = stream_seed(self.seed, self.step, self.augmentation_stream, self.rank)
        rng = torch.Generator().manual_seed(seed)
        return self._precision.images(self._data.augment(x, rng))

    def _own_random_state(self, position: int, number: int) -> AbstractContextManager[None]:
        seed = stream_seed(self.seed, position, number, self.rank)
        return own_random_state(self.device, seed)

    def _cross_entropy(
        self,
        model: Callable[[Tensor], object],
        batch: Batch,
        *,
        smoothing: float | None = None,
        exact: bool = False,
    ) -> Tensor:
        x, y = batch
        logits, *others = self._precision.logits(model, x, exact=exact)
        amount = self.settings.label_smoothing if smoothing is None else smoothing
        loss = functional.cross_entropy(logits, y, label_smoothing=amount)
        for auxiliary in others:
            part = functional.cross_entropy(auxiliary, y, label_smoothing=amount)
            loss = loss + self.settings.aux_weight * part
        return loss

    def _mean_loss(self, losses: Sequence[Tensor]) -> float:
        """Return the mean over an epoch's batches and all ranks.

        Raises:
            FloatingPointError: one is no finite number.
        """
        means = torch.stack(list(losses)).double()
        self.average([means])  # first: all ranks must see the same batch fail, or one waits
        bad = (~means.isfinite()).nonzero()
        if len(bad):
            raise self._loss_error(float(means[bad[0, 0]]), int(bad[0, 0]))
        return float(means.mean())
