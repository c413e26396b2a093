"""How much the units of an axis matter: by weights, by activations, or by gradients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from raynas.core.nest import Nest, call
from raynas.nn.conversion.plan import ElasticAxis
from raynas.nn.conversion.trace import Place
from raynas.nn.evaluation_mode import evaluation_mode

Loss = Callable[[Any, Any], Tensor]  # of outputs and targets
Vectors = dict[Place, Tensor]  # a number for each position of a tensor's dimension
MEASURES = ("l1", "activation", "gradient")
# where operations have what they read, the weight, and the channels of either
_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
READERS = {
    "linear": (0, 1, -1, 1),
    "addmm": (1, 2, -1, 0),
    **dict.fromkeys(_CONVOLUTIONS, (0, 1, 1, 1)),
    **dict.fromkeys(_TRANSPOSED, (0, 1, 1, 0)),
    **dict.fromkeys(("matmul", "__matmul__", "mm", "bmm"), (0, 1, -1, 0)),
}


def magnitudes(tensors: Mapping[str, Tensor], places: Iterable[Place]) -> Vectors:
    """Return sums of absolute weights at each position, of weights that have two dimensions.

    Biases and scales of norms are of another kind, and are left out.

    Args:
        tensors: of the model, by name.
        places: that are asked for.
    """
    return {
        (name, dim): _over_others(tensors[name].detach().abs(), dim)
        for name, dim in places
        if isinstance(tensors[name], nn.Parameter) and tensors[name].dim() > 1
    }


def activations(model: nn.Module, batches: Iterable[Nest]) -> Vectors:
    """Return how large the channels are that each weight reads, over batches of inputs.

    That is the root mean square of a channel over all examples and positions, over the mean of
    all channels of the tensor, so that each weight that reads counts alike (Muralidharan et al.,
    2024, arXiv:2407.14679, take means of norms, and one tensor for each axis).

    Raises:
        ValueError: there is no batch.
    """
    reading = _Reading(model)
    with torch.no_grad(), evaluation_mode(model):
        for number, batch in enumerate(batches):
            with reading:
                call(model, batch)
            reading.batches = number + 1
    if not reading.batches:
        raise ValueError("batches: expected at least one batch of inputs, got none")
    sizes = {place: (total / reading.counts[place]).sqrt() for place, total in reading.sums.items()}
    return {place: size / size.mean().clamp_min(1e-12) for place, size in sizes.items()}


class _Reading(TorchFunctionMode):
    """Sums up squares of what weights read while a model runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names: dict[int, str] = {}
        for name, weight in model.named_parameters():
            self.names.setdefault(id(weight), name)
        self.sums: Vectors = {}
        self.counts: dict[Place, int] = defaultdict(int)
        self.batches = 0

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operation, and look at what it reads."""
        kwargs = kwargs or {}
        reader = READERS.get(getattr(function, "__name__", ""))
        if reader is not None:
            given, at, channel, dim = reader
            x = args[given] if len(args) > given else None
            weight = args[at] if len(args) > at else kwargs.get("weight")
            if isinstance(x, Tensor) and isinstance(weight, Tensor):
                self._note(x, weight, channel, dim)
        return function(*args, **kwargs)

    def _note(self, x: Tensor, weight: Tensor, channel: int, dim: int) -> None:
        name = self.names.get(id(weight))
        if channel == 1 and x.dim() < weight.dim():  # an image without a batch
            x = x[None]
        if name is None or weight.shape[dim] != x.shape[channel]:  # in groups: of no channel alone
            return
        squares = _over_others(x.detach().double().square(), channel % x.dim())
        place = (name, dim)
        self.sums[place] = self.sums[place] + squares if place in self.sums else squares
        self.counts[place] += x.numel() // x.shape[channel]


def gradients(
    model: nn.Module,
    axes: Iterable[ElasticAxis],
    batches: Iterable[tuple[Nest, Any]],
    loss: Loss | None,
) -> dict[int, Tensor]:
    """Return, by the axis' position, by how much losses change to the first order without a unit.

    For each batch and each tensor that is the absolute sum of weights times their gradients over
    the unit (Molchanov et al., 2019, arXiv:1906.10771; theirs are squares, over norms' scales).

    Args:
        model: whose gradients are written and removed again.
        axes: whose units are judged.
        batches: pairs of inputs and targets.
        loss: of (outputs, targets); None takes what the model calls its ``loss``.

    Raises:
        ValueError: there is no batch, or one that is no pair, or no loss.
    """
    axes, weights = list(axes), dict(model.named_parameters())
    totals: dict[int, Tensor] = {}
    held = {name: (weight.grad, weight.requires_grad) for name, weight in weights.items()}
    try:
        with torch.enable_grad(), evaluation_mode(model):
            for batch in batches:
                if not isinstance(batch, tuple | list) or len(batch) != 2:
                    raise ValueError(
                        "batches: the order by gradients needs pairs of inputs and targets, got a "
                        f"{type(batch).__name__}"
                    )
                for weight in weights.values():
                    weight.grad = None
                    weight.requires_grad_()
                _loss_of(call(model, batch[0]), batch[1], loss).backward()
                for at, axis in enumerate(axes):
                    change = _first_order(axis, weights)
                    totals[at] = totals[at] + change if at in totals else change
    finally:
        for name, (grad, trained) in held.items():
            weights[name].grad = None
            weights[name].requires_grad_(trained).grad = grad
    if not totals and axes:
        raise ValueError("batches: expected at least one pair of inputs and targets, got none")
    return totals


def _loss_of(out: Any, targets: Any, loss: Loss | None) -> Tensor:
    if loss is not None:
        return loss(out, targets)
    own = out.get("loss") if isinstance(out, Mapping) else None
    if not isinstance(own, Tensor):
        raise ValueError(
            "loss: the order by gradients needs a function of (outputs, targets), such as "
            "torch.nn.functional.cross_entropy, for the model returns no loss of its own"
        )
    return own


def _first_order(axis: ElasticAxis, weights: Mapping[str, Tensor]) -> Tensor:
    total = torch.zeros(axis.units, dtype=torch.float64)
    for (name, dim), positions in axis.places.items():
        weight = weights.get(name)
        if weight is not None and weight.grad is not None:
            by_position = _over_others((weight.detach() * weight.grad).double(), dim).cpu()
            total += by_position[positions].sum(1).abs()
    return total


def of_units(axis: ElasticAxis, vectors: Vectors) -> Tensor | None:
    """Return the sums over all that lies in each unit, shape (units,); None without a number."""
    sums = [
        vectors[place].double().cpu()[positions].sum(1)
        for place, positions in axis.places.items()
        if place in vectors
    ]
    return torch.stack(sums).sum(0) if sums else None


def _over_others(tensor: Tensor, dim: int) -> Tensor:
    others = [other for other in range(tensor.dim()) if other != dim]
    return tensor.sum(others) if others else tensor
