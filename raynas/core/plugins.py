"""Finding a plug-in by its class name, for ``raynas.algorithms.SPOS`` and the like."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from raynas.core.errors import nearest


def by_class_name(package: str, name: str) -> object:
    """Return the public class or function ``name`` of one of the package's files.

    Raises:
        AttributeError: no file defines it; the message names the nearest that one does.
    """
    known: dict[str, object] = {}
    if not name.startswith("_"):
        for module in _files(package):
            known |= {k: v for k, v in vars(module).items() if _is_own(module.__name__, k, v)}
    if name not in known:
        raise AttributeError(f"{package} has no {name!r}; {nearest(name, known)}")
    return known[name]


def _files(package: str) -> list[ModuleType]:
    path = importlib.import_module(package).__path__
    return [
        importlib.import_module(f"{package}.{file.name}") for file in pkgutil.iter_modules(path)
    ]


def _is_own(module: str, name: str, value: object) -> bool:
    return not name.startswith("_") and getattr(value, "__module__", None) == module
