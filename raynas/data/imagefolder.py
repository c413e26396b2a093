"""Images in folders, one for each class, read through torchvision."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from raynas.core.errors import nearest
from raynas.data.errors import ReadError, in_words
from raynas.data.holding import LIMIT, Hold, check_hold
from raynas.data.module import DATA, NAMES, DataModule, DataWarning, Splits
from raynas.data.readers import Loading
from raynas.data.reading import Reading
from raynas.data.shared_images import SharedImages
from raynas.data.split import Split
from raynas.data.streamed import StreamedSplit

VALID_NAMES = ("val", "valid", "validation")
POLICIES = {
    "auto": "AutoAugment",
    "rand": "RandAugment",
    "trivial": "TrivialAugmentWide",
    "augmix": "AugMix",
}
KEPT_SIZE = 8 / 7  # height of an image as it is kept over that of what a model sees: 256 to 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet: red, green, blue

Samples = list[tuple[str, int]]  # file and class index
Transform = Callable[[Any], Tensor]


@DATA.register("imagefolder")
class ImageFolder(DataModule):
    """Colour images in folders that are named as their classes.

    The folder holds ``train`` and ``val`` (or ``valid``), perhaps ``test``, with a folder for each
    class in them; or these folders at once, of which a share is drawn to validate, after a warning.
    Images are scaled so that their shorter side is ``size`` * 8/7, and cut to the middle square. To
    train, a part of it of random size and place is scaled to ``size`` and mirrored by chance; else
    its middle is taken.

    Differs: torchvision's reference training cuts the random part out of the whole image, not out
    of a square that can be kept decoded.

    Args:
        path: of the folder.
        size: height and width of what a model sees.
        mean: taken off each channel, of values from 0 to 1; ImageNet's.
        std: that each channel is divided by; ImageNet's.
        min_scale: share of the area that a random part has at least.
        flip: whether images are mirrored with probability one half.
        policy: ``auto`` (arXiv:1805.09501, for ImageNet), ``rand`` (arXiv:1909.13719), ``trivial``
            (arXiv:2103.10158) or ``augmix`` (arXiv:1912.02781), torchvision's, after that; None
            changes nothing more.
        valid: share of the images to validate, where there is no folder of these.
        split_seed: of that draw.
        hold: ``memory`` keeps decoded images, ``stream`` decodes them in every epoch; ``auto``
            keeps splits of less than 1 GiB.
        loader_workers: processes that read ahead; two if nothing is said.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there are no images, classes of which only one split has images, or an option is
            out of range.
    """

    name = "imagefolder"

    def __init__(
        self,
        *,
        path: str,
        size: int = 224,
        mean: tuple[float, float, float] = MEAN,
        std: tuple[float, float, float] = STD,
        min_scale: float = 0.08,
        flip: bool = True,
        policy: str | None = None,
        valid: float = 0.2,
        split_seed: int = 0,
        hold: Hold = "auto",
        loader_workers: int | None = None,
    ) -> None:
        check_hold(hold)
        if size < 1 or min(std) <= 0 or not 0 < min_scale <= 1 or not 0 < valid < 1:
            raise ValueError(
                "imagefolder: expected size > 0, std > 0, 0 < min_scale <= 1 and 0 < valid < 1, "
                f"got {size}, {std}, {min_scale} and {valid}"
            )
        self.path, self.size, self.mean, self.std = path, size, mean, std
        if policy is not None and policy not in POLICIES:
            raise ValueError(f"imagefolder: no policy {policy!r}; {nearest(policy, POLICIES)}")
        self.min_scale, self.flip, self.valid, self.split_seed = min_scale, flip, valid, split_seed
        self.policy = policy
        self.hold: Hold = hold
        self.loader_workers = loader_workers
        self.classes, self._samples = _listed(Path(path))
        if "valid" not in self._samples:
            self._say_split()
        self.input_shape, self.num_classes = (3, size, size), len(self.classes)
        self.batch_size = min(128, max(2, len(self._divided()["train"]) // 30))
        self._splits: Splits | None = None

    def load(self) -> Splits:
        """Return the splits; validation and test are decoded now where they are kept."""
        if self._splits is None:
            parts = self._divided()
            self._splits = Splits(*(self._split(n, parts[n]) for n in NAMES if n in parts))
        return self._splits

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_splits": None}

    def _say_split(self) -> None:
        text = (
            f"data: {self.path} has no folder of images to validate; {self.valid:.0%} of those to "
            f"train are drawn by seed {self.split_seed}"
        )
        warnings.warn(text, DataWarning, stacklevel=3)

    def _divided(self) -> dict[str, Samples]:
        """Return the files of each split, some drawn to validate where there is no folder."""
        if "valid" in self._samples:
            return self._samples
        samples = self._samples["train"]
        if len(samples) < 2:
            raise ValueError(f"imagefolder: {self.path} has one image; two at least can be split")
        order = np.random.default_rng(self.split_seed).permutation(len(samples)).tolist()
        few = min(max(1, round(self.valid * len(samples))), len(samples) - 1)
        drawn = {"valid": order[:few], "train": sorted(order[few:])}
        return self._samples | {n: [samples[at] for at in part] for n, part in drawn.items()}

    def _split(self, name: str, samples: Samples) -> Split:
        kept, trains = round(KEPT_SIZE * self.size), name == "train"
        side = kept if trains else self.size
        held = self.hold == "memory" or (
            self.hold == "auto" and 3 * side * side * len(samples) < LIMIT
        )
        images = Images(
            samples,
            name,
            _square(kept, side),
            _drawn(self.size, self.min_scale, self.flip, self.policy) if trains else None,
            SharedImages(len(samples), (3, side, side)) if held and trains else None,
        )
        prepare = partial(normalised, mean=self.mean, std=self.std)
        split = StreamedSplit(
            images, name, reading=Reading(prepare=prepare), loading=Loading(self.loader_workers)
        )
        return split.held() if held and not trains else split


class Images(Dataset[tuple[Tensor, int]]):
    """Images of files, uint8 of shape (3, height, width), with their class indices.

    Args:
        samples: files and class indices.
        split: that they are, for messages.
        square: makes a tensor of an image of PIL, always the same.
        drawn: changes it at random.
        cache: of what ``square`` made.
    """

    def __init__(
        self,
        samples: Samples,
        split: str,
        square: Transform,
        drawn: Transform | None = None,
        cache: SharedImages | None = None,
    ) -> None:
        self.samples, self.split = samples, split
        self.square, self.drawn, self.cache = square, drawn, cache

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file, label = self.samples[index]
        image = None if self.cache is None else self.cache[index]
        if image is None:
            image = self._decoded(index, file)
            if self.cache is not None:
                self.cache.put(index, image)
        return image if self.drawn is None else self.drawn(image), label

    def _decoded(self, index: int, file: str) -> Tensor:
        from torchvision.datasets.folder import default_loader

        try:
            return self.square(default_loader(file))
        except Exception as error:
            raise ReadError(
                f"data: {self.split}[{index}] of imagefolder, {file}, raised {in_words(error)}"
            ) from error


def normalised(
    images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Return images of uint8, shape (batch, 3, height, width), as floats with these taken off."""
    centre, scale = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (mean, std))
    return (images.float() / 255 - centre) / scale


def _square(kept: int, side: int) -> Transform:
    from torchvision.transforms import v2

    square: Transform = v2.Compose([v2.Resize(kept), v2.CenterCrop(side), v2.PILToTensor()])
    return square


def _drawn(size: int, min_scale: float, flip: bool, policy: str | None) -> Transform:
    from torchvision.transforms import v2

    steps: list[Transform] = [v2.RandomResizedCrop(size, scale=(min_scale, 1.0))]
    steps.append(v2.RandomHorizontalFlip(0.5 if flip else 0.0))
    if policy is not None:
        steps.append(getattr(v2, POLICIES[policy])())
    drawn: Transform = v2.Compose(steps)
    return drawn


def _listed(path: Path) -> tuple[tuple[str, ...], dict[str, Samples]]:
    """Return the classes, and the files of each split that has a folder."""
    folders = _folders(path)
    listed = {name: _images_in(folder) for name, folder in folders.items()}
    classes = listed["train"][0]
    for name, (others, _) in listed.items():
        if others != classes:
            odd = sorted({*classes} ^ {*others})[0]
            there, away = (name, "train") if odd in others else ("train", name)
            raise ValueError(
                f"imagefolder: {folders[there]} has a class {odd!r} that {folders[away]} has not; "
                f"{nearest(odd, classes if away == 'train' else others)}"
            )
    return classes, {name: samples for name, (_, samples) in listed.items()}


def _images_in(folder: Path) -> tuple[tuple[str, ...], Samples]:
    from torchvision.datasets import ImageFolder as Folder

    try:
        images = Folder(str(folder))
    except FileNotFoundError as error:
        raise ValueError(f"imagefolder: {folder}: {error}") from None
    return tuple(images.classes), images.samples


def _folders(path: Path) -> dict[str, Path]:
    """Return the folder of each split; that of training only where the classes lie in it."""
    if not path.is_dir():
        parent = path.parent
        names = [child.name for child in parent.iterdir()] if parent.is_dir() else []
        raise FileNotFoundError(f"imagefolder: no folder {path}; {nearest(path.name, names)}")
    names = [child.name for child in path.iterdir() if child.is_dir()]
    valid = [name for name in VALID_NAMES if name in names]
    if "train" not in names:
        if valid or "test" in names:
            raise ValueError(f"imagefolder: {path} has no folder train; {nearest('train', names)}")
        return {"train": path}
    parts = {"train": ["train"], "valid": valid, "test": [n for n in names if n == "test"]}
    return {split: path / given[0] for split, given in parts.items() if given}
