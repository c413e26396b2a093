"""The space of the smaller networks of a model that another library builds by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from raynas.core.config import ComponentSpec
from raynas.core.errors import UnknownName
from raynas.core.model_names import LIBRARIES
from raynas.core.nest import Nest, from_signature, leaves
from raynas.nn.conversion.elastic_model import attach
from raynas.nn.conversion.elastic_space import ElasticSpace
from raynas.nn.conversion.importance import Loss
from raynas.nn.conversion.plan import Plan
from raynas.nn.conversion.request import Request
from raynas.nn.named import hf_models, timm_models, torchvision_models
from raynas.nn.named.wanted import Recipe, Wanted, built, check_memory
from raynas.nn.named.weights import with_weights
from raynas.nn.random_state import own_random_state

SOURCES: Mapping[str, ModuleType] = {
    module.PREFIX: module for module in (timm_models, torchvision_models, hf_models)
}
CPU = torch.device("cpu")
MASK = "attention_mask"
EXAMPLES, EXAMPLE_SEED = 2, 0


@dataclass(frozen=True, eq=False)
class NamedFactory:
    """Builds supernets of a library's model with initial weights.

    Attributes:
        recipe: of the model.
        name: what messages call it.
        plan: what of it is elastic.
    """

    recipe: Recipe
    name: str
    plan: Plan

    def __call__(self) -> nn.Module:
        """Return a new model that is elastic."""
        return attach(built(self.recipe, self.name), self.plan).train()


class NamedSpace(ElasticSpace):
    """The smaller networks of a model that another library builds by its name.

    Args:
        name: with its prefix.
        wanted: what the model is for.
        request: what may become smaller.

    Attributes:
        recipe: how the library builds the model.

    Raises:
        UnknownName: the library has no such model.
        ModuleNotFoundError: the library is not installed.
        ValueError: an option is wrong, or would download something.
        InvalidSpace: as of any model that is converted.
    """

    def __init__(self, name: str, wanted: Wanted, request: Request) -> None:
        prefix = name.partition(":")[0]
        source: Any = SOURCES[prefix]
        self.recipe: Recipe = source.recipe(wanted)
        check_memory(self.recipe, name)
        with own_random_state(CPU, 0):
            model = _with_its_weights(built(self.recipe, name), prefix, wanted)
        example, trained = _example(model, prefix, wanted), _has_weights(prefix, wanted)
        super().__init__(model, example, request, name=name, trained=trained)
        if not trained:  # else supernets begin with copies of the weights
            self.factory = NamedFactory(self.recipe, name, self.plan)

    def sorted(
        self, by: str = "l1", *, batches: Iterable[Any] | None = None, loss: Loss | None = None
    ) -> NamedSpace:
        """Return the space with the units that matter most first; see ``ElasticSpace.sorted``.

        An order by ``l1`` is recorded in the spec. Others depend on data that no run folder keeps:
        runs of such a space are read with ``space=``.
        """
        other = super().sorted(by, batches=batches, loss=loss)
        assert isinstance(other, NamedSpace)
        if self.spec is not None:
            options = self.spec.options
            elastic = {**options["elastic"], "order": by}
            named = ComponentSpec(name=self.spec.name, options={**options, "elastic": elastic})
            other.spec = named if by == "l1" else None
        return other

    def whole(self) -> nn.Module:
        """Return the library's model, with initial weights."""
        return built(self.recipe, self.name)


def split_name(name: str) -> tuple[str, str]:
    """Return the library's prefix and the model's name in ``timm:resnet18``.

    Raises:
        UnknownName: nothing stands behind the prefix.
    """
    prefix, _, model = name.partition(":")
    if prefix not in LIBRARIES or not model:
        raise UnknownName(
            f"{name!r} names no model: write its name behind the colon, such as timm:resnet18"
        )
    return prefix, model


def _has_weights(prefix: str, wanted: Wanted) -> bool:
    folder = prefix == hf_models.PREFIX and hf_models.is_folder(wanted.name)
    return folder or wanted.weights is not None


def _with_its_weights(model: nn.Module, prefix: str, wanted: Wanted) -> nn.Module:
    if wanted.weights is not None:
        return with_weights(model, wanted.weights, wanted.num_classes)
    if _has_weights(prefix, wanted):
        return hf_models.with_folder_weights(wanted.name, model)
    return model


def _example(model: nn.Module, prefix: str, wanted: Wanted) -> Nest:
    """Return inputs that differ at every place, so that no law holds by chance."""
    signed = wanted.inputs
    if signed is None:
        signed = _signature(model, prefix, wanted)
    rng = torch.Generator().manual_seed(EXAMPLE_SEED)
    tokens = hf_models.tokens_of(model) if _takes_tokens(signed) and prefix == "hf" else 2

    def filled(shape: tuple[int, ...], dtype: str) -> Tensor:
        kind = getattr(torch, dtype)
        if kind.is_floating_point:
            return torch.randn(EXAMPLES, *shape, generator=rng).to(kind)
        return torch.randint(tokens, (EXAMPLES, *shape), generator=rng).to(kind)

    example = from_signature(signed, filled)
    if isinstance(example, Mapping):
        small = {"token_type_ids": torch.zeros_like, MASK: torch.ones_like}
        example = {k: small[k](part) if k in small else part for k, part in example.items()}
    return example


def _takes_tokens(signed: Any) -> bool:
    kinds = leaves(from_signature(signed, lambda _, dtype: dtype))
    return any("int" in kind for kind in kinds)


def _signature(model: nn.Module, prefix: str, wanted: Wanted) -> Any:
    if prefix == hf_models.PREFIX:
        return hf_models.example_signature(model)
    source: Any = SOURCES[prefix]
    return {"shape": list(source.image_shape(wanted)), "dtype": "float32"}
