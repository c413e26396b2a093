"""A small model with choices, and data, for every task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from raynas.nn import LayerChoice

TRAIN, VALID = 64, 32
VOCABULARY, LENGTH, CLASSES, PIXELS = 11, 6, 3, 8


class Listed(Dataset[Any]):
    """Items of a list."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: int) -> Any:
        return self.items[at]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def body(width: int, outputs: int) -> nn.Sequential:
    """Return layers from features to outputs, with one choice of two."""
    acts = LayerChoice({"relu": nn.ReLU(), "tanh": nn.Tanh()}, label="act")
    return nn.Sequential(nn.Linear(width, 16), nn.BatchNorm1d(16), acts, nn.Linear(16, outputs))


class Rows(nn.Module):
    """Outputs of rows of features."""

    def __init__(self, outputs: int = CLASSES, width: int = 5) -> None:
        super().__init__()
        self.body = body(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)  # type: ignore[no-any-return]


class OneNumber(Rows):
    """One number a row, shape (n, 1)."""

    def __init__(self) -> None:
        super().__init__(1)


class ImageAndTable(nn.Module):
    """Classes of an image with a row of a table; inputs by position."""

    def __init__(self) -> None:
        super().__init__()
        convs = {f"k{k}": nn.Conv2d(1, 4, k, padding=k // 2) for k in (1, 3)}
        self.conv, self.norm = LayerChoice(convs, label="conv"), nn.BatchNorm2d(4)
        self.head = nn.Linear(4 + 5, CLASSES)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        features = self.norm(self.conv(image)).relu().mean((2, 3))
        return self.head(torch.cat([features, table], 1))  # type: ignore[no-any-return]


class KeywordsOfBoth(ImageAndTable):
    """The same; inputs by keyword."""


class Pixels(nn.Module):
    """Logits of every pixel, as torchvision's segmenters return them."""

    def __init__(self) -> None:
        super().__init__()
        convs = {f"k{k}": nn.Conv2d(1, 8, k, padding=k // 2) for k in (1, 3)}
        self.conv, self.norm = LayerChoice(convs, label="conv"), nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.head(self.norm(self.conv(x)).relu())}


class Tokens(nn.Module):
    """Logits of the next token at every place."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.mix = LayerChoice({"linear": nn.Linear(8, 8), "skip": nn.Identity()}, label="mix")
        self.head = nn.Linear(8, VOCABULARY)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.mix(self.embedding(ids)).relu())  # type: ignore[no-any-return]


class OwnLoss(Tokens):
    """Returns its own loss beside the logits, as Hugging Face's models do."""

    def forward(self, ids: Tensor, labels: Tensor | None = None) -> Any:
        logits = super().forward(ids)
        if labels is None:
            return SimpleNamespace(logits=logits)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return {"loss": loss, "logits": logits}


class TwoOutputs(nn.Module):
    """A number and classes at once, in a dict that only a task of one's own knows."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.number = body(5, CLASSES), nn.Linear(5, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"classes": self.body(x), "number": self.number(x)}


def both_losses(output: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    """The sum of a cross-entropy and a squared error."""
    of_classes = functional.cross_entropy(output["classes"], target["classes"])
    return of_classes + functional.mse_loss(output["number"][:, 0], target["number"])


def share_right(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> float:
    return float((outputs["classes"].argmax(1) == targets["classes"]).double().mean())


def features(count: int, seed: int) -> Tensor:
    return torch.randn(count, 5, generator=generator(seed))


def classes_of(x: Tensor) -> Tensor:
    """Which of the first three features is the largest."""
    return x[:, :CLASSES].argmax(1)


def classified(count: int, seed: int) -> Dataset[Any]:
    x = features(count, seed)
    return TensorDataset(x, classes_of(x))


def numbered(count: int, seed: int) -> Dataset[Any]:
    x = features(count, seed)
    return TensorDataset(x, 2 * x[:, 0] - x[:, 1] + 3)


def labelled(count: int, seed: int) -> Dataset[Any]:
    x = features(count, seed)
    return TensorDataset(x, (x[:, :CLASSES] > 0).float())


def of_both(count: int, seed: int) -> Dataset[Any]:
    x = features(count, seed)
    images = torch.randn(count, 1, PIXELS, PIXELS, generator=generator(seed + 1))
    return Listed([(images[i], x[i], int(classes_of(x)[i])) for i in range(count)])


def by_keyword(count: int, seed: int) -> Dataset[Any]:
    x = features(count, seed)
    images = torch.randn(count, 1, PIXELS, PIXELS, generator=generator(seed + 1))
    items = [
        {"image": images[i], "table": x[i], "label": int(classes_of(x)[i])} for i in range(count)
    ]
    return Listed(items)


def pixels(count: int, seed: int) -> Dataset[Any]:
    x = torch.randn(count, 1, PIXELS, PIXELS, generator=generator(seed))
    y = (x[:, 0] > 0).long() + (x[:, 0] > 1).long()
    y[:, 0] = 255  # an edge that counts for nothing
    return TensorDataset(x, y)


def tokens(count: int, seed: int) -> Dataset[Any]:
    start = torch.randint(VOCABULARY, (count, 1), generator=generator(seed))
    ids = (start + torch.arange(LENGTH + 1)) % VOCABULARY
    return TensorDataset(ids[:, :-1], ids[:, 1:])


def labelled_tokens(count: int, seed: int) -> Dataset[Any]:
    pairs = tokens(count, seed)
    return Listed([dict(zip(("ids", "labels"), pairs[at], strict=True)) for at in range(count)])


def two_targets(count: int, seed: int) -> Dataset[Any]:
    x = features(count, seed)
    targets = [{"classes": classes_of(x)[i], "number": x[i, 0]} for i in range(count)]
    return Listed([(x[i], targets[i]) for i in range(count)])


@dataclass(frozen=True)
class Case:
    """A task with a model and data.

    Attributes:
        model: with choices.
        data: makes a dataset of a count and a seed.
        given: arguments of a search.
        metrics: columns that its rows have.
    """

    model: Callable[[], nn.Module]
    data: Callable[[int, int], Dataset[Any]]
    given: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ("accuracy", "loss")

    @property
    def datasets(self) -> tuple[Dataset[Any], Dataset[Any]]:
        """Training and validation data."""
        return self.data(TRAIN, 0), self.data(VALID, 1)


CASES = {
    "classification": Case(Rows, classified),
    "weighted": Case(
        Rows,
        classified,
        {"task": ("classification", {"class_weights": [1.0, 2.0, 0.5], "top_k": (2,)})},
        ("accuracy", "top2_accuracy", "loss"),
    ),
    "two inputs": Case(ImageAndTable, of_both),
    "keywords": Case(KeywordsOfBoth, by_keyword),
    "regression": Case(OneNumber, numbered, {"task": "regression"}, ("mse", "mae", "r2", "loss")),
    "multilabel": Case(Rows, labelled, {"task": "multilabel"}, ("accuracy", "f1", "loss")),
    "segmentation": Case(
        Pixels, pixels, {"task": "segmentation"}, ("pixel_accuracy", "mean_iou", "loss")
    ),
    "language modelling": Case(
        Tokens,
        tokens,
        {"task": "language_modeling"},
        ("perplexity", "bits_per_token", "accuracy", "loss"),
    ),
    "loss of the model": Case(OwnLoss, labelled_tokens, {"task": "from_model"}, ("loss",)),
    "own": Case(
        TwoOutputs,
        two_targets,
        {"loss": both_losses, "metrics": {"right": share_right}, "objectives": {"right": "max"}},
        ("right", "loss"),
    ),
}
