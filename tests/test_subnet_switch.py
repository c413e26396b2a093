"""Switching without a walk is switching with one, on every kind of model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import raynas
from raynas.nn import LayerChoice, Linear, Repeat, ValueChoice, space_of
from raynas.nn.mutable import activate_unchecked, mutables
from raynas.nn.subnet_switch import SubnetSwitch
from tests.elasticnets import elastic
from tests.zoo import ZOO


def nested() -> nn.Module:
    """Choices in choices, in rows of fixed and of elastic depth, under shared labels."""
    width = ValueChoice([2, 4], label="width")
    hidden = ValueChoice([1, 2], label="hidden")

    def block(at: int) -> nn.Module:
        inner = nn.Sequential(Linear(4, width * hidden), Linear(width * hidden, 4))
        return LayerChoice({"plain": nn.Linear(4, 4), "inner": inner}, label=f"block{at % 2}")

    return nn.Sequential(Repeat(block, 2), Repeat(block, (1, 3), label="depth"))


def ofa() -> nn.Module:
    return raynas.space(
        "ofa_mobilenet_v3", num_classes=3, width=0.1, resolution=32, resolutions=[16, 32]
    ).supernet()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "elastic": lambda: elastic(0),
    "nested": nested,
    "ofa": ofa,
    "cells": lambda: raynas.space("darts_cifar", channels=2, layers=3).supernet(),
    **{name: odd.factory for name, odd in ZOO.items()},
}


@pytest.mark.parametrize("name", MODELS)
def test_a_switch_sets_the_routes_that_activating_sets(name: str) -> None:
    model = MODELS[name]()
    space, rng = space_of(model), np.random.default_rng(0)
    switch = SubnetSwitch(model)
    for _ in range(10):
        arch = space.sample(rng)
        for mutable in mutables(model):
            mutable.route = None
        activate_unchecked(model, arch)
        expected = {mutable: mutable.route for mutable in mutables(model)}
        switch(arch)
        for mutable, route in expected.items():
            if route is not None:  # what is not reached may keep any
                assert type(mutable.route) is type(route)
                assert mutable.route == route


def test_routes_that_were_taken_before_come_back() -> None:
    model = nested()
    space, switch = space_of(model), SubnetSwitch(model)
    rng = np.random.default_rng(1)
    archs = [space.sample(rng) for _ in range(5)]
    x = torch.rand(2, 4)
    outputs = []
    for arch in [*archs, *archs]:
        switch(arch)
        outputs.append(model(x))
    for first, again in zip(outputs[:5], outputs[5:], strict=True):
        assert first.equal(again)
