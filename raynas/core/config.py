"""The configuration of a run: validated, written to ``run.json``, and enough to run it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from raynas.core.digests import EDITED, sealed, unsealed
from raynas.core.errors import nearest
from raynas.core.rank_counts import count_or_range

Goal = Literal["max", "min"]
FINAL_TOP, FINAL_SEEDS = 5, 3  # of the end of a search, where a number is not said


class Strict(BaseModel):
    """A model whose fields are fixed, and which has no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ComponentSpec(Strict):
    """A registered name with its options, or the import path of a user's own object."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class RayConfig(Strict):
    """How a run uses Ray.

    Attributes:
        address: of a running cluster; None takes ``RAY_ADDRESS``, else starts a local Ray.
        num_cpus: cores of a local Ray; None takes all.
        workers: how many processes evaluate at once; None takes as many as fit the cluster when
            the search begins. On a cluster (``address``) more may be asked for: they begin when
            nodes come.
        cpus_per_worker: CPU share, and torch threads, of each.
        gpus_per_worker: GPU share of each.
        batch: architectures per evaluation task; None adapts it. One worker with batch 1 makes
            a whole run repeatable, since no order of arrival is left to chance.
        timeout_s: seconds that the evaluation of one architecture may take before its process is
            ended and its trial failed; None sets no limit. Loading data and weights is not counted,
            nor is the start of a job that trains it.
        memory_gb: gigabytes (10^9 bytes) that a worker's process and its children may take, data,
            model and libraries included, before it is ended and the trial failed; None sets no
            limit. Files, Ray's object store and the memory of GPUs are not counted. Linux only.
        train_workers: ranks of the supernet's training job; with an evaluator that trains, of a job
            for each architecture, if there are several. A pair such as ``(1, 4)``, or the text
            ``1-4``, lets it be as many as fit, of the numbers that the batch divides by: fewer
            after nodes were lost, more once others have come. Batches, augmentation and paths are
            the same with any number; ``sync_batch_norm`` of the training makes BatchNorm alike,
            what layers such as dropout draw differs.
        cpus_per_train_worker: CPU share, and torch threads, of each; None shares out all CPUs
            but one, or takes ``cpus_per_worker`` where each architecture has its own job.
        gpus_per_train_worker: GPU share of each rank; 0 takes ``gpus_per_worker`` where each
            architecture has its own job.
        inline: use no Ray: train and evaluate in the calling process, one thing after another, so
            that a breakpoint in an evaluator or a model is reached. Files and errors are the same.
    """

    address: str | None = None
    num_cpus: PositiveInt | None = None
    workers: PositiveInt | None = None
    cpus_per_worker: PositiveInt = 1
    gpus_per_worker: float = Field(default=0.0, ge=0.0)
    batch: PositiveInt | None = None
    timeout_s: float | None = Field(default=None, gt=0.0)
    memory_gb: float | None = Field(default=None, gt=0.0)
    train_workers: Annotated[int | tuple[int, int], BeforeValidator(count_or_range)] = 1
    cpus_per_train_worker: PositiveInt | None = None
    gpus_per_train_worker: float = Field(default=0.0, ge=0.0)
    inline: bool = False

    @property
    def min_train_workers(self) -> int:
        """How many ranks there are at least."""
        ranks = self.train_workers
        return ranks if isinstance(ranks, int) else ranks[0]

    @property
    def max_train_workers(self) -> int:
        """How many ranks there are at most."""
        ranks = self.train_workers
        return ranks if isinstance(ranks, int) else ranks[1]

    def check_trains(self, epochs: int) -> None:
        """Check that an evaluator's trainings can be limited as is asked for.

        Args:
            epochs: that it trains each architecture; 0 if it trains none.

        Raises:
            ValueError: memory is limited, which only a worker's own can be.
        """
        if epochs and self.memory_gb is not None and self.max_train_workers > 1:
            raise ValueError(
                f"memory_gb={self.memory_gb:g} limits a worker, and here a job of train_workers="
                f"{self.train_workers!r} processes trains each architecture: leave out either"
            )

    @model_validator(mode="after")
    def _one_process(self) -> RayConfig:
        """Refuse what takes other processes where there is only this one."""
        others: dict[str, object] = {"address": self.address, "num_cpus": self.num_cpus}
        others |= {"timeout_s": self.timeout_s, "memory_gb": self.memory_gb}
        counts = {"workers": self.workers, "batch": self.batch, "train_workers": self.train_workers}
        others |= {name: count for name, count in counts.items() if count != 1}
        for name, value in others.items():
            if self.inline and value is not None:
                raise ValueError(
                    f"inline evaluates in the calling process alone: leave out {name}={value!r}"
                )
        return self


class FinalConfig(Strict):
    """How the best of a search are evaluated at its end.

    Attributes:
        top: how many of them.
        seeds: evaluations of each.
        evaluator: with all of its options.
    """

    top: PositiveInt = FINAL_TOP
    seeds: PositiveInt = FINAL_SEEDS
    evaluator: ComponentSpec

    @property
    def key(self) -> str:
        """A short name of the evaluator: what others measure lies in another folder."""
        text = json.dumps(self.evaluator.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


class SearchConfig(Strict):
    """Everything that a search depends on.

    Attributes:
        task: what was learned; None is the classification of releases that knew no other, or
            where there are no data.
        task_metric: what the task goes by.
        final: how the best are evaluated again at the end; None if they are not.
        input_shape: of one example of a model's, as it was known, where that is one tensor.
        inputs: shapes and dtypes of an example (``raynas.core.nest.signature``).
        space_digest: of choices and shapes of weights, for a space that is a user's own.
    """

    space: ComponentSpec
    algo: ComponentSpec
    data: ComponentSpec | None = None
    task: ComponentSpec | None = None
    task_metric: str = "accuracy"
    evaluator: ComponentSpec
    supernet: ComponentSpec | None = None
    objectives: dict[str, Goal]
    scalarize: dict[str, float] = Field(default_factory=dict)
    constraints: dict[str, tuple[float | None, float | None]] = Field(default_factory=dict)
    latency: str | None = None
    final: FinalConfig | None = None
    input_shape: tuple[int, ...] | None = None
    inputs: Any = None
    space_digest: str | None = None
    trials: PositiveInt = 100
    seed: int = Field(default=0, ge=0, lt=2**63)  # a column of the trial table
    out: str
    ray: RayConfig = RayConfig()
    versions: dict[str, str] = Field(default_factory=dict)

    @field_validator("objectives")
    @classmethod
    def _some(cls, objectives: dict[str, Goal]) -> dict[str, Goal]:
        if not objectives:
            raise ValueError("name at least one metric")
        return objectives

    def to_json(self) -> str:
        """Return the configuration as indented JSON."""
        return json.dumps(sealed(self.model_dump(mode="json")), indent=2) + "\n"

    def normalised(self) -> SearchConfig:
        """Return the configuration as it is read back: tuples as lists, for one."""
        return SearchConfig.from_json(self.to_json())

    @classmethod
    def from_json(cls, text: str) -> SearchConfig:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: it is none, in one sentence.
        """
        return validated_json(cls, text)


M = TypeVar("M", bound=BaseModel)


def ray_config(given: RayConfig | Mapping[str, Any] | None) -> RayConfig:
    """Return the configuration of Ray, checked where it is given as a dict."""
    return given if isinstance(given, RayConfig) else validated(RayConfig, given or {})


def validated(model: type[M], fields: Mapping[str, Any]) -> M:
    """Return a model of these fields.

    Raises:
        ValueError: in one sentence, where, what was expected, and what came.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise ValueError(_explained(error, model)) from None


def validated_json(model: type[M], text: str) -> M:
    """Return a model of the fields that a text in JSON holds, which may have a digest.

    Raises:
        ValueError: in one sentence, where, what was expected, and what came; or the text is not as
            it was written.
    """
    intact = True
    with suppress(ValueError, RecursionError):  # which the model says better
        fields, intact = unsealed(json.loads(text))
        text = json.dumps(fields)
    try:
        read = model.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(_explained(error, model)) from None
    if not intact:
        raise ValueError(EDITED)
    return read


def _fields_at(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """Return the settings at a path of names and positions inside of a model."""
    for name in path:
        if name in (fields := _by_key(model)):
            model = _model_in(fields[name].annotation) or model
    return [*_by_key(model)]


def _by_key(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a model's fields by the keys that users write."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the first model in a type such as ``list[Step] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = map(_model_in, get_args(annotation))
    return next((model for model in inner if model is not None), None)


def _explained(error: ValidationError, model: type[BaseModel]) -> str:
    first = error.errors()[0]
    if first["type"] == "json_invalid":  # what came is the whole text
        return f"it is no JSON: {first['ctx']['error']}"
    place = ".".join(str(part) for part in first["loc"]) or model.__name__
    if first["type"] == "extra_forbidden":
        *path, name = first["loc"]
        return f"no setting is named {place!r}; {nearest(str(name), _fields_at(model, path))}"
    if first["type"] == "missing":  # what came is all that stands round it
        return f"{place}: field required"
    text = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {text[0].lower()}{text[1:]}, got {first['input']!r}"
