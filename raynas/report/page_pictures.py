"""The pictures of the report: what stands above a figure, what below, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import plotly.graph_objects as go

from raynas.report.findings import ReportData
from raynas.report.pictures.alphas import alphas
from raynas.report.pictures.architecture import architecture
from raynas.report.pictures.choices import choices
from raynas.report.pictures.history import history
from raynas.report.pictures.importance import importance
from raynas.report.pictures.lineage import lineage
from raynas.report.pictures.parallel import parallel
from raynas.report.pictures.pareto import pareto
from raynas.report.pictures.rank_correlation import rank_correlation
from raynas.report.pictures.sgas import sgas
from raynas.report.pictures.style import NothingToDraw
from raynas.report.pictures.timeline import timeline
from raynas.report.pictures.training import training


class Picture(NamedTuple):
    """A section of the page: what stands above a figure, what below, and how it is drawn."""

    key: str
    title: str
    caption: str
    draw: Callable[[ReportData], go.Figure]


PICTURES = (
    Picture(
        "architecture",
        "The best architecture",
        "Cells are drawn as graphs: dark boxes are nodes, which add up what reaches them; light "
        "ones are operations. Layers are read row by row.",
        architecture,
    ),
    Picture(
        "tradeoff",
        "{objective} against {other}",
        "Every point is a trial. No trial is at least as good as one on the Pareto front in both "
        "directions and better in one. The star is the best by the objective alone; ties go to "
        "the lower loss.",
        pareto,
    ),
    Picture(
        "progress",
        "{objective} in the course of the search",
        "Trials in the order in which their results came in, failed ones counted but not drawn.",
        history,
    ),
    Picture(
        "training",
        "Training of the supernet",
        "Loss on training examples, and the score on validation examples: of the architecture "
        "found so far or, where an algorithm learns none, the mean of a few random ones. While a "
        "single path is warmed up, the others stay at chance.",
        training,
    ),
    Picture(
        "preferences",
        "What every choice came to prefer",
        "Probability of each choice's likeliest option, epoch by epoch; the option of the last "
        "epoch stands on the right. Pale rows are undecided: their options are about as likely.",
        alphas,
    ),
    Picture(
        "edge_scores",
        "How edges were scored, and decided",
        "The score of every edge, normalised over the edges of its kind. A star is the epoch in "
        "which an edge was decided for an operation; of the others of a full node, none is kept.",
        sgas,
    ),
    Picture(
        "importance",
        "Which choices matter",
        "The share of the objective's variance that the options of a choice explain, corrected "
        "for their number. Options that the search tried together share their effect.",
        importance,
    ),
    Picture(
        "choices",
        "How the trials with each option did",
        "Plain averages: the mean objective of the trials that took an option, less the mean of "
        "all completed trials; blue is better. They show what went together in the trials that "
        "this search happened to try, not what an option causes. A number in a cell counts its "
        "trials where they are fewer than five; a blank has none.",
        choices,
    ),
    Picture(
        "parallel",
        "Trials through their choices",
        "Every line is a trial, through the choices that matter most; the better trials are blue. "
        "Drag along an axis to see a part of them only.",
        parallel,
    ),
    Picture(
        "lineage",
        "Where the best came from",
        "Thin lines go from an architecture to those that were made by changing it; the line of "
        "the best's ancestors is drawn strong.",
        lineage,
    ),
    Picture(
        "rank_correlation",
        "Whether the search's score tells the order",
        "Architectures that were trained on their own: their place by the search's score, and by "
        "their own. Red ones are the search's best, the others were drawn at random.",
        rank_correlation,
    ),
    Picture(
        "timeline",
        "When what was evaluated",
        "A row for every worker, a bar for every trial. Epochs of training are drawn one after "
        "another up to the first trial.",
        timeline,
    ),
)


def drawn_pictures(data: ReportData) -> dict[str, go.Figure]:
    """Return, by key, the pictures for which a run has something."""
    figures = {}
    for picture in PICTURES:
        try:
            figures[picture.key] = picture.draw(data)
        except NothingToDraw:
            continue
    return figures
