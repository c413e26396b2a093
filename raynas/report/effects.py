"""How the trials that took an option did, in numbers."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from raynas.core.plain_values import plain_value
from raynas.report.findings import ReportData
from raynas.report.option_text import atoms, natural


class Effect(NamedTuple):
    """How the trials that took one option did.

    Attributes:
        trials: how many they are.
        mean: of their objective.
        effect: this mean, less the mean of all completed trials.
    """

    decision: str
    option: str
    trials: int
    mean: float
    effect: float


def effects(data: ReportData) -> list[Effect]:
    """Return how the trials with each option did, decision by decision, options in natural order.

    These are plain averages over the trials that a search happened to try. They say nothing about
    causes: options that the search tried together share their averages.
    """
    if data.completed.empty:
        return []
    objective = data.completed[data.objective.metric]
    taken = defaultdict[str, defaultdict[str, list[float]]](lambda: defaultdict(list))
    for at, value in zip(objective.index.tolist(), objective.tolist(), strict=True):
        for label, picked in data.archs[at].items():
            for atom in atoms(picked, single=label in data.single):
                taken[label][json.dumps(atom)].append(value)  # True, 1 and "1" are three options
    overall = float(objective.mean())
    found = []
    for label in data.labels:
        for text in sorted(taken[label], key=lambda text: natural(json.loads(text))):
            option, values = plain_value(json.loads(text)), taken[label][text]
            mean = float(np.mean(values))
            name = data.option_name(label, option)
            found.append(Effect(label, name, len(values), mean, mean - overall))
    return found
