"""Whether the candidates of every choice give outputs that a mixed operator can combine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_structure

from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest, call
from raynas.gradient.mixed.base import MixedOp, is_none
from raynas.gradient.read_inputs import input_choices
from raynas.nn.choice import LayerChoice
from raynas.nn.in_place import called
from raynas.nn.inputs import InputChoice
from raynas.nn.mutable import mutables
from raynas.nn.reduction import reduce


def check_alike(model: nn.Module, op: MixedOp, inputs: Nest) -> None:
    """Run every candidate once, and compare structures and shapes of what they return.

    Args:
        model: a supernet of its own for this check; its routes are set.
        op: that is to combine the candidates.
        inputs: an example of a batch.

    Raises:
        InvalidSpace: candidates return nests of other structure, tensors of other shapes, or a nest
            where single tensors are needed; label, candidates and what they return are named.
    """
    mixes = [m for m in input_choices(model) if op.combines or m.n_chosen != 1 or m.ranked]
    if not op.combines and not mixes:
        return
    for mutable in mutables(model):
        if isinstance(mutable, LayerChoice):
            comparing = partial(_compared, str(mutable.label), mutable.names, op)
            mutable.route = comparing if op.combines else 0
        elif isinstance(mutable, InputChoice):
            mutable.route = partial(_joined, mutable, op) if mutable in mixes else (0,)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        call(model.eval(), inputs)


def _joined(choice: InputChoice, op: MixedOp, nth: Sequence[nn.Module], *inputs: Any) -> Any:
    if choice.n_chosen != choice.n_candidates:
        names = [str(option) for option in choice.options]
        _compared(str(choice.label), names, op, nth, *inputs)
    return reduce(inputs[: choice.n_chosen], choice.reduction)


def _compared(
    label: str,
    names: Sequence[str],
    op: MixedOp,
    layers: Sequence[nn.Module],
    *inputs: Any,
    **keywords: Any,
) -> Any:
    first: Any = None
    for name, layer in zip(names, layers, strict=True):
        out = called(layer, *inputs, **keywords)
        if is_none(layer):
            continue
        if not op.nests and not isinstance(out, Tensor):
            raise InvalidSpace(
                f"choice {label!r}: candidate {name!r} returns {_shown(out)}, and this "
                "algorithm mixes single tensors only; gdas and spos run one candidate at a time"
            )
        if any(not isinstance(leaf, Tensor) for leaf in tree_leaves(out)):
            raise InvalidSpace(
                f"choice {label!r}: candidate {name!r} returns {_shown(out)}, which cannot "
                "be mixed; expected tensors"
            )
        if first is None:
            first = (name, out)
        elif tree_structure(out) != tree_structure(first[1]):
            raise InvalidSpace(
                f"choice {label!r}: candidate {name!r} returns {_shown(out)}, but "
                f"{first[0]!r} {_shown(first[1])}: what is mixed must be alike; gdas and spos run "
                "one candidate at a time"
            )
        elif (shapes := _shapes(out)) != _shapes(first[1]):
            raise InvalidSpace(
                f"choice {label!r}: candidate {name!r} returns {_listed(shapes)}, but "
                f"{first[0]!r} {_listed(_shapes(first[1]))}: what is mixed must be of one shape; "
                "gdas and spos run one candidate at a time"
            )
    return layers[0](*inputs, **keywords) if first is None else first[1]


def _shapes(out: Any) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in tree_leaves(out)]


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    """Return shapes in words, without the batch.

    >>> _listed([(2, 8, 4, 4)]), _listed([(2, 5), (1, 2)])
    ('a shape of (8, 4, 4)', 'shapes of (5,) and (2,)')
    """
    words = " and ".join(str(shape[1:]) for shape in shapes)
    return f"a shape of {words}" if len(shapes) == 1 else f"shapes of {words}"


def _shown(out: Any) -> str:
    """Return the structure of an output in words.

    >>> _shown((torch.ones(1), {"h": torch.ones(1)})), _shown(None)
    ("(tensor, {'h': tensor})", 'None')
    """
    if isinstance(out, Tensor):
        return "tensor"
    if isinstance(out, tuple | list):
        return f"({', '.join(map(_shown, out))})"
    if isinstance(out, dict):
        return "{" + ", ".join(f"{key!r}: {_shown(value)}" for key, value in out.items()) + "}"
    return "None" if out is None else type(out).__name__
