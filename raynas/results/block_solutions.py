"""What the scores of a run's blocks say, without another evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.block_division import MAX_VARIANTS, blocks_of
from raynas.core.blocks import largest
from raynas.core.config import SearchConfig
from raynas.core.constraints import Constraint
from raynas.core.errors import Unfinished
from raynas.core.feasible import Cheap, Violation
from raynas.core.goals import goals_of
from raynas.core.sampler import SearchFacts
from raynas.core.trial import Trial
from raynas.setup.bounds import costs_beforehand
from raynas.setup.problem import Space
from raynas.supernet.block_bounds import BlockBounds, bounds_of
from raynas.supernet.block_reading import Reading, reading_of
from raynas.supernet.block_scores import BlockScores

if TYPE_CHECKING:
    import pandas as pd

ALGO = "block_library"


@dataclass(frozen=True)
class RunLibrary:
    """The scored blocks of a run.

    Attributes:
        config: of the run.
        space: that it searched, perhaps within bounds.
        trials: that it told.
    """

    config: SearchConfig
    space: Space
    trials: Sequence[Trial]

    @cached_property
    def costs(self) -> Cheap | None:
        """Of an architecture, by metric."""
        return costs_beforehand(self.space)

    @cached_property
    def reading(self) -> Reading:
        """How trials are read."""
        measured = next((t.metrics for t in self.trials if t.metrics), {})
        goals = goals_of(self.config.objectives, weights=self.config.scalarize)
        facts = SearchFacts(goals=goals, metrics=tuple(measured))
        return reading_of(self.config.algo.options.get("score"), facts)

    @cached_property
    def scores(self) -> BlockScores:
        """Of all variants.

        Raises:
            Unfinished: some are not scored yet.
        """
        options, space = self.config.algo.options, self.space.arch_space
        blocks = blocks_of(
            space,
            largest(space),
            costs=self.costs,
            max_variants=options.get("max_variants", MAX_VARIANTS),
        )
        by_influence = options.get("depth_score") == "influence"
        scores = BlockScores(blocks, self.reading.score, influence=by_influence)
        for trial in self.trials:
            scores.add(trial.arch, self.reading.measured(trial))
        wanted = [blocks.zero, *blocks.singles()]
        left = sum(pick not in scores for pick in wanted)
        if left or not scores.ready:
            raise Unfinished(
                f"{left or 'the parent'} of {len(wanted)} architectures of the block library are "
                "not scored: go on with the run (resume=True), with as many trials at least"
            )
        return scores

    @property
    def spanned(self) -> ArchSpace:
        """The part of the space that the blocks span."""
        return self.scores.blocks.space_of(self.space.arch_space)

    def predicted(self, arch: Mapping[str, Value]) -> float | None:
        """Return the objective that the sum over blocks promises; None outside of the library."""
        whole = self.scores.whole(self.reading.objective)
        gain = self.scores.predicted(arch, self.reading.objective)
        return None if whole is None or gain is None else whole + gain

    def total(self, arch: Mapping[str, Value]) -> float | None:
        """Return the sum of what the library goes by; None outside of the library."""
        return self.scores.predicted(arch)

    def solve(self, count: int) -> pd.DataFrame:
        """Return the best architectures by the sums, within the space's bounds."""
        import pandas as pd

        violation = self.space.arch_space.violation
        constraints = violation.constraints if isinstance(violation, Violation) else ()
        blocks, costs = self.scores.blocks, self.costs
        bounds = BlockBounds() if costs is None else bounds_of(blocks, costs, constraints)
        known = {t.arch.key: t.objective for t in self.trials if t.objective is not None}
        rows = [
            {
                "gain": solution.gain,
                "predicted": self.predicted(solution.arch),
                "objective": known.get(solution.arch.key),
                **(costs(solution.arch) if costs else {}),
                "arch": solution.arch.to_json(),
                "arch_key": solution.arch.key,
            }
            for solution in islice(self.scores.solutions(bounds), count)
        ]
        return pd.DataFrame(rows)


def bounded_config(config: SearchConfig, constraints: Sequence[Constraint]) -> SearchConfig:
    """Return a run's configuration under other bounds."""
    bounds = {one.metric: (one.low, one.high) for one in constraints}
    return config.model_copy(update={"constraints": bounds})


def check_library(config: SearchConfig) -> None:
    """Raise ValueError unless a run has scored blocks."""
    if config.algo.name != ALGO:
        raise ValueError(
            f"solve reads the scores of blocks, and this run was searched by {config.algo.name}: "
            f"search with algo={ALGO!r}"
        )


def check_solvable(space: Space, constraints: Sequence[Constraint]) -> None:
    """Raise ValueError for a bound on what is not known without an evaluation."""
    violation = space.arch_space.violation
    known = violation.constraints if isinstance(violation, Violation) else ()
    for constraint in constraints:
        if constraint not in known:
            raise ValueError(
                f"constraint {constraint}: {constraint.metric} is only known of architectures that "
                "were evaluated; bound costs, or see Result.query"
            )


def within(comparison_space: Space, library: RunLibrary) -> Space:
    """Return the part of a space that a library's blocks span."""
    return replace(comparison_space, arch_space=library.spanned)
