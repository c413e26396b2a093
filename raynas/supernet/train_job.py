"""What a training is to whoever runs it: one process, or the ranks of a Ray Train job."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from raynas.core.temporary import temporary_folder
from raynas.nn.buffers import make_room
from raynas.supernet.attributes import read_attributes, write_attributes
from raynas.supernet.checkpoint import load_attributes, load_state, load_weights
from raynas.supernet.distributed import ProcessGroup
from raynas.supernet.loop import Row, TrainingLoop

CHECKPOINT_S = 30.0  # a checkpoint at most this often, and one at the end

Report = Callable[[Row, Path | None], None]


class TrainJob(Protocol):
    """A training that travels to the processes that carry it out."""

    @property
    def title(self) -> str:
        """What messages call it."""
        ...

    @property
    def folder(self) -> str:
        """Of its checkpoints, inside that of all that it leaves."""
        ...

    @property
    def columns(self) -> Mapping[str, str]:
        """Of the history, that are the same in each of its rows."""
        ...

    @property
    def epochs(self) -> int:
        """The number of the last epoch in the history."""
        ...

    @property
    def batch_size(self) -> int:
        """Of all ranks together."""
        ...

    def run(self, report: Report, *, device: torch.device | None, checkpoint: Path | None) -> None:
        """Train on one rank, and report every epoch.

        Args:
            report: takes an epoch's row of the history and, where one is due on the first rank, the
                folder of a checkpoint, which lasts until it returns.
            device: that everything lives on; None is the CPU.
            checkpoint: folder to go on from; None starts anew.
        """
        ...


def give_first_attributes(model: nn.Module) -> None:
    """Give a model of every rank what the first rank's keeps beside its weights."""
    write_attributes(model, ProcessGroup().from_first(read_attributes(model)))


def go_on(training: TrainingLoop, checkpoint: Path) -> dict[str, Any]:
    """Bring a training to where it was when a checkpoint was saved; return what was kept then."""
    weights = load_weights(checkpoint)
    make_room(training.model, weights)
    training.model.load_state_dict(weights)
    write_attributes(training.model, load_attributes(checkpoint))
    state = load_state(checkpoint)
    training.load_state_dict(state)
    return state


def run_epochs(
    training: TrainingLoop,
    epoch: Callable[[], Row],
    save: Callable[[Path], None],
    report: Report,
    *,
    every_s: float = CHECKPOINT_S,
) -> None:
    """Train to the last epoch; the model then has the average of its weights, if one is kept.

    Args:
        training: at its beginning, or where it goes on.
        epoch: trains one more epoch, and returns its row of the history.
        save: writes a checkpoint into an empty folder.
        report: as ``TrainJob.run`` takes it.
        every_s: seconds from one checkpoint to the next; the last epoch has one in any case.
    """
    saved_s = time.monotonic()
    while training.epoch < training.epochs:
        row = epoch()
        over = training.epoch == training.epochs
        if over and training.averaged is not None:
            training.averaged.write()
        due = over or time.monotonic() - saved_s > every_s
        if due and training.rank == 0:
            with temporary_folder() as folder:
                save(folder)
                report(row, folder)
        else:
            report(row, None)
        saved_s = time.monotonic() if due else saved_s
