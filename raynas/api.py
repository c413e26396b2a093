"""The functions that users call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, RayConfig, SearchConfig, ray_config, validated
from raynas.core.constraints import Constraints, as_constraints
from raynas.core.errors import Interrupted
from raynas.core.goals import goals_of
from raynas.core.progress import Progress
from raynas.core.sampler import Sampler
from raynas.core.versions import versions
from raynas.results.result import Result
from raynas.setup.algorithms import name_of, resolve_sampler
from raynas.setup.bounds import bounded
from raynas.setup.evaluation import SHARED
from raynas.setup.latency_source import LatencySource, latency_source
from raynas.setup.problem import Data, Problem, Space
from raynas.setup.resolve import build, mapping, resolve_data, resolve_space
from raynas.setup.run import run_search
from raynas.setup.runner import runner_of
from raynas.setup.strategy import SearchStrategy, search_strategy
from raynas.setup.supernets import claim_supernet, supernet_to_train
from raynas.storage.run_folder import SUPERNET, Folder, absolute, fresh

if TYPE_CHECKING:
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
    problem_data = _data_of(space, data, data_options)
    searched = resolve_space(space, mapping("space_options", space_options), problem_data)
    algo_spec = ComponentSpec(name=name_of(algo), options=mapping("options", options))
    fields = dict(
        space=searched.spec,
        algo=algo_spec,
        evaluator=ComponentSpec(name=SHARED),
        objectives={"accuracy": "max"} if objectives is None else mapping("objectives", objectives),
        scalarize=mapping("scalarize", scalarize),
        constraints={bound.metric: (bound.low, bound.high) for bound in bounds},
        trials=trials,
        seed=seed,
        out=absolute(str(out or "runs")),
        ray=ray_config(ray),
        versions=versions(),
    )
    config = validated(SearchConfig, fields)
    latency_table = latency_source(latency, evaluator, searched, config, bounds, resume=resume)
    searched, left = bounded(searched, problem_data, bounds, latency_table, config.seed)
    problem = Problem(
        space=searched,
        data=problem_data,
        goals=goals_of(config.objectives, weights=config.scalarize, constraints=left),
        seed=config.seed,
    )
    strategy = search_strategy(
        algo,
        problem,
        options=algo_spec.options,
        evaluator=evaluator,
        supernet=supernet,
        epochs=epochs,
        timed=latency_table is not None,
    )
    table = None if latency_table is None else latency_table.table
    config = _completed(config, strategy, latency_table, resume)
    if out is None:  # nothing can be wrong any more that would leave it empty
        config = config.model_copy(update={"out": fresh(_stem(searched, strategy.algo))})
    folder = Folder(config.out)
    folder.begin(config, resume)
    if latency_table is not None:
        latency_table.record(folder)
    run_search(config, problem, strategy, table, progress or Progress())
    return Result(
        config.out,
        space=None if isinstance(space, str | ArchSpace) else space,
        data=None if isinstance(data, str) else data,
    )


def _completed(
    config: SearchConfig, strategy: SearchStrategy, latency: LatencySource | None, resume: bool
) -> SearchConfig:
    """Return the configuration as the run folder keeps it."""
    most = strategy.max_trials
    evaluation = strategy.evaluation
    parts = {
        "algo": strategy.algo,
        "evaluator": evaluation.component,
        "data": evaluation.data,
        "supernet": None if evaluation.supernet is None else evaluation.supernet.spec,
        "trials": config.trials if resume or most is None else min(config.trials, most),
        "latency": None if latency is None else latency.source,
    }
    return config.model_copy(update=parts).normalised()


def _data_of(space: Any, data: Any, options: Options | None) -> Data | None:
    """Return the data and their name in the run folder; a plain ArchSpace has none."""
    if not isinstance(space, ArchSpace):
        return resolve_data(data, mapping("data_options", options))
    if options or data != DEFAULT_DATA:
        raise ValueError("an ArchSpace is searched with a function, which uses no data of ours")
    return None


def _stem(space: Space, algo: ComponentSpec) -> str:
    return f"{space.spec.name.rpartition(':')[2]}-{algo.name}"


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
    resolved_data = resolve_data(data, mapping("data_options", data_options))
    resolved_space = resolve_space(space, mapping("space_options", space_options), resolved_data)
    supernet = supernet_to_train(
        algo, resolved_space, resolved_data, mapping("options", options), epochs
    )
    folder = absolute(str(out or fresh(_stem(resolved_space, supernet.spec))))
    claim_supernet(folder, resume)
    news = progress or Progress()
    try:
        with runner_of(ray_config(ray), news) as runner:
            supernet.train(folder, seed, runner, news)
    except KeyboardInterrupt:
        raise Interrupted(f"training; go on with out={folder!r}, resume=True") from None
    finally:
        news.close()
    return f"{folder}/{SUPERNET}"


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
    built, built.spec = build(SPACES, name, options)
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
