"""What an elastic supernet's subnets are worth: inherited, trained on, and trained alone.

A small convolutional network of elastic kernels, depths, widths and resolution on real images:
Fashion-MNIST's (``--data``, torchvision's layout) or digits.

* Ranking: Kendall's tau between inherited accuracy on validation images, by several algorithms that
  train supernets, and test accuracy of the same subnets trained alone for as many epochs.
* Sizes: the smallest, the middle and the largest subnet of progressive shrinking: inherited,
  trained on for a few epochs, and trained alone.
* Found: the best subnets within two limits on multiply-accumulates, all by one supernet, against
  random ones of as many (within 5 %), trained alike.

Long: what is done stands in ``--out``, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import Kept, shown
from numpy.typing import NDArray
from torch import Tensor, nn

import raynas
from raynas.core.arch import Arch
from raynas.core.train_settings import TrainSettings
from raynas.data.module import DATA
from raynas.data.split import split_of
from raynas.evaluators.loaded import Loaded
from raynas.nn import BatchNorm2d, Conv2d, Repeat, Resolution, ValueChoice
from raynas.nn.blocks import Residual
from raynas.nn.dimensions import dimensions_of
from raynas.nn.elastic_block import ElasticInvertedResidual
from raynas.nn.modelspace import ModelSpace
from raynas.results.analysis import kendall, mean_difference
from raynas.results.result import Result
from raynas.supernet.checkpoint import find_checkpoint, load_supernet
from raynas.supernet.network_training import NetworkTraining
from raynas.supernet.scoring import SubnetScorer

STAGES = (16, 32)  # channels
DEPTHS, KERNELS, EXPANDS = (1, 2, 3), (3, 5), (2, 3, 4)
LIMITS = (0.2, 0.4)  # of the largest network's multiply-accumulates
NEAR = 0.05  # by which share random networks may differ from the one found
INLINE = {"inline": True}
# of all trainings
RECIPE: dict[str, Any] = {"batch_size": 64, "weight_decay": 4e-5, "decay_norms": True}
TUNING = RECIPE | {"lr": 0.01}  # of inherited weights
SHRINKING, LONGER = "progressive_shrinking", "progressive_shrinking, four times the epochs"
PARTS = ("ranking", "sizes", "found")


@dataclass(frozen=True)
class Algorithm:
    """How a supernet is trained.

    Attributes:
        name: of the one-shot algorithm.
        options: of it.
        times: as many epochs as the others have.
    """

    name: str
    options: Mapping[str, Any]
    times: int = 1


ALGOS = {
    SHRINKING: Algorithm(SHRINKING, {}),
    "progressive_shrinking, sandwich": Algorithm(SHRINKING, {"sandwich": True}),
    "progressive_shrinking, no teacher": Algorithm(SHRINKING, {"distill": 0.0}),
    LONGER: Algorithm(SHRINKING, {}, 4),
    # the warm start trains the smallest network alone, of which elastic layers inherit nothing
    "spos": Algorithm("spos", {"warm_start_steps": 0}),
    "spos, strict": Algorithm("spos", {"warm_start_steps": 0, "fairness": "strict"}),
}


class ElasticNet(nn.Module):
    """Stem, two elastic stages, head; output logits.

    Args:
        in_channels: of the images.
        sizes: heights and widths that they may be resized to.
    """

    def __init__(self, in_channels: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.resolution = Resolution(sizes, "resolution")
        channels = STAGES[0]
        conv = Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False)
        self.stem = nn.Sequential(conv, BatchNorm2d(channels), nn.ReLU())
        self.stages = nn.ModuleDict()
        for number, out in enumerate(STAGES, 1):
            name = f"stage{number}"
            block = partial(self._block, name, channels, out)
            depth = ValueChoice(DEPTHS, label=f"{name}.depth")
            self.stages[name] = Repeat(block, depth, label=name)
            channels = out
        self.classifier = nn.Linear(channels, 10)

    @staticmethod
    def _block(stage: str, channels_in: int, channels_out: int, at: int) -> nn.Module:
        label = f"{stage}.block{at + 1}"
        block = ElasticInvertedResidual(
            channels_out if at else channels_in,
            channels_out,
            1 if at else 2,
            kernel=ValueChoice(KERNELS, label=f"{label}.kernel"),
            expand=ValueChoice(EXPANDS, label=f"{label}.expand"),
        )
        return Residual(block) if at else block

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, 10).

        Args:
            x: shape (batch, in_channels, height, width).
        """
        x = self.stem(self.resolution(x))
        for stage in self.stages.values():
            x = stage(x)
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


@dataclass(frozen=True)
class StudyInfo:
    """What results depend on; those of another are not gone on with.

    Attributes:
        data: name of the images.
        epochs: of supernets, and of networks that are trained alone.
        tuning_epochs: of inherited weights.
        trials: of a search.
    """

    data: str
    epochs: int
    tuning_epochs: int
    trials: int


class Study:
    """The space and the data, and everything that is done with them.

    Args:
        info: what results depend on.
        root: folder of Fashion-MNIST; None takes digits.
        out: folder of all results.
    """

    def __init__(self, info: StudyInfo, root: str | None, out: Path) -> None:
        self.info, self.out = info, out
        self.kept = Kept(out / "shrinking.json", asdict(info))
        self.options: dict[str, Any] = {}
        if root is not None:
            self.options = {"root": root, "train": 2000, "valid": 2000}
        module = DATA[info.data](**self.options)
        self.loaded = Loaded(module, torch.device("cpu"))
        assert module.input_shape is not None
        channels, side, _ = module.input_shape
        self.sizes = (side // 2, round(side * 5 / 7), side)
        self.space = ModelSpace(
            partial(ElasticNet, channels, self.sizes),
            input_shape=tuple(module.input_shape),
            name="elastic_net",
        )

    def macs(self, arch: Mapping[str, Any]) -> float:
        """Return millions of multiply-accumulates."""
        return raynas.cost(self.space, arch).macs / 1e6

    def random(self, count: int, seed: int, macs: float | None = None) -> list[Arch]:
        """Return that many different architectures, drawn uniformly.

        Args:
            count: how many.
            seed: of the draw.
            macs: millions that each has, but for a share of ``NEAR``; None takes any.
        """
        rng, drawn = np.random.default_rng([seed, 7]), dict[Arch, None]()
        while len(drawn) < count:
            arch = self.space.canonical(self.space.arch_space.sample(rng))
            if macs is None or abs(self.macs(arch) / macs - 1) <= NEAR:
                drawn[arch] = None
        return list(drawn)

    @cached_property
    def sized(self) -> dict[str, Arch]:
        """The smallest, the middle and the largest architecture."""
        options = {k: d.options for k, d in dimensions_of(self.space.supernet()).items()}

        def at(share: float) -> Arch:
            rank = {k: round(share * (len(v) - 1) + 0.1) for k, v in options.items()}
            return self.space.arch_space.decided(lambda d: options[d.label][rank[d.label]])

        return {"smallest": at(0), "middle": at(0.5), "largest": at(1)}

    def alone(self, arch: Arch, seed: int) -> dict[str, float]:
        """Return test accuracy after a training from fresh weights, and its CPU seconds."""

        def make() -> dict[str, float]:
            began = time.process_time()
            settings = TrainSettings(epochs=self.info.epochs, **RECIPE)
            training = NetworkTraining(
                self.space.build(arch, seed=seed), self.loaded, settings, seed=seed
            )
            while training.epoch < settings.epochs:
                training.run_epoch()
            scores = training.validate(split_of(self.loaded.load().test))
            return scores | {"cpu_s": time.process_time() - began}

        return self.kept.get(f"alone {arch.key} {seed}", make)  # type: ignore[no-any-return]

    def supernet(self, algo: str, seed: int) -> str:
        """Train a supernet, and return its folder."""

        def make() -> dict[str, Any]:
            began = time.process_time()
            by = ALGOS[algo]
            path = raynas.train_supernet(
                self.space,
                by.name,
                data=self.info.data,
                data_options=self.options,
                epochs=self.info.epochs * by.times,
                seed=seed,
                options=RECIPE | dict(by.options),
                out=self._fresh(f"{algo} {seed}"),
                ray=INLINE,
                progress=False,
            )
            return {"path": path, "cpu_s": time.process_time() - began}

        return str(self.kept.get(f"supernet {algo} {seed}", make)["path"])

    def inherited(self, algo: str, seed: int, archs: Sequence[Arch], split: str) -> list[float]:
        """Return accuracies with a supernet's weights, BatchNorm recalibrated.

        Args:
            algo: that trained the supernet.
            seed: of its training.
            archs: to score.
            split: ``valid`` or ``test``, of whose images all are scored.
        """

        def make() -> list[float]:
            checkpoint = find_checkpoint(Path(self.supernet(algo, seed)))
            splits = self.loaded.load()
            part = split_of(getattr(splits, split))
            model = load_supernet(self.space, checkpoint, seed)
            scorer = SubnetScorer(model, splits.train, part, seed=seed, validation_images=len(part))
            return [scorer.score(arch)["accuracy"] for arch in archs]

        key = f"inherited {algo} {seed} {split} {' '.join(arch.key for arch in archs)}"
        return self.kept.get(key, make)  # type: ignore[no-any-return]

    def search(self, algo: str, seed: int, limit: float | None) -> Result:
        """Return the search of a supernet.

        Args:
            algo: that trained it.
            seed: of the supernet and of the search.
            limit: share of the largest network's multiply-accumulates; None takes one trial, for
                trainings that go on from the supernet.
        """
        name = f"search {algo} {seed} {limit}"
        bound = None if limit is None else 1e6 * limit * self.macs(self.sized["largest"])

        def make() -> str:
            return raynas.search(
                self.space,
                "evolution" if limit else "random",
                supernet=self.supernet(algo, seed),
                data=self.info.data,
                data_options=self.options,
                constraints=None if bound is None else {"macs": (None, bound)},
                trials=self.info.trials if limit else 1,
                seed=seed,
                out=self._fresh(name),
                ray=INLINE,
                progress=False,
            ).path

        return Result(self.kept.get(name, make), space=self.space)

    def retrained(self, arch: Arch, seed: int, inherit: str | None) -> float:
        """Return test accuracy after ``raynas.retrain``, of the best epoch on validation images.

        Args:
            arch: the architecture.
            seed: of the training, and of the supernet whose weights it begins with.
            inherit: by which algorithm that was trained; None begins with fresh weights, and trains
                for all epochs in place of those of tuning.
        """

        def make() -> float:
            trained = raynas.retrain(
                self.search(inherit or SHRINKING, seed, None),
                arch=arch,
                inherit=inherit is not None,
                epochs=self.info.tuning_epochs if inherit else self.info.epochs,
                seed=seed,
                options=TUNING if inherit else RECIPE,
                out=self._fresh(f"retrained {arch.key} {seed}"),
                ray=INLINE,
                progress=False,
            )
            return trained.metrics["test_accuracy"]

        key = f"retrained {arch.key} {seed} {inherit or 'fresh'}"
        return float(self.kept.get(key, make))

    def _fresh(self, name: str) -> str:
        """Return a folder that nothing lies in, so that what was cut off begins anew."""
        self.out.mkdir(parents=True, exist_ok=True)
        return f"{tempfile.mkdtemp(prefix=f'{name} ', dir=self.out)}/run"


Row = Sequence[str]


def table(head: Row, rows: Sequence[Row]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def ranking(study: Study, algos: Sequence[str], archs: Sequence[Arch], seeds: int) -> str:
    """Return Kendall's tau of every algorithm, and what separate trainings give."""
    for seed in range(seeds):
        for arch in archs:
            study.alone(arch, seed)
        for algo in algos:
            study.inherited(algo, seed, archs, "valid")
    each = [[100 * study.alone(arch, s)["accuracy"] for s in range(seeds)] for arch in archs]
    trained = np.array(each)
    truth: NDArray[np.float64] = trained.mean(1)
    macs = np.array([study.macs(arch) for arch in archs])
    rows = [
        [
            f"training with seed {seed} against the others' mean",
            shown(kendall(trained[:, seed], np.delete(trained, seed, 1).mean(1))),
            "-",
            "-",
            f"{np.mean([study.alone(arch, seed)['cpu_s'] for arch in archs]):.0f} a network",
        ]
        for seed in range(seeds)
    ]
    for algo in algos:
        scores = 100 * np.array([study.inherited(algo, s, archs, "valid") for s in range(seeds)])
        taus = ", ".join(f"{kendall(one, truth).value:.2f}" for one in scores)
        seconds = [study.kept.results[f"supernet {algo} {s}"]["cpu_s"] for s in range(seeds)]
        tau, mean = shown(kendall(scores.mean(0), truth)), f"{scores.mean():.1f}"
        rows.append([f"`{algo}`", tau, taus, mean, f"{np.mean(seconds):.0f}"])
    rows.append(["multiply-accumulates", shown(kendall(macs, truth)), "-", "-", "0"])
    head = [
        "score",
        "tau of its mean over seeds (95 %)",
        "tau by seed",
        "mean accuracy, %",
        "CPU s",
    ]
    return (
        f"{len(archs)} random subnets of {macs.min():.2f} to {macs.max():.2f} million MACs, "
        f"{seeds} trainings alone each: mean {truth.mean():.2f} % (standard deviation over subnets "
        f"{truth.std(ddof=1):.2f}, from {truth.min():.2f} to {truth.max():.2f}; over seeds of one "
        f"{np.sqrt(trained.var(1, ddof=1).mean()):.2f}).\n\n{table(head, rows)}"
    )


def sizes(study: Study, algos: Sequence[str], seeds: int) -> str:
    """Return what becomes of the smallest, middle and largest subnets of algorithms."""
    archs = list(study.sized.values())
    rows = []
    for algo in algos:
        inherited = np.array([study.inherited(algo, s, archs, "test") for s in range(seeds)])
        for at, (name, arch) in enumerate(study.sized.items()):
            tuned, fresh = (
                np.array([100 * study.retrained(arch, seed, how) for seed in range(seeds)])
                for how in (algo, None)
            )
            gaps = ", ".join(f"{gap:+.1f}" for gap in tuned - fresh)
            parts = [spread(100 * inherited[:, at]), spread(tuned), spread(fresh), gaps]
            rows.append([f"`{algo}`", name, f"{study.macs(arch):.2f}", *parts])
    head = ["supernet", "subnet", "million MACs", "inherited"]
    tuning, epochs = study.info.tuning_epochs, study.info.epochs
    head += [f"trained on, {tuning} epochs", f"alone, {epochs} epochs", "difference by seed"]
    return table(head, rows)


def found(study: Study, seeds: int, count: int) -> str:
    """Return what is found within limits, and random networks of its multiply-accumulates.

    Args:
        study: that does it.
        seeds: of supernets, searches and trainings.
        count: random networks for each that is found.
    """
    rows = []
    for limit in LIMITS:
        best = [study.search(SHRINKING, seed, limit).best.arch for seed in range(seeds)]
        drawn = [study.random(count, seed, study.macs(arch)) for seed, arch in enumerate(best)]
        bound = limit * study.macs(study.sized["largest"])
        macs = ", ".join(f"{study.macs(arch):.2f}" for arch in best)
        for inherit in (None, SHRINKING):
            rows.append([f"{bound:.2f}", macs, *compared(study, best, drawn, inherit)])
    head = ["limit, million MACs", "found, by seed", "weights, epochs", "found", "random"]
    return table([*head, "difference (95 %)", "by seed", "random ones beaten"], rows)


def compared(
    study: Study, best: Sequence[Arch], drawn: Sequence[Sequence[Arch]], inherit: str | None
) -> list[str]:
    """Return what found and random networks of every seed reach, and by how much they differ."""

    def scores(archs: Sequence[Arch], seed: int) -> list[float]:
        return [100 * study.retrained(arch, seed, inherit) for arch in archs]

    ours = np.array([scores([arch], seed) for seed, arch in enumerate(best)])
    others = np.array([scores(archs, seed) for seed, archs in enumerate(drawn)])
    gaps = (ours - others).mean(1)
    return [
        f"inherited, {study.info.tuning_epochs}" if inherit else f"fresh, {study.info.epochs}",
        spread(ours),
        spread(others),
        shown(mean_difference(ours.ravel(), others.ravel()), "+"),
        ", ".join(f"{gap:+.1f}" for gap in gaps),
        f"{np.mean(others < ours):.0%}",
    ]


def spread(percent: NDArray[np.float64]) -> str:
    """Return mean and standard deviation."""
    return f"{percent.mean():.2f} ± {percent.std(ddof=1):.2f}"


def main() -> None:
    """Compute what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of Fashion-MNIST; digits without it")
    parser.add_argument("--out", type=Path, help="folder of all results; else a temporary one")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--algos", nargs="+", default=list(ALGOS), choices=list(ALGOS))
    parser.add_argument("--archs", type=int, default=16, help="random subnets that are ranked")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--random", type=int, default=3, help="networks against each found one")
    parser.add_argument("--epochs", type=int, default=16, help="of a training; 6 at least")
    parser.add_argument("--tuning-epochs", type=int, default=3)
    parser.add_argument("--trials", type=int, default=60, help="of a search")
    parser.add_argument("--quick", action="store_true", help="a minute: says nothing")
    given = parser.parse_args()
    if given.quick:
        given.archs, given.seeds, given.random = 2, 2, 1
        given.algos = [SHRINKING, "spos"]
        given.epochs, given.tuning_epochs, given.trials = 6, 1, 4
    if min(given.archs, given.seeds) < 2 or given.random < 1:
        parser.error("a spread needs at least two subnets and seeds, and a random one for each")
    torch.set_num_threads(1)
    info = StudyInfo(
        "digits" if given.data is None else "fashion_mnist",
        given.epochs,
        given.tuning_epochs,
        given.trials,
    )
    with tempfile.TemporaryDirectory() as temporary:
        study = Study(info, given.data, given.out or Path(temporary))
        archs = study.random(given.archs, 0)
        sized = [algo for algo in (SHRINKING, LONGER) if algo in given.algos]
        made: dict[str, Callable[[], str]] = {
            "ranking": lambda: ranking(study, given.algos, archs, given.seeds),
            "sizes": lambda: sizes(study, sized, given.seeds),
            "found": lambda: found(study, given.seeds, given.random),
        }
        for part in given.parts:
            print(f"\n{made[part]()}", flush=True)


if __name__ == "__main__":
    main()
