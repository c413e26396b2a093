"""The weights of a network at one time, kept while it goes on learning."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from raynas.nn.buffers import make_room
from raynas.supernet.attributes import Attributes, read_attributes, write_attributes
from raynas.supernet.checkpoint import load_attributes, load_weights, save_weights


@dataclass(frozen=True)
class Snapshot:
    """A network's state on the CPU.

    Attributes:
        state: its ``state_dict``.
        attributes: what it computes with beside it.
    """

    state: Mapping[str, Any]
    attributes: Attributes

    @classmethod
    def of(cls, net: nn.Module) -> Snapshot:
        """Return the state of a network, in memory of its own."""
        state: Any = copy.copy(net.state_dict())  # keeps the versions of modules beside it
        for name, value in state.items():
            is_tensor = isinstance(value, Tensor)
            state[name] = value.detach().cpu().clone() if is_tensor else copy.deepcopy(value)
        return cls(state, read_attributes(net))

    @classmethod
    def load(cls, folder: Path) -> Snapshot:
        """Return what ``save`` wrote."""
        return cls(load_weights(folder), load_attributes(folder))

    def save(self, folder: Path) -> None:
        """Write it into a folder, as checkpoints hold weights."""
        save_weights(folder, self.state, self.attributes)

    def write(self, net: nn.Module) -> None:
        """Give a network that is built alike this state."""
        make_room(net, self.state)
        net.load_state_dict(self.state)
        write_attributes(net, self.attributes)

    @contextmanager
    def applied(self, net: nn.Module) -> Iterator[None]:
        """Let a network have this state for a while."""
        before = Snapshot.of(net)
        self.write(net)
        try:
            yield
        finally:
            before.write(net)
