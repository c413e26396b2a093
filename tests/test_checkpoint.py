"""A supernet on disk, and in memory that several models share."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raynas.core.errors import InvalidSpace
from raynas.nn import LayerChoice, activate, space_of
from raynas.nn.modelspace import ModelSpace
from raynas.supernet.attributes import read_attributes, write_attributes
from raynas.supernet.checkpoint import (
    Arrays,
    find_checkpoint,
    load_about,
    load_attributes,
    load_shared,
    load_state,
    load_supernet,
    load_weights,
    save_checkpoint,
    share_arrays,
    share_weights,
    to_arrays,
)
from raynas.supernet.rebuilding import check_checkpoint, check_rebuilding
from raynas.supernet.scoring import SubnetScorer
from tests.zoo import RandomPermutation


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
    with pytest.raises(ValueError, match="other things than tensors and plain values"):
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
        self.added: Callable[[Tensor], Tensor] | None = None
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
            case "closure":
                self.constant = torch.zeros(3)
                self.added = lambda x: x + numbers

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.choice(x) + (self.kept[0] if self.kept else self.constant)
        return y if self.added is None else self.added(y)


WAYS = ("attribute", "list", "unsaved", "saved", "numpy", "item", "closure")


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


# --- what is not in the state_dict ---

ODD_TYPES = (torch.bfloat16, torch.float64, torch.complex64, torch.complex128)


class Kinds(nn.Module):
    """Attributes of every kind that is kept."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        rng = np.random.default_rng(seed)
        self.tensor, self.shared = torch.full((2, 3), float(seed)), torch.zeros(2)
        self.same = [self.shared, self.shared]
        self.array = rng.random((2, 2))
        self.number, self.text = np.float32(rng.random()), f"seed {seed}"
        self.nested = {"a": [1, (2.5, None, {seed})], 3: [torch.full((1,), seed)], "c": 1j * seed}
        self.generators = [torch.Generator().manual_seed(seed), rng, random.Random(seed)]
        self.expanded = torch.full((1,), float(seed)).expand(4)
        self.late: Tensor | None = None
        self.register_buffer("buffer", torch.full((2,), seed), persistent=False)


def drawn(generators: Any) -> list[float]:
    own, numpys, pythons = generators
    return [float(torch.rand((), generator=own)), float(numpys.random()), pythons.random()]


def test_attributes_of_every_kind_are_read_and_written(tmp_path: Path) -> None:
    first, second = Kinds(1), Kinds(2)
    first.late = torch.ones(3)
    drawn(first.generators)  # which are then in the middle
    save_checkpoint(tmp_path, first, {}, {}, read_attributes(first))
    shared, array = second.shared, second.array
    write_attributes(second, load_attributes(tmp_path))
    for name in ("tensor", "shared", "expanded", "late", "buffer"):
        ours, theirs = getattr(second, name), getattr(first, name)
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert (second.array == first.array).all()
    assert (type(second.number), second.number) == (np.float32, first.number)
    assert second.text == first.text
    assert str(second.nested) == str(first.nested)
    assert second.shared is shared is second.same[0] is second.same[1]
    assert second.array is array
    assert drawn(second.generators) == drawn(first.generators)


def test_plain_data_as_they_are_built_are_left_out() -> None:
    first = Kinds(1)
    assert ".text" not in read_attributes(first, Kinds(1))
    assert {".text", ".number"} <= read_attributes(first, Kinds(2)).keys()
    assert {".tensor", ".array", ".buffer"} <= read_attributes(first, Kinds(1)).keys()
    assert read_attributes(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))) == {}


def test_attributes_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Linear has no module 'inner', whose 'scale' is to be"):
        write_attributes(nn.Linear(1, 1), {"inner.scale": ("plain", 3)})


def test_views_of_weights_stay_views() -> None:
    def made() -> Any:
        model: Any = nn.Linear(2, 3)
        model.back, model.own = model.weight.detach().t(), model.weight.detach()[0]
        return model

    first, second = made(), made()
    first.own = first.own.clone()  # is one no more
    with torch.no_grad():
        first.weight += 1
    second.load_state_dict(first.state_dict())
    write_attributes(second, read_attributes(first))
    assert torch.equal(second.weight, first.weight)
    assert torch.equal(second.own, first.own)
    with torch.no_grad():
        second.weight += 1
    assert torch.equal(second.back, second.weight.t())
    assert torch.equal(second.own, first.own)


def test_tied_weights_stay_tied_on_shared_arrays() -> None:
    made = net(1)
    share_arrays(made, arrays())
    assert made.head.weight is made.tied.weight
    assert sum(p.numel() for p in made.parameters()) == sum(p.numel() for p in net().parameters())


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float64, torch.complex64, torch.complex128]
)
def test_states_of_any_type_are_shared(dtype: torch.dtype, tmp_path: Path) -> None:
    def made(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(2, 2), nn.Flatten())
        model.register_buffer("odd", torch.randn(3).to(dtype))
        return model

    first, second = made(0), made(1)
    save_checkpoint(tmp_path, first, {}, {})
    share_weights(second, load_shared(tmp_path))
    assert torch.equal(second.get_buffer("odd"), first.get_buffer("odd"))
    third = made(2)
    third.load_state_dict(load_weights(tmp_path))
    assert torch.equal(third.get_buffer("odd"), first.get_buffer("odd"))


# --- seeds ---


class Drawn(nn.Module):
    """Draws from all global generators."""

    def __init__(self) -> None:
        super().__init__()
        self.choice = LayerChoice({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)}, label="choice")
        self.numbers = (
            float(torch.rand(())),
            float(np.random.random()),  # noqa: NPY002 - which users draw from
            random.random(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.choice(x) * sum(self.numbers)
        return y


def states() -> list[Any]:
    numpys: Any = np.random.get_state()  # noqa: NPY002
    return [torch.get_rng_state().tolist(), random.getstate(), numpys[1].tolist(), numpys[2]]


def test_a_seed_fixes_all_that_a_model_draws() -> None:
    space, before = ModelSpace(Drawn), states()
    first = space.supernet(1)
    assert states() == before
    assert first.numbers == space.supernet(1).numbers == space.skeleton(1).numbers
    assert first.numbers == space.seeded(1).supernet().numbers
    assert not set(first.numbers) & set(space.supernet().numbers)  # type: ignore[arg-type]
    built = space.seeded(1).build({"choice": "a"})
    assert built.numbers == first.numbers
    assert space.seeded(0) is space
    assert space.seeded(1).seeded(1).seed == 1


class Hides(Drawn):
    """Draws from a generator of its own, for a function that nobody looks into."""

    def __init__(self, rng: Any = None) -> None:
        super().__init__()
        sign = float((rng or np.random.default_rng()).normal())
        self.signed: Callable[[Tensor], Tensor] = lambda x: x * sign

    def forward(self, x: Tensor) -> Tensor:
        return self.signed(super().forward(x))


class Rewired(nn.Module):
    """Has another layer each time."""

    def __init__(self) -> None:
        super().__init__()
        self.choice = LayerChoice({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)}, label="choice")
        self.size = np.random.default_rng().integers(10**6)
        self.layers = nn.ParameterDict({str(self.size): torch.zeros(1)})
        self.held = [lambda: self.size]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.choice(x)
        return y


ROW = {"shape": [3], "dtype": "float32"}


def test_what_cannot_be_rebuilt_is_refused_by_name() -> None:
    check_rebuilding(ModelSpace(Drawn), ROW)
    check_rebuilding(ModelSpace(lambda: Hides(np.random.default_rng(3))), ROW)
    with pytest.raises(InvalidSpace, match=r"Hides computes something else .*: see signed \(func"):
        check_rebuilding(ModelSpace(Hides), ROW)
    with pytest.raises(InvalidSpace, match=r"Rewired is built otherwise each time, though by one"):
        check_rebuilding(ModelSpace(Rewired), ROW)


def kept(space: ModelSpace, folder: Path, about: dict[str, Any]) -> Path:
    folder.mkdir()
    model = space.supernet(about.get("seed", 5))
    save_checkpoint(folder, model, {}, {"epoch": 1, **about}, read_attributes(model))
    return folder


def test_a_supernet_of_another_seed_is_taken_as_it_is(tmp_path: Path) -> None:
    space = ModelSpace(lambda: RandomPermutation()).seeded(3)
    other = kept(space, tmp_path / "other", {"seed": 5})
    check_checkpoint(space, other, "other")
    assert torch.equal(load_supernet(space, other, 3).perm, space.supernet(5).perm)  # type: ignore[arg-type]
    assert load_shared(other, 3).seed == 5


def test_what_an_older_supernet_did_not_keep_is_named(tmp_path: Path) -> None:
    space = ModelSpace(lambda: RandomPermutation())
    old = kept(space, tmp_path / "old", {})
    with pytest.raises(ValueError, match="old is of an earlier version, which did not keep perm"):
        check_checkpoint(space, old, "old")
    plain = ModelSpace(lambda: Net())
    check_checkpoint(plain, kept(plain, tmp_path / "plain", {}), "plain")
