"""Networks as files that other programs run, for batches of any size."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from raynas.core.nest import Nest, arguments, mapped, paths


def write_program(net: nn.Module, example: Nest, file: str) -> None:
    """Write a network as torch.export does.

    Args:
        net: takes batches of any size.
        example: a batch of two.
        file: local path.
    """
    positional, keywords = arguments(example)
    program = torch.export.export(
        net, positional, keywords, dynamic_shapes=_any_batch(positional, keywords)
    )
    torch.export.save(program, file)


def write_onnx(net: nn.Module, example: Nest, file: str, outputs: Sequence[str]) -> None:
    """Write a network as ONNX, from ``input`` (of several: their names) to its outputs.

    Args:
        net: takes batches of any size.
        example: a batch of two.
        file: local path.
        outputs: names of the first outputs.
    """
    positional, keywords = arguments(example)
    names = [name.replace(".", "_") or "input" for name, _ in paths(example)]
    if isinstance(example, tuple | list):
        names = [f"input_{name}" for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself; the user can mend none of them
        program = torch.onnx.export(
            net,
            positional,
            kwargs=keywords,
            dynamo=True,
            dynamic_shapes=_any_batch(positional, keywords),
            input_names=names,
            output_names=list(outputs),
            verbose=False,
        )
    assert program is not None
    program.save(file)


def write_weights(net: nn.Module, file: str) -> None:
    """Write a network's weights as a plain state_dict."""
    torch.save({name: tensor.cpu() for name, tensor in net.state_dict().items()}, file)


def _any_batch(positional: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Return which dimension of each input is the batch, as torch.export wants it."""
    batch = torch.export.Dim("batch")
    shapes = mapped(lambda _: {0: batch}, positional)
    return mapped(lambda _: {0: batch}, keywords) if keywords else shapes
