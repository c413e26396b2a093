"""Searches in the test's own process, for laws that do not depend on Ray."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from raynas.core.config import RayConfig

INLINE = RayConfig(inline=True, cpus_per_train_worker=1)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes ``ray``, and stays in this process where none is said."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs | {"ray": kwargs.get("ray") or INLINE})

    return call
