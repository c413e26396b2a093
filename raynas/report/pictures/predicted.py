"""What was predicted of trials against what was told of them."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from raynas.core.surrogate import expected, kernel, posterior_bounds, ranked
from raynas.report.findings import ReportData, scales
from raynas.report.pictures.hover import hovers
from raynas.report.pictures.style import POINT, QUIET, NothingToDraw, blank_figure, value_axis

FOLDS, FEWEST_FITTED, NOISE = 5, 10, 0.1
MOST_FITTED = 1000  # newest trials; the time to fit grows with the cube of their number


def predicted(data: ReportData) -> go.Figure:
    """Draw the objective that was predicted of each trial against the one that was measured.

    Predictions are those that the algorithm's model made before the evaluation where the trial
    table has them (``predictor``), and otherwise those of our surrogate (``raynas.core.surrogate``)
    fitted to the other trials, four fifths of them at a time: how well scores can be told from
    architectures in this space. Both predict ranks, told as the score of that rank.

    Raises:
        NothingToDraw: too few trials were completed to fit to.
    """
    frame = data.completed
    own = frame.dropna(subset=["predicted"]) if "predicted" in frame else frame.iloc[:0]
    if own.empty:
        if len(frame) < FEWEST_FITTED:
            raise NothingToDraw(
                f"predictions need at least {FEWEST_FITTED} completed trials to fit to, got "
                f"{len(frame)}"
            )
        own = frame.tail(MOST_FITTED)
        guessed, by = left_out_predictions(data, own.index.tolist()), "surrogate, left out"
    else:
        guessed, by = own["predicted"].to_numpy(np.float64), f"{own['algo'].iloc[-1]}, beforehand"
    sign, metric = data.objective.sign, data.objective.metric
    weighted = bool(data.config.scalarize)
    told = own["objective"] if weighted else own[metric]
    (scale,) = scales(data, "objective" if weighted else metric)
    values = guessed * (1 if weighted else sign) * scale.factor
    figure = blank_figure(f"{scale.title}, predicted ({by})", f"{scale.title}, measured")
    ends = [
        min(values.min(), told.min() * scale.factor),
        max(values.max(), told.max() * scale.factor),
    ]
    figure.add_scatter(
        x=ends,
        y=ends,
        name="As predicted",
        mode="lines",
        line={"color": QUIET, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=values,
        y=told * scale.factor,
        name="Trial",
        mode="markers",
        marker={"size": 7, "color": POINT, "opacity": 0.5},
        hovertext=hovers(data, own, decisions=False),
        hoverinfo="text",
    )
    figure.update_xaxes(value_axis(values))
    figure.update_yaxes(value_axis(told * scale.factor))
    return figure


def left_out_predictions(data: ReportData, places: list[int]) -> NDArray[np.float64]:
    """Return, for each trial, the objective that a model of the trials in other folds expects.

    Args:
        data: of the run.
        places: of completed trials in ``data.told``, at least two.
    """
    features = _shares(data, places)
    kernels = kernel(features @ features.T)
    scores = data.told.loc[places, "objective"].to_numpy(np.float64)
    folds = np.arange(len(places)) % min(FOLDS, len(places))
    guessed = np.empty(len(places))
    for fold in range(folds.max() + 1):
        left, fitted = folds == fold, folds != fold
        targets = ranked(scores[fitted, None])
        known, cross = kernels[np.ix_(fitted, fitted)], kernels[np.ix_(left, fitted)]
        mean, _ = posterior_bounds(known, cross, targets, noise=NOISE)
        guessed[left] = [expected(m, targets[:, 0], scores[fitted]) for m in mean[:, 0]]
    return guessed


def _shares(data: ReportData, places: list[int]) -> NDArray[np.float64]:
    """Return features whose inner product is the share of decisions that two trials agree in."""
    archs = [data.archs[place] for place in places]
    columns = {
        pair: at for at, pair in enumerate(dict.fromkeys(p for a in archs for p in a.items()))
    }
    features = np.zeros((len(archs), len(columns)))
    for row, arch in enumerate(archs):
        features[row, [columns[pair] for pair in arch.items()]] = 1 / np.sqrt(max(1, len(arch)))
    return features
