"""The pictures of a run, one method each: ``result.plot.history()``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch, Value

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from raynas.report.findings import ReportData

PICTURES = (
    "alphas",
    "architecture",
    "choices",
    "history",
    "importance",
    "lineage",
    "parallel",
    "pareto",
    "predicted",
    "rank_correlation",
    "sgas",
    "timeline",
    "training",
)


class Plots:
    """The pictures of a run; ``result.plot`` is one.

    Every method returns a plotly figure, and writes it too where a file is named: ``.png``,
    ``.svg``, ``.pdf``, ``.jpg`` and ``.webp`` take the extra ``raynas[png]`` and a Chrome or
    Chromium, ``.html`` opens offline, ``.json`` is plotly's own.

    All raise LookupError, in one sentence, where a run holds nothing for the picture, and
    UnknownName for a metric that no trial has.

    Args:
        data: returns what the run's folder holds.
    """

    def __init__(self, data: Callable[[], ReportData]) -> None:
        self._read = data

    def __dir__(self) -> list[str]:
        return list(PICTURES)

    def history(self, *, file: str | Path | None = None) -> go.Figure:
        """Draw the objective of every trial in the order of tells, and the best so far."""
        from raynas.report.pictures.history import history

        return self._shown(history(self._data), file, "history")

    def pareto(
        self, x: str | None = None, y: str | None = None, *, file: str | Path | None = None
    ) -> go.Figure:
        """Draw two metrics against each other: every trial, the Pareto front, the best.

        Args:
            x: metric; None takes the second objective, or else a measured cost.
            y: metric; None takes the objective.
            file: local path to write to.
        """
        from raynas.report.pictures.pareto import pareto

        return self._shown(pareto(self._data, x, y), file, "pareto")

    def choices(self, *, file: str | Path | None = None) -> go.Figure:
        """Draw how the trials with each option did: their mean objective, less the mean of all."""
        from raynas.report.pictures.choices import choices

        return self._shown(choices(self._data), file, "choices")

    def importance(self, metric: str | None = None, *, file: str | Path | None = None) -> go.Figure:
        """Draw which share of a metric's variance each choice explains.

        The numbers are those of ``Result.importance``: epsilon squared of a one-way analysis of
        variance over the trials that the search made.

        Args:
            metric: None takes the objective.
            file: local path to write to.
        """
        from raynas.report.pictures.importance import importance

        return self._shown(importance(self._data, metric), file, "importance")

    def alphas(self, *, file: str | Path | None = None) -> go.Figure:
        """Draw, per choice and epoch, the probability of the option that it prefers."""
        from raynas.report.pictures.alphas import alphas

        return self._shown(alphas(self._data), file, "alphas")

    def sgas(self, *, file: str | Path | None = None) -> go.Figure:
        """Draw how SGAS scored the edges, epoch by epoch, and when it decided each."""
        from raynas.report.pictures.sgas import sgas

        return self._shown(sgas(self._data), file, "sgas")

    def predicted(self, *, file: str | Path | None = None) -> go.Figure:
        """Draw the objective that was predicted of each trial against the measured one.

        Predictions are the algorithm's own where it made any, else those of a surrogate that is
        fitted to the other trials, four fifths of them at a time.
        """
        from raynas.report.pictures.predicted import predicted

        return self._shown(predicted(self._data), file, "predicted")

    def rank_correlation(
        self, x: str | None = None, y: str | None = None, *, file: str | Path | None = None
    ) -> go.Figure:
        """Draw whether two scores agree on the order of architectures, with Kendall's tau.

        Args:
            x: metric; None takes the objective or, if ``y`` is None too, the search's score of the
                architectures that ``Result.verify`` trained.
            y: metric; likewise, and the score that they had alone.
            file: local path to write to.
        """
        from raynas.report.pictures.rank_correlation import rank_correlation

        return self._shown(rank_correlation(self._data, x, y), file, "rank_correlation")

    def architecture(
        self, arch: Mapping[str, Value] | None = None, *, file: str | Path | None = None
    ) -> go.Figure:
        """Draw an architecture: cells as graphs, layers as a chain, other decisions as a tree.

        Args:
            arch: None takes the best.
            file: local path to write to.
        """
        from raynas.report.pictures.architecture import architecture

        chosen = None if arch is None else Arch(arch)
        return self._shown(architecture(self._data, chosen), file, "architecture")

    def timeline(self, *, file: str | Path | None = None) -> go.Figure:
        """Draw when each worker evaluated what, and how long the supernet was trained before."""
        from raynas.report.pictures.timeline import timeline

        return self._shown(timeline(self._data), file, "timeline")

    def parallel(self, *, file: str | Path | None = None) -> go.Figure:
        """Draw every completed trial as a line through its options, a cost and the objective."""
        from raynas.report.pictures.parallel import parallel

        return self._shown(parallel(self._data), file, "parallel")

    def lineage(self, *, file: str | Path | None = None) -> go.Figure:
        """Draw from which architectures the best came, where the algorithm records parents."""
        from raynas.report.pictures.lineage import lineage

        return self._shown(lineage(self._data), file, "lineage")

    def training(self, *, file: str | Path | None = None) -> go.Figure:
        """Draw the supernet's loss and the score of random sub-networks over the epochs."""
        from raynas.report.pictures.training import training

        return self._shown(training(self._data), file, "training")

    @property
    def _data(self) -> ReportData:
        return self._read()

    def _shown(self, figure: Any, file: str | Path | None, name: str) -> go.Figure:
        if file is not None:
            from raynas.report.figure_files import write_figure

            write_figure(figure, file, name)
        return figure
