"""Networks as files that other programs run, for batches of any size."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raynas.core.config import ComponentSpec
from raynas.core.nest import Nest, arguments, mapped, paths
from raynas.nn.modelspace import zeros_like_signature
from raynas.nn.single_input import check_takes

ENDINGS = (".json", ".pt", ".pt2", ".onnx")
LOGITS = ("classification", "multilabel", "segmentation", "language_modeling")


def checked_file(file: str | Path, endings: Sequence[str] = ENDINGS) -> str:
    """Return where something is to be written, as text.

    Args:
        file: local path.
        endings: that it may have.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: its ending says of none of the forms what is meant.
    """
    folder, name = Path(file).absolute().parent, str(file)
    if not folder.is_dir():
        raise FileNotFoundError(f"export: there is no folder {folder}")
    if not name.endswith(tuple(endings)):
        expected = ", ".join(endings)
        raise ValueError(f"export: expected a file ending in one of {expected}, got {name!r}")
    return name


def write_network(
    net: nn.Module, file: str, inputs: Callable[[], Any], task: ComponentSpec | None
) -> None:
    """Write a network in the form that the file's ending names, but for decisions.

    Args:
        net: takes batches of any size.
        file: as ``checked_file`` returns it.
        inputs: gives the signature of an example, where the form needs one.
        task: that was learned, as a run folder names it: of classes the output is ``logits``.

    Raises:
        ValueError: the network takes several inputs, and the example is one tensor.
    """
    if file.endswith(".pt"):
        write_weights(net, file)
        return
    example = zeros_like_signature(inputs(), 2)
    check_takes(net, example)
    if file.endswith(".pt2"):
        write_program(net, example, file)
    else:
        named = task is None or task.name in LOGITS
        write_onnx(net, example, file, ["logits" if named else "output"])


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
