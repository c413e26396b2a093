"""What is asked of the end of a search: its best, evaluated once more by a better evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, PositiveInt

from raynas.core.config import FINAL_TOP, Strict, validated
from raynas.core.errors import nearest

STANDALONE = "standalone"
FINAL = "final"  # folder in that of a run, and the algorithm of its rows
OWN = ("top", "seeds", "evaluator")


class FinalRequest(Strict):
    """The argument ``final`` of a search, read.

    Attributes:
        top: how many of the best.
        seeds: evaluations of each; None takes three, or one where each would give the same.
        evaluator: as for ``raynas.search``.
        options: of the evaluator, where it is a name.
    """

    top: PositiveInt = FINAL_TOP
    seeds: PositiveInt | None = None
    evaluator: Any = STANDALONE
    options: dict[str, Any] = Field(default_factory=dict)


def final_request(given: Any) -> FinalRequest | None:
    """Read what ``raynas.search`` takes as ``final``; None and 0 ask for nothing.

    >>> final_request(3), final_request(0)
    (FinalRequest(top=3, seeds=None, evaluator='standalone', options={}), None)
    >>> final_request({"top": 2, "epochs": 10}).options
    {'epochs': 10}

    Args:
        given: how many of the best; or a mapping with ``top``, ``seeds`` and ``evaluator``, and
            besides with options of the evaluator.

    Raises:
        ValueError: a number that is none, or options beside an evaluator that is no name.
        TypeError: neither a number nor a mapping.
    """
    if given is None or (given == 0 and type(given) is int):
        return None
    if isinstance(given, bool) or not isinstance(given, int | Mapping):
        raise TypeError(
            "final: expected how many of the best are evaluated again, such as 5, or a mapping "
            f"such as {{'top': 5, 'seeds': 3, 'epochs': 10}}, got {given!r}"
        )
    asked = dict(given) if isinstance(given, Mapping) else {"top": given}
    options = {name: asked.pop(name) for name in list(asked) if name not in OWN}
    if asked.get("evaluator") is None:
        asked["evaluator"] = STANDALONE
    try:
        request = validated(FinalRequest, asked | {"options": options})
    except ValueError as error:
        raise ValueError(f"final: {error}") from None
    if options and not isinstance(request.evaluator, str):
        raise ValueError(
            f"final: {min(options)!r} is an option of an evaluator that is named; "
            f"{nearest(min(options), OWN)}; or write it into the evaluator, as "
            "['table', {'path': ...}]"
        )
    return request
