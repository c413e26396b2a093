"""What architectures lose beside the whole supernet: divergence of outputs, influence of layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.arch import Value
from raynas.core.nest import Nest, call, rows, taken
from raynas.nn.conversion.elastic_model import ElasticModel
from raynas.nn.conversion.plan import Skip
from raynas.nn.conversion.skipped import first_tensor
from raynas.nn.mutable import activate_unchecked, name_labels
from raynas.supernet.attributes import copy_of
from raynas.supernet.calibration import recalibrate

EXAMPLES = 64  # that influence is measured on
UNCALLED = (nn.ModuleList, nn.ModuleDict)


def divergence(output: Any, whole: Any, class_dim: int | None) -> float:
    """Return how far outputs are from those of the whole supernet, averaged over examples.

    The Kullback-Leibler divergence of the softmax from the whole's, in nats, where outputs are
    logits of classes; else the mean squared difference.

    Args:
        output: of an architecture, shape (examples, ...).
        whole: of the whole, of the same shape.
        class_dim: dimension of the logits; None where there are none.

    Raises:
        TypeError: an output is no lone tensor.
    """
    if not isinstance(output, Tensor) or not isinstance(whole, Tensor):
        raise TypeError(
            f"divergence compares outputs that are one tensor, got a {type(output).__name__}: "
            "leave it out"
        )
    if class_dim is None:
        return float(functional.mse_loss(output.double(), whole.double()))
    ours, theirs = (x.double().log_softmax(class_dim) for x in (output, whole))
    return float((theirs.exp() * (theirs - ours)).sum(class_dim).mean())


@torch.no_grad()
def influences(
    supernet: nn.Module, whole: Mapping[str, Value], images: Nest, at_once: int
) -> dict[str, float]:
    """Return the influence of each layer that may be left out, by its label.

    One less the cosine similarity of what goes into a layer and what comes out (block influence,
    Men et al., 2024, arXiv:2403.03853), averaged over tokens, or over images. Differs: of a term of
    a sum, as an attention, it is that of what the module around it gives without it and with it.

    Args:
        supernet: a converted model's; it stays as it is.
        whole: its largest architecture.
        images: to calibrate BatchNorm with; the first 64 are measured.
        at_once: images in a pass, at most.

    Raises:
        TypeError: the supernet is of no converted model.
    """
    if not isinstance(supernet, ElasticModel):
        raise TypeError(
            "influence is of layers that a converted model may leave out (raynas.elastic(..., "
            f"depth=True)), got a {type(supernet).__name__}"
        )
    model = copy_of(supernet, {id(t): t for t in supernet.parameters()})
    model.eval()
    name_labels(model)
    inputs = taken(images, slice(min(EXAMPLES, at_once, rows(images))))
    activate_unchecked(model, whole)
    recalibrate(model, images, at_once)
    with _watched(model, supernet.plan.skips) as seen:
        call(model, inputs)
        first = dict(seen)
        found = {}
        for skip in supernet.plan.skips:
            before, after = first[skip.label]
            if skip.zero:
                activate_unchecked(model, {**whole, skip.label: 0})
                call(model, inputs)
                before = seen[skip.label][1]
            found[skip.label] = 1.0 - _cosine(before, after)
    return found


@contextmanager
def _watched(
    model: nn.Module, skips: tuple[Skip, ...]
) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Keep what goes into each layer, or into the module around a term, and what comes out."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keeping(label: str) -> Any:
        def hook(_module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            seen[label] = first_tensor((args, kwargs)).clone(), first_tensor(out).clone()

        return hook

    with ExitStack() as undo:
        for skip in skips:
            module = model.get_submodule(_around(model, skip.path) if skip.zero else skip.path)
            handle = module.register_forward_hook(keeping(skip.label), with_kwargs=True)
            undo.callback(handle.remove)
        yield seen


def _around(model: nn.Module, path: str) -> str:
    """Return the path of the nearest module around another that is called."""
    while path:
        path = path.rpartition(".")[0]
        if not isinstance(model.get_submodule(path), UNCALLED):
            break
    return path


def _cosine(first: Tensor, other: Tensor) -> float:
    """Return the cosine similarity, of tokens (examples, tokens, channels) or of whole examples."""
    if first.dim() != 3:
        first, other = first.flatten(1), other.flatten(1)
    return float(functional.cosine_similarity(first.double(), other.double(), dim=-1).mean())
