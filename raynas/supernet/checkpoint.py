"""A trained supernet on disk and in shared memory."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from raynas.core.arch import Arch
from raynas.nn.logits import Logits, Probabilities

WEIGHTS, STATE, ABOUT = "model.safetensors", "training.pt", "supernet.json"
Arrays = dict[str, NDArray[Any]]


def save_checkpoint(
    folder: Path, model: nn.Module, state: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Write a supernet's weights, what going on needs, and what they are, into ``folder``."""
    # copies, since safetensors refuses tied weights that share memory
    tensors = {
        name: t.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, t in model.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS)
    torch.save(dict(state), folder / STATE)
    (folder / ABOUT).write_text(json.dumps(dict(about), indent=2) + "\n")


def load_state(folder: Path) -> dict[str, Any]:
    """Return what ``save_checkpoint`` was given as state; tensors and plain values only."""
    return torch.load(folder / STATE, weights_only=True)  # type: ignore[no-any-return]


def find_checkpoint(path: Path) -> Path:
    """Return the newest checkpoint at, or below, ``path``.

    Args:
        path: a checkpoint, a ``supernet`` folder of checkpoints, or a run's folder.

    Raises:
        FileNotFoundError: there is none.
    """
    for folder in (path, path / "supernet"):
        if (folder / WEIGHTS).is_file():
            return folder
        found = [p.parent for p in folder.glob(f"checkpoint_*/{WEIGHTS}")]
        if found:
            return max(found, key=lambda p: (load_about(p)["epoch"], p.name))
    raise FileNotFoundError(
        f"no supernet in {path}: expected {WEIGHTS} there, in supernet/ or in a checkpoint_* folder"
    )


def load_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name."""
    return load_file(checkpoint / WEIGHTS)


def load_about(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself: space, data, algorithm, epochs."""
    return json.loads((checkpoint / ABOUT).read_text())  # type: ignore[no-any-return]


def load_found(checkpoint: Path) -> list[Arch]:
    """Return the most probable architectures of a search by gradients, the derived one first."""
    return [Arch.from_json(json.dumps(found)) for found in load_about(checkpoint).get("found", [])]


def load_distribution(checkpoint: Path) -> tuple[dict[str, Logits], Probabilities]:
    """Return what a search by gradients has learned: options, and their probabilities, by label."""
    found = load_about(checkpoint).get("distribution", {})
    specs = {label: Logits(label, tuple(one for one, _ in pairs)) for label, pairs in found.items()}
    return specs, {label: np.array([p for _, p in pairs]) for label, pairs in found.items()}


def to_arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    """Return contiguous arrays, convolution weights with channels last as they are used."""
    return {
        name: np.ascontiguousarray((t.permute(0, 2, 3, 1) if t.dim() == 4 else t).numpy())
        for name, t in tensors.items()
    }


def share_arrays(model: nn.Module, arrays: Arrays) -> None:
    """Make ``arrays`` the model's parameters without copying them; buffers are copied.

    Torch ignores that an array is read-only, so the parameters must not be written to; buffers,
    which training-mode passes do write to, are the model's own.

    Raises:
        RuntimeError: names or shapes differ from the model's.
    """
    buffers = {name for name, _ in model.named_buffers()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    shaped = {name: _channels_last(t) if t.dim() == 4 else t for name, t in tensors.items()}
    own = {name: t.clone() if name in buffers else t for name, t in shaped.items()}
    model.load_state_dict(own, assign=True)
    model.requires_grad_(False)


def _channels_last(nhwc: Tensor) -> Tensor:
    """Return the same memory as (n, c, h, w), with strides that leave no doubt of the format.

    Where c is 1, numpy may keep any stride for it; torch then takes a depthwise weight for one
    with channels first and convolves four times slower.
    """
    n, h, w, c = nhwc.shape
    return nhwc.as_strided((n, c, h, w), (h * w * c, 1, w * c, c))
