"""Names to plug-ins: one table per kind, filled by the files of one package."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from raynas.core.errors import UnknownName, nearest

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., object])


class Registry(Mapping[str, T], Generic[T]):
    """A read-only mapping that plug-ins join by a decorator.

    A look-up first imports the file of that name in ``package``, so that one sampler does not
    load every algorithm; only an unknown name or a listing imports them all.

    >>> toys: Registry[type] = Registry("toy")
    >>> @toys.register("ball")
    ... class Ball: ...
    >>> toys["bal"]
    Traceback (most recent call last):
        ...
    raynas.core.errors.UnknownName: no toy named 'bal'; did you mean 'ball'?
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._loaded = package is None

    def register(self, name: str) -> Callable[[C], C]:
        """Return a decorator that enters its class or function under ``name``.

        Raises:
            ValueError: the name is taken by another plug-in.
        """

        def add(entry: C) -> C:
            taken = self._entries.get(name)
            if taken is not None and _identity(taken) != _identity(entry):
                raise ValueError(f"{self.kind} {name!r} is already {taken!r}")
            self._entries[name] = entry  # type: ignore[assignment]
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            self._load_one(name)
        if name not in self._entries:
            self._load_all()
        if name not in self._entries:
            raise UnknownName(f"no {self.kind} named {name!r}; {nearest(name, self._entries)}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._load_all()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load_all()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load_all()
        return len(self._entries)

    def _load_one(self, name: str) -> None:
        if self._package is not None and name.isidentifier() and not name.startswith("_"):
            module = f"{self._package}.{name}"
            if importlib.util.find_spec(module) is not None:
                importlib.import_module(module)

    def _load_all(self) -> None:
        if not self._loaded and self._package is not None:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            self._loaded = True


def _identity(entry: object) -> tuple[object, object]:
    """Return where a plug-in is defined, so that reloading its module is no collision."""
    return getattr(entry, "__module__", None), getattr(entry, "__qualname__", id(entry))
