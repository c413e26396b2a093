"""The training of one network as a job: its best weights are kept, and tested at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from raynas.core.arch import Arch
from raynas.core.metrics import probed
from raynas.core.train_settings import TrainSettings
from raynas.data.module import DataModule
from raynas.data.split import split_of
from raynas.nn.modelspace import ModelSpace
from raynas.supernet.attributes import read_attributes
from raynas.supernet.checkpoint import NETWORK_ABOUT, save_checkpoint
from raynas.supernet.loop import Row
from raynas.supernet.network_training import NetworkTraining
from raynas.supernet.snapshot import Snapshot
from raynas.supernet.train_job import (
    CHECKPOINT_S,
    Report,
    give_first_attributes,
    go_on,
    run_epochs,
)

BEST = "best"  # folder in a checkpoint
OWN_COLUMNS = ("epoch", "step", "lr", "valid_loss", "duration_s")  # of the history


@dataclass(frozen=True, kw_only=True)
class NetworkJob:
    """Trains an architecture to the end, as a ``TrainJob``.

    A row of the history has the training's ``loss`` and ``lr``, and the task's metrics on the
    validation split under their own names, their loss as ``valid_loss``.

    Attributes:
        space: builds the network, by its own seed.
        arch: of the network.
        data: that it is trained on.
        settings: of the training.
        seed: fixes the order of batches, and all that is drawn.
        initial: weights to begin with; None takes those that the network is built with.
    """

    space: ModelSpace
    arch: Arch
    data: DataModule
    settings: TrainSettings
    seed: int
    initial: Snapshot | None = None
    title = "training"
    folder = "network"

    @property
    def epochs(self) -> int:
        """The number of the last epoch."""
        return self.settings.epochs

    @property
    def batch_size(self) -> int:
        """The settings', or the data's own."""
        return self.settings.batch_size or self.data.batch_size

    @property
    def columns(self) -> dict[str, str]:
        """None: the history is of one training."""
        return {}

    def run(self, report: Report, *, device: torch.device | None, checkpoint: Path | None) -> None:
        """Train on one rank; see ``TrainJob.run``."""
        net = self.space.build(self.arch)
        if self.initial is not None:
            self.initial.write(net)
        give_first_attributes(net)
        training = NetworkTraining(net, self.data, self.settings, seed=self.seed, device=device)
        run = _Run(training, self.data)
        if checkpoint is not None:
            run.go_on(checkpoint)
        run_epochs(training, run.epoch, run.save, report, every_s=CHECKPOINT_S)


@dataclass(frozen=True)
class Best:
    """The epoch that validates best.

    Attributes:
        epoch: from 0.
        valid: metrics on the validation split.
        snapshot: weights.
        test: metrics on the test split; empty before the training's end, or if there is none.
    """

    epoch: int
    valid: Mapping[str, float]
    snapshot: Snapshot
    test: Mapping[str, float] = field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """Return the epoch, and all metrics as JSON can hold them."""
        named = {f"valid_{name}": value for name, value in self.valid.items()}
        named |= {f"test_{name}": value for name, value in self.test.items()}
        return {"best_epoch": self.epoch} | {
            name: value if math.isfinite(value) else None for name, value in named.items()
        }


class _Run:
    """One rank's training, and the best of it so far.

    Args:
        training: at its beginning.
        data: that it is on.
    """

    def __init__(self, training: NetworkTraining, data: DataModule) -> None:
        self._training, self._data = training, data
        self._best: Best | None = None

    def go_on(self, checkpoint: Path) -> None:
        """Bring the training to where it was when a checkpoint was saved."""
        best = go_on(self._training, checkpoint)["best"]
        snapshot = Snapshot.load(checkpoint / BEST)
        self._best = Best(best["epoch"], best["valid"], snapshot)

    def epoch(self) -> Row:
        """Train one more epoch and validate; after the last, test the best weights."""
        training, began_s = self._training, time.perf_counter()
        epoch, trained = training.epoch, training.run_epoch()
        with training.validated_weights():
            valid = training.measured()
            if self._is_better(valid):
                self._best = Best(epoch, valid, Snapshot.of(training.model))
        if training.epoch == training.epochs:
            self._test()
        return {
            "epoch": float(epoch),
            "step": float(training.step),
            **trained,
            **{probed(name): value for name, value in valid.items()},
            "duration_s": time.perf_counter() - began_s,
        }

    def _is_better(self, valid: Mapping[str, float]) -> bool:
        """Return whether metrics beat the best ones; those that are no numbers beat none."""
        if self._best is None:
            return True
        metric, goal = self._data.task.objective
        sign = 1.0 if goal == "max" else -1.0
        new, old = sign * valid[metric], sign * self._best.valid[metric]
        return new > old or math.isnan(old)

    def _test(self) -> None:
        test = self._data.load().test
        if test is None:
            return
        assert self._best is not None
        with self._best.snapshot.applied(self._training.model):
            self._best = replace(self._best, test=self._training.measured(split_of(test)))

    def save(self, folder: Path) -> None:
        """Write a checkpoint: the last weights, the best ones, and what going on needs."""
        training, best = self._training, self._best
        assert best is not None
        (folder / BEST).mkdir()
        best.snapshot.save(folder / BEST)
        kept = {"best": {"epoch": best.epoch, "valid": dict(best.valid)}}
        save_checkpoint(
            folder,
            training.model,
            training.state_dict() | kept,
            {"epoch": training.epoch, "epochs": training.epochs, **best.about()},
            read_attributes(training.model),
            about_file=NETWORK_ABOUT,
        )
