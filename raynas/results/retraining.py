"""What is to be trained where a run is given, and a retraining from the request to its result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch
from raynas.core.config import ComponentSpec
from raynas.core.locations import under
from raynas.core.metrics import probed
from raynas.core.model_names import is_own_path
from raynas.core.progress import Progress, RunInfo
from raynas.core.retrain_config import InheritedFrom, RetrainConfig
from raynas.report.reporting import reported
from raynas.results.result import Result
from raynas.results.summary import retrain_summary
from raynas.results.trained import Trained
from raynas.setup.constructed import CONSTRUCT, template_of
from raynas.setup.named_models import FACTS
from raynas.setup.problem import Data, Space
from raynas.setup.resolve import mapping, rebuild_space, resolve_space
from raynas.setup.resolve_data import resolve_data
from raynas.setup.resolve_task import task_spec
from raynas.setup.retrain_request import (
    Inherited,
    RetrainRequest,
    Subject,
    arch_in,
    builder_of,
    is_architecture,
    subject_of_architecture,
)
from raynas.setup.retraining import is_begun, prepared
from raynas.storage.retrain_folder import read_retrain_config, retrainings
from raynas.storage.run_folder import CONFIG, SUPERNET, Folder, absolute
from raynas.storage.run_lock import RunLock

if TYPE_CHECKING:
    from raynas.results.models import RunModels


def retrained(request: RetrainRequest, progress: Progress) -> Trained:
    """Train what a request asks for to the end.

    Args:
        request: as the user gave it.
        progress: told of every epoch.

    Raises:
        ValueError, LookupError, TypeError, OSError, FolderInUse: as ``raynas.retrain``.
    """
    result = _run_of(request)
    with RunLock("retraining") as lock:
        return _retrained(request, result, lock, progress)


def _retrained(
    request: RetrainRequest, result: Result | None, lock: RunLock, progress: Progress
) -> Trained:
    """Train, with the folder locked before anything is written there."""
    out = _existing(request, result)
    if out is not None:
        lock.take_if_there(out)
    before = None
    if out is not None and is_begun(out):
        before = read_retrain_config(Folder(out))
        request = request.going_on(before)
    if result is None:
        subject = subject_of_architecture(request)
    else:
        subject = subject_of_run(request, result, before)
    retraining = prepared(subject, request, before, out, lock)
    info = RunInfo(
        kind="retrain",
        out=retraining.out,
        config=retraining.config.model_dump(mode="json"),
        metric=probed(subject.data.module.task.objective[0]),
    )
    with reported(progress, info):
        retraining.run(progress)
        space = subject.space.model_space if _is_own(subject) else None
        trained = Trained(retraining.out, space=space)
        progress.finish(retrain_summary(trained, files=progress.takes_files))
    return trained


def _is_own(subject: Subject) -> bool:
    return is_own_path(subject.space.spec.name)


def _run_of(request: RetrainRequest) -> Result | None:
    """Return the run that is given; None where an architecture is."""
    what = request.what
    if isinstance(what, Result):
        return what
    if is_architecture(what):
        return None
    if request.space is not None and not Folder(str(what)).has(CONFIG):
        return None  # a text that is neither, and is refused as an architecture
    return Result(str(what))


def _existing(request: RetrainRequest, result: Result | None) -> str | None:
    """Return the folder that is named or gone on with; None for a fresh one.

    Raises:
        ValueError: no folder is named to go on with, and there is none.
        FileExistsError: it holds a training that is not to be gone on with.
    """
    if request.out is not None:
        out = absolute(str(request.out))
        if not request.resume and is_begun(out):
            raise FileExistsError(
                f"{out} holds another training: resume it (resume=True, --resume) or choose "
                "another folder (out=, --out)"
            )
        return out
    if not request.resume:
        return None
    if result is None:
        raise ValueError("resume goes on with the training in a folder: name it (out=, --out)")
    if not (there := retrainings(result.path)):
        raise ValueError(f"resume: {result.path} has no retraining to go on with")
    return there[-1]


def subject_of_run(
    request: RetrainRequest, result: Result, before: RetrainConfig | None
) -> Subject:
    """Return what is to be trained of a run: its best architecture, unless another is given.

    Args:
        request: completed by what an earlier start had.
        result: of the run.
        before: configuration of that start; None if there was none.

    Raises:
        TypeError: the run searched a plain ArchSpace.
        LookupError: no trial was completed, or the run's space or data are not at hand.
        ValueError: it used no data and none are given, another space is named, or weights that
            are not there are to be inherited.
    """
    models = result.rebuilt
    given = request.arch
    if given is None:
        given = result.best.arch if before is None else before.arch
    data = _data(request, result, models)
    space = _space(request, result, models, data)
    seed = result.config.seed if request.seed is None else request.seed
    inherit = request.inherit
    arch = arch_in(space if inherit else space.seeded(seed), given)
    if inherit:
        return _inheriting(result, models, space, arch, data, seed)
    space = space.seeded(seed)
    return Subject(
        space=space,
        model_space=builder_of(space),
        arch=arch,
        data=data,
        seed=seed,
        run=result.path,
    )


def _data(request: RetrainRequest, result: Result, models: RunModels) -> Data:
    """Return the data: the run's, changed as asked for, or others with the run's task."""
    config, options = result.config, mapping("data_options", request.data_options)
    at_hand = models.data_at_hand
    if request.data is None and config.data is None and at_hand is None:
        raise ValueError("data: the run used none; name what to train on (data=)")
    task: Any = config.task if at_hand is None else at_hand.module.task
    same = isinstance(request.task, ComponentSpec) and at_hand is not None
    if same and request.task == task_spec(task):  # what is at hand need not be importable
        request = replace(request, task=None)
    if request.data is None or request.data == config.data:
        if options and config.data is not None:
            data = resolve_data(config.data.name, config.data.options | options)
            return request.tasked(data, task)
        own = Data(config.data, models.data) if at_hand is None else at_hand
        return own if _asks_no_task(request) else request.tasked(own, task)
    return request.tasked(resolve_data(request.data, options), task)


def _asks_no_task(request: RetrainRequest) -> bool:
    return request.task is None and request.loss is None and request.metrics is None


def _space(request: RetrainRequest, result: Result, models: RunModels, data: Data) -> Space:
    """Return the space: the run's, with other options, or built for other data."""
    spec, given = result.config.space, request.space
    options = mapping("space_options", request.space_options)
    if given is not None and not isinstance(given, ComponentSpec):
        raise ValueError(
            "space: the architecture is one of the run's; change the space's options "
            "(space_options=), or pass the architecture in place of the run"
        )
    if given is not None and given != spec:
        return rebuild_space(given, data)
    other_data = request.data is not None and data.spec != result.config.data
    if not options and not other_data:
        return Space(spec, models.space.arch_space, models.space)
    if is_own_path(spec.name):
        construct = spec.options.get(CONSTRUCT)
        return resolve_space(template_of(models.space), options, data, construct)
    kept = {k: v for k, v in spec.options.items() if not (other_data and k in FACTS)}
    return resolve_space(spec.name, kept | options, data)


def _inheriting(
    result: Result, models: RunModels, space: Space, arch: Arch, data: Data, seed: int
) -> Subject:
    """Return an architecture with its weights of the run's supernet."""
    from raynas.setup.algorithms import trained_space
    from raynas.supernet.checkpoint import load_about

    config, checkpoint = result.config, models.checkpoint
    if config.supernet is None or checkpoint is None:
        raise ValueError("inherit: this run had no supernet to take weights of")
    if space.spec != config.space:
        raise ValueError(
            f"inherit: the supernet is one of {config.space.name} as the run searched it; leave "
            "out what changes the space (space_options, data)"
        )
    about = load_about(checkpoint)
    path = config.supernet.options.get("path") or under(result.path, SUPERNET)
    source = InheritedFrom(
        path=str(path), algo=about.get("algo"), seed=about.get("seed", config.seed)
    )
    return Subject(
        space=space,
        model_space=trained_space(models.space, checkpoint).seeded(source.seed),
        arch=arch,
        data=data,
        seed=seed,
        inherited=Inherited(source=source, network=lambda: models.inherited(arch)),
        run=result.path,
    )
