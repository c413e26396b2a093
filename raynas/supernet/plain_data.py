"""Values as numbers, texts, tensors and containers of these, which are saved without code."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from raynas.core.errors import nearest

Encoded = tuple[str, Any]

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_GENERATORS = (torch.Generator, np.random.Generator, random.Random)


def is_data(value: Any) -> bool:
    """Return whether a value is made of numbers, texts, tensors, arrays and generators alone."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufc"
    if type(value) in (list, tuple, set):
        return all(map(is_data, value))
    if type(value) is dict:
        return all(map(is_data, (*value.keys(), *value.values())))
    return type(value) in _PLAIN or isinstance(value, (Tensor, np.number, np.bool_, *_GENERATORS))


def holds_arrays(value: Any) -> bool:
    """Return whether tensors, arrays or generators are among it."""
    if type(value) in (list, tuple, set):
        return any(map(holds_arrays, value))
    if type(value) is dict:
        return any(map(holds_arrays, value.values()))
    return isinstance(value, (Tensor, np.ndarray, *_GENERATORS))


def is_equal(first: Encoded | None, second: Encoded | None) -> bool:
    """Return whether two encoded values are the same."""
    (ours, form), (theirs, other_form) = tree_flatten(first), tree_flatten(second)
    return form == other_form and all(map(_same, ours, theirs))


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    return type(ours) is type(theirs) and bool(ours == theirs)


def in_place(old: Tensor, content: Tensor) -> Tensor:
    """Return the old tensor with this content, or a copy where it cannot be written to."""
    with suppress(RuntimeError):  # of memory that several of its numbers share
        old.detach().copy_(content)
        return old
    return content.to(old.device, copy=True)


class PlainData:
    """Encodes and decodes values that a model holds.

    Args:
        model: whose weights values may be views of.
    """

    def __init__(self, model: nn.Module) -> None:
        state = [value for value in model.state_dict().values() if isinstance(value, Tensor)]
        self._weights = {_memory(tensor) for tensor in state} - {0}
        self._device = state[0].device if state else torch.device("cpu")

    def encoded(self, value: Any) -> Encoded:
        """Return what kind of value it is, and copies of what it is made of."""
        match value:
            case Tensor():
                kind = "view" if _memory(value) in self._weights else "tensor"
                return kind, value.detach().cpu().clone().as_subclass(Tensor)
            case np.ndarray() | np.number() | np.bool_():
                kind = "array" if isinstance(value, np.ndarray) else "number"
                return kind, torch.from_numpy(np.array(value))
            case dict():
                return "dict", [(self.encoded(k), self.encoded(v)) for k, v in value.items()]
            case list() | tuple() | set():
                return type(value).__name__, [self.encoded(entry) for entry in value]
            case torch.Generator():
                return "torch", value.get_state()
            case np.random.Generator():
                return "numpy", self.encoded(value.bit_generator.state)
            case random.Random():
                return "python", value.getstate()
        return "plain", value

    def written(self, old: Any, encoded: Encoded) -> Any:
        """Return a decoded value; where the old one is of its kind, that one with new contents."""
        kind, content = encoded
        match kind:
            case "tensor" | "view":
                return self._tensor(old, content, kind == "view")
            case "array":
                return _array(old, content.numpy())
            case "number":
                return content.numpy()[()]
            case "dict":
                return self._dict(old, content)
            case "list" | "tuple" | "set":
                return self._sequence(old, kind, content)
            case "numpy":
                return _numpy_generator(old, self.written(None, content))
            case "torch" | "python":
                return _generator(old, kind, content)
        return content

    def _tensor(self, old: Any, content: Tensor, view: bool) -> Tensor:
        alike = isinstance(old, Tensor) and (old.shape, old.dtype) == (content.shape, content.dtype)
        if not alike or old.is_meta:
            return content.to(self._device, copy=True)
        if _memory(old) in self._weights:
            return old if view else content.to(old.device, copy=True)
        return in_place(old, content)

    def _dict(self, old: Any, content: list[tuple[Encoded, Encoded]]) -> dict[Any, Any]:
        target = old if type(old) is dict else {}
        keys = [self.written(None, key) for key, _ in content]
        values = [self.written(target.get(k), v) for k, (_, v) in zip(keys, content, strict=True)]
        target.clear()
        target.update(zip(keys, values, strict=True))
        return target

    def _sequence(self, old: Any, kind: str, content: list[Encoded]) -> Any:
        alike = kind != "set" and type(old).__name__ == kind and len(old) == len(content)
        before = old if alike else [None] * len(content)
        entries = [self.written(o, new) for o, new in zip(before, content, strict=True)]
        if alike and kind == "list":
            old[:] = entries
            return old
        return {"list": list, "tuple": tuple, "set": set}[kind](entries)


def _memory(tensor: Tensor) -> int:
    with suppress(NotImplementedError):  # of layouts that have no one block of it
        return tensor.untyped_storage().data_ptr()
    return 0


def _array(old: Any, content: NDArray[Any]) -> NDArray[Any]:
    alike = isinstance(old, np.ndarray) and (old.shape, old.dtype) == (content.shape, content.dtype)
    if alike and old.flags.writeable:
        old[...] = content
        return old  # type: ignore[no-any-return]
    return content.copy()


def _generator(old: Any, kind: str, content: Any) -> Any:
    if kind == "torch":
        generator = old if isinstance(old, torch.Generator) else torch.Generator()
        return generator.set_state(content)
    python = old if isinstance(old, random.Random) else random.Random()
    python.setstate(content)
    return python


def _numpy_generator(old: Any, state: dict[str, Any]) -> np.random.Generator:
    kind, alike = state["bit_generator"], isinstance(old, np.random.Generator)
    alike = alike and old.bit_generator.state["bit_generator"] == kind
    kinds = {cls.__name__: cls for cls in np.random.BitGenerator.__subclasses__()}
    if not alike and kind not in kinds:
        raise ValueError(f"no random generator of numpy is a {kind!r}; {nearest(kind, kinds)}")
    generator: np.random.Generator = old if alike else np.random.Generator(kinds[kind]())
    generator.bit_generator.state = state
    return generator
