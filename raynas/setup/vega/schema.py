"""The parts of a file of Vega's or ModularNAS' that are understood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from raynas.core.config import Strict, validated


class Spec(Strict):
    """A component: a name alone, or with arguments.

    Attributes:
        type: its name.
        args: by name; Vega's own components have them under ``params``.
    """

    type: str
    args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"type": given}
        if isinstance(given, Mapping) and "params" in given and "args" not in given:
            given = {("args" if key == "params" else key): value for key, value in given.items()}
        if isinstance(given, Mapping) and given.get("args", 0) is None:
            given = {**given, "args": {}}  # an empty section
        return given


def spec_of(given: Any, where: str) -> Spec:
    """Return a component that is given among arguments.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(given, str | Mapping):
        raise ValueError(f"{where}: expected a name, or type with args, got {given!r}")
    try:
        return validated(Spec, {"type": given} if isinstance(given, str) else given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


class Constructor(Spec):
    """What makes a space of a backbone, or a network of a description.

    Attributes:
        mixed_op: how candidates combine, where the type does not say it.
        candidates: names of operators.
        primitives: the same, as documented.
    """

    mixed_op: str | None = None
    candidates: list[str] | None = None
    primitives: list[str] | None = None


class Criterion(Spec):
    """A loss.

    Attributes:
        mode: when it counts.
    """

    mode: Literal["all", "train", "eval", "valid"] = "all"


class Estimator(Spec):
    """A part of a search, which follows the one before it.

    Attributes:
        epochs: of its training, or batches of architectures that it evaluates.
        subnet_epochs: of each architecture's own training.
        arch_update_batch: architectures of a batch, or updates at a time.
        arch_update_intv: steps between updates of the architecture's parameters.
        criterion: losses in place of the trainer's.
    """

    epochs: PositiveInt = 1
    subnet_epochs: NonNegativeInt | None = None
    arch_update_batch: PositiveInt = 1
    arch_update_intv: int = -1
    criterion: list[Criterion] = Field(default_factory=list)

    @field_validator("criterion", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        """Read one loss, or losses by name, as a list."""
        if isinstance(given, str) or (isinstance(given, Mapping) and "type" in given):
            return [given]
        return [*given.values()] if isinstance(given, Mapping) else given


class Routine(Strict):
    """What a search, or a training of what it has found, makes of the backbone.

    Attributes:
        constructors: by name, in order; their key is ``construct``.
        mixed_op: the mixed operator of every slot, with its candidates.
        arch_desc: the description, or the path of its file.
    """

    constructors: dict[str, Constructor] = Field(default_factory=dict, alias="construct")
    mixed_op: Constructor | None = None
    arch_desc: Any = None


class Custom(Routine):
    """The search space.

    Attributes:
        type: of the space: ``ModNasArchSpace``.
        model: the backbone.
        net: the same.
        desc_construct: constructors of the network to train, as documented.
        search: those of the search, by the shipped files' way of writing them.
        augment: those of the network to train, likewise.
        proc: ``augment`` trains a network without a search.
    """

    type: str = "ModNasArchSpace"
    model: Spec | None = None
    net: Spec | None = None
    desc_construct: dict[str, Constructor] = Field(default_factory=dict)
    search: Routine | None = None
    augment: Routine | None = None
    proc: str | None = None


class SearchSpace(Strict):
    """Where the custom space stands."""

    type: str = "SearchSpace"
    modules: list[str] = Field(default_factory=lambda: ["custom"])
    custom: Custom | None = None
    hyperparameters: list[Any] = Field(default_factory=list)


class ModelDescription(Strict):
    """Where the custom space of a training stands."""

    modules: list[str] = Field(default_factory=lambda: ["custom"])
    custom: Custom | None = None


class Model(Strict):
    """The network of a training."""

    model_desc: ModelDescription | None = None


class SearchAlgorithm(Strict):
    """How the space is searched."""

    type: str = "ModNasAlgorithm"
    optim: Spec | None = None


class Dataset(Strict):
    """The data of a step; what holds for one split comes before what holds for all.

    Attributes:
        type: of the data.
        common: arguments of all splits.
        train: of the training's.
        val: of the validation's.
        test: of the test's.
    """

    type: str
    common: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    val: dict[str, Any] = Field(default_factory=dict)
    test: dict[str, Any] = Field(default_factory=dict)
    args: dict[str, Any] = Field(default_factory=dict)


class Modnas(Strict):
    """The search's estimators and exporters."""

    export: dict[str, Spec] = Field(default_factory=dict)
    estim: dict[str, Estimator] = Field(default_factory=dict)


class Trainer(Strict):
    """How weights are trained."""

    type: str = "Trainer"
    epochs: PositiveInt | None = None
    seed: int | None = Field(default=None, ge=0)
    optimizer: Spec | None = None
    lr_scheduler: Spec | None = None
    loss: Spec | None = None
    criterion: Spec | None = None
    grad_clip: float | None = Field(default=None, ge=0.0)
    w_grad_clip: float | None = Field(default=None, ge=0.0)
    load_weights_file: bool = False
    modnas: Modnas = Field(default_factory=Modnas)


class PipeStep(Strict):
    """What kind of step it is.

    Attributes:
        type: ``SearchPipeStep`` or ``TrainPipeStep``.
        models_folder: of the search whose best is trained.
        load_weights: whether the training begins with the search's weights.
    """

    type: str
    models_folder: str | None = None
    load_weights: bool = False


class StepSection(Strict):
    """A step of Vega's pipeline."""

    pipe_step: PipeStep
    dataset: Dataset | None = None
    search_algorithm: SearchAlgorithm | None = None
    search_space: SearchSpace | None = None
    model: Model | None = None
    trainer: Trainer = Field(default_factory=Trainer)


class General(Strict):
    """What holds for all steps."""

    quota: Any = None
    seed: int | None = Field(default=None, ge=0)


class VegaFile(Strict):
    """A file of Vega's, its steps by name."""

    general: General = Field(default_factory=General)
    pipeline: list[str] = Field(min_length=1)
    steps: dict[str, StepSection]


class ModnasTrainer(Strict):
    """The trainer of ModularNAS alone."""

    type: str = "DefaultTrainer"
    args: Trainer = Field(default_factory=Trainer)


class ModnasData(Strict):
    """The data of ModularNAS alone."""

    type: str
    args: dict[str, Any] = Field(default_factory=dict)


class ModnasFile(Routine):
    """A file of ModularNAS alone, its routine's section merged into it."""

    routine: str = "search"
    model: Spec | None = None
    desc_construct: dict[str, Constructor] = Field(default_factory=dict)
    export: dict[str, Spec] = Field(default_factory=dict)
    optim: Spec | None = None
    estim: dict[str, Estimator] = Field(default_factory=dict)
    trainer: ModnasTrainer = Field(default_factory=ModnasTrainer)
    data: ModnasData | None = None

    @field_validator("export", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        """Read a lone exporter as the default one."""
        alone = isinstance(given, str) or (isinstance(given, Mapping) and "type" in given)
        return {"default": given} if alone else given
