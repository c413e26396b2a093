"""Items of a data set as examples: inputs and a target, each a nest of tensors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raynas.core.errors import nearest
from raynas.core.nest import Nest, leaves, mapped
from raynas.data.errors import ReadError, in_words

LABELS = ("labels", "label", "target")  # keys of a dict item that hold its target
IMAGE_DIMS = 4  # of a batch of images: examples, channels, height, width


def example_of(item: Any, where: str, labels: str | None = None) -> tuple[Nest, Nest]:
    """Return inputs and target of an item, or of a batch that a ``collate_fn`` made.

    A tuple's last part is its target, the others are its inputs, positional if they are several. Of
    a dict, the labels are the target and the others inputs by keyword. Anything else has no target.

    Args:
        item: of tensors, arrays, PIL images, numbers and lists of numbers.
        where: it stands, such as ``train[3]``.
        labels: key of a dict's target; None takes the first of ``labels``, ``label`` and ``target``
            that is there.

    Raises:
        TypeError: it holds something else, or ``labels`` is given and the item is no dict.
        ValueError: there is no key ``labels``, or nothing beside the target.
        ReadError: an image cannot be decoded.
    """
    inputs, target = _parted(item, where, labels)
    inputs = _tensors(inputs, partial(_leaf, where=where, role="inputs"))
    if target is not None:
        target = _tensors(target, partial(_leaf, where=where, role="target"))
    return inputs, target


def settled(inputs: Nest, targets: Nest) -> tuple[Nest, Nest]:
    """Return a batch in the types that it is kept in.

    Images stay uint8, a quarter of the memory of floats. Other integers, and targets that are true
    or false, are int64; class indices of shape (count, 1) get the shape (count,).
    """
    targets = mapped(_integers, targets) if targets is not None else None
    if is_integer(targets) and targets.dim() == 2 and targets.shape[1] == 1:
        targets = targets.squeeze(1)
    return mapped(lambda leaf: leaf if is_images(leaf) else _index(leaf), inputs), targets


def model_inputs(inputs: Nest) -> Nest:
    """Return a batch of inputs as a model gets them: images of uint8 are floats from 0 to 1.

    Other uint8 are int64.
    """
    return mapped(_model_input, inputs)


def as_float32(nest: Nest) -> Nest:
    """Return a nest whose floats are of the weights' own type; None stays None."""
    if nest is None:
        return None
    return mapped(lambda leaf: leaf.float() if leaf.is_floating_point() else leaf, nest)


def is_images(batch: Tensor) -> bool:
    """Return whether a batch is of images as files hold them: uint8, three dimensions at least."""
    return batch.dtype == torch.uint8 and batch.dim() >= IMAGE_DIMS


def is_integer(leaf: Any) -> bool:
    """Return whether this is a tensor of integers."""
    return isinstance(leaf, Tensor) and not (
        leaf.is_floating_point() or leaf.is_complex() or leaf.dtype == torch.bool
    )


def is_class_index(targets: Nest) -> bool:
    """Return whether a batch of targets is one class index for each example."""
    return is_integer(targets) and targets.dim() == 1


def size_of(nest: Nest) -> int:
    """Return how many bytes the tensors of a nest take."""
    return sum(leaf.nbytes for leaf in leaves(nest) if leaf is not None)


def _parted(item: Any, where: str, labels: str | None) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        return _parted_by_key(item, where, labels)
    if labels is not None:
        kind = type(item).__name__
        raise TypeError(f"data: labels={labels!r} is a key of dict items, and {where} is a {kind}")
    if isinstance(item, tuple | list) and item and not _is_numbers(item):
        *parts, target = item
        if not parts:
            return target, None
        return (parts[0] if len(parts) == 1 else tuple(parts)), target
    return item, None


def _parted_by_key(item: Mapping[str, Any], where: str, labels: str | None) -> tuple[Any, Any]:
    if labels is not None and labels not in item:
        raise ValueError(f"data: {where} has no key {labels!r}; {nearest(labels, item)}")
    key = labels or next((word for word in LABELS if word in item), None)
    inputs = {name: part for name, part in item.items() if name != key}
    if not inputs:
        raise ValueError(f"data: {where} is a dict of no inputs, only of {list(item)}")
    return inputs, None if key is None else item[key]


def _tensors(part: Any, leaf: Callable[[Any], Tensor]) -> Nest:
    """Return a nest with a tensor for every leaf; a list of numbers is one."""
    if isinstance(part, Mapping):
        return {str(name): _tensors(inner, leaf) for name, inner in part.items()}
    if isinstance(part, tuple | list) and not _is_numbers(part):
        parts = [_tensors(inner, leaf) for inner in part]
        return parts if isinstance(part, list) else tuple(parts)
    return leaf(part)


def _is_numbers(part: Any) -> bool:
    """Return whether this is a list of numbers, or of such lists: tokens, a row, a matrix."""
    return isinstance(part, list) and all(
        isinstance(inner, Number | np.generic) or _is_numbers(inner) for inner in part
    )


def _leaf(part: Any, where: str, role: str) -> Tensor:
    """Return one tensor, number, array, PIL image or list of numbers as a tensor."""
    if isinstance(part, Tensor):
        return part.as_subclass(Tensor)
    try:
        if _is_image(part):
            return _pixels(part, role)
        if isinstance(part, Number | list | np.generic):
            return torch.tensor(part)
        if hasattr(part, "__array__"):
            return _from_array(np.asarray(part))
    except OSError as error:  # images are decoded where they are first looked at
        raise ReadError(f"data: {where} raised {in_words(error)}") from error
    except (TypeError, ValueError, RuntimeError) as error:  # text, objects, lists of many lengths
        raise TypeError(f"data: {where} has {role} that make no tensor: {error}") from error
    raise TypeError(
        f"data: {where} has a {type(part).__name__} among its {role}, expected tensors, arrays, "
        "images or numbers: encode it in the dataset, or pass collate_fn"
    )


def _from_array(array: np.ndarray[Any, Any]) -> Tensor:
    if array.dtype.byteorder not in "=|":
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.tensor(np.ascontiguousarray(array).reshape(array.shape))


def _is_image(part: Any) -> bool:
    images = sys.modules.get("PIL.Image")  # who has an image has imported it
    return images is not None and isinstance(part, images.Image)


def _pixels(image: Any, role: str) -> Tensor:
    """Return a PIL image, (channels, height, width); a target of one channel is a map of these."""
    from torchvision.transforms.v2.functional import pil_to_tensor

    if role == "inputs" and image.mode == "P":  # indices into a palette; of a mask, the classes
        image = image.convert("RGB")
    pixels: Tensor = pil_to_tensor(image)
    return pixels[0] if role == "target" and len(pixels) == 1 else pixels


def _model_input(leaf: Tensor) -> Tensor:
    if leaf.dtype != torch.uint8:
        return leaf
    return leaf.float() / 255 if is_images(leaf) else leaf.long()


def _index(leaf: Tensor) -> Tensor:
    return leaf.long() if is_integer(leaf) else leaf


def _integers(leaf: Tensor) -> Tensor:
    return leaf if leaf.is_floating_point() or leaf.is_complex() else leaf.long()
