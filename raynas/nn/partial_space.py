"""Spaces whose supernets have partial channel connections (see ``raynas.nn.partial``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from raynas.core.archspace import ArchSpace
from raynas.core.errors import InvalidSpace
from raynas.core.nest import mapped
from raynas.nn.modelspace import ModelSpace, zeros_like_signature
from raynas.nn.mutable import name_labels
from raynas.nn.partial import make_partial


class PartialSpace(ModelSpace):
    """A space whose supernets mix candidates on a share of the channels.

    Its architectures are those of the whole space; the networks that it builds have the supernet's
    narrow candidates, so that they can inherit.

    Args:
        whole: the space at full width; its input shape is known.
        divisor: input channels per channel that a choice acts on.

    Raises:
        InvalidSpace: no choice can be partial, or one cannot be relaxed.
    """

    def __init__(self, whole: ModelSpace, divisor: int) -> None:
        super().__init__(
            partial(_partial_model, whole.factory, divisor, whole.signature),
            name=whole.name,
            canonical=whole._canonical,
        )
        self.signature = whole.signature
        self.whole, self.spec, self.seed = whole, whole.spec, whole.seed
        self._divisor = divisor
        self.supernet()  # so that what is wrong is said now

    def seeded(self, seed: int) -> ModelSpace:
        """Return the space whose models are built with this seed where none is given."""
        return self if seed == self.seed else PartialSpace(self.whole.seeded(seed), self._divisor)

    def skeleton(self, seed: int | None = None) -> nn.Module:
        """Return a supernet: candidates are tried, which is slower without memory than with it."""
        return self.supernet(seed)

    @cached_property
    def arch_space(self) -> ArchSpace:
        """The space of the model at full width."""
        return self.whole.arch_space


def _partial_model(factory: Callable[[], nn.Module], divisor: int, inputs: Any) -> nn.Module:
    model = factory()
    like = next(model.parameters(), torch.empty(0))
    example = mapped(partial(_as_weights, like=like), zeros_like_signature(inputs, 2))
    make_partial(model, divisor, example)
    model.whole_by = _Origin(factory)  # type: ignore[assignment]
    return model


def _as_weights(x: Tensor, *, like: Tensor) -> Tensor:
    """Return an input where weights are, and of their type if both are of floating point."""
    return x.to(like.device, like.dtype if x.is_floating_point() else x.dtype)


class _Origin:
    """What builds a partial supernet at full width; copies and networks do not carry it along."""

    def __init__(self, factory: Callable[[], nn.Module] | None) -> None:
        self.factory = factory

    def __reduce__(self) -> tuple[Any, ...]:
        return _Origin, (None,)


def whole_of(model: nn.Module) -> nn.Module:
    """Return a fresh model at full width for a partial one, for any other the model itself.

    Raises:
        InvalidSpace: the model is a copy, which does not know how.
    """
    origin = getattr(model, "whole_by", None)
    if not isinstance(origin, _Origin):
        return model
    if origin.factory is None:
        raise InvalidSpace("a copy of a partial supernet does not know its full width")
    like = next(model.parameters(), torch.empty(0))
    with torch.random.fork_rng(devices=[]):
        whole = origin.factory().to(like.device)
    name_labels(whole)
    return whole
