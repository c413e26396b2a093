"""What all one-shot trainers share: they ask ``raynas.search``, and give back what it found."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypedDict

from torch import nn

import raynas
from raynas.core.arch import Arch, Value
from raynas.core.config import RayConfig
from raynas.data.tensor_data import TensorData
from raynas.nn.mutable import activate
from raynas.nni.callbacks import Callback, EpochNews
from raynas.nni.epoch_architecture import relaxed_architecture
from raynas.nni.fixed import fixed_architecture, write_fixed_architecture
from raynas.nni.keywords import KeywordsChecked
from raynas.nni.problem import (
    MetricsFunction,
    ModelCopies,
    metric_columns,
    ray_for,
    task_for,
)


class RunOptions(TypedDict, total=False):
    """What every trainer takes besides NNI's arguments, by keyword.

    Attributes:
        ray: how to use Ray, as for ``raynas.search``; ``{"inline": True}`` uses none.
        seed: fixes the run; 0 by default.
        out: folder of the run; ``runs/<model>-<algorithm>-<n>`` by default.
        resume: go on with what is in ``out``.
        task: as for ``raynas.search``; by default a classification where targets are classes, else
            what the loss says.
        calibration_images: of the training split, with which BatchNorm is recalibrated when the
            ten most probable architectures are scored.
    """

    ray: RayConfig | Mapping[str, Any] | None
    seed: int
    out: str | None
    resume: bool
    task: Any
    calibration_images: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a trainer asks for.

    Attributes:
        model: whose choices are searched.
        splits: train, valid and maybe test, as ``raynas.search`` takes them.
        epochs: of the training.
        options: of algorithm and training.
        loss: a function of (outputs, targets); None is the task's.
        metrics: a function of (outputs, targets) that returns a dict.
        reward: a function of (outputs, targets) that returns a number, for another column.
        workers: processes that read data that do not fit into memory.
        device: ``cpu``, ``cuda`` or None.
        ranks: GPUs that train together.
        callbacks: called after every epoch.
    """

    model: nn.Module
    splits: Sequence[Any]
    epochs: int
    options: Mapping[str, Any]
    loss: Any = None
    metrics: MetricsFunction | None = None
    reward: MetricsFunction | None = None
    workers: int | None = None
    device: Any = None
    ranks: int = 1
    callbacks: Sequence[Callback] = field(default_factory=tuple)


class OneShotTrainer(KeywordsChecked):
    """Trains a supernet by the search that its class names, and exports what that found.

    After ``train`` the model has the supernet's weights and runs the architecture that was found.
    Before, it is only copied.

    Args:
        job: what is asked for.
        extras: see ``RunOptions``.

    Attributes:
        algo: the algorithm's registered name.
        learns_architecture: whether training prefers an architecture after every epoch.
        model: as given.
        result: of the search, a ``raynas.Result``; None before ``train``.

    Raises:
        TypeError: a keyword that is none, or an argument of another kind.
        ValueError: metrics that fail, or data that cannot be used.
    """

    algo: ClassVar[str]
    learns_architecture: ClassVar[bool] = True
    more_keywords: ClassVar[Iterable[str]] = tuple(RunOptions.__annotations__)

    def __init__(self, job: Job, extras: Mapping[str, Any]) -> None:
        self.model = job.model
        self.result: raynas.Result | None = None
        self._space = ModelCopies(job.model)
        self._callbacks = tuple(job.callbacks)
        self._arguments = search_arguments(job, extras)
        for callback in self._callbacks:
            callback.build(self.model, None, self)

    def train(self) -> None:
        """Search; see ``raynas.search`` for what it raises."""
        self.result = raynas.search(
            self._space, self.algo, **self._arguments, progress=self._news()
        )
        self._take_weights(self.result)

    def _news(self) -> EpochNews | None:
        """Return what calls the callbacks; None shows progress as usual."""
        if not self._callbacks:
            return None
        news = EpochNews(self._callbacks)
        news.begin_epoch()
        return news

    def fit(self) -> None:
        """As ``train``: NNI 2 has this name."""
        self.train()

    def validate(self) -> dict[str, float]:
        """Return the metrics of what was found, with the supernet's weights.

        They are those of the test split (``dataset_valid``) if there is one, else of what the
        architecture was learned on.

        Raises:
            LookupError: nothing was trained.
        """
        result = self._trained()
        (row,) = result.rebuilt.rescore([self.architecture])
        split = "test_" if any(name.startswith("test_") for name in row) else "valid_"
        return {k.removeprefix(split): v for k, v in row.items() if k.startswith(split)}

    @property
    def architecture(self) -> Arch:
        """The architecture that was derived.

        Raises:
            LookupError: nothing was trained.
        """
        trials = self._trained().trials.sort_values("trial")
        return Arch.from_json(trials["arch"].iloc[0])

    def export(
        self, file: str | Path | None = None, arch: Mapping[str, Value] | None = None
    ) -> dict[str, Any]:
        """Return the architecture that was found as NNI writes it, and write it to a JSON file.

        Args:
            file: local path; None writes none.
            arch: another one, such as ``trainer.result.best.arch``, the best scored of ten.

        Raises:
            LookupError: nothing was trained.
            FileNotFoundError: there is no such folder.
        """
        chosen = self.architecture if arch is None else arch
        if file is None:
            return fixed_architecture(self.model, chosen)
        return write_fixed_architecture(file, self.model, chosen)

    def architecture_in(self, row: Mapping[str, Any]) -> Mapping[str, Value]:
        """Return what was preferred when an epoch ended.

        Args:
            row: of the history.
        """
        return relaxed_architecture(self.model, row)

    def _trained(self) -> raynas.Result:
        if self.result is None:
            raise LookupError(f"{type(self).__name__}: call train() first")
        return self.result

    def _take_weights(self, result: raynas.Result) -> None:
        self.model.load_state_dict(result.rebuilt.supernet_weights())
        activate(self.model, self.architecture)
        for callback in self._callbacks:
            callback.on_train_end()


def search_arguments(job: Job, extras: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``raynas.search`` is called with, but for space and algorithm."""
    data = TensorData(tuple(job.splits), loader_workers=job.workers).in_float32()
    others = {name: extras[name] for name in ("seed", "out", "resume") if name in extras}
    images = extras.get("calibration_images")
    evaluator = None if images is None else ("shared", {"calibration_images": images})
    return {
        "data": data,
        "task": task_for(extras.get("task"), data),
        "loss": job.loss,
        "metrics": metric_columns(job.metrics, job.reward, job.model, data),
        "epochs": job.epochs,
        "options": dict(job.options),
        "ray": ray_for(job.device, extras.get("ray"), job.ranks),
        "evaluator": evaluator,
        **others,
    }


def warn_of_log_frequency(log_frequency: int | None) -> None:
    """Say that rows are logged once an epoch, where steps were asked for."""
    if log_frequency is not None:
        text = f"log_frequency={log_frequency}: progress is told once an epoch, not by steps"
        warnings.warn(text, UserWarning, stacklevel=3)
