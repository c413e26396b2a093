"""How long a run took, in words."""

from __future__ import annotations

import pandas as pd


def time_taken(told: pd.DataFrame, history: pd.DataFrame) -> str:
    """Return when the trials ran, and how long they and the training of a supernet took.

    Nothing if the trials' times were not kept.

    Args:
        told: the trials.
        history: of the supernet's training.
    """
    training_s = float(history["duration_s"].sum()) if "duration_s" in history else 0.0
    if told.empty or told["started_utc"].min().year < 2000:
        return f"{duration(training_s)} of training" if training_s else ""
    begin, end = told["started_utc"].min(), told["finished_utc"].max()
    trials_s = (end - begin).total_seconds()
    when = f"trials from {begin:%Y-%m-%d %H:%M} UTC"
    if not training_s:
        return f"{when}, for {duration(trials_s)}"
    return (
        f"{duration(training_s + trials_s)} ({duration(training_s)} of training, "
        f"{duration(trials_s)} of trials); {when}"
    )


def duration(seconds: float) -> str:
    """Return a duration in the two units that matter.

    >>> duration(41.6), duration(3725), duration(200_000)
    ('42 s', '1 h 2 min', '55 h 33 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = int(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
