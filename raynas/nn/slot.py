"""A slot: a named place in a model, to be filled with a layer later (Lin et al., 2021, MLSys)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from raynas.core.arch import Value
from raynas.core.decision import Decision
from raynas.core.errors import InvalidArch, InvalidSpace
from raynas.core.fixed import agreed
from raynas.nn.logits import Logits, Probabilities, Rank
from raynas.nn.mutable import (
    Memo,
    Mutable,
    activate_unchecked,
    decide_together,
    derived,
    frozen,
    inner_space,
    logits_of,
    mutables,
    outermost,
)
from raynas.nn.slot_shape import Channels, facts_of


class Slot(Mutable):
    """A place for one layer; a model with empty slots is a template (``raynas.nn.construct``).

    Slots are found by walking a model, so that models never know of each other. Nothing of a slot
    is left in a frozen network.

    A place may also be said in ModularNAS' words, ``Slot(_chn_in=16, _chn_out=24, _stride=2)``, or
    by shapes of (batch, channels, size), None for what is not known: ``Slot(in_shape=(None, 16,
    32), out_shape=(None, 24, 16))``.

    Differs: ModularNAS numbers all slots of a process; here a slot's name is its module path. Of
    shapes it divides the output's size by the input's; here the stride is what shrinks one to the
    other.

    Args:
        chn_in: input channels; a list for a layer of several inputs.
        chn_out: output channels; None keeps those of the input.
        stride: input pixels per output pixel; None is 1.
        name: labels the choices that constructors put here, so that slots of one name decide
            together; None takes the module's path in the model. A description of a template that
            holds no choices yet has an entry of its own for every slot.
        info: further facts about the place. An operator takes those that it has an option for,
            and constructors may read them.

    Raises:
        InvalidSpace: channels or stride are no positive whole numbers, or two words contradict each
            other.
    """

    holders = ("entity",)
    entity: nn.Module | None

    def __init__(
        self,
        chn_in: Channels | None = None,
        chn_out: Channels | None = None,
        stride: int | None = None,
        *,
        name: str | None = None,
        **info: Any,
    ) -> None:
        super().__init__()
        self.label = name
        self.chn_in, self.chn_out, self.stride = facts_of(chn_in, chn_out, stride, info)
        self.info = info
        self.path: str | None = None
        self.register_module("entity", None)

    @property
    def empty(self) -> bool:
        """Whether nothing fills it."""
        return self.entity is None

    def name_values(self, path: str) -> None:
        """Remember the module path, for messages."""
        self.path = path

    def __str__(self) -> str:
        named = "a slot" if self.path is None else f"slot {self.path!r}"
        return f"{named} ({self.extra_repr()})"

    def extra_repr(self) -> str:
        """Return what a layer must fit."""
        return f"{self.chn_in} -> {self.chn_out} channels at stride {self.stride}"

    def fill(self, layer: nn.Module) -> None:
        """Put a layer here.

        In a copy that ``Repeat`` made, its choices decide together with those of the original.

        Raises:
            ValueError: the slot is filled already.
        """
        if not isinstance(layer, nn.Module):
            raise TypeError(f"{self}: expected an nn.Module, got a {type(layer).__name__}")
        if not self.empty:
            raise ValueError(f"{self} is filled already, with a {type(self.entity).__name__}")
        self.entity = layer
        for original in self.tied_to:
            if isinstance(original, Slot) and original.entity is not None:
                decide_together(layer, original.entity)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer.

        Raises:
            RuntimeError: the slot is empty.
        """
        layer = self.entity
        if layer is None:
            raise RuntimeError(f"{self} is empty: fill it, as raynas.nn.construct does")
        return layer(*args, **kwargs)

    def choices(self) -> tuple[Decision, ...]:
        """Return the decisions of the layer, none if the slot is empty."""
        return () if self.entity is None else inner_space(self.entity).choices

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Activate the layer."""
        if self.entity is not None:
            activate_unchecked(self.entity, arch)

    def logits(self) -> tuple[Logits, ...]:
        """Return the vectors of the layer, none if the slot is empty."""
        return () if self.entity is None else tuple(logits_of(self.entity).values())

    def derive(self, p: Probabilities, rank: Rank) -> dict[str, Value]:
        """Return what is preferred inside the layer."""
        return {} if self.entity is None else derived(self.entity, p, rank)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return the frozen layer.

        Raises:
            InvalidSpace: the slot is empty.
        """
        if self.entity is None:
            raise InvalidSpace(f"{self} is empty: no architecture says what it computes")
        return frozen(self.entity, arch, memo)

    def describe(self, arch: Mapping[str, Value]) -> Any:
        """Return the description of the layer, a list for several choices, None for no choice."""
        if self.entity is None or not self.choices():
            return None
        if isinstance(self.entity, Mutable):
            return self.entity.describe(arch)
        return [mutable.describe(arch) for mutable in outermost(self.entity)]

    def parsed(self, description: Any) -> dict[str, Value]:
        """Read what ``describe`` wrote."""
        if self.entity is None or not self.choices():
            if description is not None:
                raise InvalidArch(f"{self} has no choices, got {description!r} for them")
            return {}
        if isinstance(self.entity, Mutable):
            return self.entity.parsed(description)
        places = list(outermost(self.entity))
        if not isinstance(description, list | tuple) or len(description) != len(places):
            raise InvalidArch(
                f"{self} has {len(places)} choices: expected a list of as many, got {description!r}"
            )
        pairs = zip(places, description, strict=True)
        return agreed(place.parsed(part) for place, part in pairs)


def slots(model: nn.Module) -> Iterator[Slot]:
    """Yield every slot below (or at) ``model``, those inside of mutables included."""
    for module in mutables(model):
        if isinstance(module, Slot):
            yield module


def empty_slots(model: nn.Module) -> list[Slot]:
    """Return the slots that nothing fills."""
    return [slot for slot in slots(model) if slot.empty]
