"""Modules of an elastic model: their classes are the originals', a few attributes read as cut."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raynas.nn.elastic_norm import TakesStatistics

CUTS = "_cuts"  # where a module keeps what its tensors and numbers are at the moment
SWITCHES = "_switches"  # where the root keeps what sets them
STATE = frozenset({CUTS, SWITCHES, "plan", "_active"})  # no data of the model's own
_CLASSES: dict[Any, type[nn.Module]] = {}


class Converted:
    """A module of an elastic model; its class is the original's with a few attributes cut.

    Attributes:
        original: the class that the model's author wrote.
        cut_attributes: what is read as it is cut.
    """

    original: type[nn.Module]
    cut_attributes: frozenset[str]
    _root_class: type[nn.Module] | None

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle by the original's class, for that of a converted module has no name."""
        state = {name: value for name, value in vars(self).items() if name != SWITCHES}
        return _blank, (self.original, self.cut_attributes, self._root_class), state


class ConvertedNorm(TakesStatistics):
    """A BatchNorm of an elastic model.

    What it tracks is written back where its channels are no leading ones.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by its own statistics, by those of the input, or by those that are given."""
        norm: Any = self
        if self.statistics is not None:
            mean, var = self.statistics(x)
            return nn.functional.batch_norm(
                x, mean, var, norm.weight, norm.bias, False, 0.0, norm.eps
            )
        cuts = vars(norm)[CUTS]
        cut = cuts.get("running_mean")
        if not norm.training or cut is None or cut.is_view:
            out: Tensor = super().forward(x)  # type: ignore[misc]
            return out
        held = {name: cut(norm._buffers[name]) for name in ("running_mean", "running_var")}
        norm.num_batches_tracked.add_(1)
        rate = norm.momentum
        if rate is None:
            rate = 1.0 / float(norm.num_batches_tracked)
        mean, var = held.values()
        out = nn.functional.batch_norm(x, mean, var, norm.weight, norm.bias, True, rate, norm.eps)
        for name, value in held.items():
            cut.write(norm._buffers[name], value)
        return out

    @torch.no_grad()
    def write_statistics(self, mean: Tensor, var: Tensor) -> None:
        """Set the running statistics of the active channels."""
        norm: Any = self
        cut = vars(norm)[CUTS].get("running_mean")
        for name, value in (("running_mean", mean), ("running_var", var)):
            whole = norm._buffers[name]
            if cut is None:
                whole.copy_(value)
            else:
                cut.write(whole, value)


def converted(kind: Any, names: frozenset[str], root: type[nn.Module] | None) -> type[nn.Module]:
    """Return a subclass that reads some attributes as they are cut; the same one each time."""
    made = _CLASSES.get((kind, names, root))
    if made is None:
        made = _CLASSES[kind, names, root] = _subclass(kind, names, root)
    return made


def _blank(kind: Any, names: frozenset[str], root: type[nn.Module] | None) -> nn.Module:
    """Return a converted module without its state."""
    made = converted(kind, names, root)
    blank: nn.Module = made.__new__(made)
    return blank


def _subclass(kind: Any, names: frozenset[str], root: type[nn.Module] | None) -> type[nn.Module]:
    bases: list[type] = [] if root is None else [root]
    if issubclass(kind, _BatchNorm):
        bases.append(ConvertedNorm)
    own: dict[str, Any] = {name: property(partial(_read, name)) for name in names}
    if "forward" in names:
        own["forward"] = property(_forward)
    own |= {
        "original": kind,
        "cut_attributes": names,
        "_root_class": root,
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
    }
    return type(kind.__name__, (*bases, Converted, kind), own)


def _read(name: str, module: nn.Module) -> Any:
    held = module.__dict__
    cut = held[CUTS].get(name)
    tensor = held["_parameters"].get(name)
    if tensor is None:
        if name in held:  # a whole number, or a tuple of such
            return held[name] if cut is None else cut
        tensor = held["_buffers"].get(name)
    return tensor if cut is None or tensor is None else cut(tensor)


def _forward(module: Any) -> Any:
    held = vars(module)
    set_here = held.get("forward")  # what others put before it, for a while
    return set_here or held[CUTS].get("forward") or partial(module.original.forward, module)
