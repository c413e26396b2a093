"""A nested dict that follows the names of modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from raynas.nn.construct.chain import CONSTRUCTORS
from raynas.nn.construct.description import parsed
from raynas.nn.construct.plan import Plan, take_tree

BLOCKS, SLOT = "bottlenecks", "conv"  # ModularNAS' names of them


@CONSTRUCTORS.register("recursive_arch_desc", aliases=("DefaultRecursiveArchDescConstructor",))
def recursive_arch_desc(
    model: nn.Module, *, arch_desc: Any, candidates: Mapping[str, Any] | None = None
) -> nn.Module:
    """Return the network that a nested dict describes, as the exporter ``recursive`` writes it.

    Keys are module names, down to the outermost mutables and slots, whose entries are those of
    ``arch_desc``. Modules without choices may have entries of empty dicts, or none. None keeps
    all that is below it, or fills a slot as in ``arch_desc``. The tree that ModularNAS writes of a
    MobileNetV2 by its own names (``bottlenecks``, ``conv``, with ``ent`` in the fixed slot) is read
    block by block. Everything is checked before anything is made.

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
    take_nested(plan, parsed(arch_desc))
    return plan.carried_out()


def take_nested(plan: Plan, tree: Any) -> None:
    """Note a nested dict by the model's names of modules, or by ModularNAS' ones.

    Raises:
        InvalidArch: as ``recursive_arch_desc``.
    """
    if has_blocks(tree) and BLOCKS not in dict(plan.model.named_children()):
        plan.take_list(list_of_blocks(tree))
    else:
        take_tree(plan, tree)


def has_blocks(tree: Any) -> bool:
    """Return whether a tree has ModularNAS' names of a MobileNetV2."""
    return isinstance(tree, Mapping) and isinstance(tree.get(BLOCKS), Mapping)


def list_of_blocks(tree: Any) -> list[Any]:
    """Return the entry of every slot of such a tree, None for one that a fixed block fills."""
    return list(_blocks(tree[BLOCKS]))


def _blocks(tree: Any) -> Iterator[Any]:
    """Yield the entry of every slot, None for one that is filled by a fixed block."""
    for name, branch in tree.items():
        if name == SLOT:
            yield None if isinstance(branch, Mapping) else branch
        elif isinstance(branch, Mapping):
            yield from _blocks(branch)
