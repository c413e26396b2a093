"""One architecture: an immutable mapping from label to chosen value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, TypeAlias

from raynas.core.errors import InvalidArch
from raynas.core.plain_values import plain_value

Atom: TypeAlias = str | int | float | bool | tuple[Any, ...] | None
Value: TypeAlias = Atom | tuple[Atom, ...]


class Arch(Mapping[str, Value]):
    """The value taken at every decision that was reached.

    >>> arch = Arch({"op": "conv3", "depth": 2})
    >>> arch["op"], Arch.from_json(arch.to_json()) == arch, len({arch, Arch(dict(arch))})
    ('conv3', True, 1)
    >>> arch.key
    '55327d8bf662197b'
    """

    __slots__ = ("_decisions", "_key", "_text")

    def __init__(self, decisions: Mapping[str, Value]) -> None:
        self._decisions = dict(decisions)
        self._text: str | None = None
        self._key: str | None = None

    def __getitem__(self, label: str) -> Value:
        return self._decisions[label]

    def __contains__(self, label: object) -> bool:
        return label in self._decisions

    def __or__(self, others: Mapping[str, Value]) -> dict[str, Value]:
        """Return the decisions with the values of ``others`` in place of its own."""
        return self._decisions | dict(others)

    # the dictionary's own are several times as fast as the mixin's

    def get(self, label: str, default: Any = None) -> Any:
        """Return the value at a label, or ``default`` if it is not reached."""
        return self._decisions.get(label, default)

    def keys(self) -> KeysView[str]:
        """Return the labels that are reached."""
        return self._decisions.keys()

    def values(self) -> ValuesView[Value]:
        """Return what was taken at each."""
        return self._decisions.values()

    def items(self) -> ItemsView[str, Value]:
        """Return the labels and what was taken at each."""
        return self._decisions.items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._decisions)

    def __len__(self) -> int:
        return len(self._decisions)

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Arch):
            return self.to_json() == other.to_json()
        return isinstance(other, Mapping) and self._decisions == dict(other)

    def __repr__(self) -> str:
        return f"Arch({self._decisions!r})"

    def __getstate__(self) -> dict[str, Value]:
        return self._decisions

    def __setstate__(self, state: dict[str, Value]) -> None:
        self.__init__(state)  # type: ignore[misc]

    def at(self, labels: Iterable[str]) -> list[Value | None]:
        """Return the values at labels, None at those that are not reached.

        None may be an option as well: where it is one, ``label in arch`` tells.
        """
        return list(map(self._decisions.get, labels))

    def to_json(self) -> str:
        """Return the canonical JSON: sorted labels, no blanks, tuples as lists."""
        if self._text is None:
            self._text = json.dumps(self._decisions, sort_keys=True, separators=(",", ":"))
        return self._text

    @classmethod
    def from_json(cls, text: str) -> Arch:
        """Read what ``to_json`` wrote.

        Raises:
            InvalidArch: the text is not a JSON object of labels and plain values.
        """
        try:
            decisions: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise InvalidArch(f"expected a JSON object from label to value: {error}") from None
        if not isinstance(decisions, dict):
            kind = type(decisions).__name__
            raise InvalidArch(f"expected a JSON object from label to value, got a {kind}")
        return cls({k: plain_value(v) if type(v) is list else v for k, v in decisions.items()})

    @property
    def key(self) -> str:
        """Sixteen hex digits of the canonical JSON's sha256: equal in every process."""
        if self._key is None:
            self._key = hashlib.sha256(self.to_json().encode()).hexdigest()[:16]
        return self._key
