"""The supernet of a run: how it is trained, where it lies, and what it has learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch
from raynas.core.config import ComponentSpec
from raynas.core.errors import SearchFailed
from raynas.core.feasible import Violation
from raynas.core.fixed_list import FOUND
from raynas.core.progress import Progress
from raynas.core.train_settings import TrainSettings
from raynas.setup.algorithms import one_shot, resolve_one_shot, supernet_space, trained_space
from raynas.setup.fit import check_batch, check_fit, check_smoothing
from raynas.setup.latency_source import hardware_table
from raynas.setup.problem import Data, Problem, Space
from raynas.storage.run_folder import SUPERNET, Folder, absolute, local_copy

if TYPE_CHECKING:
    from raynas.nn.modelspace import ModelSpace
    from raynas.setup.runner import Runner

NO_WEIGHTS = "an ArchSpace has no weights to train"


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a supernet is trained.

    Attributes:
        algo: registered one-shot algorithm and its options.
        settings: of the weights' training.
        data: that it is trained on.
    """

    algo: ComponentSpec
    settings: TrainSettings
    data: Data


@dataclass(frozen=True, kw_only=True)
class Supernet:
    """A supernet that is to be trained, or that was trained elsewhere.

    Attributes:
        spec: how the run folder names it.
        space: of its architectures.
        model_space: builds it; the space's own, unless the algorithm has another.
        training: None if it was trained elsewhere.
    """

    spec: ComponentSpec
    space: Space
    model_space: ModelSpace
    training: Training | None

    def weights(self, out: str, seed: int, runner: Runner, progress: Progress) -> Path:
        """Return the checkpoint in a run's folder; it is trained, or trained on, if need be."""
        from raynas.supernet.checkpoint import find_checkpoint

        if self.training is not None and not self._trained(out, self.training.settings.epochs):
            self.train(out, seed, runner, progress)
        return find_checkpoint(Folder(out).supernet(self.spec))

    def train(self, out: str, seed: int, runner: Runner, progress: Progress) -> None:
        """Run the training, or go on with it.

        Raises:
            ValueError: the supernet was trained elsewhere.
        """
        from raynas.gradient.supernet_run import SupernetRun
        from raynas.supernet.job import SupernetJob

        if self.training is None:
            raise ValueError(f"the supernet {self.spec.options} is trained already")
        algo, data = self.training.algo, self.training.data.module
        threads = runner.config.cpus_per_worker
        job = SupernetJob(
            space=self.model_space,
            data=data,
            algo=algo,
            settings=self.training.settings,
            seed=seed,
            latency=hardware_table(algo, self.space, Folder(out), threads),
            about={"space": self.space.spec.model_dump(), "algo": algo.model_dump()},
        )
        runner.train(SupernetRun(job), out, progress)

    def _trained(self, out: str, epochs: int) -> bool:
        """Return whether a run that goes on has its supernet already; its job takes a while."""
        from raynas.supernet.checkpoint import find_checkpoint, load_about

        if "://" in out:
            return False
        try:
            about = load_about(find_checkpoint(Path(out) / SUPERNET))
        except FileNotFoundError:
            return False
        return bool(about["epoch"] >= epochs)

    def check_relaxable(self) -> None:
        """Raise InvalidSpace, naming label and reason, unless gradients can search the space.

        Raises:
            ValueError: the algorithm trains weights only.
        """
        from raynas.nn.mutable import logits_of
        from raynas.supernet.protocol import one_shot_class

        assert self.training is not None
        name = self.training.algo.name
        if not one_shot_class(name).learns:
            raise ValueError(
                f"{name} trains a supernet and learns no architecture: search with a sampler and "
                "supernet={...}, or call raynas.train_supernet"
            )
        logits_of(self.model_space.supernet())

    def top_k(self, out: str) -> list[Arch]:
        """Return the most probable architectures that were learned, the derived one first.

        Under bounds, those that keep them; a derived one that does not comes last.

        Raises:
            SearchFailed: there is none within the bounds.
        """
        from raynas.gradient.bounded import top_k_within
        from raynas.supernet.checkpoint import find_checkpoint, load_distribution, load_found

        checkpoint = find_checkpoint(Folder(out).supernet(self.spec))
        archs, space = load_found(checkpoint), self.space.arch_space
        if not isinstance(space.violation, Violation):
            return archs
        specs, p = load_distribution(checkpoint)
        inside = top_k_within(space, archs[0], p, specs, FOUND)
        if not inside:
            raise SearchFailed(_none_within(space.violation, archs[0]))
        return inside if archs[0] in inside else [*inside, archs[0]]


def _none_within(violation: Violation, derived: Arch) -> str:
    costs = violation.costs(derived)
    has = ", ".join(f"{c.metric} {costs[c.metric]:.6g}" for c in violation.constraints)
    return (
        f"no architecture with {violation} was found; the derived one has {has}. The training is "
        "kept: go on with wider bounds (resume=True, --resume)"
    )


def supernet_of(given: Any, problem: Problem, epochs: int | None) -> Supernet:
    """Return the supernet that ``raynas.search(supernet=...)`` asks for.

    Args:
        given: the path of a trained one, options of ``spos``, a configured algorithm, or None.
        problem: of the run.
        epochs: of its training.

    Raises:
        ValueError, LookupError, TypeError: it does not go with the space or the data, or an option
            is wrong.
    """
    if isinstance(given, str | Path):
        return _trained_elsewhere(problem, absolute(str(given)), epochs)
    if isinstance(given, ComponentSpec):  # as a run folder names it
        if "path" in given.options:
            return _trained_elsewhere(problem, given.options["path"], epochs)
        given, options = given.name, given.options
        return supernet_to_train(given, problem.space, problem.data, options, epochs)
    options = dict(given) if isinstance(given, Mapping) else {}
    algo = "spos" if given is None or isinstance(given, Mapping) else given
    return supernet_to_train(algo, problem.space, problem.data, options, epochs)


def supernet_to_train(
    algo: Any, space: Space, data: Data | None, options: Mapping[str, Any], epochs: int | None
) -> Supernet:
    """Return the supernet that a one-shot algorithm is to train.

    Args:
        algo: a registered name, or a configured algorithm.
        space: of the architectures.
        data: that it is trained on.
        options: of the algorithm and of its training.
        epochs: of its training.

    Raises:
        ValueError: the space has no weights, the data do not fit it, they are in memory and fewer
            than a batch, an option is wrong, or the algorithm would warm up until the end.
        InvalidSpace: the algorithm cannot make a supernet of the space.
    """
    from raynas.nn.mutable import logits_of
    from raynas.supernet.rebuilding import check_rebuilding

    spec, settings = resolve_one_shot(algo, options, epochs)
    if space.model_space is None or data is None:
        raise ValueError(NO_WEIGHTS)
    _check_settings(settings, options, data)
    if not data.module.task.smooths:  # the run folder says what was done
        settings = settings.model_copy(update={"label_smoothing": 0.0})
    check_fit(space.model_space, data.module)
    check_batch(settings.batch_size, data.module)
    _check_warmup(spec, settings.epochs)
    model_space = supernet_space(space.model_space, spec)
    check_rebuilding(model_space, data.module.signature)
    configured = one_shot(spec)
    if configured is not None:
        configured.check_settings(settings)
    if configured is not None and configured.learns:
        model = model_space.supernet()
        logits_of(model)  # refuses what has no logits
        configured.check(model, model_space.example_input(2))
    return Supernet(
        spec=ComponentSpec(name=spec.name, options=spec.options | settings.model_dump()),
        space=space,
        model_space=model_space,
        training=Training(algo=spec, settings=settings, data=data),
    )


def _check_settings(settings: TrainSettings, options: Mapping[str, Any], data: Data) -> None:
    """Raise ValueError for an option of the training that would have no effect."""
    if settings.drop_path:
        raise ValueError("drop_path is of networks trained alone, not of supernets: leave it out")
    check_smoothing(options, data.module)


def _check_warmup(algo: ComponentSpec, epochs: int) -> None:
    """Raise ValueError if an algorithm that learns architectures has no epoch left to do so."""
    configured = one_shot(algo)
    warmup = 0 if configured is None else configured.warmup_epochs
    if warmup >= epochs:
        raise ValueError(
            f"{algo.name} learns nothing about architectures in its first {warmup} epochs, and "
            f"there are {epochs} in all: use more (epochs={2 * warmup}), or a smaller warmup_epochs"
        )


def _trained_elsewhere(problem: Problem, path: str, epochs: int | None) -> Supernet:
    from raynas.supernet.checkpoint import find_checkpoint
    from raynas.supernet.rebuilding import check_checkpoint

    model_space, data = problem.networks(NO_WEIGHTS)
    check_fit(model_space, data, trains=False)
    if epochs is not None:
        raise ValueError("epochs are for training a supernet, and a trained one is given")
    checkpoint = find_checkpoint(local_copy(path))
    trained = trained_space(model_space, checkpoint)
    check_checkpoint(trained, checkpoint, path)
    return Supernet(
        spec=ComponentSpec(name="checkpoint", options={"path": path}),
        space=problem.space,
        model_space=trained,
        training=None,
    )


def claim_supernet(out: str, resume: bool) -> None:
    """Raise FileExistsError if ``out`` holds a supernet and it is not to be gone on with."""
    if Folder(out).has(SUPERNET) and not resume:
        raise FileExistsError(
            f"{out} holds a supernet: go on with it (resume=True) or choose another folder (out=)"
        )
