"""A searchable model: how its supernet is built, the space that it spans, and its input."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec
from raynas.core.covering import covering
from raynas.core.errors import InvalidSpace
from raynas.core.metrics import COSTS
from raynas.core.nest import Nest, call, from_signature, lone_shape, signature
from raynas.core.registry import Registry
from raynas.nn.buffers import make_room
from raynas.nn.choice import LayerChoice
from raynas.nn.construct.described import described_arch
from raynas.nn.evaluation_mode import evaluation_mode
from raynas.nn.made_tensors import MadeTensors
from raynas.nn.mutable import (
    activate_unchecked,
    each_route,
    frozen,
    mutables,
    name_labels,
    space_of,
)
from raynas.nn.random_state import own_random_state
from raynas.nn.slot import empty_slots

Weights = Mapping[str, Tensor]
CPU = torch.device("cpu")


class ModelSpace:
    """Builds supernets and their sub-networks.

    Lazy layers get their weights by one pass of each candidate, where the input shape is known.

    Args:
        factory: a class of, or function returning, an ``nn.Module`` with choices; takes no
            arguments. What it draws from the global generators of torch, numpy and Python is
            fixed by the seed.
        input_shape: of one example, without the batch; None if only data can tell.
        example: a batch of inputs in place of their shape, for models that take several tensors (a
            tuple: positional; a dict: by keyword) or other numbers than float32.
        name: what messages call it.
        canonical: maps an architecture to the representative of those that compute the same, so
            that no two of them are evaluated; None if all differ.

    Attributes:
        seed: that models are built with where none is given; a run sets its own (``seeded``).
        trained: whether supernets begin with weights that are trained already.
        costs: names of what its networks cost, which is counted from an architecture alone.
        signature: shapes and dtypes of the inputs (``raynas.core.nest.signature``); None if not
            known.
    """

    seed = 0
    trained = False
    costs: tuple[str, ...] = COSTS

    def __init__(
        self,
        factory: Callable[[], nn.Module],
        *,
        input_shape: tuple[int, ...] | None = None,
        example: Nest = None,
        name: str | None = None,
        canonical: Callable[[Arch], Arch] | None = None,
    ) -> None:
        self.factory = factory
        self._canonical = canonical
        self._mixed_op: Any = None
        if input_shape is not None and example is not None:
            raise TypeError("pass either input_shape= or example=, an example tells its shape")
        self.signature: Any = None
        if input_shape is not None:
            self.signature = {"shape": list(input_shape), "dtype": "float32"}
        elif example is not None:
            self.signature = signature(example)
        self.spec: ComponentSpec | None = (
            None  # how a run folder names it; set where it is registered
        )
        self.name: str = name or str(getattr(factory, "__name__", type(factory).__name__))

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of one example, without the batch; None if it is not known, or no lone tensor."""
        return lone_shape(self.signature)

    def taking(self, inputs: Any) -> ModelSpace:
        """Return the space with the signature of its inputs; with its own, where it has one."""
        if self.signature is not None or inputs is None:
            return self
        other = copy.copy(self)
        other.signature = inputs
        return other

    def seeded(self, seed: int) -> ModelSpace:
        """Return the space whose models are built with this seed where none is given."""
        if seed == self.seed:
            return self
        other = copy.copy(self)
        vars(other).pop("arch_space", None)  # random numbers may decide what there is to choose
        other.seed = seed
        return other

    def supernet(self, seed: int | None = None) -> nn.Module:
        """Return a fresh supernet with labels given; the global random states are left alone.

        Args:
            seed: None takes the space's.
        """
        with own_random_state(CPU, self.seed if seed is None else seed):
            model = self.factory()
            if not isinstance(model, nn.Module):
                kind = type(model).__name__
                raise InvalidSpace(f"space {self.name!r} must build an nn.Module, got a {kind}")
            if self.signature is not None and _waits(model):
                _materialise(model, self.example_input(2))
        _cut_graphs(model)
        if "arch_space" in vars(self):
            name_labels(model)
        else:
            space_of(model)  # refuses contradictions
        return model

    def skeleton(self, seed: int | None = None) -> nn.Module:
        """Return a supernet for weights to be assigned to, if possible without memory of its own.

        A model that computes with its weights when it is made, or keeps tensors outside of its
        ``state_dict``, is built as ``supernet`` builds it.

        Args:
            seed: None takes the space's.
        """
        made = MadeTensors()
        try:
            drawn = self.seed if seed is None else seed
            with own_random_state(CPU, drawn), made, torch.device("meta"):
                model = self.factory()
        except Exception:  # meta tensors hold no numbers; any other fault is raised again here
            return self.supernet(seed)
        if not isinstance(model, nn.Module) or _waits(model):
            return self.supernet(seed)
        if made.outside(model.state_dict(keep_vars=True)):
            return self.supernet(seed)
        name_labels(model)
        return model

    def weight_shapes(self) -> dict[str, list[int] | None]:
        """Return the shapes of a supernet's weights by name; None where the first pass decides."""
        state = self.skeleton().state_dict()
        tensors = {name: t for name, t in state.items() if isinstance(t, Tensor)}
        return {name: None if is_lazy(t) else list(t.shape) for name, t in tensors.items()}

    @cached_property
    def arch_space(self) -> ArchSpace:
        """The space that the supernet's choices span.

        Raises:
            InvalidSpace: the model has no choices.
        """
        model = self.supernet()
        space = space_of(model)
        if not space.choices:
            empty = empty_slots(model)
            raise InvalidSpace(
                f"{self.name} has no choices; put a raynas.nn.LayerChoice where layers may differ"
                + (f", or say what fills {empty[0]} (construct=)" if empty else "")
            )
        self._mixed_op = mixed_op_of(model)
        return replace(space, isomorphism=self._canonical)

    @property
    def mixed_op(self) -> Any:
        """How the model asks a search by gradients to combine candidates; None if it does not."""
        _ = self.arch_space
        return self._mixed_op

    def build(
        self, arch: Any, weights: Weights | None = None, *, seed: int | None = None
    ) -> nn.Module:
        """Return one architecture as a plain module.

        Args:
            arch: label to choice, in any form that ``raynas.core.fixed.read_arch`` reads, or what
                an exporter writes (``raynas.nn.construct.described``).
            weights: a supernet's ``state_dict`` to inherit from; None keeps the initial weights.
            seed: fixes the initial weights, and all else that is drawn; None takes the space's.

        Raises:
            InvalidArch: the space does not hold ``arch``.
        """
        arch = described_arch(self.arch_space, self.supernet, arch)
        model = self.supernet(seed)
        if weights is not None:
            make_room(model, weights)
            model.load_state_dict(weights)
        return frozen(model, arch, {})

    def example_input(self, batch: int = 1) -> Nest:
        """Return a batch of zeros, of shape (batch, *input_shape) where inputs are one tensor.

        Raises:
            ValueError: the input shape is not known.
        """
        if self.signature is None:
            raise ValueError(
                f"the input shape of {self.name} is not known; pass input_shape=, or example="
            )
        return zeros_like_signature(self.signature, batch)

    def canonical(self, arch: Arch) -> Arch:
        """Return the representative of the architectures that compute the same as ``arch``."""
        return arch if self._canonical is None else self._canonical(arch)


def zeros_like_signature(signed: Any, batch: int = 1) -> Nest:
    """Return a batch of zeros with the shapes and dtypes of a signature.

    What is of float32 has the default type of floating point numbers, as new weights have.
    """

    def zeros(shape: tuple[int, ...], dtype: str) -> Tensor:
        kind = torch.get_default_dtype() if dtype == "float32" else getattr(torch, dtype)
        return torch.zeros(batch, *shape, dtype=kind)

    return from_signature(signed, zeros)


def mixed_op_of(model: nn.Module) -> Any:
    """Return the mixed operator that a model's choices ask for, None if they ask for none.

    Raises:
        InvalidSpace: they ask for different ones.
    """
    asked: Any = None
    for choice in mutables(model):
        if isinstance(choice, LayerChoice) and choice.mixed_op is not None:
            if asked is not None and choice.mixed_op != asked:
                raise InvalidSpace(
                    f"choice {choice.label!r} asks for the mixed operator {choice.mixed_op!r}, "
                    f"others for {asked!r}: a search has one"
                )
            asked = choice.mixed_op
    return asked


def _waits(model: nn.Module) -> bool:
    """Return whether there are weights whose shape the first pass decides."""
    return any(map(is_lazy, (*model.parameters(), *model.buffers())))


@torch.no_grad()
def _materialise(model: nn.Module, example: Nest) -> None:
    """Run every candidate, so that lazy layers have their weights."""
    restore = each_route(model, lambda mutable: mutable.route)
    with evaluation_mode(model):
        for arch in covering(space_of(model)):
            activate_unchecked(model, arch)
            call(model, example)
    restore()


def _cut_graphs(model: nn.Module) -> None:
    """Detach tensors that were computed from weights, which cannot be copied otherwise."""
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                setattr(module, name, value.detach())


SpaceBuilder = Callable[..., ModelSpace]
SPACES: Registry[SpaceBuilder] = Registry(
    "search space", "raynas.search_spaces", group="raynas.spaces"
)


def image_shape(
    space: str, *, in_channels: int, resolution: int, **multipliers: float
) -> tuple[int, int, int]:
    """Return the input shape of a space of images after checking what must be positive.

    Args:
        space: its name, for messages.
        in_channels: of the images.
        resolution: height and width of the images.
        multipliers: such as width and depth, and other numbers that must be positive.

    Raises:
        ValueError: one of them is not positive.
    """
    for name, value in {
        "in_channels": in_channels,
        "resolution": resolution,
        **multipliers,
    }.items():
        if value <= 0:
            raise ValueError(f"{space}: {name} must be positive, got {value}")
    return (in_channels, resolution, resolution)
