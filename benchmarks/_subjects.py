"""What benchmarks of conversion make smaller: a model, data, and how both are trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _small_models import CONTEXT, TOKENS, SmallGPT, SmallResNet
from torch import nn
from torch.utils.data import TensorDataset

import raynas
from raynas.data.module import DATA, DataModule
from raynas.data.tensor_data import TensorData

PARTS = ("digits", "fashion", "text")


@dataclass(frozen=True)
class Subject:
    """What is made smaller, and on what.

    Attributes:
        name: of the part.
        model: builds it.
        data: examples.
        metric: on test examples.
        asked: what becomes elastic, as arguments of ``raynas.elastic``; lists are shares.
        recipe: of all trainings.
        tuning: of those that go on from trained weights.
    """

    name: str
    model: Callable[[], nn.Module]
    data: DataModule
    metric: str
    asked: tuple[str, ...]
    recipe: Mapping[str, Any]
    tuning: Mapping[str, Any]


def subjects(parts: list[str], data: str | None, text: str | None, quick: bool) -> list[Subject]:
    """Return what is studied."""
    images = {"batch_size": 64, "lr": 0.05}
    slower = {"lr": 0.02}
    share = 8 if quick else 1
    made = []
    if "digits" in parts:
        digits = DATA["digits"](size=16)
        made.append(Subject("digits", SmallResNet, digits, "accuracy", ("width",), images, slower))
    if "fashion" in parts and data is not None:
        fashion = DATA["fashion_mnist"](root=data, train=3000 // share, valid=1500 // share)
        made.append(
            Subject("fashion", SmallResNet, fashion, "accuracy", ("width",), images, slower)
        )
    if "text" in parts:
        windows = characters(text_of(text), 1536 // share, 384 // share)
        recipe = {"optimizer": "adamw", "lr": 3e-3, "batch_size": 32, "weight_decay": 0.01}
        asked = ("width", "heads", "ffn")
        tuning = {"lr": 1e-3}
        made.append(Subject("text", SmallGPT, windows, "perplexity", asked, recipe, tuning))
    return made


def text_of(path: str | None) -> str:
    """Return a file's text; without one that of Python's help topics, in an order of its own."""
    if path is not None:
        return Path(path).read_text()
    from pydoc_data.topics import topics

    names = sorted(topics)
    return "\n".join(topics[names[at]] for at in np.random.default_rng(0).permutation(len(names)))


def characters(text: str, train: int, others: int) -> DataModule:
    """Return windows of a text's characters, the rare ones as one token.

    Args:
        text: from whose beginning those to train on come, then those to validate, then to test.
        train: windows to train on.
        others: windows to validate on, and to test on.
    """
    common = [char for char, _ in Counter(text).most_common(TOKENS - 1)]
    number = {char: at for at, char in enumerate(common)}
    counts = (train, others, others)
    needed = sum(counts) * (CONTEXT + 1)
    if len(text) < needed:
        raise SystemExit(f"the text has {len(text):,} characters, {needed:,} are needed")
    ids = torch.tensor([number.get(char, TOKENS - 1) for char in text[:needed]])
    parts = ids.view(-1, CONTEXT + 1).split(counts)
    datasets = tuple(TensorDataset(part[:, :-1], part[:, 1:]) for part in parts)
    data = TensorData(datasets)
    data.task = raynas.tasks.TASKS["language_modeling"]()
    return data
