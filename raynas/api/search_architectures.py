"""``raynas.search``: a space, an algorithm, and a table of evaluated architectures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raynas.core.archspace import ArchSpace
from raynas.core.config import RayConfig
from raynas.core.constraints import Constraints
from raynas.core.metrics import probed
from raynas.core.progress import Progress, RunInfo
from raynas.core.termination import terminable
from raynas.report.reporting import news_of, reported
from raynas.results.result import Result
from raynas.results.summary import search_summary
from raynas.setup.algorithms import name_of
from raynas.setup.prepare import prepared
from raynas.setup.request import SearchRequest
from raynas.setup.run import run_search
from raynas.storage.run_folder import CONFIG, Folder
from raynas.storage.run_lock import RunLock

Options = Mapping[str, Any]


@terminable()
def search(
    space: Any = None,
    algo: Any = None,
    *,
    construct: Any = None,
    data: Any = None,
    task: Any = None,
    loss: Any = None,
    metrics: Mapping[str, Any] | None = None,
    evaluator: Any = None,
    supernet: Any = None,
    objectives: Mapping[str, str] | None = None,
    scalarize: Mapping[str, float] | None = None,
    constraints: Constraints | None = None,
    latency: str | Path | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    final: int | Mapping[str, Any] | None = None,
    seed: int | None = None,
    out: str | None = None,
    resume: bool = False,
    ray: RayConfig | Mapping[str, Any] | None = None,
    options: Options | None = None,
    space_options: Options | None = None,
    data_options: Options | None = None,
    track: Any = None,
    progress: Progress | bool | None = None,
) -> Result:
    """Search a space and return the table of evaluated architectures.

    With the evaluator ``shared``, a supernet is trained first (a Ray Train job) unless one is
    given; then architectures are sampled, and scored with its weights, as a Ray Tune run. A
    one-shot algorithm finds its architecture by that training; the ten most probable ones are
    scored, the derived one first.

    Args:
        space: a registered name, a ModelSpace, a class or function that builds an ``nn.Module``
            with choices, or an ArchSpace (with a callable evaluator); by default that of a trained
            supernet, if there is one, with its data and task.
        algo: a registered sampler or one-shot algorithm, or a configured one-shot algorithm such
            as ``raynas.algorithms.DARTS(unrolled=True)`` (whose seed is the run's); by default
            ``regularized_evolution``. One that trains weights only, such as ``spos``, trains the
            supernet, which the sampler of its paper then searches. A name may have options with it,
            as ``("EvolutionOptim", {"pop_size": 50})``.
        construct: what makes a space of ``space``, if that is a template of slots: constructors in
            order, as ``[("DefaultMixedOpConstructor", {"primitives": ["MB3E3", "MB3E6"]})]``, or
            one alone (see ``raynas.nn.construct``). A mixed operator that one names is the
            algorithm's, where it takes several, and must be its own where it does not.
        data: a registered name, a ``(train, valid[, test])`` tuple of datasets or loaders, one
            dataset, which is split, or a DataModule; by default ``digits`` where the evaluator
            looks at data, and none elsewhere.
        task: what is to be learned: a registered name such as ``regression``, alone or with options
            as ``("segmentation", {"ignore_index": 0})``, or a ``raynas.Task``; by default
            ``classification``.
        loss: a function of (output, target), in place of the task's.
        metrics: further columns by name, each a function of (outputs, targets) or an object of
            torchmetrics.
        evaluator: a registered name such as ``shared`` (the default) or ``standalone``, alone or
            with options as ``("table", {"path": "scores.parquet"})``; an object such as
            ``raynas.evaluators.Standalone(epochs=5)`` or one of your own with its methods; or a
            function of an Arch (or of the built module, if its first parameter is annotated so)
            that returns a dict of metrics, or a pair of these and a state_dict: the best one's
            weights are kept for ``Result.model``.
        supernet: the path of a trained one (``train_supernet``, or an earlier run's folder), or how
            to train one: options of ``spos`` and of its training, those of another algorithm, named
            under ``algo``, or a configured algorithm (whose seed is the run's); or a list of such,
            each of which trains on from the one before. With a one-shot algorithm that learns an
            architecture, what its own training begins with.
        objectives: the metrics to optimise, each to "max" or "min"; by default what the task goes
            by, such as the accuracy.
        scalarize: weights of several objectives, whose weighted sum is then the one objective;
            never assumed: without it, several need an algorithm that takes them. A run that goes
            on under other weights counts by these: what it has measured is merged anew.
        constraints: bounds on metrics, as ``{"macs": (None, 60e6)}`` or ``["macs<60e6"]``. What
            costs decide, or training-free measures (``synflow``, ``nwot``, ``grad_norm``), is never
            evaluated beyond its bounds; other trials that break one become ``infeasible``.
        latency: what the metric ``latency_ms`` is looked up in: ``cpu`` or ``gpu``, measured once
            on this machine, operator by operator; or the path of a table (see
            ``raynas.costs.LatencyTable``). Where an objective or a constraint asks for it, None
            measures on what the workers compute on.
        trials: how many architectures to tell in all, at most; 100 by default.
        epochs: of the supernet's training, or of each architecture's where the evaluator trains
            them.
        final: how many of the best are evaluated again at the end, from fresh weights by
            ``standalone`` and with three seeds each, none of them the run's, or a mapping with
            ``top``, ``seeds``, ``evaluator`` (in the forms above) and options of that evaluator, as
            ``{"top": 5, "epochs": 100}``. ``best`` is then the best of these, by the mean over
            their seeds; both scores stand in the table, and where the evaluator trains, the best's
            weights of its best seed are kept for ``Result.model``. What gives the same each time
            is asked once. With several objectives they are the front's that dominate most together.
            A run that goes on keeps its own; 0 leaves it out.
        seed: fixes the run (exactly so with ``ray=RayConfig(workers=1, batch=1)``); 0 by default.
        out: local folder or ``pyarrow.fs`` URI; ``runs/<space>-<algo>-<n>`` by default.
        resume: go on from what is in ``out``, with the settings of its ``run.json``; only what is
            to change must be said.
        ray: how to use Ray.
        options: of the algorithm; with a one-shot algorithm of its training too (``lr``, ...).
        space_options: of a registered space, such as ``{"width": 0.25}``.
        data_options: of a registered data set.
        track: where the numbers go besides the run's folder: ``tensorboard``, ``mlflow``, ``wandb``
            or another registered tracker, alone or with options as ``("mlflow", {"experiment":
            "mine"})``, or a list of such (see docs/tracking.md). A run that goes on keeps its own.
        progress: told how the run comes along; True shows a line, False nothing, and None a line on
            a terminal or in a notebook.

    Raises:
        ValueError, LookupError, TypeError: a name, option or combination that does not exist, said
            before anything starts.
        FileExistsError: ``out`` holds another run.
        FolderInUse: another process writes to ``out``.
        SearchFailed: the evaluator does not return the objective, or no architecture within the
            bounds was found.
        Interrupted: Ctrl-C; what was told is in ``out``.
    """
    request = SearchRequest(
        space=space,
        algo=algo,
        data=data,
        task=task,
        loss=loss,
        metrics=metrics,
        evaluator=evaluator,
        supernet=supernet,
        objectives=objectives,
        scalarize=scalarize,
        constraints=constraints,
        latency=latency,
        trials=trials,
        epochs=epochs,
        final=final,
        seed=seed,
        ray=ray,
        options=options,
        space_options=space_options,
        data_options=data_options,
        construct=construct,
    )
    news = news_of(progress, track)
    with RunLock("search") as lock:
        if out is not None:
            lock.take_if_there(str(out))
        completed = _completed(request, out, resume, news)
        run = prepared(completed, out, resume=resume, lock=lock)
        info = RunInfo(
            kind="search",
            out=run.config.out,
            config=run.config.model_dump(mode="json"),
            metric=probed(run.config.task_metric),
        )
        at_hand: Any = None if isinstance(space, str | ArchSpace | None) else space
        if construct is not None:
            at_hand = run.problem.space.model_space
        with reported(news, info):
            best = run_search(run, news)
            result = Result(
                run.config.out,
                space=at_hand,
                data=None if isinstance(data, str) else data,
                task=None if run.problem.data is None else run.problem.data.module.task,
            )
            news.finish(search_summary(result, best, files=news.takes_files))
    return result


def _completed(
    request: SearchRequest, out: str | None, resume: bool, progress: Progress
) -> SearchRequest:
    """Return the request with defaults, or with what the run to go on with had."""
    request = request.with_sampler()
    if resume and out is None:
        raise ValueError("resume goes on with the run in a folder: name it (out=, --out)")
    folder = None if out is None else Folder(out)
    if not resume or folder is None or not folder.has(CONFIG):
        return request.with_defaults()
    before = folder.read_config()
    completed = request.going_on(before)
    now = name_of(completed.algo)
    if now != before.algo.name:
        progress.phase(f"going on with {now} where {before.algo.name} has searched")
    return completed
