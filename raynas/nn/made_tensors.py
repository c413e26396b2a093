"""Which tensors the making of a model leaves behind outside of its ``state_dict``."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


class MadeTensors(TorchFunctionMode):
    """While it is entered, notes all tensors that torch's functions return."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[weakref.ref[Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._made += [weakref.ref(x) for x in tree_leaves(result) if isinstance(x, Tensor)]
        return result

    def outside(self, state: Mapping[str, Any]) -> bool:
        """Return whether one that still exists is not in ``state``, wherever it is kept."""
        inside = {id(tensor) for tensor in state.values()}
        alive = (reference() for reference in self._made)
        return any(tensor is not None and id(tensor) not in inside for tensor in alive)
