"""The order in which trials stand: the best first, ties as the best trial decides them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LOSS, FINAL = "loss", "final_objective"


def best_first(
    frame: pd.DataFrame, by: str = "objective", *, ascending: bool = False
) -> pd.DataFrame:
    """Return trials by one column; ties go to the lower loss, then to the earlier trial.

    What a row lacks stands behind what others have. By the objective, those that were evaluated
    again at the end of the search come first, in the order of that.

    Args:
        frame: rows of the trial table.
        by: a column.
        ascending: whether its smallest value is the best.
    """
    rising, keys = {by: ascending}, frame
    if by == "objective" and FINAL in frame:
        rising = {FINAL: False} | rising
        # beyond the bounds of now it has no score, whatever the end gave
        keys = frame.assign(**{FINAL: frame[FINAL].where(frame[by].notna())})
    if LOSS in frame and frame[LOSS].dtype.kind in "fiu":  # a user's own may be text
        rising.setdefault(LOSS, True)
    rising.setdefault("trial", True)
    order = keys.reset_index(drop=True).sort_values(list(rising), ascending=list(rising.values()))
    return frame.iloc[order.index]
