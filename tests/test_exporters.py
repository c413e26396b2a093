"""Exporters: whatever one writes, a constructor builds, for every model; and documented shapes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from raynas.core.arch import Value
from raynas.nn import (
    BatchNorm2d,
    Cell,
    Conv2d,
    InputChoice,
    LayerChoice,
    Repeat,
    SubsetChoice,
    ValueChoice,
    activate,
    freeze,
    space_of,
)
from raynas.nn.blocks import Block, with_skip
from raynas.nn.chain_table import Place
from raynas.nn.construct import CONSTRUCTORS, construct
from raynas.nn.export import EXPORTERS, export
from raynas.nn.modelspace import SPACES
from raynas.nn.mutable import mutables
from raynas.nn.operators import InvertedResidual
from raynas.nn.slot import Slot
from raynas.nn.value import count
from raynas.search_spaces.mobilenet_v2 import GPU_LAYOUT, MobileNetV2, choice_block
from tests.test_mutable import random_nets
from tests.test_spaces import VARIANTS, but_full, images, settled, space

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ROWS = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

PAIRS: list[tuple[Any, str]] = [
    ("slots", "arch_desc"),
    ("recursive", "recursive_arch_desc"),
    ("params", "params"),
    (("params", {"with_keys": False}), "params"),
]


def conv(kernel: int = 3) -> nn.Module:
    return nn.Conv2d(4, 4, kernel, padding=kernel // 2)


def choice(label: str | None = None) -> LayerChoice:
    return LayerChoice({"k1": conv(1), "k3": conv(), "skip": nn.Identity()}, label)


def template(*names: str | None) -> nn.Sequential:
    return nn.Sequential(conv(), *(Slot(4, name=name) for name in names or (None, None)))


def mixed(model: nn.Module, *names: str, **options: Any) -> nn.Module:
    return construct(model, [("mixed_op", {"candidates": names or ("NC3", "IDT"), **options})])


def two_slots(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    return nn.Sequential(Slot(channels_in, channels_out, stride), nn.ReLU(), Slot(channels_out))


class Inputs(nn.Module):
    """Picks one, two and any number of earlier outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = choice("first"), conv()
        self.one = InputChoice(choose_from=["first", ""], n_chosen=1)
        self.two = InputChoice(3, n_chosen=2, reduction="mean")
        self.some = InputChoice(4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.second(x)
        c = self.one({"first": a, "": b})
        d = self.two([a, b, c])
        y: Tensor = self.some([a, b, c, d])
        return y


class Sizes(nn.Module):
    """Layers whose sizes are chosen, one of them by two values."""

    def __init__(self) -> None:
        super().__init__()
        width = ValueChoice([2, 4], label="width")
        extra = count(SubsetChoice(["a", "b"], label="extra")) + 1
        self.layers = nn.Sequential(
            Conv2d(4, width * extra, kernel := ValueChoice([1, 3]), padding=kernel // 2),
            BatchNorm2d(width * extra),
            Conv2d(width * extra, 4, 1),
            Conv2d(4, 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


def operations(_node: int, _source: int) -> dict[str, nn.Module]:
    deep = nn.Sequential(conv(1), LayerChoice([nn.Tanh(), nn.ReLU()]))
    return {"conv": conv(1), "deep": deep, "skip": nn.Identity()}


class Cells(nn.Module):
    """Two normal cells around one that reduces nothing but its label's name."""

    def __init__(self, candidates: Any, **options: Any) -> None:
        super().__init__()
        cells = (
            Cell(candidates, 2, 2, 2, label=k, **options) for k in ("normal", "reduce", "normal")
        )
        self.cells = nn.ModuleList(cells)
        self.joins = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        before, last = x, x
        for cell, join in zip(self.cells, self.joins, strict=True):
            before, last = last, join(cell(before, last))
        return last


class Twice(nn.Module):
    """One choice that stands at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = choice()
        self.again = nn.Sequential(self.first, conv())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.again(self.first(x))
        return y


def prefilled() -> nn.Module:
    net = template(None, None, None)
    slot = net[1]
    assert isinstance(slot, Slot)
    slot.fill(conv())
    return mixed(net)


ZOO: dict[str, Callable[[], nn.Module]] = {
    "layers": lambda: nn.Sequential(
        choice(), LayerChoice({"flat": conv(), "deep": nn.Sequential(choice(), choice())})
    ),
    "root": lambda: choice(),
    "shared": lambda: nn.Sequential(choice("a"), conv(), choice("a")),
    "twice": Twice,
    "inputs": Inputs,
    "copies": lambda: Repeat(nn.Sequential(conv(), choice()), (0, 3)),
    "rows": lambda: nn.Sequential(
        Repeat(lambda index: choice(f"row{index}"), ValueChoice([1, 2, 4], label="depth")),
        Repeat([choice(), conv()], 2),
    ),
    "sizes": Sizes,
    "cells": lambda: Cells({"conv": lambda *_: conv(1), "skip": lambda *_: nn.Identity()}),
    "any cells": lambda: Cells([conv(1), conv(3)], inputs="any"),
    "deep cells": lambda: Cells(operations),
    "deep any cells": lambda: Cells(operations, inputs="any", merge_op="loose_end"),
    "slots": lambda: mixed(template()),
    "one slot": lambda: mixed(Slot(4), "NC3", "MB3E3"),
    "named slots": lambda: mixed(template("a", "b", "a")),
    "unshared slots": lambda: mixed(template("a", "b", "a"), share=False),
    "slots in copies": lambda: mixed(Repeat(template(), (1, 3))),
    "filled slots": prefilled,
    "slots in slots": lambda: mixed(
        construct(
            template(), [("mixed_op", {"candidates": {"two": two_slots, "one": ["NC3", {}]}})]
        ),
    ),
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return settled(ZOO[name]().double()).eval()


def keeps_the_law(
    supernet: nn.Module, fresh: nn.Module, arch: Mapping[str, Value], x: Tensor
) -> None:
    """Whatever an exporter writes, its constructor makes the frozen network of a fresh supernet."""
    plain = freeze(supernet, arch)
    with torch.no_grad():
        expected = tree_leaves(plain(x))
    for exporter, constructor in PAIRS:
        written = json.dumps(export(supernet, arch, exporter))
        net = construct(fresh, [(constructor, {"arch_desc": json.loads(written)})])
        assert not list(mutables(net))
        assert list(net.state_dict()) == list(plain.state_dict())
        with torch.no_grad():
            assert all(map(torch.equal, tree_leaves(net(x)), expected))


@pytest.mark.parametrize("name", ZOO)
def test_every_export_is_built_again(name: str) -> None:
    supernet, fresh = build(name), build(name)
    known, rng = space_of(supernet), np.random.default_rng(0)
    before = copy.deepcopy(fresh.state_dict())
    for _ in range(5):
        keeps_the_law(supernet, fresh, known.sample(rng), X)
    assert space_of(fresh) == known
    assert all(torch.equal(v, before[k]) for k, v in fresh.state_dict().items())
    activate(fresh, known.sample(rng))
    fresh(X)


@settings(max_examples=30, deadline=None)
@given(random_nets(), st.integers(0, 2**32 - 1))
def test_every_export_of_random_nets_is_built_again(net: nn.Module, seed: int) -> None:
    net = net.double()
    arch = space_of(net).sample(np.random.default_rng(seed))
    keeps_the_law(net, copy.deepcopy(net), arch, ROWS)


# What stands before the cells is nothing that an exporter writes.
@pytest.mark.parametrize("name", but_full(SPACES, {*VARIANTS, "darts_imagenet"}))
def test_every_export_of_every_space_is_built_again(name: str) -> None:
    model = space(name)
    supernet = settled(model.supernet().double()).eval()
    arch = model.arch_space.sample(np.random.default_rng(3))
    keeps_the_law(supernet, supernet, arch, images(model, 1, torch.float64))


WITHOUT_EXPORTER = {"mixed_op", "op", "predefined", "block_choice", "block_list"}


def test_every_exporter_has_its_constructor() -> None:
    names = {spec if isinstance(spec, str) else spec[0] for spec, _ in PAIRS}
    assert names == set(EXPORTERS)
    assert {constructor for _, constructor in PAIRS} | WITHOUT_EXPORTER == set(CONSTRUCTORS)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("DefaultMixedOpConstructor", "mixed_op"),
        ("DefaultOpConstructor", "op"),
        ("DefaultSlotArchDescConstructor", "arch_desc"),
        ("DefaultRecursiveArchDescConstructor", "recursive_arch_desc"),
        ("MobileNetV2PredefinedConstructor", "predefined"),
        ("MobileNetV2SearchConstructor", "block_choice"),
        ("MobileNetV2ArchDescConstructor", "block_list"),
        ("DefaultSlotTraversalExporter", "slots"),
        ("DefaultRecursiveExporter", "recursive"),
        ("DefaultParamsExporter", "params"),
    ],
)
def test_modularnas_names_are_known(alias: str, name: str) -> None:
    registry = EXPORTERS if "Exporter" in alias else CONSTRUCTORS
    assert registry.name_of(alias) == name


# The documented shapes of ModularNAS.


def slot_block(place: Place) -> nn.Module:
    slot = Slot(*place.shape)
    if place.stage.expand == 1:
        slot.fill(InvertedResidual(*place.shape, kernel=3, expand=1))
    return with_skip(slot, place)


def backbone(block: Block, **options: Any) -> MobileNetV2:
    return MobileNetV2(block, layout=GPU_LAYOUT, cifar=True, num_classes=10, **options)


# Trainable parameters of ModularNAS's CIFAR_MobileNetV2_GPU, as its own code counts them.
@pytest.mark.parametrize(
    ("op", "params"), [("MB3E3", 1_923_738), ("MB5E6", 3_584_010), ("MB7E6", 3_835_146)]
)
def test_a_flat_list_builds_the_network_of_a_template(op: str, params: int) -> None:
    with torch.device("meta"):
        net = construct(backbone(slot_block), [("arch_desc", {"arch_desc": [None, *[[op]] * 21]})])
    assert sum(p.numel() for p in net.parameters()) == params
    assert not list(mutables(net))


def test_the_shapes_of_slot_nets() -> None:
    supernet = mixed(backbone(slot_block, width=0.1), "MB3E6", "MB7E6")
    arch = {label: "MB7E6" for label in space_of(supernet).labels}
    assert export(supernet, arch, "slots") == [None, *[["MB7E6"]] * 21]
    tree = export(supernet, arch, "recursive")
    assert list(tree) == ["blocks"]
    assert tree["blocks"]["stage2_block1"] == ["MB7E6"]
    assert tree["blocks"]["stage2_block2"] == {"block": ["MB7E6"]}
    fixed = construct(supernet, [("arch_desc", {"arch_desc": [None, *["MB7E6"] * 21]})])
    assert list(fixed.state_dict()) == list(freeze(supernet, arch).state_dict())


def test_a_template_and_a_net_of_choices_are_the_same_networks() -> None:
    options = {"width": 0.1}
    net = construct(
        backbone(slot_block, **options), [("arch_desc", {"arch_desc": [None, *["MB3E3"] * 21]})]
    )
    supernet = backbone(choice_block, **options)
    arch = {label: "MB3E3" for label in space_of(supernet).labels}
    assert list(net.state_dict()) == list(freeze(supernet, arch).state_dict())


def test_the_shape_of_cells() -> None:
    ops = {"SC3": lambda *_: conv(), "MAX": lambda *_: nn.MaxPool2d(3, 1, 1)}
    net = Cells(ops)
    arch: dict[str, Value] = {}
    for cell, op in (("normal", "SC3"), ("reduce", "MAX")):
        arch |= {f"{cell}/n0/from": ("s0", "s1"), f"{cell}/n1/from": ("s1", "n0")}
        arch |= {f"{cell}/n0/op/{source}": op for source in ("s0", "s1")}
        arch |= {f"{cell}/n1/op/s1": "SC3", f"{cell}/n1/op/n0": "MAX"}
    last = [[["SC3"], [1], 3], [["MAX"], [2], 3]]
    assert export(net, arch, "slots") == [
        [[[["SC3"], [0], 2], [["SC3"], [1], 2]], last],
        [[[["MAX"], [0], 2], [["MAX"], [1], 2]], last],
    ]
    assert list(export(net, arch, "recursive")["cells"]) == ["0", "1", "2"]


def test_the_shape_of_labels() -> None:
    net = mixed(template("c_0", "c_1"), "MB3E6", "NIL")
    arch = {"c_0": "MB3E6", "c_1": "NIL"}
    assert export(net, arch) == arch
    assert export(net, arch, {"type": "params", "args": {"with_keys": False}}) == ["MB3E6", "NIL"]


def test_slots_within_slots_are_nested_lists() -> None:
    net = ZOO["slots in slots"]()
    arch = {"1": "two", "1.two.0": "NC3", "1.two.2": "IDT", "2": "one"}
    assert export(net, arch, "slots") == [["two", [["NC3"], ["IDT"]]], ["one"]]
