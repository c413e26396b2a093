"""Layers that may be left out: found by what was added to what while the model ran."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from raynas.nn.conversion.calls import ModuleCall, Noted
from raynas.nn.conversion.labels import NONE, compact
from raynas.nn.conversion.plan import Skip
from raynas.nn.conversion.trace import Trace


def skips_of(trace: Trace, model: nn.Module, class_of: NDArray[np.int64]) -> list[Skip]:
    """Return the modules that may be left out, by their form; whether that runs is tried later.

    A term of a residual sum may be zero: an attention, an MLP, the inside of an inverted residual.
    A layer with a residual sum inside may pass its input on, where it has no such terms.

    Args:
        trace: after its run.
        model: that ran.
        class_of: the class of every label.
    """
    modules, by_path = dict(model.named_modules()), dict[str, list[ModuleCall]]()
    for entry in trace.calls:
        by_path.setdefault(entry.path, []).append(entry)
    fitting = {
        path: calls
        for path, calls in by_path.items()
        if path and _has_matrix(modules[path]) and all(_keeps(c, class_of) for c in calls)
    }
    residual = {path for path, calls in fitting.items() if all(_adds_its_input(c) for c in calls)}
    terms = {
        path
        for path, calls in fitting.items()
        if path not in residual and all(c.made.number in trace.added for c in calls if c.made)
    }
    terms = {path for path in terms if not _inside_any(path, terms)}
    blocks = {path for path in residual if not _holds_any(path, residual | terms)}
    chosen = [path for path in by_path if path in terms or path in blocks]
    return [Skip(f"{path}.depth", path, path in terms, _nones(by_path[path][0])) for path in chosen]


def _has_matrix(module: nn.Module) -> bool:
    return any(parameter.dim() > 1 for parameter in module.parameters())


def _keeps(entry: ModuleCall, class_of: NDArray[np.int64]) -> bool:
    """Return whether a call keeps shape and channels, and returns one tensor."""
    given, made = entry.given, entry.made
    if given is None or made is None or entry.structure is None or given.shape != made.shape:
        return False
    return _same_channels(given, made, class_of)


def _same_channels(given: Noted, made: Noted, class_of: NDArray[np.int64]) -> bool:
    if given.labels is None or made.labels is None:
        return False
    a, b = (class_of[compact(x.labels).numpy()] for x in (given, made) if x.labels is not None)
    a, b = np.broadcast_arrays(a, b)
    return bool(((a == b) | (a == class_of[NONE]) | (b == class_of[NONE])).all())


def _adds_its_input(entry: ModuleCall) -> bool:
    return entry.given is not None and entry.given.number in entry.adds


def _nones(entry: ModuleCall) -> int | None:
    return None if entry.structure == -1 else entry.structure


def _inside_any(path: str, others: set[str]) -> bool:
    return any(path.startswith(f"{other}.") for other in others if other != path)


def _holds_any(path: str, others: set[str]) -> bool:
    return any(other.startswith(f"{path}.") for other in others if other != path)
