"""Whether influence orders layers to leave out better than scores of each layer alone.

A residual MLP is trained on scikit-learn's digits, and layers alone are left out: the loss of every
choice is compared with the sum of what each layer costs alone, and with the sum of their influence
(one less the cosine similarity of a layer's input and output). Printed are Kendall's taus over all
choices, and over those that leave out two layers. Beyond eight layers, choices are drawn.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

import raynas
from raynas.data.digits import Digits
from raynas.supernet.scoring import SubnetScorer

WIDTH, DRAWN = 32, 60


class Layer(nn.Module):
    """A residual MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return x and what the layer adds."""
        out: Tensor = x + self.down(torch.relu(self.up(self.norm(x))))
        return out


class Residual(nn.Module):
    """Layers between a linear stem and a linear head."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.stem, self.layers = nn.Linear(64, WIDTH), nn.Sequential()
        for _ in range(layers):
            self.layers.append(Layer())
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of 16x16 digits, which are 8x8 digits enlarged."""
        x = self.layers(self.stem(avg_pool2d(x, 2).flatten(1)))
        logits: Tensor = self.head(self.norm(x))
        return logits


def trained(layers: int, seed: int, epochs: int, images: Tensor, classes: Tensor) -> Residual:
    """Return a model that was trained."""
    torch.manual_seed(seed)
    net, rng = Residual(layers), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=rng).split(64):
            loss = cross_entropy(net(images[rows]), classes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def choices(layers: int) -> list[tuple[int, ...]]:
    """Return which layers stay: all choices of eight layers, else some of each number."""
    if layers <= 8:
        return list(itertools.product((1, 0), repeat=layers))
    rng, whole = np.random.default_rng(0), np.ones(layers, dtype=int)
    found = {tuple(whole.tolist())}
    found |= {tuple((whole - row).tolist()) for row in np.eye(layers, dtype=int)}
    for count in range(2, 9):
        for _ in range(DRAWN):
            found.add(tuple(rng.permutation([0] * count + [1] * (layers - count)).tolist()))
    return sorted(found)


def compared(layers: int, seed: int, epochs: int) -> tuple[float, float, float, float]:
    """Return taus of scores and influence over all choices, and over those without two layers."""
    splits = Digits().load()
    net = trained(layers, seed, epochs, *splits.train)
    space = raynas.elastic(net, splits.train[0][:2], depth=True)
    scorer = SubnetScorer(space.supernet().eval(), splits.train, splits.valid)
    labels = sorted(space.arch_space.labels, key=lambda label: int(label.split(".")[1]))
    archs = [dict(zip(labels, stay, strict=True)) for stay in choices(layers)]
    losses = {tuple(arch.values()): scorer.score(arch)["loss"] for arch in archs}
    whole = (1,) * layers
    alone = [losses[(*whole[:i], 0, *whole[i + 1 :])] - losses[whole] for i in range(layers)]
    influence = scorer.influences(dict.fromkeys(labels, 1))
    left_out = 1 - np.array(list(losses))
    real, two = np.array(list(losses.values())), left_out.sum(1) == 2
    taus = []
    for chosen in (np.ones(len(real), dtype=bool), two):
        for each in (alone, [influence[label] for label in labels]):
            sums = left_out @ np.array(each)
            taus.append(float(kendalltau(sums[chosen], real[chosen]).statistic))
    return taus[0], taus[1], taus[2], taus[3]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=14)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for number in range(given.seeds):
        rows.append(compared(given.layers, number, given.epochs))
        print(number, " ".join(f"{tau:.3f}" for tau in rows[-1]), flush=True)
    table = np.array(rows)
    for name, at in (("all choices", 0), ("two layers left out", 2)):
        wins = int((table[:, at + 1] > table[:, at]).sum())
        mean, other = table[:, at].mean(), table[:, at + 1].mean()
        print(f"{name}: scores {mean:.3f}, influence {other:.3f}, better in {wins} of {len(table)}")
