"""Names to plug-ins: one table per kind, filled by files, decorators and other distributions."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar, cast, get_type_hints, overload

from raynas.core.alias import Alias
from raynas.core.capabilities import refuse_misspelt
from raynas.core.errors import UnknownName, nearest
from raynas.core.options import checked
from raynas.core.split_spec import split_spec

T = TypeVar("T")
Aliases = Sequence[str] | Mapping[str, Alias]
C = TypeVar("C", bound=Callable[..., object])


class Registry(Mapping[str, T], Generic[T]):
    """A read-only mapping that plug-ins join by a decorator, a call or an entry point.

    A name is found as it is written, else without regard to case, ``-``, ``_`` and blanks, and
    under its aliases too; a listing holds true names only. A look-up loads as little as it can:
    the file of that name in ``package``, then an entry point of that name, and only for an alias
    or an unknown name all of them.

    >>> toys: Registry[type] = Registry("toy")
    >>> @toys.register("ball", aliases=("Round Thing",))
    ... class Ball: ...
    >>> toys["BALL"] is toys["round_thing"] is Ball, toys.name_of("RoundThing"), list(toys)
    (True, 'ball', ['ball'])
    >>> toys["bal"]
    Traceback (most recent call last):
        ...
    raynas.core.errors.UnknownName: no toy named 'bal'; did you mean 'ball'?

    Args:
        kind: what messages call a plug-in.
        package: whose files hold plug-ins, if there is one.
        group: of entry points, by which other distributions add theirs.
        base: class of what all plug-ins make, if they share one: a registered class must be a
            subclass, and what a registered function returns an instance.
    """

    def __init__(
        self,
        kind: str,
        package: str | None = None,
        *,
        group: str | None = None,
        base: type | None = None,
    ) -> None:
        self.kind = kind
        self.group = group
        self.base = base
        self._package = package
        self._entries: dict[str, T] = {}
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._names: dict[str, str] = {}  # normalised name or alias to true name
        self._meanings: dict[str, Alias] = {}  # of normalised aliases that change options
        self._files_loaded = package is None
        self._waiting: list[EntryPoint] | None = None  # None: nobody has asked for them yet
        self._broken: dict[str, str] = {}  # normalised name to what is wrong
        self._warned: set[str] = set()

    @overload
    def register(self, name: str, *, aliases: Aliases = ()) -> Callable[[C], C]: ...

    @overload
    def register(self, name: str, entry: C, *, aliases: Aliases = ()) -> C: ...

    def register(
        self, name: str, entry: C | None = None, *, aliases: Aliases = ()
    ) -> C | Callable[[C], C]:
        """Enter a class or function under ``name``, or return a decorator that does.

        Args:
            name: its one true name.
            entry: the plug-in; None returns the decorator.
            aliases: other names that find it; a mapping says what options mean under each.

        Raises:
            ValueError: a name or alias that another plug-in has, be it in another spelling; the
                same definition may be registered again.
            TypeError: the plug-in cannot be called, or is a class of another base.
        """
        if isinstance(aliases, str):
            raise TypeError(f"{self.kind} {name!r}: aliases is a tuple of names, got {aliases!r}")
        if entry is None:
            return lambda made: self._add(name, made, aliases)
        return self._add(name, entry, aliases)

    def _add(self, name: str, entry: C, aliases: Aliases) -> C:
        if self._package is not None and not _home(entry).startswith(f"{self._package}."):
            self._load_files(normalised(name))  # so that a collision is told here and now
        if not callable(entry):
            raise TypeError(f"{self.kind} {name!r}: expected a class or function, got {entry!r}")
        inner = _inner(entry)
        if self.base is not None and inspect.isclass(inner) and not issubclass(inner, self.base):
            raise TypeError(
                f"{self.kind} {name!r}: expected a subclass of {_path(self.base)}, got "
                f"{_path(inner)}: write class {inner.__name__}({self.base.__name__})"
            )
        taken = self._entries.get(name)
        if taken is not None and _identity(taken) != _identity(entry):
            raise ValueError(f"{self.kind} {name!r} is already {taken!r}")
        for word in (name, *aliases):
            self._check_free(word, name)
        self._entries[name] = entry  # type: ignore[assignment]
        self._aliases[name] = tuple(dict.fromkeys((*self._aliases.get(name, ()), *aliases)))
        self._names |= {normalised(word): name for word in (name, *aliases)}
        if isinstance(aliases, Mapping):
            self._meanings |= {normalised(word): alias for word, alias in aliases.items()}
        return entry

    def _check_free(self, word: str, name: str) -> None:
        if not isinstance(word, str) or not normalised(word):
            raise ValueError(f"a {self.kind}'s name has a letter or digit, got {word!r}")
        owner = self._names.get(normalised(word), name)
        if owner == name:
            return
        known = (owner, *self._aliases[owner])
        same = next(other for other in known if normalised(other) == normalised(word))
        role = "" if same == owner else f", an alias of {owner!r}"
        own = "" if word == name else f", an alias of {name!r},"
        raise ValueError(f"{self.kind} {word!r}{own} collides with {same!r}{role}")

    def name_of(self, alias: str) -> str:
        """Return the true name behind a name, an alias, or another spelling of either.

        Raises:
            TypeError: the name is no text.
            UnknownName: there is none; the nearest is named.
            ImportError: an entry point offers it and cannot be loaded.
        """
        if not isinstance(alias, str):
            raise TypeError(f"{self.kind}: expected a registered name, got {alias!r}")
        found = self._find(alias)
        if found is not None:
            return found
        if normalised(alias) in self._broken:
            raise ImportError(self._broken[normalised(alias)])
        aliases = (word for known in self._aliases.values() for word in known)
        hint = nearest_spelling(alias, self._entries, aliases)
        raise UnknownName(f"no {self.kind} named {alias!r}; {hint}")

    def aliases_of(self, name: str) -> tuple[str, ...]:
        """Return the aliases of a plug-in, in the order they were given."""
        return self._aliases[self.name_of(name)]

    def alias_of(self, name: str) -> Alias:
        """Return what options mean under a name; under most, what they mean to the plug-in."""
        self.name_of(name)
        return self._meanings.get(normalised(name), Alias())

    def options_under(
        self, name: str, options: Mapping[str, Any], *, keep: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return the plug-in's options that options under a name or alias stand for.

        >>> toys: Registry[type] = Registry("toy")
        >>> _ = toys.register("number", complex, aliases={"unit": Alias(presets={"real": 1})})
        >>> toys.options_under("unit", {"imag": 2}), toys.options_under("number", {})
        ({'real': 1, 'imag': 2}, {})

        Args:
            name: or alias.
            options: said under it.
            keep: words that mean nothing of the alias' (see ``Alias.options``).

        Raises:
            UnknownName: there is no such plug-in.
            ValueError: an option is said twice, or has a value that the plug-in has nothing like.
        """
        try:
            return self.alias_of(name).options(options, keep)
        except ValueError as error:
            raise ValueError(f"{self.kind} {name!r}: {error}") from None

    def get_builder(self, name: str) -> T:
        """Return ``registry[name]``; under an alias that presets options, with these set."""
        alias = self.alias_of(name)
        if alias == Alias():
            return self[name]

        def builder(*args: Any, **options: Any) -> Any:
            return self.make(self.name_of(name), *args, **self.options_under(name, options))

        return cast(T, builder)

    def class_of(self, name: str) -> type:
        """Return the class of what a plug-in makes.

        A function's is the one that its annotation promises, else the registry's base.

        Raises:
            UnknownName: there is no such plug-in.
        """
        inner = _inner(self[name])
        base = object if self.base is None else self.base
        made = inner if inspect.isclass(inner) else get_type_hints(inner).get("return")
        return made if inspect.isclass(made) and issubclass(made, base) else base

    def make(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a plug-in, and return what it makes.

        Raises:
            UnknownName: there is no such plug-in.
            TypeError: what it makes is no instance of the registry's base, or has an attribute that
                is a slip of one that the base declares.
        """
        builder: Any = self[name]
        made = builder(*args, **kwargs)
        if self.base is None:
            return made
        if not isinstance(made, self.base):
            raise TypeError(
                f"{self.kind} {name!r}: expected it to make an instance of {_path(self.base)}, got "
                f"{made!r}"
            )
        refuse_misspelt(type(made).__name__, vars(made), self.base)
        return made

    def build(self, spec: object, /, *args: Any, **kwargs: Any) -> Any:
        """Call the plug-in that ``spec`` names.

        >>> kinds: Registry[type] = Registry("kind")
        >>> _ = kinds.register("number", complex)
        >>> kinds.build(["number", {"imag": 2}], real=1, imag=0)
        (1+2j)

        Args:
            spec: a name, ``[name, {option: value}]``, or ``{"type": name, "args": {...}}``.
            args: handed to the plug-in as they are.
            kwargs: options; the spec's own override them.

        Raises:
            UnknownName: the spec names no plug-in.
            TypeError: the spec is none of these, or an argument is missing.
            ValueError: an option that the plug-in does not have, or of another type.
        """
        name, options = self.resolved(spec, **kwargs)
        builder: Any = self._entries[name]
        try:
            inspect.signature(builder).bind(*args, **options)
        except TypeError as error:
            raise TypeError(f"{self.kind} {name!r}: {error}") from None
        return self.make(name, *args, **options)

    def resolved(self, spec: object, /, **kwargs: Any) -> tuple[str, dict[str, Any]]:
        """Return the true name and the checked options in a spec, as ``build`` reads it.

        Those that an alias presets are among them.
        """
        given, own = self._parsed(spec)
        name = self.name_of(given)
        options = self.options_under(given, {**kwargs, **own})
        return name, self._fitted(name, self._entries[name], options)

    def _parsed(self, spec: object) -> tuple[str, Mapping[str, Any]]:
        name, own = split_spec(spec)
        options = isinstance(own, Mapping) and all(isinstance(key, str) for key in own)
        if not isinstance(name, str) or not options:
            raise TypeError(
                f"{self.kind}: expected a name, [name, {{option: value}}] or "
                f'{{"type": name, "args": {{option: value}}}}, got {spec!r}'
            )
        return name, own

    def _fitted(self, name: str, builder: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        parameters = inspect.signature(builder).parameters.values()
        plain = {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
        known = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
        for key in options:
            if not open_ended and key not in plain | known:
                hint = nearest(key, plain | known)
                raise ValueError(f"{self.kind} {name!r} has no option {key!r}; {hint}")
        typed = {key: value for key, value in options.items() if key in known}
        return {**options, **(checked(self.kind, name, builder, typed) if typed else {})}

    def __getitem__(self, name: str) -> T:
        return self._entries[self.name_of(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        self._load_files()
        self._load_entry_points()
        self._warn()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _find(self, name: str) -> str | None:
        """Return the true name, after loading no more than it takes to know it."""
        key = normalised(name)
        if key not in self._names:
            self._load_files(key)
        if key not in self._names:
            self._load_entry_points(key)
        if key not in self._names:
            self._load_files()
        if key not in self._names and key not in self._broken:
            self._load_entry_points()
            self._warn()
        return self._names.get(key)

    def _load_files(self, key: str | None = None) -> None:
        """Import the package's files, or only those whose names are normalised to ``key``."""
        if self._files_loaded or self._package is None:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            if key is None or normalised(module.name) == key:
                importlib.import_module(f"{self._package}.{module.name}")
        self._files_loaded = key is None

    def _load_entry_points(self, key: str | None = None) -> None:
        """Load the group's entry points, or only those of one normalised name, each once."""
        if self._waiting is None:
            self._waiting = [] if self.group is None else list(entry_points(group=self.group))
        chosen = [p for p in self._waiting if key is None or normalised(p.name) == key]
        self._waiting = [p for p in self._waiting if p not in chosen]
        for point in chosen:
            try:
                self._take(point)
            except Exception as error:  # somebody else's code: whatever it raises is told
                self._broken[normalised(point.name)] = self._blame(point, error)

    def _warn(self) -> None:
        for key in [key for key in self._broken if key not in self._warned]:
            self._warned.add(key)
            warnings.warn(self._broken[key], RuntimeWarning, stacklevel=3)

    def _take(self, point: EntryPoint) -> None:
        """Register what an entry point holds: a plug-in, or a module that registers it."""
        loaded = point.load()
        key = normalised(point.name)
        if isinstance(loaded, ModuleType):
            if key not in self._names:
                raise LookupError(f"module {loaded.__name__} registers no {point.name!r}")
        elif not callable(loaded):
            raise TypeError(f"expected a class, function or module, got {loaded!r}")
        elif key not in self._names or self._entries[self._names[key]] is not loaded:
            self.register(point.name, loaded)

    def _blame(self, point: EntryPoint, error: Exception) -> str:
        owner = "an unnamed distribution" if point.dist is None else point.dist.name
        return (
            f"{self.kind} {point.name!r} cannot be loaded: entry point '{point.name} = "
            f"{point.value}' (group {point.group}) of {owner}: {type(error).__name__}: {error}"
        )


def normalised(name: str) -> str:
    """Return a name by which spellings are compared.

    >>> normalised("CIFAR_MobileNet-V2 GPU")
    'cifarmobilenetv2gpu'
    """
    return re.sub(r"[-_\s]", "", name.lower())


def nearest_spelling(word: str, names: Iterable[str], aliases: Iterable[str] = ()) -> str:
    """Return a hint that names the nearest name or alias in any spelling, or all the names.

    >>> nearest_spelling("DartOptim", ["sgas", "darts"], ["DARTSOptim"])
    "did you mean 'DARTSOptim'?"
    """
    names = list(names)
    words = {normalised(known): known for known in (*aliases, *names)}
    close = get_close_matches(normalised(word), words, n=1)
    return f"did you mean {words[close[0]]!r}?" if close else nearest(word, names)


def _identity(entry: object) -> tuple[object, ...]:
    """Return where a plug-in is defined, so that reloading its module is no collision."""
    if isinstance(entry, partial):
        return (*_identity(entry.func), repr(entry.args), repr(entry.keywords))
    name = getattr(entry, "__qualname__", "<lambda>")
    if "<lambda>" in name:  # any two of a module have this name
        return (id(entry),)
    return _home(entry), name


def _home(entry: object) -> str:
    """Return the module that defines a plug-in."""
    return str(getattr(_inner(entry), "__module__", None))


def _inner(entry: object) -> Any:
    """Return the class or function of a plug-in."""
    return _inner(entry.func) if isinstance(entry, partial) else entry


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
