"""A searchable model: how its supernet is built, the space that it spans, and its input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec
from raynas.core.errors import InvalidSpace
from raynas.core.fixed import read_arch
from raynas.core.registry import Registry
from raynas.nn.mutable import frozen, name_labels, space_of

Weights = Mapping[str, Tensor]


class ModelSpace:
    """Builds supernets and their sub-networks.

    Args:
        factory: a class of, or function returning, an ``nn.Module`` with choices; takes no
            arguments. Its random initial weights are fixed by the seed that ``supernet`` is given.
        input_shape: of one example, without the batch; None if only data can tell.
        name: what messages call it.
        canonical: maps an architecture to the representative of those that compute the same, so
            that no two of them are evaluated; None if all differ.
    """

    def __init__(
        self,
        factory: Callable[[], nn.Module],
        *,
        input_shape: tuple[int, ...] | None = None,
        name: str | None = None,
        canonical: Callable[[Arch], Arch] | None = None,
    ) -> None:
        self.factory = factory
        self._canonical = canonical
        self.input_shape = input_shape
        self.spec: ComponentSpec | None = (
            None  # how a run folder names it; set where it is registered
        )
        self.name = name or getattr(factory, "__name__", type(factory).__name__)

    def supernet(self, seed: int = 0) -> nn.Module:
        """Return a fresh supernet with labels given; the global random state is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # manual_seed would reseed every GPU too
            model = self.factory()
        if not isinstance(model, nn.Module):
            kind = type(model).__name__
            raise InvalidSpace(f"space {self.name!r} must build an nn.Module, got a {kind}")
        if "arch_space" in vars(self):
            name_labels(model)
        else:
            space_of(model)  # refuses contradictions
        return model

    def skeleton(self) -> nn.Module:
        """Return a supernet for weights to be assigned to, if possible without memory of its own.

        A model that computes with its weights when it is made, or keeps tensors outside of its
        ``state_dict``, is built as ``supernet`` builds it.
        """
        try:
            with torch.device("meta"):
                model = self.factory()
        except Exception:  # meta tensors hold no numbers; any other fault is raised again here
            return self.supernet()
        if not isinstance(model, nn.Module) or _keeps_more(model):
            return self.supernet()
        name_labels(model)
        return model

    @cached_property
    def arch_space(self) -> ArchSpace:
        """The space that the supernet's choices span.

        Raises:
            InvalidSpace: the model has no choices.
        """
        space = space_of(self.supernet())
        if not space.choices:
            raise InvalidSpace(
                f"{self.name} has no choices; put a raynas.nn.LayerChoice where layers may differ"
            )
        return replace(space, isomorphism=self._canonical)

    def build(
        self, arch: Mapping[str, Any], weights: Weights | None = None, *, seed: int = 0
    ) -> nn.Module:
        """Return one architecture as a plain module.

        Args:
            arch: label to choice, in any form that ``raynas.core.fixed.read_arch`` reads.
            weights: a supernet's ``state_dict`` to inherit from; None keeps the initial weights.
            seed: fixes the initial weights.

        Raises:
            InvalidArch: the space does not hold ``arch``.
        """
        arch = read_arch(self.arch_space, arch)
        model = self.supernet(seed)
        if weights is not None:
            model.load_state_dict(weights)
        return frozen(model, arch, {})

    def example_input(self, batch: int = 1) -> Tensor:
        """Return zeros of shape (batch, *input_shape).

        Raises:
            ValueError: the input shape is not known.
        """
        if self.input_shape is None:
            raise ValueError(f"the input shape of {self.name} is not known; pass input_shape=")
        return torch.zeros(batch, *self.input_shape)

    def canonical(self, arch: Arch) -> Arch:
        """Return the representative of the architectures that compute the same as ``arch``."""
        return arch if self._canonical is None else self._canonical(arch)


def _keeps_more(model: nn.Module) -> bool:
    """Return whether a model holds tensors that its ``state_dict`` leaves out."""
    kept, registered = model.state_dict().keys(), ("_parameters", "_buffers", "_modules")
    others = [{k: v for k, v in vars(m).items() if k not in registered} for m in model.modules()]
    return any(name not in kept for name, _ in model.named_buffers()) or any(
        isinstance(leaf, Tensor) for leaf in tree_leaves(others)
    )


SpaceBuilder = Callable[..., ModelSpace]
SPACES: Registry[SpaceBuilder] = Registry(
    "search space", "raynas.search_spaces", group="raynas.spaces"
)
