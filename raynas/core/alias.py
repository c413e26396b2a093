"""What a plug-in's options are when it is called by another name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

Word = str | Callable[[Any], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Alias:
    """Options that an alias presets, and names that it has for options.

    >>> optim = Alias(presets={"population": 100}, words={"pop_size": "population"})
    >>> optim.options({}), optim.options({"pop_size": 20})
    ({'population': 100}, {'population': 20})
    >>> bred = Alias(presets={"selected": 10}, at_most={"selected": "population"})
    >>> bred.options({"population": 4}), bred.options({"population": 4, "selected": 5})
    ({'selected': 4, 'population': 4}, {'selected': 5, 'population': 4})

    Attributes:
        presets: options that hold unless others are said.
        words: names of options under this alias: the plug-in's own name of each, or a function of
            its value that returns options of the plug-in.
        at_most: presets that are lowered to another option where that is smaller, in order.
    """

    presets: Mapping[str, Any] = field(default_factory=dict)
    words: Mapping[str, Word] = field(default_factory=dict)
    at_most: Mapping[str, str] = field(default_factory=dict)

    def options(self, given: Mapping[str, Any], keep: Collection[str] = ()) -> dict[str, Any]:
        """Return the plug-in's options that options under this alias stand for.

        Args:
            given: by the alias' words or by the plug-in's own.
            keep: words that are no option's name here, whatever the alias says.

        Raises:
            ValueError: an option is said twice, or a value has no counterpart.
        """
        said: dict[str, Any] = {}
        for key, value in given.items():
            word = key if key in keep else self.words.get(key, key)
            meant = {word: value} if isinstance(word, str) else word(value)
            for name, option in meant.items():
                if name in said:
                    raise ValueError(f"{name} is said twice, also as {key}: leave one of them out")
                said[name] = option
        return {**self._lowered(said), **said}

    def _lowered(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """Return the presets, none above the option that bounds it."""
        presets = dict(self.presets)
        for name, bound in self.at_most.items():
            most = said.get(bound, presets.get(bound))
            if name in presets and isinstance(most, int):
                presets[name] = min(presets[name], most)
        return presets

    def told(self) -> str:
        """Return the presets as text, empty if there are none."""
        bounds = {name: f" (at most {bound})" for name, bound in self.at_most.items()}
        return ", ".join(
            f"{name} = {value!r}{bounds.get(name, '')}" for name, value in self.presets.items()
        )


def only(word: str, value: Any, why: str) -> Callable[[Any], Mapping[str, Any]]:
    """Return the meaning of an option that has one value here.

    Args:
        word: its name.
        value: that it may have.
        why: there is no other.
    """

    def meaning(given: Any) -> Mapping[str, Any]:
        if given != value:
            raise ValueError(f"{word}: expected {value!r}, got {given!r}; {why}")
        return {}

    return meaning
