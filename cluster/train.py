"""A training as a Ray Train job, in workers of its own or in this process.

In workers, a controller and six actors that help it watch over ranks that wait for each other; to
start them takes 30 s of processor time. One rank that nothing is asked for needs none of this where
all is one machine: it is trained as Ray Train's local mode does it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import TorchTrainer

from raynas.cluster.connect import address_of, is_on_this_machine, own_sigint, resource
from raynas.cluster.resources import processes_that_fit, too_large
from raynas.cluster.train_snapshot import drop_unsound_snapshot
from raynas.cluster.train_storage import storage_of
from raynas.core.config import RayConfig
from raynas.core.errors import Interrupted
from raynas.core.evaluator import describe
from raynas.core.locations import is_uri, under
from raynas.core.progress import Progress
from raynas.storage.file_systems import known_keys
from raynas.storage.local_copies import forget_copies, local_checkpoint
from raynas.storage.parquet import Parts
from raynas.storage.run_folder import Folder
from raynas.storage.tables import history_of
from raynas.storage.training_record import TrainingRecord
from raynas.supernet.checkpoint import WEIGHTS, checkpoint_in
from raynas.supernet.train_job import TrainJob

POLL_S, REMOTE_POLL_S = 0.5, 2.0  # of a local folder, and of an object store


def is_trained_here(config: RayConfig) -> bool:
    """Return whether one rank is enough and this process may be it."""
    asked = config.cpus_per_train_worker, config.gpus_per_train_worker
    return config.train_workers == 1 and asked == (None, 0.0) and is_on_this_machine(config)


def train(job: TrainJob, out: str, config: RayConfig, progress: Progress) -> None:
    """Run the job, or go on with it where ``out`` holds a part; leave a checkpoint there.

    Args:
        job: what to train.
        out: folder; checkpoints go to the job's folder in it, history to ``history/``.
        config: how many ranks, and on what.
        progress: told of every epoch.

    Raises:
        ValueError: the ranks do not fit this machine, or a cluster that will not grow.
        RuntimeError: training failed; the message is the worker's own.
        Interrupted: Ctrl-C.
    """
    with _watched(out, job.epochs, progress), own_sigint():
        if is_trained_here(config):
            _train_here(job, out, config)
        else:
            _train_in_workers(job, out, config, progress)


def _train_here(job: TrainJob, out: str, config: RayConfig) -> None:
    """Run the only rank in this process: Ray Train's local mode, which starts no other."""
    before = torch.get_num_threads()
    given = {
        "job": job,
        "threads": max((config.num_cpus or len(os.sched_getaffinity(0))) - 1, 1),
        "out": out,
        "keeps": True,
        "keys": known_keys(),
    }
    trainer = TorchTrainer(
        _worker,
        train_loop_config=given,
        scaling_config=ray.train.ScalingConfig(num_workers=0),
        run_config=ray.train.RunConfig(name=job.folder, **storage_of(out)),
    )
    try:
        with torch.random.fork_rng(devices=[]), _without("LOCAL_RANK"):
            trainer.fit()
    except KeyboardInterrupt:
        raise Interrupted from None
    except Exception as failure:
        raise RuntimeError(f"{job.title} failed: {describe(failure)}") from failure
    finally:
        torch.set_num_threads(before)


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Hide a variable of the environment by which Ray Train takes a process for torchrun's."""
    value = os.environ.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value


def _train_in_workers(job: TrainJob, out: str, config: RayConfig, progress: Progress) -> None:
    each = {"CPU": float(_cpus_each(config)), "GPU": config.gpus_per_train_worker}
    each = {name: share for name, share in each.items() if share}
    _check_fits(each, config, progress)
    drop_unsound_snapshot(Folder(under(out, job.folder)))
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "job": job,
            "threads": _cpus_each(config),
            "out": out,
            "keeps": False,
            "keys": known_keys(),
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.train_workers,
            use_gpu=config.gpus_per_train_worker > 0,
            resources_per_worker=each,
        ),
        run_config=ray.train.RunConfig(
            name=job.folder,
            **storage_of(out),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            failure_config=ray.train.FailureConfig(max_failures=1),
        ),
    )
    try:
        result = trainer.fit()
    except SystemExit:  # what Ray Train makes of Ctrl-C
        raise Interrupted from None
    except ray.train.TrainingFailedError as failure:
        raise RuntimeError(f"{job.title} failed: {_cause(failure)}") from failure
    if result.checkpoint is None:
        raise RuntimeError(f"{job.title} left no checkpoint")


def _check_fits(each: dict[str, float], config: RayConfig, progress: Progress) -> None:
    """Raise ValueError if the ranks do not fit; where nodes may come, say what is waited for."""
    ranks = config.train_workers
    if processes_that_fit(each) >= ranks:
        return
    what = f"train_workers: {ranks} process{'es' * (ranks > 1)}"
    if address_of(config) is None:
        raise too_large(what, each)
    takes = " and ".join(f"{share:g} {name}" for name, share in each.items())
    progress.phase(f"waiting for nodes that take {ranks} training processes of {takes} each")


def _cpus_each(config: RayConfig) -> int:
    # one core is left to everything else: torch threads that must wait for one of theirs to get a
    # core again take many times longer than a single one
    return config.cpus_per_train_worker or max(int(resource("CPU") - 1) // config.train_workers, 1)


def _worker(given: dict[str, Any]) -> None:
    """Train on one rank; the loop itself knows nothing of Ray."""
    job: TrainJob = given["job"]
    torch.set_num_threads(given["threads"])
    cuda = not given["keeps"] and torch.cuda.is_available()
    gpu = cuda and ray.train.torch.get_device().type == "cuda"
    device = ray.train.torch.get_device() if gpu else None
    given["keys"].remember()
    # the newest of all: one that was left by a training in this process is on no list of Ray's
    checkpoint = checkpoint_in(local_checkpoint(under(given["out"], job.folder)))
    first = ray.train.get_context().get_world_rank() == 0
    record = TrainingRecord(given["out"], job.folder, job.columns, last=WEIGHTS) if first else None
    report = partial(_report, record, keeps=given["keeps"])
    try:
        job.run(report, device=device, checkpoint=checkpoint)
    finally:
        if not given["keeps"]:  # Ray ends the processes of its workers
            forget_copies()


def _report(
    record: TrainingRecord | None, row: dict[str, Any], folder: Path | None, *, keeps: bool
) -> None:
    """Keep a row on the first rank, and hand it to Ray Train, which keeps checkpoints of others.

    Args:
        record: of the first rank; None on the others.
        row: of an epoch.
        folder: of a checkpoint; None without.
        keeps: whether the record keeps checkpoints, too.
    """
    if record is not None:
        record.add(row, folder if keeps else None)
    kept = None if folder is None else ray.train.Checkpoint.from_directory(folder)
    ray.train.report(row, checkpoint=kept)


@contextmanager
def _watched(out: str, epochs: int, progress: Progress) -> Iterator[None]:
    """Tell ``progress`` of new history rows: they are written in another process."""
    history = history_of(out)
    over, seen = threading.Event(), _rows_of(history)

    def news() -> None:
        rows = _rows_of(history)
        pairs = zip(rows, seen, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: repr(pair[0]) == repr(pair[1]), pairs))
        del seen[same:]  # rows of epochs that come again take the place of others
        for row in rows[same:]:
            progress.trained(row, epochs)
            seen.append(row)

    def watch() -> None:
        with suppress(Exception):  # it comes again where it can be raised: at the end
            while not over.wait(REMOTE_POLL_S if is_uri(out) else POLL_S):
                news()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        news()


def _rows_of(history: Parts) -> list[dict[str, Any]]:
    """Return the rows without what they lack: a column may come with a later one."""
    rows = history.read().to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def _cause(failure: BaseException) -> str:
    """Return the line that says what went wrong in the worker, without Ray's own traces."""
    inner = getattr(failure, "worker_failures", None)
    text = str(next(iter(inner.values()))) if inner else str(failure)
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else type(failure).__name__
