"""The step of a file of ModularNAS alone, without Vega: one routine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raynas.core.config import validated
from raynas.setup.vega.build import Parts, Step
from raynas.setup.vega.ignored import MODNAS_PLACES, without_ignored
from raynas.setup.vega.references import merged
from raynas.setup.vega.schema import Custom, Dataset, ModnasFile, Trainer

ROUTINES = ("search", "augment")


def modnas_step(tree: Mapping[str, Any], notes: list[str]) -> Step:
    """Return the step of a file, its routine's section merged into the rest.

    Args:
        tree: the file.
        notes: to which what means nothing here is added.

    Raises:
        ValueError, LookupError: a key, a name or a value is not understood.
    """
    routine = tree.get("routine", "search")
    if routine not in ROUTINES:
        raise ValueError(f"routine: expected {' or '.join(ROUTINES)}, got {routine!r}")
    own = tree.get(routine)
    rest = {key: value for key, value in tree.items() if key not in ROUTINES}
    if isinstance(own, Mapping):
        rest = merged(rest, own)
    notes += [
        f"ignored: {key}: the routine is {routine}"
        for key in ROUTINES
        if key in tree and key != routine
    ]
    whole, more = without_ignored(rest, MODNAS_PLACES)
    notes += more
    file = validated(ModnasFile, whole)
    custom = Custom(
        model=file.model,
        construct=file.constructors,
        desc_construct=file.desc_construct,
        mixed_op=file.mixed_op,
        arch_desc=file.arch_desc,
        proc="augment" if routine == "augment" else None,
    )
    data = file.data
    parts = Parts(
        name=routine,
        custom=custom,
        custom_where="",
        optim=file.optim,
        optim_where="optim",
        estimators=file.estim,
        estimators_where="estim",
        exports=file.export,
        exports_where="export",
        trainer=_with_epochs(file, routine),
        trainer_where="trainer.args",
        dataset=None if data is None else Dataset(type=data.type, args=data.args),
        dataset_where="data",
        inherits=False,
    )
    return Step("train" if routine == "augment" else "search", parts, [])


def _with_epochs(file: ModnasFile, routine: str) -> Trainer:
    """Return the trainer; of a lone training, for the epochs of its estimators."""
    trainer = file.trainer.args
    if routine == "augment" and file.estim and trainer.epochs is None:
        epochs = sum(estimator.epochs for estimator in file.estim.values())
        return trainer.model_copy(update={"epochs": epochs})
    return trainer
