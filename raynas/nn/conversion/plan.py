"""What of a model is elastic: its decisions, and what each of them changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision
from raynas.nn.conversion.axes import Count
from raynas.nn.conversion.counts import Origin
from raynas.nn.conversion.trace import Place

Kind = Literal["width", "heads", "ffn"]


@dataclass(frozen=True, eq=False)
class ElasticAxis:
    """Units of which the first so many stay.

    Attributes:
        label: of the decision.
        kind: what the units are: channels, heads of attention, or channels inside of an MLP.
        units: how many the model has.
        options: of the decision, the largest first, which is what the model has: channels, or
            heads. Axes that are linked share them, and keep the same share of their units.
        places: by tensor and dimension, the positions of each unit, shape (units, width).
        statistic: whether something is computed over the units together.
        keeps: by option, how many units it keeps, where that is no equal share of all.
    """

    label: str
    kind: Kind
    units: int
    options: tuple[int, ...]
    places: Mapping[Place, Tensor]
    statistic: bool
    keeps: tuple[int, ...] = ()

    def kept(self, option: Any) -> int:
        """Return how many units an option keeps."""
        if self.keeps:
            return self.keeps[self.options.index(option)]
        return self.units * int(option) // self.options[0]


@dataclass(frozen=True)
class Skip:
    """A module that may be left out.

    Attributes:
        label: of the decision, whose options are 1 and 0.
        path: of the module.
        zero: whether its output is a term of a sum; else its input stands for its output.
        nones: None if it returns a tensor; else how many Nones follow that in a tuple.
    """

    label: str
    path: str
    zero: bool
    nones: int | None

    def inside(self, path: str) -> bool:
        """Return whether a module is this one or stands in it."""
        return path == self.path or path.startswith(f"{self.path}.")


@dataclass(frozen=True)
class Kernel:
    """A convolution whose kernel may be the centre of its own.

    Attributes:
        label: of the decision.
        path: of the module.
        size: of the kernel in every direction.
        options: of the decision, the largest first.
        padding: of the whole kernel.
        dilation: of the kernel.
    """

    label: str
    path: str
    size: int
    options: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def cut(self, arch: Mapping[str, Value]) -> tuple[int, int]:
        """Return an architecture's size of the kernel, and what of it is cut off on each side."""
        option = arch.get(self.label, self.size)
        assert isinstance(option, int)
        return option, (self.size - option) // 2


@dataclass(frozen=True)
class CacheTerm:
    """Numbers that one token of one example leaves in a cache of attention.

    Attributes:
        scope: path of the module that attends.
        count: of keys, or of values.
    """

    scope: str
    count: Count


@dataclass(frozen=True, eq=False)
class Plan:
    """All that is elastic in a model.

    Attributes:
        axes: by number, those that are offered.
        skips: modules that may be left out.
        kernels: convolutions of several kernels.
        counts: whole numbers of modules that follow axes.
        shapes: of the model's tensors by name.
        fixed: why other dimensions stay as they are, by tensor and dimension.
        cache: numbers that one token leaves in the caches of attention, as a sum.
    """

    axes: Mapping[int, ElasticAxis]
    skips: tuple[Skip, ...]
    kernels: tuple[Kernel, ...]
    counts: Mapping[Origin, Count]
    shapes: Mapping[str, tuple[int, ...]]
    fixed: Mapping[Place, str] = field(default_factory=dict)
    cache: tuple[CacheTerm, ...] = ()

    def __post_init__(self) -> None:
        """Hold equal positions once: most tensors of a model have their channels in one order."""
        equal: dict[Any, Tensor] = {}
        object.__setattr__(
            self, "axes", {number: _sharing(axis, equal) for number, axis in self.axes.items()}
        )

    def __deepcopy__(self, memo: Any) -> Plan:
        """Return itself: nothing in it changes."""
        return self

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions; those inside of a module that may be left out are opened by it."""
        owned: dict[str, list[Decision]] = {skip.label: [] for skip in self.skips}
        free: list[Decision] = []
        together: dict[str, list[ElasticAxis]] = {}
        for axis in self.axes.values():
            together.setdefault(axis.label, []).append(axis)
        for label, axes in together.items():
            paths = [name.rpartition(".")[0] for axis in axes for name, _ in axis.places]
            self._place(owned, free, Choice(label, axes[0].options), paths)
        for kernel in self.kernels:
            self._place(owned, free, Choice(kernel.label, kernel.options), [kernel.path])
        skips = [
            Choice(skip.label, (1, 0), {1: ArchSpace(tuple(inner))} if inner else {})
            for skip, inner in ((skip, owned[skip.label]) for skip in self.skips)
        ]
        return (*free, *skips)

    @cached_property
    def space(self) -> ArchSpace:
        """All architectures."""
        return ArchSpace(self.decisions)

    def _place(
        self,
        owned: Mapping[str, list[Decision]],
        free: list[Decision],
        decision: Decision,
        paths: list[str],
    ) -> None:
        for skip in self.skips:
            if all(skip.inside(path) for path in paths):
                owned[skip.label].append(decision)
                return
        free.append(decision)

    @property
    def sizes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """By label, what a decision is a size of (width, kernel or depth), and its options."""
        sizes = {axis.label: ("width", axis.options) for axis in self.axes.values()}
        sizes |= {kernel.label: ("kernel", kernel.options) for kernel in self.kernels}
        return sizes | {skip.label: ("depth", (1, 0)) for skip in self.skips}

    @property
    def largest(self) -> dict[str, Value]:
        """The architecture that is the model itself."""
        return {label: options[0] for label, (_, options) in self.sizes.items()}

    @property
    def on_axes(self) -> set[str]:
        """Names of the tensors that lie on an axis."""
        return {name for axis in self.axes.values() for name, _ in axis.places}

    def coverage(self, model: nn.Module) -> float:
        """Return the share of a model's weights that lie on an axis."""
        sizes = {name: weight.numel() for name, weight in model.named_parameters()}
        covered = sum(sizes[name] for name in self.on_axes & sizes.keys())
        return covered / max(sum(sizes.values()), 1)

    def kept(self, arch: Mapping[str, Value]) -> dict[int, int]:
        """Return how many units of each axis an architecture keeps; all where it does not say."""
        return {number: self.units(number, arch) for number in self.axes}

    def units(self, number: int, arch: Mapping[str, Value]) -> int:
        """Return how many units of one axis an architecture keeps."""
        axis = self.axes[number]
        return axis.kept(arch.get(axis.label, axis.options[0]))


def _sharing(axis: ElasticAxis, equal: dict[Any, Tensor]) -> ElasticAxis:
    """Return an axis whose positions are the first of equal ones."""
    places = {
        place: equal.setdefault((positions.shape, positions.numpy().tobytes()), positions)
        for place, positions in axis.places.items()
    }
    return replace(axis, places=places)
