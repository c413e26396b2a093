"""Search algorithms, one file each; a look-up by name imports the file of that name."""

if __name__ != "raynas.algorithms":
    raise ImportError(f"import raynas.algorithms, not {__name__}")

from typing import Any


def __getattr__(name: str) -> Any:
    """Return a registered algorithm's class by its class name, as in ``algorithms.SPOS``."""
    from raynas.core.plugins import by_class_name

    return by_class_name(__name__, name)
