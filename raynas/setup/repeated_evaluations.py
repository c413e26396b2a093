"""Evaluations of given architectures once per seed, of which none is done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.fixed_list import FixedListSampler
from raynas.core.goals import Goals
from raynas.core.locations import under
from raynas.core.progress import Progress
from raynas.core.study import Study, StudyInfo
from raynas.core.trial import Trial
from raynas.evaluators.spec import EvaluatorSpec
from raynas.setup.runner import Runner
from raynas.storage.table_writers import TrialStore
from raynas.storage.tables import load_trials


@dataclass(frozen=True, kw_only=True)
class RepeatedEvaluations:
    """Evaluations that are kept by seed, and gone on with where some are there.

    Attributes:
        space: of the architectures.
        goals: that the evaluator measures.
        spec: of the evaluator.
        folder: that holds one of each seed.
        seeds: of them.
        purpose: what stands as the algorithm in their rows.
        out: folder of the run that they belong to.
    """

    space: ArchSpace
    goals: Goals
    spec: EvaluatorSpec
    folder: str
    seeds: Sequence[int]
    purpose: str
    out: str

    @property
    def folders(self) -> list[str]:
        """Those of the seeds."""
        return seed_folders(self.folder, self.seeds)

    def left(self, archs: Sequence[Arch]) -> list[list[Arch]]:
        """Return for every seed the architectures that are not measured yet."""
        return [left for _, left in self._histories(archs)]

    def run(
        self,
        archs: Sequence[Arch],
        runner: Runner,
        progress: Progress,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Evaluate what is not measured yet, seed by seed. What failed is tried again.

        Args:
            archs: that are to have all seeds.
            runner: evaluates.
            progress: told how it comes along.
            after: called after each seed that something was left of.

        Raises:
            SearchFailed, Interrupted: as ``Runner.run_study``.
        """
        doing = "training" if self.spec.epochs else "evaluating"
        for seed, (earlier, left) in zip(self.seeds, self._histories(archs), strict=True):
            if left:
                progress.phase(f"{doing} {len(left)} architectures, seed {seed}")
                runner.run_study(
                    self._study(seed, earlier, left), self.space, self.spec, self.out, progress
                )
                after()

    def _histories(self, archs: Sequence[Arch]) -> Iterator[tuple[list[Trial], list[Arch]]]:
        for folder in self.folders:
            earlier = load_trials(folder, self.space)
            done = measured(earlier)
            yield earlier, [arch for arch in archs if arch not in done]

    def _study(self, seed: int, earlier: Sequence[Trial], left: Sequence[Arch]) -> Study:
        (folder,) = seed_folders(self.folder, [seed])
        store = TrialStore(folder, self.space, self.spec.metrics)
        return Study(
            FixedListSampler(left),
            self.goals,
            trials=len(left),
            setting=StudyInfo(
                algo=self.purpose, evaluator=self.spec.name, epochs=self.spec.epochs, seed=seed
            ),
            sink=_after(earlier, store.append),
            purpose=f"{self.purpose}, seed {seed}" if len(self.seeds) > 1 else self.purpose,
        )


def measured(trials: Iterable[Trial]) -> set[Arch]:
    """Return the architectures that are not to be evaluated again: those that did not fail.

    What broke a bound was measured: it would break it again.
    """
    return {trial.arch for trial in trials if trial.scored or trial.status == "infeasible"}


def seed_folders(folder: str, seeds: Sequence[int]) -> list[str]:
    """Return the folders of evaluations by seed, in the folder that holds all of them."""
    return [under(folder, f"seed-{seed}") for seed in seeds]


def _after(
    earlier: Sequence[Trial], append: Callable[[Sequence[Trial]], None]
) -> Callable[[list[Trial]], None]:
    """Return what appends trials such that numbers and events go on from earlier ones."""
    number = max((trial.number for trial in earlier), default=-1) + 1
    event = max((trial.told_event for trial in earlier), default=-1) + 1

    def keep(trials: list[Trial]) -> None:
        append(
            [
                replace(
                    trial,
                    number=number + trial.number,
                    asked_event=event + trial.asked_event,
                    told_event=event + trial.told_event,
                )
                for trial in trials
            ]
        )

    return keep
