"""How many classes data have: counted in memory, or as a dataset says that it is streamed from."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any

import torch

from raynas.data.examples import LABELS, is_class_index
from raynas.data.module import Part
from raynas.data.split import MemorySplit, split_of
from raynas.data.streamed import StreamedSplit


def class_count(parts: Sequence[Part], labels: str | None = None) -> int | None:
    """Return how many classes the splits have together; None if they have none, or do not say.

    Args:
        parts: of ``Splits``, those that there are.
        labels: key of the target in dict items.
    """
    counts: list[int | None] = []
    for part in parts:
        split = split_of(part)
        if not is_class_index(split.held([0]).targets):
            return None
        if isinstance(split, MemorySplit):
            counts.append(1 + int(split.targets.max()))
        else:
            counts.append(
                _declared(split.dataset, labels) if isinstance(split, StreamedSplit) else None
            )
    known = [count for count in counts if count is not None]
    return max(known) if len(known) == len(parts) else None


def _declared(dataset: Any, labels: str | None) -> int | None:
    """Return how many classes a dataset says that it has.

    Those of torchvision have a list ``classes`` or ``targets``, those of Hugging Face ``features``
    of which that of the labels has ``num_classes``.
    """
    if hasattr(dataset, "dataset"):  # torch's Subset
        return _declared(dataset.dataset, labels)
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, Sized):
        return len(classes)
    features = getattr(dataset, "features", None) or {}
    for key in LABELS if labels is None else (labels,):
        if key in features:
            count = getattr(features[key], "num_classes", None)
            return None if count is None else int(count)
    targets = getattr(dataset, "targets", None)
    if targets is None:
        return None
    try:
        return 1 + int(torch.as_tensor(targets).max())
    except (TypeError, ValueError, RuntimeError):
        return None
