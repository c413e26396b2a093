"""``raynas.train_supernet``: weights for all architectures of a space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raynas.core.config import RayConfig, ray_config
from raynas.core.errors import Interrupted
from raynas.core.locations import under
from raynas.core.metrics import probed
from raynas.core.progress import Progress, RunInfo, RunSummary
from raynas.core.termination import terminable
from raynas.core.versions import versions
from raynas.report.reporting import news_of, reported
from raynas.setup.prepare import stem
from raynas.setup.request import DEFAULT_DATA
from raynas.setup.resolve import mapping, resolve_space
from raynas.setup.resolve_data import resolve_data
from raynas.setup.resolve_task import with_task
from raynas.setup.runner import runner_of
from raynas.setup.supernet_request import resolve_training
from raynas.setup.supernets import claim_supernet
from raynas.storage.run_folder import SUPERNET, absolute, fresh, without_keys
from raynas.storage.run_lock import RunLock

Options = Mapping[str, Any]


@terminable()
def train_supernet(
    space: Any,
    algo: Any = "spos",
    *,
    construct: Any = None,
    data: Any = DEFAULT_DATA,
    task: Any = None,
    loss: Any = None,
    metrics: Mapping[str, Any] | None = None,
    supernet: Any = None,
    epochs: int | None = None,
    seed: int = 0,
    out: str | None = None,
    resume: bool = False,
    ray: RayConfig | Mapping[str, Any] | None = None,
    options: Options | None = None,
    space_options: Options | None = None,
    data_options: Options | None = None,
    track: Any = None,
    progress: Progress | bool | None = None,
) -> str:
    """Train a supernet as a Ray Train job and return its folder, for ``search(supernet=...)``.

    Args:
        space: as for ``search``, but for a plain ArchSpace, which has no weights.
        algo: a registered one-shot algorithm, or a configured one; or a list of phases, each of
            which trains on from the one before: a name, a configured algorithm, or a dict of an
            algorithm under ``algo``, its options and its training's.
        construct: what makes a space of a template, as for ``search``.
        data: as for ``search``, and so are ``task``, ``loss`` and ``metrics``.
        task: likewise.
        loss: likewise.
        metrics: likewise.
        supernet: whose weights the training begins with: the path of a trained one, or how to train
            it, as for ``search``; None begins with new ones.
        epochs: passes over the training split.
        seed: fixes weights, paths and batches.
        out: local folder; ``runs/<space>-<algo>-<n>`` by default.
        resume: go on with the training that ``out`` holds a part of.
        ray: how to use Ray.
        options: of the algorithm and of the training (``lr``, ``batch_size``, ...).
        space_options: of a registered space.
        data_options: of a registered data set.
        track: where the numbers go besides, as for ``search``.
        progress: told of every epoch.

    Raises:
        FileExistsError: ``out`` holds a supernet already and ``resume`` is off.
        FolderInUse: another process writes to ``out``.
        StoreMismatch: ``out`` holds a supernet of the same model with other choices.
        Interrupted: Ctrl-C; the last checkpoint is in ``out``.
    """
    news = news_of(progress, track)
    resolved_data = resolve_data(data, mapping("data_options", data_options))
    resolved_data = with_task(resolved_data, task, loss, metrics)
    resolved_space = resolve_space(
        space, mapping("space_options", space_options), resolved_data, construct
    )
    resolved_space = resolved_space.seeded(seed)
    trained = resolve_training(
        algo, mapping("options", options), resolved_space, resolved_data, epochs, begun=supernet
    )
    folder = absolute(str(out or fresh(stem(resolved_space, trained.spec))))
    parts = {"space": resolved_space.spec, "data": resolved_data.spec, "supernet": trained.spec}
    config = without_keys({n: part and part.model_dump(mode="json") for n, part in parts.items()})
    info = RunInfo(
        kind="supernet",
        out=folder,
        config={**config, "seed": seed, "versions": versions()},
        metric=probed(resolved_data.module.task.objective[0]),
    )
    with RunLock("supernet training") as lock:
        lock.take(folder)
        claim_supernet(folder, resume, resolved_space)
        with reported(news, info):
            try:
                with runner_of(ray_config(ray)) as runner:
                    trained.train(folder, seed, runner, news)
            except KeyboardInterrupt:
                raise Interrupted(f"training; go on with out={folder!r}, resume=True") from None
            news.finish(RunSummary())
    return under(folder, SUPERNET)
