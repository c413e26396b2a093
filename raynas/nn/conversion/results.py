"""What a model returns, as far as others read it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

PLAIN_DICTS = (dict, OrderedDict)


def results(out: Any) -> list[Tensor]:
    """Return the tensors of a model's output that others read.

    Of an output by names in the manner of transformers, that is what comes first, or ``logits``
    and ``loss`` if there are any: states that were collected on the way may change their shapes.
    """
    if isinstance(out, Mapping) and type(out) not in PLAIN_DICTS:
        named = [out[name] for name in ("logits", "loss") if out.get(name) is not None]
        out = named or list(out.values())[:1]
    return list(_tensors(out))


def _tensors(out: Any) -> Iterator[Tensor]:
    for leaf in tree_leaves(out):
        if isinstance(leaf, Tensor):
            yield leaf
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _tensors([getattr(leaf, each.name) for each in fields(leaf)])
