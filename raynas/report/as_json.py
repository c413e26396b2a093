"""What commands print with ``--json``, made of what they have done."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision
from raynas.core.evaluator import RESERVED
from raynas.core.locations import parent
from raynas.report.json_objects import (
    ArchAnswer,
    Bound,
    Converted,
    FixedPart,
    IntervalAnswer,
    Profile,
    Profiled,
    Search,
    Space,
    Steps,
    Supernet,
    Training,
    Trials,
    Verified,
    plain,
)
from raynas.report.outcome import best_with_report

if TYPE_CHECKING:
    import pandas as pd

    from raynas.costs import coverage
    from raynas.report.profile import SpaceProfile

NO_METRICS = ("epoch", "step", "lr", "algo", "duration_s")  # other columns of a history
CHOICE = "choice."


def trials_answer(result: Any, frame: pd.DataFrame) -> Trials:
    """Return a run's trials, with architectures as objects.

    Args:
        result: of the run.
        frame: its trials, in the order to tell.
    """
    rows = [plain(row) | {"arch": json.loads(row["arch"])} for row in _records(frame)]
    return Trials(path=result.path, objectives=dict(result.config.objectives), trials=rows)


def search_answer(result: Any) -> Search:
    """Return what a search found, after writing its report."""
    best, top, report = best_with_report(result)
    several = len(result.config.objectives) > 1
    final = {} if result.best_final is None else result.best_final.metrics
    return Search(
        path=result.path,
        count=len(result.trials),
        statuses=result.judged["status"].value_counts().to_dict(),
        best=ArchAnswer(
            trial=best.number,
            key=best.arch.key,
            arch=dict(best.arch),
            objective=best.objective,
            metrics=plain(dict(best.metrics) | final),
        ),
        top=_archs(top),
        front=_archs(result.pareto()) if several else None,
        report=report,
    )


def supernet_answer(path: str) -> Supernet:
    """Return what a trained supernet can do.

    Args:
        path: as ``raynas.train_supernet`` returns it.
    """
    from raynas.storage.tables import read_history

    rows = read_history(parent(path)).to_pylist()
    metrics = {
        name: plain(value)
        for name, value in rows[-1].items()
        if name not in NO_METRICS and not name.startswith("alpha.")
    }
    return Supernet(path=path, epochs=Counter(row["algo"] for row in rows), metrics=metrics)


def training_answer(trained: Any) -> Training:
    """Return what a network that was trained to the end can do."""
    return Training(
        path=trained.path,
        key=trained.arch.key,
        arch=dict(trained.arch),
        epochs=trained.config.settings["epochs"],
        best_epoch=trained.best_epoch,
        metrics=plain(trained.metrics),
    )


def steps_answer(outcomes: Iterable[Any]) -> Steps:
    """Return what each step of a configuration file gave, in order.

    Args:
        outcomes: of ``raynas.run``: a supernet's path, a Result, or a Trained.
    """
    return Steps(steps=[_step(outcome) for outcome in outcomes])


def _step(outcome: Any) -> Search | Supernet | Training:
    if isinstance(outcome, str):
        return supernet_answer(outcome)
    return training_answer(outcome) if hasattr(outcome, "best_epoch") else search_answer(outcome)


def verified_answer(path: str, verification: Any) -> Verified:
    """Return what retraining says of the search in ``path``."""
    rows = [plain(row) | {"arch": json.loads(row["arch"])} for row in _records(verification.table)]
    tau, before, after = (
        None if one is None else IntervalAnswer(**plain(vars(one)))
        for one in (verification.correlation, verification.sums_before, verification.sums_after)
    )
    return Verified(
        path=path,
        metric=verification.metric,
        lower_is_better=verification.lower_is_better,
        gain=IntervalAnswer(**plain(vars(verification.gain))),
        correlation=tau,
        sums_before=before,
        sums_after=after,
        architectures=rows,
    )


def profile_answer(profile: SpaceProfile) -> Profile:
    """Return what a space costs."""
    return Profile(
        name=profile.name,
        size=profile.size,
        exact=profile.exact,
        feasible=profile.feasible,
        archs=[
            Profiled(
                which=costed.which,
                key=costed.arch.key,
                arch=dict(costed.arch),
                metrics=plain(costed.metrics),
            )
            for costed in profile.archs
        ],
        constraints=[
            Bound(
                metric=reach.constraint.metric,
                low=plain(reach.constraint.low),
                high=plain(reach.constraint.high),
                least=plain(reach.least.value),
                most=plain(reach.most.value),
                possible=reach.possible,
                share=reach.share,
                share_low=reach.low,
                share_high=reach.high,
            )
            for reach in profile.reaches
        ],
        share=profile.share,
        share_low=profile.low,
        share_high=profile.high,
        samples=profile.samples,
        note=profile.note,
        decisions=decisions_answer(profile.decisions),
        conversion=None if profile.conversion is None else _converted(profile.conversion),
    )


def _converted(conversion: coverage.Converted) -> Converted:
    fixed = [
        FixedPart(
            reason=part.reason,
            dimensions=part.dimensions,
            weights=part.weights,
            tensors=list(part.tensors),
        )
        for part in conversion.fixed
    ]
    return Converted(kinds=conversion.kinds, coverage=conversion.coverage, fixed=fixed)


def space_answer(space: ArchSpace, profile: SpaceProfile | None) -> Space:
    """Return what a space holds.

    Args:
        space: itself.
        profile: of its costs, where they are had at once.
    """
    costs = None
    if profile is not None:
        small, _, large = (costed.metrics for costed in profile.archs)
        costs = {name: (plain(small[name]), plain(large[name])) for name in small}
    return Space(
        size=space.size(), decisions=decisions_answer(space.decisions.values()), costs=costs
    )


def decisions_answer(decisions: Iterable[Decision]) -> list[dict[str, Any]]:
    """Return decisions of a space: label, options, and how many of them are picked.

    ``picks`` is null for any number.
    """
    return [
        {
            "label": decision.label,
            "options": plain(decision.options),
            "picks": 1 if isinstance(decision, Choice) else decision.k,
        }
        for decision in decisions
    ]


def _archs(frame: pd.DataFrame) -> list[ArchAnswer]:
    return [
        ArchAnswer(
            trial=row["trial"],
            key=row["arch_key"],
            arch=json.loads(row["arch"]),
            objective=plain(row["objective"]),
            metrics={
                name: plain(value)
                for name, value in row.items()
                if name not in RESERVED and not name.startswith(CHOICE)
            },
        )
        for row in _records(frame)
    ]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
