"""The costs of a space's architectures, tabulated once in a process."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from raynas.costs.cost_table import CostTable
from raynas.nn.modelspace import ModelSpace

_TABLES: WeakKeyDictionary[ModelSpace, CostTable] = WeakKeyDictionary()


def space_table(space: ModelSpace) -> CostTable:
    """Return the costs of a space, whose inputs are known.

    A space's table depends on nothing else, and takes seconds where many values change shapes.

    Raises:
        InvalidSpace: candidates of one choice give different shapes.
        ValueError: the input shape is not known.
    """
    if space not in _TABLES:
        _TABLES[space] = CostTable(space.supernet().eval(), space.example_input())
    return _TABLES[space]
