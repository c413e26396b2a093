"""The training of one architecture to its end: checked beforehand, run, and its files written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raynas.core.config import RayConfig, ray_config, validated
from raynas.core.errors import Interrupted, StoreMismatch
from raynas.core.file_names import file_name
from raynas.core.locations import under
from raynas.core.progress import Progress
from raynas.core.rank_counts import equal_shares
from raynas.core.retrain_config import RetrainConfig
from raynas.core.temporary import temporary_folder
from raynas.core.train_settings import TrainSettings
from raynas.core.versions import versions
from raynas.setup.fit import check_batch, check_network, check_smoothing
from raynas.setup.resolve import mapping
from raynas.setup.resolve_task import task_spec
from raynas.setup.retrain_request import RetrainRequest, Subject
from raynas.setup.runner import runner_of
from raynas.storage.json_files import write_json
from raynas.storage.local_copies import local_checkpoint
from raynas.storage.retrain_folder import (
    BEST,
    METRICS,
    MODEL,
    NETWORK,
    RETRAIN,
    RETRAINED,
    fresh_retraining,
    read_metrics,
)
from raynas.storage.run_folder import Folder, absolute, fresh, without_keys
from raynas.storage.run_lock import RunLock
from raynas.storage.tables import read_history

if TYPE_CHECKING:
    from torch import nn

    from raynas.data.module import DataModule
    from raynas.supernet.network_job import NetworkJob

EPOCHS = 100  # where nothing is said
_IMPORT_PATH = re.compile(r"[\w.]+:[\w.<>]+")  # what is recorded of a teacher that is a module


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """A training that may begin, or go on.

    Attributes:
        config: of it.
        subject: what is trained.
        settings: how.
        out: folder that is claimed for it.
    """

    config: RetrainConfig
    subject: Subject
    settings: TrainSettings
    out: str

    def run(self, progress: Progress) -> None:
        """Train to the last epoch, and write what is left of it.

        Raises:
            RuntimeError: the training failed; the message is its own.
            Interrupted: Ctrl-C; the last checkpoint is in the folder.
        """
        epochs = self.settings.epochs
        try:
            if epochs_done(self.out) >= epochs:
                progress.phase(f"nothing is left to do: {epochs} of {epochs} epochs are done")
            else:
                with runner_of(self.config.ray) as runner:
                    runner.train(self._job(), self.out, progress)
            finish(self.out)
        except KeyboardInterrupt:
            raise Interrupted(
                f"training; go on with out={self.out!r}, resume=True (--out {self.out} --resume)"
            ) from None

    def _job(self) -> NetworkJob:
        from raynas.supernet.network_job import NetworkJob
        from raynas.supernet.snapshot import Snapshot

        subject, initial = self.subject, None
        if subject.inherited is not None and epochs_done(self.out) == 0:
            initial = Snapshot.of(subject.inherited.network())
        return NetworkJob(
            space=subject.model_space,
            arch=subject.arch,
            data=subject.data.module,
            settings=self.settings,
            seed=subject.seed,
            initial=initial,
        )


def prepared(
    subject: Subject,
    request: RetrainRequest,
    before: RetrainConfig | None,
    out: str | None,
    lock: RunLock,
) -> Retraining:
    """Return a training of which all is checked that can be known before it, its folder claimed.

    Args:
        subject: what is trained.
        request: how, completed by what an earlier start had.
        before: configuration of that start; None if there was none.
        out: folder or URI; None takes a fresh one, in the run's or in ``runs/``.
        lock: takes the folder before anything is written there.

    Raises:
        FolderInUse: another process writes to the folder.
        ValueError, TypeError: an option is wrong, or does not go with network or data.
        StoreMismatch: the earlier start was of another training.
        OSError: the folder cannot be written.
    """
    settings = recipe(request.options, request.epochs)
    ray = ray_config(request.ray)
    config = _config(subject, settings, ray)
    if before is not None and (difference := before.difference(config)) is not None:
        raise StoreMismatch(
            f"{out} was trained with {difference}; resume with the same, or choose another folder"
        )
    if out is None or epochs_done(out) < settings.epochs:
        _check(subject, settings, request.options or {}, ray)
    claimed = _claimed(out, subject, config, lock)
    return Retraining(config=config, subject=subject, settings=settings, out=claimed)


def recipe(options: Mapping[str, Any] | None, epochs: int | None) -> TrainSettings:
    """Return the settings of a training.

    Raises:
        ValueError: there is no such option, or it has no such value.
    """
    given = {"epochs": EPOCHS} | mapping("options", options)
    if epochs is not None:
        given["epochs"] = epochs
    teacher = given.get("teacher")
    if isinstance(teacher, str) and _IMPORT_PATH.fullmatch(teacher):
        raise ValueError(
            f"teacher: it was a module of this process, known as {teacher!r} only; pass it anew"
        )
    return validated(TrainSettings, given)


def _config(subject: Subject, settings: TrainSettings, ray: RayConfig) -> RetrainConfig:
    data = subject.data
    fields = {
        "space": subject.space.spec,
        "arch": json.loads(subject.arch.to_json()),
        "data": data.spec,
        "task": task_spec(data.module.task),
        "settings": settings.model_dump(mode="json"),
        "seed": subject.seed,
        "inherit": None if subject.inherited is None else subject.inherited.source,
        "inputs": subject.model_space.signature or data.module.signature,
        "space_digest": subject.space.digest,
        "ray": ray,
        "versions": versions(),
    }
    dumped = validated(RetrainConfig, fields).model_dump(mode="json")
    return RetrainConfig.from_json(json.dumps(without_keys(dumped)))  # as it is read back


def _check(
    subject: Subject, settings: TrainSettings, options: Mapping[str, Any], ray: RayConfig
) -> None:
    """Raise what can be known to fail, before it does."""
    from raynas.supernet.rebuilding import check_rebuilding

    data, space = subject.data.module, subject.model_space
    check_smoothing(options, data)
    size = settings.batch_size or data.batch_size
    check_batch(size, data)
    equal_shares(size, ray.min_train_workers, ray.max_train_workers)
    _check_columns(data)
    inherited = subject.inherited
    net = space.build(subject.arch) if inherited is None else inherited.network()
    _check_recipe(subject, net, settings, on_gpu=ray.gpus_per_train_worker > 0)
    check_rebuilding(space, data.signature)


def _check_columns(data: DataModule) -> None:
    from raynas.supernet.network_job import OWN_COLUMNS

    for name in data.task.metrics:
        if name in OWN_COLUMNS:
            raise ValueError(f"metric {name!r} is named like a column of the training's history")


def _check_recipe(
    subject: Subject, net: nn.Module, settings: TrainSettings, *, on_gpu: bool
) -> None:
    """Try what the settings ask for on a few examples."""
    import torch

    from raynas.nn.drop_path import DropPath
    from raynas.supernet.distillation import Teacher
    from raynas.supernet.mixing import check_mixing
    from raynas.supernet.optimizers import optimizer_of
    from raynas.supernet.precision import PrecisionPolicy

    data, cpu = subject.data.module, torch.device("cpu")
    inputs, out = check_network(subject.model_space.name, net, data)
    check_mixing(settings, inputs, in_model=data.task.computes_loss_in_model)
    optimizer_of(settings, list(net.parameters()))
    if settings.drop_path:
        DropPath(net)
    if settings.teacher is not None:
        Teacher(settings, data.task, cpu).loss(out, inputs)
    if not on_gpu:
        PrecisionPolicy(settings, cpu).scaler()


def _claimed(out: str | None, subject: Subject, config: RetrainConfig, lock: RunLock) -> str:
    """Return the folder, with the configuration in it."""
    where = out or (under(subject.run, RETRAINED) if subject.run else "runs")
    try:
        if out is None:  # nothing can be wrong any more that would leave it empty
            name = file_name(subject.space.spec.name.rpartition(":")[2])
            out = fresh_retraining(subject.run) if subject.run else fresh(f"{name}-retrain")
        lock.take(out)
        Folder(out).write(RETRAIN, config.to_json())
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(f"out: nothing can be written to {absolute(where)}: {reason}") from error
    return absolute(out)


def is_begun(out: str) -> bool:
    """Return whether a folder holds a training that has come somewhere."""
    if not Folder(out).has(RETRAIN):
        return False
    return read_history(out).num_rows > 0 or epochs_done(out) > 0


def epochs_done(out: str) -> int:
    """Return how many epochs the training in a folder has done, by its last checkpoint."""
    from raynas.supernet.checkpoint import checkpoint_in, load_about

    folder = Folder(out)
    if (metrics := read_metrics(folder)) is not None:
        return int(metrics["epochs"])
    if not folder.has(NETWORK):
        return 0
    checkpoint = checkpoint_in(local_checkpoint(under(folder.path, NETWORK)))
    return 0 if checkpoint is None else int(load_about(checkpoint)["epoch"])


def finish(out: str) -> None:
    """Write the best weights and the metrics of a training that is over, unless they are there."""
    import torch

    from raynas.supernet.checkpoint import (
        WEIGHTS,
        find_checkpoint,
        load_about,
        load_weights,
    )

    folder = Folder(out)
    if folder.has(METRICS):
        return
    checkpoint = find_checkpoint(local_checkpoint(under(folder.path, NETWORK)))
    about = load_about(checkpoint)
    del about["epoch"]  # the last
    with temporary_folder() as temporary:
        weights = temporary / MODEL
        torch.save(dict(load_weights(checkpoint / BEST)), weights)
        folder.put(checkpoint / BEST, BEST, last=WEIGHTS)
        folder.put_file(weights, MODEL)
    write_json(folder, METRICS, about)  # last: it says that all is there
