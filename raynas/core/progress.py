"""What a run says while it works; the default says nothing."""

from __future__ import annotations

from collections.abc import Mapping

from raynas.core.study import Study


class Progress:
    """Takes news of a run; a subclass shows them.

    Attributes:
        metric: column of a training's history that says how well it does.
        trains: what is trained.
    """

    metric: str = "accuracy"
    trains: str = "supernet"

    def phase(self, text: str) -> None:
        """Begin a part of the run."""

    def trained(self, row: Mapping[str, float], epochs: int) -> None:
        """One more training epoch of ``epochs`` is over; ``row`` is its history row."""

    def told(self, study: Study) -> None:
        """More trials of a study are told."""

    def close(self) -> None:
        """Stop showing."""
