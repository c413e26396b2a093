"""Whether a Ray Train job failed by itself, or because processes of it were lost."""

from __future__ import annotations

import torch.distributed as dist
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
)
from ray.train.v2.api.exceptions import PreemptionError

GONE = (RayActorError, OutOfMemoryError)  # what Ray raises of an actor whose process is no more
STARTS = (WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError)
BROKEN = ("gloo/transport", "Connection closed by peer", "Connection reset by peer")


def lost_processes(failure: BaseException) -> int:
    """Return how many processes were lost, at least one if any was.

    A rank that misses another one fails too, and may say so first.

    Args:
        failure: that ended the job.
    """
    if isinstance(failure, GONE):  # the controller's
        return 1
    if isinstance(failure, PreemptionError):
        return max(len(failure.preemption_info.preempted_ranks), 1)
    errors = list(getattr(failure, "worker_failures", {}).values())
    deaths = sum(is_death(error) for error in errors)
    return deaths or int(any(_misses_another(error) for error in errors))


def is_death(error: BaseException) -> bool:
    """Return whether what a rank ended with is that its process is no more."""
    return isinstance(_checked(error), GONE)


def could_not_start(failure: BaseException) -> bool:
    """Return whether ranks, or one of them, did not come up."""
    return isinstance(getattr(failure, "controller_failure", None), STARTS)


def cause(failure: BaseException) -> str:
    """Return the line that says what went wrong in the worker, without Ray's own traces."""
    inner = getattr(failure, "worker_failures", None)
    error = next(iter(inner.values())) if inner else failure
    if isinstance(_checked(error), OutOfMemoryError):
        return "Ray ended processes of a node that ran out of memory"
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1] if lines else type(failure).__name__


def _checked(error: BaseException) -> BaseException:
    """Return what a look after a rank met with, where that is what it ended with."""
    inner: BaseException = getattr(error, "health_check_failure", error)
    return inner


def _misses_another(error: BaseException) -> bool:
    return isinstance(error, dist.DistError) or any(text in str(error) for text in BROKEN)
