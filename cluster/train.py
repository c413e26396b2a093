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
from itertools import takewhile
from typing import Any

import ray.train
import torch
from ray.train.torch import TorchTrainer

from raynas.cluster.connect import is_on_this_machine, own_sigint
from raynas.cluster.ranked_training import RankedTraining
from raynas.cluster.train_storage import storage_of
from raynas.cluster.training_rank import TrainingRank, run_rank
from raynas.core.config import RayConfig
from raynas.core.errors import Interrupted
from raynas.core.evaluator import describe
from raynas.core.locations import is_uri
from raynas.core.progress import Progress
from raynas.core.rank_counts import equal_shares
from raynas.storage.file_systems import known_keys
from raynas.storage.parquet import Parts
from raynas.storage.tables import history_of
from raynas.supernet.train_job import TrainJob

POLL_S, REMOTE_POLL_S = 0.5, 2.0  # of a local folder, and of an object store


def is_trained_here(config: RayConfig) -> bool:
    """Return whether one rank is enough and this process may be it."""
    asked = config.cpus_per_train_worker, config.gpus_per_train_worker
    return config.max_train_workers == 1 and asked == (None, 0.0) and is_on_this_machine(config)


def train(job: TrainJob, out: str, config: RayConfig, progress: Progress) -> None:
    """Run the job, or go on with it where ``out`` holds a part; leave a checkpoint there.

    Args:
        job: what to train.
        out: folder; checkpoints go to the job's folder in it, history to ``history/``.
        config: how many ranks, and on what.
        progress: told of every epoch.

    Raises:
        ValueError: the batch does not divide by the ranks, or these do not fit this machine, or a
            cluster that will not grow.
        RuntimeError: training failed; the message is the worker's own.
        Interrupted: Ctrl-C.
    """
    counts = equal_shares(job.batch_size, config.min_train_workers, config.max_train_workers)
    with _watched(out, job.epochs, progress), own_sigint():
        if is_trained_here(config):
            _train_here(job, out, config)
        else:
            RankedTraining(job, out, config, counts).run(progress)


def _train_here(job: TrainJob, out: str, config: RayConfig) -> None:
    """Run the only rank in this process: Ray Train's local mode, which starts no other."""
    before = torch.get_num_threads()
    given = {
        "rank": TrainingRank(
            job=job,
            out=out,
            threads=max((config.num_cpus or len(os.sched_getaffinity(0))) - 1, 1),
            keeps=True,
            keys=known_keys(),
        )
    }
    trainer = TorchTrainer(
        run_rank,
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
