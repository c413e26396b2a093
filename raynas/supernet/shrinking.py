"""The stages of progressive shrinking: which sizes are elastic from which epoch on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, PositiveInt, model_validator

from raynas.core.arch import Atom
from raynas.core.config import Strict, validated
from raynas.core.errors import nearest
from raynas.nn.dimensions import DIMENSIONS, Dimension

ALIASES = {"sequential": "depth", "spatial": "width", "expand": "width"}  # as ModularNAS has them
NEAR = 0.1  # a ratio means the option whose size is as near as that to it
Sizes = Sequence[Any] | Mapping[str, Sequence[Any]]
Options = dict[str, tuple[Atom, ...]]
# Cai et al., 2020, arXiv:1908.09791, appendix B, and the authors' scripts: epochs, and the learning
# rate over that of the kernels' stage
FULL, KERNEL, FIRST, SECOND = (180, 1.0), (120, 1.0), (25, 1 / 12), (120, 0.25)


class StageSpec(Strict):
    """A stage as a user writes it; sizes that it does not name stay as the stage before had them.

    Attributes:
        epochs: of the stage, or its share where those of all stages are another number.
        lr_scale: of the learning rate.
        warmup: share of the stage over which the learning rate rises.
        subnets: sampled in each step.
        resolution: options, or ratios of the largest; a list for all decisions of the kind, a list
            of lists, one for each, or a dict from label to list. Every one by default.
        kernel: likewise; the largest alone by default, and so the others.
        depth: likewise; also ``sequential``.
        width: likewise; also ``spatial`` or ``expand``.
    """

    epochs: PositiveInt | None = None
    lr_scale: float = Field(default=1.0, gt=0.0)
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0)
    subnets: PositiveInt = 1
    resolution: list[Any] | dict[str, list[Any]] | None = None
    kernel: list[Any] | dict[str, list[Any]] | None = None
    depth: list[Any] | dict[str, list[Any]] | None = None
    width: list[Any] | dict[str, list[Any]] | None = None

    @model_validator(mode="before")
    @classmethod
    def _modular_names(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            raise ValueError(f"expected a dict of {', '.join(cls.model_fields)}")
        fields = {ALIASES.get(key, key): value for key, value in given.items()}
        for kind in DIMENSIONS:
            if not isinstance(fields.get(kind), list | tuple | Mapping | None):
                raise ValueError(
                    f"{kind}: expected a list of options, such as [3, 5], or a dict from label to "
                    f"such, got {fields[kind]!r}"
                )
        return fields


@dataclass(frozen=True)
class Stage:
    """What is sampled in some epochs.

    Attributes:
        spec: as it was written.
        options: that every size may take, by label.
    """

    spec: StageSpec
    options: Options

    def elastic(self, dimensions: Mapping[str, Dimension], *kinds: str) -> set[str]:
        """Return the labels of these kinds that may take several options."""
        return {
            label
            for label, options in self.options.items()
            if dimensions[label].kind in kinds and len(options) > 1
        }


def read_stages(given: Any) -> list[StageSpec]:
    """Return stages as they are written.

    Raises:
        ValueError: in one sentence, which of them and what is wrong.
    """
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise ValueError(f"stages: expected a list of dicts, one for each stage, got {given!r}")
    specs = []
    for number, fields in enumerate(given):
        try:
            specs.append(fields if isinstance(fields, StageSpec) else validated(StageSpec, fields))
        except ValueError as error:
            raise ValueError(f"stages[{number}]: {error}") from None
    if not specs:
        raise ValueError("stages: name at least one")
    if len({spec.epochs is None for spec in specs}) > 1:
        raise ValueError("stages: give all of them epochs, or none")
    return specs


def default_stages(dimensions: Mapping[str, Dimension]) -> list[StageSpec]:
    """Return Once-for-All's: the whole network, then kernels, depths and widths, these in two."""

    def two(kind: str, subnets: int) -> list[StageSpec]:
        options = {k: d.options for k, d in dimensions.items() if d.kind == kind}
        if max(map(len, options.values()), default=1) < 2:
            return []
        first = {label: listed[-2:] for label, listed in options.items()}
        stages = [_stage(FIRST, subnets, **{kind: first})]
        if first == options:
            return [_stage(SECOND, subnets, **{kind: options})]
        return [*stages, _stage(SECOND, subnets, **{kind: options})]

    kernels = {k: d.options for k, d in dimensions.items() if d.kind == "kernel"}
    elastic = any(len(options) > 1 for options in kernels.values())
    kernel = [_stage(KERNEL, 1, kernel=kernels)] if elastic else []
    return [_stage(FULL, 1), *kernel, *two("depth", 2), *two("width", 4)]


def _stage(length: tuple[int, float], subnets: int, **sizes: Any) -> StageSpec:
    epochs, lr_scale = length
    return StageSpec(epochs=epochs, lr_scale=lr_scale, subnets=subnets, **sizes)


def stages_of(
    specs: Sequence[StageSpec], dimensions: Mapping[str, Dimension], *, use_ratio: bool = False
) -> list[Stage]:
    """Return the stages of a model.

    Args:
        specs: as they are written.
        dimensions: of the model, by label.
        use_ratio: whether sizes are ratios of the largest.

    Raises:
        ValueError: a size that no layer has; or a stage that leaves out what one before trains, or
            the largest.
    """
    options: Options = {
        label: tuple(d.options) if d.kind == "resolution" else (d.largest,)
        for label, d in dimensions.items()
    }
    stages: list[Stage] = []
    for number, spec in enumerate(specs):
        for kind in DIMENSIONS:
            if (sizes := getattr(spec, kind)) is not None:
                own = {label: d for label, d in dimensions.items() if d.kind == kind}
                where = f"stages[{number}].{kind}"
                read = _read(where, sizes, own, use_ratio)
                _check_kept(where, read, options, own, earlier=number > 0)
                options = options | read
        stages.append(Stage(spec, options))
    return stages


def _check_kept(
    where: str, read: Options, before: Options, own: Mapping[str, Dimension], *, earlier: bool
) -> None:
    for label, options in read.items():
        if own[label].largest not in options:
            raise ValueError(
                f"{where}: {list(options)} leaves out {own[label].largest!r}, the largest of "
                f"{label!r}: every stage keeps the whole network"
            )
        lost = [option for option in before[label] if option not in options]
        if lost and earlier:
            raise ValueError(
                f"{where}: {list(options)} leaves out {lost[0]!r} of {label!r}, which a stage "
                "before trains: sizes only join, they do not go"
            )


def _read(where: str, sizes: Sizes, own: Mapping[str, Dimension], use_ratio: bool) -> Options:
    """Return the options of every decision of one kind."""
    if not own:
        raise ValueError(f"{where}: the model has no elastic layer of this kind; leave it out")
    by_label: Mapping[str, Sequence[Any]]
    if isinstance(sizes, Mapping):
        for label in sizes:
            if label not in own:
                raise ValueError(f"{where}: no size is called {label!r}; {nearest(label, own)}")
        by_label = sizes
    elif sizes and all(isinstance(part, list | tuple) for part in sizes):
        if len(sizes) != len(own):
            raise ValueError(f"{where}: {len(sizes)} lists for {len(own)} decisions: {[*own]}")
        by_label = dict(zip(own, sizes, strict=True))
    else:
        by_label = dict.fromkeys(own, sizes)
        options = {option for d in own.values() for option in d.options}
        for size in () if use_ratio else sizes:
            if size not in options:
                raise ValueError(f"{where}: {size!r} is no option; {nearest(str(size), options)}")
    read: Options = {}
    for label, listed in by_label.items():
        chosen = _ratios(where, label, listed, own[label]) if use_ratio else {*listed}
        strange = [size for size in chosen if size not in own[label].sizes]
        if strange and not isinstance(sizes, list):
            hint = nearest(str(strange[0]), own[label].options)
            raise ValueError(f"{where}: {strange[0]!r} is no option of {label!r}; {hint}")
        read[label] = tuple(option for option in own[label].options if option in chosen)
    return read


def _ratios(where: str, label: str, ratios: Sequence[Any], dimension: Dimension) -> set[Atom]:
    most, chosen = dimension.sizes[dimension.largest], set()
    for ratio in ratios:
        if not isinstance(ratio, int | float):
            raise ValueError(f"{where}: expected ratios of the largest size, got {ratio!r}")
        option = min(dimension.options, key=lambda o: abs(dimension.sizes[o] / most - ratio))
        if abs(dimension.sizes[option] / most - ratio) > NEAR:
            has = ", ".join(f"{dimension.sizes[o] / most:.2f}" for o in dimension.options)
            raise ValueError(f"{where}: {label!r} has no size of ratio {ratio!r}; it has {has}")
        chosen.add(option)
    return chosen


def untrained(stages: Sequence[Stage], dimensions: Mapping[str, Dimension]) -> Options:
    """Return the options, by label, that no stage trains, though a search may draw them."""
    last = stages[-1].options
    left = {
        label: tuple(option for option in d.options if option not in last[label])
        for label, d in dimensions.items()
    }
    return {label: options for label, options in left.items() if options}


def first_epochs(specs: Sequence[StageSpec], epochs: int) -> list[int]:
    """Return the epoch that every stage begins with; each has one at least.

    >>> first_epochs([StageSpec(epochs=3), StageSpec(epochs=1), StageSpec(epochs=1)], 10)
    [0, 6, 8]

    Raises:
        ValueError: there are fewer epochs than stages.
    """
    if epochs < len(specs):
        raise ValueError(f"{len(specs)} stages need at least as many epochs, got {epochs}")
    shares = [spec.epochs or 1 for spec in specs]
    exact = [share * epochs / sum(shares) for share in shares]
    lengths = [max(1, math.floor(length)) for length in exact]
    while sum(lengths) != epochs:  # the largest remainder first, or back from the longest
        step = 1 if sum(lengths) < epochs else -1
        able = [i for i, length in enumerate(lengths) if step > 0 or length > 1]
        at = max(able, key=lambda i: (step * (exact[i] - lengths[i]), -i))
        lengths[at] += step
    return [0, *itertools.accumulate(lengths[:-1])]
