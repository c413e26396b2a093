"""Microseconds of what a search does with every architecture, and what freezing one costs.

On the DARTS space (channels 16, 8 cells): sampling, checking, the key, and the cost by table, each
against a goal of 100 microseconds; and against a plain count of the frozen network, which is what
there is without a table. On MobileNetV2: freezing a sub-network of the supernet and its first
forward pass, against building the same plain network and its first pass. On a converted ResNet-101
(widths and depth): costs by table, against counting an extracted network.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torchvision
from torch import nn

import raynas
from raynas.core.arch import Arch
from raynas.costs import CostTable, cost_of
from raynas.nn import freeze
from raynas.nn.blocks import with_skip
from raynas.nn.chain_table import Place
from raynas.nn.mutable import logits_of
from raynas.nn.operators import OPERATORS
from raynas.search_spaces.mobilenet_v2 import MobileNetV2, fixed_block

GOAL_US = 100


def microseconds(run: Callable[[int], object], count: int) -> float:
    """Return the median time of a call, over ``count`` calls with the numbers from 0."""
    times = []
    for at in range(count):
        started = time.perf_counter()
        run(at)
        times.append(time.perf_counter() - started)
    return 1e6 * statistics.median(times)


def look_ups(count: int) -> None:
    """Print the figures of the DARTS space."""
    model = raynas.space("darts_cifar")
    space, supernet, example = model.arch_space, model.supernet(), model.example_input()
    started = time.perf_counter()
    table = CostTable(supernet, example)
    print(f"cost table of the DARTS space: made in {time.perf_counter() - started:.2f} s")
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(count)]
    fresh = [Arch(dict(arch)) for arch in archs]
    found = {
        "sample": microseconds(lambda _: space.sample(rng), count),
        "check": microseconds(lambda at: space.check(archs[at]), count),
        "key": microseconds(lambda at: fresh[at].key, count),
        "cost by table": microseconds(lambda at: table.cost(archs[at]), count),
    }
    for name, us in found.items():
        print(f"{name}: {us:.0f} us (goal {GOAL_US}: {us / GOAL_US:.2f})")
    counted = microseconds(lambda at: cost_of(freeze(supernet, archs[at]), example), 3)
    print(f"cost by counting: {counted / 1e3:.0f} ms, {counted / found['cost by table']:.0f} times")
    p = {
        label: torch.full((len(spec.options),), 1 / len(spec.options), requires_grad=True)
        for label, spec in logits_of(supernet).items()
    }
    expected = microseconds(lambda _: table.expected(p).backward(), count)
    print(f"expected cost of {len(p)} vectors, with gradient: {expected:.0f} us")


def plain(supernet_arch: Arch) -> nn.Module:
    """Return the network that was written without choices."""

    def block(place: Place) -> nn.Module:
        if place.name not in supernet_arch:
            return fixed_block(place)
        operator = OPERATORS[str(supernet_arch[place.name])]
        layer: nn.Module = operator(place.channels_in, place.channels_out, place.stride)
        return with_skip(layer, place)

    return MobileNetV2(block, cifar=True, num_classes=10, zero_init_residual=True)


def first_pass(net: nn.Module, example: torch.Tensor) -> None:
    """Run a network once."""
    with torch.no_grad():
        net(example)


def freezing(count: int) -> None:
    """Print the figures of MobileNetV2."""
    model = raynas.space("mobilenet_v2_cifar")
    supernet, example = model.supernet(), model.example_input()
    rng = np.random.default_rng(0)
    archs = [model.arch_space.sample(rng) for _ in range(count)]
    ours, theirs = [], []
    for arch in archs:  # in turns, so that both meet the same machine
        ours.append(microseconds(lambda _, a=arch: first_pass(freeze(supernet, a), example), 1))  # type: ignore[misc]
        theirs.append(microseconds(lambda _, a=arch: first_pass(plain(a), example), 1))  # type: ignore[misc]
    frozen_ms, built_ms = (statistics.median(times) / 1e3 for times in (ours, theirs))
    print(f"MobileNetV2: freeze and first pass {frozen_ms:.1f} ms, build and first pass ", end="")
    print(f"{built_ms:.1f} ms: ratio {frozen_ms / built_ms:.2f} (goal at most 1.3)")


def converted(count: int) -> None:
    """Print the figures of a converted model of 100 elastic layers."""
    example = torch.zeros(2, 3, 32, 32)
    net = torchvision.models.resnet101(num_classes=10).eval()
    example += torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
    space = raynas.elastic(net, example, width=[0.5, 0.75], depth=True)
    supernet, one = space.supernet().eval(), example[:1]
    started = time.perf_counter()
    table = CostTable(supernet, one)
    print(f"cost table of a converted ResNet-101: made in {time.perf_counter() - started:.2f} s")
    rng = np.random.default_rng(0)
    archs = [space.arch_space.sample(rng) for _ in range(count)]
    us = microseconds(lambda at: table.cost(archs[at]), count)
    many = len(space.arch_space.decisions)
    print(f"cost by table, {many} decisions: {us:.0f} us (goal {GOAL_US}: {us / GOAL_US:.2f})")
    counted = microseconds(lambda at: cost_of(freeze(supernet, archs[at]), one), 3)
    print(f"cost by counting: {counted / 1e3:.0f} ms, {counted / us:.0f} times")


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="architectures per figure")
    parser.add_argument("--networks", type=int, default=15, help="networks that are frozen")
    given = parser.parse_args()
    torch.set_num_threads(1)
    look_ups(given.count)
    freezing(given.networks)
    converted(given.count)


if __name__ == "__main__":
    main()
