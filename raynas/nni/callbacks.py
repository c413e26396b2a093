"""What a trainer calls after every epoch, and schedules of learning rates given so."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from raynas.core.progress import Progress


class Callback:
    """Called at the beginning and the end of every epoch, in the process that called ``train``.

    Differs: epochs may be trained in other processes, so that there is nothing to call for a batch,
    and the model takes its trained weights when ``train`` ends. With callbacks no line shows
    progress.

    Attributes:
        model: of the trainer.
        mutator: None; models have none.
        trainer: that trains.
        row: of the history, for the epoch that is over; empty before.
    """

    model: Any = None
    mutator: Any = None
    trainer: Any = None
    row: Mapping[str, Any] = MappingProxyType({})

    def build(self, model: Any, mutator: Any, trainer: Any) -> None:
        """Take what the attributes name."""
        self.model, self.mutator, self.trainer = model, mutator, trainer

    def on_epoch_begin(self, epoch: int) -> None:
        """Epoch ``epoch``, from 0, begins."""

    def on_epoch_end(self, epoch: int) -> None:
        """Epoch ``epoch``, from 0, is over."""

    def on_train_end(self) -> None:
        """The model has its trained weights; of a ``SPOSSupernetTrainer`` when it is searched."""


class LRSchedulerCallback(Callback):
    """Lets the learning rate follow a scheduler of torch, epoch by epoch.

    Args:
        scheduler: of the trainer's optimizer; one that needs no metric.
        mode: ``epoch``.

    Raises:
        ValueError: another mode.
    """

    def __init__(self, scheduler: Any, mode: str = "epoch") -> None:
        if mode != "epoch":
            raise ValueError(f"LRSchedulerCallback: mode is 'epoch', got {mode!r}")
        self.scheduler, self.mode = scheduler, mode


class ArchitectureCheckpoint(Callback):
    """Writes what a search prefers after every epoch, as ``trainer.export`` does.

    Differs: a file is written where the probabilities of the epoch are told, in the process that
    called ``train``; of an ``EnasTrainer`` it holds the most probable options, where NNI draws one
    and ``trainer.export`` has the best of ten draws.

    Args:
        checkpoint_dir: local folder, made if need be; files are ``epoch_<n>.json``, from 0.

    Raises:
        NotADirectoryError: something else stands there.
    """

    def __init__(self, checkpoint_dir: str | Path) -> None:
        self.checkpoint_dir = made_folder("ArchitectureCheckpoint", checkpoint_dir)

    def build(self, model: Any, mutator: Any, trainer: Any) -> None:
        """Take what the attributes name.

        Raises:
            TypeError: the trainer trains weights alone.
        """
        super().build(model, mutator, trainer)
        if not trainer.learns_architecture:
            raise TypeError(
                f"ArchitectureCheckpoint: a {type(trainer).__name__} trains weights alone and "
                "prefers no architecture in an epoch: leave it out, and export after the search"
            )

    def on_epoch_end(self, epoch: int) -> None:
        """Write the file of the epoch."""
        number = int(self.row.get("epoch", epoch))
        arch = self.trainer.architecture_in(self.row)
        self.trainer.export(self.checkpoint_dir / f"epoch_{number}.json", arch)


class ModelCheckpoint(Callback):
    """Keeps the model's ``state_dict`` when it has its trained weights.

    Differs: NNI writes one after every epoch; here the model takes its weights at the end, and the
    run's own folder holds what ``resume=True`` goes on from.

    Args:
        checkpoint_dir: local folder, made if need be; the file is ``last.pth``.

    Raises:
        NotADirectoryError: something else stands there.
    """

    def __init__(self, checkpoint_dir: str | Path) -> None:
        self.checkpoint_dir = made_folder("ModelCheckpoint", checkpoint_dir)

    def on_train_end(self) -> None:
        """Write the weights."""
        torch.save(self.model.state_dict(), self.checkpoint_dir / "last.pth")


def made_folder(where: str, folder: str | Path) -> Path:
    """Return a folder, made if need be; raise NotADirectoryError where something else stands."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{where}: {path} is no folder") from None
    return path


class EpochFactors:
    """A schedule that has a factor of the learning rate for every epoch.

    Args:
        factors: of the epochs, in order.
    """

    def __init__(self, factors: Sequence[float]) -> None:
        self.factors = tuple(factors)

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor at a step of so many."""
        return self.factors[min(step * len(self.factors) // steps, len(self.factors) - 1)]


def schedule_of(callbacks: Sequence[Any] | None, epochs: int) -> Any:
    """Return the schedule that callbacks ask for; a constant rate where none does, as in NNI.

    Raises:
        TypeError: what is no callback, or one that wants to be called for batches.
        ValueError: two schedulers.
    """
    schedules = []
    for callback in callbacks or ():
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks: expected a raynas.nni.Callback, got a {type(callback).__name__}"
            )
        for name in ("on_batch_begin", "on_batch_end"):
            if hasattr(callback, name):
                raise TypeError(
                    f"callbacks: {type(callback).__name__} has {name}, and nothing is called for "
                    "batches, which other processes may train: use on_epoch_end"
                )
        if isinstance(callback, LRSchedulerCallback):
            schedules.append(EpochFactors(factors_of(callback.scheduler, epochs)))
    if len(schedules) > 1:
        raise ValueError("callbacks: expected one LRSchedulerCallback, got several")
    return schedules[0] if schedules else "constant"


def factors_of(scheduler: Any, epochs: int) -> list[float]:
    """Return the factor of the learning rate in every epoch; the scheduler is left as it was."""
    groups, state = scheduler.optimizer.param_groups, copy.deepcopy(scheduler.state_dict())
    rates, factors = [group["lr"] for group in groups], list[float]()
    base = groups[0].get("initial_lr", groups[0]["lr"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimizer takes no steps here
        for _ in range(epochs):
            factors.append(groups[0]["lr"] / base)
            scheduler.step()
    scheduler.load_state_dict(state)
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate
    return factors


class EpochNews(Progress):
    """Calls callbacks as news of epochs come.

    Args:
        callbacks: to be called.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks, self._epoch, self._begun = tuple(callbacks), 0, False

    def trained(self, row: Mapping[str, Any], epochs: int) -> None:
        """Call the ends of the epoch, and the beginnings of the next."""
        self.begin_epoch()
        for callback in self._callbacks:
            callback.row = row
            callback.on_epoch_end(self._epoch)
        self._epoch, self._begun = self._epoch + 1, False
        if self._epoch < epochs:
            self.begin_epoch()

    def begin_epoch(self) -> None:
        """Call the beginnings of the epoch, if that is not done."""
        if not self._begun:
            self._begun = True
            for callback in self._callbacks:
                callback.on_epoch_begin(self._epoch)
