"""A nested dict that follows the names of modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from raynas.nn.construct.chain import CONSTRUCTORS
from raynas.nn.construct.description import parsed
from raynas.nn.construct.plan import Plan, take_tree


@CONSTRUCTORS.register("recursive_arch_desc", aliases=("DefaultRecursiveArchDescConstructor",))
def recursive_arch_desc(
    model: nn.Module, *, arch_desc: Any, candidates: Mapping[str, Any] | None = None
) -> nn.Module:
    """Return the network that a nested dict describes, as the exporter ``recursive`` writes it.

    Keys are module names, down to the outermost mutables and slots, whose entries are those of
    ``arch_desc``. Modules without choices may have entries of empty dicts, or none. None keeps
    all that is below it. Everything is checked before anything is made.

    Args:
        model: a template of slots, or a supernet; it stays as it is.
        arch_desc: the dict, its text in JSON or YAML, or the path of a file.
        candidates: operators that entries may name besides registered ones, as for ``mixed_op``.

    Raises:
        InvalidArch: an unknown name, a place without entry, or an entry that does not suit its
            place; the message has the module path.
        OSError: the file cannot be read.
    """
    plan = Plan(model, candidates)
    take_tree(plan, parsed(arch_desc))
    return plan.carried_out()
