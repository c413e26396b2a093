"""How many evaluations ``block_library`` needs beside regularized evolution, at one bound.

A small GPT is trained on the characters of Python's own help topics and made elastic. Both
algorithms score by the weights that it has, on the same text; what is compared is the loss of the
best architecture within the bound after so many evaluations, for three trainings of the model, and
three runs of evolution each. Then ``verify`` says how well sums over blocks order architectures
before and after an epoch of training with the whole as the teacher.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.utils.data import TensorDataset

import raynas
from raynas.core.blocks import largest

TOKENS, CONTEXT, WIDTH, HEADS = 48, 32, 32, 4
SHARE = 0.6  # of the model's multiply-accumulates
INLINE = {"inline": True}


class Attention(nn.Module):
    """Causal attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.heads = nn.LayerNorm(WIDTH), HEADS
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return x and what attention adds, shape (batch, T, channels)."""
        batch, length, _ = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = x + self.out(y.transpose(1, 2).reshape(batch, length, -1))
        return out


class Feed(nn.Module):
    """An MLP of four times the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return x and what the MLP adds."""
        out: Tensor = x + self.down(nn.functional.gelu(self.up(self.norm(x))))
        return out


class TinyGPT(nn.Module):
    """Attention and MLPs in turn, six of each."""

    def __init__(self, layers: int = 6) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(TOKENS, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        parts = [part() for _ in range(layers) for part in (Attention, Feed)]
        self.layers = nn.Sequential(*parts)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, TOKENS)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits, shape (batch, T, tokens), of tokens, shape (batch, T)."""
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        logits: Tensor = self.head(self.norm(self.layers(x)))
        return logits


def text(train: int, valid: int) -> tuple[TensorDataset, TensorDataset]:
    """Return windows of characters, the rare ones as one token."""
    order = np.random.default_rng(0).permutation(sorted(topics))
    whole = "\n".join(topics[name] for name in order)[: (train + valid) * (CONTEXT + 1)]
    common = [char for char, _ in Counter(whole).most_common(TOKENS - 1)]
    number = {char: at for at, char in enumerate(common)}
    ids = torch.tensor([number.get(char, TOKENS - 1) for char in whole]).view(-1, CONTEXT + 1)
    first, other = ids.split([train, valid])
    return TensorDataset(first[:, :-1], first[:, 1:]), TensorDataset(other[:, :-1], other[:, 1:])


def trained(data: TensorDataset, seed: int, epochs: int) -> TinyGPT:
    """Return a model that was trained."""
    torch.manual_seed(seed)
    model, (ids, following) = TinyGPT(), data.tensors
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(ids), generator=rng).split(64):
            loss = cross_entropy(model(ids[rows]).flatten(0, 1), following[rows].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def best_so_far(result: raynas.Result) -> np.ndarray[Any, Any]:
    """Return the least loss within the bound by number of evaluations, infinite before any."""
    rows = result.trials.sort_values("trial")
    within = rows["loss"].where(rows["status"] == "completed", np.inf)
    curve: np.ndarray[Any, Any] = np.minimum.accumulate(within.to_numpy())
    return curve


def compared(seed: int, epochs: int, trials: int, folder: Path) -> None:
    """Search one trained model by both."""
    data = text(2048, 256)
    model = trained(data[0], seed, epochs)
    space = raynas.elastic(model, data[0].tensors[0][:2], heads=[0.5], ffn=[0.25, 0.5], depth=True)
    whole = raynas.cost(space, largest(space.arch_space))
    common: dict[str, Any] = {
        "data": data,
        "task": "language_modeling",
        "supernet": {"epochs": 0},
        "objectives": {"loss": "min"},
        "constraints": {"macs": (None, SHARE * whole.macs)},
        "ray": INLINE,
        "seed": seed,
    }
    for depth_score in ("score", "influence"):
        beside = ("shared", {"influence": depth_score == "influence"})
        library = raynas.search(
            space,
            "block_library",
            evaluator=beside,
            options={"depth_score": depth_score},
            trials=50,
            out=str(folder / f"{depth_score}-{seed}"),
            **common,
        )
        curve = best_so_far(library)
        first = int(np.isfinite(curve).argmax())
        print(
            f"model {seed}, {space.arch_space.size():.3g} architectures, block_library by "
            f"{depth_score}: {first} variants, first optimum {curve[first]:.4f}, best after 50 "
            f"{curve[-1]:.4f}, whole {library.trials['loss'][0]:.4f}",
            flush=True,
        )
        if depth_score == "score":
            wanted = curve[first], curve[-1]
            found = library.verify(
                top=8, seeds=1, options={"epochs": 1, "lr": 0.01, "teacher": model}, ray=INLINE
            )
            print(found, flush=True)
    for other in range(3):
        evolved = raynas.search(
            space,
            "regularized_evolution",
            trials=trials,
            out=str(folder / f"evolution-{seed}-{other}"),
            **{**common, "seed": 10 * seed + other},
        )
        curve = best_so_far(evolved)
        reached = [
            int((curve <= goal).argmax()) + 1 if curve[-1] <= goal else None for goal in wanted
        ]
        print(
            f"  regularized_evolution {other}: best after 50 {curve[:50][-1]:.4f}, after {trials} "
            f"{curve[-1]:.4f}; as good as the first optimum after {reached[0]}, as the best of "
            f"block_library after {reached[1]}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--trials", type=int, default=500)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(given.seeds):
            compared(number, given.epochs, given.trials, Path(temporary))
