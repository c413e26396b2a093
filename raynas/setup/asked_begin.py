"""How a run that is asked and told begins, or goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from raynas.core.config import RayConfig
from raynas.core.constraints import Constraints
from raynas.setup.algorithms import trains
from raynas.setup.ask_tell import AskTell
from raynas.setup.prepare import prepared
from raynas.setup.request import SearchRequest
from raynas.storage.local_lock import ASK_TELL
from raynas.storage.pending import check_lockable, locked
from raynas.storage.run_folder import CONFIG, Folder, absolute
from raynas.storage.run_lock import RunLock
from raynas.storage.table_writers import TrialStore

EXTERNAL = "external"


def ask_tell(
    space: Any = None,
    algo: Any = None,
    *,
    out: str | None = None,
    trials: int | None = None,
    objectives: Mapping[str, str] | None = None,
    scalarize: Mapping[str, float] | None = None,
    constraints: Constraints | None = None,
    latency: str | None = None,
    evaluator: Any = None,
    data: Any = None,
    task: Any = None,
    supernet: Any = None,
    epochs: int | None = None,
    seed: int | None = None,
    ray: RayConfig | Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    space_options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
) -> AskTell:
    """Begin a run that somebody else's loop asks and tells, or go on with the one in ``out``.

    Args:
        space: as for ``raynas.search``; a run that goes on has its own.
        algo: a registered sampler, which proposes; by default ``regularized_evolution``.
        out: local folder; ``runs/<space>-<algo>-<n>`` by default.
        trials: how many are told in all, at most; 100 by default. More may be said later.
        objectives: as for ``raynas.search``, and so are those not listed.
        scalarize: likewise.
        constraints: likewise.
        latency: likewise.
        evaluator: what ``evaluate`` measures by, as for ``raynas.search``; None leaves measuring to
            whoever tells.
        data: likewise.
        task: likewise.
        supernet: likewise.
        epochs: likewise.
        seed: fixes what is proposed.
        ray: threads and GPU of an evaluation, which runs in the calling process.
        options: of the algorithm.
        space_options: of a registered space.
        data_options: of a registered data set.

    Raises:
        ValueError, LookupError, TypeError: as ``raynas.search``.
        StoreMismatch: ``out`` holds another run.
    """
    request = SearchRequest(
        space=space,
        algo=algo,
        data=data,
        task=task,
        loss=None,
        metrics=None,
        evaluator=evaluator,
        supernet=supernet,
        objectives=objectives,
        scalarize=scalarize,
        constraints=constraints,
        latency=latency,
        trials=trials,
        epochs=epochs,
        seed=seed,
        ray=ray,
        options=options,
        space_options=space_options,
        data_options=data_options,
    )
    if algo is not None and trains(algo):
        raise ValueError(f"{algo} trains a supernet and proposes no architectures one by one")
    if out is None:
        with RunLock(ASK_TELL) as lock:
            return _begun(request, None, lock)
    out = absolute(str(out))
    check_lockable(out)
    if not Folder(out).has(CONFIG) and space is None:
        raise FileNotFoundError(f"{out} holds no run: name what it is to search (space=, --space)")
    with locked(out) as lock:
        return _begun(request, out, lock)


def _begun(request: SearchRequest, out: str | None, lock: RunLock) -> AskTell:
    """Return the run in a folder, which is locked, begun if there is none."""
    folder = None if out is None else Folder(out)
    going_on = folder is not None and folder.has(CONFIG)
    if folder is not None and going_on:
        request = request.going_on(folder.read_config())
    else:
        given = EXTERNAL if request.evaluator is None else request.evaluator
        request = replace(request, evaluator=given).with_defaults()
    run = prepared(request, out, resume=going_on, lock=lock)
    TrialStore(run.config.out, run.problem.space.arch_space)  # from now on nobody claims the folder
    return AskTell(run)
