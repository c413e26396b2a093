"""Spaces of models that other libraries build: from a name and options, and what they are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.config import ComponentSpec
from raynas.core.errors import nearest
from raynas.report.json_objects import OptionAnswer, Plugin

if TYPE_CHECKING:
    from raynas.nn.named.named_space import NamedSpace

ELASTIC, INPUTS = "elastic", "inputs"
ORDER, L1 = "order", "l1"
FACTS = ("num_classes", "in_channels", "resolution", INPUTS)  # options that data decide
OWN = (ELASTIC, "weights", *FACTS)
EXAMPLE = {"width": [0.5, 0.75, 1.0], "depth": True}

DOC = (
    "Its smaller networks are a search space: elastic= says what may become smaller, as arguments "
    "of raynas.elastic. Nothing is downloaded: weights are drawn, or read from a local file "
    "(weights=FILE.safetensors)."
)


def build_named(
    name: str, options: Mapping[str, Any], **facts: Any
) -> tuple[NamedSpace, ComponentSpec]:
    """Return the space of a model that another library builds, and how to build it again.

    Args:
        name: with the library's prefix.
        options: ``elastic`` says what may become smaller, as arguments of ``raynas.elastic``;
            ``weights`` names a local file; others are the model's own.
        facts: what data say of it.

    Raises:
        UnknownName: there is no such model; the nearest is named.
        ModuleNotFoundError: the library is not installed.
        ValueError: an option is wrong.
        InvalidSpace: the model cannot be converted.
    """
    from raynas.nn.named.hf_models import PREFIX, is_folder
    from raynas.nn.named.named_space import NamedSpace, split_name
    from raynas.nn.named.wanted import Wanted

    prefix, model = split_name(name)
    whole = {**_of_images(facts), **options}
    if whole.get("weights") is not None:
        whole["weights"] = str(Path(str(whole["weights"])).absolute())
    if prefix == PREFIX and is_folder(model):
        model = str(Path(model).absolute())
        name = f"{prefix}:{model}"
    request, order = _request(name, whole.get(ELASTIC))
    own = {key: value for key, value in whole.items() if key not in OWN}
    given = {key: whole.get(key) for key in OWN if key != ELASTIC}
    space = NamedSpace(name, Wanted(name=model, options=own, **given), request)
    if order is not None:
        space = space.sorted(order)
    return space, ComponentSpec(name=name, options=whole)


def _of_images(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts without those of images, where the inputs are none."""
    if "resolution" in facts or INPUTS not in facts:
        return dict(facts)
    return {key: value for key, value in facts.items() if key != "in_channels"}


def _request(name: str, elastic: Any) -> tuple[Any, str | None]:
    """Return what may become smaller, and by what the units are sorted; None leaves them."""
    from raynas.nn.conversion.request import read_request

    if not isinstance(elastic, Mapping) or not elastic:
        raise ValueError(
            f"{name}: say what may become smaller: elastic={EXAMPLE} "
            "(--elastic width=0.5,0.75,1.0 --elastic depth=true)"
        )
    known = {*inspect.signature(read_request).parameters, ORDER}
    for key in elastic:
        if key not in known:
            raise ValueError(f"elastic: there is no {key!r} to be elastic; {nearest(key, known)}")
    order = elastic.get(ORDER)
    if order not in (None, L1):
        raise ValueError(
            f"elastic: order: expected {L1!r}, which needs no data, got {order!r}: others are "
            "given to sorted() of the space in Python"
        )
    return read_request(**{k: v for k, v in elastic.items() if k != ORDER}), order


def named_plugin(name: str) -> Plugin:
    """Return what a model of a library is: whose it is, its options, and how it is searched.

    Raises:
        UnknownName: there is no such model; the nearest is named.
        ModuleNotFoundError: the library is not installed.
    """
    from raynas.nn.named.named_space import SOURCES, split_name
    from raynas.nn.named.wanted import Wanted

    prefix, model = split_name(name)
    source: Any = SOURCES[prefix]
    recipe = source.recipe(Wanted(name=model))
    options = dict.fromkeys(OWN) | source.default_options(recipe)
    flags = "--elastic width=0.5,0.75,1.0 --elastic depth=true"
    return Plugin(
        kind="model",
        name=name,
        doc=f"{source.description(recipe)} {DOC}",
        options=[
            OptionAnswer(name=key, default=value, required=key == ELASTIC)
            for key, value in options.items()
        ],
        python=f"raynas.space({name!r}, elastic={EXAMPLE}).arch_space",
        command=f"raynas profile {name} {flags}",
    )
