"""What a found network is worth once it is trained to the end, from fresh weights.

* Diabetes: a searched and retrained perceptron against ridge regression, whose alpha is chosen on
  the same validation rows; R2 on test rows that neither has seen, over several splits.
* Digits: a found MobileNetV2, test accuracy over several seeds.
* Fashion-MNIST (``--data``, torchvision's layout): a network found under a bound on
  multiply-accumulates, random ones within it, and the largest of the space, retrained alike.

Long: rows are printed as they come, a Markdown table at the end. Test examples decide nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from torch.utils.data import TensorDataset

import raynas
from raynas.core.arch import Arch
from raynas.results.result import Result
from raynas.results.trained import Trained

INLINE = {"inline": True}
PARTS = ("diabetes", "digits", "fashion")
ROWS = (242, 100)  # of diabetes' 442, to train and to validate; the other 100 are for the test
ALPHAS = tuple(10.0 ** np.arange(-2, 3.01, 0.25))
PERCEPTRONS = {
    "widths": (64, 128, 256),
    "max_depth": 1,
    "activations": ("gelu", "silu"),
    "dropouts": (0.3, 0.5),
}
# mixing pairs nearly in halves is what keeps so many weights from fitting 242 rows by heart
TABLE_RECIPE = {
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.1,
    "batch_size": 32,
    "ema": 0.98,
    "mixup": 16.0,
}
TABLE_EPOCHS, TABLE_TRIALS = 40, 8
IMAGE_RECIPE = {"batch_size": 64, "ema": 0.99}
Rows = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Row:
    """One line of the table: a network and what its trainings gave.

    Attributes:
        data: what it was trained and tested on.
        network: what was trained.
        macs: millions of multiply-accumulates, or nothing where it is no network.
        scores: on test examples, R2 or the accuracy in per cent, one per training.
    """

    data: str
    network: str
    macs: float | None
    scores: Sequence[float]

    def line(self, digits: int) -> str:
        """Return it in Markdown, scores with that many digits behind the point."""
        mean, spread = statistics.mean(self.scores), statistics.stdev(self.scores)
        each = ", ".join(f"{score:.{digits}f}" for score in self.scores)
        macs = "-" if self.macs is None else f"{self.macs:.3f}"
        return (
            f"| {self.data} | {self.network} | {macs} | {mean:.{digits}f} ± {spread:.{digits}f} "
            f"| {each} |"
        )


def split_rows(seed: int) -> list[Rows]:
    """Return diabetes' rows to train, to validate and to test, standardised by the first."""
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    train, valid, test = np.split(order, np.cumsum(ROWS))
    x = (x - x[train].mean(0)) / x[train].std(0)
    y = (y - y[train].mean()) / y[train].std()
    return [(x[part], y[part]) for part in (train, valid, test)]


def ridge(parts: Sequence[Rows]) -> tuple[float, float]:
    """Return R2 of ridge regression on validation and test rows, alpha by the former."""
    train, (x, y), (x_test, y_test) = parts
    models = [Ridge(alpha=alpha).fit(*train) for alpha in ALPHAS]
    best = max(models, key=lambda model: r2_score(y, model.predict(x)))
    return r2_score(y, best.predict(x)), r2_score(y_test, best.predict(x_test))


def perceptron(parts: Sequence[Rows], seed: int, out: Path) -> tuple[Trained, float]:
    """Return the perceptron that a search proposes, retrained, and its millions of MACs.

    The search compares validation rows after the last epoch of each training; the retraining keeps
    the best epoch by the same rows.
    """
    data = tuple(TensorDataset(*(torch.tensor(a, dtype=torch.float32) for a in p)) for p in parts)
    result = raynas.search(
        "mlp",
        data=data,
        task="regression",
        evaluator=("standalone", TABLE_RECIPE | {"early_stopping": False}),
        epochs=TABLE_EPOCHS,
        trials=TABLE_TRIALS,
        seed=seed,
        out=f"{out}/diabetes-{seed}",
        ray=INLINE,
        space_options=PERCEPTRONS,
        progress=False,
    )
    trained = raynas.retrain(
        result, epochs=TABLE_EPOCHS, options=TABLE_RECIPE, ray=INLINE, progress=False
    )
    return trained, result.best.metrics["macs"] / 1e6


def diabetes(splits: int, out: Path) -> list[Row]:
    """Return perceptron and ridge regression, one score per split."""
    deep, linear, sizes = [], [], []
    for seed in range(splits):
        parts = split_rows(seed)
        (ridge_valid, ridge_test), began = ridge(parts), time.process_time()
        trained, macs = perceptron(parts, seed, out)
        found = trained.metrics
        print(
            f"diabetes, split {seed}: test R2 {found['test_r2']:.3f} (validation "
            f"{found['valid_r2']:.3f}, epoch {trained.best_epoch}), ridge {ridge_test:.3f} "
            f"({ridge_valid:.3f}), {time.process_time() - began:.0f} CPU s, {dict(trained.arch)}",
            flush=True,
        )
        deep.append(found["test_r2"])
        linear.append(ridge_test)
        sizes.append(macs)
    name = "diabetes, R2"
    paired = [a - b for a, b in zip(deep, linear, strict=True)]
    return [
        Row(name, "found perceptron", statistics.mean(sizes), deep),
        Row(name, "ridge regression", None, linear),
        Row(name, "difference, split by split", None, paired),
    ]


def accuracies(
    name: str, what: Result | Arch, seeds: int, epochs: int, out: Path, **given: Any
) -> list[float]:
    """Return test accuracies in per cent of a network trained from scratch, one per seed."""
    scores = []
    for seed in range(seeds):
        began = time.process_time()
        trained = raynas.retrain(
            what,
            seed=seed,
            epochs=epochs,
            out=f"{out}/{name} {seed}",
            options=IMAGE_RECIPE,
            ray=INLINE,
            progress=False,
            **given,
        )
        found = trained.metrics
        print(
            f"{name}, seed {seed}: test accuracy {100 * found['test_accuracy']:.2f} % (validation "
            f"{100 * found['valid_accuracy']:.2f}, epoch {trained.best_epoch}), "
            f"{time.process_time() - began:.0f} CPU s",
            flush=True,
        )
        scores.append(100 * found["test_accuracy"])
    return scores


def digits(seeds: int, epochs: int, out: Path) -> list[Row]:
    """Return a found MobileNetV2 at a quarter of its channels."""
    began = time.process_time()
    result = raynas.search(
        "mobilenet_v2_cifar",
        data="digits",
        space_options={"width": 0.25},
        epochs=10,
        trials=60,
        out=f"{out}/digits",
        ray=INLINE,
        progress=False,
    )
    print(f"digits: searched in {time.process_time() - began:.0f} CPU s", flush=True)
    scores = accuracies("retrained digits", result, seeds, epochs, out)
    macs = result.best.metrics["macs"] / 1e6
    return [Row("digits, %", "found, `mobilenet_v2_cifar`, width 0.25", macs, scores)]


class Fashion:
    """The space, the data and the bound that all networks on Fashion-MNIST share.

    Args:
        root: folder of the files, in torchvision's layout.
        out: folder of the runs.
    """

    def __init__(self, root: str, out: Path) -> None:
        self.out, self.given = (
            out,
            {
                "space": "nas_bench_macro",
                "data": "fashion_mnist",
                "space_options": {"width": 0.125},
                "data_options": {"root": root, "train": 2000, "valid": 1000},
            },
        )
        self.space = raynas.space("nas_bench_macro", width=0.125, in_channels=1, resolution=28)
        self.largest = Arch(dict.fromkeys(self.space.arch_space.labels, "MB5E6"))
        self.bound = self.macs(self.largest) / 2

    def macs(self, arch: Mapping[str, Any]) -> float:
        """Return millions of multiply-accumulates."""
        return raynas.cost(self.space, arch).macs / 1e6

    def found(self, epochs: int) -> Arch:
        """Return the best of 60 architectures within the bound, by a supernet of so many epochs."""
        began = time.process_time()
        result = raynas.search(
            constraints={"macs": (None, self.bound * 1e6)},
            epochs=epochs,
            trials=60,
            out=f"{self.out}/fashion-{epochs}",
            ray=INLINE,
            progress=False,
            **self.given,  # type: ignore[arg-type]
        )
        seconds = time.process_time() - began
        print(f"Fashion-MNIST, supernet of {epochs} epochs: {seconds:.0f} CPU s", flush=True)
        return result.best.arch

    def random(self, count: int) -> list[Arch]:
        """Return that many different architectures within the bound, drawn uniformly."""
        rng, drawn = np.random.default_rng(0), dict[Arch, None]()
        while len(drawn) < count:
            arch = self.space.canonical(self.space.arch_space.sample(rng))
            if self.macs(arch) <= self.bound:
                drawn[arch] = None
        return list(drawn)

    def row(self, name: str, arch: Arch, seeds: int, epochs: int) -> Row:
        """Return a network's test accuracies after trainings from scratch."""
        what = f"Fashion-MNIST, {name}"
        scores = accuracies(what, arch, seeds, epochs, self.out, **self.given)
        return Row("Fashion-MNIST, %", name, self.macs(arch), scores)


def fashion(
    root: str, seeds: int, epochs: int, supernet_epochs: Sequence[int], out: Path
) -> list[Row]:
    """Return networks found within half the MACs of the largest, random ones, and the largest."""
    study = Fashion(root, out)
    networks = [(f"found, supernet of {n} epochs", study.found(n)) for n in supernet_epochs]
    networks += [(f"random {i + 1}", arch) for i, arch in enumerate(study.random(2))]
    networks.append(("largest", study.largest))
    return [study.row(name, arch, seeds, epochs) for name, arch in networks]


def main() -> None:
    """Search, retrain and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of Fashion-MNIST; left out without it")
    parser.add_argument("--out", type=Path, help="folder of the runs; a temporary one without it")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--splits", type=int, default=5, help="of diabetes")
    parser.add_argument("--seeds", type=int, default=3, help="of the digits")
    parser.add_argument("--fashion-seeds", type=int, default=3)
    parser.add_argument("--digits-epochs", type=int, default=40)
    parser.add_argument("--fashion-epochs", type=int, default=12)
    parser.add_argument("--supernet-epochs", type=int, nargs="+", default=[10, 40])
    given = parser.parse_args()
    if min(given.splits, given.seeds, given.fashion_seeds) < 2:
        parser.error("a standard deviation needs at least two trainings")
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        out = given.out or Path(temporary)
        if "diabetes" in given.parts:
            rows += diabetes(given.splits, out)
        if "digits" in given.parts:
            rows += digits(given.seeds, given.digits_epochs, out)
        if "fashion" in given.parts and given.data is not None:
            rows += fashion(
                given.data, given.fashion_seeds, given.fashion_epochs, given.supernet_epochs, out
            )
    print("\n| data, score on test examples | network | million MACs | mean ± s.d. | each |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(row.line(3 if "R2" in row.data else 2))


if __name__ == "__main__":
    main()
