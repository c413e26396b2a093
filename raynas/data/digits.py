"""The handwritten digits that come with scikit-learn: 1,797 real images, no download."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raynas.data.module import DATA, DataModule, Splits, shifted

TRAIN, VALID = 1000, 400


@DATA.register("digits")
class Digits(DataModule):
    """8x8 grey images of ten digits: 1,000 to train, 400 to validate, 397 to test.

    Args:
        size: height and width that the images are enlarged to (bilinear); 16 leaves a net with
            three strided stages a 2x2 map.
        split_seed: shuffles the images into the three splits.

    Raises:
        ValueError: a size below 8.
    """

    name = "digits"
    num_classes = 10
    batch_size = 64

    def __init__(self, *, size: int = 16, split_seed: int = 0) -> None:
        if size < 8:
            raise ValueError(f"digits: size must be at least 8, got {size}")
        self.size, self.split_seed = size, split_seed
        self.input_shape = (1, size, size)

    def load(self) -> Splits:
        """Return the normalised images."""
        pixels, classes = _read()
        x = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8)
        x = (x - x.mean()) / x.std()
        if self.size != 8:
            x = torch.nn.functional.interpolate(x, (self.size, self.size), mode="bilinear")
        y = torch.tensor(classes, dtype=torch.int64)
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(self.split_seed))
        parts = order.split([TRAIN, VALID, len(y) - TRAIN - VALID])
        train, valid, test = ((x[part], y[part]) for part in parts)
        return Splits(train, valid, test)

    def augment(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Return the images moved by up to one pixel."""
        return shifted(x, 1, rng)


def _read() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the pixels, shape (images, 64), and the classes.

    The file is read as ``sklearn.datasets.load_digits`` reads it, where it lies as in the releases
    known today: the import of scikit-learn takes 2.5 s, in every process that scores.
    """
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            with gzip.open(file, "rt") as lines:
                table = np.loadtxt(lines, delimiter=",")
            return table[:, :-1], table[:, -1]
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.data, bunch.target
