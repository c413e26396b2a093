"""What a user asks a retraining for, and what it is to train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch
from raynas.core.config import RayConfig
from raynas.core.fixed import read_arch
from raynas.core.retrain_config import InheritedFrom, RetrainConfig
from raynas.setup.problem import Data, Space
from raynas.setup.request import DEFAULT_DATA
from raynas.setup.resolve import mapping, resolve_space
from raynas.setup.resolve_data import OWN, resolve_data
from raynas.setup.resolve_task import with_task

if TYPE_CHECKING:
    from torch import nn

    from raynas.nn.modelspace import ModelSpace

Options = Mapping[str, Any]
FILES = (".json", ".yaml", ".yml")
NO_WEIGHTS = "an ArchSpace builds no networks to train"


@dataclass(frozen=True, kw_only=True)
class RetrainRequest:
    """The arguments of ``raynas.retrain``; None is what was not said."""

    what: Any
    arch: Any
    space: Any
    data: Any
    task: Any
    loss: Any
    metrics: Any
    epochs: int | None
    inherit: bool
    seed: int | None
    out: str | None
    resume: bool
    ray: RayConfig | Mapping[str, Any] | None
    options: Options | None
    space_options: Options | None
    data_options: Options | None

    def going_on(self, before: RetrainConfig) -> RetrainRequest:
        """Return the request with what an earlier start had for whatever was not said."""
        fields: dict[str, Any] = {
            "options": before.settings | mapping("options", self.options),
            "inherit": self.inherit or before.inherit is not None,
            "seed": before.seed if self.seed is None else self.seed,
            "ray": before.ray if self.ray is None else self.ray,
        }
        if self.space_options is None and (self.space is None or self.space == before.space.name):
            fields["space"] = before.space
        named = before.data.name != OWN and self.data in (None, before.data.name)
        if named and self.data_options is None:
            fields["data"] = before.data
        if self.task is None and self.loss is None and self.metrics is None:
            fields["task"] = before.task
        return replace(self, **fields)

    def tasked(self, data: Data, otherwise: Any = None) -> Data:
        """Return data with the task that was asked for.

        Args:
            data: to learn from.
            otherwise: task, where none was named.
        """
        task = otherwise if self.task is None else self.task
        return with_task(data, task, self.loss, self.metrics)


@dataclass(frozen=True, kw_only=True)
class Inherited:
    """Weights of a supernet.

    Attributes:
        source: where they come from.
        network: returns the architecture with them.
    """

    source: InheritedFrom
    network: Callable[[], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is to be trained to the end.

    Attributes:
        space: of the architecture.
        model_space: builds the network: the space's own, or that of a supernet, seeded.
        arch: of the network.
        data: to train on.
        seed: of the training.
        inherited: weights to begin with; None from scratch.
        run: folder of the run that it is of; None without.
    """

    space: Space
    model_space: ModelSpace
    arch: Arch
    data: Data
    seed: int
    inherited: Inherited | None = None
    run: str | None = None


def subject_of_architecture(request: RetrainRequest) -> Subject:
    """Return what is to be trained where an architecture is given, and no run.

    Raises:
        ValueError: the space is not named or builds no networks, another architecture is given
            besides, or weights are to be inherited.
        InvalidArch: the space does not hold the architecture.
    """
    if request.arch is not None:
        raise ValueError("arch: an architecture is given already, and there is no run")
    if request.space is None:
        raise ValueError("space: name the space of the architecture, such as space='darts_cifar'")
    if request.inherit:
        raise ValueError("inherit: an architecture alone has no supernet; pass its run")
    given = DEFAULT_DATA if request.data is None else request.data
    data = request.tasked(resolve_data(given, mapping("data_options", request.data_options)))
    options = mapping("space_options", request.space_options)
    seed = 0 if request.seed is None else request.seed
    space = resolve_space(request.space, options, data).seeded(seed)
    return Subject(
        space=space,
        model_space=builder_of(space),
        arch=arch_in(space, request.what),
        data=data,
        seed=seed,
    )


def builder_of(space: Space) -> ModelSpace:
    """Return what builds a space's networks.

    Raises:
        ValueError: it is a plain ArchSpace.
    """
    if space.model_space is None:
        raise ValueError(NO_WEIGHTS)
    return space.model_space


def is_architecture(what: Any) -> bool:
    """Return whether what is to be trained is itself an architecture, rather than a run's folder.

    >>> is_architecture({"op": "conv3"}), is_architecture("best.json"), is_architecture("runs/1")
    (True, True, False)

    Raises:
        TypeError: it is neither.
    """
    if isinstance(what, str | Path):
        text = str(what).strip()
        listed = text.startswith(("{", "[")) or "\n" in text  # JSON, or YAML of several entries
        return listed or text.lower().endswith(FILES) or "Genotype(" in text
    if isinstance(what, Mapping | list | tuple):  # a genotype is a tuple too
        return True
    kind = type(what).__name__
    raise TypeError(
        "what: expected a Result, the path of a run, or an architecture (a mapping from label to "
        f"choice, a list of operators, JSON or YAML of either, or a genotype), got a {kind}"
    )


def arch_in(space: Space, given: Any) -> Arch:
    """Return the architecture of a space that a description or a genotype stands for.

    A description may be what ModularNAS writes: a list with an entry for each slot, a nested dict,
    or ``{"c_0": ...}``.

    Raises:
        InvalidArch: the space does not hold it.
    """
    from raynas.nn.construct.described import described_arch
    from raynas.nn.genotype import from_genotype

    if _is_genotype(given) or (isinstance(given, str) and "Genotype(" in given):
        given = from_genotype(given, space.spec.options.get("nodes", 4))
    if space.model_space is None:
        return read_arch(space.arch_space, given)
    return described_arch(space.arch_space, space.model_space.supernet, given)


def _is_genotype(given: Any) -> bool:
    return isinstance(given, tuple) and hasattr(given, "reduce_concat")
