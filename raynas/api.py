"""The functions that users call."""

from __future__ import annotations

import copy
import importlib.metadata
import inspect
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from raynas import __version__, assemble
from raynas.bounds import bounded
from raynas.core.archspace import ArchSpace
from raynas.core.config import Named, RayConfig, SearchConfig, validated
from raynas.core.constraints import Constraints, as_constraints
from raynas.core.errors import Interrupted, UnknownName, nearest
from raynas.core.evaluator import EVALUATORS
from raynas.core.goals import Goals, goals_of
from raynas.core.options import options_of
from raynas.core.progress import Progress
from raynas.core.registry import Registry, nearest_spelling
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.study import Setting, Study
from raynas.folder import BEST, Folder, absolute, fresh
from raynas.measuring import SHARED, claim_supernet, training_plan
from raynas.method import Method, method
from raynas.report.plugin import without_arguments
from raynas.result import Result, arch_json

if TYPE_CHECKING:
    from raynas.core.constraints import Constraints
    from raynas.costs.cost import Cost
    from raynas.nn.modelspace import ModelSpace
    from raynas.report.profile import SpaceProfile

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
            never assumed: without it, several need an algorithm that takes them.
        constraints: bounds on metrics, as ``{"macs": (None, 60e6)}`` or ``["macs<60e6"]``. What
            costs alone decide is never evaluated beyond its bounds; other trials that break one
            become ``infeasible``.
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
        SearchFailed: the evaluator does not return the objective.
        Interrupted: Ctrl-C; what was told is in ``out``.
    """
    if resume and out is None:
        raise ValueError("resume goes on with the run in a folder: name it (out=, --out)")
    bounds = as_constraints(constraints)
    wanted = {"accuracy": "max"} if objectives is None else _mapping("objectives", objectives)
    named, module = _data_of(space, data, data_options)
    found = assemble.resolve_space(space, _mapping("space_options", space_options), module)
    named_algo = Named(name=assemble.name_of(algo), options=_mapping("options", options))
    fields = dict(
        space=found.spec,
        algo=named_algo,
        evaluator=Named(name=SHARED),
        objectives=wanted,
        scalarize=_mapping("scalarize", scalarize),
        constraints={one.metric: (one.low, one.high) for one in bounds},
        trials=trials,
        seed=seed,
        out=absolute(str(out or fresh(f"{found.spec.name.rpartition(':')[2]}-{named_algo.name}"))),
        ray=_ray_config(ray),
        versions=_versions(),
    )
    config = validated(SearchConfig, fields)
    found, left = bounded(found, module, bounds)
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
    )
    parts = {"evaluator": how.plan.spec, "data": how.plan.data, "supernet": how.plan.supernet}
    most = min(config.trials, how.most or config.trials)
    config = config.model_copy(update=parts | {"algo": how.algo, "trials": most}).normalised()
    Folder(config.out).begin(config, resume)
    _run(config, found, goals, how, progress or Progress())
    return Result(
        config.out,
        space=None if isinstance(space, str | ArchSpace) else space,
        data=None if isinstance(data, str) else data,
    )


def _run(
    config: SearchConfig,
    space: assemble.Space,
    goals: Goals,
    how: Method,
    progress: Progress,
) -> None:
    """Evaluate, with Ray, until the configuration is fulfilled."""
    from raynas.cluster.connect import connected
    from raynas.cluster.tune import run_study
    from raynas.store import TrialStore, load_trials

    study: Study | None = None
    progress.phase("starting Ray")
    try:
        with connected(config.ray):
            recipe = how.plan.recipe(config, progress)
            sampler = how.sampler(config)
            store = TrialStore(config.out, space.arch, recipe.metrics)
            study = Study(
                sampler,
                goals,
                trials=config.trials,
                setting=Setting(
                    algo=config.algo.name,
                    evaluator=recipe.name,
                    epochs=recipe.epochs,
                    seed=config.seed,
                ),
                sink=store.append,
                history=load_trials(config.out, space.arch),
            )
            progress.phase("starting workers")
            run_study(study, space.arch, recipe, config.ray, progress, startup=_startup(sampler))
    except KeyboardInterrupt:
        told = "before the search began" if study is None else f"after {study.told} trials"
        raise Interrupted(
            f"{told} of {config.trials}; go on with out={config.out!r}, resume=True "
            f"(--out {config.out} --resume)"
        ) from None
    finally:
        progress.close()
        if study is not None and study.best is not None:
            Folder(config.out).write(BEST, arch_json(study.best.arch))


def _data_of(space: Any, data: Any, options: Options | None) -> tuple[Any, Any]:
    """Return the data's name in the run folder and the data; a plain ArchSpace has none."""
    if not isinstance(space, ArchSpace):
        return assemble.resolve_data(data, _mapping("data_options", options))
    if options or data != DEFAULT_DATA:
        raise ValueError("an ArchSpace is searched with a function, which uses no data of ours")
    return None, None


def _mapping(name: str, given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{name}: expected a dict, got {given!r}")
    return dict(given or {})


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

    named, module = assemble.resolve_data(data, data_options or {})
    found = assemble.resolve_space(space, space_options or {}, module)
    spec, settings = assemble.resolve_one_shot(algo, options or {}, epochs)
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
    built, built.spec = assemble.build(SPACES, name, options)
    return built


def sampler(name: str, space: ArchSpace, *, seed: int = 0, **options: Any) -> Sampler:
    """Return a registered sampler, to be asked and told without Ray.

    Args:
        name: registered; ``available("algorithms")`` lists them.
        space: of the architectures.
        seed: fixes the sampler's choices.
        options: of the algorithm.
    """
    return assemble.resolve_sampler(name, space, seed, options)


def cost(
    what: Any,
    arch: Mapping[str, Any] | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
) -> Cost:
    """Return parameters, multiply-accumulates and peak activation bytes of one example's pass.

    Args:
        what: a module, or a class or function that builds one, with ``input_shape``; or a
            ModelSpace, or the name of a registered one.
        arch: which of its architectures, if it has choices.
        input_shape: of one example, without the batch.

    Raises:
        ValueError: the input shape, or a space's architecture, is missing.
        TypeError: ``what`` is none of these, or the input shape is no tuple of whole numbers.
    """
    import torch
    from torch import nn

    from raynas.costs.cost import cost_of
    from raynas.nn.modelspace import ModelSpace
    from raynas.nn.mutable import freeze, mutables

    _check_shape(input_shape)
    if isinstance(what, str):
        what = assemble.resolve_space(what, {}, None).model
    elif callable(what) and not isinstance(what, nn.Module):
        what = ModelSpace(what).supernet()
    elif not isinstance(what, nn.Module | ModelSpace):
        raise TypeError(
            "expected a module, a ModelSpace, a registered space's name, or a class or function "
            f"that builds a module, got {what!r}"
        )
    if isinstance(what, ModelSpace):
        if arch is None:
            raise ValueError("the cost of a space depends on the architecture: pass arch=")
        example = what.example_input() if input_shape is None else torch.zeros(1, *input_shape)
        return cost_of(what.build(arch), example)
    if any(mutables(what)):
        if arch is None:
            raise ValueError("the cost of a model with choices depends on them: pass arch=")
        what = freeze(what, arch)
    if input_shape is None:
        raise ValueError("pass input_shape=, the shape of one example without the batch")
    return cost_of(what, torch.zeros(1, *input_shape))


def profile(
    space: Any,
    *,
    constraints: Constraints | None = None,
    latency: Any = None,
    samples: int = 1000,
    seed: int = 0,
    space_options: Options | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> SpaceProfile:
    """Return what a space costs, before anything is trained: print it, or read its fields.

    Args:
        space: as for ``search``, or a model with choices; but no plain ArchSpace, which has no
            costs.
        constraints: from metric to (low, high), or texts such as ``"macs<60e6"``; whether each can
            be met, and by which share of the space, is part of the answer.
        latency: a LatencyTable, or the path of one.
        samples: architectures to draw for the median and the shares.
        seed: fixes the draws.
        space_options: of a registered space.
        input_shape: of one example, where the space does not know it.

    Raises:
        ValueError: a malformed or contradictory constraint, or one on a metric that is not known
            before training; or the input shape is not known.
        TypeError: ``space`` is none of these, or the input shape is no tuple of whole numbers.
    """
    import torch
    from torch import nn

    from raynas.core.constraints import as_constraints
    from raynas.costs import CostTable, LatencyTable
    from raynas.nn.modelspace import ModelSpace
    from raynas.report.profile import check_metrics, space_profile

    wanted = as_constraints(constraints)
    check_metrics(wanted, latency is not None)
    _check_shape(input_shape)
    if isinstance(space, nn.Module):
        space = ModelSpace(partial(copy.deepcopy, space), name=type(space).__name__)
        space.spec = Named(name=space.name)
    found = assemble.resolve_space(space, _mapping("space_options", space_options), None)
    if found.model is None:
        raise TypeError("an ArchSpace has no networks whose costs could be told")
    model, name = found.model, found.spec.name.rpartition(":")[2]
    if input_shape is None and model.input_shape is None:
        raise ValueError(
            f"the input shape of {name} is not known; pass input_shape= (--input-shape), such as "
            "(3, 32, 32) for images"
        )
    example = model.example_input() if input_shape is None else torch.zeros(1, *input_shape)
    supernet = model.supernet()
    if latency is not None and not isinstance(latency, LatencyTable):
        latency = LatencyTable.load(latency, supernet)
    table = CostTable(supernet, example)
    return space_profile(
        name,
        found.arch,
        table,
        constraints=wanted,
        latency=latency,
        samples=samples,
        seed=seed,
    )


def _check_shape(shape: object) -> None:
    whole = isinstance(shape, list | tuple) and all(type(n) is int and n > 0 for n in shape)
    if shape is not None and not whole:
        raise TypeError(
            "input_shape: expected a tuple of positive whole numbers without the batch, such as "
            f"(3, 32, 32), got {shape!r}"
        )


def registries() -> dict[str, list[Registry[Any]]]:
    """Return every registry by the kind that users call it."""
    from raynas.data.module import DATA
    from raynas.gradient.mixed import MIXED_OPS
    from raynas.nn.construct.chain import CONSTRUCTORS
    from raynas.nn.export.registry import EXPORTERS
    from raynas.nn.graph import GRAPH_OPERATORS
    from raynas.nn.modelspace import SPACES
    from raynas.nn.oneshot import ONE_SHOTS
    from raynas.nn.operators import OPERATORS

    return {
        "algorithms": [SAMPLERS, ONE_SHOTS],
        "spaces": [SPACES],
        "operators": [OPERATORS, GRAPH_OPERATORS],
        "mixed_operators": [MIXED_OPS],
        "constructors": [CONSTRUCTORS],
        "exporters": [EXPORTERS],
        "evaluators": [EVALUATORS],
        "data": [DATA],
    }


def available(kind: str) -> list[str]:
    """Return the registered names of a kind: algorithms, spaces, operators, evaluators, data, ...

    Raises:
        ValueError: there is no such kind.
    """
    kinds = registries()
    if kind not in kinds:
        raise ValueError(f"no kind of plug-in is named {kind!r}; {nearest(kind, kinds)}")
    return sorted({name for registry in kinds[kind] for name in registry})


def describe(name: str) -> str:
    """Return what a registered name is: its kind, description, options and defaults.

    An alias is told as such; what several registries know is described once for each.

    Raises:
        UnknownName: nothing has this name.
        ImportError: an entry point offers it and cannot be loaded.
    """
    every = [registry for group in registries().values() for registry in group]
    found: list[str] = []
    for registry in every:
        with suppress(UnknownName):
            found.append(_described(registry, name))
    if not found:
        names = [(registry, known) for registry in every for known in registry]
        aliases = (alias for registry, known in names for alias in registry.aliases_of(known))
        hint = nearest_spelling(name, (known for _, known in names), aliases)
        raise UnknownName(f"nothing is named {name!r}; {hint}")
    return "\n\n".join(found)


def _described(registry: Registry[Any], given: str) -> str:
    name = registry.name_of(given)
    builder, aliases = registry[name], registry.aliases_of(name)
    target = builder.func if isinstance(builder, partial) else builder
    options = options_of(builder, without=("seed",)).values()
    lines = [] if given == name else [f"{given} is an alias of {name}.", ""]
    told = without_arguments(inspect.getdoc(target) or "", {option.name for option in options})
    lines += [f"{name} ({registry.kind})", "", told]
    if aliases:
        lines += ["", f"Aliases: {', '.join(aliases)}"]
    if options:
        lines += ["", "Defaults:", *(f"  {o.name} = {_default(o.default)}" for o in options)]
    if "Source:" not in told:
        lines += ["", f"Source: {inspect.getdoc(inspect.getmodule(target)) or 'unknown'}"]
    return "\n".join(lines)


def _default(value: object) -> str:
    return "(required)" if value is inspect.Parameter.empty else repr(value)
