"""A study's sampler as a Ray Tune searcher: batches of architectures as trials."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.tune.search import Searcher

from raynas.core.archspace import ArchSpace
from raynas.core.batching import BatchSize
from raynas.core.evaluator import Measurement
from raynas.core.progress import Progress
from raynas.core.study import Asked, Study

ATTEMPTS = 3  # evaluations of one architecture that may end their process, before it is failed


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
        timeout: Any = None,
        timeout_s: float | None = None,
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._study, self._space, self._sizes, self._progress = study, space, sizes, progress
        self._timeout, self._timeout_s = timeout, timeout_s
        self._flying: dict[str, list[Asked]] = {}
        self._again: deque[Asked] = deque()
        self._deaths: Counter[int] = Counter()
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
        batch = self._flying.pop(trial_id)
        node = worker = ""
        if result and "broken" in result:
            self._study.failure = f"the evaluator cannot be made: {result['broken']}"
            told = [(asked, Measurement(error=self._study.failure, epochs=0)) for asked in batch]
        elif error or not result or "measured" not in result:
            told = self._lost(batch)
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

    def _lost(self, batch: list[Asked]) -> list[tuple[Asked, Measurement]]:
        """Return what is to be told of a batch whose process died; keep the others for later."""
        packed = [self._space.pack(asked.arch) for asked in batch]
        late = set() if self._timeout is None else set(ray.get(self._timeout.late.remote(packed)))
        told = []
        for asked, text in zip(batch, packed, strict=True):
            self._deaths[asked.number] += not late
            if text in late:
                told.append((asked, _failed(_LATE.format(self._timeout_s))))
            elif self._deaths[asked.number] == ATTEMPTS:
                told.append((asked, _failed(_DEAD.format(ATTEMPTS))))
            else:
                self._again.append(asked)
        return told

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the run folder holds every told trial."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


_LATE = "the evaluation took longer than {:g} s (timeout_s), and its process was ended"
_DEAD = "the evaluating process died in each of {} attempts"


def _failed(error: str) -> Measurement:
    return Measurement(error=error, epochs=0)
