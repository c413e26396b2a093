"""What training a converted model's supernet does for the scores of its smaller networks.

A small ViT of timm is trained on images and made elastic (embedding, heads, MLPs, layers; units
sorted by L1). Random smaller networks are scored by the weights that the model has, and by those of
supernets that go on from them for a few epochs: ``spos``, and ``progressive_shrinking`` with the
whole as teacher. Both are compared with test accuracy of the same networks trained on from the
model's weights, and trained alone: Kendall's tau, its interval over networks.

* digits: scikit-learn's images;
* fashion: Fashion-MNIST (``--data``, torchvision's layout).

What is done stands in ``--out``, and the same command goes on from there. Needs timm.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import Kept, shown
from torch import nn

import raynas
from raynas.core.arch import Arch
from raynas.core.train_settings import TrainSettings
from raynas.data.module import DATA, DataModule
from raynas.data.split import split_of
from raynas.evaluators.loaded import Loaded
from raynas.nn.conversion.elastic_space import ElasticSpace
from raynas.nn.dimensions import dimensions_of
from raynas.results.analysis import kendall
from raynas.supernet.checkpoint import find_checkpoint, load_supernet
from raynas.supernet.network_training import NetworkTraining
from raynas.supernet.scoring import SubnetScorer

RECIPE: dict[str, Any] = {"optimizer": "adamw", "lr": 3e-3, "batch_size": 64, "weight_decay": 0.05}
TUNING = RECIPE | {"lr": 1e-3}  # of weights that are trained already
SHRINKING, SPOS, UNTRAINED = "progressive_shrinking", "spos", "the model's weights"
INLINE = {"inline": True}


@dataclass(frozen=True)
class Lengths:
    """How long everything takes; results of others are not gone on with.

    Attributes:
        epochs: of the model, and of networks that are trained alone.
        supernet_epochs: of the supernets, shorter and longer ones.
        tuning_epochs: of networks that go on from the model's weights.
        networks: that are drawn.
    """

    epochs: int
    supernet_epochs: tuple[int, ...]
    tuning_epochs: int
    networks: int


class Study:
    """One seed: a model, its supernets, and its smaller networks.

    Args:
        name: of the images.
        data: they.
        patch: height and width of a patch.
        lengths: of trainings.
        seed: of all of them.
        kept: results so far.
        out: folder of weights.
    """

    def __init__(
        self,
        name: str,
        data: DataModule,
        patch: int,
        *,
        lengths: Lengths,
        seed: int,
        kept: Kept,
        out: Path,
    ) -> None:
        self.name, self.patch, self.lengths, self.seed = name, patch, lengths, seed
        self.kept, self.out, self.data = kept, out, data
        self.loaded = Loaded(data, torch.device("cpu"))

    def _vit(self) -> nn.Module:
        from timm.models.vision_transformer import VisionTransformer

        shape = self.loaded.load().train[0].shape
        net: nn.Module = VisionTransformer(
            img_size=shape[-1],
            patch_size=self.patch,
            in_chans=shape[1],
            num_classes=10,
            embed_dim=48,
            depth=4,
            num_heads=6,
            mlp_ratio=2.0,
        )
        return net

    def train(self, net: nn.Module, epochs: int, recipe: Mapping[str, Any]) -> float:
        """Train a network and return its test accuracy."""
        settings = TrainSettings(epochs=max(epochs, 1), **recipe)
        training = NetworkTraining(net, self.loaded, settings, seed=self.seed)
        while training.epoch < epochs:
            training.run_epoch()
        return float(training.validate(split_of(self.loaded.load().test))["accuracy"])

    @cached_property
    def model(self) -> nn.Module:
        """The trained model."""
        file = self.out / f"{self.name} {self.seed}.pt"
        torch.manual_seed(self.seed)
        net = self._vit()
        if not file.exists():
            self.out.mkdir(parents=True, exist_ok=True)
            self.train(net, self.lengths.epochs, RECIPE)
            torch.save(net.state_dict(), file)
        net.load_state_dict(torch.load(file))
        return net.eval()

    @cached_property
    def space(self) -> ElasticSpace:
        """Its smaller networks."""
        return raynas.elastic(
            self.model,
            self.loaded.load().train[0][:4],
            width=[0.5, 0.75],
            heads=[1 / 3, 2 / 3],
            ffn=[0.25, 0.5],
            depth=True,
            order="l1",
        )

    @property
    def archs(self) -> list[Arch]:
        """Random networks, the same for every seed."""
        rng, drawn = np.random.default_rng(0), dict[Arch, None]()
        while len(drawn) < self.lengths.networks:
            drawn[self.space.arch_space.sample(rng)] = None
        return list(drawn)

    def supernet(self, algo: str, epochs: int) -> str:
        """Return the folder of a supernet."""
        options: dict[str, Any] = dict(TUNING)
        if algo == SHRINKING:
            sizes = dimensions_of(self.space.supernet())
            stage: dict[str, Any] = {"epochs": epochs, "subnets": 2}
            for kind in ("width", "depth"):
                stage[kind] = {k: list(d.options) for k, d in sizes.items() if d.kind == kind}
            options |= {"stages": [stage], "sandwich": True}

        def make() -> dict[str, Any]:
            began = time.process_time()
            path = raynas.train_supernet(
                self.space,
                algo,
                data=self.data,
                seed=self.seed,
                epochs=None if algo == SHRINKING else epochs,
                options=options,
                out=f"{tempfile.mkdtemp(dir=self.out)}/supernet",
                ray=INLINE,
                progress=False,
            )
            return {"path": str(path), "cpu_s": time.process_time() - began}

        key = f"supernet {self.name} {algo} {epochs} {self.seed}"
        return str(self.kept.get(key, make)["path"])

    def scores(self, algo: str, epochs: int) -> list[float]:
        """Return the networks' accuracies on validation images by shared weights."""

        def make() -> list[float]:
            if algo == UNTRAINED:
                model = self.space.supernet()
            else:
                checkpoint = find_checkpoint(Path(self.supernet(algo, epochs)))
                model = load_supernet(self.space, checkpoint, self.seed)
            splits = self.loaded.load()
            valid = split_of(splits.valid)
            scorer = SubnetScorer(model, splits.train, valid, validation_images=len(valid))
            return [scorer.score(arch)["accuracy"] for arch in self.archs]

        return list(self.kept.get(f"scores {self.name} {algo} {epochs} {self.seed}", make))

    def trained(self, *, alone: bool) -> list[float]:
        """Return the networks' test accuracies, trained alone or from the model's weights."""

        def one(arch: Arch) -> float:
            net = self.space.build(arch)
            if not alone:
                return self.train(net, self.lengths.tuning_epochs, TUNING)
            torch.manual_seed(self.seed)
            _draw_anew(net)
            return self.train(net, self.lengths.epochs, RECIPE)

        found = []
        for arch in self.archs:
            key = f"{'alone' if alone else 'tuned'} {self.name} {arch.key} {self.seed}"
            found.append(float(self.kept.get(key, partial(one, arch))))
        return found

    @property
    def whole(self) -> float:
        """The model's own test accuracy."""
        key = f"whole {self.name} {self.seed}"
        return float(self.kept.get(key, lambda: self.train(self.model, 0, RECIPE)))


def _draw_anew(net: nn.Module) -> None:
    """Draw weights: those of layers as torch does, others (embeddings of places) near 0."""
    layers = [m for m in net.modules() if callable(getattr(m, "reset_parameters", None))]
    drawn = {id(p) for layer in layers for p in layer.parameters(recurse=False)}
    for layer in layers:
        layer.reset_parameters()  # type: ignore[operator]
    for parameter in net.parameters():
        if id(parameter) not in drawn:
            nn.init.normal_(parameter, std=0.02)


def table(studies: list[Study], alone_seeds: int) -> str:
    """Return the rows of one kind of images in Markdown."""
    first = studies[0]
    tuned = np.array([study.trained(alone=False) for study in studies])
    alone = np.array([study.trained(alone=True) for study in studies[:alone_seeds]])
    macs = np.array([raynas.cost(first.space, arch).macs for arch in first.archs], dtype=float)
    lines = [
        f"{first.name}: {len(macs)} networks of {macs.min() / 1e6:.2f} to {macs.max() / 1e6:.2f} "
        f"million multiply-accumulates; whole {100 * np.mean([s.whole for s in studies]):.2f} %, "
        f"trained on {100 * tuned.mean():.2f} %, alone {100 * alone.mean():.2f} %",
        "",
        "| score | mean accuracy, % | tau with trained on | tau with alone | CPU s |",
        "|---|---|---|---|---|",
    ]
    rows = [(UNTRAINED, 0)]
    rows += [(algo, n) for algo in (SPOS, SHRINKING) for n in first.lengths.supernet_epochs]
    for algo, epochs in rows:
        scores = np.array([study.scores(algo, epochs) for study in studies])
        taus = [shown(kendall(scores.mean(0), truth.mean(0))) for truth in (tuned, alone)]
        label = algo if algo == UNTRAINED else f"`{algo}`, {epochs} epoch{'s' * (epochs > 1)}"
        keys = [f"supernet {s.name} {algo} {epochs} {s.seed}" for s in studies]
        seconds = [first.kept.results[key]["cpu_s"] for key in keys if key in first.kept.results]
        spent = f"{np.mean(seconds):.0f}" if seconds else "0"
        lines.append(f"| {label} | {100 * scores.mean():.1f} | {taus[0]} | {taus[1]} | {spent} |")
    taus = [shown(kendall(macs, truth.mean(0))) for truth in (tuned, alone)]
    lines.append(f"| multiply-accumulates | - | {taus[0]} | {taus[1]} | 0 |")
    both = shown(kendall(tuned.mean(0), alone.mean(0)))
    lines.append(f"| trained on | {100 * tuned.mean():.1f} | - | {both} | - |")
    return "\n".join(lines)


def main() -> None:
    """Compute what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of Fashion-MNIST; left out without it")
    parser.add_argument("--out", type=Path, help="folder of all results; else a temporary one")
    parser.add_argument("--parts", nargs="+", default=["digits", "fashion"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--alone-seeds", type=int, help="that networks are trained alone with")
    parser.add_argument("--epochs", type=int, default=25, help="of the models, and alone")
    parser.add_argument("--supernet-epochs", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--tuning-epochs", type=int, default=8)
    parser.add_argument("--networks", type=int, default=24)
    given = parser.parse_args()
    lengths = Lengths(
        given.epochs, tuple(given.supernet_epochs), given.tuning_epochs, given.networks
    )
    torch.set_num_threads(1)
    images: dict[str, tuple[Callable[[], DataModule], int]] = {
        "digits": (lambda: DATA["digits"](size=16), 4)
    }
    if given.data is not None:
        fashion = {"root": given.data, "train": 3000, "valid": 1500}
        images["fashion"] = lambda: DATA["fashion_mnist"](**fashion), 7
    with tempfile.TemporaryDirectory() as temporary:
        out = given.out or Path(temporary)
        setting = asdict(lengths) | {"supernet_epochs": given.supernet_epochs}
        kept = Kept(out / "converted_supernet.json", setting)
        for name in [part for part in given.parts if part in images]:
            made, patch = images[name]
            studies = [
                Study(name, made(), patch, lengths=lengths, seed=seed, kept=kept, out=out)
                for seed in range(given.seeds)
            ]
            print(table(studies, given.alone_seeds or given.seeds), flush=True)


if __name__ == "__main__":
    main()
