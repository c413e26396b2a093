"""Keywords of a trainer, which are checked before Python counts what is missing."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, ClassVar, Self

from raynas.core.errors import nearest


class KeywordsChecked:
    """Its subclasses name a keyword that they do not take, and the nearest that they do.

    Attributes:
        more_keywords: what a class takes besides the parameters that it lists.

    Raises:
        TypeError: a keyword that is none.
    """

    more_keywords: ClassVar[Iterable[str]] = ()

    def __new__(cls, *_args: Any, **keywords: Any) -> Self:
        """Check the names; ``__init__`` has the signature."""
        taken = keyword_names(cls)
        for name in keywords:
            if name not in taken:
                raise TypeError(f"{cls.__name__} has no argument {name!r}; {nearest(name, taken)}")
        return super().__new__(cls)


def keyword_names(kind: type[KeywordsChecked]) -> list[str]:
    """Return the keywords of a class; where it hands on all others, those of its bases too."""
    names = list[str]()
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = [*inspect.signature(vars(base)["__init__"]).parameters.values()][1:]
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
        names += kind.more_keywords
    return [*dict.fromkeys(names)]
