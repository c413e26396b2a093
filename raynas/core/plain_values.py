"""Values as JSON gives them back: of Python's own types, lists as tuples."""

from __future__ import annotations

from typing import Any

import numpy as np

SCALARS = frozenset({str, int, float, bool})


def plain_value(value: Any) -> Any:
    """Return a value of NumPy as Python's, and lists and arrays as tuples, however deep.

    What is of another kind comes back as it is.

    >>> plain_value(np.int64(3)), plain_value([3, np.float32(0.5)]), plain_value(None)
    (3, (3, 0.5), None)
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return plain_value(value.tolist())
    if type(value) in (list, tuple):
        return tuple(map(plain_value, value))
    return value


def as_lists(value: Any) -> Any:
    """Return a value as JSON has it, tuples as lists.

    >>> as_lists(("a", (1, None))), as_lists(3)
    (['a', [1, None]], 3)
    """
    return list(map(as_lists, value)) if isinstance(value, tuple) else value


def typed(value: Any) -> tuple[type, Any]:
    """Return a key that tells True from 1, and 1 from 1.0, in tuples as well.

    Raises:
        TypeError: what is hashed later holds a list or a dict.
    """
    if type(value) is tuple:
        return tuple, tuple(map(typed, value))
    return type(value), value
