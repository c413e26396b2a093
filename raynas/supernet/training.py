"""The training loop of a supernet: data, weights, their optimizer, ranks and checkpoints.

It knows no algorithm and no Ray; batches are functions of (seed, epoch, position), so that what was
stopped goes on as if it had not.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from raynas.core.arch import Value
from raynas.core.config import TrainSettings
from raynas.data.module import DataModule, Examples
from raynas.nn.mutable import space_of
from raynas.supernet.distributed import ProcessGroup
from raynas.supernet.nonfinite import first_bad
from raynas.supernet.precision import PrecisionPolicy
from raynas.supernet.protocol import Batch, Distribution, OneShot
from raynas.supernet.scoring import SubnetScorer

PROBES = 4  # random sub-networks whose mean accuracy is an epoch's validation figure


class SupernetTraining:
    """Trains a supernet by a one-shot algorithm, epoch by epoch.

    Args:
        model: the supernet, on ``device``.
        algo: says what a step does.
        data: where the splits come from.
        settings: epochs, batch size, optimizer, precision.
        seed: fixes the order of images and their augmentation.
        device: that everything lives on.

    Raises:
        ValueError: the batch is larger than the training split, or does not divide by the ranks;
            or there are fewer validation examples than ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        algo: OneShot,
        data: DataModule,
        settings: TrainSettings,
        *,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self._ranks = ProcessGroup()
        self.rank, self.world = self._ranks.rank, self._ranks.world
        self._passes = PrecisionPolicy(settings, self.device, self.world)
        self.model = self._passes.placed(model.to(self.device))
        self.settings, self.seed, self.epoch, self.step = settings, seed, 0, 0
        self._algo, self._data, self._began = algo, data, 0
        splits = data.load().to(self.device)
        self._train, self._valid = splits.train, splits.valid
        self._base_batch = settings.batch_size or data.batch_size
        self._ranks.check_batch(self._base_batch, len(self._train[1]))
        if len(self._valid[1]) < self.world:
            raise ValueError(
                f"{len(self._valid[1])} validation examples are too few for {self.world} training "
                "workers"
            )
        self._weights = list(self.model.parameters())  # a walk at every step would cost 1 %
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
            self._weights,
            settings.lr,
            settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov and settings.momentum > 0,
        )
        self._ranks.broadcast(self.model)
        self._space = space_of(self.model)
        self._scorer = SubnetScorer(
            self.model, splits.train, splits.valid, seed=seed, cache_bytes=0
        )
        algo.attach(self)

    @property
    def steps(self) -> int:
        """How many steps there will be, at the base batch size."""
        return self.settings.epochs * (len(self._train[1]) // self._base_batch)

    def run_epoch(self) -> dict[str, float]:
        """Train one epoch and return its row of the history."""
        clock, told = time.perf_counter(), defaultdict[str, list[Tensor]](list)
        self.model.train()
        self._began = self.step
        valid = self._endless()
        lr = 0.0
        for batch in self._batches(self._train, self._size(self._train), self.epoch, 0):
            lr = self._set_lr()
            metrics = self._algo.step(self._augmented(batch), valid)
            for name, value in metrics.items():  # kept as tensors: reading one would wait for it
                told[name].append(torch.as_tensor(value, device=self.device).detach())
            self.step += 1
        row = {"epoch": float(self.epoch), "step": float(self.step), "lr": lr}
        means = {name: torch.stack(values).double() for name, values in told.items()}
        row["loss"] = self._mean_loss(means.pop("loss"))
        row |= {name: self._mean(values) for name, values in means.items()}
        row |= {name: float(value) for name, value in self._algo.epoch_end().items()}
        row |= self._probe()
        self.epoch += 1
        row["duration_s"] = time.perf_counter() - clock
        return row

    @property
    def epochs(self) -> int:
        """How many epochs there will be."""
        return self.settings.epochs

    @property
    def valid_steps(self) -> int:
        """How many batches the validation split holds, at least one."""
        return len(self._valid[1]) // self._size(self._valid)

    @property
    def example(self) -> Tensor:
        """One training input, shape (1, ...)."""
        return self._train[0][:1]

    def outputs(self, batch: Batch) -> Tensor:
        """Return the model's logits for a batch."""
        return self._passes.logits(self.model, batch[0])

    def loss(
        self,
        batch: Batch,
        tensors: dict[str, Tensor] | None = None,
        *,
        smoothing: float | None = None,
        exact: bool = False,
    ) -> Tensor:
        """Return the cross-entropy of the active architecture, or mixture."""
        self._last = x, y = batch
        model = self.model if tensors is None else partial(functional_call, self.model, tensors)
        out = self._passes.logits(model, x, exact=exact)
        amount = self.settings.label_smoothing if smoothing is None else smoothing
        return nn.functional.cross_entropy(out, y, label_smoothing=amount)

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
        self._ranks.average(tensors)

    def found(self, count: int) -> list[dict[str, Value]]:
        """Return the most probable architectures; none where no distribution is learned."""
        return self._algo.top_k(count)

    def distribution(self) -> Distribution:
        """Return the probability of every option, by label; empty where none is learned."""
        return self._algo.distribution()

    def check(self, loss: Tensor) -> None:
        """Raise FloatingPointError, saying where, if a loss averaged over ranks is no number.

        On a GPU, where looking at it would wait for it, that is found at the epoch's end instead.
        """
        if self.device.type == "cpu" and not loss.isfinite():
            raise self._bad(float(loss), self.step - self._began)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the weights that going on needs."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "algo": self._algo.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "steps": self.steps,
            "torch_rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where ``state_dict`` was taken, its weights being loaded already.

        Raises:
            ValueError: that training was of another length, and so had another schedule.
        """
        if state["steps"] != self.steps:
            raise ValueError(
                f"the training to go on with was of {state['steps']} steps in all, not of "
                f"{self.steps}: use the same epochs and batch_size"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self._algo.load_state_dict(state["algo"])
        self.epoch, self.step = state["epoch"], state["step"]
        torch.set_rng_state(state["torch_rng"])

    def _batches(self, examples: Examples, size: int, epoch: int, stream: int) -> Iterator[Batch]:
        """Yield this rank's share of an epoch's batches, the incomplete last one left out."""
        x, y = examples
        order = torch.from_numpy(
            np.random.default_rng([self.seed, epoch, stream]).permutation(len(y))
        )
        for start in range(0, len(y) - size + 1, size):
            index = order[start + self.rank : start + size : self.world].to(x.device)
            yield x[index], y[index]

    def _endless(self) -> Iterator[Batch]:
        size, lap = self._size(self._valid), 0
        while True:
            yield from self._batches(self._valid, size, self.epoch, 1 + lap)
            lap += 1

    def _size(self, examples: Examples) -> int:
        """Return the batch size of this epoch: the algorithm's, in equal shares for the ranks."""
        size = min(self._algo.batch_size(self._base_batch), len(examples[1]))
        return size - size % self.world

    def _augmented(self, batch: Batch) -> Batch:
        rng = torch.Generator().manual_seed(hash((self.seed, self.step, self.rank)) & 0x7FFFFFFF)
        return self._passes.images(self._data.augment(batch[0], rng)), batch[1]

    def _set_lr(self) -> float:
        lr = self.settings.lr * self._algo.lr_scale(self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _mean(self, values: Tensor) -> float:
        self.average([values])
        return float(values.mean())

    def _mean_loss(self, losses: Tensor) -> float:
        self.average([losses])  # first: all ranks must find the same batch bad, or one waits
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            raise self._bad(float(losses[bad[0, 0]]), int(bad[0, 0]))
        return float(losses.mean())

    def _bad(self, loss: float, batch: int) -> FloatingPointError:
        with torch.no_grad():
            where = first_bad(self.model, self._last[0])
        return FloatingPointError(
            f"the loss is {loss} in epoch {self.epoch}, batch {batch}; {where}try a lower learning "
            f"rate (lr={self.settings.lr})"
        )

    def _probe(self) -> dict[str, float]:
        """Return the validation accuracy of the architecture that is found so far.

        Where none is learned: the mean of a few random ones, the same in every epoch.
        """
        rng = np.random.default_rng([self.seed, 7])
        likely = self._algo.top_k(1)
        found: list[Mapping[str, Value]] = [*likely] or [
            self._space.sample(rng) for _ in range(PROBES)
        ]
        scores = [self._scorer.score(arch) for arch in found]
        return {"accuracy": float(np.mean([score["accuracy"] for score in scores]))}
