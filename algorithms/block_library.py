"""Block-wise search as in Puzzle (Bercovich et al., 2024, arXiv:2411.19146)."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.block_division import MAX_VARIANTS, blocks_of
from raynas.core.blocks import Pick, largest
from raynas.core.constraints import Constraint
from raynas.core.deduplicator import Deduplicator
from raynas.core.errors import Waiting, nearest
from raynas.core.feasible import Cheap, Violation, repaired
from raynas.core.metrics import COSTS, INFLUENCE, KV_CACHE, LATENCY
from raynas.core.sampler import SAMPLERS, Origin, Sampler, SearchFacts
from raynas.core.trial import Trial
from raynas.supernet.block_bounds import BlockBounds, bounds_of
from raynas.supernet.block_program import BlockProgram
from raynas.supernet.block_reading import Reading, reading_of
from raynas.supernet.block_scores import BlockScores

DepthScore = Literal["score", "influence"]


@SAMPLERS.register("block_library")
class BlockLibrary(Sampler):
    """Scores each variant of each block once, in the whole, then asks what sums say is best.

    First it asks the parent, the architecture of the largest numbers and otherwise first options,
    which of a converted model is the model, and every architecture that differs from it in one
    block; whatever the bounds. The sum of the differences predicts the score of any combination.
    Then it asks the best combinations within the bounds, one after the other, found exactly by
    integer programming. Scores are trials of the run: under other bounds (``resume``) none is
    measured again, and ``Result.solve`` asks for none at all. A trial's column ``predicted`` is the
    sum in the unit of the objective. Where no combination is left, it draws at random within the
    bounds.

    Blocks are decisions that cost together, with all that they open: the widths inside of a layer,
    a layer that may be left out with all inside. What costs together with many others, as the
    width of a residual sum, is a block of its own; its costs with each of the others are looked up
    pair by pair. Where pairs do not tell the costs, or are too many, it stays as in the parent.
    Bounds may be on sums, such as multiply-accumulates, and on what each block raises alone, such
    as the peak of activations. A bound on what only evaluations tell, such as a measured latency,
    is kept by the sum of what the variants measured, and checked when a combination is evaluated.

    Differs: blocks are scored with the parent's weights, or a supernet's, not distilled one by one;
    and depth by influence (Men et al., 2024, arXiv:2403.03853) is ours to combine: what leaving out
    layers costs one by one is shared among them by the influence of each.

    Args:
        space: what is searched.
        seed: fixes the order in which variants are asked.
        score: metric whose differences are added, as ``loss:min``; None takes the objective where
            that is the divergence from the whole, or no loss is measured, else the loss.
        depth_score: by what variants that leave layers out are ordered: their ``score``, or the
            ``influence`` of these layers, which the evaluator ``shared`` measures on request.
        max_variants: of a block, at most.

    Raises:
        ValueError: an option out of its range, or no decision is independent of the others.
    """

    library = "scipy"

    def __init__(
        self,
        space: ArchSpace,
        *,
        seed: int,
        score: str | None = None,
        depth_score: DepthScore = "score",
        max_variants: int = MAX_VARIANTS,
    ) -> None:
        if depth_score not in get_args(DepthScore):
            raise ValueError(f"expected depth_score 'score' or 'influence', got {depth_score!r}")
        if max_variants < 2:
            raise ValueError(f"expected max_variants >= 2, got {max_variants}")
        self._space, self._score, self._depth_score = space, score, depth_score
        self._max_variants, self._seed = max_variants, seed
        self._rng = np.random.default_rng(seed)
        self._visited = Deduplicator(space, self._rng)
        self.origin = Origin()
        self._cuts: list[Pick] = []
        self._flying: set[str] = set()  # variants that nothing was told of
        bounds = space.violation if isinstance(space.violation, Violation) else None
        self._costs: Cheap | None = None if bounds is None else bounds.costs
        self._reading = Reading(score)
        self._bounds: BlockBounds | None = None
        self._measured: tuple[Constraint, ...] = ()  # that only an evaluation tells
        self._begin(repaired(space, largest(space), self._rng) or largest(space))

    def _begin(self, parent: Arch) -> None:
        """Divide the space, and queue the parent and its variants."""
        self._blocks = blocks_of(
            self._space, parent, costs=self._costs, max_variants=self._max_variants
        )
        by_influence = self._depth_score == "influence"
        self._library = BlockScores(self._blocks, self._reading.score, influence=by_influence)
        singles = list(self._blocks.singles())
        order = np.random.default_rng(self._seed).permutation(len(singles))
        self._queue = [self._blocks.zero, *(singles[i] for i in order)]
        self.startup = sum(self._askable(self._blocks.arch(pick)) for pick in self._queue)
        self._program: tuple[int, BlockProgram] | None = None

    def _askable(self, arch: Arch) -> bool:
        violation = self._space.violation
        return self.beyond_bounds or violation is None or violation(arch) == 0.0

    def inform(self, facts: SearchFacts) -> None:
        """Ask variants beyond the bounds from now on, and see how blocks keep these.

        Raises:
            ValueError: they do not, or cannot, or a metric is not measured.
        """
        self._reading = reading_of(self._score, facts)
        if self._depth_score == "influence" and INFLUENCE not in facts.metrics:
            raise ValueError(
                "depth_score='influence' reads the metric 'influence', which the evaluator does "
                "not give: pass evaluator=('shared', {'influence': True})"
            )
        self.beyond_bounds, self._costs = True, facts.costs
        self._begin(largest(self._space))
        for constraint in self._constraints():
            if constraint.metric not in (*COSTS, KV_CACHE, LATENCY):
                raise ValueError(
                    f"constraint {constraint}: {constraint.metric} is no sum over blocks; "
                    f"{nearest(constraint.metric, COSTS)}"
                )
        self._bounds, self._measured = self._bounds_now(), facts.goals.constraints

    def _constraints(self) -> tuple[Constraint, ...]:
        violation = self._space.violation
        return violation.constraints if isinstance(violation, Violation) else ()

    def _bounds_now(self) -> BlockBounds:
        if self._costs is None:
            return BlockBounds()
        return bounds_of(self._blocks, self._costs, self._constraints())

    def note(self) -> str:
        """Say how many variants there are, and what is held."""
        blocks = self._blocks
        held = f"; as in the whole: {', '.join(blocks.held)}" if blocks.held else ""
        return f"{len(blocks.blocks)} blocks of {len(list(blocks.singles()))} variants{held}"

    def ask(self) -> Arch:
        """Return the next variant, then the best combination that was not asked, then others.

        In a search, these wait for all variants.
        """
        self.origin = Origin()
        while self._queue:
            arch = self._blocks.arch(self._queue.pop(0))
            if arch not in self._visited and self._askable(arch):
                self._visited.add(arch)
                self._flying.add(arch.key)
                return arch
        if self.beyond_bounds and self._flying:
            raise Waiting
        if self._library.ready:
            while (pick := self._solver().best(self._cuts)) is not None:
                self._cuts.append(pick)
                arch = self._blocks.arch(pick)
                if self._visited.is_open(arch):
                    self._visited.add(arch)
                    self.origin = Origin(predicted=self._predicted(arch))
                    return arch
        return self._visited.propose(lambda: self._space.sample(self._rng))

    def _solver(self) -> BlockProgram:
        version = self._library.version
        if self._bounds is None:
            self._bounds = self._bounds_now()
        if self._program is None or self._program[0] != version:
            told = (self._library.measured(constraint) for constraint in self._measured)
            amounts = (*self._bounds.amounts, *(one for one in told if one is not None))
            gains = self._library.gains()
            self._program = version, BlockProgram(gains, amounts, self._bounds.peaks)
        return self._program[1]

    def _predicted(self, arch: Arch) -> float | None:
        """Return the objective that the sum over blocks promises."""
        whole = self._library.whole(self._reading.objective)
        gain = self._library.predicted(arch, self._reading.objective)
        return None if whole is None or gain is None else whole + gain

    def tell(self, trial: Trial) -> None:
        """Learn what a variant scores, whoever proposed it; combinations are only seen."""
        self._visited.add(trial.arch)
        self._flying.discard(trial.arch.key)
        self._library.add(trial.arch, self._reading.measured(trial))
