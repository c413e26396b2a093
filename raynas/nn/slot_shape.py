"""What a slot is told of its place: in raynas' words, ModularNAS', or as shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raynas.core.errors import InvalidSpace, nearest

Channels = int | Sequence[int]
Shape = Sequence[Any]
WORDS = {"_chn_in": "chn_in", "_chn_out": "chn_out", "_stride": "stride"}
SHAPES = ("in_shape", "out_shape")


def facts_of(
    chn_in: Any, chn_out: Any, stride: Any, info: dict[str, Any]
) -> tuple[Channels, Channels, int]:
    """Return input channels, output channels and stride of a slot.

    >>> facts_of(None, None, None, {"in_shape": (None, 16, 32), "out_shape": (None, 24, 16)})
    (16, 24, 2)

    Args:
        chn_in: channels; None if they are not said so.
        chn_out: likewise.
        stride: likewise.
        info: further facts; those that say the same in other words are taken out.

    Raises:
        InvalidSpace: the input's channels are not said, a fact is said twice, or a number is no
            positive whole one.
    """
    facts: dict[str, Any] = {"chn_in": chn_in, "chn_out": chn_out, "stride": stride}
    for word, name in WORDS.items():
        _say(facts, name, info.pop(word, None), word)
    shapes = {name: _triples(name, info.pop(name, None)) for name in SHAPES}
    for shape, name in (("in_shape", "chn_in"), ("out_shape", "chn_out")):
        channels = [triple[1] for triple in shapes[shape]]
        if None not in channels and channels:
            _say(facts, name, channels if len(channels) > 1 else channels[0], shape)
    if facts["stride"] is None:
        facts["stride"] = _stride_between(shapes["in_shape"], shapes["out_shape"])
    _refuse_slips(info)
    if facts["chn_in"] is None:
        raise InvalidSpace("slot: say the input's channels (chn_in, _chn_in or in_shape)")
    inputs = _checked("chn_in", facts["chn_in"])
    outputs = inputs if facts["chn_out"] is None else _checked("chn_out", facts["chn_out"])
    return inputs, outputs, _positive("stride", facts["stride"])


def _say(facts: dict[str, Any], name: str, value: Any, word: str) -> None:
    if value is None:
        return
    if facts[name] is not None and facts[name] != value:
        raise InvalidSpace(f"slot: {name} is {facts[name]!r}, and {word} says {value!r}")
    facts[name] = value


def _triples(name: str, shape: Any) -> list[Shape]:
    """Return shapes of (batch, channels, size): of several inputs a list, else one alone."""
    if shape is None:
        return []
    several = isinstance(shape, list | tuple) and bool(shape) and _is_shape(shape[0])
    shapes: list[Shape] = list(shape) if several else [shape]
    for triple in shapes:
        if not _is_shape(triple) or len(triple) < 2:
            raise InvalidSpace(
                f"slot: {name}: expected (batch, channels, size), with None for what is not known, "
                f"got {triple!r}"
            )
    return shapes


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list | tuple)


def _stride_between(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Return how many input pixels there are to an output pixel, 1 where sizes are not known."""
    ratios = set()
    for given, made in zip(inputs, outputs, strict=False):
        for before, after in zip(given[2:], made[2:], strict=False):
            if before is not None and after is not None:
                stride = -(-_positive("in_shape", before) // _positive("out_shape", after))
                if -(-before // stride) != after:
                    raise InvalidSpace(f"slot: no stride makes {after} pixels of {before}")
                ratios.add(stride)
    if len(ratios) > 1:
        raise InvalidSpace(f"slot: one stride for all directions, got {sorted(ratios)}")
    return ratios.pop() if ratios else 1


def _refuse_slips(info: dict[str, Any]) -> None:
    for name in info:
        if name.startswith("_"):
            raise InvalidSpace(f"slot: no fact is called {name!r}; {nearest(name, WORDS)}")


def _checked(what: str, channels: Any) -> Channels:
    if isinstance(channels, list | tuple) and channels:
        return [_positive(what, count) for count in channels]
    return _positive(what, channels)


def _positive(what: str, number: Any) -> int:
    if type(number) is not int or number < 1:
        raise InvalidSpace(f"slot: {what} must be a positive whole number, got {number!r}")
    return number
