"""How well cheap scores rank architectures, against training each of them on its own.

Real images, NAS-Bench-Macro's space with narrow channels. The truth is the mean test accuracy of
networks that were trained from fresh weights, once per seed; no other score sees test images.

* Ranking: Kendall's tau between that and the accuracy under a supernet's weights, the probability
  under learned logits, costs, and scores of untrained networks. How well one seed's trainings rank
  like another's says how much any score could reach.
* Found: what each algorithm proposes, trained in the same way, against the mean of random ones.

Long: what is done stands in ``--out``, and the same command goes on from there. Images are
Fashion-MNIST's (``--data-root``; each 2x2 pixels averaged), or digits.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _results import Kept, shown
from numpy.typing import NDArray
from torch import Tensor

import raynas
from raynas.core.arch import Arch
from raynas.core.evaluator import EVALUATORS
from raynas.core.train_settings import TrainSettings
from raynas.core.trial import Trial
from raynas.data.module import DATA, DataModule, Splits, flipped, shifted
from raynas.data.split import split_of
from raynas.evaluators.loaded import Loaded
from raynas.gradient.base import ALPHA
from raynas.results.analysis import kendall, mean_difference
from raynas.supernet.network_training import NetworkTraining
from raynas.supernet.protocol import ONE_SHOTS
from raynas.supernet.scoring import SubnetScorer
from raynas.supernet.training import SupernetTraining

SPACE = "nas_bench_macro"
DIGITS = {"identity": "0", "MB3E3": "1", "MB5E6": "2"}  # of the published table
LARGEST = "MB5E6"
BATCH = 64
PROXIES = ("nwot", "synflow", "grad_norm")
COLD = "spos, no warm start"
ALGOS = (
    *("spos", "darts", "sgas", "gdas", "proxyless", "fbnet", COLD),
    *("drnas", "gdas, reinmax", "snas, reinmax"),
    *("darts, perturbation", "darts, random", "darts, adversarial"),
)
SEARCHED = 100  # architectures that a search of the SPOS supernet scores
ALONE = "alone"
Scores = Mapping[str, float]


def options(algo: str, epochs: int) -> dict[str, Any]:
    """Return what differs from an algorithm's defaults, which are for trainings 10 times as long.

    Weights are trained alike by all. Logits learn ten times as fast as published, except FBNet's,
    whose rate is large already; warm-ups and SGAS's decisions keep their share of the epochs. What
    stands behind a comma is a variant of the algorithm before it.
    """
    warmup, first = max(1, epochs // 6), max(1, epochs // 4)
    own: dict[str, dict[str, Any]] = {
        COLD: {"warm_start_steps": 0},
        "darts": {"alpha_lr": 3e-3},
        "sgas": {
            "alpha_lr": 3e-3,
            "first_decision": first,
            "decide_every": max(1, (epochs - first) // 8),
        },
        "gdas": {"alpha_lr": 3e-3},
        "proxyless": {"alpha_lr": 1e-2, "warmup_epochs": warmup},
        "fbnet": {"decay": 0.045 * 90 / epochs, "warmup_epochs": warmup},
        "drnas": {"alpha_lr": 6e-3, "warmup_epochs": max(1, epochs // 5)},
        "gdas, reinmax": {"alpha_lr": 3e-3, "estimator": "reinmax"},
        "snas, reinmax": {"alpha_lr": 3e-3, "estimator": "reinmax"},
        "darts, perturbation": {"alpha_lr": 3e-3, "selection": "perturbation"},
        "darts, random": {"alpha_lr": 3e-3, "perturb": "random"},
        "darts, adversarial": {"alpha_lr": 3e-3, "perturb": "adversarial"},
    }
    return own.get(algo, {})


class Images(DataModule):
    """A part of Fashion-MNIST at 14x14 pixels.

    Args:
        root: folder of the files, in torchvision's layout.
        train: images to train on.
        valid: images that logits learn on, and shared weights are scored on.
    """

    name, input_shape, num_classes = "fashion_mnist", (1, 14, 14), 10

    def __init__(self, root: str, train: int, valid: int) -> None:
        self.root, self.train, self.valid = root, train, valid

    def load(self) -> Splits:
        """Return the splits; all 10,000 test images."""
        splits = DATA["fashion_mnist"](root=self.root).load()
        assert splits.test is not None
        parts = ((splits.train, self.train), (splits.valid, self.valid), (splits.test, None))
        train, valid, test = (
            (torch.nn.functional.avg_pool2d(x[:most], 2), y[:most]) for (x, y), most in parts
        )
        return Splits(train, valid, test)

    def augment(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Return the images moved by up to one pixel, every second one mirrored."""
        return flipped(shifted(x, 1, rng), rng)


@dataclass(frozen=True)
class StudyInfo:
    """What results depend on; those of another are not gone on with."""

    data: str
    train: int
    valid: int
    width: float
    supernet_epochs: int
    alone_epochs: int


class Study:
    """The setting's space and data, and everything that is done with them."""

    def __init__(self, setting: StudyInfo, root: str | None, out: Path) -> None:
        self.setting = setting
        self.kept = Kept(out / "ranking.json", asdict(setting))
        data = DATA["digits"]() if root is None else Images(root, setting.train, setting.valid)
        self.loaded = Loaded(data, torch.device("cpu"))
        assert data.input_shape is not None
        channels, resolution, _ = data.input_shape
        self.space = raynas.space(
            SPACE, in_channels=channels, resolution=resolution, width=setting.width
        )

    def random(self, count: int) -> list[Arch]:
        """Return that many different architectures, drawn uniformly."""
        rng, found = np.random.default_rng(0), dict[Arch, None]()
        while len(found) < count:
            found[self.space.canonical(self.space.arch_space.sample(rng))] = None
        return list(found)

    def largest(self) -> Arch:
        """Return the architecture that costs most."""
        return Arch(dict.fromkeys(self.space.arch_space.labels, LARGEST))

    def cheap(self, arch: Arch) -> dict[str, float]:
        """Return costs and scores of the untrained network."""

        def make() -> dict[str, float]:
            found = dict(raynas.cost(self.space, arch).as_metrics())
            for name in PROXIES:
                net = self.space.build(arch, seed=0)
                found |= EVALUATORS[name]().measure(net, self.loaded, 0)
            return found

        return self.kept.get(f"cheap {arch.key}", make)  # type: ignore[no-any-return]

    def alone(self, arch: Arch, seed: int) -> dict[str, float]:
        """Return test accuracy after a training from fresh weights, and its CPU seconds."""

        def make() -> dict[str, float]:
            began = time.process_time()
            settings = TrainSettings(epochs=self.setting.alone_epochs, batch_size=BATCH)
            net = self.space.build(arch, seed=seed)
            training = NetworkTraining(net, self.loaded, settings, seed=seed)
            while training.epoch < settings.epochs:
                training.run_epoch()
            found = training.validate(split_of(self.loaded.load().test))
            return found | {"cpu_s": time.process_time() - began}

        return self.kept.get(f"{ALONE} {arch.key} {seed}", make)  # type: ignore[no-any-return]

    def supernet(self, algo: str, seed: int, archs: Sequence[Arch]) -> dict[str, Any]:
        """Train a supernet; return its scores of architectures, and what the algorithm found."""

        def make() -> dict[str, Any]:
            began = time.process_time()
            epochs = self.setting.supernet_epochs
            training = SupernetTraining(
                self.space.supernet(seed),
                ONE_SHOTS[algo.partition(",")[0]](seed=seed, **options(algo, epochs)),
                self.loaded,
                TrainSettings(epochs=epochs, batch_size=BATCH),
                seed=seed,
            )
            row: dict[str, float] = {}
            while training.epoch < epochs:
                row = training.run_epoch()
            splits = self.loaded.load()
            scorer = SubnetScorer(training.model, splits.train, splits.valid, seed=seed)
            likely = training.top_k(1)
            found = Arch(likely[0]) if likely else self._searched(scorer, seed)
            searched = time.process_time()
            return {
                "shared": {arch.key: scorer.score(arch)["accuracy"] for arch in archs},
                "log_p": log_probabilities(row, archs) if likely else None,
                "found": dict(self.space.canonical(found)),
                "cpu_s": searched - began,
            }

        return self.kept.get(f"supernet {algo} {seed}", make)  # type: ignore[no-any-return]

    def supernets(self, algo: str, count: int) -> list[dict[str, Any]]:
        """Return what is known of an algorithm's supernets of the first seeds."""
        keys = [f"supernet {algo} {seed}" for seed in range(count)]
        return [self.kept.results[key] for key in keys if key in self.kept.results]

    def _searched(self, scorer: SubnetScorer, seed: int) -> Arch:
        """Return the best architecture of a search with shared weights."""
        sampler = raynas.sampler("regularized_evolution", self.space.arch_space, seed=seed)
        trials = []
        for _ in range(SEARCHED):
            arch = sampler.ask()
            trials.append(Trial.completed(arch, scorer.score(arch)["accuracy"]))
            sampler.tell(trials[-1])
        return max(trials, key=lambda trial: trial.objective or 0.0).arch


def log_probabilities(row: Mapping[str, float], archs: Sequence[Arch]) -> dict[str, float]:
    """Return the logarithm of every architecture's probability under the last epoch's logits."""
    p = {name: max(value, 1e-6) for name, value in row.items() if name.startswith(ALPHA)}
    return {a.key: sum(math.log(p[f"{ALPHA}{k}.{v}"]) for k, v in a.items()) for a in archs}


@dataclass(frozen=True)
class Wanted:
    """What is to be trained: random architectures, and supernets of these algorithms."""

    archs: list[Arch]
    algos: Sequence[str]
    supernets: int
    trainings: int


def computed(study: Study, wanted: Wanted) -> None:
    """Do all that is not done yet: one supernet of each algorithm before a second of any."""
    for arch in wanted.archs:
        study.cheap(arch)
    for seed in range(max(wanted.supernets, wanted.trainings)):
        for algo in wanted.algos if seed < wanted.supernets else ():
            study.supernet(algo, seed, wanted.archs)
        for arch in wanted.archs if seed < wanted.trainings else ():
            study.alone(arch, seed)
    for seed in range(wanted.trainings):
        for algo in wanted.algos:
            for run in study.supernets(algo, wanted.supernets):
                study.alone(Arch(run["found"]), seed)
        study.alone(study.largest(), seed)


class Tables:
    """What the kept results say, as Markdown.

    Args:
        study: whose results.
        wanted: of these; what was found is left out where it is not trained yet.
        published: accuracies of the published table by its digits, or nothing.
    """

    def __init__(self, study: Study, wanted: Wanted, published: Scores) -> None:
        self.study, self.wanted, self.published = study, wanted, published
        self.known = study.kept.results
        self.trained = np.array([self._alone(arch) for arch in wanted.archs])  # (archs, seeds)
        self.truth: NDArray[np.float64] = self.trained.mean(1)

    def _alone(self, arch: Arch) -> list[float]:
        keys = [f"{ALONE} {arch.key} {seed}" for seed in range(self.wanted.trainings)]
        return [100 * self.known[key]["accuracy"] for key in keys if key in self.known]

    def told(self) -> str:
        """Return all tables."""
        parts = ([self.truths()], self.ranking(), self.found())
        return "\n\n".join("\n".join(lines) for lines in parts)

    def truths(self) -> str:
        """Return what separate training gives."""
        low, high = self.truth.min(), self.truth.max()
        return (
            f"{len(self.truth)} random architectures, {self.wanted.trainings} trainings each: mean "
            f"{self.truth.mean():.2f} % (standard deviation over architectures "
            f"{self.truth.std(ddof=1):.2f}, from {low:.2f} to {high:.2f}; over seeds of one "
            f"architecture {math.sqrt(self.trained.var(1, ddof=1).mean()):.2f}). A score that knew "
            f"each architecture's expected accuracy would reach a tau of about "
            f"{ceiling(self.trained):.2f}."
        )

    def ranking(self) -> list[str]:
        """Return Kendall's tau of every score."""
        lines = ["| score | tau of its mean over seeds (95 %) | tau by seed |", "|---|---|---|"]
        for a, b in itertools.combinations(range(self.wanted.trainings), 2):
            tau = kendall(self.trained[:, a], self.trained[:, b])
            lines.append(f"| training with seed {a} against seed {b} | {shown(tau)} | - |")
        for algo in self.wanted.algos:
            runs = self.study.supernets(algo, self.wanted.supernets)
            for column, name in (("shared", "shared weights"), ("log_p", "learned probability")):
                each = [run[column] for run in runs if run[column]]
                scores = [np.array([one[a.key] for a in self.wanted.archs]) for one in each]
                lines += [self._row(f"`{algo}`, {name}", scores)] if scores else []
        for name in ("params", "macs", *PROXIES):
            one = [self.known[f"cheap {arch.key}"][name] for arch in self.wanted.archs]
            lines.append(self._row(f"`{name}`", [np.array(one)]))
        if self.published:
            one = [self.published[written(arch)] for arch in self.wanted.archs]
            lines.append(self._row("published CIFAR-10 accuracy", [np.array(one)]))
        return lines

    def _row(self, name: str, scores: Sequence[NDArray[np.float64]]) -> str:
        each = [kendall(one, self.truth) for one in scores]
        mean = kendall(np.mean(scores, axis=0), self.truth)
        by = ", ".join(f"{one.value:.2f}" for one in each) if len(each) > 1 else "-"
        return f"| {name} | {shown(mean)} | {by} |"

    def found(self) -> list[str]:
        """Return what was found against what is random."""
        lines = [
            "| network | architectures | million MACs | test accuracy | over the random mean "
            "(95 %) | over random ones of its MACs | random ones beaten | CPU seconds |",
            "|---|---|---|---|---|---|---|---|",
            f"| the random ones | {len(self.truth)} | {self._macs(self.wanted.archs).mean():.2f} | "
            f"{self.truth.mean():.2f} ± {self.trained.std(ddof=1):.2f} | - | - | - | - |",
        ]
        for algo in self.wanted.algos:
            runs = self.study.supernets(algo, self.wanted.supernets)
            archs = [Arch(run["found"]) for run in runs]
            lines += self._line(f"`{algo}`", archs, [run["cpu_s"] for run in runs])
        lines += self._line("the largest", [self.study.largest()], [0.0])
        best = self.wanted.archs[int(self.truth.argmax())]
        return lines + self._line("the best random one, by test accuracy", [best], [0.0])

    def _line(self, name: str, archs: Sequence[Arch], seconds: Sequence[float]) -> list[str]:
        each = [self._alone(arch) for arch in archs]
        if not each or min(map(len, each)) < self.wanted.trainings:
            return []
        means, macs = np.array(each).mean(1), self._macs(archs)
        spread = np.std([self._alone(arch) for arch in dict.fromkeys(archs)], ddof=1)
        beaten = np.mean([(self.truth < mean).mean() for mean in means])
        line = np.polyfit(self._macs(self.wanted.archs), self.truth, 1)
        return [
            f"| {name} | {' '.join(written(arch) for arch in archs)} | {macs.mean():.2f} | "
            f"{means.mean():.2f} ± {spread:.2f} | "
            f"{shown(mean_difference(means, self.truth), '+')} | "
            f"{(means - np.polyval(line, macs)).mean():+.2f} | {beaten:.0%} | "
            f"{np.mean(seconds):.0f} |"
        ]

    def _macs(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Return millions of multiply-accumulates."""
        return np.array([raynas.cost(self.study.space, arch).macs / 1e6 for arch in archs])


def ceiling(trained: NDArray[np.float64]) -> float:
    """Return the tau that expected accuracies would have with means over seeds, normal ones.

    By Spearman and Brown's formula, from the mean correlation of two seeds.

    Args:
        trained: accuracies, shape (architectures, seeds).
    """
    seeds = trained.shape[1]
    both = np.asarray(np.corrcoef(trained.T))[np.triu_indices(seeds, 1)]
    r = max(float(both.mean()), 0.0)
    return 2 / math.pi * math.asin(math.sqrt(seeds * r / (1 + (seeds - 1) * r)))


def written(arch: Arch) -> str:
    """Return an architecture as the published table writes it."""
    return "".join(DIGITS[str(value)] for value in arch.values())


def main() -> None:
    """Compute what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of all results")
    parser.add_argument("--data-root", help="of Fashion-MNIST; digits without it")
    parser.add_argument("--train", type=int, default=4000, help="images; digits have 1,000")
    parser.add_argument("--valid", type=int, default=2000, help="images; digits have 400")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--archs", type=int, default=24)
    parser.add_argument("--supernets", type=int, default=2, help="of each algorithm")
    parser.add_argument("--trainings", type=int, default=2, help="of each architecture")
    parser.add_argument("--algos", nargs="+", default=ALGOS, choices=ALGOS)
    parser.add_argument("--supernet-epochs", type=int, default=10)
    parser.add_argument("--alone-epochs", type=int, default=6)
    parser.add_argument("--table", type=Path, help="NAS-Bench-Macro's: columns arch, acc_mean")
    parser.add_argument("--report", action="store_true", help="compute nothing")
    given = parser.parse_args()
    if min(given.trainings, given.archs) < 2:
        parser.error("a spread needs at least two trainings and two architectures")
    torch.set_num_threads(1)
    digits = given.data_root is None
    setting = StudyInfo(
        data="digits" if digits else "fashion_mnist",
        train=1000 if digits else given.train,
        valid=400 if digits else given.valid,
        width=given.width,
        supernet_epochs=given.supernet_epochs,
        alone_epochs=given.alone_epochs,
    )
    study = Study(setting, given.data_root, given.out)
    wanted = Wanted(study.random(given.archs), given.algos, given.supernets, given.trainings)
    if not given.report:
        computed(study, wanted)
    published: Scores = {}
    if given.table is not None:
        frame = pd.read_parquet(given.table)
        published = dict(zip(frame["arch"], frame["acc_mean"], strict=True))
    print(Tables(study, wanted, published).told())


if __name__ == "__main__":
    main()
