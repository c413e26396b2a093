"""A supernet on disk, and in memory that several models share."""

from __future__ import annotations

import hashlib
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raynas.core.errors import InvalidSpace
from raynas.nn import LayerChoice, activate, space_of
from raynas.nn.modelspace import ModelSpace
from raynas.supernet.checkpoint import (
    Arrays,
    find_checkpoint,
    load_about,
    load_state,
    load_weights,
    save_checkpoint,
    share_arrays,
    to_arrays,
)
from raynas.supernet.scoring import SubnetScorer


class Net(nn.Module):
    """Convolutions of all sorts, BatchNorm, a scalar, a four-dimensional buffer, a tied weight."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        kernels = {
            f"k{k}": nn.Conv2d(8, 8, k, padding=k // 2, groups=g) for k, g in ((1, 1), (3, 8))
        }
        self.choice = LayerChoice(kernels)
        self.series = nn.Conv1d(8, 8, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("offset", torch.randn(1, 8, 1, 1))
        self.head = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.choice(self.norm(self.stem(x))) + self.offset
        x = self.series(x.flatten(2)).mean(2) * self.scale
        y: Tensor = self.tied(self.head(x))
        return y


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    made = Net()
    space_of(made)
    nn.init.uniform_(made.norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    return made


def arrays() -> Arrays:
    """Arrays as an object store gives them: read-only."""
    made = to_arrays(net().state_dict())
    for array in made.values():
        array.flags.writeable = False
    return made


def checksum(made: Arrays) -> str:
    state = hashlib.sha256()
    for name, array in sorted(made.items()):
        state.update(name.encode() + array.tobytes())
    return state.hexdigest()


X = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))
ARCHS: list[dict[str, Any]] = [{"choice": "k1"}, {"choice": "k3"}]


def save(folder: Path, epoch: int) -> Path:
    folder.mkdir(parents=True)
    save_checkpoint(folder, net(epoch), {"step": epoch}, {"epoch": epoch})
    return folder


def test_a_checkpoint_gives_back_what_was_saved(tmp_path: Path) -> None:
    first, second = net(), net(1)
    optimizer = torch.optim.SGD(first.parameters(), 0.1, momentum=0.9)
    activate(first, ARCHS[1])
    first(X).sum().backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "step": 3, "torch_rng": torch.get_rng_state()}
    about = {"epoch": 2, "space": {"name": "own", "options": {"width": 0.5}}}
    save_checkpoint(tmp_path, first, state, about)
    assert load_about(tmp_path) == about
    second.load_state_dict(load_weights(tmp_path))
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)
    loaded = load_state(tmp_path)
    assert loaded.keys() == state.keys()
    assert torch.equal(loaded["torch_rng"], torch.get_rng_state())
    for key, kept in optimizer.state_dict()["state"].items():
        loaded_buffer = loaded["optimizer"]["state"][key]["momentum_buffer"]
        assert torch.equal(loaded_buffer, kept["momentum_buffer"])


def test_saving_takes_any_memory_format_and_keeps_the_model(tmp_path: Path) -> None:
    made = net().to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path, made, {}, {})
    weights = load_weights(tmp_path)
    assert all(torch.equal(weights[name], t) for name, t in made.state_dict().items())
    assert made.head.weight is made.tied.weight
    assert made.stem.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_state_holds_no_code(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, nn.Linear(1, 1), {"algo": Path("x")}, {})
    with pytest.raises(pickle.UnpicklingError):
        load_state(tmp_path)


def test_the_newest_checkpoint_is_found(tmp_path: Path) -> None:
    supernet = tmp_path / "supernet"
    # named so that neither the first nor the last name is the newest
    for name, epoch in (("checkpoint_b", 2), ("checkpoint_a", 10), ("checkpoint_c", 9)):
        save(supernet / name, epoch)
    newest = supernet / "checkpoint_a"
    for path in (tmp_path, supernet, newest):
        assert find_checkpoint(path) == newest
    assert load_about(find_checkpoint(supernet / "checkpoint_c"))["epoch"] == 9
    save(supernet / "checkpoint_d", 10)
    assert find_checkpoint(tmp_path) == supernet / "checkpoint_d"


def test_a_checkpoint_without_its_weights_is_none(tmp_path: Path) -> None:
    save(tmp_path / "checkpoint_1", 1)
    broken = save(tmp_path / "checkpoint_2", 2)
    (broken / "model.safetensors").unlink()
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoint_1"


@pytest.mark.parametrize("name", [".", "nowhere"])
def test_a_missing_checkpoint_is_told_with_what_was_expected(name: str, tmp_path: Path) -> None:
    (tmp_path / "supernet").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        find_checkpoint(tmp_path / name)
    text = str(caught.value)
    parts = (str(tmp_path / name), "model.safetensors", "supernet/", "checkpoint_*")
    assert all(part in text for part in parts)


def test_arrays_hold_the_same_numbers() -> None:
    state = net().state_dict()
    made = to_arrays(state)
    assert list(made) == list(state)
    for name, tensor in state.items():
        array = made[name]
        assert array.flags.c_contiguous
        assert array.size == tensor.numel()
        order = (0, 2, 3, 1) if tensor.dim() == 4 else tuple(range(tensor.dim()))
        assert (array.reshape(-1) == tensor.permute(order).numpy().reshape(-1)).all()


def test_a_model_on_shared_arrays_computes_the_same() -> None:
    plain, shared = net().eval(), net(1).eval()
    share_arrays(shared, arrays())
    for arch in ARCHS:
        for made in (plain, shared):
            activate(made, arch)
        torch.testing.assert_close(shared(X), plain(X))
    assert shared.state_dict().keys() == plain.state_dict().keys()
    shapes = [t.shape for t in shared.state_dict().values()]
    assert shapes == [t.shape for t in plain.state_dict().values()]


class Odd(nn.Module):
    """Keeps a tensor of its own in one of several ways, and adds it to its result."""

    constant: Tensor

    def __init__(self, way: str) -> None:
        super().__init__()
        self.choice = LayerChoice({"k1": nn.Linear(3, 3), "k3": nn.Linear(3, 3)}, label="choice")
        self.way, self.kept = way, list[Tensor]()
        numbers = torch.linspace(1, 2, 3)
        match way:
            case "attribute":
                self.constant = numbers
            case "list":
                self.kept = [numbers]
            case "unsaved":
                self.register_buffer("constant", numbers, persistent=False)
            case "saved":
                self.register_buffer("constant", numbers)
            case "numpy":
                self.constant = torch.from_numpy(2 * numbers.numpy())
            case "item":
                self.constant = torch.full((3,), numbers[1].item())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.choice(x) + (self.kept[0] if self.kept else self.constant)
        return y


WAYS = ("attribute", "list", "unsaved", "saved", "numpy", "item")


@pytest.mark.parametrize("way", WAYS)
def test_a_skeleton_with_weights_computes_what_a_supernet_does(way: str) -> None:
    space = ModelSpace(lambda: Odd(way))
    before = torch.get_rng_state()
    plain, bare = space.supernet(3), space.skeleton()
    assert torch.equal(torch.get_rng_state(), before)
    assert {p.device.type for p in bare.parameters()} == {"meta" if way == "saved" else "cpu"}
    share_arrays(bare, to_arrays(plain.state_dict()))
    for arch in ARCHS:
        for made in (plain, bare):
            activate(made, arch)
        assert torch.equal(bare(X[0, 0, :, :3]), plain(X[0, 0, :, :3]))


def test_a_skeleton_of_what_is_no_model_says_so() -> None:
    with pytest.raises(InvalidSpace, match=r"must build an nn\.Module, got a int"):
        ModelSpace(lambda: 3).skeleton()  # type: ignore[arg-type, return-value]


def test_parameters_lie_in_the_arrays_and_buffers_do_not() -> None:
    made, shared = arrays(), net(1)
    share_arrays(shared, made)

    def inside(name: str, tensor: Tensor) -> bool:
        start = made[name].ctypes.data
        return start <= tensor.data_ptr() < start + made[name].nbytes

    assert all(inside(name, p) for name, p in shared.named_parameters())
    assert not any(inside(name, b) for name, b in shared.named_buffers())
    assert not any(p.requires_grad for p in shared.parameters())
    for name in ("stem", "choice.candidates.k1", "choice.candidates.k3"):
        weight = shared.get_parameter(f"{name}.weight")
        assert weight.is_contiguous(memory_format=torch.channels_last)
        _, into, high, wide = weight.shape
        assert weight.stride() == (into * high * wide, 1, into * wide, into)


def test_two_models_share_one_memory() -> None:
    made, models = arrays(), (net(1), net(2))
    for model in models:
        share_arrays(model, made)
    first, second = (model.stem.weight.data_ptr() for model in models)
    assert first == second
    first, second = (model.norm.running_mean.data_ptr() for model in models)  # type: ignore[union-attr]
    assert first != second


def test_training_mode_and_scoring_leave_the_arrays_alone() -> None:
    made, shared = arrays(), net(1)
    before = checksum(made)
    share_arrays(shared, made)
    examples = torch.randn(20, 3, 5, 5), torch.arange(20) % 8
    scorer = SubnetScorer(shared, examples, examples)
    for arch in ARCHS:
        activate(shared, arch)
        shared.train()(X)
        assert math.isfinite(scorer.score(arch)["loss"])
    assert shared.norm.num_batches_tracked is not None
    assert shared.norm.num_batches_tracked.item() == 2  # the buffers are the model's own
    assert checksum(made) == before
    assert not torch.equal(shared.norm.running_mean, torch.zeros(8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem.wight": np.zeros(1, np.float32)}, "stem.wight"),
        ({"stem.bias": None}, "stem.bias"),
        ({"stem.bias": np.zeros(9, np.float32)}, "stem.bias"),
        ({"norm.running_mean": None}, "norm.running_mean"),
    ],
    ids=["unknown", "missing", "shape", "missing buffer"],
)
def test_arrays_of_another_model_are_refused(change: dict[str, Any], message: str) -> None:
    made = {k: v for k, v in {**arrays(), **change}.items() if v is not None}
    with pytest.raises(RuntimeError, match=message):
        share_arrays(net(), made)
