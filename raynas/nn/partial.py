"""Partial channel connections: a choice acts on a share of its input's channels, the rest pass.

Xu et al., 2020, arXiv:1907.05737 (PC-DARTS), section 3.1.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest, call
from raynas.nn.choice import LayerChoice
from raynas.nn.inputs import InputChoice
from raynas.nn.mutable import Mutable, each_route, logits_of, name_labels
from raynas.nn.narrow import divided, narrowed

POOLS: dict[int, Callable[..., Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}


@dataclass(frozen=True)
class PartialChannels:
    """Runs something on the first channels, lets the others pass, and shuffles them all.

    Attributes:
        divisor: input channels per channel that is acted on.
        stride: input pixels per output pixel, by spatial dimension; what passes is max-pooled.
    """

    divisor: int
    stride: tuple[int, ...]

    def __call__(
        self, run: Callable[..., Tensor], x: Tensor, *rest: Any, **keywords: Any
    ) -> Tensor:
        """Return the output of all channels; those of every share alternate.

        Args:
            run: takes and gives the first share.
            x: shape (batch, channels, ...).
            rest: further inputs of ``run``.
            keywords: likewise.
        """
        share = x.shape[1] // self.divisor
        out = run(x[:, :share], *rest, **keywords)
        # Every choice acts on the first share: without a shuffle the same channels would pass
        # through the whole network untouched (section 3.1).
        return channel_shuffle([out, *self._passed(x[:, share:]).split(share, 1)])

    def _passed(self, x: Tensor) -> Tensor:
        if max(self.stride, default=1) == 1:
            return x
        # ceil_mode: operators give ceil(size / stride) pixels, and both are joined
        return POOLS[len(self.stride)](x, self.stride, self.stride, ceil_mode=True)

    def fixed(self, layer: nn.Module) -> nn.Module:
        """Return a plain module that does so with one layer."""
        return PartialEdge(layer, self)


class PartialEdge(nn.Module):
    """A layer that acts on the first channels while the others pass."""

    def __init__(self, layer: nn.Module, wrapper: PartialChannels) -> None:
        super().__init__()
        self.layer, self.wrapper = layer, wrapper

    def forward(self, x: Tensor, *rest: Any, **keywords: Any) -> Tensor:
        """Return the output of all channels."""
        return self.wrapper(self.layer, x, *rest, **keywords)

    def extra_repr(self) -> str:
        """Return how many channels pass."""
        return f"divisor={self.wrapper.divisor}, stride={self.wrapper.stride}"


def channel_shuffle(shares: Sequence[Tensor]) -> Tensor:
    """Return the first channel of every share, then the second of every share, and so on.

    That is to concatenate and to shuffle in as many groups, in one copy, and in the memory format
    of the first share.

    >>> channel_shuffle([torch.tensor([[1, 2]]), torch.tensor([[3, 4]])]).tolist()
    [[1, 3, 2, 4]]
    """
    first = shares[0]
    if first.dim() == 4 and first.is_contiguous(memory_format=torch.channels_last):
        return torch.stack([x.movedim(1, -1) for x in shares], -1).flatten(-2).movedim(-1, 1)
    return torch.stack(list(shares), 2).flatten(1, 2)


def make_partial(model: nn.Module, divisor: int, example: Nest) -> dict[str, str]:
    """Let the outermost choices that can be partial be so, and return why others cannot, by label.

    Their candidates are replaced by narrower ones; a choice inside of one becomes narrow with it
    and is not partial once more. A choice inside a candidate that stays may be partial itself.

    Args:
        model: without weights worth keeping.
        divisor: input channels per channel that a choice acts on.
        example: a batch of inputs, shape (batch, ...).

    Raises:
        InvalidSpace: a decision cannot be relaxed, or there are choices and none can be partial;
            the first label and its reason are named.
    """
    name_labels(model)
    logits_of(model)  # refuses what cannot be mixed
    calls = _calls(model, example)
    reasons: dict[str, str] = {}
    made = sum(_made_partial(model, divisor, calls, reasons, set()))
    if reasons and not made:
        label, reason = next(iter(reasons.items()))
        raise InvalidSpace(
            f"no choice of {type(model).__name__} can act on a part of its channels (partial="
            f"{divisor}); the first, {label!r}, cannot since {reason}"
        )
    return reasons


@dataclass(frozen=True)
class _Call:
    """One call of a choice: what it got, and the shape of what every candidate gave."""

    inputs: tuple[Any, ...]
    keywords: dict[str, Any]
    shapes: list[tuple[int, ...] | None]


Calls = dict[nn.Module, list[_Call]]


def _made_partial(
    module: nn.Module, divisor: int, calls: Calls, reasons: dict[str, str], seen: set[nn.Module]
) -> Iterator[int]:
    """Yield 1 for every choice that became partial."""
    if module in seen:
        return
    seen.add(module)
    if isinstance(module, LayerChoice):
        try:
            _connect(module, divisor, calls[module])
        except ValueError as reason:
            reasons.setdefault(str(module.label), str(reason))
        else:
            yield 1
            return
    for child in module.children():
        yield from _made_partial(child, divisor, calls, reasons, seen)


def _connect(choice: LayerChoice, divisor: int, calls: Sequence[_Call]) -> None:
    """Make one choice partial; raise ValueError, saying why, if it cannot be."""
    if not calls:
        raise ValueError("no pass reaches it")
    call = calls[0]
    x, *rest = call.inputs if call.inputs else (None,)
    shape, out = _shape(x), call.shapes[0]
    if any((_shape(c.inputs[0]), c.shapes) != (shape, call.shapes) for c in calls[1:]):
        raise ValueError("it is called with inputs of several shapes")
    if shape is None or out is None or min(len(shape), len(out)) < 2:
        raise ValueError("it does not map (batch, channels, ...) to (batch, channels, ...)")
    for name, other in zip(choice.names, call.shapes, strict=True):
        if other is None or other[:2] != shape[:2]:
            raise ValueError(f"candidate {name!r} makes {other} of {shape}: the channels change")
        if other != out:
            raise ValueError(f"candidates {choice.names[0]!r} and {name!r} give different shapes")
    # What passes is pooled to the size of what the candidates make, which alone tells the stride.
    wrapper = PartialChannels(divisor, _stride(shape, out))
    share = x[:, : divided(shape[1], divisor)]
    expected = (shape[0], share.shape[1], *out[2:])
    thin = {
        name: _tried(name, layer, divisor, (share, *rest), call.keywords, expected)
        for name, layer in zip(choice.names, choice.layers(), strict=True)
    }
    choice.candidates, choice.wrapper = nn.ModuleDict(thin), wrapper


def _stride(given: Sequence[int], made: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of the pool that gives such an output, by spatial dimension."""
    spatial = list(zip(given[2:], made[2:], strict=False))
    stride = tuple(math.ceil(before / max(after, 1)) for before, after in spatial)
    kept = all(math.ceil(n / s) == m for (n, m), s in zip(spatial, stride, strict=True))
    if len(given) != len(made) or not kept or (max(stride, default=1) > 1 and len(stride) > 3):
        raise ValueError(f"no pool makes a size of {tuple(made[2:])} of {tuple(given[2:])}")
    return stride


def _tried(
    name: str,
    layer: nn.Module,
    divisor: int,
    inputs: tuple[Any, ...],
    keywords: dict[str, Any],
    expected: tuple[int, ...],
) -> nn.Module:
    """Return a narrower candidate that gives what is expected of it."""
    try:
        thin = narrowed(layer, divisor)
    except ValueError as reason:
        raise ValueError(f"candidate {name!r} cannot be narrower: {reason}") from None
    try:
        with _running_all(thin, _all):
            came = _shape(thin(*inputs, **keywords))
    except Exception as error:  # of whatever a candidate that is not ours raises
        raise ValueError(
            f"candidate {name!r} does not run on {inputs[0].shape[1]} channels: {error}"
        ) from error
    if came != expected:
        raise ValueError(f"candidate {name!r}, made narrower, gives {came}, expected {expected}")
    return thin


def _calls(model: nn.Module, example: Nest) -> Calls:
    """Run an example through all candidates of all choices."""
    calls: Calls = defaultdict(list)

    def record(
        choice: LayerChoice, layers: Sequence[nn.Module], *inputs: Any, **keywords: Any
    ) -> Any:
        outputs = [layer(*inputs, **keywords) for layer in layers]
        calls[choice].append(_Call(inputs, keywords, [_shape(out) for out in outputs]))
        return outputs[0]

    with _running_all(model, record):
        call(model, example)
    return calls


def _all(_: LayerChoice, layers: Sequence[nn.Module], *inputs: Any, **keywords: Any) -> Any:
    outputs = [layer(*inputs, **keywords) for layer in layers]
    return outputs[0]


@contextmanager
def _running_all(model: nn.Module, route: Callable[..., Any]) -> Iterator[None]:
    """Let passes run all candidates, and leave no trace in statistics, modes or routes."""

    def routed(mutable: Mutable) -> Any:
        if isinstance(mutable, InputChoice):
            return tuple(range(mutable.n_chosen or mutable.n_candidates))
        return partial(route, mutable) if isinstance(mutable, LayerChoice) else mutable.route

    # In eval mode no BatchNorm counts the example. Modes are put back one by one: train() would
    # wake layers that the user keeps in eval.
    modes = [(module, module.training) for module in model.modules()]
    restore = each_route(model, routed)
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        restore()
        for module, mode in modes:
            module.training = mode


def _shape(x: Any) -> tuple[int, ...] | None:
    return tuple(x.shape) if isinstance(x, Tensor) else None
