"""Images in folders: layouts, what is cut out of them, how they are held, and what is told."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import raynas
from raynas.core.config import ComponentSpec
from raynas.data.errors import ReadError
from raynas.data.imagefolder import ImageFolder
from raynas.data.module import DATA, DataModule, DataWarning
from raynas.data.shared_images import SharedImages
from raynas.data.split import Split, split_of
from raynas.nn import LayerChoice
from raynas.setup.resolve_data import rebuild_data, resolve_data
from tests.inline import INLINE
from tests.nests import same

CLASSES, SIZE = ("ant", "bee", "cat"), 14
KEPT = 16  # 8/7 of it


def picture(seed: int, height: int = 20, width: int = 24, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3)
    pixels = np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def write(folder: Path, classes: tuple[str, ...] = CLASSES, each: int = 4, seed: int = 0) -> Path:
    """Write as many images of each class, of many sizes and kinds of file."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for at in range(each):
            number = 100 * seed + 10 * label + at
            kind = ("png", "jpg", "bmp", "png")[at % 4]
            mode = ("RGB", "RGB", "L", "P")[at % 4]
            picture(number, 18 + number % 9, 30 - number % 7, mode).save(
                folder / name / f"{at}.{kind}"
            )
    return folder


def images(path: Path, **options: Any) -> ImageFolder:
    return ImageFolder(path=str(path), size=SIZE, loader_workers=0, **options)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A folder with all three parts."""
    for seed, part in enumerate(("train", "val", "test")):
        write(tmp_path / part, each=4 - seed, seed=seed)
    return tmp_path


def all_of(split: Split, **where: Any) -> Any:
    return list(split.batches(None, 5, **({"epoch": 0, "seed": 0} | where)))


def splits_of(data: DataModule) -> list[Split]:
    return [split_of(part) for part in data.load().parts() if part is not None]


def middle(file: Path) -> torch.Tensor:
    """Return what a model is to see of an image, computed by Pillow and numpy alone."""
    image = Image.open(file).convert("RGB")
    width, height = image.size
    scale = KEPT / min(width, height)
    new = (
        (KEPT, int(KEPT * height / width)) if width < height else (int(KEPT * width / height), KEPT)
    )
    assert min(new) == KEPT
    assert scale > 0
    array = np.asarray(image.resize(new, Image.Resampling.BILINEAR), dtype=np.float32) / 255
    top, left = (round((length - SIZE) / 2) for length in array.shape[:2])
    cut = array[top : top + SIZE, left : left + SIZE]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((torch.tensor(cut) - mean) / std).permute(2, 0, 1)


@pytest.mark.parametrize("hold", ["memory", "stream"])
def test_images_to_validate_and_test_are_the_middle(whole: Path, hold: Any) -> None:
    data = images(whole, hold=hold)
    assert (data.input_shape, data.num_classes, data.classes) == ((3, SIZE, SIZE), 3, CLASSES)
    assert data.signature == {"shape": [3, SIZE, SIZE], "dtype": "float32"}
    train, *others = splits_of(data)
    assert [len(train), *map(len, others)] == [12, 9, 6]
    for split, part in zip(others, ("val", "test"), strict=True):
        assert split.in_memory == (hold == "memory")
        files = sorted((whole / part).glob("*/*"))
        x, y = split.some(range(len(split)))
        assert y.tolist() == [CLASSES.index(file.parent.name) for file in files]
        assert torch.allclose(x, torch.stack([middle(file) for file in files]), atol=1e-5)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_the_folder_to_validate_has_several_names(tmp_path: Path, name: str) -> None:
    write(tmp_path / "train")
    write(tmp_path / name, each=2, seed=1)
    assert [len(split) for split in splits_of(images(tmp_path))] == [12, 6]


@pytest.mark.parametrize("inner", ["", "train"])
def test_images_without_a_folder_to_validate_are_split_by_seed(tmp_path: Path, inner: str) -> None:
    write(tmp_path / inner, each=5)
    says = "has no folder of images to validate; 20% of those to train are drawn by seed 3"
    with pytest.warns(DataWarning, match=says):
        first = images(tmp_path, split_seed=3, hold="stream")
    with pytest.warns(DataWarning):
        again, other = (images(tmp_path, split_seed=seed) for seed in (3, 4))
    train, valid = splits_of(first)
    files: list[Any] = [{file for file, _ in part.dataset.samples} for part in (train, valid)]  # type: ignore[attr-defined]
    assert [len(part) for part in files] == [12, 3]
    assert not files[0] & files[1]
    assert {Path(file) for file in files[0] | files[1]} == set((tmp_path / inner).glob("*/*"))
    assert same(all_of(splits_of(again)[1]), all_of(valid))
    assert not same(all_of(splits_of(other)[1]), all_of(valid))


def test_a_recorded_split_is_not_said_again(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.warns(DataWarning):
        data = resolve_data(f"imagefolder:{tmp_path}", {"size": SIZE})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rebuild_data(data.spec) is not None


# --- training ---


@pytest.mark.parametrize("workers", [0, 2])
def test_training_images_are_the_same_held_or_streamed(whole: Path, workers: int) -> None:
    order = np.random.default_rng(0).permutation(12)
    modules = [
        ImageFolder(path=str(whole), size=SIZE, hold=hold, loader_workers=workers)
        for hold in ("memory", "stream")
    ]
    held, streamed = (split_of(module.load().train) for module in modules)
    for epoch in (0, 1, 2):
        batches = [list(split.batches(order, 4, epoch=epoch, seed=5)) for split in (held, streamed)]
        assert same(*batches)
        assert len(batches[0]) == 3


def test_training_images_are_drawn_anew_for_every_epoch_and_seed(whole: Path) -> None:
    """Parts of 12 images: that two of an image agree has a chance of less than 1 %."""
    train = split_of(images(whole).load().train)
    first, again = all_of(train, seed=1), all_of(train, seed=1)
    assert same(first, again)
    for other in ({"epoch": 1, "seed": 1}, {"epoch": 0, "seed": 2}):
        x = torch.cat([x for x, _ in all_of(train, **other)])
        differ = (x != torch.cat([x for x, _ in first])).flatten(1).any(1)
        assert differ.sum() >= 9  # 4 or more of 12 agreeing: less than 1e-5


def test_a_training_image_is_a_part_of_its_square(tmp_path: Path) -> None:
    """One colour each in four fields: a part shows colours of the square alone."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :16, 0] = pixels[16:, 16:, 1] = 255
    for part in ("train", "val"):
        for name in CLASSES[:2]:
            (tmp_path / part / name).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / part / name / "0.png")
    data = images(tmp_path, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), flip=False, min_scale=0.9)
    x, _ = split_of(data.load().train).some([0])
    assert x.shape == (1, 3, SIZE, SIZE)
    assert x[0, 0, 0, 0] == x[0, 1, -1, -1] == 1.0
    assert x[0, 2].max() == 0
    assert x[0, 0, -3:].max() == x[0, 1, :3].max() == 0


def test_images_are_mirrored_half_the_time_unless_they_may_not(tmp_path: Path) -> None:
    """40 draws: that all fall alike has a chance of 2e-12."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16] = 255
    for part in ("train", "val"):
        for name in CLASSES[:2]:
            (tmp_path / part / name).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / part / name / "0.png")
    for flip, sides in ((True, {True, False}), (False, {True})):
        train = split_of(images(tmp_path, flip=flip, min_scale=0.9).load().train)
        seen = [all_of(train, epoch=epoch)[0][0][0] for epoch in range(40)]
        assert {bool(x[0, 7, 1] > x[0, 7, -2]) for x in seen} == sides


def test_a_decoded_image_is_decoded_once(whole: Path) -> None:
    held = images(whole, hold="memory")
    train = split_of(held.load().train)
    first = all_of(train)
    for file in (whole / "train").glob("*/*"):
        file.unlink()
    assert same(all_of(train), first)


def test_processes_share_what_they_decode(whole: Path) -> None:
    data = ImageFolder(path=str(whole), size=SIZE, hold="memory", loader_workers=2)
    train: Any = split_of(data.load().train)
    first = all_of(train)
    assert all(train.dataset.cache[index] is not None for index in range(12))
    for file in (whole / "train").glob("*/*"):
        file.unlink()
    assert same(all_of(train), first)


def test_a_copy_of_the_cache_begins_empty() -> None:
    cache = SharedImages(2, (3, 4, 5))
    image = torch.arange(60, dtype=torch.uint8).view(3, 4, 5)
    cache.put(1, image)
    assert cache[0] is None
    assert torch.equal(cache[1], image)  # type: ignore[arg-type]
    copy = pickle.loads(pickle.dumps(cache))
    assert copy[1] is None
    assert len(pickle.dumps(cache)) < 500


def test_small_splits_are_held_and_large_ones_streamed(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raynas.data.imagefolder.LIMIT", 9 * 3 * SIZE * SIZE)
    train, valid, test = splits_of(images(whole))
    assert train.dataset.cache is None  # type: ignore[attr-defined]
    assert (valid.in_memory, test.in_memory) == (False, True)


# --- how a run records it ---


def test_a_run_records_where_the_images_are(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(whole.parent)
    options = {"size": SIZE, "loader_workers": 0}
    named = resolve_data(f"imagefolder:{whole.name}", options)
    pair = resolve_data(("imagefolder", {"path": whole.name, **options}), {})
    table = resolve_data({"type": "imagefolder", "args": {"path": whole.name, **options}}, {})
    expected = ComponentSpec(name="imagefolder", options={"path": str(whole), **options})
    assert named.spec == pair.spec == table.spec == expected
    monkeypatch.chdir("/")
    recorded = ComponentSpec.model_validate_json(expected.model_dump_json())
    again = rebuild_data(recorded)
    assert again is not None
    assert same(all_of(splits_of(again.module)[1]), all_of(splits_of(named.module)[1]))


def test_a_configured_object_is_recorded_with_its_options(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole.parent)
    data = resolve_data(ImageFolder(path=whole.name, size=SIZE, flip=False), {})
    assert data.spec is not None
    assert data.spec.options["path"] == str(whole)
    monkeypatch.chdir("/")
    again = rebuild_data(ComponentSpec.model_validate_json(data.spec.model_dump_json()))
    assert again is not None
    assert isinstance(again.module, ImageFolder)
    assert (again.module.size, again.module.flip, again.module.mean) == (
        SIZE,
        False,
        (0.485, 0.456, 0.406),
    )


def test_images_travel_by_their_path(whole: Path) -> None:
    data = images(whole)
    expected = [all_of(split) for split in splits_of(data)]
    packed = pickle.dumps(data)
    assert len(packed) < 10_000
    assert same([all_of(split) for split in splits_of(pickle.loads(packed))], expected)
    for split in splits_of(data):
        assert same(all_of(pickle.loads(pickle.dumps(split))), all_of(split))


class Net(nn.Module):
    """A choice of two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        layers = {"a": nn.Conv2d(3, 8, 3, 2, 1), "b": nn.Conv2d(3, 8, 5, 2, 2)}
        self.body, self.head = LayerChoice(layers, label="body"), nn.Linear(8, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.body(x).relu().mean((2, 3)))
        return y


def test_a_search_is_the_same_held_or_streamed_and_goes_on_from_its_folder(
    whole: Path, tmp_path: Path
) -> None:
    losses = []
    for hold in ("memory", "stream"):
        out = str(tmp_path / hold)
        run = raynas.search(
            Net,
            "random",
            data=f"imagefolder:{whole}",
            data_options={"size": SIZE, "hold": hold, "loader_workers": 0},
            supernet={"epochs": 2, "batch_size": 4},
            trials=2,
            out=out,
            ray=INLINE,
        )
        losses.append(run.trials["loss"].tolist())
        again = raynas.load(out)
        train = split_of(again.rebuilt.data.load().train)
        with torch.no_grad():
            assert again.model(again.best.arch)(train.example(2)).shape == (2, 3)
    assert losses[0] == losses[1]


# --- what is told ---


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no folder .*/fotos; did you mean 'photos'\?"):
        resolve_data(f"imagefolder:{tmp_path / 'fotos'}", {})
    with pytest.raises(FileNotFoundError, match=r"no folder .*/nowhere/fotos; none is known"):
        images(tmp_path / "nowhere" / "fotos")


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Couldn't find any class folder"):
        images(tmp_path)
    write(tmp_path / "train")
    write(tmp_path / "val")
    for file in (tmp_path / "val" / "bee").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="/val: Found no valid file for the classes bee"):
        images(tmp_path)


def test_a_folder_to_train_that_is_missing_is_told(tmp_path: Path) -> None:
    write(tmp_path / "trian")
    write(tmp_path / "val")
    with pytest.raises(ValueError, match=r"has no folder train; did you mean 'trian'\?"):
        images(tmp_path)


@pytest.mark.parametrize(
    ("valid", "says"),
    [
        (("ant", "bee"), r"/train has a class 'cat' that .*/val has not"),
        (("ant", "bee", "cat", "dog"), r"/val has a class 'dog' that .*/train has not"),
        (("ant", "bees", "cat"), r"/train has a class 'bee' .*/val has not; did you mean 'bees'"),
    ],
)
def test_classes_of_one_split_only_are_told(tmp_path: Path, valid: Any, says: str) -> None:
    write(tmp_path / "train", each=1)
    write(tmp_path / "val", valid, each=1)
    with pytest.raises(ValueError, match=says):
        images(tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 0}, "got 0, "),
        ({"std": (1.0, 0.0, 1.0)}, "std > 0"),
        ({"min_scale": 1.5}, r"and 0 < valid < 1, got .* 1.5"),
        ({"valid": 1.0}, r"1\.0$"),
        ({"hold": "ram"}, "no way to hold data is 'ram'"),
    ],
)
def test_options_out_of_range_are_told(whole: Path, options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ImageFolder(**({"path": str(whole), "size": SIZE} | options))


def test_options_that_there_are_not_are_told(whole: Path) -> None:
    with pytest.raises(ValueError, match="has no option 'sise'; did you mean 'size'"):
        resolve_data(f"imagefolder:{whole}", {"sise": 3})
    with pytest.raises(ValueError, match="the option 'path' is given twice"):
        resolve_data(f"imagefolder:{whole}", {"path": "elsewhere"})
    with pytest.raises(ValueError, match="'digits' has no option 'path'"):
        resolve_data(f"digits:{whole}", {})
    with pytest.raises(
        KeyError, match="no data set named 'imagefodler'; did you mean 'imagefolder'"
    ):
        resolve_data(f"imagefodler:{whole}", {})
    with pytest.raises(TypeError, match="expected a dict of options after the name, got 3"):
        resolve_data(("imagefolder", 3), {})


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_told_with_its_file(whole: Path, workers: int) -> None:
    file = whole / "train" / "bee" / "1.jpg"
    file.write_bytes(file.read_bytes()[:200])
    data = ImageFolder(path=str(whole), size=SIZE, loader_workers=workers)
    says = rf"^data: train\[5\] of imagefolder, {file}, raised (OSError|UnidentifiedImageError): "
    with pytest.raises(ReadError, match=says):
        all_of(split_of(data.load().train))


def test_it_is_registered() -> None:
    assert DATA["image_folder"] is ImageFolder


# --- policies of augmentation ---------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["auto", "rand", "trivial", "augmix"])
def test_a_policy_changes_training_images_alone_and_is_the_seed_s(policy: str, whole: Path) -> None:
    plain, changed = (images(whole, flip=False, min_scale=1.0, policy=p) for p in (None, policy))
    everything = np.arange(len(split_of(plain.load().train)))

    def read(data: ImageFolder, epoch: int) -> Any:
        batches = split_of(data.load().train).batches(everything, 4, epoch=epoch, seed=1)
        return torch.cat([inputs for inputs, _ in batches])

    assert same(read(changed, 0), read(changed, 0))
    assert not same(read(changed, 0), read(changed, 1))
    assert any(not same(read(changed, at), read(plain, at)) for at in range(3))
    assert same(split_of(plain.load().valid).some([0]), split_of(changed.load().valid).some([0]))
    spec = resolve_data(f"imagefolder:{whole}", {"policy": policy, "size": SIZE}).spec
    assert spec is not None
    assert spec.options["policy"] == policy


def test_a_policy_that_there_is_not_is_told(whole: Path) -> None:
    with pytest.raises(ValueError, match="no policy 'trivail'; did you mean 'trivial'"):
        images(whole, policy="trivail")
