"""Whether an earlier run can be the warm start of a search: same decisions, same objectives."""

from __future__ import annotations

from collections.abc import Mapping

from raynas.core.archspace import ArchSpace
from raynas.core.config import SearchConfig
from raynas.core.decision import Decision, Subset
from raynas.core.errors import nearest
from raynas.setup.problem import Problem
from raynas.setup.resolve import rebuild_space
from raynas.storage.run_folder import Folder


def check_warm_start(path: str, problem: Problem) -> None:
    """Raise ValueError, naming what differs, unless a run has this problem's space and objectives.

    Data, weights and sizes that no decision is about may differ.

    Args:
        path: of the run, a folder or URI.
        problem: of the search that is to begin with it.

    Raises:
        ValueError: there is no run, or one of another space or of other objectives.
    """
    try:
        before = Folder(path).read_config()
    except FileNotFoundError as error:
        raise ValueError(f"warm_start: {error}") from None
    _check_objectives(before, problem, path)
    if before.space == problem.space.spec and before.space_digest == problem.space.digest:
        return
    try:
        earlier = rebuild_space(before.space, problem.data).arch_space
    except LookupError:  # a user's own that cannot be imported: its trials have to fit the space
        return
    if (difference := difference_of(earlier, problem.space.arch_space)) is not None:
        raise ValueError(f"warm_start: {path} is a run of another space: {difference}")


def _check_objectives(before: SearchConfig, problem: Problem, path: str) -> None:
    goals = problem.goals
    now = {objective.metric: str(objective.goal) for objective in goals.objectives}
    pairs = {
        "objectives": (_shown(before.objectives), _shown(now)),
        "weights (scalarize)": (_shown(before.scalarize), _shown(goals.weights or {})),
    }
    for name, (then, wanted) in pairs.items():
        if then != wanted:
            raise ValueError(
                f"warm_start: {path} is a run with {name} {then}, and this search has {wanted}"
            )


def _shown(goals: Mapping[str, object]) -> str:
    return ", ".join(f"{metric}:{goal}" for metric, goal in goals.items()) or "none"


def difference_of(earlier: ArchSpace, now: ArchSpace) -> str | None:
    """Return in what decision one space differs from another first; None if they are equal."""
    for label in earlier.labels:
        if label not in now.decisions:
            return f"this search has no decision {label!r}; {nearest(label, now.labels)}"
    for label in now.labels:
        if label not in earlier.decisions:
            return f"it has no decision {label!r}; {nearest(label, earlier.labels)}"
        then, wanted = (_options(space.decisions[label]) for space in (earlier, now))
        if then != wanted:
            return f"its {label!r} is {then}, and here {wanted}"
    return None if earlier == now else "its options open other decisions"


def _options(decision: Decision) -> str:
    kind = "one" if not isinstance(decision, Subset) else decision.k or "some"
    return f"{kind} of {list(decision.options)}"
