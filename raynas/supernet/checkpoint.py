"""A trained supernet, or a network, on disk; a supernet in shared memory."""

from __future__ import annotations

import copy
import json
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from raynas.core.arch import Arch
from raynas.core.digests import check_digest, read_sealed, write_digests
from raynas.core.plain_values import plain_value
from raynas.nn.buffers import make_room
from raynas.nn.logits import Logits, Probabilities
from raynas.nn.modelspace import ModelSpace
from raynas.supernet.attributes import Attributes, write_attributes

WEIGHTS, STATE, ABOUT = "model.safetensors", "training.pt", "supernet.json"
NETWORK_ABOUT = "network.json"  # in place of ``ABOUT``
_OWN = re.compile(r"checkpoint_\d{6}")  # has its name only once it is whole
BESIDE = "attributes.pt"  # what the weights' file cannot hold; not there if there is none
Arrays = dict[str, NDArray[Any]]


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    state: Mapping[str, Any],
    about: Mapping[str, Any],
    attributes: Attributes | None = None,
    *,
    about_file: str = ABOUT,
) -> None:
    """Write a model's weights, what going on needs, and what they are, into ``folder``.

    Args:
        folder: that exists.
        model: whose ``state_dict`` is written.
        state: tensors and plain values.
        about: what JSON can hold.
        attributes: of the model, as ``read_attributes`` returns them.
        about_file: what the file is called that says what they are.
    """
    _write_weights(folder, model.state_dict(), attributes)
    torch.save(dict(state), folder / STATE)
    save_about(folder, about, about_file)
    write_digests(folder)


def save_weights(
    folder: Path, whole: Mapping[str, Any], attributes: Attributes | None = None
) -> None:
    """Write a ``state_dict``, and attributes beside it, into ``folder``."""
    _write_weights(folder, whole, attributes)
    write_digests(folder)


def _write_weights(
    folder: Path, whole: Mapping[str, Any], attributes: Attributes | None = None
) -> None:
    others = {name: value for name, value in whole.items() if not _is_storable(value)}
    # copies, since safetensors refuses tied weights that share memory
    tensors = {
        name: t.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, t in whole.items()
        if name not in others
    }
    save_file(tensors, folder / WEIGHTS)
    beside = {"state": others, "metadata": _metadata(whole), "attributes": attributes or {}}
    if any(beside.values()):
        torch.save(beside, folder / BESIDE)


def save_about(folder: Path, about: Mapping[str, Any], about_file: str = ABOUT) -> None:
    """Write what a checkpoint says of itself."""
    (folder / about_file).write_text(json.dumps(dict(about), indent=2) + "\n")


def _metadata(state: Any) -> dict[str, dict[str, Any]]:
    """Return what modules say of their state; versions alone are those of PyTorch."""
    metadata = getattr(state, "_metadata", {})  # not of a state_dict of the user's own
    return {path: dict(own) for path, own in metadata.items() if own.keys() > {"version"}}


def _is_storable(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype != torch.complex128


def load_state(folder: Path) -> dict[str, Any]:
    """Return what ``save_checkpoint`` was given as state; tensors and plain values only.

    Raises:
        ValueError: the file is damaged.
    """
    return _loaded(folder / STATE)


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
        found = [p for p in found if _OWN.fullmatch(p.name) or _is_whole(p)]
        if found:
            return max(found, key=lambda p: (load_about(p).get("epoch", 0), p.name))
    raise FileNotFoundError(
        f"no supernet in {path}: expected {WEIGHTS} there, in supernet/ or in a checkpoint_* folder"
    )


def _is_whole(checkpoint: Path) -> bool:
    """Return whether a checkpoint that Ray Train copies, which may be killed meanwhile, is there.

    Every file of ours shows by its end whether it is.
    """
    state = checkpoint / STATE
    try:
        load_about(checkpoint)
        with safe_open(checkpoint / WEIGHTS, framework="pt"):
            return zipfile.is_zipfile(state) or not state.exists()
    except (OSError, ValueError, SafetensorError):
        return False


def checkpoint_in(path: Path) -> Path | None:
    """Return the newest checkpoint at, or below, ``path``; None if there is none."""
    try:
        return find_checkpoint(path)
    except FileNotFoundError:
        return None


def load_weights(checkpoint: Path) -> dict[str, Any]:
    """Return a checkpoint's tensors by name, and other state that modules define themselves.

    Raises:
        ValueError: a file is damaged.
    """
    beside = _beside(checkpoint)
    return _state(_tensors(checkpoint / WEIGHTS) | beside["state"], beside["metadata"])


def _tensors(file: Path) -> dict[str, Tensor]:
    check_digest(file)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def _loaded(file: Path) -> dict[str, Any]:
    """Return what a file of PyTorch holds, tensors and plain values; nothing else is unpickled."""
    check_digest(file)
    try:
        with warnings.catch_warnings():  # where to report it, of what is refused
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            loaded = torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        what = "other things than tensors and plain values, which are not read"
        raise ValueError(f"{file} is damaged, or holds {what}") from error
    except Exception as error:  # whatever a damaged file makes of itself
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{file} is damaged: {text}") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"{file} is damaged: expected a dict, got {type(loaded).__name__}")
    return loaded


def _state(entries: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``load_state_dict`` takes."""
    state: Any = OrderedDict(entries)
    state._metadata = OrderedDict(metadata)
    return state  # type: ignore[no-any-return]


def load_attributes(checkpoint: Path) -> Attributes:
    """Return what the model computed with beside its state."""
    return dict(_beside(checkpoint)["attributes"])


def _beside(checkpoint: Path) -> dict[str, dict[str, Any]]:
    if not (checkpoint / BESIDE).is_file():
        return {"state": {}, "metadata": {}, "attributes": {}}
    beside, names = _loaded(checkpoint / BESIDE), ("state", "metadata", "attributes")
    if not all(isinstance(beside.get(name), dict) for name in names):
        raise ValueError(f"{checkpoint / BESIDE} is damaged: expected {', '.join(names)}")
    return beside


def load_about(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself, such as algorithm and epochs.

    Raises:
        ValueError: the file is damaged.
    """
    file = checkpoint / NETWORK_ABOUT
    if not file.is_file():
        file = checkpoint / ABOUT
    check_digest(file)
    try:
        return read_sealed(file.read_text(), _check_about)
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def _check_about(about: dict[str, Any]) -> None:
    """Raise TypeError unless what a checkpoint says of itself is of the types that are read."""
    kinds = {"epoch": int, "seed": int, "found": list, "distribution": dict}
    for name, kind in kinds.items():
        if not isinstance(about.get(name, kind()), kind):
            raise TypeError(f"{name} is {about[name]!r}")


def load_supernet(space: ModelSpace, checkpoint: Path, seed: int) -> nn.Module:
    """Return a trained supernet, equal to the one that was saved.

    Args:
        space: that it is of.
        checkpoint: that holds it.
        seed: that it was built with if the checkpoint is older than such records.
    """
    model = space.supernet(load_about(checkpoint).get("seed", seed))
    weights = load_weights(checkpoint)
    make_room(model, weights)
    model.load_state_dict(weights)
    write_attributes(model, load_attributes(checkpoint))
    return model


def load_found(checkpoint: Path) -> list[Arch]:
    """Return the most probable architectures of a search by gradients, the derived one first."""
    return [Arch.from_json(json.dumps(found)) for found in load_about(checkpoint).get("found", [])]


def load_distribution(checkpoint: Path) -> tuple[dict[str, Logits], Probabilities]:
    """Return what a search by gradients has learned: options, and their probabilities, by label."""
    found = load_about(checkpoint).get("distribution", {})
    specs = {
        label: Logits(label, plain_value([option for option, _ in pairs]))
        for label, pairs in found.items()
    }
    return specs, {label: np.array([p for _, p in pairs]) for label, pairs in found.items()}


@dataclass(frozen=True, kw_only=True)
class SharedWeights:
    """A trained supernet for many processes, which are to read one memory.

    Attributes:
        arrays: its tensors by name.
        state: what else belongs to its ``state_dict``.
        metadata: what modules say of their state.
        attributes: what it computes with beside that.
        seed: that it was built with.
        channels_last: whether it runs with channels last; None if that is still to be seen.
    """

    arrays: Arrays
    state: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    attributes: Attributes = field(default_factory=dict)
    seed: int = 0
    channels_last: bool | None = None


def load_shared(checkpoint: Path, seed: int = 0) -> SharedWeights:
    """Return a checkpoint's supernet for many processes.

    Args:
        checkpoint: that holds it.
        seed: that it was built with if the checkpoint is older than such records.
    """
    about, beside = load_about(checkpoint), _beside(checkpoint)
    weights = _tensors(checkpoint / WEIGHTS) | beside["state"]
    state = {name: value for name, value in weights.items() if not _is_array(value)}
    channels_last = about.get("channels_last")
    return SharedWeights(
        arrays=to_arrays(
            {name: t for name, t in weights.items() if name not in state},
            channels_last is not False,
        ),
        state=state,
        metadata=beside["metadata"],
        attributes=beside["attributes"],
        seed=about.get("seed", seed),
        channels_last=channels_last,
    )


def _is_array(value: object) -> bool:
    """Return whether it is a tensor of numbers that numpy knows."""
    if not isinstance(value, Tensor):
        return False
    try:
        torch.empty(0, dtype=value.dtype).numpy()
    except TypeError:
        return False
    return True


def to_arrays(tensors: Mapping[str, Tensor], channels_last: bool = True) -> Arrays:
    """Return contiguous arrays, convolution weights as they are used.

    Args:
        tensors: by name.
        channels_last: whether those of four dimensions are laid out as (n, h, w, c).
    """
    return {
        name: np.ascontiguousarray(
            (t.permute(0, 2, 3, 1) if channels_last and t.dim() == 4 else t).numpy()
        )
        for name, t in tensors.items()
    }


def share_weights(model: nn.Module, weights: SharedWeights) -> None:
    """Make a model the supernet whose weights these are; see ``share_arrays``."""
    last = weights.channels_last is not False
    state = _state(weights.state, weights.metadata)
    share_arrays(model, weights.arrays, state, channels_last=last)


def share_arrays(
    model: nn.Module,
    arrays: Arrays,
    state: Mapping[str, Any] | None = None,
    *,
    channels_last: bool = True,
) -> None:
    """Make ``arrays`` the model's parameters without copying them; buffers are copied.

    Torch ignores that an array is read-only, so the parameters must not be written to; buffers,
    which training-mode passes do write to, are the model's own.

    Args:
        model: on the CPU, or without memory.
        arrays: by name, as ``to_arrays`` returns them.
        state: what else belongs to the model's ``state_dict``, with its metadata.
        channels_last: as for ``to_arrays``.

    Raises:
        RuntimeError: names or shapes differ from the model's.
    """
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if channels_last:
        tensors = {name: _channels_last(t) if t.dim() == 4 else t for name, t in tensors.items()}
    own: Any = _state({}, {}) if state is None else copy.copy(state)
    own |= {name: t.clone() if name in buffers else t for name, t in tensors.items()}
    own |= _tied(model, own)
    make_room(model, own)
    model.load_state_dict(own, assign=True)
    model.requires_grad_(False)


def _tied(model: nn.Module, state: Mapping[str, Any]) -> dict[str, nn.Parameter]:
    """Return one parameter for all names of those that have several."""
    names: dict[nn.Parameter, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[parameter].append(name)
    several = [same for same in names.values() if len(same) > 1 and same[0] in state]
    one = {same[0]: nn.Parameter(state[same[0]], requires_grad=False) for same in several}
    return {name: one[same[0]] for same in several for name in same if name in state}


def _channels_last(nhwc: Tensor) -> Tensor:
    """Return the same memory as (n, c, h, w), with strides that leave no doubt of the format.

    Where c is 1, numpy may keep any stride for it; torch then takes a depthwise weight for one
    with channels first and convolves four times slower.
    """
    n, h, w, c = nhwc.shape
    return nhwc.as_strided((n, c, h, w), (h * w * c, 1, w * c, c))
