"""The schema of a configuration file: steps of a pipeline, with all that they take."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, PositiveInt, StrictInt, model_validator

from raynas.core.config import Goal, RayConfig, Strict, validated
from raynas.core.errors import nearest

STEPS = ("supernet", "search", "retrain")
SHOWN = 60  # characters of what is no configuration


class CommonFields(Strict):
    """What every step takes; at the top of a file it holds for all steps that do not say it.

    Attributes:
        space: a registered name, or ``module:Class`` of one's own.
        space_options: of a registered space.
        data: a registered name, such as ``digits`` or ``imagefolder:PATH``.
        data_options: of the data set.
        task: a registered name.
        task_options: of the task.
        seed: fixes the step.
        ray: how to use Ray.
        track: trackers, as for ``raynas.search``.
    """

    space: str | None = None
    space_options: dict[str, Any] | None = None
    data: str | None = None
    data_options: dict[str, Any] | None = None
    task: str | None = None
    task_options: dict[str, Any] | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    ray: RayConfig | None = None
    track: str | dict[str, dict[str, Any] | None] | list[Any] | None = None


class SupernetStep(CommonFields):
    """What ``raynas.train_supernet`` takes.

    Attributes:
        algo: a one-shot algorithm, or a list of phases.
        supernet: the path of a trained one to begin with.
        epochs: of the training.
        options: of the algorithm and its training.
    """

    algo: str | list[str | dict[str, Any]] = "spos"
    supernet: str | None = None
    epochs: PositiveInt | None = None
    options: dict[str, Any] | None = None


class SearchStep(CommonFields):
    """What ``raynas.search`` takes; behind a supernet's step it searches that supernet.

    Attributes:
        algo: a sampler or a one-shot algorithm.
        options: of the algorithm.
        evaluator: a registered one.
        evaluator_options: of the evaluator.
        supernet: the path of a trained one, options of a training, or a list of phases.
        objectives: metrics, each to ``max`` or ``min``.
        scalarize: weights that merge several.
        constraints: bounds such as ``macs<60e6``.
        latency: ``cpu``, ``gpu`` or the path of a table.
        trials: architectures in all.
        epochs: of the supernet's training, or of each architecture's.
        final: how many of the best are evaluated again at the end, or how (``top``, ``seeds``,
            ``evaluator`` and options of that).
    """

    algo: str | None = None
    options: dict[str, Any] | None = None
    evaluator: str | None = None
    evaluator_options: dict[str, Any] | None = None
    supernet: str | dict[str, Any] | list[str | dict[str, Any]] | None = None
    objectives: dict[str, Goal] | None = None
    scalarize: dict[str, float] | None = None
    constraints: list[str] | None = None
    latency: str | None = None
    trials: PositiveInt | None = None
    epochs: PositiveInt | None = None
    final: StrictInt | dict[str, Any] | None = None


class RetrainStep(CommonFields):
    """What ``raynas.retrain`` takes; behind a search it trains what that has found.

    Attributes:
        run: the folder of another run.
        arch: label to choice, the path of a ``.json`` file, or a genotype; of a run, the best one
            by default.
        epochs: of the training.
        inherit: whether to begin with the supernet's weights.
        options: of the training.
    """

    run: str | None = None
    arch: str | dict[str, Any] | None = None
    epochs: PositiveInt | None = None
    inherit: bool = False
    options: dict[str, Any] | None = None


class Step(Strict):
    """One of the three kinds of steps."""

    supernet: SupernetStep | None = None
    search: SearchStep | None = None
    retrain: RetrainStep | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Step:
        given = [name for name in STEPS if getattr(self, name) is not None]
        if len(given) != 1:
            came = " and ".join(given) or "none"
            raise ValueError(f"a step is one of {', '.join(STEPS)}, got {came}")
        return self

    @property
    def kind(self) -> str:
        """``supernet``, ``search`` or ``retrain``."""
        return next(name for name in STEPS if getattr(self, name) is not None)

    @property
    def fields(self) -> Any:
        """What the step takes."""
        return getattr(self, self.kind)


class PipelineConfig(CommonFields):
    """A configuration file.

    Attributes:
        out: folder or URI of all that the steps leave.
        steps: in their order.
        descriptions: exporters by name: beside a search's ``best.json``, the file
            ``outputs/arch_<name>_best.yaml`` describes the best as each of them writes it.
        smoke: values in place of others, by key path, for a run that only shows that all works.
    """

    out: str | None = None
    steps: list[Step] = Field(min_length=1)
    descriptions: dict[Annotated[str, Field(pattern=r"^[\w-]+$")], str] = Field(
        default_factory=dict
    )
    smoke: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _lone_steps(cls, given: Any) -> Any:
        """Read steps that stand at the top, such as a lone ``search``, in their usual order."""
        if not isinstance(given, Mapping) or "steps" in given:
            return given
        lone = [{name: given[name]} for name in STEPS if name in given]
        unknown = [str(key) for key in given if key not in {*STEPS, *cls.model_fields}]
        if not lone and unknown:
            hint = nearest(unknown[0], [*STEPS, *cls.model_fields])
            raise ValueError(f"no setting is named {unknown[0]!r}; {hint}")
        if not lone:
            return given
        return {key: value for key, value in given.items() if key not in STEPS} | {"steps": lone}


def pipeline_config(given: Any, *, smoke: bool = False, sets: Mapping[str, Any]) -> PipelineConfig:
    """Return a configuration, checked.

    Args:
        given: what a file holds.
        smoke: whether its values for a short run hold.
        sets: further values by key path, such as ``search.trials``; they come last.

    Raises:
        ValueError: in one sentence: the key path, what came, what was expected, the nearest key.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"expected keys and values, got {repr(given)[:SHOWN]}")
    tree = copy.deepcopy(dict(given))
    values = (dict(tree.get("smoke") or {}) if smoke else {}) | dict(sets)
    for path, value in values.items():
        _put(tree, path, value)
    if smoke:
        tree.pop("smoke", None)
    try:
        return validated(PipelineConfig, tree)
    except ValueError as error:  # steps at the top have no number
        text = str(error) if "steps" in tree else re.sub(r"\bsteps\.\d+\.", "", str(error))
        raise ValueError(text) from None


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a key path; a kind of step names the only one of its kind."""
    keys, place = path.split("."), tree
    if keys[0] in STEPS and keys[0] not in tree:
        same = [
            step for step in tree.get("steps", ()) if isinstance(step, dict) and keys[0] in step
        ]
        if len(same) != 1:
            raise ValueError(
                f"{path}: there are {len(same)} steps {keys[0]!r}; name one by its number, such as "
                f"steps.0.{path}"
            )
        place = same[0]
    where: Any = place
    for at, key in enumerate(keys[:-1]):
        where = _inside(where, key, ".".join(keys[: at + 1]))
    if isinstance(where, list):
        where[_position(where, keys[-1], path)] = value
    elif isinstance(where, dict):
        where[keys[-1]] = value
    else:
        raise ValueError(f"{path}: {'.'.join(keys[:-1])} is {where!r}, which has no keys")


def _inside(where: Any, key: str, path: str) -> Any:
    if isinstance(where, list):
        return where[_position(where, key, path)]
    if not isinstance(where, dict):
        raise ValueError(f"{path}: {where!r} has no keys")
    if where.get(key) is None:
        where[key] = {}
    return where[key]


def _position(where: list[Any], key: str, path: str) -> int:
    if not key.isdigit() or int(key) >= len(where):
        raise ValueError(f"{path}: expected a number from 0 to {len(where) - 1}, got {key!r}")
    return int(key)
