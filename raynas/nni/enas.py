"""NNI's trainer of ENAS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Unpack

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from raynas.core.arch import Value
from raynas.nni.callbacks import Callback, schedule_of
from raynas.nni.checks import check_epochs, check_loss
from raynas.nni.darts import one_dataset
from raynas.nni.epoch_architecture import likeliest_architecture
from raynas.nni.mutators import EnasMutator, checked_mutator
from raynas.nni.optimizers import optimizer_options
from raynas.nni.problem import REWARD, MetricsFunction, divided, parts
from raynas.nni.trainer import Job, OneShotTrainer, RunOptions, warn_of_log_frequency

CANDIDATES = 10  # draws that are compared at an epoch's end, at least


class EnasTrainer(OneShotTrainer):
    """ENAS by the arguments of NNI's trainer; see ``raynas.algorithms.ENAS``.

    The last tenth of ``dataset_train`` gives rewards, the others train weights, as in NNI. An epoch
    has ``child_steps`` batches, in as many passes over these as it takes. The learning rate is
    constant unless an ``LRSchedulerCallback`` says otherwise.

    Differs: what is exported is the best of ten draws at the last epoch's end, or of
    ``test_arc_per_epoch`` where these are more, and not one draw; the controller's baseline begins
    at the first reward.

    Args:
        model: with choices in it; it has the trained weights afterwards.
        loss: a function of (outputs, targets); of auxiliary outputs as well.
        metrics: a function of (outputs, targets) that returns a dict of numbers, for whole splits;
            one number will do and is called ``metric``.
        reward_function: a function of (outputs, targets) that returns a number, for a batch.
        optimizer: of the model's weights.
        num_epochs: of ``child_steps`` batches each.
        dataset_train: of which a tenth gives rewards.
        dataset_valid: that ``validate`` takes.
        mutator: an ``EnasMutator``.
        batch_size: of all splits.
        workers: processes that read data.
        device: ``cpu``, ``cuda`` or None.
        log_frequency: not by steps but once an epoch is there progress, as a warning says.
        callbacks: of ``raynas.nni.Callback``.
        entropy_weight: of the entropy in the reward.
        skip_weight: of the skip penalty.
        baseline_decay: weight of the past in the moving average of rewards.
        child_steps: batches of an epoch; None is one pass.
        mutator_lr: of the controller.
        mutator_steps_aggregate: draws whose gradients make one step of the controller.
        mutator_steps: of the controller in an epoch.
        aux_weight: of the loss of auxiliary outputs.
        test_arc_per_epoch: draws that are compared at an epoch's end, if these are more than ten.
        dataset: another word for ``dataset_train``, as in NNI 2.
        grad_clip: largest norm of the weights' gradient; None does not clip.
        extras: see ``raynas.nni.RunOptions``.

    Raises:
        TypeError, ValueError: an argument of another kind, or one that cannot be kept.
    """

    algo: ClassVar[str] = "enas"

    def __init__(
        self,
        model: nn.Module,
        loss: Any,
        metrics: MetricsFunction | None,
        reward_function: MetricsFunction,
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        dataset_train: Any = None,
        dataset_valid: Any = None,
        mutator: Any = None,
        batch_size: int = 64,
        workers: int = 4,
        device: Any = None,
        log_frequency: int | None = None,
        callbacks: Sequence[Callback] | None = None,
        entropy_weight: float = 0.0001,
        skip_weight: float = 0.8,
        baseline_decay: float = 0.999,
        child_steps: int | None = 500,
        mutator_lr: float = 0.00035,
        mutator_steps_aggregate: int = 20,
        mutator_steps: int = 50,
        aux_weight: float = 0.4,
        test_arc_per_epoch: int = 1,
        *,
        dataset: Any = None,
        grad_clip: float | None = 5.0,
        **extras: Unpack[RunOptions],
    ) -> None:
        warn_of_log_frequency(log_frequency)
        check_epochs("num_epochs", num_epochs)
        check_loss("loss", loss)
        controller: EnasMutator = checked_mutator(mutator, EnasMutator)
        examples = one_dataset(dataset_train, dataset)
        train, rewarding = divided(examples, len(examples) // 10)
        if child_steps is not None:
            train = _so_many_batches(train, child_steps, batch_size, workers)
        options = {
            **optimizer_options(optimizer, model),
            **controller.options,
            "reward": f"{REWARD}:max",
            "entropy_weight": entropy_weight,
            "skip_weight": skip_weight,
            "baseline_decay": baseline_decay,
            "controller_lr": mutator_lr,
            "controller_betas": (0.9, 0.999),
            "controller_eps": 1e-8,
            "samples": mutator_steps_aggregate,
            "controller_steps": mutator_steps,
            "candidates": max(CANDIDATES, test_arc_per_epoch),
            "aux_weight": aux_weight,
            "batch_size": batch_size,
            "clip": grad_clip,
            "schedule": schedule_of(callbacks, num_epochs),
        }
        job = Job(
            model=model,
            splits=parts(train, rewarding, dataset_valid),
            epochs=num_epochs,
            options=options,
            loss=loss,
            metrics=metrics,
            reward=reward_function,
            workers=workers,
            device=device,
            callbacks=callbacks or (),
        )
        super().__init__(job, extras)

    def architecture_in(self, row: Mapping[str, Any]) -> Mapping[str, Value]:
        """Return the most probable options when an epoch ended.

        Args:
            row: of the history.
        """
        return likeliest_architecture(self.model, row)


def _so_many_batches(dataset: Any, steps: int, batch_size: int, workers: int) -> Any:
    """Return a loader whose epoch has so many batches, pass after pass over a dataset."""
    if steps < 1:
        raise ValueError(f"child_steps must be at least 1, got {steps}")
    sampler = RandomSampler(dataset, num_samples=steps * batch_size)
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers)
