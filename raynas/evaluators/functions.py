"""Evaluation by calling a function of an architecture, or of the module built from it."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch
from raynas.core.evaluator import Budget, Evaluator, Measurement, measure
from raynas.core.goals import Goals
from raynas.evaluators.kept_weights import WeightsKeeper, split_weights
from raynas.evaluators.spec import Worker

if TYPE_CHECKING:
    from raynas.nn.modelspace import ModelSpace


@dataclass(frozen=True)
class MakeFunctionEvaluator:
    """Makes the evaluator that calls a function.

    Attributes:
        function: of an architecture or a module.
        metrics: what it gives; of a user's own function only the objectives are known.
        model_space: builds the modules; None if the function takes architectures.
        goals: that say whose weights are kept, where the function returns some.
        keeper: makes what takes these; None keeps none.
    """

    function: Callable[[Any], object]
    metrics: tuple[str, ...]
    model_space: ModelSpace | None = None
    goals: Goals | None = None
    keeper: Callable[[], WeightsKeeper] | None = None

    def __call__(self, worker: Worker) -> Evaluator:
        """Return the evaluator."""
        kept = None if self.keeper is None else self.keeper()
        return FunctionEvaluator(self.function, self.metrics, self.model_space, kept)


class FunctionEvaluator(Evaluator):
    """Calls a function for one architecture after another.

    Args:
        function: returns a dict of metrics, or a bare number for a single objective; or a pair of
            these and a state_dict.
        metrics: the objectives.
        model_space: if given, the function gets the built module instead of the architecture.
        kept: takes the weights that the function returns; None drops them.
    """

    def __init__(
        self,
        function: Callable[[Any], object],
        metrics: tuple[str, ...],
        model_space: ModelSpace | None = None,
        kept: WeightsKeeper | None = None,
    ) -> None:
        self._kept = kept
        self._function, self._metrics, self._model_space = function, metrics, model_space

    def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
        """Return what the function gives, or what it raises, for every architecture."""
        return [measure(partial(self._call, arch, seed), self._metrics) for arch in archs]

    def _call(self, arch: Arch, seed: int) -> object:
        built = arch if self._model_space is None else self._model_space.build(arch, seed=seed)
        metrics, weights = split_weights(self._function(built))
        if weights is not None and self._kept is not None:
            self._kept.offer(arch, metrics, weights, seed=seed)
        return metrics


def wants_module(function: Callable[..., object]) -> bool:
    """Return whether the function's first parameter is annotated as an ``nn.Module``."""
    plain = function.func if isinstance(function, partial) else function
    if not inspect.isroutine(plain) and not inspect.isclass(plain):
        plain = type(plain).__call__
    try:
        hints = typing.get_type_hints(plain)
        first = next(iter(inspect.signature(function).parameters), "")
    except (TypeError, ValueError, NameError):
        return False
    kind = hints.get(first)
    return isinstance(kind, type) and any(c.__module__.startswith("torch.nn") for c in kind.__mro__)
