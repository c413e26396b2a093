"""Search spaces, one file each; a look-up by name imports the file of that name."""

if __name__ != "raynas.search_spaces":
    raise ImportError(f"import raynas.search_spaces, not {__name__}")

from typing import Any


def __getattr__(name: str) -> Any:
    """Return a space's class or builder by its name, as in ``search_spaces.MobileNetV2``."""
    from raynas.core.plugins import by_class_name

    return by_class_name(__name__, name)
