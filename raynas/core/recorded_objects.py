"""Classes and functions that a run's folder names as ``module:name``.

A folder may come from somebody else, so its names are not taken as freely as those that users type:
none leads to Python's own library, to a file that lies in a run's folder, or to what its module has
only imported; and what is read alone imports nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raynas.core.errors import nearest

RUN_FILES = ("run.json", "retrain.json")  # of a folder that is a run's


def recorded_object(path: str) -> Any:
    """Return the class or function behind ``module:name``, which a file names.

    Raises:
        LookupError: there is none, or it is none of a user's own; the message says why.
    """
    module, _, name = path.partition(":")
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise LookupError(f"{module} is of Python's own library, which no run's folder may call")
    if module not in sys.modules and (place := _run_around(module)) is not None:
        raise LookupError(f"{module} lies in {place}, a run's folder, from which no code is taken")
    try:
        named: Any = importlib.import_module(module)
    except ImportError as error:
        raise LookupError(f"{module} cannot be imported: {error}") from error
    except ValueError as error:  # an empty name
        raise LookupError(f"{path!r} names no module: {error}") from error
    for part in name.split("."):
        if not hasattr(named, part):
            raise LookupError(f"{module} has no {name!r}; {nearest(part, vars(named))}")
        named = getattr(named, part)
    if not (inspect.isclass(named) or inspect.isroutine(named)) or _home(named) != module:
        raise LookupError(f"{name!r} is no class or function of {module}'s own")
    return named


def is_installed(path: str) -> bool:
    """Return whether the module of a ``module:name`` was installed, as libraries are."""
    file = getattr(sys.modules.get(path.partition(":")[0]), "__file__", None)
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return file is not None and any(Path(file).is_relative_to(place) for place in places if place)


def is_loaded(path: str) -> bool:
    """Return whether ``module:name`` is of a user's own module that this process has loaded."""
    module = path.partition(":")[0]
    library = module.partition(".")[0] in sys.stdlib_module_names and module != "__main__"
    return module in sys.modules and not library and not is_installed(path)


def named_in(recorded: Any) -> Iterator[str]:
    """Yield what may be a ``module:name`` among the options that a file holds."""
    if isinstance(recorded, str):
        module, colon, name = recorded.partition(":")
        if colon and all(p.isidentifier() for p in (*module.split("."), name.partition(".")[0])):
            yield recorded
    elif isinstance(recorded, Mapping):
        for value in recorded.values():
            yield from named_in(value)
    elif isinstance(recorded, list | tuple):
        for value in recorded:
            yield from named_in(value)


def _home(named: Any) -> str | None:
    home: str | None = getattr(inspect.unwrap(named), "__module__", None)
    return home


def _run_around(module: str) -> Path | None:
    """Return the run's folder in which the file of a module lies that is not loaded yet."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])  # of no parent: runs no code
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    files = [spec.origin or "", *(spec.submodule_search_locations or ())]
    around = (
        place
        for file in map(Path, filter(None, files))
        for place in (file.absolute(), *file.absolute().parents)
    )
    return next((p for p in around if any((p / name).is_file() for name in RUN_FILES)), None)
