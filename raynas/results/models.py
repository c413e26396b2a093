"""The models of a finished run, made again from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raynas.core.arch import Arch, Value
from raynas.core.config import SearchConfig
from raynas.core.fixed import read_arch
from raynas.data.first_examples import first_inputs
from raynas.data.module import DataModule
from raynas.data.split import split_of
from raynas.evaluators.kept_weights import kept_weights
from raynas.nn.modelspace import ModelSpace
from raynas.nn.mutable import frozen
from raynas.nn.threads import torch_threads
from raynas.results.final_columns import final_weights_of
from raynas.setup.algorithms import trained_space
from raynas.setup.final_weights import FinalWeights
from raynas.setup.problem import Data
from raynas.setup.resolve import space_again
from raynas.setup.resolve_data import rebuild_data, resolve_data
from raynas.setup.resolve_task import with_task
from raynas.setup.same_plan import check_same_plan
from raynas.storage.tables import load_trials
from raynas.supernet.calibration import recalibrate
from raynas.supernet.checkpoint import find_checkpoint, load_supernet, load_weights
from raynas.supernet.memory_layout import lay_out
from raynas.supernet.scoring import SubnetScorer

CALIBRATION_IMAGES = 2000


@dataclass(frozen=True)
class RunModels:
    """A run's space, data and supernet.

    With a supernet, networks are those that were scored. Of an algorithm that trains another
    supernet than the space's (``pc_darts``) they are that one's, narrower than the architecture.

    Attributes:
        space: builds the architectures.
        data_at_hand: None if the data were a user's own and are not at hand.
        checkpoint: of the supernet; None if the run had none.
        seed: of the run.
        path: its folder.
        final: what its end has trained; None if it had none.
    """

    space: ModelSpace
    data_at_hand: Data | None
    checkpoint: Path | None
    seed: int
    path: str
    final: FinalWeights | None = None

    @property
    def data(self) -> DataModule:
        """The run's data; raises LookupError if they are not at hand."""
        if self.data_at_hand is None:
            raise LookupError("the run's data were a user's own; pass raynas.load(path, data=...)")
        return self.data_at_hand.module

    @property
    def narrow(self) -> bool:
        """Whether networks with the supernet's weights are narrower than the architectures."""
        if self.checkpoint is None:
            return False
        return self._supernets(self.checkpoint) is not self.space

    def is_trained(self, arch: Arch) -> bool:
        """Whether the network of ``model`` is one that the end of the run has trained."""
        return self.final is not None and self.final.has(arch)

    def supernet_weights(self) -> dict[str, Any]:
        """Return the supernet's ``state_dict``.

        Raises:
            LookupError: the run had no supernet.
        """
        if self.checkpoint is None:
            raise LookupError("this run had no supernet")
        return load_weights(self.checkpoint)

    def model(self, arch: Mapping[str, Value], *, whole: bool = False) -> nn.Module:
        """Return an architecture as a plain module in evaluation mode.

        Of what the run's end has trained, it has the weights that were kept. Else, with a supernet,
        it has its weights (see ``inherited``); otherwise the weights that the evaluator returned
        for it, if they were kept, else initial weights, by the run's seed.

        Args:
            arch: the architecture.
            whole: instead the space's own network, with initial weights by the run's seed.
        """
        if whole:
            return self.space.build(arch, seed=self.seed).eval()
        last = None if self.final is None else self.final.of(read_arch(self.space.arch_space, arch))
        if last is not None:
            seed, state = last
            net = self.space.build(arch, seed=seed)
            state.write(net)
            return net.eval()
        return self.inherited(arch)

    def inherited(self, arch: Mapping[str, Value]) -> nn.Module:
        """Return an architecture as the search has scored it, whatever its end has trained.

        With a supernet, it has its weights, and BatchNorm statistics of up to 2,000 training
        images under this architecture.
        """
        if self.checkpoint is None:
            net = self.space.build(arch, seed=self.seed).eval()
            weights = kept_weights(self.path, read_arch(self.space.arch_space, arch))
            if weights is not None:
                net.load_state_dict(weights)
            return net
        train = split_of(self.data.load().train)
        supernets = self._supernets(self.checkpoint)
        supernet = load_supernet(supernets, self.checkpoint, self.seed)
        with torch.random.fork_rng(devices=[]):  # some layers draw weights that are replaced
            net = frozen(supernet, read_arch(supernets.arch_space, arch), {})
        recalibrate(net, first_inputs(self.data, train, CALIBRATION_IMAGES))
        return net.eval()

    def _supernets(self, checkpoint: Path) -> ModelSpace:
        return trained_space(self.space, checkpoint)

    def rescore(self, archs: Sequence[Mapping[str, Value]]) -> list[dict[str, float]]:
        """Score architectures on all validation and test images, better calibrated than in search.

        Raises:
            LookupError: the run had no supernet.
        """
        if self.checkpoint is None:
            raise LookupError("this run had no supernet to score with")
        with torch_threads(1):  # several wait for each other on a machine that is busy
            return self._rescored(self.checkpoint, archs)

    def _rescored(
        self, checkpoint: Path, archs: Sequence[Mapping[str, Value]]
    ) -> list[dict[str, float]]:
        splits = self.data.load()
        supernet = load_supernet(self._supernets(checkpoint), checkpoint, self.seed)
        lay_out(supernet, channels_last=True)
        parts = {"valid": splits.valid} | ({"test": splits.test} if splits.test else {})
        rows: list[dict[str, float]] = [{} for _ in archs]
        for name, part in parts.items():
            scorer = SubnetScorer(
                supernet,
                splits.train,
                part,
                calibration_images=CALIBRATION_IMAGES,
                task=self.data.task,
                validation_images=len(split_of(part)),
                seed=self.seed,
            )
            for row, arch in zip(rows, archs, strict=True):
                row |= {f"{name}_{metric}": x for metric, x in scorer.score(arch).items()}
        return rows


def rebuild(
    config: SearchConfig, path: str, supernet: Path | None, space: Any, data: Any, task: Any
) -> RunModels:
    """Return the parts of a run.

    Args:
        config: of the run.
        path: its folder.
        supernet: where its supernet lies; None if it has none.
        space: the user's own, where the run's cannot be imported; else None.
        data: likewise.
        task: likewise.

    Raises:
        TypeError: the space is a plain ArchSpace, which builds no modules.
        LookupError: the space was a user's own and cannot be imported.
        StoreMismatch: a model is converted otherwise than when the run began.
    """
    own_data = rebuild_data(config.data) if data is None else resolve_data(data, {})
    if own_data is not None:
        own_data = with_task(own_data, config.task if task is None else task)
    searched = space_again(config.space, space, own_data)
    if searched.model_space is None:
        raise TypeError("this run searched a plain ArchSpace, which builds no modules")
    check_same_plan(searched, path, config.space_digest, config.versions, _archs(path))
    checkpoint = None if supernet is None else find_checkpoint(supernet)
    seeded = searched.model_space.seeded(config.seed)
    final = final_weights_of(path, config)
    return RunModels(seeded, own_data, checkpoint, config.seed, path, final)


def _archs(path: str) -> Iterator[Arch]:
    yield from (trial.arch for trial in load_trials(path))
