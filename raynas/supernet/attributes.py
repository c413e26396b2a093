"""What modules compute with beside their ``state_dict``, read and written like one.

These are buffers that are not persistent, and attributes: tensors, arrays and random generators of
any module, and plain data (numbers, texts, and lists, tuples, dicts and sets of these) of modules
that users define, such as a temperature that falls with every pass.
"""

from __future__ import annotations

import copy
import enum
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raynas.nn.conversion.converted import STATE, Converted
from raynas.nn.copying import without_graphs
from raynas.nn.mutable import Mutable
from raynas.supernet.plain_data import PlainData, holds_arrays, in_place, is_data

Attributes = dict[str, Any]

_OWN = frozenset(vars(nn.Module()))  # what every module has
_ROUTES = frozenset({"route", "label", "tied_to", "arguments", "statistics"})
_FIXED = (
    *(type, types.ModuleType, types.BuiltinFunctionType, nn.Module, enum.Enum),
    *(torch.dtype, torch.device, torch.Size),
)
_LIBRARIES = ("torch", "raynas")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def read_attributes(model: nn.Module, fresh: nn.Module | None = None) -> Attributes:
    """Return copies, on the CPU, by module path and name; they hold no code.

    Args:
        model: whose attributes are read.
        fresh: built alike; plain data that are equal there are left out.
    """
    as_built, form = {} if fresh is None else _values(fresh), PlainData(model)
    return {
        path: form.encoded(value)
        for path, value in _values(model).items()
        if holds_arrays(value) or path not in as_built or as_built[path] != value
    }


@torch.no_grad()
def write_attributes(model: nn.Module, attributes: Mapping[str, Any]) -> None:
    """Give a model what ``read_attributes`` has read from one that is built alike.

    Tensors are written in place where they can be, so that what shares them goes on doing so. The
    model's weights are set already: what are views of them are left as they are.

    Raises:
        ValueError: the model has no such module.
    """
    modules, form = dict(model.named_modules()), PlainData(model)
    for path, encoded in attributes.items():
        owner, _, name = path.rpartition(".")
        if owner not in modules:
            raise ValueError(
                f"{type(model).__name__} has no module {owner!r}, whose {name!r} is to be set: it "
                "is built otherwise than the model that was trained"
            )
        holder = _holder(modules[owner], name)
        holder[name] = form.written(holder.get(name), encoded)


def runs_users_code(model: nn.Module) -> bool:
    """Return whether a pass runs anything else than layers of PyTorch and of raynas."""
    for module in model.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, "forward" in vars(module))
        if is_users(type(module)) or any(hooks):
            return True
        functions = [v for v in vars(module).values() if isinstance(v, types.FunctionType)]
        if any(map(is_users, functions)):
            return True
    return False


def is_users(definition: type | types.FunctionType) -> bool:
    """Return whether a class or function is of the user's own, not of PyTorch or raynas."""
    return (definition.__module__ or "").partition(".")[0] not in _LIBRARIES


def hidden_attributes(model: nn.Module) -> Iterator[str]:
    """Yield where modules keep objects, or functions with variables of their own.

    What these hold is not read by ``read_attributes``.
    """
    for path, module in model.named_modules():
        if type(module).__module__.partition(".")[0] == "raynas":
            continue
        own = _OWN | STATE if isinstance(module, Converted) else _OWN
        for name, value in vars(module).items():
            inert = isinstance(
                value, (type, types.ModuleType, types.BuiltinFunctionType, nn.Module)
            )
            closed = isinstance(value, types.FunctionType) and not value.__closure__
            fixed = isinstance(value, (torch.dtype, torch.device, torch.Size, enum.Enum))
            if name not in own and not (inert or closed or fixed or is_data(value)):
                yield f"{path}.{name} ({type(value).__name__})".lstrip(".")


class Followed:
    """Attributes and buffers of a model that its copy takes over, as they are each time.

    So the copy sees what training changes, and its own passes change nothing that stays.

    Args:
        model: that is followed.
        copied: built alike.
        shared: tensors, by identity, that both have.

    Attributes:
        model: that is followed.
    """

    def __init__(self, model: nn.Module, copied: nn.Module, shared: Mapping[int, Tensor]) -> None:
        self.model, self._copied, self._shared = model, copied, shared
        self._pairs = [
            (ours, theirs, name)
            for source, target in zip(model.modules(), copied.modules(), strict=True)
            for ours, theirs, name in _pairs(source, target)
            if id(ours[name]) not in shared
        ]

    def take_over(self) -> None:
        """Copy the model's values of now, each tensor once wherever it stands."""
        if not self._pairs:
            return
        memo: dict[int, Any] = dict(self._shared)
        for ours, theirs, name in self._pairs:
            theirs[name] = copy.deepcopy(_leaf(ours[name]), memo)
        self._copied.eval()  # among them may be what a train() of the user's own sets


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Put attributes and buffers back as they are now, but for the statistics of BatchNorms."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in model.parameters()}
    before = [
        (holder, name, holder[name], copy.deepcopy(_leaf(holder[name]), memo))
        for module in model.modules()
        for holder, _, name in _pairs(module, module)
    ]
    try:
        yield
    finally:
        for holder, name, value, copied in before:
            same = isinstance(value, Tensor) and value.shape == copied.shape
            holder[name] = in_place(value, copied) if same else copied


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put every module's mode back as it is now."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        model.train(modes[model])  # for what a train() of the user's own sets
        for module, mode in modes.items():
            module.training = mode


def copy_of(model: nn.Module, shared: Mapping[int, Tensor]) -> nn.Module:
    """Return a deep copy, but for the tensors that are shared, by identity."""
    return copy.deepcopy(model, {**without_graphs(model), **shared})


def _pairs(
    source: nn.Module, target: nn.Module
) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    statistics = _STATISTICS if isinstance(source, _BatchNorm) else ()
    for name, buffer in source._buffers.items():
        if buffer is not None and name not in statistics:
            yield source._buffers, target._buffers, name
    for name, _ in _attributes(source):
        yield vars(source), vars(target), name


def _leaf(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) and not value.is_leaf else value


def _values(model: nn.Module) -> dict[str, Any]:
    """Return all values by module path and name."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        hidden = [(name, module._buffers[name]) for name in module._non_persistent_buffers_set]
        for name, value in (*sorted(hidden), *_attributes(module)):
            found[f"{path}.{name}"] = value
    return found


def _attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    own = _OWN | _ROUTES if isinstance(module, Mutable) else _OWN
    own = own | STATE if isinstance(module, Converted) else own
    users = is_users(type(module))
    for name, value in vars(module).items():
        if name not in own and is_data(value) and (users or holds_arrays(value)):
            yield name, value


def _holder(module: nn.Module, name: str) -> dict[str, Any]:
    return module._buffers if name in module._buffers else vars(module)
