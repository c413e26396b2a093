"""The training loop under supernets and plain networks: batches, SGD, ranks and checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core.nest import Nest, first
from raynas.core.train_settings import TrainSettings
from raynas.data.first_examples import first_inputs
from raynas.data.module import DataModule
from raynas.data.split import Split, split_of
from raynas.nn.random_state import own_random_state
from raynas.supernet.averaging import WeightAverage
from raynas.supernet.distillation import Distills, Teacher
from raynas.supernet.distributed import ProcessGroup
from raynas.supernet.explaining import explained
from raynas.supernet.mixing import Mixed, check_mixing, mixed_and_cut, mixes
from raynas.supernet.optimizers import optimizer_of
from raynas.supernet.precision import PrecisionPolicy
from raynas.supernet.protocol import Batch, cosine
from raynas.supernet.schedules import schedule_of
from raynas.supernet.streams import stream, stream_seed

Row = dict[str, Any]  # of the history: numbers and text
ORDER = 0  # the stream of the training split's order


class TrainingLoop(ABC):
    """Trains a model by SGD, epoch by epoch, on one rank or several.

    The order of examples, their augmentation and what a dataset draws that is read anew each epoch
    are functions of seed, epoch or step, and of where an example stands in the batch of all ranks;
    what layers such as dropout draw is one of seed, epoch and rank. So a result depends on model,
    data, settings and seed alone, whatever the process did before, and a checkpoint needs no random
    states, neither of this device nor of other ranks, to go on as if it had not stopped, with as
    many ranks or with others.

    Args:
        model: trained in place; it is moved to the device.
        data: its splits, task and augmentation.
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
        self._data, self._task = data, data.task
        splits = data.load() if device is None else data.load().to(device)
        data.check(splits)
        self._train, self._valid = split_of(splits.train), split_of(splits.valid)
        self.device = device or data.device or first(self._train.example(1)).device
        self._base_batch = settings.batch_size or data.batch_size
        self._group = ProcessGroup()
        self.rank, self.world = self._group.rank, self._group.world
        self._group.check_batch(self._base_batch, len(self._train))
        self._precision = PrecisionPolicy(settings, self.device, self.world)
        example = self._example(2)
        self.model = self._precision.placed(model.to(self.device), example)
        self._weights = list(self.model.parameters())  # a walk at every step would cost 1 %
        self._group.broadcast(self.model)
        self.optimizer: torch.optim.Optimizer = optimizer_of(settings, self._weights)
        self._schedule = schedule_of(settings)
        self._scaler = self._precision.scaler()
        self._waiting = 0  # batches whose gradients the next step of the optimizer will take
        check_mixing(settings, example, in_model=self._task.computes_loss_in_model)
        self.averaged = None if settings.ema is None else WeightAverage(self.model, settings.ema)
        self._teacher = (
            None if settings.teacher is None else Teacher(settings, self._task, self.device)
        )

    @property
    def epochs(self) -> int:
        """How many epochs there will be."""
        return self.settings.epochs

    @property
    def steps(self) -> int:
        """How many steps there will be, at the base batch size."""
        return self.settings.epochs * (len(self._train) // self._base_batch)

    @property
    def channels_last(self) -> bool:
        """Whether the model runs with channels last in memory."""
        return self._precision.channels_last

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def run_epoch(self) -> Row:
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
    def _run_epoch(self) -> Row:
        """Train on the batches of an epoch and return its row."""

    @abstractmethod
    def _loss_error(self, loss: float, batch: int) -> FloatingPointError:
        """Return what is raised for a batch of this epoch whose loss is no finite number."""

    def _lr_scale(self) -> float:
        """Return by what the learning rate is multiplied at this step."""
        return cosine(self.step, self.steps)

    def descend(self, loss: Tensor | Iterable[Tensor]) -> None:
        """Step the weights: only those that took part have a gradient, and only those move.

        With ``accumulate``, the step is that of so many batches, and none comes before the last.

        Args:
            loss: shape (); or several, whose gradients are summed, not divided. Each goes backward
                before the next is asked for; what is checked and averaged is their sum.

        Raises:
            ValueError: there is no loss.
        """
        if self._waiting == 0:
            self.optimizer.zero_grad(set_to_none=True)
        total = self._gradients_of([loss] if isinstance(loss, Tensor) else loss)
        self._waiting += 1
        if self._waiting < self.settings.accumulate:
            self.average([total])
            self.check(total)
        else:
            self._take_step([total])

    def _gradients_of(self, losses: Iterable[Tensor]) -> Tensor:
        """Add the gradients of losses to the weights', one after the other; return their sum."""
        count, total = self.settings.accumulate, None
        for loss in losses:
            value = loss.detach().clone()
            total = value if total is None else total + value
            self._scaler.scale(loss if count == 1 else loss / count).backward()
        if total is None:
            raise ValueError("a step descends one loss at least, got none")
        return total

    def _take_step(self, means: Sequence[Tensor]) -> None:
        """Let the optimizer take the gradients that have come together, averaged over the ranks."""
        self._waiting = 0
        active = [p for p in self._weights if p.grad is not None]
        self.average([*(p.grad for p in active if p.grad is not None), *means])
        for mean in means:
            self.check(mean)
        self._scaler.unscale_(self.optimizer)
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(active, self.settings.clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self.averaged is not None:
            self.averaged.update()

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
        state = {
            "scaler": self._scaler.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
        }
        return {name: part for name, part in state.items() if part} | {
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
        if "scaler" in state:
            self._scaler.load_state_dict(state["scaler"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.epoch, self.step = state["epoch"], state["step"]

    def _training_batches(self, size: int) -> Iterator[Batch]:
        """Yield the epoch's batches, augmented, with the learning rate set; count the steps."""
        for inputs, targets in self._batches(self._epoch_examples(), size, self.epoch, ORDER):
            named = self._schedule
            scale = self._lr_scale() if named is None else named(self.step, self.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.lr * scale
            yield self._changed(inputs, targets)
            self.step += 1
        if self._waiting:  # fewer batches than ``accumulate`` are left: a smaller step
            self._take_step([])

    def _changed(self, inputs: Nest, targets: Nest) -> Batch:
        """Return this rank's share of a batch, augmented, mixed and cut."""
        if not self._changes_whole:
            inputs = self._precision.laid_out(self._augmented(inputs))
            return mixed_and_cut(inputs, targets, self.settings, self._mixing())
        inputs = self._augmented(self._group.joined(inputs))
        if mixes(self.settings) and targets is not None:
            targets = self._group.joined(targets)
        inputs, targets = mixed_and_cut(inputs, targets, self.settings, self._mixing())
        if isinstance(targets, Mixed):
            targets = targets.mapped(self._group.share)
        return self._precision.laid_out(self._group.share(inputs)), targets

    @property
    def _changes_whole(self) -> bool:
        """Whether every rank changes the batch of all ranks, and takes its share of that.

        What an example becomes may depend on all of its batch. Batches of many shapes, of which
        ranks cannot put one together, are changed by each rank for itself.
        """
        changed = self._data.augments or mixes(self.settings) or self.settings.cutout > 0
        return self.world > 1 and changed and self._train.alike

    @property
    def _changing_rank(self) -> int:
        """The rank in what augmentation draws: the first one's holds for the batch of all."""
        return 0 if self._changes_whole else self.rank

    def _mixing(self) -> np.random.Generator:
        """Return what draws how examples of this step are mixed and cut."""
        words = [self.seed, self.step, self.augmentation_stream, self._changing_rank, 1]
        return np.random.default_rng(words)

    def _epoch_examples(self) -> Split:
        """Return the epoch's training split; all ranks have the same."""
        seed = stream_seed(self.seed, self.epoch, self.reading_stream)
        with own_random_state(self.device, seed):
            examples = self._data.epoch_examples()
        if examples is None:
            return self._train
        return split_of(examples).to(self.device)

    def _batches(self, split: Split, size: int, epoch: int, number: int) -> Iterator[Batch]:
        """Yield this rank's share of an epoch's batches, the incomplete last one left out."""
        order = stream(self.seed, epoch, number).permutation(len(split))
        for inputs, targets in split.batches(
            order,
            size,
            epoch=epoch,
            seed=stream_seed(self.seed, epoch, self.reading_stream),
            rank=self.rank,
            world=self.world,
            device=self.device,
        ):
            yield self._task.examples(inputs, targets)

    def _example(self, count: int) -> Nest:
        """Return the first training inputs, on the device."""
        return first_inputs(self._data, self._train, count, self.device)

    def _augmented(self, inputs: Nest) -> Nest:
        seed = stream_seed(self.seed, self.step, self.augmentation_stream, self._changing_rank)
        return self._data.augment(inputs, torch.Generator().manual_seed(seed))

    def _own_random_state(self, position: int, number: int) -> AbstractContextManager[None]:
        seed = stream_seed(self.seed, position, number, self.rank)
        return own_random_state(self.device, seed)

    def _loss(
        self,
        model: Callable[..., object],
        batch: Batch,
        *,
        smoothing: float | None = None,
        exact: bool = False,
        taught: Distills | None = None,
    ) -> Tensor:
        inputs, targets = batch
        with explained(self._task, batch):
            called = self._task.inputs(inputs, targets)
            out = self._precision.run(model, called, exact=exact)
            loss = self._of_targets(out, targets, smoothing)
        if taught is not None:
            loss = loss + taught.loss(self._task, out)
        if self._teacher is None or smoothing is not None:
            return loss
        return loss + self._teacher.loss(out, called)

    def _of_targets(self, out: object, targets: Any, smoothing: float | None) -> Tensor:
        if isinstance(targets, Mixed):
            first = self._of_targets(out, targets.first, smoothing)
            second = self._of_targets(out, targets.second, smoothing)
            return targets.share * first + (1 - targets.share) * second
        amount = self.settings.label_smoothing if smoothing is None else smoothing
        return self._task.training_loss(
            out,
            targets,
            smoothing=amount if self._task.smooths else 0.0,
            aux_weight=self.settings.aux_weight,
        )

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
