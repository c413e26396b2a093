"""The functions that users call."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas import __version__
from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, RayConfig, SearchConfig, validated
from raynas.core.constraints import Constraints, as_constraints
from raynas.core.errors import Interrupted, SearchFailed
from raynas.core.feasible import Violation
from raynas.core.fixed import write_arch
from raynas.core.goals import Goals, goals_of
from raynas.core.progress import Progress
from raynas.core.sampler import Sampler
from raynas.core.study import Study, StudyInfo
from raynas.results.result import Result
from raynas.setup import resolve
from raynas.setup.bounds import bounded
from raynas.setup.evaluation import claim_supernet, training_plan
from raynas.setup.latency_source import latencies
from raynas.setup.plans import SHARED
from raynas.setup.strategy import SearchStrategy, method
from raynas.storage.run_folder import BEST, Folder, absolute, fresh

if TYPE_CHECKING:
    from raynas.costs.latency import LatencyTable
    from raynas.nn.modelspace import ModelSpace

Options = Mapping[str, Any]
DEFAULT_DATA = "digits"


def search(
    space: Any,
    algo: Any = "regularized_evolution",
    *,
    data: Any = DEFAULT_DATA,
    evaluator: Any = SHARED,
    supernet: Any = None,
    objectives: Mapping[str, str] | None = None,
    scalarize: Mapping[str, float] | None = None,
    constraints: Constraints | None = None,
    latency: str | Path | None = None,
    trials: int = 100,
    epochs: int | None = None,
    seed: int = 0,
    out: str | None = None,
    resume: bool = False,
    ray: RayConfig | Mapping[str, Any] | None = None,
    options: Options | None = None,
    space_options: Options | None = None,
    data_options: Options | None = None,
    progress: Progress | None = None,
) -> Result:
    """Search a space and return the table of evaluated architectures.

    With the evaluator ``shared``, a supernet is trained first (a Ray Train job) unless one is
    given; then architectures are sampled, and scored with its weights, as a Ray Tune run. A
    one-shot algorithm finds its architecture by that training; the ten most probable ones are
    scored, the derived one first.

    Args:
        space: a registered name, a ModelSpace, a class or function that builds an ``nn.Module``
            with choices, or an ArchSpace (with a callable evaluator).
        algo: a registered sampler or one-shot algorithm, or a configured one-shot algorithm such
            as ``raynas.algorithms.DARTS(unrolled=True)`` (whose seed is the run's).
        data: a registered name, a ``(train, valid[, test])`` tuple of datasets, or a DataModule.
        evaluator: a registered name such as ``shared`` or ``standalone``, alone or with options as
            ``("table", {"path": "scores.parquet"})``; an object such as
            ``raynas.evaluators.Standalone(epochs=5)`` or one of your own with its methods; or a
            function of an Arch (or of the built module, if its first parameter is annotated so)
            that returns a dict of metrics.
        supernet: the path of a trained one (``train_supernet``, or an earlier run's folder), or how
            to train one: options of ``spos`` and of its training, or a configured algorithm
            (whose seed is the run's).
        objectives: the metrics to optimise, each to "max" or "min".
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
        trials: how many architectures to tell in all, at most.
        epochs: of the supernet's training, or of each architecture's where the evaluator trains
            them.
        seed: fixes the run (exactly so with ``ray=RayConfig(workers=1, batch=1)``).
        out: local folder or ``pyarrow.fs`` URI; ``runs/<space>-<algo>-<n>`` by default.
        resume: go on from what is in ``out``.
        ray: how to use Ray.
        options: of the algorithm; with a one-shot algorithm of its training too (``lr``, ...).
        space_options: of a registered space, such as ``{"width": 0.25}``.
        data_options: of a registered data set.
        progress: told how the run comes along.

    Raises:
        ValueError, LookupError, TypeError: a name, option or combination that does not exist, said
            before anything starts.
        FileExistsError: ``out`` holds another run.
        SearchFailed: the evaluator does not return the objective, or no architecture within the
            bounds was found.
        Interrupted: Ctrl-C; what was told is in ``out``.
    """
    if resume and out is None:
        raise ValueError("resume goes on with the run in a folder: name it (out=, --out)")
    bounds = as_constraints(constraints)
    wanted = (
        {"accuracy": "max"} if objectives is None else resolve.mapping("objectives", objectives)
    )
    named, module = _data_of(space, data, data_options)
    found = resolve.resolve_space(space, resolve.mapping("space_options", space_options), module)
    named_algo = ComponentSpec(
        name=resolve.name_of(algo), options=resolve.mapping("options", options)
    )
    fields = dict(
        space=found.spec,
        algo=named_algo,
        evaluator=ComponentSpec(name=SHARED),
        objectives=wanted,
        scalarize=resolve.mapping("scalarize", scalarize),
        constraints={one.metric: (one.low, one.high) for one in bounds},
        trials=trials,
        seed=seed,
        out=absolute(str(out or fresh(f"{found.spec.name.rpartition(':')[2]}-{named_algo.name}"))),
        ray=_ray_config(ray),
        versions=_versions(),
    )
    config = validated(SearchConfig, fields)
    timed = latencies(latency, evaluator, found, module, config, bounds, resume=resume)
    found, left = bounded(found, module, bounds, timed, config.seed)
    goals = goals_of(config.objectives, weights=config.scalarize, constraints=left)
    how = method(
        algo,
        found,
        module,
        named,
        options=named_algo.options,
        evaluator=evaluator,
        supernet=supernet,
        epochs=epochs,
        goals=goals,
        seed=seed,
        timed=timed is not None,
    )
    most = config.trials if resume else min(config.trials, how.most or config.trials)
    source = None if timed is None else timed.source
    parts = {
        "algo": how.algo,
        "evaluator": how.plan.spec,
        "data": how.plan.data,
        "supernet": how.plan.supernet,
        "trials": most,
        "latency": source,
    }
    config = config.model_copy(update=parts).normalised()
    table = None if timed is None else timed.table
    Folder(config.out).begin(config, resume)
    if timed is not None:
        timed.record()
    _run(config, found, goals, how, table, progress or Progress())
    return Result(
        config.out,
        space=None if isinstance(space, str | ArchSpace) else space,
        data=None if isinstance(data, str) else data,
    )


def _run(
    config: SearchConfig,
    space: resolve.Space,
    goals: Goals,
    how: SearchStrategy,
    latency: LatencyTable | None,
    progress: Progress,
) -> None:
    """Evaluate, with Ray, until the configuration is fulfilled."""
    from raynas.cluster.connect import connected
    from raynas.cluster.timed import timed
    from raynas.cluster.tune import run_study
    from raynas.storage.tables import TrialStore, load_trials

    study: Study | None = None
    progress.phase("starting Ray")
    try:
        with connected(config.ray):
            recipe = timed(how.plan.recipe(config, progress), latency)
            history = load_trials(config.out, space.arch)
            sampler = how.sampler(config, history)
            bounds = space.arch.violation
            store = TrialStore(config.out, space.arch, recipe.metrics)
            study = Study(
                sampler,
                goals,
                trials=config.trials,
                setting=StudyInfo(
                    algo=config.algo.name,
                    evaluator=recipe.name,
                    epochs=recipe.epochs,
                    seed=config.seed,
                ),
                sink=store.append,
                bounds=bounds if isinstance(bounds, Violation) else None,
                history=history,
                make_sampler=lambda: how.sampler(config, history),
            )
            progress.phase("starting workers")
            run_study(study, space.arch, recipe, config.ray, progress, startup=_startup(sampler))
            if not study.told and bounds is not None:
                raise SearchFailed(f"no architecture was found that keeps {bounds}")
    except KeyboardInterrupt:
        told = "before the search began" if study is None else f"after {study.told} trials"
        raise Interrupted(
            f"{told} of {config.trials}; go on with out={config.out!r}, resume=True "
            f"(--out {config.out} --resume)"
        ) from None
    finally:
        progress.close()
        if study is not None and study.best is not None:
            Folder(config.out).write(BEST, write_arch(study.best.arch))
        elif study is not None:
            Folder(config.out).remove(BEST)  # of a run under looser bounds


def _data_of(space: Any, data: Any, options: Options | None) -> tuple[Any, Any]:
    """Return the data's name in the run folder and the data; a plain ArchSpace has none."""
    if not isinstance(space, ArchSpace):
        return resolve.resolve_data(data, resolve.mapping("data_options", options))
    if options or data != DEFAULT_DATA:
        raise ValueError("an ArchSpace is searched with a function, which uses no data of ours")
    return None, None


def _startup(sampler: Sampler) -> int | None:
    startup: int | None = getattr(sampler, "startup", 0)
    return startup


def _ray_config(ray: RayConfig | Mapping[str, Any] | None) -> RayConfig:
    return ray if isinstance(ray, RayConfig) else validated(RayConfig, ray or {})


def _versions() -> dict[str, str]:
    packages = ("torch", "ray", "numpy")
    return {"raynas": __version__} | {name: importlib.metadata.version(name) for name in packages}


def train_supernet(
    space: Any,
    algo: Any = "spos",
    *,
    data: Any = DEFAULT_DATA,
    epochs: int | None = None,
    seed: int = 0,
    out: str | None = None,
    resume: bool = False,
    ray: RayConfig | Mapping[str, Any] | None = None,
    options: Options | None = None,
    space_options: Options | None = None,
    data_options: Options | None = None,
    progress: Progress | None = None,
) -> str:
    """Train a supernet as a Ray Train job and return its folder, for ``search(supernet=...)``.

    Args:
        space: as for ``search``, but for a plain ArchSpace, which has no weights.
        algo: a registered one-shot algorithm, or a configured one.
        data: as for ``search``.
        epochs: passes over the training split.
        seed: fixes weights, paths and batches.
        out: local folder; ``runs/<space>-<algo>-<n>`` by default.
        resume: go on with the training that ``out`` holds a part of.
        ray: how to use Ray.
        options: of the algorithm and of the training (``lr``, ``batch_size``, ...).
        space_options: of a registered space.
        data_options: of a registered data set.
        progress: told of every epoch.

    Raises:
        FileExistsError: ``out`` holds a supernet already and ``resume`` is off.
        Interrupted: Ctrl-C; the last checkpoint is in ``out``.
    """
    from raynas.cluster.connect import connected

    named, module = resolve.resolve_data(data, data_options or {})
    found = resolve.resolve_space(space, space_options or {}, module)
    spec, settings = resolve.resolve_one_shot(algo, options or {}, epochs)
    how = training_plan(found, module, named, spec, settings)
    folder = absolute(
        str(out) if out else fresh(f"{found.spec.name.rpartition(':')[2]}-{spec.name}")
    )
    claim_supernet(folder, resume)
    config = _ray_config(ray)
    told = progress or Progress()
    try:
        with connected(config):
            how.train(folder, seed, config, told)
    except KeyboardInterrupt:
        raise Interrupted(f"training; go on with out={folder!r}, resume=True") from None
    finally:
        told.close()
    return f"{folder}/supernet"


def load(path: str, *, space: Any = None, data: Any = None) -> Result:
    """Return the result of a run from its folder alone.

    Args:
        path: local folder or ``pyarrow.fs`` URI.
        space: the user's own space, where ``Result.model`` cannot import it.
        data: the user's own data, likewise.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    return Result(path, space=space, data=data)


def space(name: str, **options: Any) -> ModelSpace:
    """Return a registered search space.

    Args:
        name: registered; ``available("spaces")`` lists them.
        options: of the space; ``describe(name)`` lists them.

    Raises:
        UnknownName: no space has this name.
        ValueError: the space has no such option.
    """
    from raynas.nn.modelspace import SPACES

    built: ModelSpace
    built, built.spec = resolve.build(SPACES, name, options)
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
    return resolve.resolve_sampler(name, space, seed, options)
