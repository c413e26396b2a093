"""In what a smaller network differs from the whole model that a library builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from raynas.nn.conversion.skipped import Skipped


def differences(net: nn.Module, whole: nn.Module) -> dict[str, Any]:
    """Return what makes a whole model the network, but for its weights.

    Args:
        net: of the whole model's classes, with smaller numbers and modules left out.
        whole: as the library builds it.

    Returns:
        ``left_out``: by path, the arguments of what stands for a module; ``numbers``: by path, the
        attributes that differ, and of objects such as configurations a dict of theirs.

    Raises:
        ValueError: a module is of another class, or not there.
    """
    modules = dict(net.named_modules())
    left_out: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    for path, original in whole.named_modules():
        if any(path.startswith(f"{above}.") for above in left_out):
            continue
        module = modules.get(path)
        if isinstance(module, Skipped):
            left_out[path] = {"zero": module.zero, "nones": module.nones}
        elif type(module) is not type(original):
            raise ValueError(
                f"{path or 'the network'} is a {type(module).__name__}, and the library's model "
                f"has a {type(original).__name__} there"
            )
        elif own := _numbers(vars(module), vars(original)):
            numbers[path] = own
    return {"left_out": left_out, "numbers": numbers}


def _numbers(held: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return whole numbers, and tuples of such, that differ; of objects, a dict of theirs."""
    found: dict[str, Any] = {}
    for name, value in held.items():
        old = before.get(name)
        if _is_number(value) and _is_number(old):
            if value != old:
                found[name] = list(value) if isinstance(value, tuple | list) else value
        elif _has_numbers(value) and type(value) is type(old):
            inner = {k: v for k, v in vars(value).items() if _is_number(v)}
            was = vars(old)
            changed = {k: v for k, v in inner.items() if _is_number(was.get(k)) and v != was[k]}
            if changed:
                found[name] = changed
    return found


def _is_number(value: object) -> bool:
    if isinstance(value, tuple | list):
        return bool(value) and all(type(entry) is int for entry in value)
    return type(value) is int


def _has_numbers(value: object) -> bool:
    """Return whether an attribute is an object, such as a configuration, with numbers in it."""
    plain = isinstance(value, nn.Module | Tensor | type | dict | torch.dtype | torch.device)
    return not plain and hasattr(value, "__dict__") and not callable(value)


def weights_of(net: nn.Module, whole: nn.Module) -> dict[str, Tensor]:
    """Return a network's tensors, each once; of those that no state_dict has, what differs.

    Args:
        net: whose weights they are.
        whole: the library's model; what it computes by itself need not be kept.
    """
    buffers = dict(whole.named_buffers())
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for path, module in net.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            full = f"{path}.{name}" if path else name
            if tensor is None or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            own = name in module._non_persistent_buffers_set
            if not own or not _same(tensor, buffers.get(full)):
                tensors[full] = tensor.detach().cpu().contiguous().clone()
    return tensors


def _same(tensor: Tensor, other: Tensor | None) -> bool:
    return other is not None and tensor.shape == other.shape and torch.equal(tensor.cpu(), other)
