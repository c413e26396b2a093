"""Switching a converted model: what is active is what a fresh copy would be, and nothing grows."""

from __future__ import annotations

import copy
import gc
import pickle
import types
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import DenseNet

import raynas
from raynas.core.errors import InvalidArch
from raynas.core.nest import Nest, call
from raynas.nn import activate
from raynas.nn.conversion.cuts import Cut, Kept, Lengths, Stretches
from raynas.nn.conversion.elastic_space import ElasticSpace

full = pytest.mark.full
UNCOUNTED = (type, types.FunctionType, types.ModuleType, types.BuiltinFunctionType)


def densenet() -> tuple[nn.Module, Nest]:
    """Each of its last layers keeps the first channels of eight others: more than is remembered."""
    model: nn.Module = DenseNet(8, (4, 4), 16, bn_size=2, num_classes=5)
    return model, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()


def gpt() -> tuple[nn.Module, Nest]:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 96, "n_embd": 64, "n_layer": 3, "n_head": 8, "n_positions": 64}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "use_cache": False}
    config = transformers.GPT2Config(**sizes, **ends)
    words = torch.randint(2, 96, (2, 7), generator=torch.Generator().manual_seed(1))
    return transformers.GPT2LMHeadModel(config), {"input_ids": words}


NETS = {"densenet": densenet, "gpt": gpt}
every_net = pytest.mark.parametrize("name", NETS)
some_nets = pytest.mark.parametrize("name", ["densenet", pytest.param("gpt", marks=full)])
Made = tuple[ElasticSpace, Nest]


@pytest.fixture(scope="module")
def spaces() -> dict[str, Made]:
    class Spaces(dict[str, Made]):
        def __missing__(self, name: str) -> Made:
            torch.manual_seed(0)
            model, example = NETS[name]()
            model = model.double().eval()
            space = raynas.elastic(model, example, width=[0.5, 0.75], heads=0.5, depth=True)
            self[name] = space, example
            return self[name]

    return Spaces()


def made(net: nn.Module, example: Nest) -> Tensor:
    with torch.no_grad():
        out = call(net, example)
    logits: Tensor = out if isinstance(out, Tensor) else out["logits"]
    return logits


def in_turns(space: ElasticSpace) -> list[raynas.Arch]:
    """Return architectures with the whole and the smallest among them, some of them twice."""
    rng = np.random.default_rng(3)
    whole = space.arch_space.decided(lambda decision: decision.options[0])
    smallest = space.arch_space.decided(lambda decision: decision.options[-1])
    drawn = [space.arch_space.sample(rng) for _ in range(12)]
    return [smallest, whole, *drawn, whole, *drawn[:2], smallest]


@some_nets
def test_what_is_active_does_not_depend_on_what_was(name: str, spaces: dict[str, Made]) -> None:
    space, example = spaces[name]
    net = space.supernet().eval()
    different = set()
    for at, arch in enumerate(in_turns(space)):
        if at == 5:
            net = copy.deepcopy(net)
        if at == 9:
            net = pickle.loads(pickle.dumps(net))
        fresh = space.supernet().eval()
        activate(fresh, arch)
        activate(net, arch)
        ours = made(net, example)
        assert torch.equal(ours, made(fresh, example))
        assert torch.equal(ours, made(copy.deepcopy(net), example))
        different.add(float(ours.sum()))
    assert len(different) > 10


@every_net
def test_an_architecture_that_is_none_changes_nothing(name: str, spaces: dict[str, Made]) -> None:
    space, example = spaces[name]
    net, arch = space.supernet().eval(), space.arch_space.sample(np.random.default_rng(4))
    activate(net, arch)
    before = made(net, example)
    label = next(iter(arch))
    for wrong in ({**arch, label: 0.25}, {**arch, "other": 1}, dict(list(arch.items())[1:])):
        with pytest.raises(InvalidArch):
            activate(net, raynas.Arch(wrong))
        assert torch.equal(made(net, example), before)


def held(root: Any) -> Iterator[Any]:
    """Yield all tensors and arrays that an object refers to, however it does."""
    stack, seen = [root], {id(root)}
    while stack:
        for item in gc.get_referents(stack.pop()):
            if id(item) in seen or isinstance(item, UNCOUNTED):
                continue
            seen.add(id(item))
            stack.append(item)
            if isinstance(item, Tensor | np.ndarray):
                yield item


def nbytes(root: Any) -> int:
    """Return the bytes of all tensors and arrays, those of shared memory once."""
    by_place: dict[int, int] = {}
    for item in held(root):
        if isinstance(item, Tensor):
            storage = item.untyped_storage()
            by_place[storage.data_ptr()] = storage.nbytes()
        elif item.base is None:
            by_place[item.ctypes.data] = item.nbytes
    return sum(by_place.values())


@every_net
def test_a_supernet_holds_the_model_and_little_else(name: str, spaces: dict[str, Made]) -> None:
    space, example = spaces[name]
    net, model = space.supernet(), nbytes(space.model)
    held_in_turn = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for _ in range(40):
            activate(net, space.arch_space.sample(rng))
            made(net, example)
        held_in_turn.append(nbytes(net))
    # of 30,000 float64; and half of 0.05, for what is held beside float64 is held beside float32
    assert max(held_in_turn) - model <= {"densenet": 0.06, "gpt": 0.025}[name] * model
    assert held_in_turn[2] <= 1.02 * held_in_turn[1]


# --- cuts -----------------------------------------------------------------------------------------


def kept_of(size: int, left_out: list[int]) -> Kept | None:
    """Return what stays, of units of one position each, without some that come last."""
    order = [at for at in range(size) if at not in left_out] + left_out
    lengths = Lengths(size, [torch.tensor(order)[:, None]])
    return lengths.kept((size - len(left_out),))


LEFT_OUT: list[list[int]] = [[], [11], [0, 1], [3, 4, 9, 10], [0, 2, 4, 6, 8, 10], [1, 5, 6], [7]]


def test_a_cut_keeps_what_selecting_positions_keeps() -> None:
    rng = torch.Generator().manual_seed(0)
    whole = torch.randn(12 * 12 * 3 * 3 + 5, generator=rng, dtype=torch.float64)
    dense = whole[5:].view(12, 12, 3, 3)  # begins amid of what others hold
    for form, first, second in product(("dense", "channels_last"), LEFT_OUT, LEFT_OUT):
        tensor = dense if form == "dense" else dense.to(memory_format=torch.channels_last)
        stays = [[at for at in range(12) if at not in out] for out in (first, second)]
        expected = tensor[stays[0]][:, stays[1]]
        kept = {dim: kept_of(12, out) for dim, out in enumerate((first, second))}
        some = {dim: at for dim, at in kept.items() if at is not None}
        assert [dim in some for dim in (0, 1)] == [bool(first), bool(second)]
        if not some:
            continue
        cut, ours = Cut(some, (12, 12, 3, 3)), tensor.detach().requires_grad_()
        part = cut(ours)
        assert torch.equal(part, expected)
        if cut.is_view:
            assert part.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
        weights = torch.randn(part.shape, generator=rng, dtype=torch.float64)
        (part * weights).sum().backward()
        spread = torch.zeros_like(tensor)
        spread[torch.tensor(stays[0])[:, None], torch.tensor(stays[1])] = weights
        assert ours.grad is not None
        assert torch.equal(ours.grad, spread)


@pytest.mark.parametrize("left_out", [out for out in LEFT_OUT if out])
def test_what_is_written_lies_where_it_is_kept(left_out: list[int]) -> None:
    kept = kept_of(12, left_out)
    assert kept is not None
    whole, stays = torch.zeros(12), [at for at in range(12) if at not in left_out]
    cut, value = Cut({0: kept}, (12,)), torch.arange(1.0, len(stays) + 1)
    cut.write(whole, value)
    assert torch.equal(cut(whole), value)
    assert torch.equal(whole[stays], value)
    assert not whole[left_out].any()


def test_equal_stretches_take_no_memory() -> None:
    heads = torch.stack([torch.arange(2) + 2 * head for head in range(4)])
    joined = torch.cat([heads, heads + 8, heads + 16], 1)  # of queries, keys and values
    assert Lengths(24, [joined]).kept((3,)) == Stretches(0, 3, 8, 6)
    assert Lengths(24, [joined]).kept((4,)) is None
    assert kept_of(24, [22, 23]) == Stretches(0, 1, 0, 22)
    several = Lengths(24, [torch.arange(4)[:, None], torch.arange(10, 24)[:, None]])
    positions = several.kept((2, 1))
    assert isinstance(positions, Tensor)
    assert positions.tolist() == [0, 1, *range(4, 11)]
    assert several.kept((4, 1)) == Stretches(0, 1, 0, 11)
    with pytest.raises(ValueError, match="nothing stays of a dimension of 3"):
        kept_of(3, [0, 1, 2])
