"""How a run measures: what each kind of evaluator needs before the first architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from raynas import assemble
from raynas.core.config import Named, RayConfig, SearchConfig, TrainSettings
from raynas.core.errors import nearest
from raynas.core.evaluator import RESERVED
from raynas.core.progress import Progress
from raynas.folder import SUPERNET, Folder, absolute, local_copy

if TYPE_CHECKING:
    from torch import Tensor

    from raynas.cluster.evaluators import Recipe
    from raynas.data.module import DataModule
    from raynas.nn.modelspace import ModelSpace

SHARED, FUNCTION = "shared", "function"


class Plan(Protocol):
    """What is known of the evaluator before Ray is there."""

    @property
    def spec(self) -> Named:
        """How the run folder names it."""
        ...

    @property
    def supernet(self) -> Named | None:
        """How the run folder names the supernet; None without one."""
        ...

    @property
    def data(self) -> Named | None:
        """How the run folder names the data; None if none is used."""
        ...

    def recipe(self, config: SearchConfig, progress: Progress) -> Recipe:
        """Do what comes before the search, with Ray connected, and return what workers need."""
        ...


@dataclass(frozen=True, kw_only=True)
class SharedPlan:
    """Train a supernet, or read a trained one, and share its weights with all workers."""

    space: assemble.Space
    module: DataModule
    data: Named | None
    supernet: Named | None
    algo: Named | None
    settings: TrainSettings

    @property
    def spec(self) -> Named:
        """How the run folder names the evaluator."""
        return Named(name=SHARED)

    def recipe(self, config: SearchConfig, progress: Progress) -> Recipe:
        """Return the recipe of an evaluator whose weights are in the object store."""
        from raynas.cluster.evaluators import SharedRecipe
        from raynas.cluster.tune import pickled, share
        from raynas.nn.weights import load_weights, to_arrays

        checkpoint = self._checkpoint(config, progress)
        return SharedRecipe(
            pickled=pickled((self.space.model, self.module)),
            arrays=share(to_arrays(load_weights(checkpoint))),
            seed=config.seed,
            threads=config.ray.cpus_per_worker,
            gpu=config.ray.gpus_per_worker > 0,
        )

    def _checkpoint(self, config: SearchConfig, progress: Progress) -> Path:
        from raynas.nn.weights import find_checkpoint

        assert self.supernet is not None
        if "path" not in self.supernet.options:
            self.train(config.out, config.seed, config.ray, progress)
        return find_checkpoint(Folder(config.out).supernet(self.supernet))

    def train(self, out: str, seed: int, ray: RayConfig, progress: Progress) -> None:
        """Run the supernet's job, or go on with it."""
        from raynas.cluster.train import SupernetJob, train_supernet

        assert self.algo is not None
        assert self.space.model is not None
        job = SupernetJob(
            space=self.space.model,
            data=self.module,
            algo=self.algo,
            settings=self.settings,
            seed=seed,
            about={"space": self.space.spec.model_dump(), "algo": self.algo.model_dump()},
        )
        progress.phase("starting training")
        train_supernet(job, out, ray, progress)


@dataclass(frozen=True, kw_only=True)
class FunctionPlan:
    """Call a user's own function."""

    function: Callable[..., object]
    objectives: tuple[str, ...]
    space: assemble.Space
    spec: Named
    supernet: Named | None = None
    data: Named | None = None

    def recipe(self, config: SearchConfig, progress: Progress) -> Recipe:
        """Return the recipe of an evaluator that calls the function."""
        from raynas.cluster.evaluators import FunctionRecipe, wants_module
        from raynas.cluster.tune import pickled

        build = self.space.model if wants_module(self.function) else None
        return FunctionRecipe(pickled((self.function, build)), self.objectives)


def plan(
    evaluator: Any,
    space: assemble.Space,
    module: DataModule | None,
    data: Named | None,
    *,
    supernet: Any,
    epochs: int | None,
    objectives: Mapping[str, str],
) -> Plan:
    """Return the plan for an evaluator, with all that can be checked beforehand checked.

    Raises:
        ValueError: the evaluator does not go with the space, the data, or the objectives.
    """
    if callable(evaluator):
        _check_function(evaluator, space, supernet, epochs, objectives)
        spec = Named(name=FUNCTION, options={"path": assemble.import_path(evaluator)})
        return FunctionPlan(
            function=evaluator, objectives=tuple(objectives), space=space, spec=spec, data=data
        )
    if evaluator != SHARED:
        raise ValueError(
            f"evaluator: expected {SHARED!r} or a function, got {evaluator!r}; "
            f"{nearest(str(evaluator), [SHARED])}"
        )
    if space.model is None or module is None:
        raise ValueError(
            "an ArchSpace has no weights to share: pass evaluator=, a function from Arch to a dict "
            "of metrics"
        )
    _check_objectives(objectives)
    if isinstance(supernet, str | Path):
        return _trained(space, module, data, absolute(str(supernet)), epochs)
    options = dict(supernet) if isinstance(supernet, Mapping) else {}
    algo = "spos" if supernet is None or isinstance(supernet, Mapping) else supernet
    named, settings = assemble.resolve_one_shot(algo, options, epochs)
    return training_plan(space, module, data, named, settings)


def training_plan(
    space: assemble.Space,
    module: DataModule,
    data: Named | None,
    algo: Named,
    settings: TrainSettings,
) -> SharedPlan:
    """Return the plan that trains a supernet first.

    Raises:
        ValueError: the space has no weights, or the data do not fit it.
    """
    if space.model is None:
        raise ValueError("an ArchSpace has no weights to train")
    assemble.check_fit(space.model, module)
    spec = Named(name=algo.name, options=algo.options | settings.model_dump())
    return SharedPlan(
        space=space, module=module, data=data, supernet=spec, algo=algo, settings=settings
    )


def _trained(
    space: assemble.Space, module: DataModule, data: Named | None, path: str, epochs: int | None
) -> SharedPlan:
    from raynas.nn.weights import find_checkpoint, load_weights

    assert space.model is not None
    assemble.check_fit(space.model, module)
    if epochs is not None:
        raise ValueError("epochs are for training a supernet, and a trained one is given")
    _check_weights(space.model, load_weights(find_checkpoint(local_copy(path))), path)
    found = Named(name="checkpoint", options={"path": path})
    return SharedPlan(
        space=space, module=module, data=data, supernet=found, algo=None, settings=TrainSettings()
    )


def claim_supernet(out: str, resume: bool) -> None:
    """Raise FileExistsError if ``out`` holds a supernet and it is not to be gone on with."""
    if Folder(out).has(SUPERNET) and not resume:
        raise FileExistsError(
            f"{out} holds a supernet: go on with it (resume=True) or choose another folder (out=)"
        )


def _check_weights(model: ModelSpace, weights: Mapping[str, Tensor], path: str) -> None:
    wanted = {name: tuple(t.shape) for name, t in model.skeleton().state_dict().items()}
    found = {name: tuple(t.shape) for name, t in weights.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"the supernet in {path} is not one of {model.name} as it is asked for: {name!r} "
                f"has shape {found.get(name, 'none')} there, {wanted.get(name, 'none')} here"
            )


def _check_function(
    function: Callable[..., object],
    space: assemble.Space,
    supernet: Any,
    epochs: int | None,
    objectives: Mapping[str, str],
) -> None:
    from raynas.cluster.evaluators import wants_module

    if supernet is not None or epochs is not None:
        raise ValueError("supernet and epochs go with the evaluator 'shared', not with a function")
    if space.model is None and wants_module(function):
        raise ValueError("the evaluator wants a module, and an ArchSpace builds none")
    for metric in objectives:
        if metric in RESERVED:
            raise ValueError(f"objective {metric!r} is named like a column of the trial table")


def _check_objectives(objectives: Mapping[str, str]) -> None:
    from raynas.cluster.evaluators import SHARED_METRICS

    for metric in objectives:
        if metric not in SHARED_METRICS:
            raise ValueError(
                f"the evaluator {SHARED!r} gives no metric {metric!r}; "
                f"{nearest(metric, SHARED_METRICS)}"
            )
