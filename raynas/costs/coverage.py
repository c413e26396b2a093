"""What of an existing model became elastic, and why the rest is as it was."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from torch import nn

from raynas.nn.conversion.plan import Plan


@dataclass(frozen=True)
class FixedPart:
    """Weights that stay as they are in some dimension, for one reason.

    Attributes:
        reason: why.
        dimensions: how many of them, over all tensors.
        weights: numbers in tensors that lie on no elastic axis.
        tensors: names of these, or of all if there are none.
    """

    reason: str
    dimensions: int
    weights: int
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class Converted:
    """What of a model is elastic.

    Attributes:
        kinds: how many decisions of each kind there are: ``width``, ``heads``, ``ffn``, ``kernel``
            and ``depth``.
        coverage: share of the weights that lie on an elastic axis.
        fixed: the others and why, those of most weights first.
    """

    kinds: dict[str, int]
    coverage: float
    fixed: tuple[FixedPart, ...]

    def line(self) -> str:
        """Return what is elastic as a sentence."""
        counted = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items() if count)
        return f"{100 * self.coverage:.1f} % of the weights lie on elastic axes ({counted})"


def converted(plan: Plan, model: nn.Module) -> Converted:
    """Return what a plan makes elastic of a model."""
    sizes = {name: tensor.numel() for name, tensor in model.named_parameters()}
    covered = plan.on_axes
    dimensions: dict[str, list[str]] = defaultdict(list)
    for (name, dim), reason in plan.fixed.items():
        if plan.shapes[name][dim] > 1:
            dimensions[reason].append(name)
    parts = []
    for reason, names in dimensions.items():
        distinct = tuple(dict.fromkeys(names))
        bare = tuple(name for name in distinct if name in sizes and name not in covered)
        weights = sum(sizes[name] for name in bare)
        parts.append(FixedPart(reason, len(names), weights, bare or distinct))
    parts.sort(key=lambda part: (-part.weights, -part.dimensions))
    axes = sorted(plan.axes.values(), key=lambda axis: axis.kind != "heads")
    labels = Counter({axis.label: axis.kind for axis in axes}.values())  # a width leads its heads
    kinds = {kind: labels[kind] for kind in ("width", "heads", "ffn")}
    kinds |= {"kernel": len(plan.kernels), "depth": len(plan.skips)}
    return Converted(kinds, plan.coverage(model), tuple(parts))
