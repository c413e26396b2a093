"""Putting the steps of a pipeline of ours together from the parts of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raynas.setup.vega.architecture import named_architecture
from raynas.setup.vega.data import Data, data_of
from raynas.setup.vega.estimators import Search, Steps
from raynas.setup.vega.names import looked_up
from raynas.setup.vega.optim import algorithm_of
from raynas.setup.vega.recipe import Recipe, recipe_of
from raynas.setup.vega.schema import Constructor, Custom, Dataset, Estimator, Spec, Trainer
from raynas.setup.vega.space import CANDIDATES, ELASTIC, MOBILENET_V2, Space, space_of

# under their own names, which set what theirs write: a null for a fixed block, c_0 and c_1
SLOTS = "DefaultSlotTraversalExporter"
EXPORTERS = {
    SLOTS: SLOTS,
    "DefaultRecursiveExporter": "recursive",
    "DefaultParamsExporter": "DefaultParamsExporter",
    "MobileNetV2ElasticArchDescExporter": SLOTS,
}
ELASTIC_EXPORTER = "MobileNetV2ElasticArchDescExporter"
NARROWED, SMOKE_WIDTH = (MOBILENET_V2, ELASTIC), 0.1


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a step, each with the key path where it stands."""

    name: str
    custom: Custom | None
    custom_where: str
    optim: Spec | None
    optim_where: str
    estimators: Mapping[str, Estimator]
    estimators_where: str
    exports: Mapping[str, Spec]
    exports_where: str
    trainer: Trainer
    trainer_where: str
    dataset: Dataset | None
    dataset_where: str
    inherits: bool

    def at(self, key: str) -> str:
        """Return the key path of a part of the custom space."""
        return f"{self.custom_where}.{key}".lstrip(".")


@dataclass(frozen=True)
class Step:
    """A step of theirs, and the bounds on what it searches."""

    kind: str
    parts: Parts
    constraints: list[str]


def pipeline_of(steps: list[Step], folder: Path, notes: list[str]) -> dict[str, Any]:
    """Return a configuration of ours.

    Args:
        steps: of theirs, in order.
        folder: of their file.
        notes: to which what differs is added.
    """
    made: Steps = []
    descriptions: dict[str, str] = {}
    for step in steps:
        if step.kind == "search":
            made += _search(step, notes)
            descriptions |= _descriptions(step.parts, notes)
        else:
            searched = any("search" in before for before in made)
            made.append({"retrain": _retrain(step.parts, folder, notes, searched=searched)})
    config = _hoisted(made)
    if descriptions:
        config["descriptions"] = descriptions
    config["smoke"] = _smoke(config)
    return config


def _search(step: Step, notes: list[str]) -> Steps:
    parts = step.parts
    if parts.custom is None:
        raise ValueError(f"{parts.custom_where}: a search needs its space here")
    if parts.optim is None:
        raise ValueError(f"{parts.optim_where}: a search needs its optimizer here")
    space = _space(parts, parts.custom, augment=False)
    algorithm = algorithm_of(parts.optim, parts.optim_where, space.mixed_op)
    data = _data(parts)
    recipes = [
        recipe_of(parts.trainer, parts.trainer_where, own_course=own) for own in (False, True)
    ]
    for recipe in recipes:
        _add_batch(recipe, data)
    search = Search(
        space=space,
        algorithm=algorithm,
        estimators=parts.estimators,
        where=parts.estimators_where,
        constraints=step.constraints,
        recipe=recipes[0],
        own_course=recipes[1],
        notes=[*space.notes, *([] if data is None else data.notes)],
    )
    steps = search.steps()
    notes += search.notes
    return [
        {kind: _problem(space, data, parts) | fields}
        for made in steps
        for kind, fields in made.items()
    ]


def _retrain(parts: Parts, folder: Path, notes: list[str], *, searched: bool) -> dict[str, Any]:
    data = _data(parts)
    recipe = recipe_of(parts.trainer, parts.trainer_where, own_course=False)
    _add_batch(recipe, data)
    notes += recipe.notes
    notes += [] if data is None else data.notes
    fields: dict[str, Any] = {}
    arch = None
    if parts.custom is not None:
        space = _space(parts, parts.custom, augment=True)
        where = parts.at("arch_desc")
        arch = named_architecture(space, parts.custom.arch_desc, where, folder)
        notes += space.notes
        if arch is not None:
            _hold(space, arch)
            fields = _problem(space, data, parts) | {"arch": arch}
    if arch is None:
        if not searched:
            raise ValueError(
                f"{parts.name}: there is no search before it, and its model names no architecture "
                "(MobileNetV2PredefinedConstructor, DefaultOpConstructor or arch_desc)"
            )
        fields = _problem(None, data, parts)
        fields |= {"inherit": True} if parts.inherits else {}
    fields |= {} if parts.trainer.epochs is None else {"epochs": parts.trainer.epochs}
    return fields | {"options": recipe.options}


def _space(parts: Parts, custom: Custom, *, augment: bool) -> Space:
    """Return the space with the constructors of the search, or of the network to train."""
    routine = custom.augment if augment else custom.search
    model = custom.model or custom.net
    if model is None:
        raise ValueError(f"{parts.at('model')}: name the backbone")
    named = custom.desc_construct if augment else custom.constructors
    if augment and not named and custom.proc is not None:
        named = custom.constructors
    constructors = {f"{'desc_' * augment}construct.{name}": one for name, one in named.items()}
    if custom.mixed_op is not None and not augment:
        constructors = {"mixed_op": _mixed(custom.mixed_op)} | constructors
    if routine is not None:
        inside = "augment" if augment else "search"
        if routine.mixed_op is not None:
            constructors[f"{inside}.mixed_op"] = _mixed(routine.mixed_op)
        constructors |= {f"{inside}.construct.{n}": one for n, one in routine.constructors.items()}
    return space_of(model, constructors, parts.custom_where, parts.at("model"))


def _mixed(given: Constructor) -> Constructor:
    """Return a section ``mixed_op`` as the constructor that it stands for."""
    from raynas.gradient.mixed import MIXED_OPS

    if given.type in MIXED_OPS:
        return given
    return given.model_copy(update={"type": "DefaultMixedOpConstructor", "mixed_op": given.type})


def _data(parts: Parts) -> Data | None:
    return None if parts.dataset is None else data_of(parts.dataset, parts.dataset_where)


def _add_batch(recipe: Recipe, data: Data | None) -> None:
    if data is not None and data.batch_size is not None:
        recipe.options["batch_size"] = data.batch_size


def _problem(space: Space | None, data: Data | None, parts: Parts) -> dict[str, Any]:
    """Return what a step is about: space, data and seed."""
    fields: dict[str, Any] = {}
    if space is not None:
        fields["space"] = space.name
        fields |= {"space_options": dict(space.options)} if space.options else {}
    if data is not None:
        fields["data"] = data.name
        fields |= {"data_options": dict(data.options)} if data.options else {}
    return fields | ({} if parts.trainer.seed is None else {"seed": parts.trainer.seed})


def _hold(space: Space, arch: Mapping[str, Any]) -> None:
    """Have the space hold the operators of an architecture."""
    if "construct" in space.options:
        return
    used = [name for name in dict.fromkeys(arch.values()) if isinstance(name, str)]
    if "NIL" in used:
        space.options["zero"] = True
    others = [name for name in used if name not in (*CANDIDATES, "NIL")]
    if others and "candidates" not in space.options:
        space.options["candidates"] = [*CANDIDATES, *others]


def _descriptions(parts: Parts, notes: list[str]) -> dict[str, str]:
    """Return which exporter describes the best: by the name of the estimator that finds it."""
    *_, name = parts.estimators
    exporter = SLOTS
    for key, spec in parts.exports.items():
        where = f"{parts.exports_where}.{key}"
        exporter = looked_up(EXPORTERS, spec.type, "exporter", f"{where}.type")
        if spec.args:
            raise ValueError(f"{where}.args: exporters take no arguments here, got {spec.args}")
        if spec.type == ELASTIC_EXPORTER:
            notes.append(
                f"differs: {where}: an elastic stage is described by its depth, widths and "
                "kernels, not by one operator a block"
            )
    return {name: exporter}


def _hoisted(steps: Steps) -> dict[str, Any]:
    """Return the configuration, with the first step's space and data at its top.

    A retraining of what a search has found names neither space nor seed: it takes the search's.
    """
    config: dict[str, Any] = {}
    fields = [*(taken for step in steps for taken in step.values())]
    for name in ("space", "data"):
        named = [taken for taken in fields if name in taken]
        own = (name, f"{name}_options")
        first = {key: named[0][key] for key in own if key in named[0]} if named else {}
        config |= first
        for taken in named:
            if {key: taken[key] for key in own if key in taken} == first:
                for key in own:
                    taken.pop(key, None)
    seeds = {taken["seed"] for taken in fields if "seed" in taken}
    if len(seeds) == 1:
        config["seed"] = seeds.pop()
        for taken in fields:
            taken.pop("seed", None)
    return config | {"steps": steps}


def _smoke(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for a short run: digits, a narrow backbone, an epoch for each part."""
    smoke: dict[str, Any] = {}
    places = [("", config)] + [
        (f"steps.{number}.{kind}.", fields)
        for number, step in enumerate(config["steps"])
        for kind, fields in step.items()
    ]
    for path, fields in places:
        if "data" in fields:
            smoke |= {f"{path}data": "digits", f"{path}data_options": None}
        if fields.get("space", "").startswith(NARROWED):
            smoke[f"{path}space_options.width"] = SMOKE_WIDTH
        if "epochs" in fields:
            smoke[f"{path}epochs"] = 1
        if fields.get("options", {}).get("warmup_epochs"):
            smoke |= {f"{path}epochs": 2, f"{path}options.warmup_epochs": 1}
        stages = fields.get("options", {}).get("stages")
        if stages is not None:
            smoke[f"{path}epochs"] = len(stages)
        if "trials" in fields:
            smoke[f"{path}trials"] = min(fields["trials"], 5)
    return smoke
