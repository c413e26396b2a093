"""Whether a cheap score can be trusted: the best retrained on their own, against random ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raynas.core.arch import Arch
from raynas.core.config import RayConfig
from raynas.core.deduplicator import Deduplicator
from raynas.core.digests import sealed
from raynas.core.errors import Exhausted, UnknownName, nearest
from raynas.core.evaluator import EVALUATORS
from raynas.core.final_request import FINAL
from raynas.core.goals import goals_of
from raynas.core.locations import under
from raynas.core.options import options_of
from raynas.core.progress import Progress
from raynas.results.analysis import Interval, kendall, mean_difference
from raynas.setup.evaluation import evaluation_of
from raynas.setup.problem import Data, Problem, Space
from raynas.setup.repeated_evaluations import RepeatedEvaluations
from raynas.setup.runner import runner_of

if TYPE_CHECKING:
    import pandas as pd

VERIFY = "verify"
FIRST = {  # options that ``standalone`` had in 0.1
    "epochs",
    "batch_size",
    "lr",
    "momentum",
    "nesterov",
    "weight_decay",
    "label_smoothing",
    "clip",
    "precision",
    "channels_last",
    "sync_batch_norm",
    "early_stopping",
    "grace_epochs",
    "reduction_factor",
}


@dataclass(frozen=True)
class Verification:
    """What retraining says of a search.

    Attributes:
        table: one row per architecture: ``group`` (best or random), ``cheap`` (the score that the
            search went by, measured again on more images where it had a supernet), ``mean``,
            ``std`` and ``seeds`` of the stand-alone score, ``arch``; of a run by ``block_library``
            also ``sum``, what it went by: differences added up over blocks, negated where a lower
            score is better.
        correlation: Kendall's tau between the cheap and the stand-alone scores of the random
            architectures and the best together; None where random ones have no cheap score.
        gain: mean stand-alone score of the best less that of the random ones; the other way round
            where a lower one is better.
        metric: that is the stand-alone score: what the run's task goes by.
        lower_is_better: of the score.
        sums_before: Kendall's tau between the sums over blocks and the cheap scores; None without
            such sums.
        sums_after: likewise the stand-alone scores: rankings may flip in a training.
    """

    table: pd.DataFrame
    correlation: Interval | None
    gain: Interval
    metric: str = "accuracy"
    lower_is_better: bool = False
    sums_before: Interval | None = None
    sums_after: Interval | None = None

    def to_json(self) -> str:
        """Return the table's rows and both estimates, for the run's folder."""
        plain = self.table.astype(object).where(self.table.notna(), None)
        estimates: dict[str, Any] = {
            "gain": vars(self.gain),
            "correlation": None if self.correlation is None else vars(self.correlation),
        }
        for name, tau in (("sums_before", self.sums_before), ("sums_after", self.sums_after)):
            if tau is not None:
                estimates[name] = vars(tau)
        rows = plain.drop(columns="arch").to_dict("records")
        estimates["metric"] = self.metric
        kept = sealed(estimates | {"said": str(self), "rows": rows})
        return json.dumps(kept, indent=2) + "\n"

    def __str__(self) -> str:
        share = self.metric.endswith("accuracy")
        gain = self.gain.text(100, 2, "percentage points") if share else str(self.gain)
        which = "random less best" if self.lower_is_better else "best less random"
        lines = [f"{which}: {gain} of stand-alone {self.metric}"]
        if self.correlation is not None:
            lines.append(f"Kendall's tau of cheap and stand-alone score: {self.correlation}")
        if self.sums_before is not None:
            lines.append(f"Kendall's tau of sums over blocks and cheap score: {self.sums_before}")
        if self.sums_after is not None:
            lines.append(
                f"Kendall's tau of sums over blocks and stand-alone score: {self.sums_after}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a search is verified by.

    Attributes:
        path: of the run; trainings go to ``verify/`` in it.
        space: of the architectures, within the run's bounds on costs.
        data: to train on.
        best: architectures of the best trials.
        top: how many of the best were asked for.
        seed: of the run, which fixes the random architectures.
        cheap_scores: gives the score that the search would go by, by architecture key.
        sums: gives what a library of blocks expects of an architecture, larger where the
            stand-alone score is; None without one.
    """

    path: str
    space: Space
    data: Data
    best: Sequence[Arch]
    top: int
    seed: int
    cheap_scores: Callable[[Sequence[Arch]], Mapping[str, float]]
    sums: Callable[[Arch], float | None] | None = None


def verify(
    comparison: Comparison,
    *,
    seeds: int,
    options: Mapping[str, Any],
    ray: RayConfig,
    progress: Progress,
) -> Verification:
    """Train the best and as many random architectures from fresh weights, once per seed.

    Both keep the run's bounds as they are now; random ones those that costs alone decide.
    Trials go to ``verify/`` in the run's folder; what was trained there in the same way, by an
    earlier call or one that was stopped, is not trained again.

    Args:
        comparison: the best, and what they are compared in.
        seeds: trainings of each architecture.
        options: of the evaluator ``standalone``, such as ``epochs``.
        ray: how to use Ray.
        progress: told how it comes along.

    Raises:
        FolderInUse: another process verifies the run.
        ValueError: there is no architecture to compare the best with.
    """
    best, random = comparison.best, _random(comparison)
    if best and not random:
        raise ValueError(
            f"verify compares the best with others, and 0 are left besides the {len(best)} best of "
            f"all that the space holds within the run's bounds; expected top to be at most "
            f"{len(best) - 1}, got {comparison.top}"
        )
    rows = _trained(comparison, [*best, *random], seeds, options, ray, progress)
    cheap = comparison.cheap_scores([*best, *random])
    sums = None
    if comparison.sums is not None:
        sums = {arch.key: comparison.sums(arch) for arch in (*best, *random)}
    return summary(rows, best, random, cheap, comparison.data.module.task.objective, sums)


def _trained_in(path: str) -> list[str]:
    """Return the folders of a run's verifications, and of what its end evaluated again."""
    from raynas.storage.run_folder import Folder

    return [
        under(path, purpose, key, name)
        for purpose in (FINAL, VERIFY)
        for key, is_folder in sorted(Folder(under(path, purpose)).entries().items())
        if is_folder
        for name in sorted(Folder(under(path, purpose, key)).names())
        if name.startswith("seed-")
    ]


def _random(comparison: Comparison) -> list[Arch]:
    """Return as many other architectures within the run's bounds on costs, drawn uniformly."""
    space = comparison.space.arch_space
    rng = np.random.default_rng([comparison.seed, 11])
    seen = Deduplicator(space, rng)
    for arch in comparison.best:
        seen.add(arch)
    others: list[Arch] = []
    for _ in comparison.best:
        try:
            others.append(seen.propose(lambda: space.sample(rng)))
        except Exhausted:
            break
    return others


def _trained(
    comparison: Comparison,
    archs: Sequence[Arch],
    seeds: int,
    options: Mapping[str, Any],
    ray: RayConfig,
    progress: Progress,
) -> pd.DataFrame:
    import pandas as pd

    from raynas.storage.run_lock import RunLock
    from raynas.storage.tables import read_trials

    space, goals = comparison.space, goals_of(dict([comparison.data.module.task.objective]))
    problem = Problem(space=space, data=comparison.data, goals=goals)
    standalone = ["standalone", {"early_stopping": False} | dict(options)]
    evaluation = evaluation_of(standalone, problem)
    repeated = RepeatedEvaluations(
        space=space.arch_space,
        goals=goals,
        spec=evaluation.evaluator,
        folder=under(comparison.path, VERIFY, _key(evaluation.component.options)),
        seeds=range(seeds),
        purpose=VERIFY,
        out=comparison.path,
    )
    ray.check_trains(repeated.spec.epochs)
    with RunLock("verification") as lock, runner_of(ray) as runner:
        lock.take(under(comparison.path, VERIFY))
        repeated.run(archs, runner, progress)
    rows: pd.DataFrame = pd.concat([read_trials(folder).to_pandas() for folder in repeated.folders])
    return rows


def _key(options: Mapping[str, Any]) -> str:
    """Return a short name of how networks are trained: scores of other trainings lie elsewhere.

    An option of later releases at its default leaves the name as it was.
    """
    from raynas.evaluators.standalone import Standalone

    later = {k: option.default for k, option in options_of(Standalone).items() if k not in FIRST}
    options = {k: v for k, v in options.items() if k not in later or later[k] != v}
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]


def summary(
    rows: pd.DataFrame,
    best: Sequence[Arch],
    random: Sequence[Arch],
    cheap: Mapping[str, float],
    objective: tuple[str, str] = ("accuracy", "max"),
    sums: Mapping[str, float | None] | None = None,
) -> Verification:
    """Return what trained trials say.

    Args:
        rows: of the trial table, one per architecture and seed.
        best: the search's.
        random: drawn uniformly.
        cheap: scores by architecture key.
        objective: the metric that is the stand-alone score, and its goal.
        sums: over blocks, by architecture key; None without a library of blocks.
    """
    import pandas as pd

    metric, goal = objective
    rows = rows.dropna(subset=[metric])
    group = {arch.key: "best" for arch in best} | {arch.key: "random" for arch in random}
    rows = rows[rows["arch_key"].isin(list(group))]
    scores = rows.groupby("arch_key", sort=False)[metric]
    table = pd.DataFrame({"mean": scores.mean(), "std": scores.std(), "seeds": scores.count()})
    table.insert(0, "group", [group[key] for key in table.index])
    table.insert(1, "cheap", [cheap.get(key, np.nan) for key in table.index])
    if sums is not None:
        table["sum"] = [sums.get(key) for key in table.index]
        table["sum"] = table["sum"].astype(np.float64)
    table["arch"] = rows.groupby("arch_key", sort=False)["arch"].first()
    table = table.reset_index().sort_values(["group", "mean"], ascending=[True, goal == "min"])
    both = table.dropna(subset=["cheap"])
    scored = set(both["group"]) == {"best", "random"} and len(both) > 2
    groups = ("best", "random") if goal == "max" else ("random", "best")
    return Verification(
        table.reset_index(drop=True),
        kendall(both["cheap"].to_numpy(), both["mean"].to_numpy()) if scored else None,
        mean_difference(*(table["mean"][table["group"] == g].to_numpy() for g in groups)),
        metric,
        goal == "min",
        _sums_tau(table, "cheap"),
        _sums_tau(table, "mean"),
    )


def _sums_tau(table: pd.DataFrame, column: str) -> Interval | None:
    """Return how well sums over blocks order architectures; None of fewer than three."""
    if "sum" not in table:
        return None
    both = table.dropna(subset=["sum", column])
    return kendall(both["sum"].to_numpy(), both[column].to_numpy()) if len(both) > 2 else None


def scores_by(path: str, judged: pd.DataFrame, first: str, other: str) -> Interval:
    """Return Kendall's tau between two evaluators' objectives of the same architectures.

    Args:
        path: of the run, whose verification counts as well.
        judged: the run's trials.
        first: name of an evaluator.
        other: name of another.

    Raises:
        LookupError: fewer than three architectures have both scores.
        UnknownName: there is no such evaluator.
    """
    import pandas as pd

    from raynas.storage.tables import read_trials

    others = [read_trials(folder).to_pandas() for folder in _trained_in(path)]
    # another function or table that the end went by has the same name, and is another measure
    own = set(judged["evaluator"])
    others = [rows[(rows["algo"] != FINAL) | ~rows["evaluator"].isin(own)] for rows in others]
    rows = pd.concat([judged, *others]).dropna(subset=["objective"])
    # scores of shorter trainings are another measure
    rows = rows[rows["epochs"] == rows.groupby("evaluator")["epochs"].transform("max")]
    scored = sorted(set(rows["evaluator"]))
    for name in (first, other):
        if name not in scored and name not in EVALUATORS:
            hint = nearest(name, {*scored, *EVALUATORS})
            raise UnknownName(f"no evaluator named {name!r}; {hint}")
    by = [
        rows[rows["evaluator"] == n].groupby("arch_key")["objective"].mean() for n in (first, other)
    ]
    both = pd.concat(by, axis=1, join="inner").to_numpy(np.float64)
    if len(both) < 3:
        there = f"scores by {', '.join(scored)}" if scored else "no scores at all"
        raise LookupError(
            f"{len(both)} architectures have scores by both {first!r} and {other!r}, expected at "
            f"least 3; there are {there}: call Result.verify first"
        )
    return kendall(both[:, 0], both[:, 1])
