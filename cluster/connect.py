"""Finding a Ray to run on, and starting a quiet local one if there is none."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from raynas.core.config import RayConfig

# Ray's own loggers write five files a trial, and its snapshots grow with the trials: raynas keeps
# one table instead (docs/architecture.md, "What Ray does").
QUIET = {
    "OMP_WAIT_POLICY": "PASSIVE",  # idle torch threads sleep: spinning starves those that work
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "2",
}


@contextmanager
def connected(config: RayConfig) -> Iterator[None]:
    """Connect to the Ray that is there, or start a local one and stop it at the end.

    Tried in order: a Ray that this process is connected to already, ``config.address``,
    ``RAY_ADDRESS``, and a local one of ``config.num_cpus`` cores.
    """
    before = {name: os.environ.get(name) for name in QUIET}
    os.environ |= {name: value for name, value in QUIET.items() if before[name] is None}
    try:
        with contextlib.nullcontext() if ray.is_initialized() else _started(config):
            yield
    finally:
        for name in (name for name, value in before.items() if value is None):
            os.environ.pop(name, None)


@contextmanager
def _started(config: RayConfig) -> Iterator[None]:
    address = address_of(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own deprecations are not the user's to mend
        if address:
            ray.init(address=address, runtime_env=_runtime_env(), **_silent())
        else:
            cpus = config.num_cpus
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **_silent())
    try:
        yield
    finally:
        ray.shutdown()


def address_of(config: RayConfig) -> str | None:
    """Return the address of the cluster to run on; None stands for a Ray of this machine alone."""
    return config.address or os.environ.get("RAY_ADDRESS")


@contextmanager
def own_sigint() -> Iterator[None]:
    """Give Ctrl-C back to who had it: Ray's jobs install a handler and leave it there."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


def _silent() -> dict[str, Any]:
    return {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}


def _runtime_env() -> dict[str, object]:
    return {"env_vars": dict(QUIET)}


def resource(name: str) -> float:
    """Return how much of ``CPU`` or ``GPU`` the connected cluster has."""
    return float(ray.cluster_resources().get(name, 0.0))


def scratch(name: str) -> Path:
    """Return a folder of this Ray session for files that nobody keeps."""
    node = ray._private.worker._global_node
    root = Path(node.get_session_dir_path()) if node is not None else Path("/tmp")
    folder = root / "raynas" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
