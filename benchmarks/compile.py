"""Whether ``torch.compile`` pays for what raynas trains, on this machine's CPU.

One thread. For each case: how long compiling takes, what a step takes after it against an eager
step (CPU seconds, interleaved, the least of all rounds), and after how many steps the time spent
compiling is won back. A case that is not compiled within its limit says so, and so does a machine
without a C++ compiler.

* darts: a step on two levels of a small DARTS network, whose mixtures compile to one graph.
* spos: training steps of MobileNetV2, each on another path; every path is another graph.
* frozen: training steps of one plain MobileNetV2 path, as in stand-alone training.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # before torch

import numpy as np
import torch
from torch import nn

import raynas
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.nn import freeze
from raynas.supernet.protocol import ONE_SHOTS
from raynas.supernet.training import SupernetTraining

Step = Callable[[], object]
Case = Callable[[], tuple[nn.Module, Step]]


def data(batch: int, resolution: int) -> TensorData:
    """Return one batch of noise to train on, and one to validate."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2 * batch, 3, resolution, resolution, generator=rng)
    pairs = torch.utils.data.TensorDataset(x, torch.arange(2 * batch) % 10)
    halves = [torch.utils.data.TensorDataset(*pairs[part]) for part in _halves(batch)]
    return TensorData(halves)


def _halves(batch: int) -> tuple[slice, slice]:
    return slice(0, batch), slice(batch, 2 * batch)


def searched(
    space: raynas.ModelSpace, algo: str, batch: int, **options: int
) -> tuple[nn.Module, Step]:
    """Return a supernet in training, and its step."""
    torch.manual_seed(0)
    held = data(batch, space.example_input().shape[-1])
    run = SupernetTraining(
        space.supernet(), ONE_SHOTS[algo](**options), held, TrainSettings(batch_size=batch, lr=1e-3)
    )
    run.model.train()
    splits = held.load()

    def step() -> None:
        run._algo.step(splits.train, itertools.repeat(splits.valid))
        run.step += 1

    return run.model, step


def darts() -> tuple[nn.Module, Step]:
    """Return a DARTS supernet of two nodes to a cell."""
    space = raynas.space("darts_cifar", channels=8, layers=3, nodes=2, resolution=16)
    return searched(space, "darts", 16)


def spos() -> tuple[nn.Module, Step]:
    """Return a MobileNetV2 supernet."""
    return searched(raynas.space("mobilenet_v2_cifar", width=0.25), "spos", 16, warm_start_steps=0)


def frozen() -> tuple[nn.Module, Step]:
    """Return one path of it as a plain network."""
    space = raynas.space("mobilenet_v2_cifar", width=0.25)
    arch = space.arch_space.sample(np.random.default_rng(0))
    net = freeze(space.supernet(), arch).train().to(memory_format=torch.channels_last)
    x, y = data(16, 32).load().train
    x = x.contiguous(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(net.parameters(), 1e-3, 0.9, nesterov=True)

    def step() -> None:
        sgd.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        sgd.step()

    return net, step


class _Late(BaseException):
    """The limit is over; no handler of exceptions may catch it."""


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise _Late after so many seconds."""

    def late(*_: object) -> None:
        raise _Late

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def timed(step: Step) -> float:
    """Return the CPU seconds of a step."""
    began = time.process_time()
    step()
    return time.process_time() - began


def told(name: str, case: Case, rounds: int, limit: int) -> None:
    """Print what compiling does for a case."""
    _, eager = case()
    model, step = case()
    eager()
    before = min(timed(eager) for _ in range(3))
    began = time.perf_counter()
    try:
        with limited(limit):
            model.compile()
            step()
            step()  # backward graphs and optimizers settle
            compiling = time.perf_counter() - began - 2 * before
            pairs = [(timed(eager), timed(step)) for _ in range(rounds)]
    except _Late:
        print(f"{name:<8} eager {before:.3f} s a step; not compiled, or not done, in {limit} s")
        return
    except Exception as error:  # a missing tool, or what the compiler cannot do
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        print(f"{name:<8} eager {before:.3f} s a step; fails: {type(error).__name__}: {first[:90]}")
        return
    slow, fast = (min(column) for column in zip(*pairs, strict=True))
    pays = f"after {compiling / (slow - fast):,.0f} steps" if fast < slow else "never"
    steps = f"a step {slow:.4f} s eager, {fast:.4f} s compiled: {slow / fast:.2f}x"
    print(f"{name:<8} compiling {compiling:5.1f} s; {steps}; pays {pays}", flush=True)


def main() -> None:
    """Print every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=35, help="Seconds of each case.")
    parser.add_argument("--only", choices=("darts", "spos", "frozen"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        print("no C++ compiler here: torch.compile cannot make code for the CPU")
        return
    for name, case in (("darts", darts), ("spos", spos), ("frozen", frozen)):
        if given.only in (None, name):
            told(name, case, given.rounds, given.limit)
            torch.compiler.reset()


if __name__ == "__main__":
    main()
