"""Ways to score an architecture, one file each; a look-up by name imports the file of that name."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Return a registered evaluator's class by its class name, as in ``evaluators.Standalone``."""
    from raynas.core.plugins import by_class_name

    return by_class_name(__name__, name)
