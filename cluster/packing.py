"""Pickling what workers are sent, and naming what cannot be."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ray

from raynas.evaluators.spec import EvaluatorSpec

DEEPEST = 20  # steps down to what is named
FIELDS = {"function": "the evaluator", "evaluator": "the evaluator", "data": "the data"} | {
    name: "the model space" for name in ("model_space", "supernet_space")
}


def packed(spec: EvaluatorSpec) -> bytes:
    """Return an evaluator without its weights, pickled.

    Raises:
        TypeError: something in it cannot be pickled; what holds it is named.
    """
    bare = replace(spec, weights=None)
    try:
        return ray.cloudpickle.dumps(bare)  # type: ignore[no-any-return]
    except Exception as error:  # what cannot be pickled says so with any
        part, path, kind = _culprit(bare.make)
        held = f"it holds a {kind} as {'.'.join(path)!r}" if path else str(error)
        raise TypeError(
            f"{part} cannot be sent to workers: {held}, which cannot be pickled; make it where it "
            "is used, or evaluate in this process (ray={'inline': True})"
        ) from error


def _culprit(make: object) -> tuple[str, list[str], str]:
    """Return which part of an evaluator it is, the names on the way to it, and its type."""
    part, path, value, seen = "the evaluator", list[str](), make, {id(make)}
    for _ in range(DEEPEST):
        inner = ((name, v) for name, v in _held(value) if id(v) not in seen and not _pickles(v))
        ours = type(value).__module__.startswith("raynas.evaluators.")
        name, value = next(inner, ("", value))
        if not name:
            break
        seen.add(id(value))
        if ours and name in FIELDS:
            part, path = FIELDS[name], []
        else:
            path.append(name)
    kind = type(value)
    return part, path, f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _held(value: object) -> list[tuple[str, Any]]:
    """Return what a value holds, by names that its author knows."""
    if inspect.ismethod(value):
        return [("self", value.__self__)]
    if inspect.isfunction(value):
        variables = inspect.getclosurevars(value)
        return [*variables.nonlocals.items(), *variables.globals.items()]
    if isinstance(value, Mapping):
        return [(str(key), entry) for key, entry in value.items()]
    if isinstance(value, list | tuple | set):
        return [(str(number), entry) for number, entry in enumerate(value)]
    return list(getattr(value, "__dict__", {}).items())


def _pickles(value: object) -> bool:
    try:
        ray.cloudpickle.dumps(value)
    except Exception:  # as above
        return False
    return True
