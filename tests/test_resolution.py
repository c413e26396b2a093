"""Elastic resolution: a decision of the model, that costs, scores and plain networks go by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import raynas
from raynas.core.arch import Arch
from raynas.core.errors import InvalidSpace
from raynas.costs.cost_table import CostTable
from raynas.nn import Resolution, ValueChoice, activate, freeze, space_of
from raynas.nn.resolution import Resize, at_resolutions
from tests.laws import keeps_the_laws

SMALL: dict[str, Any] = {"num_classes": 10, "resolution": 32, "resolutions": [16, 24, 32]}
SPACES: dict[str, dict[str, Any]] = {
    "ofa_mobilenet_v3": {**SMALL, "width": 0.25},
    "mobilenet_v2_cifar": {**SMALL, "width": 0.25},
    "nas_bench_201": {**SMALL, "channels": 4, "cells": 1},
}
OTHERS = ("ofa_mobilenet_v3", "nas_bench_201")


@pytest.mark.parametrize(
    "name",
    ["mobilenet_v2_cifar", *(pytest.param(n, marks=pytest.mark.full) for n in OTHERS)],
)
def test_any_space_of_images_takes_resolutions(name: str) -> None:
    space = raynas.space(name, **SPACES[name])
    plain = raynas.space(name, **{k: v for k, v in SPACES[name].items() if k != "resolutions"})
    assert space.arch_space.labels == ("resolution", *plain.arch_space.labels)
    assert space.arch_space.size() == 3 * plain.arch_space.size()
    rng = np.random.default_rng(0)
    supernet = space.supernet().double()
    supernet.eval()
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    table = CostTable(space.supernet(), space.example_input())
    for size in (16, 24, 32):
        arch = space.arch_space.sample(rng, {"resolution": size})
        activate(supernet, arch)
        net = freeze(supernet, arch)
        torch.testing.assert_close(net(x), supernet(x), rtol=0, atol=1e-12)
        (resize,) = (m for m in net.modules() if isinstance(m, Resize))
        assert resize(x).shape == (2, 3, size, size)
        assert table.cost(arch) == raynas.cost(space.build(arch), input_shape=(3, 32, 32))


def test_an_isomorphism_of_the_space_still_holds() -> None:
    options = SPACES["nas_bench_201"]
    space = raynas.space("nas_bench_201", **options)
    plain = raynas.space("nas_bench_201", **{k: options[k] for k in options if k != "resolutions"})
    rng, moved = np.random.default_rng(3), 0
    for _ in range(50):
        arch = space.arch_space.sample(rng)
        rest = Arch({label: value for label, value in arch.items() if label != "resolution"})
        canonical = space.arch_space.canonical(arch)
        assert canonical == Arch(
            {"resolution": arch["resolution"], **plain.arch_space.canonical(rest)}
        )
        moved += canonical != arch
    assert moved


class Front(nn.Module):
    """A user's own model that chooses the size of its images."""

    def __init__(self) -> None:
        super().__init__()
        self.size = Resolution([4, 8], label="size")
        self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (batch, 10)."""
        logits: torch.Tensor = self.head(self.conv(self.size(x)).mean((2, 3)))
        return logits


def test_a_model_of_ones_own_keeps_the_laws() -> None:
    torch.manual_seed(0)
    keeps_the_laws(Front().double(), torch.rand(3, 1, 8, 8, dtype=torch.float64))
    assert space_of(Front()).labels == ("size",)


def test_values_and_numbers_are_sizes_too() -> None:
    net = nn.Sequential(Resolution(2 * ValueChoice([2, 3], label="half")))
    activate(net, {"half": 3})
    assert net(torch.rand(1, 1, 5, 5)).shape == (1, 1, 6, 6)
    assert Resolution(7)(torch.rand(1, 2, 3, 3)).shape == (1, 2, 7, 7)
    same = torch.rand(1, 2, 7, 7)
    assert Resolution(7)(same) is same


@pytest.mark.parametrize("sizes", [[0, 8], [8.5], ["large"]])
def test_sizes_that_are_none_are_refused(sizes: Any) -> None:
    with pytest.raises(InvalidSpace, match="must be a whole number of at least 1"):
        Resolution(sizes)


def test_what_has_no_images_has_no_resolutions() -> None:
    with pytest.raises(InvalidSpace, match="mlp takes no images of a known size"):
        raynas.space("mlp", num_classes=10, resolutions=[8, 16])
    space = raynas.space("mobilenet_v2_cifar", **SPACES["mobilenet_v2_cifar"])
    with pytest.raises(InvalidSpace, match="has a decision 'resolution' already"):
        at_resolutions(space, [8])
    with pytest.raises(
        ValueError, match=r"of shape \(batch, channels, height, width\), got \(2, 3\)"
    ):
        Resolution(4)(torch.rand(2, 3))


def test_a_search_has_the_resolution_among_its_decisions(tmp_path: Path) -> None:
    result = raynas.search(
        "mobilenet_v2_cifar",
        "random",
        space_options={"width": 0.1, "resolutions": [6, 8, 12]},
        supernet={"algo": "spos", "epochs": 1, "batch_size": 250},
        trials=3,
        out=str(tmp_path / "run"),
        ray={"inline": True},
    )
    again = raynas.load(result.path)
    assert again.config.space.options["resolutions"] == [6, 8, 12]
    best = again.best
    assert best is not None
    net = again.model()
    assert net.resolution.size == best.arch["resolution"]
    assert {*again.trials["choice.resolution"]} <= {6, 8, 12}


@pytest.mark.parametrize("sizes", [8, [], "8,12"])
def test_resolutions_that_are_no_list_are_refused(sizes: Any) -> None:
    with pytest.raises(
        ValueError, match=r"resolutions is a list of sizes, such as \[16, 24\], got"
    ):
        raynas.space("mobilenet_v2_cifar", num_classes=10, resolutions=sizes)


def test_no_resolutions_are_none() -> None:
    space = raynas.space("mobilenet_v2_cifar", num_classes=10, resolutions=None)
    assert "resolution" not in space.arch_space.labels


def test_networks_of_images_of_one_size_are_told_apart() -> None:
    with pytest.raises(InvalidSpace, match="mlp has no resolutions: its networks do not take"):
        raynas.space("mlp", in_channels=1, resolution=8, num_classes=10, resolutions=[6, 8])
