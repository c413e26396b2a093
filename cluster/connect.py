"""Finding a Ray to run on, and starting a quiet local one if there is none."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray

from raynas.cluster.kept_signals import kept_sigterm
from raynas.cluster.local_token import own_token
from raynas.cluster.loopback import on_loopback
from raynas.cluster.lost_head import LOOK_S, HeadWatch, end_without_head
from raynas.cluster.own_session import own_session
from raynas.cluster.processes import descendants, end
from raynas.cluster.reach import check_reachable, silent, why_silent
from raynas.cluster.worker_logs import diverted
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
    "RAY_prestart_worker_first_driver": "0",  # Tune's workers have an environment of their own
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "2",
}

CONNECT_S = 10.0  # in which a cluster that listens has to answer

# Of runs that ended before they were connected: they connect and disconnect yet, and a process has
# one connection to Ray, which is that of the next run.
_STILL_CONNECTING: list[threading.Thread] = []


@contextmanager
def connected(config: RayConfig) -> Iterator[None]:
    """Connect to the Ray that is there, or start a local one and stop it at the end.

    Tried in order: a Ray that this process is connected to already, ``config.address``,
    ``RAY_ADDRESS``, and a local one of ``config.num_cpus`` cores.
    """
    with connecting(config) as wait:
        wait()
        yield


@contextmanager
def connecting(config: RayConfig) -> Iterator[Callable[[], None]]:
    """Begin what ``connected`` does, and yield a function that returns once it is done."""
    before = {name: os.environ.get(name) for name in QUIET}
    os.environ |= {name: value for name, value in QUIET.items() if before[name] is None}
    try:
        while _STILL_CONNECTING:
            _STILL_CONNECTING.pop().join(CONNECT_S)
        if ray.is_initialized():
            yield lambda: None
        else:
            with RayStart(config) as start:
                yield start.wait
    finally:
        for name in (name for name, value in before.items() if value is None):
            os.environ.pop(name, None)


class RayStart:
    """Ray's start in a thread: most of it is waiting for other processes.

    The thread lasts as long as Ray, since Linux ends Ray's processes with the thread that has
    started them.
    """

    def __init__(self, config: RayConfig) -> None:
        self._config = config
        self._failure: BaseException | None = None
        self._ready, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> RayStart:
        self._warnings.__enter__()
        # Ray's own deprecations are not the user's to mend
        warnings.filterwarnings("ignore", module=r"ray(\.|$)")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._ready.is_set() or address_of(self._config) is None:
            self._thread.join()
        else:  # it may wait for a cluster that does not answer
            _STILL_CONNECTING.append(self._thread)
        self._warnings.__exit__(None, None, None)

    def wait(self) -> None:
        """Return when Ray is there, or raise what kept it from coming."""
        address = address_of(self._config)
        if not self._ready.wait(CONNECT_S if address else None):
            raise ConnectionError(
                silent(str(address), said_by(self._config), why_silent(CONNECT_S))
            )
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        with ExitStack() as stack:
            try:
                _start(self._config, stack)
            except BaseException as failure:
                self._failure = failure
            self._ready.set()
            if self._failure is None:
                self._watch(HeadWatch(address_of(self._config)), stack)
            started = descendants(_own_processes())
            ray.shutdown()
            end(started)  # Ray's agents, which watch it, would end within a minute

    def _watch(self, head: HeadWatch, left: ExitStack) -> None:
        """Wait for the end of the run, or of Ray."""
        while not self._over.wait(LOOK_S):
            why = head.lost()
            if why is not None and not self._over.is_set():
                left.callback(end, descendants(_own_processes()))
                end_without_head(address_of(self._config), why, left.close)


def _own_processes() -> list[int]:
    """Return the numbers of the processes of a Ray that was started here."""
    node = ray._private.worker._global_node
    if node is None or not node.is_head():
        return []
    return [info.process.pid for infos in node.all_processes.values() for info in infos]


def _start(config: RayConfig, stack: ExitStack) -> None:
    """Connect; what a Ray of this machine alone takes is given back when the stack is closed."""
    address = address_of(config)
    stack.enter_context(diverted())
    with kept_sigterm():
        if address:
            check_reachable(address, said_by(config))
            ray.init(address=address, runtime_env=_runtime_env(), **_silent())
        else:
            session = stack.enter_context(own_session())
            stack.enter_context(own_token())
            given = {"num_cpus": config.num_cpus, "_temp_dir": session, **_silent()}
            with on_loopback():
                ray.init(address="local", include_dashboard=False, **given)


def address_of(config: RayConfig) -> str | None:
    """Return the address of the cluster to run on; None stands for a Ray of this machine alone."""
    return config.address or os.environ.get("RAY_ADDRESS")


def said_by(config: RayConfig) -> str:
    """Return what names the cluster's address."""
    return "address=" if config.address else "RAY_ADDRESS"


def is_on_this_machine(config: RayConfig) -> bool:
    """Return whether Ray is, or is about to be, this machine alone."""
    if not ray.is_initialized():
        return address_of(config) is None
    here = ray.get_runtime_context().get_node_id()
    return all(node["NodeID"] == here for node in ray.nodes() if node["Alive"])


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
    return {"log_to_driver": True, "logging_level": logging.ERROR, "configure_logging": True}


def _runtime_env() -> dict[str, object]:
    return {"env_vars": dict(QUIET)}


def scratch(name: str) -> Path:
    """Return a folder of this Ray session for files that nobody keeps."""
    node = ray._private.worker._global_node
    root = Path(node.get_session_dir_path()) if node is not None else Path("/tmp")
    folder = root / "raynas" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
