"""Steps of differentiable search against a textbook implementation of the same mathematics.

One thread, CPU seconds of this process, variants interleaved; a ratio is the median over rounds.

* DARTS: a step on two levels. The textbook's is in NCHW, as published: both passes go back into
  logits and weights, and each edge sums all candidates, zeros included. The same textbook with
  ``channels_last`` alone shows how much of the gain is that one line.
* Unrolled DARTS against first order. The formula takes five passes forward and back, three of them
  for weights too, first order two and one of these: 2.5 at least, and 3 if only those three cost.
* SGAS with all edges decided against none, the mean of several networks decided at random, since
  these cost from three quarters to five quarters of it; and against the same networks, plain.
* ProxylessNAS: a weight step against a step of the plain sampled network, and steps of the logits
  against the weight step.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import raynas
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.gradient.base import Differentiable
from raynas.gradient.mixed.binary_gate import BinaryGate
from raynas.gradient.mixed.index import Index
from raynas.nn import freeze
from raynas.nn.choice import LayerChoice
from raynas.nn.mutable import SKIP, mutables
from raynas.supernet.protocol import ONE_SHOTS, Batch
from raynas.supernet.training import SupernetTraining

Step = Callable[[], object]
NETWORKS = 8  # decided at random


class Searched:
    """A supernet under a search, and the two batches that its steps take."""

    def __init__(self, space: raynas.ModelSpace, algo: str, batch: int, **options: Any) -> None:
        torch.manual_seed(0)
        self.algo: Any = ONE_SHOTS[algo](**options)
        assert isinstance(self.algo, Differentiable)
        rng = torch.Generator().manual_seed(0)
        shape = (2 * batch, *space.example_input().shape[1:])
        x, y = torch.randn(shape, generator=rng), torch.randint(10, (2 * batch,), generator=rng)
        half = TensorDataset(x[:batch], y[:batch]), TensorDataset(x[batch:], y[batch:])
        settings = TrainSettings(epochs=1, batch_size=batch, lr=1e-3, label_smoothing=0.0)
        self.run = SupernetTraining(space.supernet(), self.algo, TensorData(half), settings)
        self.batches = [
            (part.tensors[0].contiguous(memory_format=torch.channels_last), part.tensors[1])
            for part in half
        ]
        self.run.model.train()

    def step(self) -> None:
        """Do one step."""
        self.algo.step(self.batches[0], itertools.repeat(self.batches[1]))
        self.run.step += 1


class Textbook:
    """DARTS as in its paper, on the same modules.

    Args:
        searched: whose weights, logits and batches it begins with.
        space: builds the modules.
        layout: of weights and images in memory.
    """

    def __init__(
        self,
        searched: Searched,
        space: raynas.ModelSpace,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        torch.manual_seed(0)
        model = space.supernet()
        model.load_state_dict(searched.run.model.state_dict())
        model = self.model = model.train().to(memory_format=layout)
        vectors = searched.algo.relaxation.vectors
        self.batches = [(x.contiguous(memory_format=layout), y) for x, y in searched.batches]
        self.alphas = {label: nn.Parameter(v.detach().clone()) for label, v in vectors.items()}
        for choice in mutables(model):
            if isinstance(choice, LayerChoice):
                choice.route = self.mixed(self.alphas[str(choice.label)])
        self.sgd = torch.optim.SGD(model.parameters(), 1e-3, 0.9, weight_decay=4e-5)
        self.adam = torch.optim.Adam(self.alphas.values(), 3e-4, (0.5, 0.999), weight_decay=1e-3)

    @staticmethod
    def mixed(alpha: Tensor) -> Callable[..., Any]:
        """Return what combines the candidates of one edge."""

        def combine(ops: Sequence[nn.Module], x: Tensor) -> Any:
            return sum(w * op(x) for w, op in zip(alpha.softmax(-1), ops, strict=True))

        return combine

    def backward(self, batch: Batch) -> None:
        """Leave gradients everywhere."""
        nn.functional.cross_entropy(self.model(batch[0]), batch[1]).backward()

    def step(self) -> None:
        """Do one step: logits, then weights."""
        self.adam.zero_grad()
        self.backward(self.batches[1])
        self.adam.step()
        self.sgd.zero_grad()
        self.backward(self.batches[0])
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.sgd.step()


def seconds(steps: Mapping[str, Step], rounds: int) -> dict[str, list[float]]:
    """Return CPU seconds of every step and round, after one round that does not count."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            began = time.process_time()
            step()
            if turn:
                found[name].append(time.process_time() - began)
    return found


def told(title: str, times: Mapping[str, Sequence[float]], over: str, under: str) -> None:
    """Print the ratio of two variants."""
    ratios = [a / b for a, b in zip(times[over], times[under], strict=True)]
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"{title:<58} {statistics.median(ratios):6.3f}  ({spread})", flush=True)


def darts(channels: int, layers: int, batch: int, rounds: int) -> None:
    """Print the ratios of DARTS and SGAS."""
    space = raynas.space("darts_cifar", channels=channels, layers=layers)
    first = Searched(space, "darts", batch)
    textbook = Textbook(first, space)
    channels_last = Textbook(first, space, torch.channels_last)
    unrolled = Searched(space, "darts", batch, unrolled=True)
    decided = [Searched(space, "sgas", batch) for _ in range(NETWORKS)]
    for seed, one in enumerate(decided):
        decide(one.algo, seed)
    plain = [
        plain_step(freeze(one.run.model, one.algo.derive()), one.batches[0], nesterov=False)
        for one in decided
    ]
    steps: dict[str, Step] = {
        "textbook": textbook.step,
        "channels_last": channels_last.step,
        "first": first.step,
        "unrolled": unrolled.step,
        "decided": each([one.step for one in decided]),
        "plain": each(plain),
    }
    times = seconds(steps, rounds)
    for name in ("decided", "plain"):
        times[name] = [value / NETWORKS for value in times[name]]
    print({name: round(statistics.median(values), 3) for name, values in times.items()})
    told("DARTS, textbook over ours (goal: at least 1.8)", times, "textbook", "first")
    told("the textbook over itself with channels_last", times, "textbook", "channels_last")
    told("the textbook with channels_last over ours", times, "channels_last", "first")
    told("unrolled over first order (goal: at most 2.1)", times, "unrolled", "first")
    told("SGAS, all decided over none (goal: at most 0.06)", times, "decided", "first")
    told("the same over the plain networks", times, "decided", "plain")


def agreement() -> float:
    """Return by how much the logits' gradients differ, relatively, in double precision."""
    space = raynas.space("darts_cifar", channels=4, layers=3)
    ours = Searched(space, "darts", 4)
    ours.run.model.double()
    for vector in ours.algo.relaxation.vectors.values():
        vector.data = vector.data.double()
    ours.batches = [(x.double(), y) for x, y in ours.batches]
    textbook = Textbook(ours, space)
    textbook.model.double()
    alphas = ours.algo.alphas
    loss = ours.run.loss(ours.batches[1], smoothing=0.0)
    own = torch.cat(torch.autograd.grad(loss, alphas))
    textbook.backward(textbook.batches[1])
    other = torch.cat([a.grad for a in textbook.alphas.values() if a.grad is not None])
    return float((own - other).norm() / other.norm())


def each(steps: Sequence[Step]) -> Step:
    """Return a step that does several."""

    def step() -> None:
        for one in steps:
            one()

    return step


def plain_step(net: nn.Module, batch: Batch, *, nesterov: bool) -> Step:
    """Return a step that trains a network without a search."""
    net.train()
    sgd = torch.optim.SGD(net.parameters(), 1e-3, 0.9, weight_decay=4e-5, nesterov=nesterov)

    def step() -> None:
        x, y = batch
        sgd.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        sgd.step()

    return step


def decide(algo: Any, seed: int) -> None:
    """Decide all edges at random, as they are after the last decision."""
    rng, kept = np.random.default_rng(seed), dict[str, int]()
    specs = list(algo.relaxation.specs.values())
    for at in rng.permutation(len(specs)):
        spec = specs[at]
        full = kept.get(spec.node, 0) >= spec.keep
        kept[spec.node] = kept.get(spec.node, 0) + 1
        algo.relaxation.fix(spec.label, SKIP if full else int(rng.integers(1, len(spec.options))))


def proxyless(width: float, resolution: int, batch: int, rounds: int) -> None:
    """Print the ratios of ProxylessNAS."""
    space = raynas.space("proxyless", width=width, resolution=resolution, num_classes=10)
    ours = Searched(space, "proxyless", batch, warmup_epochs=0)
    relaxation, alphas = ours.algo.relaxation, ours.algo.alphas
    index, two, full = Index(), BinaryGate("two"), BinaryGate("full_v2")
    step = itertools.count()

    def weights() -> None:
        relaxation.use(index)
        relaxation.sample(next(step), 0)
        ours.algo.weight_step(ours.batches[0])

    def logits(gate: BinaryGate) -> None:
        relaxation.use(gate)
        relaxation.sample(next(step), 1)
        ours.algo.alpha_step(ours.batches[1], alphas)

    times = seconds(
        {"w": weights, "two": lambda: logits(two), "full": lambda: logits(full)}, rounds
    )
    # rounds differ by their paths: means over a quarter of them at a time are compared
    means = {
        name: [statistics.fmean(values[at::4]) for at in range(4)] for name, values in times.items()
    }
    print({name: round(statistics.fmean(values), 3) for name, values in means.items()})
    told("ProxylessNAS, logits' step in mode two (goal: at most 1.25)", means, "two", "w")
    told("the same in mode full_v2 (goal: at most 1.6)", means, "full", "w")
    path = space.arch_space.sample(np.random.default_rng(1))
    single = plain_step(freeze(ours.run.model, path), ours.batches[0], nesterov=True)
    with torch.no_grad():
        for label, vector in relaxation.vectors.items():
            at = relaxation.specs[label].options.index(path[label])
            vector.fill_(0.0)[at] = 100.0  # so that this path is drawn
    times = seconds({"plain": single, "w": weights}, 4 * rounds)
    told("weight step over a plain single path (goal: at most 1.05)", times, "w", "plain")


def main() -> None:
    """Print all ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=float, default=0.35)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--only", choices=("darts", "proxyless"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.only != "proxyless":
        print(f"gradients differ from the textbook's by {agreement():.0e}")
        darts(given.channels, given.layers, given.batch, given.rounds)
    if given.only != "darts":
        proxyless(given.width, given.resolution, given.batch, 4 * given.rounds)


if __name__ == "__main__":
    main()
