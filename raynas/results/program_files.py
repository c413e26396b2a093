"""Networks as files that other programs run, for batches of any size."""

from __future__ import annotations

import warnings

import torch
from torch import nn


def write_program(net: nn.Module, input_shape: tuple[int, ...], file: str) -> None:
    """Write a network as torch.export does.

    Args:
        net: from inputs of shape (batch, *input_shape) to logits.
        input_shape: of one example.
        file: local path.
    """
    example, shapes = torch.zeros(2, *input_shape), ({0: torch.export.Dim("batch")},)
    program = torch.export.export(net, (example,), dynamic_shapes=shapes)
    torch.export.save(program, file)


def write_onnx(net: nn.Module, input_shape: tuple[int, ...], file: str) -> None:
    """Write a network as ONNX, from ``input`` to ``logits``.

    Args:
        net: from inputs of shape (batch, *input_shape) to logits.
        input_shape: of one example.
        file: local path.
    """
    example, shapes = torch.zeros(2, *input_shape), ({0: torch.export.Dim("batch")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself; the user can mend none of them
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=["input"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    program.save(file)
