"""Weights from a local file for a model of a name."""

from __future__ import annotations

from torch import Tensor, nn

from raynas.nn.named.wanted import local_file


def with_weights(model: nn.Module, path: str, num_classes: int | None) -> nn.Module:
    """Return a model with the weights of a file.

    A classifier of another number of classes than the file's keeps its initial weights.

    Args:
        model: changed in place.
        path: of a ``.safetensors`` file.
        num_classes: of the data; None if that is not known.

    Raises:
        ValueError: the file is of another form, or of another model.
        FileNotFoundError: there is no such file.
    """
    from safetensors.torch import load_file

    tensors = load_file(local_file(path))
    own = model.state_dict()
    new = {name for name in own if name in tensors and _is_head(own[name], tensors[name])}
    if num_classes is None:
        new = set()
    new = {name for name in new if len(own[name]) == num_classes}
    kept = {name: tensor for name, tensor in tensors.items() if name not in new}
    for name, tensor in kept.items():
        if name in own and own[name].shape != tensor.shape:
            raise ValueError(
                f"weights: {path} has {name} of shape {tuple(tensor.shape)}, and the model of "
                f"{tuple(own[name].shape)}"
            )
    missing, unknown = model.load_state_dict(kept, strict=False)
    lacking = [n for n in missing if n not in new and not _shares(model, n, kept)]
    if lacking or unknown:
        raise ValueError(
            f"weights: {path} is of another model: it lacks {len(lacking)} tensors "
            f"({', '.join(lacking[:3])}) and has {len(unknown)} besides ({', '.join(unknown[:3])})"
        )
    return model


def _is_head(own: Tensor, given: Tensor) -> bool:
    """Return whether two tensors differ in their first dimension alone, as classifiers do."""
    if own.dim() == 0 or own.dim() != given.dim():
        return False
    return own.shape != given.shape and own.shape[1:] == given.shape[1:]


def _shares(model: nn.Module, name: str, given: dict[str, Tensor]) -> bool:
    """Return whether a tensor is one that the file has under another name."""
    state = model.state_dict(keep_vars=True)
    return any(state[other] is state[name] for other in given if other in state)
