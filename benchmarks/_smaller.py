"""One seed of a subject: its model, its smaller networks, and what they are worth."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from _results import Kept
from _subjects import Subject
from torch import nn

import raynas
from raynas.core.arch import Arch
from raynas.core.train_settings import TrainSettings
from raynas.data.split import split_of
from raynas.evaluators.loaded import Loaded
from raynas.nn.dimensions import dimensions_of
from raynas.nn.modelspace import ModelSpace
from raynas.supernet.network_training import NetworkTraining

SHARE = 0.5  # of the model's multiply-accumulates
RATIOS = tuple(n / 8 for n in range(2, 9))  # of channels, heads and layers that a search may keep
UNIFORM = tuple(n / 48 for n in range(16, 49))  # of which the largest within the bound is taken
INLINE = {"inline": True}
WHOLE = "the whole model"
FIRST = "uniform widths, the first channels"
L1 = "uniform widths, the largest channels by L1"
INNER = "uniform heads and MLPs by L1, the width whole"
FOUND = "found, the supernet's weights"
FOUND_PLAIN = "found, the model's weights"
LONGER = "uniform widths by L1, trained on as long as the supernet and the found one"
ROWS = (WHOLE, FIRST, L1, FOUND_PLAIN, FOUND, INNER, LONGER)


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
            self.train(net, self.lengths.epochs, {})
            torch.save(net.state_dict(), file)
        net.load_state_dict(torch.load(file))
        return net.eval()

    def train(self, net: nn.Module, epochs: int, more: Mapping[str, Any]) -> dict[str, float]:
        """Train a network by the subject's recipe, and return its test scores and CPU seconds.

        Args:
            net: that is trained.
            epochs: that it is trained for.
            more: of the recipe, in place of the subject's.
        """
        began = time.process_time()
        settings = TrainSettings(epochs=epochs, **{**self.subject.recipe, **more})
        training = NetworkTraining(net, self.loaded, settings, seed=self.seed)
        while training.epoch < epochs:
            training.run_epoch()
        test = split_of(self.loaded.load().test)
        return training.validate(test) | {"cpu_s": time.process_time() - began}

    @property
    def rows(self) -> list[str]:
        """The networks that are compared."""
        return [row for row in ROWS if row != INNER or "heads" in self.subject.asked]

    def elastic(
        self,
        ratios: tuple[float, ...],
        order: str | None,
        *,
        depth: bool = False,
        skip: tuple[str, ...] = (),
    ) -> ModelSpace:
        """Return the model's smaller networks.

        Args:
            ratios: that may stay of what is asked for.
            order: of units, as of ``raynas.elastic``.
            depth: whether layers may be left out.
            skip: what of it stays whole.
        """
        inputs = self.loaded.load().train[0][:2]
        shares: dict[str, Any] = {k: ratios for k in self.subject.asked if k not in skip}
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

    def uniform(self, row: str) -> tuple[ModelSpace, Arch]:
        """Return the network of one share of all sizes that is the largest within the bound."""
        skip = ("width",) if row == INNER else ()
        space = self.elastic(UNIFORM, None if row == FIRST else "l1", skip=skip)
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
            scores = self.train(net, epochs, self.subject.tuning)
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
        if row in (FIRST, L1, INNER, LONGER):
            space, arch = self.uniform(row)
            return space.build(arch), self.macs(space, arch)
        arch = self.result.best.arch
        net = self.result.model() if row == FOUND else self.searched.build(arch)
        return net, self.macs(self.searched, arch)

    @property
    def _whole(self) -> Arch:
        sizes = dimensions_of(self.searched.supernet())
        return self.searched.arch_space.decided(lambda d: sizes[d.label].largest)
