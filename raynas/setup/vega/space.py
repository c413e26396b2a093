"""Backbone and constructors of theirs, as a space of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raynas.core.errors import nearest
from raynas.core.registry import normalised
from raynas.setup.vega.names import is_name, looked_up
from raynas.setup.vega.recipe import check_args
from raynas.setup.vega.schema import Constructor, Spec, spec_of

MOBILENET_V2 = "mobilenet_v2"
ELASTIC = "ofa_mobilenet_v3"
CANDIDATES = ("MB3E3", "MB3E6", "MB5E3", "MB5E6", "MB7E3", "MB7E6")  # the space's own
ARGUMENTS = {
    "n_classes": "num_classes",
    "num_classes": "num_classes",
    "chn_in": "in_channels",
    "in_channels": "in_channels",
    "width_mult": "width",
    "width": "width",
    "depth_mult": "depth",
    "depth": "depth",
    "dropout_rate": "dropout",
    "dropout": "dropout",
}
ABSENT = ("resnet", "resnext", "pyramidnet", "mobilenetv3", "shufflenet")  # of their backbones
ROLES = {
    "DefaultMixedOpConstructor": "mixed",
    "MobileNetV2SearchConstructor": "blocks",
    "MobileNetV2PredefinedConstructor": "predefined",
    "MobileNetV2ElasticConstructor": "elastic",
    "MobileNetV2ElasticSpatialConstructor": "elastic",
    "MobileNetV2ElasticSequentialConstructor": "elastic",
    "MobileNetV2ArchDescConstructor": "description",
    "DefaultSlotArchDescConstructor": "description",
    "DefaultRecursiveArchDescConstructor": "description",
    "DefaultOpConstructor": "operator",
    "DefaultModelInitializer": "nothing",
    "TorchInitConstructor": "nothing",
    "TorchToDevice": "nothing",
}
ARGUMENTS_OF = {
    "mixed": ("mixed_op", "candidates", "primitives"),
    "blocks": ("mixed_op", "candidates", "primitives", "fix_first", "add_zero_op"),
    "predefined": (),
    "elastic": ("fix_first", "expansion_range", "repeat_range", "rank_fn", "search"),
    "description": ("fix_first", "arch_desc"),
    "operator": ("op",),
}
NOTHING = "raynas makes, fills and moves models itself"


@dataclass
class Space:
    """A space, and what is to be said of it.

    Attributes:
        name: registered here.
        options: of the space.
        mixed_op: how candidates combine, by our name.
        predefined: whether every block is the backbone's own.
        elastic: whether depths and widths are what is searched.
        operator: that every block is, where one constructor says so.
        arch_desc: that a constructor has.
        fix_first: whether the first block is the backbone's own, whatever a description says.
        notes: what differs.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    mixed_op: str | None = None
    predefined: bool = False
    elastic: bool = False
    operator: str | None = None
    arch_desc: Any = None
    fix_first: bool = True
    notes: list[str] = field(default_factory=list)


def space_of(
    model: Spec, constructors: Mapping[str, Constructor], where: str, model_where: str
) -> Space:
    """Return what a backbone with its constructors is here.

    Args:
        model: the backbone.
        constructors: by name, in order; a lone mixed operator is one.
        where: they stand, by key path.
        model_where: the backbone stands.

    Raises:
        LookupError, ValueError: a backbone, a constructor or an argument is not known.
    """
    space = _backbone(model, model_where)
    for name, constructor in constructors.items():
        _apply(constructor, f"{where}.{name}", space)
    return space


def _backbone(model: Spec, where: str) -> Space:
    from raynas.nn.modelspace import SPACES

    if ":" in model.type:
        check_args(model.args, (), f"{where}.args")
        return Space(model.type)
    if model.type not in SPACES:
        known = [alias for name in SPACES for alias in (name, *SPACES.aliases_of(name))]
        hint = nearest(model.type, known)
        if any(family in normalised(model.type) for family in ABSENT):
            hint = f"those here are {', '.join(SPACES)}."
        raise LookupError(
            f"{where}.type: there is no space for the backbone {model.type!r}; {hint} "
            "A class of your own is named module:Class"
        )
    space = Space(SPACES.name_of(model.type))
    if not space.name.startswith(MOBILENET_V2):
        space.options = dict(model.args)
        return space
    check_args(model.args, ARGUMENTS, f"{where}.args")
    space.options = {ARGUMENTS[key]: value for key, value in model.args.items()}
    return space


def _apply(constructor: Constructor, where: str, space: Space) -> None:
    from raynas.gradient.mixed import MIXED_OPS

    if constructor.type in MIXED_OPS:
        _mixed(constructor, MIXED_OPS.name_of(constructor.type), where, space)
        return
    role = looked_up(ROLES, constructor.type, "constructor", f"{where}.type")
    if role == "nothing":
        space.notes.append(f"ignored: {where}: {NOTHING}")
        return
    check_args(constructor.args, ARGUMENTS_OF[role], f"{where}.args")
    if role in ("mixed", "blocks"):
        _mixed(constructor, _mixed_op(constructor, where), where, space)
        if role == "blocks" and constructor.args.get("add_zero_op", True):
            space.options["zero"] = True
    elif role == "elastic":
        _elastic(constructor, where, space)
    elif role == "predefined":
        space.predefined = True
    elif role == "operator":
        space.operator = _operator(constructor.args.get("op"), f"{where}.args.op")
    else:
        space.arch_desc = constructor.args.get("arch_desc")
        blocks = is_name(constructor.type, "MobileNetV2ArchDescConstructor")
        space.fix_first = blocks and bool(constructor.args.get("fix_first", True))


def _mixed_op(constructor: Constructor, where: str) -> str | None:
    from raynas.gradient.mixed import MIXED_OPS

    given = constructor.mixed_op or constructor.args.get("mixed_op")
    if given is None:
        return None
    name = spec_of(given, f"{where}.mixed_op").type
    if name not in MIXED_OPS:
        known = [alias for op in MIXED_OPS for alias in (op, *MIXED_OPS.aliases_of(op))]
        raise LookupError(
            f"{where}.mixed_op: no mixed operator named {name!r} is understood; "
            f"{nearest(name, known)}"
        )
    return MIXED_OPS.name_of(name)


def _mixed(constructor: Constructor, mixed_op: str | None, where: str, space: Space) -> None:
    """Take the candidates; a space of other blocks has its own."""
    args = constructor.args
    check_args(args, ARGUMENTS_OF["blocks"], f"{where}.args")
    given = constructor.candidates or constructor.primitives
    listed = given or args.get("candidates") or args.get("primitives")
    space.mixed_op = mixed_op
    if listed is None:
        return
    if not isinstance(listed, Iterable) or isinstance(listed, str):
        raise ValueError(f"{where}.candidates: expected a list of operators, got {listed!r}")
    names = [_operator(name, f"{where}.candidates") for name in listed]
    if is_name(constructor.type, "MobileNetV2SearchConstructor"):
        if tuple(names) != CANDIDATES:
            space.options["candidates"] = names
    elif space.name.startswith(MOBILENET_V2) or ":" in space.name:
        space.options["construct"] = filled_by(names)
    else:
        raise ValueError(
            f"{where}.candidates: {space.name} has candidates of its own; leave them out"
        )


def filled_by(names: Sequence[str]) -> list[Any]:
    """Return the constructors that put a choice between operators into every slot."""
    return [["mixed_op", {"candidates": [*names]}]]


def _operator(name: Any, where: str) -> str:
    from raynas.nn.operators import OPERATORS

    if not isinstance(name, str) or name not in OPERATORS:
        hint = nearest(str(name), OPERATORS)
        raise LookupError(f"{where}: no operator named {name!r} is understood; {hint}")
    return OPERATORS.name_of(name)


def _elastic(constructor: Constructor, where: str, space: Space) -> None:
    """Turn the space into the elastic one: the ranges of those constructors that there are."""
    if not space.elastic:
        space.notes.append(
            f"differs: {where}: elastic is {ELASTIC} (Once-for-All's own backbone) with kernels of "
            f"3, not {space.name}"
        )
        kept = ("num_classes", "in_channels", "width", "dropout")
        kept_options = {key: space.options[key] for key in kept if key in space.options}
        space.options = kept_options | {"kernels": [3], "depths": [4], "expands": [6]}
        space.name, space.elastic = ELASTIC, True
    args = constructor.args
    if not is_name(constructor.type, "MobileNetV2ElasticSpatialConstructor"):
        depths = args.get("repeat_range", [1, 2, 3, 4])
        space.options["depths"] = _sizes(depths, f"{where}.args.repeat_range")
    if not is_name(constructor.type, "MobileNetV2ElasticSequentialConstructor"):
        expands = args.get("expansion_range", [1, 3, 6])
        space.options["expands"] = _sizes(expands, f"{where}.args.expansion_range")
    rank = args.get("rank_fn")
    if rank is not None:
        space.notes.append(f"ignored: {where}.args.rank_fn: channels are ranked by their L1 norm")


def _sizes(given: Any, where: str) -> list[int]:
    whole = isinstance(given, list) and all(type(size) is int and size > 0 for size in given)
    if not whole or not given:
        raise ValueError(f"{where}: expected whole numbers above 0, got {given!r}")
    return sorted(given)
