"""What a user asks to be elastic, and which options that means for an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

DEFAULT_RATIOS = (0.5, 0.75, 1.0)  # what True means


@dataclass(frozen=True)
class Request:
    """What may become smaller.

    Attributes:
        ratios: by kind of axis, the shares of its units that may stay; a kind that is not there
            is fixed.
        kernels: sizes that kernels may have beside their own.
        depth: whether layers may be left out.
        only: patterns of module paths outside of which all stays fixed; none is everywhere.
        skip: patterns of module paths that stay fixed.
    """

    ratios: dict[str, tuple[float, ...]]
    kernels: tuple[int, ...] = ()
    depth: bool = False
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def allows(self, paths: Iterable[str]) -> bool:
        """Return whether modules of these paths may all change."""
        paths = list(paths)
        inside = not self.only or all(_matches(path, self.only) for path in paths)
        return inside and not any(_matches(path, self.skip) for path in paths)


def read_request(
    *,
    width: Any = None,
    heads: Any = None,
    ffn: Any = None,
    kernel: Any = None,
    depth: Any = False,
    only: Any = None,
    skip: Any = None,
) -> Request:
    """Return what is asked for, checked; arguments as of ``raynas.elastic``.

    Raises:
        ValueError: nothing is asked for, or something in a form that means nothing.
    """
    given = {"width": width, "heads": heads, "ffn": ffn}
    if ffn is None:
        given["ffn"] = width
    ratios = {
        kind: _ratios(kind, value) for kind, value in given.items() if value not in (None, False)
    }
    if type(depth) is not bool:
        raise ValueError(f"depth: expected True or False, got {depth!r}")
    request = Request(
        ratios, _kernels(kernel), depth, _patterns("only", only), _patterns("skip", skip)
    )
    if not (request.ratios or request.kernels or request.depth):
        raise ValueError(
            "nothing is elastic: give width=, heads= or ffn= ratios such as [0.5, 1.0], kernel= "
            "sizes such as [3, 5], or depth=True"
        )
    return request


def _ratios(kind: str, value: Any) -> tuple[float, ...]:
    if value is True:
        return DEFAULT_RATIOS
    listed = list(value) if isinstance(value, list | tuple | set) else [value]
    for ratio in listed:
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
            raise ValueError(
                f"{kind}: expected shares above 0 and up to 1 such as [0.5, 0.75, 1.0], or True, "
                f"got {ratio!r}"
            )
    if not listed:
        raise ValueError(f"{kind}: expected at least one share such as 0.5, got none")
    return tuple(sorted({float(ratio) for ratio in listed} | {1.0}))


def _kernels(value: Any) -> tuple[int, ...]:
    if value is None or value is False:
        return ()
    listed = list(value) if isinstance(value, list | tuple | set) else [value]
    for size in listed:
        if type(size) is not int or size < 1 or size % 2 == 0:
            raise ValueError(f"kernel: expected odd sizes such as [3, 5], got {size!r}")
    return tuple(sorted(set(listed)))


def _patterns(name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    listed = [value] if isinstance(value, str) else list(value)
    for pattern in listed:
        if not isinstance(pattern, str) or not pattern:
            raise ValueError(
                f"{name}: expected patterns of module paths such as 'layer4*', got {pattern!r}"
            )
    return tuple(listed)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, p) or path.startswith(f"{p}.") for p in patterns)


def unit_options(units: int, ratios: Iterable[float]) -> tuple[int, ...]:
    """Return how many units may stay, the largest first.

    >>> unit_options(6, [0.1, 0.5, 0.75, 1.0])
    (6, 5, 3, 1)
    """
    counts = {max(1, int(units * ratio + 0.5)) for ratio in ratios} | {units}
    return tuple(sorted(counts, reverse=True))
