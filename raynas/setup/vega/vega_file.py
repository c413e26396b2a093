"""The steps of a file of Vega's: a pipeline, with a section for each of its steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from raynas.core.config import validated
from raynas.core.errors import nearest
from raynas.setup.vega.build import Parts, Step
from raynas.setup.vega.ignored import ESTIMATORS, PLACES, without_ignored
from raynas.setup.vega.names import is_name, looked_up
from raynas.setup.vega.quota import read_quota
from raynas.setup.vega.references import resolved
from raynas.setup.vega.schema import StepSection, VegaFile

GENERAL, PIPELINE, PIPE_STEP = "general", "pipeline", "pipe_step"
STEP_TYPES = {
    "SearchPipeStep": "search",
    "NasPipeStep": "search",
    "TrainPipeStep": "train",
    "FullyTrainPipeStep": "train",
}


def vega_steps(tree: Mapping[str, Any], notes: list[str]) -> list[Step]:
    """Return the steps of a file, in the order of its pipeline.

    Args:
        tree: the file.
        notes: to which what means nothing here is added.

    Raises:
        ValueError, LookupError: a key, a name or a value is not understood.
    """
    file = _checked_vega(tree, notes)
    quota = read_quota(file.general.quota, f"{GENERAL}.quota")
    steps = []
    for name in file.pipeline:
        section = file.steps[name]
        where = f"{name}.{PIPE_STEP}.type"
        kind = looked_up(STEP_TYPES, section.pipe_step.type, "step", where)
        bounds = quota.constraints if kind == "search" else []
        steps.append(Step(kind, _parts(name, section, file.general.seed), bounds))
        if kind == "search" and section.trainer.epochs is not None:
            notes.append(f"ignored: {name}.trainer.epochs: {ESTIMATORS}")
    notes += quota.notes
    return steps


def _checked_vega(tree: Mapping[str, Any], notes: list[str]) -> VegaFile:
    listed = tree.get(PIPELINE)
    if PIPELINE not in tree:
        near = [key for key in tree if nearest(key, [PIPELINE]).startswith("did you")]
        hint = f"; {near[0]!r} is no setting" if near else ""
        raise ValueError(f"{PIPELINE}: expected a list of steps, got none{hint}")
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ValueError(f"{PIPELINE}: expected a list of names of steps, got {listed!r}")
    for name in listed:
        if name not in tree:
            others = [key for key in tree if key not in (GENERAL, PIPELINE)]
            raise ValueError(f"{PIPELINE}: there is no section {name!r}; {nearest(name, others)}")
    used = {key: tree[key] for key in tree if key in (GENERAL, *listed)}
    for key in tree:
        if key not in (*used, PIPELINE):
            _check_unused(key, tree[key], [GENERAL, PIPELINE, *listed])
            notes.append(f"ignored: {key}: the pipeline has no such step")
    _train_without_search(used, notes)
    whole, more = without_ignored(tree, PLACES)
    notes += more
    steps = {name: resolved(whole)[name] for name in listed}
    for step in steps.values():
        if isinstance(step, dict) and _is_training(step) and isinstance(step.get("trainer"), dict):
            step["trainer"].pop("modnas", None)  # what a reference has brought along
    fields = {PIPELINE: listed, "steps": steps} | (
        {GENERAL: whole[GENERAL]} if whole.get(GENERAL) else {}
    )
    try:
        return validated(VegaFile, fields)
    except ValueError as error:
        raise ValueError(re.sub(r"\bsteps\.(?=\w)", "", str(error))) from None


def _check_unused(key: str, section: Any, known: list[str]) -> None:
    """Raise ValueError for a key that is a slip of another; other steps may stand there unused."""
    hint = nearest(key, known)
    if not (isinstance(section, Mapping) and PIPE_STEP in section):
        raise ValueError(f"no setting is named {key!r}; {hint}")


def _is_training(step: Mapping[str, Any]) -> bool:
    pipe_step = step.get(PIPE_STEP)
    kind = pipe_step.get("type") if isinstance(pipe_step, Mapping) else None
    return isinstance(kind, str) and is_name(kind, "TrainPipeStep", "FullyTrainPipeStep")


def _train_without_search(sections: Mapping[str, Any], notes: list[str]) -> None:
    """Say of a training's own estimators that they have no part in it."""
    for name, section in sections.items():
        if isinstance(section, Mapping) and _is_training(section):
            trainer = section.get("trainer")
            if isinstance(trainer, Mapping) and "modnas" in trainer:
                notes.append(f"ignored: {name}.trainer.modnas: a training has no search")


def _parts(name: str, section: StepSection, seed: int | None) -> Parts:
    space, model = section.search_space, section.model
    if space is not None and space.hyperparameters:
        raise ValueError(
            f"{name}.search_space.hyperparameters: hyperparameters are not searched here; name an "
            "architecture's choices under custom, or write a space of ours"
        )
    described = model.model_desc if model is not None else None
    custom, place = None, f"{name}.search_space.custom"
    if described is not None and described.custom is not None:
        custom, place = described.custom, f"{name}.model.model_desc.custom"
    elif space is not None:
        custom = space.custom
    algorithm = section.search_algorithm
    if algorithm is not None:
        looked_up(
            {"ModNasAlgorithm": 0}, algorithm.type, "algorithm", f"{name}.search_algorithm.type"
        )
    trainer = section.trainer
    if seed is not None and trainer.seed is None:
        trainer = trainer.model_copy(update={"seed": seed})
    return Parts(
        name=name,
        custom=custom,
        custom_where=place,
        optim=None if algorithm is None else algorithm.optim,
        optim_where=f"{name}.search_algorithm.optim",
        estimators=trainer.modnas.estim,
        estimators_where=f"{name}.trainer.modnas.estim",
        exports=trainer.modnas.export,
        exports_where=f"{name}.trainer.modnas.export",
        trainer=trainer,
        trainer_where=f"{name}.trainer",
        dataset=section.dataset,
        dataset_where=f"{name}.dataset",
        inherits=section.pipe_step.load_weights or trainer.load_weights_file,
    )
