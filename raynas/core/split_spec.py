"""The spellings of a plug-in with options, as configurations and calls have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def split_spec(spec: Any) -> tuple[Any, Any]:
    """Return the name and the options in a spec, neither of them checked.

    >>> split_spec("op"), split_spec(["op", {"k": 3}]), split_spec({"type": "op", "args": {"k": 3}})
    (('op', {}), ('op', {'k': 3}), ('op', {'k': 3}))

    Args:
        spec: a name, ``[name, {option: value}]``, or ``{"type": name, "args": {...}}``; anything
            else comes back in place of the name.
    """
    if isinstance(spec, list | tuple) and len(spec) == 2:
        return spec[0], spec[1]
    if isinstance(spec, Mapping) and {"type"} <= set(spec) <= {"type", "args"}:
        return spec["type"], spec.get("args", {})
    return spec, {}
