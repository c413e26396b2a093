"""Layers whose constructor arguments may be values: one set of weights, sliced in ``forward``.

Smaller layers take the first channels of the largest one and the centre of its kernel, as in
Once-for-All (Cai et al., 2020, arXiv:1908.09791).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision
from raynas.core.errors import InvalidSpace
from raynas.nn.mutable import (
    Memo,
    Mutable,
    activate_unchecked,
    frozen,
    inner_space,
    merged,
)
from raynas.nn.value import Expression, Leaf, assignments, evaluate, leaves_of

Arguments = dict[str, Any]


class Elastic(Mutable):
    """A layer with values among its constructor's arguments.

    A subclass sets ``arguments`` first of all, makes its weights as large as any architecture
    needs them, and computes ``forward`` from ``now()``.
    """

    holders: tuple[str, ...] = ()
    arguments: Arguments

    def choices(self) -> tuple[Decision, ...]:
        """Return the decisions of the values among the arguments."""
        return merged(leaf.decision() for leaf in self.leaves())

    def leaves(self) -> tuple[Leaf, ...]:
        """Return the value choices that the arguments depend on."""
        return leaves_of(self.arguments)

    def name_values(self, path: str) -> None:
        """Label unlabelled values by the arguments that they stand for."""
        for name, argument in self.arguments.items():
            unnamed = [leaf for leaf in leaves_of(argument) if leaf.label is None]
            for at, leaf in enumerate(unnamed):
                own = name if len(unnamed) == 1 else f"{name}.{at}"
                leaf.label = f"{path}.{own}".lstrip(".")

    def extra_repr(self) -> str:
        """Return the constructor's arguments, values by their labels."""
        return ", ".join(f"{name}={argument!r}" for name, argument in self.arguments.items())

    def now(self) -> Arguments:
        """Return the arguments of the active architecture.

        Raises:
            RuntimeError: no architecture is active.
        """
        if self.route is None:
            if self.leaves():
                raise RuntimeError(
                    f"{type(self).__name__} of {list(self.leaves())} has no active values: call "
                    "raynas.nn.activate(model, arch), or raynas.nn.freeze(model, arch)"
                )
            self.route = self.arguments
        now: Arguments = self.route
        return now

    def at(self, arch: Mapping[str, Value]) -> Arguments:
        """Return the arguments under an architecture."""
        return {name: evaluate(argument, arch) for name, argument in self.arguments.items()}

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let ``forward`` run with the architecture's values."""
        self.route = self.at(arch)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return a plain layer with its share of the weights."""
        arguments = self.at(arch)
        plain = self.plain(arguments)
        for name, tensor in self.sliced(arguments).items():
            whole: Tensor | None = getattr(self, name)
            if tensor is None or whole is None:
                continue
            kept = copy.deepcopy(whole, memo) if tensor is whole else tensor.detach().clone()
            if name in plain._buffers:
                plain._buffers[name] = kept
            elif isinstance(kept, nn.Parameter):
                setattr(plain, name, kept)  # all of it: what was tied stays tied
            else:
                setattr(plain, name, nn.Parameter(kept, requires_grad=whole.requires_grad))
        return plain.train(self.training)

    def plain(self, arguments: Arguments) -> nn.Module:
        """Return PyTorch's own layer with these arguments, its weights yet to be set."""
        raise TypeError(f"{type(self).__name__} must define plain()")

    def sliced(self, arguments: Arguments) -> dict[str, Any]:
        """Return by name the part of every parameter and buffer that these arguments use."""
        raise TypeError(f"{type(self).__name__} must define sliced()")


def largest(argument: Any) -> int:
    """Return the largest value of a number or an expression."""
    return int(max(argument.options())) if isinstance(argument, Expression) else int(argument)


def checked_whole(kind: str, arguments: Mapping[str, Any], least: int = 1) -> None:
    """Raise InvalidSpace unless each argument can only be a whole number of at least ``least``."""
    for name, argument in arguments.items():
        options = argument.options() if isinstance(argument, Expression) else (argument,)
        for option in options:
            if type(option) is not int or option < least:
                raise InvalidSpace(
                    f"{kind}: {name} must be a whole number of at least {least}, got {option!r} "
                    f"from {argument!r}"
                )


def first(tensor: Tensor | None, *sizes: int) -> Tensor | None:
    """Return the leading part of a tensor, the tensor itself where that is all of it."""
    if tensor is None or tuple(tensor.shape[: len(sizes)]) == sizes:
        return tensor
    return tensor[tuple(slice(size) for size in sizes)]


class Linear(Elastic, nn.Linear):
    """``nn.Linear`` whose features may be values.

    Args:
        in_features: of the input.
        out_features: of the output.
        bias: whether there is one.

    Raises:
        InvalidSpace: a value is no positive whole number.
    """

    def __init__(
        self, in_features: int | Expression, out_features: int | Expression, bias: bool = True
    ) -> None:
        arguments = {"in_features": in_features, "out_features": out_features}
        checked_whole("Linear", arguments)
        nn.Linear.__init__(self, largest(in_features), largest(out_features), bias)
        self.label, self.arguments = "", arguments

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, shape (..., out_features)."""
        part = self.sliced(self.now())
        return nn.functional.linear(x, part["weight"], part["bias"])

    def plain(self, arguments: Arguments) -> nn.Module:
        """Return an ``nn.Linear``."""
        return nn.Linear(**arguments, bias=self.bias is not None, device="meta")

    def sliced(self, arguments: Arguments) -> dict[str, Any]:
        """Return the first rows and columns."""
        rows, columns = arguments["out_features"], arguments["in_features"]
        return {"weight": first(self.weight, rows, columns), "bias": first(self.bias, rows)}


class ElasticBatchNorm(Elastic):
    """What the BatchNorms of one and two dimensions have in common.

    Args:
        num_features: channels.
        eps: added to the variance.
        momentum: of the running statistics; None averages plainly.
        affine: whether there are weights.
        track_running_stats: whether statistics are kept for evaluation.

    Attributes:
        kind: PyTorch's own layer.
        statistics: in place of the running ones, what gives (mean, variance) of an input; set by
            the calibration that scores sub-networks.
    """

    kind: ClassVar[type[nn.BatchNorm1d | nn.BatchNorm2d]]
    statistics: Any = None
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    momentum: float | None
    eps: float
    affine: bool
    track_running_stats: bool

    def __init__(
        self,
        num_features: int | Expression,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        checked_whole(type(self).__name__, {"num_features": num_features})
        own: Any = self  # its other base, which the type checker does not see here
        self.kind.__init__(own, largest(num_features), eps, momentum, affine, track_running_stats)
        self.label, self.arguments = "", {"num_features": num_features}

    def plain(self, arguments: Arguments) -> nn.Module:
        """Return PyTorch's own layer of these channels."""
        channels = arguments["num_features"]
        tracked = self.track_running_stats
        return self.kind(channels, self.eps, self.momentum, self.affine, tracked)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the active channels."""
        part = self.sliced(self.now())
        weight, bias = part["weight"], part["bias"]
        if self.statistics is not None:
            mean, var = self.statistics(x)
            return nn.functional.batch_norm(x, mean, var, weight, bias, False, 0.0, self.eps)
        mean, var = part["running_mean"], part["running_var"]
        rate = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                rate = 1.0 / float(self.num_batches_tracked)
        own = self.training or mean is None
        return nn.functional.batch_norm(x, mean, var, weight, bias, own, rate, self.eps)

    def sliced(self, arguments: Arguments) -> dict[str, Any]:
        """Return the first channels' weights and statistics."""
        channels = arguments["num_features"]
        tracked = {"num_batches_tracked": self.num_batches_tracked}
        names = ("weight", "bias", "running_mean", "running_var")
        return tracked | {name: first(getattr(self, name), channels) for name in names}


class BatchNorm1d(ElasticBatchNorm, nn.BatchNorm1d):  # type: ignore[misc]
    """``nn.BatchNorm1d`` whose features may be a value; arguments as ``ElasticBatchNorm``'s."""

    kind = nn.BatchNorm1d


class BatchNorm2d(ElasticBatchNorm, nn.BatchNorm2d):  # type: ignore[misc]
    """``nn.BatchNorm2d`` whose channels may be a value; arguments as ``ElasticBatchNorm``'s."""

    kind = nn.BatchNorm2d


class LayerNorm(Elastic, nn.LayerNorm):
    """``nn.LayerNorm`` whose shape may hold values.

    Args:
        normalized_shape: trailing sizes of the input, or the last one.
        eps: added to the variance.
        elementwise_affine: whether there are weights.
        bias: whether the weights include a bias.
    """

    def __init__(
        self,
        normalized_shape: int | Expression | tuple[int | Expression, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        shape = normalized_shape if isinstance(normalized_shape, tuple) else (normalized_shape,)
        checked_whole("LayerNorm", {f"normalized_shape[{i}]": one for i, one in enumerate(shape)})
        whole = [largest(one) for one in shape]
        nn.LayerNorm.__init__(self, whole, eps, elementwise_affine, bias)
        self.label, self.arguments = "", {"normalized_shape": shape}

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the active shape."""
        now = self.now()
        part = self.sliced(now)
        shape = list(now["normalized_shape"])
        return nn.functional.layer_norm(x, shape, part["weight"], part["bias"], self.eps)

    def plain(self, arguments: Arguments) -> nn.Module:
        """Return an ``nn.LayerNorm``."""
        shape, biased = list(arguments["normalized_shape"]), self.bias is not None
        return nn.LayerNorm(shape, self.eps, self.elementwise_affine, biased, device="meta")

    def sliced(self, arguments: Arguments) -> dict[str, Any]:
        """Return the leading part of the weights."""
        shape = arguments["normalized_shape"]
        return {"weight": first(self.weight, *shape), "bias": first(self.bias, *shape)}


class Parametrized(Elastic):
    """Any layer made anew for each value of its arguments; no weights are shared between them.

    Choices inside the layers are part of the space where their value is taken.

    >>> from raynas.nn import ValueChoice
    >>> drop = Parametrized(nn.Dropout, p=ValueChoice([0.1, 0.3], label="drop"))
    >>> drop.choices()
    (Choice(label='drop', options=(0.1, 0.3), opens={}),)

    Args:
        factory: class or function that builds the layer.
        arguments: its arguments by name, values among them.

    Raises:
        InvalidSpace: the factory refuses some combination, or builds no module.
    """

    holders = ("layers",)

    def __init__(self, factory: Callable[..., nn.Module], /, **arguments: Any) -> None:
        super().__init__()
        self.label, self.arguments = "", arguments
        self.layers = nn.ModuleDict()
        self._varying = [name for name, argument in arguments.items() if leaves_of(argument)]
        for arch in assignments(self.leaves()):
            made = self.at(arch)
            name = self._name(made)
            if name not in self.layers:
                self.layers[name] = _built(factory, made)

    def _name(self, arguments: Arguments) -> str:
        """Return which layer stands for these arguments: a word that PyTorch can store."""
        text = ",".join(f"{name}={arguments[name]!r}" for name in self._varying)
        return text.replace(".", "_") or "only"

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer of the active values."""
        return self.layers[self._name(self.now())](*args, **kwargs)

    def choices(self) -> tuple[Decision, ...]:
        """Return the values' decisions; a single value opens the choices inside its layers."""
        own = super().choices()
        inner = {name: inner_space(layer).choices for name, layer in self.layers.items()}
        if len(own) != 1 or not isinstance(own[0], Choice):
            return merged((*own, *(d for found in inner.values() for d in found)))
        (choice,) = own
        taken = {o: inner[self._name(self.at({choice.label: o}))] for o in choice.options}
        opens = {option: ArchSpace(found) for option, found in taken.items() if found}
        return (replace(choice, opens=opens),)

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let ``forward`` run the layer of the architecture's values."""
        super().activate(arch)
        activate_unchecked(self.layers[self._name(self.now())], arch)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return a copy of the layer of these values, its own choices frozen."""
        return frozen(self.layers[self._name(self.at(arch))], arch, memo)


def _built(factory: Callable[..., nn.Module], arguments: Arguments) -> nn.Module:
    name = getattr(factory, "__name__", repr(factory))
    try:
        layer = factory(**arguments)
    except Exception as error:
        raise InvalidSpace(f"{name} cannot be made with {arguments}: {error}") from error
    if not isinstance(layer, nn.Module):
        raise InvalidSpace(f"{name} must build an nn.Module, got a {type(layer).__name__}")
    return layer
