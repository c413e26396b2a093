"""The supernet of a run: how it is trained, where it lies, and what it has learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch
from raynas.core.config import ComponentSpec
from raynas.core.errors import SearchFailed
from raynas.core.feasible import Violation
from raynas.core.fixed_list import FOUND
from raynas.core.locations import under
from raynas.core.progress import Progress
from raynas.core.temporary import temporary_folder
from raynas.core.train_settings import TrainSettings
from raynas.setup.latency_source import hardware_table
from raynas.setup.problem import Data, Space
from raynas.setup.resolve_task import task_spec
from raynas.setup.same_plan import check_trained_choices, choices_of
from raynas.storage.local_copies import local_checkpoint
from raynas.storage.run_folder import SUPERNET, Folder, absolute, without_keys

if TYPE_CHECKING:
    from raynas.nn.modelspace import ModelSpace
    from raynas.setup.runner import Runner

START, PHASE = "start", "supernet_phase"
AS_BUILT = "as_built"  # what the run folder calls weights that a model has without any training


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a supernet is trained.

    Attributes:
        algo: registered one-shot algorithm and its options.
        settings: of the weights' training.
        data: that it is trained on.
        start: the supernet whose weights it begins with; None begins with new ones.
    """

    algo: ComponentSpec
    settings: TrainSettings
    data: Data
    start: Supernet | None = None


@dataclass(frozen=True, kw_only=True)
class Supernet:
    """A supernet that is to be trained, or that was trained elsewhere.

    Attributes:
        spec: how the run folder names it.
        space: of its architectures.
        model_space: builds it; the space's own, unless the algorithm has another.
        training: None if it was trained elsewhere.
        folder: of its checkpoints in the run's.
    """

    spec: ComponentSpec
    space: Space
    model_space: ModelSpace
    training: Training | None
    folder: str = SUPERNET

    @property
    def epochs(self) -> int:
        """How many epochs of the run's history it has, and what it begins with."""
        if self.training is None:
            return 0
        start = self.training.start
        return self.training.settings.epochs + (0 if start is None else start.epochs)

    def weights(self, out: str, seed: int, runner: Runner, progress: Progress) -> Path:
        """Return the checkpoint in a run's folder; it is trained, or trained on, if need be."""
        from raynas.supernet.checkpoint import find_checkpoint

        if self.training is not None and not self._trained(out, self.training.settings.epochs):
            self.train(out, seed, runner, progress)
        if self.spec.name == AS_BUILT and not self._trained(out, 0):
            self._write_as_built(out, seed)
        return find_checkpoint(Folder(out).supernet(self.spec, self.folder))

    def check_choices(self) -> None:
        """Raise StoreMismatch where a trained one is asked for what its training never drew."""
        from raynas.supernet.checkpoint import find_checkpoint

        if (path := self.spec.options.get("path")) is not None and self.training is None:
            check_trained_choices(self.space, find_checkpoint(local_checkpoint(path)), path)

    def train(self, out: str, seed: int, runner: Runner, progress: Progress) -> None:
        """Run the training, or go on with it.

        Raises:
            ValueError: the supernet was trained elsewhere.
        """
        from raynas.gradient.supernet_run import SupernetRun
        from raynas.supernet.job import SupernetJob
        from raynas.supernet.snapshot import Snapshot

        if self.training is None:
            raise ValueError(f"the supernet {self.spec.options} is trained already")
        algo, data, start = self.training.algo, self.training.data.module, self.training.start
        threads = runner.config.cpus_per_worker
        checkpoint = None if start is None else start.weights(out, seed, runner, progress)
        job = SupernetJob(
            space=self.model_space,
            data=data,
            algo=algo,
            settings=self.training.settings,
            seed=seed,
            latency=hardware_table(algo, self.space, Folder(out), threads),
            about=_about(self.space, algo, self.training.data),
            initial=None if checkpoint is None else Snapshot.load(checkpoint),
        )
        before = self.epochs - self.training.settings.epochs
        runner.train(SupernetRun(job, folder=self.folder, first_epoch=before), out, progress)

    def _write_as_built(self, out: str, seed: int) -> None:
        """Leave the weights that the model has, as a training leaves its own."""
        from raynas.supernet.checkpoint import ABOUT, save_checkpoint

        about = {"space": without_keys(self.space.spec.model_dump(mode="json"))}
        with temporary_folder() as folder:
            supernet = self.model_space.supernet(seed)
            save_checkpoint(folder, supernet, {}, {**about, "seed": seed, "epoch": 0})
            Folder(out).put(folder, self.folder, last=ABOUT)

    def _trained(self, out: str, epochs: int) -> bool:
        """Return whether a run that goes on has its supernet already; its job takes a while."""
        from raynas.supernet.checkpoint import find_checkpoint, load_about

        try:
            about = load_about(find_checkpoint(local_checkpoint(under(out, self.folder))))
        except FileNotFoundError:
            return False
        return bool(about["epoch"] >= epochs)

    def top_k(self, out: str) -> list[Arch]:
        """Return the most probable architectures that were learned, the derived one first.

        Under bounds, those that keep them; a derived one that does not comes last.

        Raises:
            SearchFailed: there is none within the bounds.
        """
        from raynas.gradient.bounded import top_k_within
        from raynas.supernet.checkpoint import find_checkpoint, load_distribution, load_found

        checkpoint = find_checkpoint(Folder(out).supernet(self.spec, self.folder))
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


def _about(space: Space, algo: ComponentSpec, data: Data) -> dict[str, Any]:
    """Return what a checkpoint says of its training, so that it can be searched by itself."""
    specs = {
        "space": space.spec,
        "algo": algo,
        "data": data.spec,
        "task": task_spec(data.module.task),
    }
    return {
        name: without_keys(spec.model_dump(mode="json"))
        for name, spec in specs.items()
        if spec is not None
    } | choices_of(space)


def trained_on(path: str | Path) -> dict[str, ComponentSpec]:
    """Return the space, data and task that a supernet was trained on, as its checkpoint says.

    Raises:
        FileNotFoundError: there is no supernet.
        ValueError: the checkpoint is damaged.
    """
    from raynas.supernet.checkpoint import find_checkpoint, load_about

    about = load_about(find_checkpoint(local_checkpoint(absolute(str(path)))))
    return {
        name: ComponentSpec(**about[name]) for name in ("space", "data", "task") if name in about
    }


def claim_supernet(out: str, resume: bool, space: Space) -> None:
    """Check that a supernet can be trained in a folder, or trained on.

    Args:
        out: the folder.
        resume: whether the one in it is gone on with.
        space: of the architectures.

    Raises:
        FileExistsError: it holds a supernet, which is not to be gone on with.
        StoreMismatch: that is one of a model that was converted to other choices.
    """
    from raynas.supernet.checkpoint import checkpoint_in

    begun = Folder(out).has(SUPERNET) or Folder(out).has(f"{PHASE}1")
    if begun and not resume:
        raise FileExistsError(
            f"{out} holds a supernet: go on with it (resume=True) or choose another folder (out=)"
        )
    checkpoint = checkpoint_in(local_checkpoint(under(out, SUPERNET))) if begun else None
    if checkpoint is not None:
        check_trained_choices(space, checkpoint, out, same=True)
