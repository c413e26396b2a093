"""Fixed architectures in which layer choices run none, or several, of their candidates.

They stand in no space: no search proposes one. NNI writes them where a mutator picks so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidArch
from raynas.core.fixed import mapping_of, read_arch, without_numpy
from raynas.core.plain_values import plain_value
from raynas.nn.reduction import Reduction, reduce


def read_picks(space: ArchSpace, labels: Collection[str], description: Any) -> Arch:
    """Return an architecture, with a tuple of options at a choice that runs none, or several.

    Args:
        space: of the model.
        labels: of choices that may do so.
        description: in any form of ``raynas.core.fixed.read_arch``; none or several candidates are
            a list of them, of their indices, or of booleans or 0.0 and 1.0, one for each.

    Raises:
        InvalidArch: as ``read_arch``; or what is picked is also the name of a candidate.
    """
    given = mapping_of(description)
    several = {
        label
        for label in labels
        if label in given and _picks_several(space.decisions[label], given[label])
    }
    if not several:
        return read_arch(space, given)
    arch = read_arch(ArchSpace(_widened(space, several, {})), given)
    for label in several & arch.keys():
        if space.decisions[label].options.count(arch[label]):
            raise InvalidArch(f"{label!r}: {given[label]!r} is several candidates and one's name")
    return arch


def _picks_several(decision: Decision, came: Any) -> bool:
    came = without_numpy(came)
    if not isinstance(decision, Choice) or not isinstance(came, list | tuple):
        return False
    if plain_value(came) in decision:
        return False
    kinds = {type(entry) for entry in came}
    if kinds in ({bool}, {float}) and not kinds & {type(option) for option in decision.options}:
        return len(came) == len(decision.options) and sum(came) != 1
    return len(came) != 1


def _widened(
    space: Any, labels: Collection[str], made: dict[int, tuple[Decision, ...]]
) -> tuple[Decision, ...]:
    """Return a space's decisions, those of ``labels`` as any subset of their options."""
    if id(space) not in made:
        made[id(space)] = tuple(_as_subset(choice, labels, made) for choice in space.choices)
    return made[id(space)]


def _as_subset(
    decision: Decision, labels: Collection[str], made: dict[int, tuple[Decision, ...]]
) -> Decision:
    opens = {
        option: ArchSpace(_widened(space, labels, made)) for option, space in decision.opens.items()
    }
    if decision.label in labels:
        return Subset(decision.label, decision.options, None, opens)
    return replace(decision, opens=opens)


class SeveralLayers(nn.Module):
    """What a layer choice becomes that runs none, or several, of its candidates.

    Args:
        layers: the picked candidates by name.
        reduction: of their outputs.
        mask: returned beside the output; None returns none.
    """

    mask: Tensor | None

    def __init__(
        self, layers: Mapping[str, nn.Module], reduction: Reduction, mask: Tensor | None
    ) -> None:
        super().__init__()
        self.reduction: Reduction = reduction
        self.layers = nn.ModuleDict(layers)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the joined outputs."""
        out = outputs(list(self.layers.values()), self.reduction, *args, **kwargs)
        return out if self.mask is None else (out, self.mask)


def outputs(layers: Sequence[Any], reduction: Reduction, *args: Any, **kwargs: Any) -> Any:
    """Return the joined outputs of layers; of none None, or an empty list, as NNI's choices do."""
    every = [layer(*args, **kwargs) for layer in layers]
    if not every:
        return [] if reduction == "none" else None
    return reduce(every, reduction)
