"""Training-free measures as bounds, checked before anything dearer is done with an architecture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from raynas.core.arch import Arch
from raynas.core.constraints import Constraint
from raynas.core.evaluator import EVALUATORS, describe
from raynas.core.metrics import COSTS
from raynas.evaluators.protocols import declaration
from raynas.setup.problem import Space

if TYPE_CHECKING:
    from raynas.data.module import DataModule

SAMPLES = 32  # random architectures, one of which has to keep a bound
KEPT = 100_000  # measured architectures that are remembered


def proxies() -> dict[str, str]:
    """Return which registered evaluator measures an untrained network, by its metric."""
    declared = {name: declaration(EVALUATORS[name]) for name in EVALUATORS}
    return {
        metric: name
        for name, evaluator in declared.items()
        if evaluator.kind == "network"
        for metric in evaluator.metrics or ()
        if metric not in COSTS
    }


class Proxies:
    """Measures of an architecture's network with fresh weights; each is measured once.

    A measure that fails, as ``nwot`` does without a ReLU, is nan, which keeps no bound.

    Args:
        metrics: whose names ``proxies`` knows.
        space: a model's.
        data: what is measured with.
        seed: of weights and draws.
    """

    def __init__(
        self, metrics: Sequence[str], space: Space, data: DataModule, *, seed: int
    ) -> None:
        import torch

        from raynas.evaluators.loaded import Loaded
        from raynas.evaluators.networks import Networks

        assert space.model_space is not None
        evaluators = proxies()
        self._measures: dict[str, Any] = {name: EVALUATORS[evaluators[name]]() for name in metrics}
        self._space, self._seed = space, seed
        self._data = Loaded(data, torch.device("cpu"))
        self._networks = Networks(space.model_space, self._data)
        self._failure = ""
        self._measured = lru_cache(KEPT)(self._measure)

    def __call__(self, arch: Arch) -> Mapping[str, float]:
        """Return the measures of an architecture."""
        return self._measured(arch)

    def _measure(self, arch: Arch) -> dict[str, float]:
        measures: dict[str, float] = {}
        for metric, evaluator in self._measures.items():
            net = self._networks.build(arch, self._seed)
            try:
                measures[metric] = evaluator.measure(net, self._data, self._seed)[metric]
            except Exception as failure:
                measures[metric], self._failure = math.nan, describe(failure)
        return measures

    def check(self, constraint: Constraint) -> None:
        """Raise ValueError if none of some random architectures keeps a bound."""
        rng, name = np.random.default_rng([self._seed, 13]), self._space.spec.name
        archs = [self._space.arch_space.sample(rng) for _ in range(SAMPLES)]
        values = [self(arch)[constraint.metric] for arch in archs]
        if any(constraint.holds({constraint.metric: v}) for v in values if not math.isnan(v)):
            return
        numbers = [v for v in values if not math.isnan(v)]
        reach = f"theirs is {min(numbers):.6g} to {max(numbers):.6g}" if numbers else self._failure
        raise ValueError(
            f"constraint {constraint}: none of {SAMPLES} random architectures of {name} keeps it; "
            f"{reach}"
        )
