"""Scoring with a supernet's weights (Guo et al., 2020, arXiv:1904.00420)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch
from raynas.core.blocks import largest
from raynas.core.evaluator import EVALUATORS, Budget, Evaluator, Measurement, measure, numbers
from raynas.core.metrics import DIVERGENCE, INFLUENCE
from raynas.core.options import options_of
from raynas.evaluators.spec import Worker

if TYPE_CHECKING:
    from raynas.data.module import DataModule
    from raynas.nn.modelspace import ModelSpace
    from raynas.supernet.checkpoint import SharedWeights


@EVALUATORS.register("shared")
class Shared:
    """Inherits the weights of a supernet, recalibrates BatchNorm, and validates.

    The supernet is trained first unless a trained one is given (``supernet=``). Metrics: those of
    the task (of a classification ``accuracy`` and ``loss``), ``params``, ``macs``,
    ``activation_bytes``; and ``latency_ms`` where it is asked for.

    Args:
        calibration_images: of the training split, at most, that BatchNorm is recalibrated with.
        validation_images: of the validation split, at most, that are scored.
        hold_mb: of images that a worker holds in memory to calibrate, and to validate, where data
            are streamed; what is more lies in a temporary file. They are read once in any case.
        cache_mb: of activations that a worker keeps, so that architectures that begin alike share
            them; 0 keeps none. Scores are the same bit for bit.
        divergence: whether ``divergence`` is measured too: of an architecture's outputs from those
            of the whole supernet, whose decisions are the largest numbers and first options. Of
            logits of classes it is Kullback and Leibler's, else the mean squared difference. A
            worker holds the whole's outputs for all validation images.
        influence: whether ``influence`` is measured too, of a converted model: how much the layers
            that are left out change what goes through them, in the whole (one less the cosine
            similarity of input and output), added up.

    Raises:
        ValueError: no images, or a negative cache.
    """

    deterministic = True  # the seed of the run says which images, whatever is asked

    def __init__(
        self,
        *,
        calibration_images: int = 512,
        validation_images: int = 2000,
        hold_mb: int = 1024,
        cache_mb: int = 128,
        divergence: bool = False,
        influence: bool = False,
    ) -> None:
        for name, value in (
            ("calibration_images", calibration_images),
            ("validation_images", validation_images),
            ("hold_mb", hold_mb),
        ):
            if type(value) is not int or value < 1:
                raise ValueError(
                    f"shared: {name} must be a whole number of at least 1, got {value!r}"
                )
        if type(cache_mb) is not int or cache_mb < 0:
            raise ValueError(
                f"shared: cache_mb must be a whole number of at least 0, got {cache_mb!r}"
            )
        self.calibration_images = calibration_images
        self.validation_images = validation_images
        self.hold_mb, self.cache_mb = hold_mb, cache_mb
        self.divergence, self.influence = divergence, influence

    @property
    def beside(self) -> tuple[str, ...]:
        """Metrics that compare with the whole supernet."""
        wanted = ((DIVERGENCE, self.divergence), (INFLUENCE, self.influence))
        return tuple(name for name, asked in wanted if asked)

    @property
    def chosen(self) -> dict[str, Any]:
        """The options that are not as by default."""
        known = options_of(type(self)).items()
        return {name: getattr(self, name) for name, o in known if getattr(self, name) != o.default}

    @property
    def settings(self) -> dict[str, int]:
        """What a scorer is made with."""
        return {
            "calibration_images": self.calibration_images,
            "validation_images": self.validation_images,
            "cache_bytes": self.cache_mb * 2**20,
            "hold_bytes": self.hold_mb * 2**20,
        }


@dataclass(frozen=True, kw_only=True)
class MakeSharedEvaluator:
    """Makes the evaluator whose weights all workers of a node share (``Worker.weights``).

    Attributes:
        supernet_space: builds the supernet.
        model_space: builds the networks whose costs count; mostly the same.
        data: to calibrate and score with.
        seed: of which images calibrate and validate.
        settings: options of the ``SubnetScorer``.
        beside: metrics that compare with the whole supernet.
    """

    supernet_space: ModelSpace
    model_space: ModelSpace
    data: DataModule
    seed: int
    settings: Mapping[str, int] = field(default_factory=dict)
    beside: tuple[str, ...] = ()

    def __call__(self, worker: Worker) -> Evaluator:
        """Return the evaluator."""
        import torch

        torch.set_num_threads(worker.threads)
        return SharedEvaluator(
            self.supernet_space,
            self.data,
            worker.weights,
            self.seed,
            model_space=self.model_space,
            gpu=worker.gpu,
            settings=self.settings,
            beside=self.beside,
        )


class SharedEvaluator(Evaluator):
    """Scores sub-networks of one supernet whose weights are shared memory.

    Args:
        supernet_space: builds the supernet.
        data: to calibrate and score with.
        weights: the supernet's; they are only read.
        seed: which images.
        model_space: builds the networks whose costs count; None if the supernet's space does.
        gpu: whether to work on one.
        settings: options of the ``SubnetScorer``.
        beside: metrics that compare with the whole supernet.
    """

    def __init__(
        self,
        supernet_space: ModelSpace,
        data: DataModule,
        weights: SharedWeights,
        seed: int,
        *,
        model_space: ModelSpace | None = None,
        gpu: bool = False,
        settings: Mapping[str, int] | None = None,
        beside: tuple[str, ...] = (),
    ) -> None:
        import torch

        from raynas.costs.cost_table import CostTable
        from raynas.data.first_examples import first_inputs
        from raynas.data.split import split_of
        from raynas.supernet.attributes import attributes_kept, write_attributes
        from raynas.supernet.checkpoint import share_weights
        from raynas.supernet.scoring import SubnetScorer

        device = torch.device("cuda" if gpu else "cpu")
        supernet = supernet_space.skeleton(weights.seed)
        share_weights(supernet, weights)
        splits = data.load().to(device)
        train = split_of(splits.train)
        supernet = supernet.to(device)
        write_attributes(supernet, weights.attributes)
        whole = largest(supernet_space.arch_space) if beside else None
        self._scorer = SubnetScorer(
            supernet,
            train,
            splits.valid,
            task=data.task,
            seed=seed,
            channels_last=weights.channels_last,
            whole=whole if DIVERGENCE in beside else None,
            **(settings or {}),
        )
        self._influences = (
            self._scorer.influences(whole) if whole is not None and INFLUENCE in beside else None
        )
        other = model_space is not None and model_space is not supernet_space
        costed = model_space.supernet().to(device) if model_space and other else supernet
        with attributes_kept(costed):
            self._costs = CostTable(costed, first_inputs(data, train, 1, device))

    def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
        """Return the task's metrics, and the costs, of every architecture."""
        return [measure(partial(self._measure, arch)) for arch in archs]

    def _measure(self, arch: Arch) -> dict[str, float]:
        scores = numbers(self._scorer.score(arch))  # where the loss is nan, others mean nothing
        if self._influences is not None:
            left_out = (own for label, own in self._influences.items() if arch.get(label) == 0)
            scores[INFLUENCE] = sum(left_out, 0.0)
        return scores | self._costs.cost(arch).as_metrics()
