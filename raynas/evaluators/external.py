"""Results that somebody else measures, and tells."""

from __future__ import annotations

from raynas.core.evaluator import EVALUATORS, Evaluator
from raynas.evaluators.spec import Worker


@EVALUATORS.register("external")
class External:
    """Measures nothing: results are told from outside (``raynas.ask_tell``, ``raynas tell``)."""

    def __call__(self, worker: Worker) -> Evaluator:
        """Refuse to evaluate.

        Raises:
            RuntimeError: always, in one sentence.
        """
        raise RuntimeError(
            "this run's results are told from outside: go on with raynas.ask_tell(out=...), or "
            "raynas ask and raynas tell"
        )
