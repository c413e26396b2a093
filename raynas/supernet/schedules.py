"""The course of the learning rate over a training."""

from __future__ import annotations

import math
from collections.abc import Callable

from raynas.core.train_settings import TrainSettings

Schedule = Callable[[int, int], float]


def schedule_of(settings: TrainSettings) -> Schedule | None:
    """Return the schedule that the settings name; None where they leave it to the algorithm.

    Args:
        settings: of the training.

    Returns:
        A function from a step, from 0, and the number of all steps to a factor of ``lr``.
    """
    if settings.schedule is None and settings.warmup is None:
        return None
    name = settings.schedule or "cosine"
    if callable(name):
        own: Schedule = name
        return own
    warmup = settings.warmup or 0.0

    def factor(step: int, steps: int) -> float:
        rise = int(warmup * steps)
        if step < rise:
            return (step + 1) / rise
        return _after(name, settings, (step - rise) / max(steps - rise, 1), step / max(steps, 1))

    return factor


def _after(name: str, settings: TrainSettings, share: float, whole: float) -> float:
    """Return the factor once the learning rate has risen.

    Args:
        name: of the schedule.
        settings: of the training.
        share: of the steps since then that are over.
        whole: share of all steps that are over.
    """
    if name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share))
    if name == "linear":
        return 1.0 - share
    if name == "step":
        # in whole epochs; the small number keeps 0.3 * 10 from being one below 3
        epoch = int(whole * settings.epochs + 1e-9)
        return float(settings.lr_step_factor ** (epoch // settings.lr_step_epochs))
    return 1.0
