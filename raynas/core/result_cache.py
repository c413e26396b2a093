"""What a study remembers of told architectures, packed: a run may have very many."""

from __future__ import annotations

from struct import Struct
from typing import Any, NamedTuple

from raynas.core.trial import Status, Trial


class _Kind(NamedTuple):
    """What most trials have in common with others."""

    status: Status
    scored: bool
    scores: int
    metrics: tuple[str, ...]
    text_metrics: tuple[tuple[str, str], ...]
    left_out: str | None
    epochs: int
    node: str
    worker: str
    error: str | None


class ResultCache:
    """Results by architecture key, the first of each: some 200 bytes an architecture.

    >>> from raynas.core.arch import Arch
    >>> known = ResultCache()
    >>> known.add(Trial.completed(Arch({"depth": 2}), 0.5, loss=1.5))
    >>> known.result("55327d8bf662197b"), known.result(Arch({"depth": 2}).key)["metrics"]
    (None, {'loss': 1.5})
    """

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}
        self._kinds: dict[_Kind, int] = {}
        self._listed: list[tuple[_Kind, Struct]] = []

    def add(self, trial: Trial) -> None:
        """Remember a trial, unless its architecture has one."""
        if trial.arch.key in self._packed:
            return
        kind = _Kind(
            trial.status,
            trial.scored,
            len(trial.scores),
            tuple(trial.metrics),
            tuple(trial.text_metrics.items()),
            trial.left_out,
            trial.epochs,
            trial.node,
            trial.worker,
            trial.error,
        )
        number = self._kinds.setdefault(kind, len(self._listed))
        objective = () if trial.objective is None else (trial.objective,)
        numbers = (*objective, *trial.scores, *trial.metrics.values())
        if number == len(self._listed):
            self._listed.append((kind, Struct(f"<I{len(numbers)}d")))
        self._packed[trial.arch.key] = self._listed[number][1].pack(number, *numbers)

    def result(self, key: str) -> dict[str, Any] | None:
        """Return the fields of a trial that say what came of an architecture; None if unknown."""
        packed = self._packed.get(key)
        if packed is None:
            return None
        kind, struct = self._listed[int.from_bytes(packed[:4], "little")]
        _, *numbers = struct.unpack(packed)
        objective = numbers.pop(0) if kind.scored else None
        return {
            "status": kind.status,
            "objective": objective,
            "scores": tuple(numbers[: kind.scores]),
            "metrics": dict(zip(kind.metrics, numbers[kind.scores :], strict=True)),
            "text_metrics": dict(kind.text_metrics),
            "left_out": kind.left_out,
            "epochs": kind.epochs,
            "node": kind.node,
            "worker": kind.worker,
            "error": kind.error,
        }
