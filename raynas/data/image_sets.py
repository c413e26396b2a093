"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 through torchvision."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raynas.data.errors import ReadError, in_words
from raynas.data.module import DATA, DataModule, Splits, flipped, shifted

MISSING = ("not found", "Error downloading")  # in what torchvision says of files that are not there
FOLDER = Path.home() / ".cache" / "raynas" / "data"


class ImageSet(DataModule):
    """One of torchvision's small image sets, its training part split into train and valid.

    Args:
        kind: name of the torchvision class.
        name: what the configuration calls it.
        shape: of one image.
        classes: how many there are.
        shift: pixels that training images are moved by at most.
        flip: whether they may be mirrored.
        root: folder that holds the files, in torchvision's layout.
        download: fetch them if they are not there.
        train: images to train on at most, for a quick look; None takes all that are left.
        valid: images taken from the training part for validation, drawn by ``split_seed``.
        split_seed: of both draws.

    Raises:
        ValueError: no image would be left to train or to validate.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        shape: tuple[int, int, int],
        classes: int,
        shift: int,
        flip: bool,
        *,
        root: str | None = None,
        download: bool = False,
        train: int | None = None,
        valid: int = 10_000,
        split_seed: int = 0,
    ) -> None:
        if not 0 < valid < 50_000:
            raise ValueError(f"{name}: expected 0 < valid < 50000, got {valid}")
        if train is not None and train < 1:
            raise ValueError(f"{name}: expected train of at least 1, got {train}")
        self._kind, self.name, self.input_shape, self.num_classes = kind, name, shape, classes
        self._shift, self._flip = shift, flip
        self.root, self.download = root or str(FOLDER), download
        self.train, self.valid, self.split_seed = train, valid, split_seed

    def load(self) -> Splits:
        """Return the normalised images.

        Raises:
            FileNotFoundError: the files are not in ``root`` and ``download`` is off.
            ReadError: they are damaged, as a process leaves them that was killed while it unpacked.
        """
        (x, y), (x_test, y_test) = self._read(True), self._read(False)
        mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
        x, x_test = (x - mean) / std, (x_test - mean) / std
        if self.valid >= len(y):
            raise ValueError(f"{self.name}: valid={self.valid} leaves none of {len(y)} to train on")
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(self.split_seed))
        valid, train = order[: self.valid], order[self.valid :][: self.train]
        return Splits((x[train], y[train]), (x[valid], y[valid]), (x_test, y_test))

    def _read(self, train: bool) -> tuple[Tensor, Tensor]:
        import torchvision.datasets

        make = getattr(torchvision.datasets, self._kind)
        try:
            found = make(self.root, train=train, download=self.download)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise self._unread(error) from None
        x = torch.as_tensor(np.asarray(found.data), dtype=torch.float32) / 255
        x = x.unsqueeze(1) if x.dim() == 3 else x.permute(0, 3, 1, 2)
        return x, torch.as_tensor(found.targets, dtype=torch.int64)

    def _unread(self, error: Exception) -> Exception:
        if any(words in str(error) for words in MISSING):
            return FileNotFoundError(
                f"{self.name}: no files under {self.root}; pass the option root=FOLDER, or "
                f"download=true ({error})"
            )
        return ReadError(
            f"{self.name}: files under {self.root} are damaged: remove them and pass "
            f"download=true, or pass the option root=FOLDER ({in_words(error)})"
        )

    def augment(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Return the images moved, and mirrored where that keeps the class."""
        x = shifted(x, self._shift, rng)
        return flipped(x, rng) if self._flip else x


for _name, _kind, _shape, _classes, _shift, _flip in (
    ("mnist", "MNIST", (1, 28, 28), 10, 2, False),
    ("fashion_mnist", "FashionMNIST", (1, 28, 28), 10, 2, True),
    ("cifar10", "CIFAR10", (3, 32, 32), 10, 4, True),
    ("cifar100", "CIFAR100", (3, 32, 32), 100, 4, True),
):
    DATA.register(_name)(partial(ImageSet, _kind, _name, _shape, _classes, _shift, _flip))
