"""What a run's library of blocks answers: the best under other bounds, and what it expects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raynas.core.arch import Arch
from raynas.core.constraints import Constraints, as_constraints
from raynas.results.block_solutions import (
    ALGO,
    RunLibrary,
    bounded_config,
    check_library,
    check_solvable,
    within,
)
from raynas.results.run_parts import RunParts
from raynas.setup.problem import Space
from raynas.storage.tables import load_trials

if TYPE_CHECKING:
    import pandas as pd


def solved(run: RunParts, constraints: Constraints | None, top: int) -> pd.DataFrame:
    """Return what sums over blocks say is best under other bounds: see ``Result.solve``.

    Args:
        run: by ``block_library``.
        constraints: in place of the run's own; None takes these.
        top: how many.

    Raises:
        ValueError: the run is of another algorithm, or a bound cannot be kept or is not known.
        Unfinished: not all variants were scored.
    """
    if top < 1:
        raise ValueError(f"solve: expected top to be at least 1, got {top}")
    wanted = as_constraints(run.config.constraints if constraints is None else constraints)
    config = bounded_config(run.config, wanted)
    check_library(config)
    space = run.space_within(config)
    check_solvable(space, wanted)
    return RunLibrary(config, space, load_trials(run.folder.path)).solve(top)


def spanned(run: RunParts, space: Space) -> tuple[Space, Callable[[Arch], float | None] | None]:
    """Return the space that is verified, and what a library of blocks expects, if there is one.

    Sums rise where the stand-alone score does.

    Args:
        run: of any algorithm.
        space: of it, within its bounds.
    """
    if run.config.algo.name != ALGO:
        return space, None
    library = RunLibrary(run.config, space, load_trials(run.folder.path))
    _, goal = run.rebuilt.data.task.objective
    sign = 1.0 if goal == "max" else -1.0

    def expected(arch: Arch) -> float | None:
        total = library.total(arch)
        return None if total is None else sign * total

    return within(space, library), expected
