"""Asking and telling a run from outside: somebody else's loop proposes and measures.

The folder is that of any run. Every told trial is a row of its table, what was asked and not told
stands in ``asked.jsonl``, and the sampler is rebuilt from both by replay, so that a loop may be
killed at any instant, and several may run at once.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from raynas.core.arch import Arch, Value
from raynas.core.errors import SearchFailed
from raynas.core.evaluator import Measurement
from raynas.core.progress import Progress
from raynas.core.study import Asked, Study
from raynas.core.trial import Trial
from raynas.evaluators.external import External
from raynas.evaluators.kept_weights import keep_only
from raynas.evaluators.with_latency import with_latency
from raynas.setup.asked_run import AskedRun
from raynas.setup.inline import InlineRunner, evaluated
from raynas.setup.prepare import Prepared
from raynas.setup.told import PROPOSER, Told, read_lines, told_of


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """An architecture that is to be measured.

    Attributes:
        trial: number of its trial.
        arch: the architecture.
        costs: what is known of it without measuring: ``params``, ``macs``, ... where the space
            builds networks of inputs of a known shape.
        again: whether it was handed out before and never told.
    """

    trial: int
    arch: Arch
    costs: Mapping[str, float]
    again: bool = False

    def as_line(self) -> dict[str, Any]:
        """Return what ``raynas ask`` prints."""
        line: dict[str, Any] = {"trial": self.trial, "arch_key": self.arch.key}
        line |= {"arch": dict(self.arch), "costs": dict(self.costs)}
        return line | ({"again": True} if self.again else {})


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What comes of telling.

    Attributes:
        trial: as it stands in the archive; None if it was not taken, for the budget is spent.
        repeated: whether it stood there before, so that nothing was added.
    """

    trial: Trial | None
    repeated: bool = False


class AskTell:
    """A run that is asked for proposals and told results.

    Args:
        run: its parts, of a folder that is claimed.

    Attributes:
        path: of the run's folder: ``raynas.load`` reads it at any time.
    """

    def __init__(self, run: Prepared) -> None:
        self._run, self.path = AskedRun(run), run.config.out
        self._exhausted = False

    def __repr__(self) -> str:
        return f"AskTell({self.path!r})"

    def ask(self, count: int = 1) -> list[Proposal]:
        """Return proposals; none if the budget is spent, or the space holds no more.

        Where nothing new is left to ask, what was handed out and never told is handed out again,
        since its loop may have been killed.

        Args:
            count: how many at most.
        """
        if count < 1:
            raise ValueError(f"count: expected at least 1, got {count}")
        with self._run.current() as study:
            if study.told >= study.trials:
                return []
            new: list[Asked] = []
            while len(new) < count and (asked := study.ask()) is not None:
                new.append(asked)
            if not new:
                self._exhausted = not self._run.pending
                return self._again(count)
            self._run.hand_out(new)
            return [self._proposal(asked) for asked in new]

    def pending(self) -> list[Proposal]:
        """Return what was handed out and never told, oldest first."""
        with self._run.current():
            return self._again(len(self._run.pending))

    def tell(
        self,
        what: Proposal | int | Mapping[str, Value],
        metrics: Mapping[str, Any] | float | None = None,
        *,
        error: str | None = None,
        algo: str = PROPOSER,
        duration_s: float = 0.0,
    ) -> Trial | None:
        """Record what was measured, and return the trial as it stands in the archive.

        What stands there already is not recorded again, and costs no budget.

        Args:
            what: a proposal, its trial's number, or an architecture, asked or not.
            metrics: numbers by name, the objectives among them, or the one objective.
            error: why there are none.
            algo: who has proposed an architecture that was not asked.
            duration_s: seconds that measuring took.

        Returns:
            The trial; None if the budget is spent.

        Raises:
            ValueError: an architecture of another space, a trial that was never asked, or a metric
                that is missing or no number.
        """
        if (metrics is None) == (error is None):
            raise ValueError("tell: give metrics, or error where there are none")
        objectives = list(self._run.run.config.objectives)
        if isinstance(metrics, int | float) and len(objectives) == 1:
            metrics = {objectives[0]: metrics}
        given: dict[str, Any] = {"metrics": metrics} if error is None else {"error": error}
        given |= {"algo": algo, "duration_s": duration_s, **_named(what)}
        (answer,) = self.tell_all([told_of(given, self._run.space)])
        return answer.trial

    def evaluate(
        self, what: Proposal | int | Mapping[str, Value], *, algo: str = PROPOSER
    ) -> Trial | None:
        """Evaluate by the run's own evaluator, in this process, and return the trial.

        What stands in the archive already is not evaluated again, and costs no budget.

        Args:
            what: as for ``tell``.
            algo: likewise.

        Returns:
            The trial; None if the budget is spent.

        Raises:
            ValueError: the run has no evaluator.
        """
        (answer,) = self.evaluate_all([told_of({"algo": algo, **_named(what)}, self._run.space)])
        return answer.trial

    @property
    def done(self) -> bool:
        """Whether the budget is spent, or the space holds no more and nothing is in flight."""
        with self._run.current() as study:
            return study.told >= study.trials or (self._exhausted and not self._run.pending)

    @property
    def told(self) -> int:
        """How many trials are told."""
        with self._run.current() as study:
            return study.told

    @property
    def trials(self) -> int:
        """How many are told in all, at most: the budget."""
        return self._run.run.config.trials

    @property
    def best(self) -> Trial | None:
        """The best trial; None if none is completed."""
        with self._run.current() as study:
            return study.best

    def read(self, lines: Iterable[str]) -> list[Told]:
        """Read JSON lines (see ``raynas.setup.told.read_lines``)."""
        return read_lines(lines, self._run.space)

    def tell_all(self, results: Iterable[Told]) -> list[Answer]:
        """Record results, all of them or, if one is wrong, none.

        Raises:
            ValueError: as ``tell``; nothing was recorded.
        """
        results = list(results)
        if not self._external:
            name = self._run.run.config.evaluator.name
            where = results[0].where if results else ""
            raise ValueError(
                f"{where}this run measures by its own evaluator {name!r}: have it evaluate "
                "(evaluate, --evaluate) instead of telling metrics"
            )
        with self._run.current() as study:
            measured = [self._run.measurement(result) for result in results]
            found = [self._run.find(result) for result in results]
            fresh: dict[str, tuple[Asked, Measurement]] = {}
            for result, arch, measurement in zip(results, found, measured, strict=True):
                room = study.told + len(fresh) < study.trials
                if arch.key not in self._run.by_key and arch.key not in fresh and room:
                    fresh[arch.key] = (self._run.asked_for(study, result, arch), measurement)
            if fresh:
                study.tell(fresh.values(), node=platform.node(), worker=str(os.getpid()))
                self._run.settle(study)
            answers, first = [], set(fresh)
            for arch in found:
                repeated = arch.key not in first
                first.discard(arch.key)
                answers.append(Answer(trial=self._run.by_key.get(arch.key), repeated=repeated))
            return answers

    def evaluate_all(self, proposals: Iterable[Told]) -> Iterator[Answer]:
        """Evaluate one after the other; others get their turn in between.

        Raises:
            ValueError: as ``evaluate``, or a line that tells a result; before any is evaluated.
        """
        proposals = list(proposals)
        if self._external:
            raise ValueError(
                "this run has no evaluator, and its results are told; name one when it begins "
                "(evaluator=, --evaluator)"
            )
        for proposal in proposals:
            if proposal.measured:
                raise ValueError(
                    f"{proposal.where}the run's evaluator measures: leave out metrics and error"
                )
        with self._run.current():
            for proposal in proposals:
                self._run.find(proposal)
        return self._evaluated(proposals)

    def _evaluated(self, proposals: list[Told]) -> Iterator[Answer]:
        with ExitStack() as stack:
            measuring = cache(lambda: stack.enter_context(self._measuring()))
            for proposal in proposals:
                with self._run.current() as study:
                    arch = self._run.find(proposal)
                    repeated = arch.key in self._run.by_key
                    if not repeated and study.told < study.trials:
                        asked = self._run.asked_for(study, proposal, arch)
                        self._evaluate(study, asked, measuring)
                    answer = Answer(trial=self._run.by_key.get(arch.key), repeated=repeated)
                yield answer

    @contextmanager
    def _measuring(self) -> Iterator[Callable[[Study, Asked], Measurement]]:
        """Make the run's evaluator, after what it needs, such as a supernet."""
        config, runner = self._run.run.config, InlineRunner(self._run.run.config.ray)
        evaluation, latency = self._run.run.strategy.evaluation, self._run.run.latency
        spec = evaluation.prepared(config.out, config.seed, runner, Progress())
        spec = with_latency(spec, None if latency is None else latency.tells)
        with runner.evaluator(spec) as evaluator:
            yield lambda study, asked: evaluated(study, asked, evaluator, spec)

    def _evaluate(
        self,
        study: Study,
        asked: Asked,
        measuring: Callable[[], Callable[[Study, Asked], Measurement]],
    ) -> None:
        if study.refused(asked) is None:
            measured = measuring()(study, asked)
            study.tell([(asked, measured)], node=platform.node(), worker=str(os.getpid()))
        self._run.settle(study)
        if study.failure is not None:
            raise SearchFailed(study.failure)
        keep_only(self.path, [] if study.best is None else [study.best.arch])

    @property
    def _external(self) -> bool:
        return isinstance(self._run.run.strategy.evaluation.evaluator.make, External)

    def _again(self, count: int) -> list[Proposal]:
        oldest = sorted(self._run.pending.values(), key=lambda asked: asked.event)[:count]
        return [self._proposal(asked, again=True) for asked in oldest]

    def _proposal(self, asked: Asked, *, again: bool = False) -> Proposal:
        return Proposal(
            trial=asked.number, arch=asked.arch, costs=self._run.costs(asked.arch), again=again
        )


def _named(what: Proposal | int | Mapping[str, Value]) -> dict[str, Any]:
    """Return by which key a result says what it is of."""
    if isinstance(what, Proposal):
        return {"trial": what.trial}
    return {"trial": what} if isinstance(what, int) else {"arch": what}
