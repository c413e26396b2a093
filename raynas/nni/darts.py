"""NNI's trainer of DARTS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import torch
from torch import nn

from raynas.nni.callbacks import Callback, schedule_of
from raynas.nni.checks import check_epochs, check_loss
from raynas.nni.mutators import DartsMutator, checked_mutator
from raynas.nni.optimizers import optimizer_options
from raynas.nni.problem import MetricsFunction, halved, parts
from raynas.nni.trainer import Job, OneShotTrainer, RunOptions, warn_of_log_frequency


class DartsTrainer(OneShotTrainer):
    """DARTS by the arguments of NNI's trainer; see ``raynas.algorithms.DARTS``.

    The first half of ``dataset_train`` trains weights, the second one logits (by Adam with betas
    0.5 and 0.999 and weight decay 1e-3), as in NNI. The learning rate is constant unless an
    ``LRSchedulerCallback`` says otherwise.

    Differs: the optimizer is a pattern for the one that trains a copy of the model; the best of the
    ten most probable architectures is scored as well (``trainer.result``).

    Args:
        model: with choices in it; it has the trained weights afterwards.
        loss: a function of (outputs, targets).
        metrics: a function of (outputs, targets) that returns a dict of numbers, for whole splits;
            one number will do and is called ``metric``.
        optimizer: of the model's weights.
        num_epochs: over the first half.
        dataset_train: that is halved.
        dataset_valid: that ``validate`` takes.
        mutator: a ``DartsMutator``.
        batch_size: of both halves.
        workers: processes that read data that do not fit into memory.
        device: ``cpu``, ``cuda`` or None.
        log_frequency: not by steps but once an epoch is there progress, as a warning says.
        callbacks: of ``raynas.nni.Callback``.
        arc_learning_rate: of the logits.
        unrolled: second order, for SGD alone.
        dataset: another word for ``dataset_train``, as in NNI 2.
        grad_clip: largest norm of the weights' gradient; None does not clip.
        extras: see ``raynas.nni.RunOptions``.

    Raises:
        TypeError, ValueError: an argument of another kind, or one that cannot be kept.
    """

    algo: ClassVar[str] = "darts"

    def __init__(
        self,
        model: nn.Module,
        loss: Any,
        metrics: MetricsFunction | None,
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
        arc_learning_rate: float = 3e-4,
        unrolled: bool = False,
        *,
        dataset: Any = None,
        grad_clip: float | None = 5.0,
        **extras: Unpack[RunOptions],
    ) -> None:
        warn_of_log_frequency(log_frequency)
        check_epochs("num_epochs", num_epochs)
        check_loss("loss", loss)
        checked_mutator(mutator, DartsMutator)
        examples = one_dataset(dataset_train, dataset)
        splits = parts(*halved(examples), dataset_valid)
        options = {
            **optimizer_options(optimizer, model),
            "alpha_lr": arc_learning_rate,
            "unrolled": unrolled,
            "batch_size": batch_size,
            "clip": grad_clip,
            "schedule": schedule_of(callbacks, num_epochs),
        }
        job = Job(
            model=model,
            splits=splits,
            epochs=num_epochs,
            options=options,
            loss=loss,
            metrics=metrics,
            workers=workers,
            device=device,
            callbacks=callbacks or (),
        )
        super().__init__(job, extras)


def one_dataset(dataset_train: Any, dataset: Any) -> Any:
    """Return the dataset that is given under one of two words.

    Raises:
        TypeError: it is given under both, or neither; or it has no length.
    """
    if (dataset_train is None) == (dataset is None):
        raise TypeError("dataset_train: give the training data once, as this or as dataset=")
    given = dataset if dataset_train is None else dataset_train
    if not hasattr(given, "__len__"):
        kind = type(given).__name__
        raise TypeError(f"dataset_train: expected a map-style dataset with a length, got a {kind}")
    return given
