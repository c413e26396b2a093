"""Which parts of a mutable run under an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from torch import nn

from raynas.costs.parts import Gate, Rule
from raynas.costs.plain import PlainLayers, Varies, checked_count
from raynas.nn.base_cell import BaseCell
from raynas.nn.choice import LayerChoice
from raynas.nn.edge import Edge
from raynas.nn.elastic import Elastic
from raynas.nn.expression import Expression
from raynas.nn.inputs import InputChoice
from raynas.nn.mutable import Mutable, mutables
from raynas.nn.repeat import Repeat
from raynas.nn.slot import Slot
from raynas.nn.value import ValueChoice


def check_known(mutable: Mutable) -> None:
    """Raise Varies for a mutable whose parts are not known here."""
    if not isinstance(mutable, LayerChoice | InputChoice | Repeat | BaseCell | Slot | Elastic):
        raise Varies(f"{type(mutable).__name__} {mutable.label!r} is of no kind with known parts")


def origins(model: nn.Module) -> dict[Edge, tuple[str, ...]]:
    """Return the sources that compete with each edge's own, itself included."""
    sources: dict[Edge, tuple[str, ...]] = {}
    for cell in mutables(model):
        if isinstance(cell, BaseCell):
            edges = [edge for edge in cell.edges.values() if isinstance(edge, Edge)]
            for edge in edges:
                rivals = (e.source for e in edges if e.from_label == edge.from_label)
                sources[edge] = tuple(rivals)
    return sources


def choice_rule(choice: LayerChoice, origins: Mapping[Edge, tuple[str, ...]]) -> Rule:
    """Return the rule of a choice between layers, or of a cell's edge."""
    options = choice.options
    without = choice.none if isinstance(choice, Edge) else None  # no architecture picks it
    runs = {option: (at,) for at, option in enumerate(options) if at != without}
    gate = (
        Gate(choice.from_label, choice.source, origins[choice])
        if isinstance(choice, Edge)
        else None
    )
    return Rule((str(choice.label),), (options,), runs, gate)


def depth_rule(repeat: Repeat) -> Rule:
    """Return the rule of a row of blocks, whose first ones run."""
    if isinstance(repeat.depth, Expression):
        (leaf,) = repeat.depth.leaves()
        assert isinstance(leaf, ValueChoice)
        label, options = leaf.place, leaf.values
    else:
        label, options = str(repeat.label), repeat.depths
    runs = {option: tuple(range(repeat.picked({label: option}))) for option in options}
    return Rule((label,), (tuple(options),), runs)


def values_rule(plain: PlainLayers, labels: tuple[str, ...]) -> Rule:
    """Return the rule of a module that is another one for every combination of values.

    Raises:
        Varies: there are too many combinations.
    """
    domains = {label: plain.domains[label] for label in labels}
    checked_count(domains)
    combinations = product(*domains.values())
    keys = (values[0] if len(labels) == 1 else values for values in combinations)
    return Rule(labels, tuple(domains.values()), {key: (at,) for at, key in enumerate(keys)})
