"""A run as its folder has it now, for all who ask and tell it at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from raynas.core.arch import Arch
from raynas.core.errors import StoreMismatch, nearest
from raynas.core.evaluator import Measurement, sorted_out
from raynas.core.fixed import write_arch
from raynas.core.locations import under
from raynas.core.sampler import Origin
from raynas.core.study import Asked, Study
from raynas.core.trial import Trial
from raynas.setup.prepare import Prepared
from raynas.setup.study_of_run import study_of
from raynas.setup.told import PROPOSER, Told
from raynas.storage.json_files import write_text
from raynas.storage.pending import locked, read_pending, write_pending
from raynas.storage.run_folder import BEST, Folder
from raynas.storage.tables import load_trials

UNLIMITED = 2**62


class AskedRun:
    """The study of a run's folder, kept as long as nobody else has changed the folder.

    Args:
        run: its parts, of a folder that is claimed.

    Attributes:
        pending: what was handed out and never told, by number.
        told: all trials by number.
        by_key: the first trial of every architecture.
    """

    def __init__(self, run: Prepared) -> None:
        self.run, self.path = run, run.config.out
        self.space = run.problem.space.arch_space
        self.folder = Folder(self.path)
        self.pending: dict[int, Asked] = {}
        self.told: dict[int, Trial] = {}
        self.by_key: dict[str, Trial] = {}
        self._seen: tuple[Any, ...] | None = None
        self._study: Study

    @contextmanager
    def current(self) -> Iterator[Study]:
        """Lock the folder and give the study as it is there."""
        with locked(self.path):
            if self._seen is None or self._seen != self._state():
                self._rebuild()
            self._seen = None  # until all went well
            yield self._study
            self._seen = self._state()

    def _state(self) -> tuple[Any, ...]:
        """Return what changes whenever somebody asks or tells."""
        return sorted(Folder(under(self.path, "trials")).names()), read_pending(self.folder)

    def _rebuild(self) -> None:
        """Make the study of what the folder holds."""
        run = self.run
        history = load_trials(self.path, self.space)
        self.told, self.by_key = {}, {}
        self._note(history)
        spec = run.strategy.evaluation.evaluator
        self._study = study_of(run, spec, history, self._note, trials=UNLIMITED)
        self.pending = {}
        for number, arch in read_pending(self.folder):
            if number not in self.told and arch.key not in self.by_key:
                self._ask_again(number, arch)
        self._study.trials = run.config.trials

    def _ask_again(self, number: int, arch: Arch) -> None:
        """Have the sampler propose what it had proposed when the study was left."""
        asked = self._study.ask()
        if asked is None or (asked.number, asked.arch.key) != (number, arch.key):
            raise StoreMismatch(
                f"{self.path}: trial {number}, which was asked, is not what "
                f"{self.run.config.algo.name} proposes there now, as after an update: remove "
                "asked.jsonl to go on without what was never told"
            )
        self.pending[number] = asked

    def _note(self, trials: Iterable[Trial]) -> None:
        for trial in trials:
            self.told[trial.number] = trial
            self.by_key.setdefault(trial.arch.key, trial)

    def hand_out(self, asked: Iterable[Asked]) -> None:
        """Keep proposals until they are told; whoever gets them may be killed."""
        self.pending |= {proposal.number: proposal for proposal in asked}
        write_pending(self.folder, self.pending.values())

    def settle(self, study: Study) -> None:
        """Bring up to date what stands beside the table."""
        told = [number for number in self.pending if number in self.told]
        for number in told:
            del self.pending[number]
        if told:
            write_pending(self.folder, self.pending.values())
        if study.best is not None:
            write_text(self.folder, BEST, write_arch(study.best.arch))

    def costs(self, arch: Arch) -> dict[str, float]:
        """Return what is known of an architecture without measuring it."""
        known: dict[str, float] = {}
        model_space = self.run.problem.space.model_space
        if model_space is not None and model_space.signature is not None:
            from raynas.costs.space_table import space_table

            counted = space_table(model_space).cost(arch).as_metrics()
            known |= {name: counted[name] for name in model_space.costs if name in counted}
        if self.run.latency is not None:
            known |= self.run.latency.costs(arch)
        return known

    def find(self, result: Told) -> Arch:
        """Return the architecture that a result is of.

        Raises:
            ValueError: its trial was never asked, or is of another architecture.
        """
        if result.trial is None:
            assert result.arch is not None
            return result.arch
        known = self.pending.get(result.trial) or self.told.get(result.trial)
        if known is None:
            hint = nearest(str(result.trial), [*self.pending])
            raise ValueError(f"{result.where}trial {result.trial} was never asked; {hint}")
        if result.arch is not None and result.arch.key != known.arch.key:
            raise ValueError(
                f"{result.where}trial {result.trial} is of {known.arch.to_json()}, got "
                f"{result.arch.to_json()}"
            )
        return known.arch

    def asked_for(self, study: Study, result: Told, arch: Arch) -> Asked:
        """Return what is in flight for an architecture, or else the proposal of a stranger."""
        for asked in self.pending.values():
            if asked.arch.key == arch.key:
                return asked
        origin = Origin(parent=result.parent, predicted=result.predicted)
        return study.propose(arch, result.algo or PROPOSER, origin)

    def measurement(self, result: Told) -> Measurement:
        """Return a result as an evaluator gives it, with the costs that are known.

        Raises:
            ValueError: an objective or a bounded metric is missing, or a metric is no number.
        """
        started = time.time() - result.duration_s
        if result.error is not None:
            text = " ".join(result.error.split()) or "failed"
            return Measurement(error=text, started_s=started, duration_s=result.duration_s)
        if result.metrics is None:
            raise ValueError(f"{result.where}expected 'metrics' or 'error'")
        said = sorted_out(result.metrics)
        if said.unusable:
            raise ValueError(f"{result.where}{next(iter(said.unusable.values()))}")
        metrics = {**self.costs(self.find(result)), **said.metrics}
        for name in self.run.strategy.evaluation.evaluator.metrics:
            if name in said.text_metrics:
                raise ValueError(
                    f"{result.where}metric {name!r} is a number, got {said.text_metrics[name]!r}"
                )
            if name not in metrics:
                raise ValueError(f"{result.where}no metric {name!r}; {nearest(name, metrics)}")
        return Measurement(
            metrics=metrics,
            text_metrics=said.text_metrics,
            started_s=started,
            duration_s=result.duration_s,
        )
