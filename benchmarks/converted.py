"""What a search of a trained model's smaller networks finds at half of its multiply-accumulates.

A model is trained, made elastic and searched, and what is found is compared with uniform widths at
as many multiply-accumulates: the first channels of every layer, and the largest by L1. All are
trained on alike, three seeds of everything.

* digits: a small ResNet on scikit-learn's images;
* fashion: the same on Fashion-MNIST (``--data``, torchvision's layout);
* text: a small GPT on the characters of a text, of ``--text`` or of Python's own help topics.

Long: what is done stands in ``--out``, and the same command goes on from there. Test examples
decide nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import Kept
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.data import TensorDataset

import raynas
from raynas.core.arch import Arch
from raynas.core.train_settings import TrainSettings
from raynas.data.module import DATA, DataModule
from raynas.data.split import split_of
from raynas.data.tensor_data import TensorData
from raynas.evaluators.loaded import Loaded
from raynas.nn.dimensions import dimensions_of
from raynas.nn.modelspace import ModelSpace
from raynas.supernet.network_training import NetworkTraining

SHARE = 0.5  # of the model's multiply-accumulates
RATIOS = tuple(n / 8 for n in range(2, 9))  # of channels, heads and layers that a search may keep
UNIFORM = tuple(n / 48 for n in range(24, 49))  # of which the largest within the bound is taken
INLINE = {"inline": True}
CONTEXT, TOKENS = 64, 64  # characters that a text's model sees, and that it tells apart
PARTS = ("digits", "fashion", "text")


class Block(nn.Module):
    """Two convolutions and a residual sum."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inner != outer:
            conv = nn.Conv2d(inner, outer, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of shape (batch, outer, height / stride, width / stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """Three stages of two blocks, of 16, 32 and 64 channels; output logits of ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16))
        blocks, inner = [], 16
        for outer in (16, 32, 64):
            blocks += [Block(inner, outer, 1 if outer == 16 else 2), Block(outer, outer, 1)]
            inner = outer
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, 10).

        Args:
            x: shape (batch, 1, height, width).
        """
        logits: Tensor = self.head(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))
        return logits


class Attention(nn.Module):
    """Causal attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each position gathers, of the shape of ``x``."""
        batch, length = x.shape[:2]
        split = (batch, length, self.heads, self.size)
        q, k, v = (part(x).view(split).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        out: Tensor = self.out(y.reshape(batch, length, self.heads * self.size))
        return out


class Layer(nn.Module):
    """Attention and an MLP, each of which is added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return states of the shape of ``x``."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class SmallGPT(nn.Module):
    """Three layers of 64 channels and 8 heads."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(TOKENS, 64), nn.Embedding(CONTEXT, 64)
        self.layers = nn.Sequential(*(Layer(64, 8) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, TOKENS)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits of shape (batch, T, tokens).

        Args:
            ids: shape (batch, T).
        """
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        logits: Tensor = self.head(self.norm(self.layers(x)))
        return logits


def text_of(path: str | None) -> str:
    """Return a file's text; without one that of Python's help topics, in an order of its own."""
    if path is not None:
        return Path(path).read_text()
    from pydoc_data.topics import topics

    names = sorted(topics)
    return "\n".join(topics[names[at]] for at in np.random.default_rng(0).permutation(len(names)))


def characters(text: str, train: int, others: int) -> DataModule:
    """Return windows of a text's characters, the rare ones as one token.

    Args:
        text: from whose beginning those to train on come, then those to validate, then to test.
        train: windows to train on.
        others: windows to validate on, and to test on.
    """
    common = [char for char, _ in Counter(text).most_common(TOKENS - 1)]
    number = {char: at for at, char in enumerate(common)}
    counts = (train, others, others)
    needed = sum(counts) * (CONTEXT + 1)
    if len(text) < needed:
        raise SystemExit(f"the text has {len(text):,} characters, {needed:,} are needed")
    ids = torch.tensor([number.get(char, TOKENS - 1) for char in text[:needed]])
    parts = ids.view(-1, CONTEXT + 1).split(counts)
    datasets = tuple(TensorDataset(part[:, :-1], part[:, 1:]) for part in parts)
    data = TensorData(datasets)
    data.task = raynas.tasks.TASKS["language_modeling"]()
    return data


@dataclass(frozen=True)
class Lengths:
    """How long everything takes; results of others are not gone on with.

    Attributes:
        epochs: of the model.
        supernet_epochs: of its supernet.
        tuning_epochs: of every smaller network.
        trials: of the search.
    """

    epochs: int
    supernet_epochs: int
    tuning_epochs: int
    trials: int


@dataclass(frozen=True)
class Subject:
    """What is made smaller, and on what.

    Attributes:
        name: of the part.
        model: builds it.
        data: examples.
        metric: on test examples.
        asked: what becomes elastic, as arguments of ``raynas.elastic``; lists are shares.
        recipe: of all trainings.
        tuning: of those that go on from trained weights.
    """

    name: str
    model: Callable[[], nn.Module]
    data: DataModule
    metric: str
    asked: tuple[str, ...]
    recipe: Mapping[str, Any]
    tuning: Mapping[str, Any]


class Study:
    """One seed of a subject: its model, its spaces, and everything that is done with them.

    Args:
        subject: that is studied.
        lengths: of trainings and searches.
        seed: of all of them.
        kept: results so far.
        out: folder of runs and weights.
    """

    def __init__(
        self, subject: Subject, lengths: Lengths, seed: int, kept: Kept, out: Path
    ) -> None:
        self.subject, self.lengths, self.seed, self.kept, self.out = (
            subject, lengths, seed, kept, out
        )  # fmt: skip
        self.loaded = Loaded(subject.data, torch.device("cpu"))

    @cached_property
    def model(self) -> nn.Module:
        """The trained model."""
        torch.manual_seed(self.seed)
        net, file = self.subject.model(), self.out / f"{self.subject.name} {self.seed}.pt"
        if not file.exists():
            self.out.mkdir(parents=True, exist_ok=True)
            self._train(net, self.lengths.epochs, {})
            torch.save(net.state_dict(), file)
        net.load_state_dict(torch.load(file))
        return net.eval()

    def _train(self, net: nn.Module, epochs: int, more: Mapping[str, Any]) -> dict[str, float]:
        began = time.process_time()
        settings = TrainSettings(epochs=epochs, **{**self.subject.recipe, **more})
        training = NetworkTraining(net, self.loaded, settings, seed=self.seed)
        while training.epoch < epochs:
            training.run_epoch()
        test = split_of(self.loaded.load().test)
        return training.validate(test) | {"cpu_s": time.process_time() - began}

    def elastic(self, ratios: tuple[float, ...], order: str | None, *, depth: bool) -> ModelSpace:
        """Return the model's smaller networks."""
        inputs = self.loaded.load().train[0][:2]
        shares: dict[str, Any] = dict.fromkeys(self.subject.asked, ratios)
        return raynas.elastic(self.model, inputs, depth=depth, order=order, **shares)

    @cached_property
    def searched(self) -> ModelSpace:
        """The space that is searched."""
        return self.elastic(RATIOS, "l1", depth=True)

    def macs(self, space: ModelSpace, arch: Mapping[str, Any]) -> float:
        """Return multiply-accumulates of one example."""
        return float(raynas.cost(space, arch).macs)

    @cached_property
    def bound(self) -> float:
        """Multiply-accumulates that are allowed."""
        sizes = dimensions_of(self.searched.supernet())
        whole = self.searched.arch_space.decided(lambda d: sizes[d.label].largest)
        return SHARE * self.macs(self.searched, whole)

    def uniform(self, order: str | None) -> tuple[ModelSpace, Arch]:
        """Return the network of one share of all widths that is the largest within the bound."""
        space = self.elastic(UNIFORM, order, depth=False)
        for ratio in reversed(UNIFORM):

            def nearest(decision: Any, ratio: float = ratio) -> Any:
                largest = decision.options[0]
                return min(decision.options, key=lambda kept: abs(kept / largest - ratio))

            arch = space.arch_space.decided(nearest)
            if self.macs(space, arch) <= self.bound:
                return space, arch
        raise SystemExit("no share of widths is within the bound")

    @cached_property
    def supernet(self) -> str:
        """Folder of the supernet, which learns from the model that it began as."""
        options = {k: d.options for k, d in dimensions_of(self.searched.supernet()).items()}
        kinds = {k: d.kind for k, d in dimensions_of(self.searched.supernet()).items()}
        stage: dict[str, Any] = {"epochs": self.lengths.supernet_epochs, "subnets": 2}
        for kind in ("width", "depth"):
            stage[kind] = {k: listed for k, listed in options.items() if kinds[k] == kind}

        def make() -> dict[str, Any]:
            began = time.process_time()
            path = raynas.train_supernet(
                self.searched,
                "progressive_shrinking",
                data=self.subject.data,
                seed=self.seed,
                options={**self.subject.recipe, **self.subject.tuning, "stages": [stage]}
                | {"sandwich": True},
                out=f"{tempfile.mkdtemp(dir=self.out)}/supernet",
                ray=INLINE,
                progress=False,
            )
            return {"path": path, "cpu_s": time.process_time() - began}

        return str(self.kept.get(f"supernet {self.subject.name} {self.seed}", make)["path"])

    @cached_property
    def result(self) -> Any:
        """The search of the supernet within the bound."""

        def make() -> dict[str, Any]:
            supernet, began = self.supernet, time.process_time()
            path = raynas.search(
                self.searched,
                "regularized_evolution",
                supernet=supernet,
                data=self.subject.data,
                constraints={"macs": (None, self.bound)},
                trials=self.lengths.trials,
                seed=self.seed,
                out=f"{tempfile.mkdtemp(dir=self.out)}/search",
                ray=INLINE,
                progress=False,
            ).path
            return {"path": path, "cpu_s": time.process_time() - began}

        path = self.kept.get(f"search {self.subject.name} {self.seed}", make)["path"]
        return raynas.load(path, space=self.searched, data=self.subject.data)

    def tuned(self, row: str) -> dict[str, float]:
        """Return test scores of a row's network, at once and trained on, and its MACs."""

        def make() -> dict[str, float]:
            net, macs = self._network(row)
            test = split_of(self.loaded.load().test)
            settings = TrainSettings(epochs=1, **self.subject.recipe)
            at_once = NetworkTraining(net, self.loaded, settings, seed=self.seed).validate(test)
            epochs = self.lengths.tuning_epochs
            if row == LONGER:  # a step of the supernet runs networks of about four times its size
                epochs += 4 * self.lengths.supernet_epochs
            scores = self._train(net, epochs, self.subject.tuning)
            metric = self.subject.metric
            return {
                "at_once": at_once[metric],
                "tuned": scores[metric],
                "cpu_s": scores["cpu_s"],
                "macs": macs,
            }

        return dict(self.kept.get(f"{row} {self.subject.name} {self.seed}", make))

    def _network(self, row: str) -> tuple[nn.Module, float]:
        if row == WHOLE:
            return self.searched.build(self._whole), self.bound / SHARE
        if row in (FIRST, L1, LONGER):
            space, arch = self.uniform(None if row == FIRST else "l1")
            return space.build(arch), self.macs(space, arch)
        arch = self.result.best.arch
        net = self.result.model() if row == FOUND else self.searched.build(arch)
        return net, self.macs(self.searched, arch)

    @property
    def _whole(self) -> Arch:
        sizes = dimensions_of(self.searched.supernet())
        return self.searched.arch_space.decided(lambda d: sizes[d.label].largest)


WHOLE = "the whole model"
FIRST = "uniform widths, the first channels"
L1 = "uniform widths, the largest channels by L1"
FOUND = "found, the supernet's weights"
FOUND_PLAIN = "found, the model's weights"
LONGER = "uniform widths by L1, trained on as long as the supernet and the found one"
ROWS = (WHOLE, FIRST, L1, FOUND_PLAIN, FOUND, LONGER)


def subjects(parts: list[str], data: str | None, text: str | None, quick: bool) -> list[Subject]:
    """Return what is studied."""
    images = {"batch_size": 64, "lr": 0.05}
    slower = {"lr": 0.02}
    share = 8 if quick else 1
    made = []
    if "digits" in parts:
        digits = DATA["digits"](size=16)
        made.append(Subject("digits", SmallResNet, digits, "accuracy", ("width",), images, slower))
    if "fashion" in parts and data is not None:
        fashion = DATA["fashion_mnist"](root=data, train=3000 // share, valid=1500 // share)
        made.append(
            Subject("fashion", SmallResNet, fashion, "accuracy", ("width",), images, slower)
        )
    if "text" in parts:
        windows = characters(text_of(text), 1536 // share, 384 // share)
        recipe = {"optimizer": "adamw", "lr": 3e-3, "batch_size": 32, "weight_decay": 0.01}
        asked = ("width", "heads", "ffn")
        tuning = {"lr": 1e-3}
        made.append(Subject("text", SmallGPT, windows, "perplexity", asked, recipe, tuning))
    return made


def table(subject: Subject, studies: list[Study]) -> str:
    """Return the rows of a subject in Markdown."""
    lines = []
    scale = 100.0 if subject.metric == "accuracy" else 1.0
    for row in ROWS:
        each = [study.tuned(row) for study in studies]
        tuned = scale * np.array([scores["tuned"] for scores in each])
        at_once = scale * np.mean([scores["at_once"] for scores in each])
        macs = ", ".join(f"{scores['macs'] / 1e6:.2f}" for scores in each)
        lines.append(
            f"| {subject.name} | {row} | {macs} | {at_once:.2f} | {tuned.mean():.2f} ± "
            f"{tuned.std(ddof=1):.2f} | {', '.join(f'{score:.2f}' for score in tuned)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Compute what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of Fashion-MNIST; left out without it")
    parser.add_argument("--text", help="file of a text; Python's help topics without it")
    parser.add_argument("--out", type=Path, help="folder of all results; else a temporary one")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=16, help="of the models")
    parser.add_argument("--supernet-epochs", type=int, default=8)
    parser.add_argument("--tuning-epochs", type=int, default=4)
    parser.add_argument("--trials", type=int, default=150, help="of a search")
    parser.add_argument("--quick", action="store_true", help="a minute: says nothing")
    given = parser.parse_args()
    lengths = Lengths(given.epochs, given.supernet_epochs, given.tuning_epochs, given.trials)
    if given.quick:
        given.seeds, lengths = 2, Lengths(1, 1, 1, 4)
    if given.seeds < 2:
        parser.error("a standard deviation needs at least two seeds")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        out = given.out or Path(temporary)
        kept = Kept(out / "converted.json", {**asdict(lengths), "quick": given.quick})
        print(
            "| data | network | million MACs, by seed | at once | trained on | each |", flush=True
        )
        print("|---|---|---|---|---|---|")
        tables = []
        for subject in subjects(given.parts, given.data, given.text, given.quick):
            studies = [Study(subject, lengths, seed, kept, out) for seed in range(given.seeds)]
            tables.append(table(subject, studies))
        print("\n".join(tables))


if __name__ == "__main__":
    main()
