"""Supernet training as a Ray Train job."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import TorchTrainer

from raynas.cluster.connect import own_sigint, resource
from raynas.core.config import ComponentSpec, RayConfig, TrainSettings
from raynas.core.errors import Interrupted
from raynas.core.fixed_list import FOUND
from raynas.core.progress import Progress
from raynas.data.module import DataModule
from raynas.gradient.hardware import checked_hardware
from raynas.nn.modelspace import ModelSpace
from raynas.storage.tables import HistoryStore, read_history
from raynas.supernet.checkpoint import load_state, load_weights, save_checkpoint
from raynas.supernet.protocol import ONE_SHOTS
from raynas.supernet.training import SupernetTraining

CHECKPOINT_S = 30.0  # a checkpoint at most this often, and one at the end
POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class SupernetJob:
    """What a training worker needs to know.

    Attributes:
        space: builds the supernet.
        data: what it is trained on.
        algo: registered one-shot algorithm and its options.
        settings: of the weights' training.
        seed: fixes initial weights, paths and batches.
        about: joined to what the checkpoint says of itself.
        latency: table, as JSON, of latencies that take part in the algorithm's loss; None leaves
            that to the algorithm.
    """

    space: ModelSpace
    data: DataModule
    algo: ComponentSpec
    settings: TrainSettings
    seed: int
    about: dict[str, Any]
    latency: str | None = None


class _History(ray.train.UserCallback):
    """Appends every report of rank 0 to the run's history; runs in Ray Train's controller."""

    def __init__(self, out: str, algo: str) -> None:
        self._out, self._algo = out, algo

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        HistoryStore(self._out).append([{"algo": self._algo, **metrics[0]}])


def train_supernet(job: SupernetJob, out: str, config: RayConfig, progress: Progress) -> None:
    """Run the job, or go on with it where ``out`` holds a part; leave a checkpoint there.

    Args:
        job: what to train.
        out: run folder; checkpoints go to ``supernet/``, history to ``history/``.
        config: how many ranks, and on what.
        progress: told of every epoch.

    Raises:
        RuntimeError: a worker failed; the message is the worker's own.
        Interrupted: Ctrl-C.
    """
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "threads": _cpus_each(config)},
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.train_workers,
            use_gpu=config.gpus_per_train_worker > 0,
            resources_per_worker={
                "CPU": _cpus_each(config),
                **({"GPU": config.gpus_per_train_worker} if config.gpus_per_train_worker else {}),
            },
        ),
        run_config=ray.train.RunConfig(
            name="supernet",
            storage_path=out,
            callbacks=[_History(out, job.algo.name)],  # type: ignore[list-item]
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            failure_config=ray.train.FailureConfig(max_failures=1),
        ),
    )
    with _watched(out, job.settings.epochs, progress), own_sigint():
        try:
            result = trainer.fit()
        except SystemExit:  # what Ray Train makes of Ctrl-C
            raise Interrupted from None
        except ray.train.TrainingFailedError as failure:
            raise RuntimeError(f"supernet training failed: {_cause(failure)}") from failure
    if result.checkpoint is None:
        raise RuntimeError("supernet training left no checkpoint")


def _cpus_each(config: RayConfig) -> int:
    # one core is left to everything else: torch threads that must wait for one of theirs to get a
    # core again take many times longer than a single one
    return config.cpus_per_train_worker or max(int(resource("CPU") - 1) // config.train_workers, 1)


def _worker(given: dict[str, Any]) -> None:
    """Train on one rank; the loop itself knows nothing of Ray."""
    job: SupernetJob = given["job"]
    torch.set_num_threads(given["threads"])
    gpu = torch.cuda.is_available() and ray.train.torch.get_device().type == "cuda"
    with _options(job) as options:
        training = SupernetTraining(
            job.space.supernet(job.seed),
            ONE_SHOTS[job.algo.name](seed=job.seed, **options),
            job.data,
            job.settings,
            seed=job.seed,
            device=ray.train.torch.get_device() if gpu else None,
        )
    if (start := ray.train.get_checkpoint()) is not None:
        with start.as_directory() as folder:
            training.model.load_state_dict(load_weights(Path(folder)))
            training.load_state_dict(load_state(Path(folder)))
    saved = time.monotonic()
    while training.epoch < job.settings.epochs:
        row = training.run_epoch()
        due = time.monotonic() - saved > CHECKPOINT_S or training.epoch == job.settings.epochs
        _report(job, training, row, due and training.rank == 0)
        saved = time.monotonic() if due else saved


@contextmanager
def _options(job: SupernetJob) -> Iterator[dict[str, Any]]:
    """Give the algorithm's options, with the job's latencies as a file that lasts as long."""
    hardware = checked_hardware(job.algo.options.get("hardware"))
    if job.latency is None or hardware is None:
        yield job.algo.options
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "latency.json"
        file.write_text(job.latency, encoding="utf-8")
        yield job.algo.options | {"hardware": hardware.model_copy(update={"table": str(file)})}


def _report(job: SupernetJob, training: SupernetTraining, row: dict[str, Any], save: bool) -> None:
    if not save:
        ray.train.report(row)
        return
    with tempfile.TemporaryDirectory() as folder:
        about = {
            **job.about,
            "epoch": training.epoch,
            "epochs": job.settings.epochs,
            "found": training.found(FOUND),
            "distribution": training.distribution(),
        }
        save_checkpoint(Path(folder), training.model, training.state_dict(), about)
        ray.train.report(row, checkpoint=ray.train.Checkpoint.from_directory(folder))


@contextmanager
def _watched(out: str, epochs: int, progress: Progress) -> Iterator[None]:
    """Tell ``progress`` of new history rows: they are written in another process."""
    over, seen = threading.Event(), len(read_history(out))

    def news() -> None:
        nonlocal seen
        rows = read_history(out).to_pylist()
        for row in rows[seen:]:
            progress.trained(row, epochs)
        seen = len(rows)

    def watch() -> None:
        while not over.wait(POLL_S):
            news()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        news()


def _cause(failure: BaseException) -> str:
    """Return the line that says what went wrong in the worker, without Ray's own traces."""
    inner = getattr(failure, "worker_failures", None)
    text = str(next(iter(inner.values()))) if inner else str(failure)
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else type(failure).__name__
