"""What elasticity costs: active subnets of Once-for-All's MobileNetV3 against their extraction.

Every ratio is of CPU seconds of one thread, both sides in turns in one run, so that a busy machine
slows both alike; the least of several rounds counts. Sampled steps are those of a training (draw a
subnet, switch, loss, backward, clip, SGD) against the same of the extracted network.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import raynas
from raynas.algorithms.progressive_shrinking import ProgressiveShrinking
from raynas.algorithms.spos import SPOS
from raynas.core.arch import Arch
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.nn import freeze
from raynas.nn.mutable import activate_unchecked
from raynas.nn.subnet_switch import SubnetSwitch
from raynas.supernet.calibration import recalibrate
from raynas.supernet.protocol import OneShot
from raynas.supernet.scoring import SubnetScorer
from raynas.supernet.training import SupernetTraining

CLASSES, ARCHS, ROUNDS = 100, 3, 5
GOALS = {"overhead": 1.1, "switch_us": 50.0, "recalibration": 1.3, "step": 1.05}


def images(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Return noise and labels."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, side, side, generator=rng)
    return x.to(memory_format=torch.channels_last), torch.arange(count) % CLASSES


def seconds(run: Callable[[], object]) -> float:
    """Return how long a run takes this process."""
    began = time.process_time()
    run()
    return time.process_time() - began


def ratio(ours: Callable[[], object], theirs: Callable[[], object]) -> float:
    """Return the least time of one over that of the other, in turns."""
    ours(), theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    return min(pair[0] for pair in pairs) / min(pair[1] for pair in pairs)


def passes(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """Return a forward and a backward pass."""

    def run() -> None:
        net.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(net(x), y).backward()

    return run


def overhead(model: nn.Module, archs: list[Arch], x: Tensor, y: Tensor) -> list[float]:
    """Return what a pass of an active subnet takes over one of its extraction."""
    ratios = []
    for arch in archs:
        activate_unchecked(model, arch)
        static = freeze(model, arch).to(memory_format=torch.channels_last)
        ratios.append(ratio(passes(model, x, y), passes(static, x, y)))
    return ratios


def switch_us(model: nn.Module, archs: list[Arch]) -> float:
    """Return the microseconds of one switch, its routes remembered."""
    switch = SubnetSwitch(model)

    def switch_to_all() -> None:
        for arch in archs:
            switch(arch)

    switch_to_all()
    return min(seconds(switch_to_all) for _ in range(5)) / len(archs) * 1e6


def recalibration(model: nn.Module, archs: list[Arch], x: Tensor) -> list[float]:
    """Return what recalibrating takes over plain passes on the same images."""
    ratios = []
    for arch in archs:
        net = freeze(model, arch).to(memory_format=torch.channels_last).eval()

        def plain(net: nn.Module = net) -> None:
            with torch.no_grad():
                for part in x.chunk(2):
                    net(part)

        ratios.append(ratio(lambda net=net: recalibrate(net, x, len(x) // 2), plain))  # type: ignore[misc]
    return ratios


def scoring(model: nn.Module, archs: list[Arch], x: Tensor, y: Tensor) -> list[float]:
    """Return what calibrating and scoring take over plain passes on the images of both."""
    scorer = SubnetScorer(
        model, (x, y), (x, y), calibration_images=len(x), validation_images=len(x), cache_bytes=0
    )
    ratios = []
    for arch in archs:
        net = freeze(model, arch).to(memory_format=torch.channels_last).eval()

        def plain(net: nn.Module = net) -> None:
            with torch.no_grad():
                net(x), net(x)

        ratios.append(ratio(lambda arch=arch: scorer.score(arch), plain))  # type: ignore[misc]
    return ratios


class _One(SPOS):
    """Draws one path, so that a static network can do the same work."""

    chosen: Arch

    def sampled(self, step: int) -> list[tuple[Arch, bool]]:
        """Draw as ever, and return the chosen path."""
        super().sampled(step)
        return [(self.chosen, True)]


def sampled_step(arch: Arch, space: raynas.ModelSpace, x: Tensor, y: Tensor) -> float:
    """Return what a sampled step takes over that of the extracted network."""
    data = TensorData((TensorDataset(x, y), TensorDataset(x, y)))
    settings = TrainSettings(epochs=10, batch_size=len(x), label_smoothing=0.0)
    algo = _One(seed=0, warm_start_steps=0)
    training = SupernetTraining(space.supernet(), algo, data, settings)
    algo.chosen = arch
    training.model.train()
    net = freeze(training.model, arch).to(memory_format=torch.channels_last).train()
    weights = list(net.parameters())
    optimizer = torch.optim.SGD(
        weights,
        settings.lr,
        settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
    )

    def static() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(net(x), y).backward()
        nn.utils.clip_grad_norm_(weights, settings.clip or 5.0)
        optimizer.step()

    return ratio(lambda: step(algo, x, y), static)


def step(algo: OneShot, x: Tensor, y: Tensor) -> None:
    """Do one step of an algorithm."""
    algo.step((x, y), iter(()))


def shrinking_step(space: raynas.ModelSpace, x: Tensor, y: Tensor) -> float:
    """Return what a step of four subnets and their teacher takes over the passes of all five."""
    data = TensorData((TensorDataset(x, y), TensorDataset(x, y)))
    stages: list[dict[str, Any]] = [
        {"epochs": 1},
        {"epochs": 1, "kernel": [3, 5, 7], "depth": [2, 3, 4], "width": [3, 4, 6], "subnets": 4},
    ]
    settings = TrainSettings(epochs=2, batch_size=len(x), label_smoothing=0.0)
    algo = ProgressiveShrinking(seed=0, stages=stages)
    training = SupernetTraining(space.supernet(), algo, data, settings)
    training.run_epoch()
    training.model.train()
    step(algo, x, y)
    nets = [
        freeze(training.model, arch).to(memory_format=torch.channels_last).train()
        for arch in algo.subnets(training.step, algo.plan[1])
    ]
    assert algo._teacher is not None
    teacher = freeze(algo._teacher, algo._end(algo.plan[0], np.random.default_rng(0), {}, -1))
    teacher = teacher.to(memory_format=torch.channels_last)

    def static() -> None:
        with torch.no_grad():
            taught = teacher(x).softmax(1)
        for net in nets:
            net.zero_grad(set_to_none=True)
            out = net(x)
            soft = -(taught * out.log_softmax(1)).sum(1).mean()
            (nn.functional.cross_entropy(out, y) + soft).backward()

    return ratio(lambda: step(algo, x, y), static)


def main() -> None:
    """Print a line per quantity, with its goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=128, help="of the images")
    parser.add_argument("--batch", type=int, default=16, help="images in a pass")
    given = parser.parse_args()
    torch.set_num_threads(1)
    space = raynas.space(
        "ofa_mobilenet_v3", num_classes=CLASSES, resolution=given.side, dropout=0.0
    )
    model = space.supernet().to(memory_format=torch.channels_last)
    rng = np.random.default_rng(0)
    archs = [space.arch_space.sample(rng) for _ in range(50)]
    x, y = images(given.batch, given.side)

    def shown(what: str, value: float, goal: str) -> None:
        print(f"{what:<62} {value:6.3f}  (goal {goal})", flush=True)

    print(f"batches of {given.batch}, {given.side} pixels, {ARCHS} random subnets, one thread")
    few = archs[:ARCHS]
    us = switch_us(model, archs)
    print(f"{'switch to another subnet, us':<62} {us:6.1f}  (goal {GOALS['switch_us']:g})")
    shown("active subnet over its extraction, forward and backward",
          float(np.mean(overhead(model, few, x, y))), f"{GOALS['overhead']}")  # fmt: skip
    shown("recalibration over plain passes on the same images",
          float(np.mean(recalibration(model, few, x))), f"{GOALS['recalibration']}")  # fmt: skip
    shown("calibrate and score over plain passes on the images of both",
          float(np.mean(scoring(model, few, x, y))), "none")  # fmt: skip
    steps = [sampled_step(arch, space, x, y) for arch in few]
    shown("sampled training step over that of the extracted network",
          float(np.mean(steps)), f"{GOALS['step']}")  # fmt: skip
    shown("step of progressive shrinking over the passes of its networks",
          shrinking_step(space, x, y), "none")  # fmt: skip


if __name__ == "__main__":
    main()
