"""Calls of torch's functions, and the tensors in what they are given and return."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

PLAIN = (int, float, str, bool, type(None), slice)  # which hold no tensors, and are met most


@dataclass(frozen=True)
class Operation:
    """One call of a function of torch.

    Attributes:
        name: of the function.
        function: itself.
        args: as they came.
        kwargs: as they came.
        out: what it returned.
    """

    name: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any

    def argument(self, at: int, name: str, default: Any = None) -> Any:
        """Return an argument, given by its place or by its name."""
        return self.args[at] if len(self.args) > at else self.kwargs.get(name, default)

    @cached_property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return [*tensors_in(self.args), *tensors_in(self.kwargs)]


def tensors_in(given: Any) -> Iterator[Tensor]:
    """Yield the tensors in what a function is given or returns, in order."""
    if isinstance(given, Tensor):
        yield given
    elif type(given) in (tuple, list):
        for part in given:
            if not isinstance(part, PLAIN):
                yield from tensors_in(part)
    elif type(given) is dict:
        for part in given.values():
            if not isinstance(part, PLAIN):
                yield from tensors_in(part)
    elif not isinstance(given, PLAIN):
        yield from (leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor))
