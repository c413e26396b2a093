"""Nests of tensors: a tensor, or a tuple, list or dict of nests; the first dimension is the batch.

Nothing here needs torch: a leaf is whatever is no tuple, list or dict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Nest = Any


def mapped(function: Callable[[Any], Any], nest: Nest) -> Nest:
    """Return a nest of the same structure, with ``function`` of every leaf.

    >>> mapped(len, {"a": "ab", "b": ("c", "def")})
    {'a': 2, 'b': (1, 3)}
    """
    if isinstance(nest, Mapping):
        return {name: mapped(function, part) for name, part in nest.items()}
    if isinstance(nest, tuple | list):
        parts = [mapped(function, part) for part in nest]
        return parts if isinstance(nest, list) else tuple(parts)
    return function(nest)


def leaves(nest: Nest) -> Iterator[Any]:
    """Yield the leaves, in order.

    >>> list(leaves({"a": 1, "b": (2, [3])}))
    [1, 2, 3]
    """
    if isinstance(nest, Mapping):
        nest = tuple(nest.values())
    if isinstance(nest, tuple | list):
        for part in nest:
            yield from leaves(part)
    else:
        yield nest


def paths(nest: Nest, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf with where it stands, such as ``image`` or ``0.ids``.

    >>> list(paths({"a": 1, "b": (2, 3)}))
    [('a', 1), ('b.0', 2), ('b.1', 3)]
    """
    if isinstance(nest, tuple | list):
        nest = dict(enumerate(nest))
    if isinstance(nest, Mapping):
        for name, part in nest.items():
            yield from paths(part, f"{at}.{name}" if at else str(name))
    else:
        yield at, nest


def rows(nest: Nest) -> int:
    """Return how many examples a nest of tensors holds.

    Raises:
        ValueError: it holds no tensor, or tensors of different lengths.
    """
    lengths = {at: len(leaf) for at, leaf in paths(nest)}
    if not lengths:
        raise ValueError("expected at least one tensor, got an empty nest")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"tensors of one batch have different lengths: {lengths}")
    return next(iter(lengths.values()))


def taken(nest: Nest, index: Any) -> Nest:
    """Return the nest of what an index or slice takes of every leaf."""
    return mapped(lambda leaf: leaf[index], nest)


def zipped(function: Callable[[list[Any]], Any], nests: Sequence[Nest]) -> Nest:
    """Return a nest with ``function`` of the list of leaves that stand at the same place.

    >>> zipped(sum, [{"a": 1, "b": (2,)}, {"a": 10, "b": (20,)}])
    {'a': 11, 'b': (22,)}

    Raises:
        ValueError: the nests are of different structure.
    """
    first = nests[0]
    kinds = {_kind(nest) for nest in nests}
    if len(kinds) > 1:
        raise ValueError(f"examples of different structure: {' and '.join(sorted(kinds))}")
    if isinstance(first, Mapping):
        return {name: zipped(function, [nest[name] for nest in nests]) for name in first}
    if isinstance(first, tuple | list):
        parts = [zipped(function, [nest[at] for nest in nests]) for at in range(len(first))]
        return parts if isinstance(first, list) else tuple(parts)
    return function(list(nests))


def _kind(nest: Nest) -> str:
    if isinstance(nest, Mapping):
        return f"dict of {sorted(map(str, nest))}"
    if isinstance(nest, tuple | list):
        return f"{type(nest).__name__} of {len(nest)}"
    return "tensor"


def first(nest: Nest) -> Any:
    """Return the first leaf."""
    return next(leaves(nest))


def moved(nest: Nest, device: Any) -> Nest:
    """Return a nest of tensors on a device; None stays None.

    What is there already is not copied, and what is pinned is copied to a GPU while the host goes
    on.
    """
    on = str(device).startswith("cuda")
    return mapped(lambda leaf: leaf if leaf is None else leaf.to(device, non_blocking=on), nest)


def arguments(inputs: Nest) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments with which a model is called on inputs."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)), {}


def call(model: Callable[..., Any], inputs: Nest) -> Any:
    """Run a model on inputs: a tuple's parts are its positional arguments, a dict's its keywords.

    >>> call(max, (1, 2)), call(dict, {"a": 1}), call(len, "abc")
    (2, {'a': 1}, 3)
    """
    positional, keywords = arguments(inputs)
    return model(*positional, **keywords)


def signature(nest: Nest) -> Any:
    """Return shapes, without the batch, and dtypes of a nest of tensors, fit for JSON.

    A dict stands for a dict under ``keywords``, a tuple or list is a list, and a tensor a dict of
    ``shape`` and ``dtype``.
    """
    if isinstance(nest, Mapping):
        return {"keywords": {str(name): signature(part) for name, part in nest.items()}}
    if isinstance(nest, tuple | list):
        return [signature(part) for part in nest]
    return {"shape": list(nest.shape[1:]), "dtype": str(nest.dtype).removeprefix("torch.")}


def from_signature(signed: Any, make: Callable[[tuple[int, ...], str], Any]) -> Nest:
    """Return the nest of a signature, its leaves made of shape, without the batch, and dtype."""
    if isinstance(signed, list | tuple):
        return tuple(from_signature(part, make) for part in signed)
    if "keywords" in signed:
        return {name: from_signature(part, make) for name, part in signed["keywords"].items()}
    return make(tuple(signed["shape"]), signed["dtype"])


def described(nest: Nest) -> str:
    """Return a few words on a nest, such as ``{'ids': (2, 16) int64, 'mask': (2, 16) bool}``."""
    if isinstance(nest, Mapping):
        inner = ", ".join(f"{name!r}: {described(part)}" for name, part in nest.items())
        return "{" + inner + "}"
    if isinstance(nest, tuple | list):
        return "(" + ", ".join(map(described, nest)) + ")"
    if not hasattr(nest, "shape"):
        return "None" if nest is None else type(nest).__name__
    return f"{tuple(nest.shape)} {str(nest.dtype).removeprefix('torch.')}"


def lone_shape(signed: Any) -> tuple[int, ...] | None:
    """Return the shape in the signature of one tensor; None of a nest, or of nothing."""
    if not isinstance(signed, Mapping) or "shape" not in signed:
        return None
    return tuple(signed["shape"])
