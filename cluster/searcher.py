"""A study's sampler as a Ray Tune searcher: batches of architectures as trials."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.tune.search import Searcher

from raynas.cluster.attempts import Attempts
from raynas.cluster.memory_limit import OVER_MEMORY
from raynas.cluster.trial_failures import TrialFailures
from raynas.cluster.worker_death import WorkerDeath, death_of
from raynas.core.archspace import ArchSpace
from raynas.core.batching import BatchSize
from raynas.core.config import RayConfig
from raynas.core.evaluator import Measurement
from raynas.core.progress import Progress
from raynas.core.study import Asked, Study


class StudySearcher(Searcher):
    """Hands a study's questions to Tune and Tune's answers to the study.

    What a process that died was evaluating is evaluated again, each architecture alone, so that
    only the one that ends its process again and again is told as failed.

    Tune may save its searcher at any time; there is nothing to save, since every told trial is in
    the run folder and a study is rebuilt from these by replay.
    """

    def __init__(
        self,
        study: Study,
        space: ArchSpace,
        sizes: BatchSize,
        progress: Progress,
        config: RayConfig | None = None,
        timeout: Any = None,
        records: str = "",
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._study, self._space, self._sizes, self._progress = study, space, sizes, progress
        self._config, self._timeout, self._records = config or RayConfig(), timeout, records
        self.trials = TrialFailures()
        self._flying: dict[str, list[Asked]] = {}
        self._again: deque[Asked] = deque()
        self._attempts = Attempts()
        self._cpu_s: float | None = None  # of this thread, when the last batch came back
        self._own_s = 0.0  # of it since, in here
        self.failure: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        """Return a batch as one short text; None while a lost one may come back; or FINISHED."""
        with self._own_time():
            batch = self._next()
        if not batch:
            return None if self._flying else str(Searcher.FINISHED)
        self._flying[trial_id] = batch
        return {"archs": " ".join(self._space.pack(asked.arch) for asked in batch)}

    def _next(self) -> list[Asked]:
        if self._study.failure is not None:
            return []
        if self._again:
            return [self._again.popleft()]
        batch: list[Asked] = []
        for _ in range(self._sizes.next(self._study.asked, self._study.told)):
            asked = self._study.ask()
            if asked is None:
                break
            batch.append(asked)
        return batch

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ignore: what counts is the last result, which comes with the trial's completion."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study what was measured.

        What fails here, as on a full disk, ends Tune: it calls once more, and would catch another
        error of its own.
        """
        if self.failure is not None:
            raise self.failure
        try:
            self._count_driver_time(len(self._flying[trial_id]))
            with self._own_time():
                self._complete(trial_id, result, error)
        except Exception as failure:
            self.failure = failure
            raise

    def _complete(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        batch, said = self._flying.pop(trial_id), self.trials.pop(trial_id)
        node = worker = ""
        if result and "broken" in result:
            self._study.failure = f"the evaluator cannot be made: {result['broken']}"
            told = [(asked, Measurement(error=self._study.failure, epochs=0)) for asked in batch]
        elif error or not result or "measured" not in result:
            told = self._lost(batch, said)
        else:
            found = [Measurement(**one) for one in json.loads(result["measured"])]
            node, worker = result.get("hostname", ""), result["worker"]
            self._sizes.measured(sum(one.duration_s for one in found), len(found))
            told = list(zip(batch, found, strict=True))
        if told:
            self._study.tell(told, node=node, worker=worker)
            self._progress.told(self._study)

    def _count_driver_time(self, archs: int) -> None:
        """Learn what a batch costs this thread, which is Tune's as well; waiting is no cost."""
        cpu_s = time.thread_time()
        if self._cpu_s is not None:
            self._sizes.handled(cpu_s - self._cpu_s - self._own_s, self._own_s / archs)
        self._cpu_s, self._own_s = cpu_s, 0.0

    @contextmanager
    def _own_time(self) -> Iterator[None]:
        began_s = time.thread_time()
        try:
            yield
        finally:
            self._own_s += time.thread_time() - began_s

    def _lost(self, batch: list[Asked], said: str) -> list[tuple[Asked, Measurement]]:
        """Return what is to be told of a batch whose process died; keep the others for later."""
        packed = [self._space.pack(asked.arch) for asked in batch]
        late = set() if self._timeout is None else set(ray.get(self._timeout.late.remote(packed)))
        death = death_of(said, self._records)
        told = []
        for asked, text in zip(batch, packed, strict=True):
            if text in late:
                measured: Measurement | None = _failed(_LATE.format(self._config.timeout_s))
            elif text == death.over_memory:
                measured = _failed(OVER_MEMORY.format(self._config.memory_gb))
            else:  # who is guilty is known, and it is another one, or this counts
                guilty = bool(late) or death.over_memory is not None
                measured = None if guilty else self._failed_at_last(asked, death)
            if measured is None:
                self._again.append(asked)
            else:
                told.append((asked, measured))
        self._progress.noted(_line(batch, death, "timeout_s" if late else death.brief, len(told)))
        return told

    def _failed_at_last(self, asked: Asked, death: WorkerDeath) -> Measurement | None:
        """Return what is told after the last attempt; None leaves another one."""
        error = self._attempts.ended(asked.number, death)
        return None if error is None else _failed(error, death.traceback)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the run folder holds every told trial."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


_LATE = "the evaluation took longer than {:g} s (timeout_s), and its process was ended"


def _failed(error: str, traceback: str | None = None) -> Measurement:
    return Measurement(error=error, traceback=traceback, epochs=0)


def _line(batch: list[Asked], death: WorkerDeath, brief: str, told: int) -> str:
    """Return a line on a lost process and on what becomes of what it evaluated."""
    who = "a worker" if death.pid is None else f"worker {death.pid}"
    again = len(batch) - told
    if len(batch) == 1:
        what, then = batch[0].arch.key, "it is evaluated again" if again else "it has failed"
    else:
        what, then = f"{len(batch)} architectures", f"{again} of them are evaluated again"
    return f"{who} was lost ({brief}) while evaluating {what}; {then}"
