"""Networks as files that other programs run, for batches of any size but for ExecuTorch's."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raynas.core.config import ComponentSpec
from raynas.core.nest import Nest, arguments, mapped, paths
from raynas.nn.modelspace import zeros_like_signature
from raynas.nn.single_input import check_takes

ENDINGS = (".json", ".pt", ".pt2", ".onnx", ".pte")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_ADVICE = (
    "For more information",
    "(Size-like symbols",
    "(unhinted:",
    "This is step",
    "While executing",
)
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
        RuntimeError: it cannot be written in this form.
    """
    if file.endswith(".pt"):
        write_weights(net, file)
        return
    example = zeros_like_signature(inputs(), 2)
    check_takes(net, example)
    if file.endswith(".pt2"):
        write_program(net, example, file)
    elif file.endswith(".pte"):
        write_executorch(net, example, file)
    else:
        named = task is None or task.name in LOGITS
        write_onnx(net, example, file, ["logits" if named else "output"])


def write_program(net: nn.Module, example: Nest, file: str) -> None:
    """Write a network as torch.export does.

    Args:
        net: takes batches of any size.
        example: a batch of two.
        file: local path.

    Raises:
        RuntimeError: torch cannot follow the network.
    """
    torch.export.save(_program(net, example, file), file)


def write_executorch(net: nn.Module, example: Nest, file: str) -> None:
    """Write a network as ExecuTorch runs it on phones and small devices.

    Args:
        net: takes batches of one.
        example: a batch of inputs.
        file: local path.

    Raises:
        ImportError: ExecuTorch is not installed.
        RuntimeError: torch cannot follow the network, or ExecuTorch lacks an operator of it.
    """
    try:
        from executorch.exir import to_edge_transform_and_lower
    except ImportError:
        raise ImportError(
            f"export: {file} takes ExecuTorch: pip install 'raynas[executorch]'"
        ) from None
    lone = mapped(lambda tensor: tensor[:1], example)
    program = _program(net, lone, file, any_batch=False)
    try:
        with _quietly():
            made = to_edge_transform_and_lower(program).to_executorch()
    except Exception as error:
        why = f"ExecuTorch has no form of what it computes: {_first_words(error)}"
        raise RuntimeError(_not_written(file, why)) from error
    Path(file).write_bytes(made.buffer)


def write_onnx(net: nn.Module, example: Nest, file: str, outputs: Sequence[str]) -> None:
    """Write a network as ONNX, from ``input`` (of several: their names) to its outputs.

    Args:
        net: takes batches of any size.
        example: a batch of two.
        file: local path.
        outputs: names of the first outputs.

    Raises:
        RuntimeError: torch cannot follow the network, or ONNX has no form of what it computes.
    """
    names = [name.replace(".", "_") or "input" for name, _ in paths(example)]
    if isinstance(example, tuple | list):
        names = [f"input_{name}" for name in names]
    # of a network itself, torch.onnx would go on to write one that takes this very batch alone
    program = _program(net, example, file)
    try:
        with _quietly():
            written = torch.onnx.export(
                program,
                dynamo=True,
                dynamic_shapes=_any_batch(*arguments(example)),
                input_names=names,
                output_names=list(outputs),
                verbose=False,
            )
    except Exception as error:
        why = f"ONNX has no form of what it computes: {_first_words(error)}"
        raise RuntimeError(_not_written(file, why)) from error
    assert written is not None
    written.save(file)


def _program(
    net: nn.Module, example: Nest, file: str, *, any_batch: bool = True
) -> torch.export.ExportedProgram:
    """Return a network as a program, for batches of any size or of the example's.

    Raises:
        RuntimeError: torch cannot follow it; the message names its line.
    """
    positional, keywords = arguments(example)
    shapes = _any_batch(positional, keywords) if any_batch else None
    try:
        with _quietly():
            return torch.export.export(net, positional, keywords, dynamic_shapes=shapes)
    except Exception as error:
        why = (
            "torch cannot follow what it does, such as a branch on values of its input or on the "
            f"size of the batch{_line_of(error)}: {_first_words(error)}"
        )
        raise RuntimeError(_not_written(file, why)) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what torch says about itself from the terminal: users can mend none of it."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        yield


def _not_written(file: str, why: str) -> str:
    ending = Path(file).suffix
    return f"export: this network cannot be written as {ending}, as {why}; .pt takes its weights"


def _line_of(error: Exception) -> str:
    """Return which line of a network raised an error, where one did."""
    outside = (__file__, str(Path(torch.__file__).parent), "<")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(outside)]
    if not own:
        return ""
    return f" (`{own[-1].line}`, line {own[-1].lineno} of {own[-1].filename})"


def _first_words(error: BaseException) -> str:
    """Return what torch says at the bottom of it, without colours and advice to debug torch."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(_COLOURS.sub("", str(error)).split()) or type(error).__name__
    for advice in _ADVICE:
        text = text.partition(advice)[0]
    return text[:200].strip(" .!")


def write_weights(net: nn.Module, file: str) -> None:
    """Write a network's weights as a plain state_dict."""
    torch.save({name: tensor.cpu() for name, tensor in net.state_dict().items()}, file)


def _any_batch(positional: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Return which dimension of each input is the batch, as torch.export wants it."""
    batch = torch.export.Dim("batch")
    shapes = mapped(lambda _: {0: batch}, positional)
    return mapped(lambda _: {0: batch}, keywords) if keywords else shapes
