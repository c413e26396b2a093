"""On a GPU: a supernet's step, a score and a training over a plain loop of the same work.

Seconds of the whole device, which is waited for, medians of several in turn. Where there is no GPU
one line says that nothing ran.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

import raynas
from raynas.algorithms import SPOS
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.evaluators.loaded import Loaded
from raynas.nn.mutable import activate
from raynas.supernet.network_training import NetworkTraining
from raynas.supernet.scoring import SubnetScorer
from raynas.supernet.training import SupernetTraining

COUNT, BATCH, CLASSES = 4096, 256, 10
Precision = Literal["float32", "bfloat16", "float16"]


def main() -> None:
    """Print the ratios, by precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    if not torch.cuda.is_available():
        print("there is no GPU here: nothing ran")
        return
    print(torch.cuda.get_device_name())
    x = torch.randn(COUNT, 3, 32, 32)
    parts = (torch.utils.data.TensorDataset(x, torch.arange(COUNT) % CLASSES),) * 2
    data = Loaded(TensorData(parts, batch_size=BATCH), torch.device("cuda"))
    space = raynas.space("mobilenet_v2_cifar")
    arch = space.arch_space.sample(np.random.default_rng(0))
    precisions: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
    for precision in precisions:
        settings = TrainSettings(epochs=1000, batch_size=BATCH, precision=precision, clip=None)
        ours = NetworkTraining(space.build(arch), data, settings)
        plain = plain_epoch(space.build(arch), data, precision)
        compare(f"training, {precision}", ours.run_epoch, plain, rounds)
        shared = SupernetTraining(space.supernet(), SPOS(), data, settings, device=data.device)
        paths = plain_epoch(space.build(arch), data, precision)
        compare(f"supernet, {precision}", shared._train_batches, paths, rounds)
    supernet = space.supernet().cuda()
    splits = data.load()
    scorer = SubnetScorer(supernet, splits.train, splits.valid, cache_bytes=0)
    activate(supernet, arch)
    compare("scoring", lambda: scorer.score(arch), plain_score(supernet.eval(), splits), rounds)


def compare(name: str, ours: Callable[[], Any], plain: Callable[[], Any], rounds: int) -> None:
    """Print how long ours takes over the plain loop, each warmed up, in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for at in range(rounds + 1):
        for function, kept in zip((ours, plain), times, strict=True):
            torch.cuda.synchronize()
            began_s = time.perf_counter()
            function()
            torch.cuda.synchronize()
            if at:
                kept.append(time.perf_counter() - began_s)
    first, second = map(statistics.median, times)
    print(f"{name:<22} {first:7.3f} s, plain {second:7.3f} s, ratio {first / second:.2f}")


def plain_epoch(net: nn.Module, data: Loaded, precision: Precision) -> Callable[[], None]:
    """Return an epoch of SGD on batches in random order, as one would write it by hand."""
    net = net.to("cuda").to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, 0.9, nesterov=True, weight_decay=4e-5)
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "float16")
    x, y = data.load().train
    dtype = getattr(torch, precision)

    def epoch() -> None:
        net.train()
        order = torch.randperm(len(y), device=y.device)
        for start in range(0, len(y) - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            inputs = x[index].contiguous(memory_format=torch.channels_last)
            with torch.autocast("cuda", dtype, enabled=precision != "float32"):
                logits = net(inputs)
            loss = nn.functional.cross_entropy(logits.float(), y[index], label_smoothing=0.1)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return epoch


def plain_score(net: nn.Module, splits: Any) -> Callable[[], float]:
    """Return a pass over as many images as a score takes, and their accuracy."""
    x = torch.cat([splits.train[0][:512], splits.valid[0][:2000]])
    y = splits.valid[1][:2000]

    def score() -> float:
        with torch.no_grad():
            logits = torch.cat([net(part) for part in x.split(1024)])[512:]
        return float((logits.argmax(1) == y).double().mean())

    return score


if __name__ == "__main__":
    main()
