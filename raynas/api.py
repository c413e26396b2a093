"""The functions that users call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.archspace import ArchSpace
from raynas.core.config import RayConfig, ray_config
from raynas.core.constraints import Constraints
from raynas.core.errors import Interrupted
from raynas.core.metrics import probed
from raynas.core.progress import Progress, RunInfo, RunSummary
from raynas.core.sampler import Sampler
from raynas.core.termination import terminable
from raynas.core.versions import versions
from raynas.report.reporting import news_of, reported
from raynas.results.result import Result
from raynas.results.retraining import retrained
from raynas.results.summary import search_summary
from raynas.results.trained import Trained
from raynas.setup.algorithms import name_of, resolve_sampler
from raynas.setup.descriptions import describe_best
from raynas.setup.pipeline import (
    arguments,
    claimed,
    folder_of,
    read_pipeline,
    retrain_arguments,
    search_arguments,
    told_where,
)
from raynas.setup.prepare import prepared, stem
from raynas.setup.request import DEFAULT_DATA, SearchRequest
from raynas.setup.resolve import build_space, mapping, resolve_space
from raynas.setup.resolve_data import resolve_data
from raynas.setup.resolve_task import with_task
from raynas.setup.retrain_request import RetrainRequest
from raynas.setup.run import run_search
from raynas.setup.runner import runner_of
from raynas.setup.step_algorithms import check_algorithms
from raynas.setup.supernet_request import resolve_training
from raynas.setup.supernets import claim_supernet
from raynas.storage.run_folder import CONFIG, SUPERNET, Folder, absolute, fresh

if TYPE_CHECKING:
    from raynas.nn.modelspace import ModelSpace

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
        seed=seed,
        ray=ray,
        options=options,
        space_options=space_options,
        data_options=data_options,
        construct=construct,
    )
    news = news_of(progress, track)
    completed = _completed(request, out, resume, news)
    run = prepared(completed, out, resume=resume)
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
    claim_supernet(folder, resume)
    parts = {"space": resolved_space.spec, "data": resolved_data.spec, "supernet": trained.spec}
    config = {n: part and part.model_dump(mode="json") for n, part in parts.items()}
    info = RunInfo(
        kind="supernet",
        out=folder,
        config={**config, "seed": seed, "versions": versions()},
        metric=probed(resolved_data.module.task.objective[0]),
    )
    with reported(news, info):
        try:
            with runner_of(ray_config(ray)) as runner:
                trained.train(folder, seed, runner, news)
        except KeyboardInterrupt:
            raise Interrupted(f"training; go on with out={folder!r}, resume=True") from None
        news.finish(RunSummary())
    return f"{folder}/{SUPERNET}"


@terminable()
def retrain(
    what: Any,
    *,
    arch: Any = None,
    space: Any = None,
    data: Any = None,
    task: Any = None,
    loss: Any = None,
    metrics: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    inherit: bool = False,
    seed: int | None = None,
    out: str | None = None,
    resume: bool = False,
    ray: RayConfig | Mapping[str, Any] | None = None,
    options: Options | None = None,
    space_options: Options | None = None,
    data_options: Options | None = None,
    track: Any = None,
    progress: Progress | bool | None = None,
) -> Trained:
    """Train an architecture to the end, as a Ray Train job on one worker or several.

    The weights of the best epoch on the validation split are kept besides the last ones, and tested
    once, after the last epoch, if there is a test split.

    Args:
        what: a Result, or the path of its run, whose best architecture is trained; or an
            architecture: a mapping from label to choice, its JSON or the path of a ``.json`` file,
            or a genotype.
        arch: another architecture of the run's space.
        space: of an architecture, as for ``search``; a run has its own.
        data: as for ``search``; by default the run's, of an architecture ``digits``.
        task: as for ``search``, and so are ``loss`` and ``metrics``; by default the run's.
        loss: likewise.
        metrics: likewise.
        epochs: passes over the training split; 100 by default.
        inherit: begin with the weights of the run's supernet; else from scratch.
        seed: fixes weights, batches and all that is drawn; by default the run's, or 0.
        out: local folder or ``pyarrow.fs`` URI; ``RUN/retrained/<n>`` by default, of an
            architecture ``runs/<space>-retrain-<n>``.
        resume: go on with the training in ``out``, or with the newest of the run, by its own
            settings where none are said.
        ray: how to use Ray; ``train_workers`` is how many processes train together.
        options: of the training (see ``raynas.core.train_settings.TrainSettings``), such as
            ``{"optimizer": "adamw", "lr": 1e-3, "mixup": 0.2, "drop_path": 0.2}``.
        space_options: that differ from the run's, such as ``{"channels": 36, "layers": 20}``; or
            those of ``space``.
        data_options: of a registered data set, likewise.
        track: where the numbers go besides, as for ``search``.
        progress: told of every epoch, as for ``search``.

    Raises:
        ValueError, LookupError, TypeError: an architecture, option or combination that does not
            exist, said before anything starts.
        FileExistsError: ``out`` holds another training and ``resume`` is off.
        StoreMismatch: ``out`` holds a training of another configuration.
        RuntimeError: the training failed.
        Interrupted: Ctrl-C; the last checkpoint is in ``out``.
    """
    request = RetrainRequest(
        what=what,
        arch=arch,
        space=space,
        data=data,
        task=task,
        loss=loss,
        metrics=metrics,
        epochs=epochs,
        inherit=inherit,
        seed=seed,
        out=out,
        resume=resume,
        ray=ray,
        options=options,
        space_options=space_options,
        data_options=data_options,
    )
    return retrained(request, news_of(progress, track))


@terminable()
def run(
    config: str | Path | Mapping[str, Any],
    *,
    sets: Mapping[str, Any] | None = None,
    smoke: bool = False,
    out: str | None = None,
    resume: bool = False,
    track: Any = None,
    progress: Progress | bool | None = None,
) -> list[Any]:
    """Run the steps of a configuration file, one after the other, and return what each gives.

    A supernet's step gives its folder, a search a Result, a retraining a Trained. A search takes
    the supernet of the step before it, a retraining the best of the search before it. What the file
    comes to stands in the run folder as ``config.yaml``, and runs again.

    Args:
        config: path of a YAML file (see docs/pipelines.md), or a dict that is like one; those of
            Vega and ModularNAS are converted, and what differs is said on stderr.
        sets: values in place of the file's, by key path, such as ``{"search.trials": 500}``.
        smoke: whether the file's own values for a short run hold.
        out: folder or URI, in place of the file's; ``runs/pipeline-<n>`` by default.
        resume: go on with what is in ``out``.
        track: where the numbers of each step go besides, in place of the file's.
        progress: told how each step comes along.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a key or a value is wrong: the sentence names its path, what came, what was
            expected and the nearest valid key.
        FileExistsError: ``out`` holds another pipeline.
    """
    own_sets = {} if track is None else {"track": track}
    plan = read_pipeline(config, smoke=smoke, sets={**(sets or {}), **own_sets})
    check_algorithms(plan)
    plan, folder = claimed(plan, out, resume)
    outcomes: list[Any] = []
    supernet: str | None = None
    found: Result | None = None
    for number, step in enumerate(plan.steps):
        own: dict[str, Any] = {"out": folder_of(plan, folder, number), "progress": progress}
        own["resume"] = resume
        with told_where(f"steps.{number}.{step.kind}", folder):
            if step.kind == "supernet":
                supernet = train_supernet(**arguments(plan, step), **own)
                outcomes.append(supernet)
            elif step.kind == "search":
                found = search(**search_arguments(plan, step, supernet), **own)
                outcomes.append(found)
                if plan.descriptions:
                    describe_best(plan, found.rebuilt.space, found.best.arch, found.path)
            else:
                outcomes.append(retrain(**retrain_arguments(plan, step, found), **own))
    return outcomes


def load(path: str, *, space: Any = None, data: Any = None, task: Any = None) -> Result:
    """Return the result of a run from its folder alone.

    Args:
        path: local folder or ``pyarrow.fs`` URI.
        space: the user's own space, where ``Result.model`` cannot import it.
        data: the user's own data, likewise.
        task: the user's own task, likewise.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    return Result(path, space=space, data=data, task=task)


def space(name: str, **options: Any) -> ModelSpace:
    """Return a registered search space.

    Args:
        name: registered; ``available("spaces")`` lists them.
        options: of the space; ``describe(name)`` lists them. Spaces of images also take
            ``resolutions``, to choose from.

    Raises:
        UnknownName: no space has this name.
        ValueError: the space has no such option.
    """
    built: ModelSpace
    built, built.spec = build_space(name, options)
    return built


def sampler(name: str, space: ArchSpace, *, seed: int = 0, **options: Any) -> Sampler:
    """Return a registered sampler, to be asked and told without Ray.

    Args:
        name: registered; ``available("algorithms")`` lists them.
        space: of the architectures.
        seed: fixes the sampler's choices.
        options: of the algorithm.

    Raises:
        TypeError: ``space`` is no ArchSpace; a model's is its ``arch_space``.
        ValueError: a negative seed.
    """
    if not isinstance(space, ArchSpace):
        hint = "; a model's is its arch_space" if hasattr(space, "arch_space") else ""
        raise TypeError(f"space: expected an ArchSpace, got {type(space).__name__}{hint}")
    if seed < 0:
        raise ValueError(f"seed: expected at least 0, got {seed}")
    return resolve_sampler(name, space, seed, options)
