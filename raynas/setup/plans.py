"""What is known of an evaluator before Ray is there, and what it does before a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from raynas.core.arch import Arch
from raynas.core.config import ComponentSpec, RayConfig, SearchConfig, TrainSettings
from raynas.core.errors import SearchFailed
from raynas.core.evaluator import SuccessiveHalving
from raynas.core.feasible import Violation
from raynas.core.fixed_list import FOUND
from raynas.core.progress import Progress
from raynas.evaluators.shared import Shared
from raynas.setup import resolve
from raynas.setup.latency_source import hardware_table
from raynas.storage.run_folder import SUPERNET, Folder

if TYPE_CHECKING:
    from raynas.cluster.evaluators import Recipe
    from raynas.data.module import DataModule
    from raynas.evaluators.training_group import TrainingGroup
    from raynas.nn.modelspace import ModelSpace

SHARED, FUNCTION = "shared", "function"
JOBS = "jobs"  # folder of what Ray Train writes for itself while several ranks train a network


class Plan(Protocol):
    """What is known of the evaluator before Ray is there."""

    @property
    def spec(self) -> ComponentSpec:
        """How the run folder names it."""
        ...

    @property
    def supernet(self) -> ComponentSpec | None:
        """How the run folder names the supernet; None without one."""
        ...

    @property
    def data(self) -> ComponentSpec | None:
        """How the run folder names the data; None if none is used."""
        ...

    def recipe(self, config: SearchConfig, progress: Progress) -> Recipe:
        """Do what comes before the search, with Ray connected, and return what workers need."""
        ...


@dataclass(frozen=True, kw_only=True)
class SharedPlan:
    """Train a supernet, or read a trained one, and share its weights with all workers.

    Attributes:
        supernets: builds the supernet; the space's own model, unless the algorithm has another.
        scoring: how the weights score.
    """

    space: resolve.Space
    supernets: ModelSpace
    module: DataModule
    data: ComponentSpec | None
    supernet: ComponentSpec | None
    algo: ComponentSpec | None
    settings: TrainSettings
    scoring: Shared = field(default_factory=Shared)

    @property
    def spec(self) -> ComponentSpec:
        """How the run folder names the evaluator."""
        return ComponentSpec(name=SHARED, options=self.scoring.chosen)

    def recipe(self, config: SearchConfig, progress: Progress) -> Recipe:
        """Return the recipe of an evaluator whose weights are in the object store."""
        from raynas.cluster.evaluators import SharedRecipe
        from raynas.cluster.tune import pickled, share
        from raynas.supernet.checkpoint import load_weights, to_arrays

        checkpoint = self._checkpoint(config, progress)
        return SharedRecipe(
            pickled=pickled((self.supernets, self.space.model, self.module)),
            arrays=share(to_arrays(load_weights(checkpoint))),
            seed=config.seed,
            threads=config.ray.cpus_per_worker,
            gpu=config.ray.gpus_per_worker > 0,
            settings=self.scoring.settings,
        )

    def _checkpoint(self, config: SearchConfig, progress: Progress) -> Path:
        from raynas.supernet.checkpoint import find_checkpoint

        assert self.supernet is not None
        if "path" not in self.supernet.options and not self._trained(config.out):
            self.train(config.out, config.seed, config.ray, progress)
        return find_checkpoint(Folder(config.out).supernet(self.supernet))

    def _trained(self, out: str) -> bool:
        """Return whether a run that goes on has its supernet already; its job takes a while."""
        from raynas.supernet.checkpoint import find_checkpoint, load_about

        if "://" in out:
            return False
        try:
            about = load_about(find_checkpoint(Path(out) / SUPERNET))
        except FileNotFoundError:
            return False
        return bool(about["epoch"] >= self.settings.epochs)

    def check_relaxable(self) -> None:
        """Raise InvalidSpace, naming label and reason, unless gradients can search the space.

        Raises:
            ValueError: the algorithm trains weights only.
        """
        from raynas.nn.logits import logits_of
        from raynas.supernet.protocol import ONE_SHOTS

        assert self.algo is not None
        assert self.space.model is not None
        if not getattr(ONE_SHOTS[self.algo.name], "learns", True):
            raise ValueError(
                f"{self.algo.name} trains a supernet and learns no architecture: search with a "
                "sampler and supernet={...}, or call raynas.train_supernet"
            )
        logits_of(self.supernets.supernet())

    def found(self, config: SearchConfig) -> list[Arch]:
        """Return the most probable architectures of the trained supernet, the derived one first.

        Under bounds, those that keep them; a derived one that does not comes last.

        Raises:
            SearchFailed: none was found within the bounds.
        """
        from raynas.gradient.bounded import top_k_within
        from raynas.supernet.checkpoint import find_checkpoint, load_distribution, load_found

        assert self.supernet is not None
        checkpoint = find_checkpoint(Folder(config.out).supernet(self.supernet))
        found, space = load_found(checkpoint), self.space.arch
        if not isinstance(space.violation, Violation):
            return found
        specs, p = load_distribution(checkpoint)
        inside = top_k_within(space, found[0], p, specs, FOUND)
        if not inside:
            costs, bounds = space.violation.costs(found[0]), space.violation.constraints
            has = ", ".join(f"{one.metric} {costs[one.metric]:.6g}" for one in bounds)
            raise SearchFailed(
                f"no architecture with {space.violation} was found; the derived one has {has}. "
                "The training is kept: go on with wider bounds (resume=True, --resume)"
            )
        return inside if found[0] in inside else [*inside, found[0]]

    def train(self, out: str, seed: int, ray: RayConfig, progress: Progress) -> None:
        """Run the supernet's job, or go on with it."""
        from raynas.cluster.train import SupernetJob, train_supernet

        assert self.algo is not None
        assert self.space.model is not None
        threads = ray.cpus_per_worker
        job = SupernetJob(
            space=self.supernets,
            data=self.module,
            algo=self.algo,
            settings=self.settings,
            seed=seed,
            latency=hardware_table(self.algo, self.space, self.module, Folder(out), threads),
            about={"space": self.space.spec.model_dump(), "algo": self.algo.model_dump()},
        )
        progress.phase("starting training")
        train_supernet(job, out, ray, progress)


@dataclass(frozen=True, kw_only=True)
class FunctionPlan:
    """Call a function of an architecture: a user's own, or one bound to the space.

    Attributes:
        metrics: what it gives; of a user's own only the objectives are known.
        name: what stands in the ``evaluator`` column.
    """

    function: Callable[..., object]
    metrics: tuple[str, ...]
    space: resolve.Space
    spec: ComponentSpec
    name: str = FUNCTION
    supernet: ComponentSpec | None = None
    data: ComponentSpec | None = None

    def recipe(self, config: SearchConfig, progress: Progress) -> Recipe:
        """Return the recipe of an evaluator that calls the function."""
        from raynas.cluster.evaluators import FunctionRecipe, wants_module
        from raynas.cluster.tune import pickled

        build = self.space.model if wants_module(self.function) else None
        return FunctionRecipe(pickled((self.function, build)), self.metrics, self.name)


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """Build networks and measure or train them, by an object of ``raynas.evaluators.protocols``."""

    thing: Any
    metrics: tuple[str, ...]
    space: resolve.Space
    module: DataModule
    data: ComponentSpec | None
    spec: ComponentSpec
    epochs: int
    stopping: SuccessiveHalving | None
    supernet: ComponentSpec | None = None

    def recipe(self, config: SearchConfig, progress: Progress) -> Recipe:
        """Return the recipe of an evaluator that calls the object."""
        from raynas.cluster.tune import pickled
        from raynas.evaluators.networks import NetworkRecipe

        return NetworkRecipe(
            pickled=pickled((self.thing, self.space.model, self.module)),
            metrics=self.metrics,
            name=self.spec.name,
            threads=config.ray.cpus_per_worker,
            gpu=config.ray.gpus_per_worker > 0,
            epochs=self.epochs,
            stopping=self.stopping,
            crew=self._crew(config),
        )

    def _crew(self, config: SearchConfig) -> TrainingGroup | None:
        """Return who trains each architecture; None if it is one process, the worker itself."""
        from raynas.evaluators.training_group import TrainingGroup

        ray = config.ray
        if self.epochs == 0 or ray.train_workers == 1:
            return None
        return TrainingGroup(
            ranks=ray.train_workers,
            cpus=ray.cpus_per_train_worker or ray.cpus_per_worker,
            gpus=ray.gpus_per_train_worker or ray.gpus_per_worker,
            storage=f"{config.out}/{JOBS}",
        )
