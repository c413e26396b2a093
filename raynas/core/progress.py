"""What a run says while it works; the default says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from raynas.core.study import Study
from raynas.core.trial import Trial

NOTES = "notes"  # column of a training's history: lines of text


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a run is, said before its first news.

    Attributes:
        kind: of run.
        out: its folder, which is claimed by now.
        config: all that it depends on, as JSON holds it.
        metric: column of a training's history that says how well it does.
    """

    kind: Literal["search", "supernet", "retrain"]
    out: str
    config: Mapping[str, Any]
    metric: str = "accuracy"


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What a run has come to.

    Attributes:
        metrics: its final numbers by name.
        arch: the best architecture, or the trained one, as JSON; None where there is none.
        files: local paths of what is worth keeping with the numbers.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    arch: str | None = None
    files: Sequence[str] = ()


class Progress:
    """Takes news of a run; a subclass shows or keeps them.

    Every method does nothing here. ``begin`` comes once the run's folder is claimed, ``phase`` may
    come before it; ``finish`` or ``fail`` says how the run ended, and ``close`` comes last.

    Attributes:
        metric: column of a training's history that says how well it does.
        trains: what is trained.
    """

    metric: str = "accuracy"
    trains: str = "supernet"

    @property
    def takes_files(self) -> bool:
        """Whether ``finish`` wants files, which take a while to make."""
        return False

    def begin(self, run: RunInfo) -> None:
        """Take what the run is."""
        self.metric = run.metric
        self.trains = "network" if run.kind == "retrain" else "supernet"

    def phase(self, text: str) -> None:
        """Begin a part of the run."""

    def noted(self, text: str) -> None:
        """Something has happened that a user should know of, such as the loss of a worker."""

    def trained(self, row: Mapping[str, Any], epochs: int) -> None:
        """One more training epoch of ``epochs`` is over.

        Args:
            row: of the history: numbers, text, and None where a column holds nothing; lines that
                the algorithm has to say stand under ``notes``.
            epochs: in all.
        """

    def recorded(self, trials: Sequence[Trial]) -> None:
        """Trials are on disk; that they are ``told`` follows, once for one or more such calls."""

    def told(self, study: Study) -> None:
        """More trials of a study are told; once at first, where an earlier run told some."""

    def finish(self, summary: RunSummary) -> None:
        """The run has come to its end."""

    def fail(self, error: BaseException) -> None:
        """The run has failed, or was stopped."""

    def close(self) -> None:
        """Stop showing."""


class ProgressGroup(Progress):
    """Hands all news to several, one after the other.

    Args:
        members: that take them.
    """

    def __init__(self, members: Sequence[Progress]) -> None:
        self.members: tuple[Progress, ...] = tuple(members)

    @property
    def takes_files(self) -> bool:
        """Whether any of them does."""
        return any(member.takes_files for member in self.members)

    def begin(self, run: RunInfo) -> None:
        """Hand it on."""
        for member in self.members:
            member.begin(run)

    def phase(self, text: str) -> None:
        """Hand it on."""
        for member in self.members:
            member.phase(text)

    def noted(self, text: str) -> None:
        """Hand it on."""
        for member in self.members:
            member.noted(text)

    def trained(self, row: Mapping[str, Any], epochs: int) -> None:
        """Hand it on."""
        for member in self.members:
            member.trained(row, epochs)

    def recorded(self, trials: Sequence[Trial]) -> None:
        """Hand it on."""
        for member in self.members:
            member.recorded(trials)

    def told(self, study: Study) -> None:
        """Hand it on."""
        for member in self.members:
            member.told(study)

    def finish(self, summary: RunSummary) -> None:
        """Hand it on."""
        for member in self.members:
            member.finish(summary)

    def fail(self, error: BaseException) -> None:
        """Hand it on."""
        for member in self.members:
            member.fail(error)

    def close(self) -> None:
        """Close all, whatever one of them raises."""
        failure: Exception | None = None
        for member in self.members:
            try:
                member.close()
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure
