"""What modules compute with beside their ``state_dict``, read and written like one.

These are buffers that are not persistent, and attributes: tensors, arrays and random generators of
any module, and plain data (numbers, texts, and lists, tuples, dicts and sets of these) of modules
that users define, such as a temperature that falls with every pass.
"""

from __future__ import annotations

import copy
import enum
import random
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_flatten

from raynas.nn.mutable import Mutable

Attributes = dict[str, Any]

_OWN = frozenset(vars(nn.Module()))  # what every module has
_ROUTES = frozenset({"route", "label", "tied_to", "arguments", "statistics"})
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_GENERATORS = (torch.Generator, np.random.Generator, random.Random)
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
    as_built = {} if fresh is None else _values(fresh)
    return {
        path: _encoded(value)
        for path, value in _values(model).items()
        if _holds_arrays(value) or path not in as_built or as_built[path] != value
    }


@torch.no_grad()
def write_attributes(model: nn.Module, attributes: Mapping[str, Any]) -> None:
    """Give a model what ``read_attributes`` has read from one that is built alike.

    Tensors are written in place where they can be, so that what shares them goes on doing so.

    Raises:
        ValueError: the model has no such module.
    """
    modules = dict(model.named_modules())
    device = next((t.device for t in model.parameters()), torch.device("cpu"))
    for path, encoded in attributes.items():
        owner, _, name = path.rpartition(".")
        if owner not in modules:
            raise ValueError(
                f"{type(model).__name__} has no module {owner!r}, whose {name!r} is to be set: it "
                "is built otherwise than the model that was trained"
            )
        holder = _holder(modules[owner], name)
        holder[name] = _written(holder.get(name), encoded, device)


def hidden_attributes(model: nn.Module) -> Iterator[str]:
    """Yield where modules keep objects, or functions with variables of their own.

    What these hold is not read by ``read_attributes``.
    """
    for path, module in model.named_modules():
        if type(module).__module__.partition(".")[0] == "raynas":
            continue
        for name, value in vars(module).items():
            inert = isinstance(
                value, (type, types.ModuleType, types.BuiltinFunctionType, nn.Module)
            )
            closed = isinstance(value, types.FunctionType) and not value.__closure__
            fixed = isinstance(value, (torch.dtype, torch.device, torch.Size, enum.Enum))
            if name not in _OWN and not (inert or closed or fixed or is_data(value)):
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
            holder[name] = _tensor(value, copied, copied.device) if same else copied


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
    memo: dict[int, Any] = dict(shared)
    for module in model.modules():  # what was computed from weights cannot be copied with its graph
        tensors = [t for t in vars(module).values() if isinstance(t, Tensor) and not t.is_leaf]
        memo |= {id(tensor): tensor.detach() for tensor in tensors}
    return copy.deepcopy(model, memo)


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
    users = type(module).__module__.partition(".")[0] not in _LIBRARIES
    for name, value in vars(module).items():
        if name not in own and is_data(value) and (users or _holds_arrays(value)):
            yield name, value


def _holder(module: nn.Module, name: str) -> dict[str, Any]:
    return module._buffers if name in module._buffers else vars(module)


def is_equal(first: Any, second: Any) -> bool:
    """Return whether two entries that ``read_attributes`` returned are the same."""
    (ours, one_form), (theirs, other_form) = tree_flatten(first), tree_flatten(second)
    return one_form == other_form and all(map(_same, ours, theirs))


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    return type(ours) is type(theirs) and bool(ours == theirs)


def is_data(value: Any) -> bool:
    """Return whether a value is made of numbers, texts, tensors, arrays and generators alone."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufc"
    if type(value) in (list, tuple, set):
        return all(map(is_data, value))
    if type(value) is dict:
        return all(map(is_data, (*value.keys(), *value.values())))
    return type(value) in _PLAIN or isinstance(value, (Tensor, np.number, np.bool_, *_GENERATORS))


def _holds_arrays(value: Any) -> bool:
    if type(value) in (list, tuple, set):
        return any(map(_holds_arrays, value))
    if type(value) is dict:
        return any(map(_holds_arrays, value.values()))
    return isinstance(value, (Tensor, np.ndarray, *_GENERATORS))


def _encoded(value: Any) -> tuple[str, Any]:
    """Return what kind of value it is, and what it is made of, as loading without code allows."""
    match value:
        case Tensor():
            return "tensor", value.detach().cpu().clone().as_subclass(Tensor)
        case np.ndarray() | np.number() | np.bool_():
            kind = "array" if isinstance(value, np.ndarray) else "number"
            return kind, torch.from_numpy(np.array(value))
        case dict():
            return "dict", [(_encoded(key), _encoded(entry)) for key, entry in value.items()]
        case list() | tuple() | set():
            return type(value).__name__, [_encoded(entry) for entry in value]
        case torch.Generator():
            return "torch", value.get_state()
        case np.random.Generator():
            return "numpy", _encoded(value.bit_generator.state)
        case random.Random():
            return "python", value.getstate()
    return "plain", value


def _written(old: Any, encoded: tuple[str, Any], device: torch.device) -> Any:
    """Return the value; where the old one is of its kind, that one with new contents."""
    kind, content = encoded
    match kind:
        case "tensor":
            return _tensor(old, content, device)
        case "array" | "number":
            return _array(old, content.numpy()) if kind == "array" else content.numpy()[()]
        case "dict":
            return _dict(old, content, device)
        case "list" | "tuple" | "set":
            return _sequence(old, kind, content, device)
        case "torch" | "numpy" | "python":
            return _generator(old, kind, content)
    return content


def _tensor(old: Any, content: Tensor, device: torch.device) -> Tensor:
    alike = isinstance(old, Tensor) and (old.shape, old.dtype) == (content.shape, content.dtype)
    if alike and not old.is_meta:
        with suppress(RuntimeError):  # of memory that several of its numbers share
            old.detach().copy_(content)
            return old  # type: ignore[no-any-return]
    return content.to(device, copy=True)


def _array(old: Any, content: NDArray[Any]) -> NDArray[Any]:
    alike = isinstance(old, np.ndarray) and (old.shape, old.dtype) == (content.shape, content.dtype)
    if alike and old.flags.writeable:
        old[...] = content
        return old  # type: ignore[no-any-return]
    return content.copy()


def _dict(old: Any, content: list[Any], device: torch.device) -> dict[Any, Any]:
    target = old if type(old) is dict else {}
    keys = [_written(None, key, device) for key, _ in content]
    entries = [_written(target.get(k), v, device) for k, (_, v) in zip(keys, content, strict=True)]
    target.clear()
    target.update(zip(keys, entries, strict=True))
    return target


def _sequence(old: Any, kind: str, content: list[Any], device: torch.device) -> Any:
    alike = kind != "set" and type(old).__name__ == kind and len(old) == len(content)
    before = old if alike else [None] * len(content)
    entries = [_written(o, new, device) for o, new in zip(before, content, strict=True)]
    if alike and kind == "list":
        old[:] = entries
        return old
    return {"list": list, "tuple": tuple, "set": set}[kind](entries)


def _generator(old: Any, kind: str, content: Any) -> Any:
    if kind == "torch":
        generator = old if isinstance(old, torch.Generator) else torch.Generator()
        return generator.set_state(content)
    if kind == "python":
        python = old if isinstance(old, random.Random) else random.Random()
        python.setstate(content)
        return python
    state = _written(None, content, torch.device("cpu"))
    alike = isinstance(old, np.random.Generator)
    alike = alike and old.bit_generator.state["bit_generator"] == state["bit_generator"]
    made = old if alike else np.random.Generator(getattr(np.random, state["bit_generator"])())
    made.bit_generator.state = state
    return made
