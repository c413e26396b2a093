"""How often an evaluation is tried again whose process ended in the middle."""

from __future__ import annotations

from collections import Counter

from raynas.cluster.worker_death import WorkerDeath

ATTEMPTS = 3  # evaluations of one architecture that may end their process, before it is failed
NODE_ATTEMPTS = 10  # the same for nodes, which leave for reasons of their own


class Attempts:
    """Counts the attempts of every evaluation; nodes that were lost apart from processes."""

    def __init__(self) -> None:
        self._deaths: Counter[int] = Counter()
        self._lost_nodes: Counter[int] = Counter()

    def ended(self, number: int, death: WorkerDeath) -> str | None:
        """Count an attempt, and return what is told if it was the last; None leaves another one.

        Args:
            number: of the evaluation.
            death: that ended the attempt.
        """
        if death.node_lost:
            count, most = self._lost_nodes, NODE_ATTEMPTS
        else:
            count, most = self._deaths, ATTEMPTS
        count[number] += 1
        if count[number] < most:
            return None
        return f"the evaluating process died in each of {most} attempts: {death.why}"
