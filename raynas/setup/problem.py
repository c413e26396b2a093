"""What a search is about: a space, the data, and what counts as good."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec
from raynas.core.goals import Goals
from raynas.core.metrics import LATENCY
from raynas.core.spacejson import to_plain

if TYPE_CHECKING:
    from raynas.data.module import DataModule
    from raynas.nn.modelspace import ModelSpace


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        spec: how the run folder names it.
        arch_space: of the architectures, with the bounds that are checked beforehand.
        model_space: builds their networks; None for a plain ArchSpace.
    """

    spec: ComponentSpec
    arch_space: ArchSpace
    model_space: ModelSpace | None

    def seeded(self, seed: int) -> Space:
        """Return the space whose models are built by a run's seed."""
        if self.model_space is None or self.model_space.seed == seed:
            return self
        model_space = self.model_space.seeded(seed)
        return replace(self, arch_space=model_space.arch_space, model_space=model_space)

    @property
    def digest(self) -> str | None:
        """A digest of choices and shapes of weights; None unless a model of the user's own."""
        if self.model_space is None or ":" not in self.spec.name:
            return None
        shapes = self.model_space.weight_shapes()
        text = json.dumps([to_plain(self.arch_space), shapes], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Data:
    """Data with how the run folder names them."""

    spec: ComponentSpec | None
    module: DataModule


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a run searches, on what, and for what.

    Attributes:
        space: of the architectures.
        data: None where nothing uses any.
        goals: objectives, and the constraints that only an evaluation decides.
        seed: of the run.
    """

    space: Space
    data: Data | None
    goals: Goals
    seed: int = 0

    def measured(self, timed: bool) -> tuple[str, ...]:
        """Return the metrics, of objectives and constraints, that an evaluator must give.

        Args:
            timed: whether latencies are looked up beside it.
        """
        wanted = [objective.metric for objective in self.goals.objectives]
        wanted += [constraint.metric for constraint in self.goals.constraints]
        return tuple(name for name in dict.fromkeys(wanted) if not (timed and name == LATENCY))

    def networks(self, otherwise: str) -> tuple[ModelSpace, DataModule]:
        """Return what builds networks, and the data for them.

        Args:
            otherwise: what is wrong if there are none.

        Raises:
            ValueError: the space is a plain ArchSpace, or there are no data.
        """
        if self.space.model_space is None or self.data is None:
            raise ValueError(otherwise)
        return self.space.model_space, self.data.module
