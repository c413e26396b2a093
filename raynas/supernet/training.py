"""The training of a supernet: what it lends to the algorithm that says what a step does."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from raynas.core.arch import Value
from raynas.core.metrics import probed
from raynas.core.nest import Nest
from raynas.core.progress import NOTES
from raynas.core.train_settings import TrainSettings
from raynas.data.module import DataModule
from raynas.data.split import Split
from raynas.nn.mutable import space_of
from raynas.supernet.distillation import Distills
from raynas.supernet.loop import Row, TrainingLoop
from raynas.supernet.nonfinite import bad_targets, first_bad
from raynas.supernet.protocol import Batch, Distribution, Metric, Metrics, OneShot
from raynas.supernet.scoring import SubnetScorer
from raynas.supernet.streams import stream
from raynas.tasks.task import Task

PROBES = 4  # random sub-networks whose mean is an epoch's validation figure
LAP = 1  # the stream of the validation split's order; that of its next lap follows, and so on
BEYOND_LAPS = 2**31


class SupernetTraining(TrainingLoop):
    """Trains a supernet by a one-shot algorithm, epoch by epoch.

    Args:
        model: the supernet.
        algo: says what a step does.
        data: where the splits come from.
        settings: epochs, batch size, optimizer, precision.
        seed: fixes the order of images, their augmentation, and what layers such as dropout draw.
        device: that everything lives on; None is the CPU.
        inherited: whether the model's weights are those of an earlier training.

    Raises:
        ValueError: the batch is larger than the training split, or does not divide by the ranks;
            or there are fewer validation examples than ranks.
    """

    augmentation_stream = BEYOND_LAPS
    layer_stream = BEYOND_LAPS + 1
    attach_stream = BEYOND_LAPS + 2
    reading_stream = BEYOND_LAPS + 3

    def __init__(
        self,
        model: nn.Module,
        algo: OneShot,
        data: DataModule,
        settings: TrainSettings,
        *,
        seed: int = 0,
        device: torch.device | None = None,
        inherited: bool = False,
    ) -> None:
        super().__init__(model, data, settings, seed=seed, device=device or torch.device("cpu"))
        self.inherited = inherited
        self._algo = algo
        if len(self._valid) < self._group.divisor:
            raise ValueError(
                f"{len(self._valid)} validation examples are too few for {self._group.divisor} "
                "training workers"
            )
        self._space = space_of(self.model)
        self._scorer = SubnetScorer(
            self.model,
            self._train,
            self._valid,
            seed=seed,
            task=self._task,
            cache_bytes=0,
            channels_last=self.channels_last,
        )
        with self._own_random_state(0, self.attach_stream):
            algo.attach(self)

    @property
    def valid_steps(self) -> int:
        """How many batches the validation split holds, at least one."""
        return len(self._valid) // self._size(self._valid)

    @property
    def example(self) -> Nest:
        """The inputs of one training example, shape (1, ...)."""
        return self._example(1)

    def reward(self, batch: Batch, metric: Metric | None = None) -> Tensor:
        """Return what the active architecture is worth on a batch, shape ().

        Args:
            batch: inputs and targets.
            metric: in place of the task's objective; see ``Training.reward``.
        """
        self._last = batch
        inputs, targets = batch
        out = self._precision.run(self.model, self._task.inputs(inputs, targets))
        output = self._task.output(out)
        if callable(metric):
            worth = torch.as_tensor(metric(output, targets), device=self.device)
            if worth.numel() != 1:
                shape = tuple(worth.shape)
                raise ValueError(f"the reward's function must return one number, got shape {shape}")
            return worth.detach().double().reshape(())
        return self._rewarding(metric).reward(output, targets)

    def check_reward(self, metric: Metric | None) -> None:
        """Raise ValueError, naming the nearest, if the task measures no such metric."""
        if not callable(metric):
            self._rewarding(metric)

    def _rewarding(self, metric: str | None) -> Task:
        """Return the task with a metric as its objective."""
        return self._task if metric is None else self._task.with_own(objective=metric)

    def loss(
        self,
        batch: Batch,
        tensors: dict[str, Tensor] | None = None,
        *,
        smoothing: float | None = None,
        exact: bool = False,
        taught: Distills | None = None,
    ) -> Tensor:
        """Return the task's loss of the active architecture, or mixture.

        That of auxiliary outputs is added with the settings' ``aux_weight``.
        """
        self._last = batch

        def model(*args: Any, **keywords: Any) -> Any:
            if tensors is None:
                return self.model(*args, **keywords)
            return functional_call(self.model, tensors, args, keywords)

        return self._loss(model, batch, smoothing=smoothing, exact=exact, taught=taught)

    @torch.no_grad()
    def outputs(self, net: nn.Module, batch: Batch) -> Any:
        """Return what a network of the task's outputs gives for a batch, without gradients."""
        return self._task.output(self._precision.run(net, self._task.inputs(*batch)))

    def top_k(self, count: int) -> list[dict[str, Value]]:
        """Return the most probable architectures; none where no distribution is learned."""
        return self._algo.top_k(count)

    def distribution(self) -> Distribution:
        """Return the probability of every option, by label; empty where none is learned."""
        return self._algo.distribution()

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the weights that going on needs."""
        return super().state_dict() | {"algo": self._algo.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where ``state_dict`` was taken, its weights being loaded already."""
        super().load_state_dict(state)
        self._algo.load_state_dict(state["algo"])

    def _run_epoch(self) -> Row:
        began_s = time.perf_counter()
        means = self._train_batches()
        row: Row = {"epoch": float(self.epoch), "step": float(self.step), "lr": self.lr}
        row |= means
        row |= {name: float(value) for name, value in self._algo.epoch_end().items()}
        notes = self._algo.notes()
        row[self._probed] = self._probe()
        row["duration_s"] = time.perf_counter() - began_s
        return row | ({NOTES: "\n".join(notes)} if notes else {})

    def _train_batches(self) -> dict[str, float]:
        """Train on an epoch's batches and return the mean of every metric."""
        series, valid = defaultdict[str, list[Tensor]](list), self._valid_batches()
        for batch in self._training_batches(self._size(self._train)):
            metrics: Metrics = self._algo.step(batch, valid)
            for name, value in metrics.items():  # kept as tensors: reading one would wait for it
                series[name].append(torch.as_tensor(value, device=self.device).detach())
        means = {"loss": self._mean_loss(series.pop("loss"))}
        return means | {name: self._mean(values) for name, values in series.items()}

    def _mean(self, values: Sequence[Tensor]) -> float:
        over_ranks = torch.stack(list(values)).double()
        self.average([over_ranks])
        return float(over_ranks.mean())

    def _valid_batches(self) -> Iterator[Batch]:
        """Yield batches of the validation split, lap after lap."""
        size, number = self._size(self._valid), LAP
        while True:
            yield from self._batches(self._valid, size, self.epoch, number)
            number += 1

    def _size(self, split: Split) -> int:
        """Return the batch size of this epoch: the algorithm's, in equal shares for the ranks."""
        size = min(self._algo.batch_size(self._base_batch), len(split))
        return size - size % self._group.divisor

    @property
    def _probed(self) -> str:
        """Column of the history for what is validated."""
        return probed(self._task.objective[0])

    def _lr_scale(self) -> float:
        return self._algo.lr_scale(self.step, self.steps)

    def _loss_error(self, loss: float, batch: int) -> FloatingPointError:
        with torch.no_grad():
            inputs, targets = self._last
            where = bad_targets(targets) or first_bad(
                self.model, self._task.inputs(inputs, targets)
            )
        return FloatingPointError(
            f"the loss is {loss} in epoch {self.epoch}, batch {batch}; {where}try a lower learning "
            f"rate (lr={self.settings.lr})"
        )

    def _probe(self) -> float:
        """Return what the task goes by, of the architecture that is the best so far.

        Where none is learned: the mean of those that the algorithm has trained so far, or of a few
        random ones, the same in every epoch.
        """
        rng = stream(self.seed, 7)
        archs: list[Mapping[str, Value]] = [*(self._algo.top_k(1) or self._algo.probes(rng))]
        archs = archs or [self._space.sample(rng) for _ in range(PROBES)]
        metric, _ = self._task.objective
        return float(np.mean([self._scorer.score(arch)[metric] for arch in archs]))
