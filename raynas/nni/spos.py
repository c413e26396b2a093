"""NNI's trainers of Single Path One-Shot, and the evolution that searches what they trained."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Unpack

import torch
from torch import nn

import raynas
from raynas.core.constraints import Constraints
from raynas.nni.callbacks import Callback, schedule_of
from raynas.nni.checks import check_epochs, check_loss
from raynas.nni.keywords import KeywordsChecked
from raynas.nni.mutators import SPOSSupernetTrainingMutator, checked_mutator
from raynas.nni.optimizers import optimizer_options
from raynas.nni.problem import MetricsFunction, parts
from raynas.nni.trainer import Job, OneShotTrainer, RunOptions, warn_of_log_frequency


class SPOSSupernetTrainer(OneShotTrainer):
    """A supernet by the arguments of NNI 1's trainer; see ``raynas.algorithms.SPOS``.

    ``SPOSEvolution().search(trainer)`` searches it; until then there is nothing to export. The
    learning rate is constant unless an ``LRSchedulerCallback`` says otherwise.

    Args:
        model: with choices in it; it has the weights of the one that was found after the search.
        loss: a function of (outputs, targets).
        metrics: a function of (outputs, targets) that returns a dict of numbers, for whole splits;
            one number will do and is called ``metric``.
        optimizer: of the model's weights.
        num_epochs: over the training batches.
        train_loader: batches to train on; a dataset will do.
        valid_loader: that architectures are scored on.
        mutator: an ``SPOSSupernetTrainingMutator``.
        batch_size: of training, where ``train_loader`` is a dataset; a loader has its own.
        workers: processes that read data that do not fit into memory; likewise.
        device: ``cpu``, ``cuda`` or None.
        log_frequency: not by steps but once an epoch is there progress, as a warning says.
        callbacks: of ``raynas.nni.Callback``.
        extras: see ``raynas.nni.RunOptions``.

    Attributes:
        supernet: path of what was trained; None before ``train``.

    Raises:
        TypeError, ValueError: an argument of another kind, or one that cannot be kept.
    """

    algo: ClassVar[str] = "spos"
    learns_architecture: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        loss: Any,
        metrics: MetricsFunction | None,
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        train_loader: Any,
        valid_loader: Any,
        mutator: Any = None,
        batch_size: int = 64,
        workers: int = 4,
        device: Any = None,
        log_frequency: int | None = None,
        callbacks: Sequence[Callback] | None = None,
        **extras: Unpack[RunOptions],
    ) -> None:
        warn_of_log_frequency(log_frequency)
        check_epochs("num_epochs", num_epochs)
        check_loss("loss", loss)
        paths: SPOSSupernetTrainingMutator = checked_mutator(mutator, SPOSSupernetTrainingMutator)
        loaded = isinstance(train_loader, torch.utils.data.DataLoader)
        options = {
            **optimizer_options(optimizer, model),
            **paths.options,
            "warm_start_steps": 0,
            "schedule": schedule_of(callbacks, num_epochs),
            **({} if loaded else {"batch_size": batch_size}),
        }
        job = Job(
            model=model,
            splits=parts(train_loader, valid_loader),
            epochs=num_epochs,
            options=options,
            loss=loss,
            metrics=metrics,
            workers=None if loaded else workers,
            device=device,
            callbacks=callbacks or (),
        )
        super().__init__(job, extras)
        self.supernet: str | None = None

    def train(self) -> None:
        """Train the supernet; see ``raynas.train_supernet`` for what it raises."""
        arguments = {name: v for name, v in self._arguments.items() if name != "evaluator"}
        self.supernet = raynas.train_supernet(
            self._space, self.algo, **arguments, progress=self._news()
        )

    def searched_by(
        self,
        algo: str,
        *,
        trials: int,
        options: Mapping[str, Any],
        constraints: Constraints | None = None,
        out: str | None = None,
    ) -> raynas.Result:
        """Search the supernet by a sampler.

        Args:
            algo: the sampler's registered name.
            trials: architectures that are scored.
            options: of the sampler.
            constraints: as for ``raynas.search``.
            out: folder of this search.

        Raises:
            LookupError: nothing was trained.
        """
        if self.supernet is None:
            raise LookupError(f"{type(self).__name__}: call train() first")
        names = ("data", "task", "loss", "metrics", "ray", "evaluator", "seed")
        own = {name: self._arguments[name] for name in names if name in self._arguments}
        self.result = raynas.search(
            self._space,
            algo,
            supernet=self.supernet,
            trials=trials,
            options=dict(options),
            constraints=constraints,
            out=out,
            **own,
        )
        self._take_weights(self.result)
        return self.result

    @property
    def architecture(self) -> Any:
        """The best architecture of the search.

        Raises:
            LookupError: nothing was searched.
        """
        return self._trained().best.arch

    def _trained(self) -> raynas.Result:
        if self.result is None:
            raise LookupError(
                f"{type(self).__name__} trains weights alone: search them, "
                "raynas.nni.SPOSEvolution().search(trainer)"
            )
        return self.result


class SinglePathTrainer(SPOSSupernetTrainer):
    """A supernet by the arguments of NNI 2's trainer, which names data sets and has no mutator.

    Args:
        model: as for ``SPOSSupernetTrainer``, and so are those not listed.
        loss: likewise.
        metrics: likewise.
        optimizer: likewise.
        num_epochs: likewise.
        dataset_train: to train on.
        dataset_valid: that architectures are scored on.
        batch_size: of training.
        workers: likewise.
        device: likewise.
        log_frequency: likewise.
        extras: see ``raynas.nni.RunOptions``.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Any,
        metrics: MetricsFunction | None,
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        dataset_train: Any,
        dataset_valid: Any,
        batch_size: int = 64,
        workers: int = 4,
        device: Any = None,
        log_frequency: int | None = None,
        **extras: Unpack[RunOptions],
    ) -> None:
        super().__init__(
            model,
            loss,
            metrics,
            optimizer,
            num_epochs,
            dataset_train,
            dataset_valid,
            batch_size=batch_size,
            workers=workers,
            device=device,
            log_frequency=log_frequency,
            **extras,
        )


class SPOSEvolution(KeywordsChecked):
    """The evolution that searches a trained supernet; see ``raynas.algorithms``' ``evolution``.

    Differs: children are both crossed and mutated, one by one, and each may breed at once;
    ``num_crossover`` and ``num_mutation`` count no children of their own, as a warning says where
    they differ from the usual 25.

    Args:
        max_epochs: generations.
        num_select: architectures that breed, all of a smaller population.
        num_population: of a generation.
        m_prob: chance of each decision to change.
        num_crossover: 25.
        num_mutation: 25.
    """

    def __init__(
        self,
        max_epochs: int = 20,
        num_select: int = 10,
        num_population: int = 50,
        m_prob: float = 0.1,
        num_crossover: int = 25,
        num_mutation: int = 25,
    ) -> None:
        if (num_crossover, num_mutation) != (25, 25):
            text = (
                f"num_crossover={num_crossover} and num_mutation={num_mutation}: every child is "
                "crossed, and mutated by m_prob"
            )
            warnings.warn(text, UserWarning, stacklevel=2)
        self.trials = max_epochs * num_population
        self.options = {
            "population": num_population,
            "selected": min(num_select, num_population),
            "mutation_prob": m_prob,
        }

    def search(
        self,
        trainer: SPOSSupernetTrainer,
        *,
        constraints: Constraints | None = None,
        out: str | None = None,
    ) -> raynas.Result:
        """Search a supernet; the trainer then exports the best.

        Args:
            trainer: that has trained it.
            constraints: as for ``raynas.search``, such as ``{"macs": (290e6, 360e6)}``.
            out: folder of the search; ``runs/<model>-evolution-<n>`` by default.

        Raises:
            LookupError: nothing was trained.
        """
        return trainer.searched_by(
            "evolution",
            trials=self.trials,
            options=self.options,
            constraints=constraints,
            out=out,
        )
