"""Laws of every registered search space."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterable
from functools import cache
from itertools import islice
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from raynas.core.arch import Arch
from raynas.core.errors import InvalidArch
from raynas.core.fixed import read_arch, write_arch
from raynas.core.options import options_of
from raynas.core.spacejson import from_plain, to_plain
from raynas.costs import cost_of
from raynas.nn import activate, freeze, space_of
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.mutable import mutables

SMALL = {
    "width": 0.1,
    "depth": 0.5,
    "resolution": 32,
    "channels": 8,
    "layers": 3,
    "cells": 1,
}

# Built by the code of two others, one of which has each one's layout and the other its strides.
VARIANTS = {"mobilenet_v2_imagenet", "mobilenet_v2_cifar_gpu"}


def but_full(names: Iterable[str], variants: Collection[str] = VARIANTS) -> list[Any]:
    """Return names for ``parametrize``; spaces that are variants of others are marked ``full``."""
    return [
        pytest.param(name, marks=pytest.mark.full if name in variants else ()) for name in names
    ]


every_space = pytest.mark.parametrize("name", but_full(SPACES))


@cache
def space(name: str) -> ModelSpace:
    """A registered space, as narrow and shallow and for as small images as it can be made."""
    builder = SPACES[name]
    options = {option.name: option.default for option in options_of(builder).values()}
    return builder(**{o: v for o, v in SMALL.items() if type(v) is type(options.get(o))})


@cache
def supernet(name: str) -> nn.Module:
    """Its supernet of seed 0, for tests that change nothing but the active architecture."""
    return space(name).supernet().eval()


def rows(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Noise that is always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def images(model: ModelSpace, batch: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    assert model.input_shape is not None
    return rows((batch, *model.input_shape), dtype)


def settled(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give a net BatchNorm statistics and weights that matter."""
    rng = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.running_mean is not None and module.running_var is not None:
                module.running_mean.normal_(generator=rng)
                module.running_var.uniform_(0.5, 2, generator=rng)
            if module.affine:
                nn.init.normal_(module.weight, 4, 1, generator=rng)  # some activations exceed 6
                nn.init.normal_(module.bias, generator=rng)
    return net


def sampled(model: ModelSpace, count: int, seed: int = 0) -> list[Arch]:
    rng = np.random.default_rng(seed)
    return [model.arch_space.sample(rng) for _ in range(count)]


@every_space
def test_a_space_builds_what_it_samples(name: str) -> None:
    model, x = space(name), images(space(name))
    arch = sampled(model, 1)[0]
    net = model.build(arch).eval()
    assert not list(mutables(net))
    out = net(x)
    assert out.shape[0] == 2
    assert out.isfinite().all()
    if "num_classes" in (options := options_of(SPACES[name])):
        assert out.shape[1:] == (options["num_classes"].default,)
    activate(supernet(name), arch)
    assert torch.equal(supernet(name)(x), out)
    built = model.build(arch, supernet(name).state_dict(), seed=1).state_dict()
    assert list(built) == list(net.state_dict())
    assert all(torch.equal(built[key], value) for key, value in net.state_dict().items())


@every_space
def test_a_frozen_net_computes_what_the_activated_supernet_does(name: str) -> None:
    model, x = space(name), images(space(name), 2, torch.float64)
    net = settled(copy.deepcopy(supernet(name)).double())
    assert space_of(net) == model.arch_space
    for arch in sampled(model, 2, seed=1):
        activate(net, arch)
        plain = freeze(net, arch)
        assert not list(mutables(plain))
        with torch.no_grad():
            out = net(x)
            assert torch.equal(plain(x), out)
        assert out.std() > 0


@every_space
def test_an_architecture_survives_every_form(name: str) -> None:
    model = space(name)
    tree = model.arch_space
    width = len(tree.encode(sampled(model, 1)[0]))
    for arch in sampled(model, 20):
        tree.check(arch)
        assert Arch.from_json(arch.to_json()) == arch
        assert read_arch(tree, write_arch(arch)) == arch
        assert tree.unpack(tree.pack(arch)) == arch
        assert len(tree.encode(arch)) == width
    with pytest.raises(InvalidArch, match="'nowhere'"):
        tree.check({**sampled(model, 1)[0], "nowhere": 1})


@every_space
def test_a_space_survives_json(name: str) -> None:
    tree = space(name).arch_space
    assert from_plain(json.loads(json.dumps(to_plain(tree)))) == tree


@every_space
def test_mutants_and_children_stay_in_the_space(name: str) -> None:
    model, rng = space(name), np.random.default_rng(1)
    tree = model.arch_space
    for arch, other in zip(sampled(model, 20), sampled(model, 20, seed=1), strict=True):
        mutant, child = tree.mutate(arch, rng), tree.cross(arch, other, rng)
        tree.check(mutant)
        tree.check(child)
        changed = [k for k in tree.reached(arch) if k in mutant and mutant[k] != arch[k]]
        assert len(changed) == 1  # what it opens or closes is in one of them only
        assert all(child[k] in (arch.get(k), other.get(k)) for k in child if {k} <= {*arch, *other})


@every_space
def test_the_size_of_a_space_counts_its_architectures(name: str) -> None:
    tree = space(name).arch_space
    some = list(islice(tree, 7000))
    assert len(set(some)) == len(some) == min(tree.size(), 7000) > 1
    if not any(decision.opens for decision in tree.decisions.values()):
        assert tree.size() == prod(decision.count() for decision in tree.choices)


@every_space
def test_the_canonical_architecture_stands_for_itself(name: str) -> None:
    model = space(name)
    for arch in sampled(model, 20):
        canonical = model.canonical(arch)
        model.arch_space.check(canonical)
        assert model.canonical(canonical) == canonical
        assert model.arch_space.canonical(arch) == canonical


@every_space
def test_counted_macs_are_torch_s_own(name: str) -> None:
    model = space(name)
    net = freeze(supernet(name), sampled(model, 1, seed=2)[0])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(model.example_input())
    cost = cost_of(net, model.example_input())
    assert cost.macs == counter.get_total_flops() / 2 > 0
    assert cost.params == sum(p.numel() for p in net.parameters())


@every_space
def test_a_supernet_is_a_function_of_its_seed(name: str) -> None:
    model = space(name)
    before = torch.get_rng_state()
    first, again, other = (
        supernet(name).state_dict(),
        *(model.supernet(seed).state_dict() for seed in (0, 1)),
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_space
def test_a_network_learns_from_a_batch(name: str) -> None:
    model, x = space(name), images(space(name), 4)
    net = freeze(supernet(name), sampled(model, 1, seed=3)[0]).train()
    out: Tensor = net(x)
    torch.nn.functional.cross_entropy(out, torch.arange(4) % out.shape[1]).backward()
    gradients = [p.grad for p in net.parameters()]
    assert gradients
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert any(g is not None and g.abs().max() > 0 for g in gradients)
