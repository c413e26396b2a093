"""ProgressiveShrinkingEstim: its stages and its teacher, as options of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raynas.setup.vega.recipe import check_args
from raynas.setup.vega.schema import Estimator
from raynas.setup.vega.space import Space

ARGS = ("stages", "n_subnet_batch", "use_ratio")
STAGE_KEYS = ("sequential", "spatial", "epochs")
DISTILLATION = "KnowledgeDistillLoss"
DISTILLATION_ARGS = ("kd_model_constructor", "kd_model", "crit_conf", "kd_ratio", "loss_scale")
DEFAULT_RATIO = 0.5  # of the teacher's part in the loss
PLAIN_LOSSES = ("CrossEntropyLoss", "CrossEntropySoftTargetLoss")
Stages = list[dict[str, Any]]


@dataclass(frozen=True)
class Shrinking:
    """The estimator.

    Attributes:
        estimator: of the file.
        where: it stands, by key path.
        space: that shrinks; it comes to hold what stages train.
        notes: to which it adds.
    """

    estimator: Estimator
    where: str
    space: Space
    notes: list[str]

    def options(self, before: Stages) -> dict[str, Any]:
        """Return the options of ``progressive_shrinking``.

        Args:
            before: stages of the estimators before it.

        Raises:
            ValueError: an argument is not understood, or the space has nothing that shrinks.
        """
        check_args(self.estimator.args, ARGS, f"{self.where}.args")
        if not self.space.elastic:
            raise ValueError(
                f"{self.where}: needs an elastic space (MobileNetV2ElasticConstructor)"
            )
        by_ratio = bool(self.estimator.args.get("use_ratio", False))
        stages = self._stages()
        if by_ratio:
            self._widen([stage.get("spatial") for stage in stages])
        whole = {"use_ratio": by_ratio, "stages": [*before, *stages]}
        return whole | self._distillation()

    def _stages(self) -> Stages:
        given = self.estimator.args.get("stages")
        where = f"{self.where}.args.stages"
        if not isinstance(given, list) or not all(isinstance(stage, Mapping) for stage in given):
            raise ValueError(f"{where}: expected a list of stages, got {given!r}")
        subnets = self.estimator.args.get("n_subnet_batch", 1)
        for number, stage in enumerate(given):
            check_args(stage, STAGE_KEYS, f"{where}.{number}")
        epochs = self.estimator.epochs
        return [{"epochs": epochs, **stage, "subnets": subnets} for stage in given]

    def _widen(self, lists: list[Any]) -> None:
        """Have the space hold what stages train, though there the search does not take it."""
        expands = self.space.options["expands"]
        known = [listed for listed in lists if isinstance(listed, list)]
        ratios = [r for listed in known for r in listed if isinstance(r, int | float)]
        more = sorted({*expands, *(max(1, int(max(expands) * r)) for r in ratios if 0 < r <= 1)})
        if added := [expand for expand in more if expand not in expands]:
            self.notes.append(
                f"differs: {self.where}.args.stages: the search takes expansions of {added} too, "
                "which are trained: there they are not searched"
            )
        self.space.options["expands"] = more

    def _distillation(self) -> dict[str, Any]:
        """Return the weight of the teacher's part in the loss, over that of the labels'."""
        where, losses = f"{self.where}.criterion", self.estimator.criterion
        for loss in losses:
            if loss.type not in (DISTILLATION, *PLAIN_LOSSES):
                known = " or ".join((DISTILLATION, *PLAIN_LOSSES))
                raise ValueError(f"{where}: expected {known}, got {loss.type!r}")
        distills = [loss for loss in losses if loss.type == DISTILLATION]
        if not distills:
            return {"distill": 0.0}
        check_args(distills[0].args, DISTILLATION_ARGS, f"{where}.args")
        ratio = distills[0].args.get("kd_ratio", DEFAULT_RATIO)
        if not isinstance(ratio, int | float) or not 0 <= ratio < 1:
            raise ValueError(f"{where}.args.kd_ratio: expected 0 to below 1, got {ratio!r}")
        self.notes.append(
            f"differs: {where}: the teacher is the whole network, as the stage before widths and "
            "depths shrink leaves it"
        )
        return {} if ratio == DEFAULT_RATIO else {"distill": ratio / (1 - ratio)}
