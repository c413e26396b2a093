"""What is known of an evaluator before Ray is there, and what it does before a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from raynas import assemble
from raynas.core.arch import Arch
from raynas.core.config import Named, RayConfig, SearchConfig, TrainSettings
from raynas.core.evaluator import Halving
from raynas.core.progress import Progress
from raynas.folder import Folder

if TYPE_CHECKING:
    from raynas.cluster.evaluators import Recipe
    from raynas.data.module import DataModule

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

    def check_relaxable(self) -> None:
        """Raise InvalidSpace, naming label and reason, unless gradients can search the space.

        Raises:
            ValueError: the algorithm trains weights only.
        """
        from raynas.nn.logits import logits_of
        from raynas.nn.oneshot import ONE_SHOTS

        assert self.algo is not None
        assert self.space.model is not None
        if not getattr(ONE_SHOTS[self.algo.name], "learns", True):
            raise ValueError(
                f"{self.algo.name} trains a supernet and learns no architecture: search with a "
                "sampler and supernet={...}, or call raynas.train_supernet"
            )
        logits_of(self.space.model.supernet())

    def found(self, config: SearchConfig) -> list[Arch]:
        """Return the most probable architectures of the trained supernet, the derived one first."""
        from raynas.nn.weights import find_checkpoint, load_found

        assert self.supernet is not None
        return load_found(find_checkpoint(Folder(config.out).supernet(self.supernet)))

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
    """Call a function of an architecture: a user's own, or one bound to the space.

    Attributes:
        metrics: what it gives; of a user's own only the objectives are known.
        name: what stands in the ``evaluator`` column.
    """

    function: Callable[..., object]
    metrics: tuple[str, ...]
    space: assemble.Space
    spec: Named
    name: str = FUNCTION
    supernet: Named | None = None
    data: Named | None = None

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
    space: assemble.Space
    module: DataModule
    data: Named | None
    spec: Named
    epochs: int
    stopping: Halving | None
    supernet: Named | None = None

    def recipe(self, config: SearchConfig, progress: Progress) -> Recipe:
        """Return the recipe of an evaluator that calls the object."""
        from raynas.cluster.evaluators import NetworkRecipe
        from raynas.cluster.tune import pickled

        return NetworkRecipe(
            pickled=pickled((self.thing, self.space.model, self.module)),
            metrics=self.metrics,
            name=self.spec.name,
            threads=config.ray.cpus_per_worker,
            gpu=config.ray.gpus_per_worker > 0,
            epochs=self.epochs,
            stopping=self.stopping,
        )
