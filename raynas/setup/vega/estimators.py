"""A chain of estimators, as the steps of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from raynas.setup.vega.names import looked_up
from raynas.setup.vega.optim import Algorithm, without_repetition
from raynas.setup.vega.recipe import Recipe, check_args
from raynas.setup.vega.schema import Estimator
from raynas.setup.vega.shrinking import PLAIN_LOSSES, Shrinking
from raynas.setup.vega.space import Space

KINDS = {
    "DefaultEstim": "train",
    "DefaultEstimator": "train",
    "SuperNetEstim": "supernet",
    "SuperNetEstimator": "supernet",
    "RandomSamplingEstim": "paths",
    "RandomSamplingEstimator": "paths",
    "ProgressiveShrinkingEstim": "shrinking",
    "ProgressiveShrinkingEstimator": "shrinking",
    "progressive_shrinking": "shrinking",
    "SubNetEstim": "subnets",
    "SubNetEstimator": "subnets",
}
SUBNET_ARGS = ("subnet_epochs",)
UPDATES = {"proxyless": ("alpha_every", "alpha_steps"), "proxyless_rl": ("alpha_every",)}
Steps = list[dict[str, Any]]


@dataclass(frozen=True)
class Search:
    """What a search is made of.

    Attributes:
        space: that is searched.
        algorithm: that searches it.
        estimators: by name, in order.
        where: they stand, by key path.
        constraints: bounds on models.
        recipe: how weights are trained.
        own_course: the same, where the algorithm has a course of the learning rate of its own.
        notes: to which it adds.
    """

    space: Space
    algorithm: Algorithm
    estimators: Mapping[str, Estimator]
    where: str
    constraints: list[str]
    recipe: Recipe
    own_course: Recipe
    notes: list[str]

    def steps(self) -> Steps:
        """Return the steps.

        Raises:
            LookupError: an estimator is not known.
            ValueError: they do not follow each other in a way that is understood here.
        """
        kinds = self._kinds
        if not kinds:
            raise ValueError(f"{self.where}: name at least one estimator")
        listed = [*kinds.values()]
        if self.algorithm.by_gradients:
            return self._by_gradients(listed)
        *before, last = listed
        if last == "supernet" and set(before) <= {"train"}:
            return self._paths(listed)
        if last != "subnets":
            raise ValueError(
                f"{self.where}: {self.algorithm.algo} needs a SubNetEstim at the end, "
                f"got {self._shown()}"
            )
        if before and set(before) <= {"train", "paths"} and "paths" in before:
            return self._paths(before)
        if before in (["train", "shrinking"], ["shrinking"]):
            return self._shrinking()
        if not before:
            return self._alone()
        raise ValueError(
            f"{self.where}: expected a SubNetEstim alone, or behind RandomSamplingEstim, "
            f"ProgressiveShrinkingEstim, or DefaultEstim and ProgressiveShrinkingEstim, got "
            f"{self._shown()}"
        )

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {
            name: looked_up(KINDS, e.type, "estimator", f"{self.where}.{name}.type")
            for name, e in self.estimators.items()
        }

    def _shown(self) -> str:
        return ", ".join(f"{name} ({e.type})" for name, e in self.estimators.items())

    def _by_gradients(self, listed: list[str]) -> Steps:
        if listed not in (["supernet"], ["train", "supernet"]):
            raise ValueError(
                f"{self.where}: {self.algorithm.algo} learns by a SuperNetEstim, a DefaultEstim "
                f"before it at most, got {self._shown()}"
            )
        *warmup, estimator = self.estimators.values()
        self._plain()
        own, twice = without_repetition(self.algorithm, self.own_course.options)
        self.notes.extend(f"ignored: {key}: the trainer's optimizer says it" for key in twice)
        self.notes.extend(self.own_course.notes)
        options = self.own_course.options | own | self._updates(estimator)
        if warmup:
            options["warmup_epochs"] = warmup[0].epochs
        epochs = estimator.epochs + sum(e.epochs for e in warmup)
        return [{"search": self._search(options=options, epochs=epochs)}]

    def _updates(self, estimator: Estimator) -> dict[str, Any]:
        """Return how often architectures' parameters learn, where the algorithm can be told."""
        every, times = estimator.arch_update_intv, estimator.arch_update_batch
        told = {} if times == 1 else {"alpha_steps": times}
        told |= {} if every == -1 else {"alpha_every": every}
        known = UPDATES.get(self.algorithm.name, ())
        for key, value in told.items():
            if key not in known or value < 1:
                raise ValueError(
                    f"{self.where}: arch_update_intv {every} and arch_update_batch {times} cannot "
                    f"be told to {self.algorithm.algo}; leave them out"
                )
        return told

    def _paths(self, before: list[str]) -> Steps:
        """Train single paths, then let the sampler search."""
        self._plain()
        trained = [*self.estimators.values()][: len(before)]
        if "supernet" in before:
            self.notes.append(
                f"differs: {self.where}: uniform paths are trained (spos), then "
                f"{self.algorithm.algo} searches the supernet; there paths do not follow what it "
                "proposes"
            )
        options = dict(self.recipe.options) | {"warm_start_steps": 0}
        self.notes.extend(self.recipe.notes)
        epochs = sum(estimator.epochs for estimator in trained)
        supernet = {"algo": "spos", "epochs": epochs, "options": options}
        return [{"supernet": supernet}, {"search": self._sampled()}]

    def _shrinking(self) -> Steps:
        by_kind = {self._kinds[name]: (name, e) for name, e in self.estimators.items()}
        name, estimator = by_kind["shrinking"]
        teacher = by_kind.get("train")
        if teacher is not None:
            self._no_criterion(*teacher)
        stages = [] if teacher is None else [{"epochs": teacher[1].epochs}]
        shrinking = Shrinking(estimator, f"{self.where}.{name}", self.space, self.notes)
        options = self.own_course.options | shrinking.options(stages)
        self.notes.extend(self.own_course.notes)
        supernet = {"algo": "progressive_shrinking", "options": options}
        return [{"supernet": supernet}, {"search": self._sampled()}]

    def _alone(self) -> Steps:
        """Train every architecture by itself."""
        ((name, estimator),) = self.estimators.items()
        self._plain()
        epochs = self._subnet_epochs(estimator)
        if not epochs:
            raise ValueError(
                f"{self.where}.{name}.subnet_epochs: nothing trains the architectures: say for how "
                "many epochs, or put an estimator before it that trains their supernet"
            )
        search = self._sampled()
        search |= {"evaluator": "standalone", "epochs": epochs}
        self.notes.extend(self.recipe.notes)
        return [{"search": search | {"evaluator_options": dict(self.recipe.options)}}]

    def _sampled(self) -> dict[str, Any]:
        name, estimator = [*self.estimators.items()][-1]
        search = self._search(options=self.algorithm.options)
        if self._kinds[name] != "subnets":
            return search
        check_args(estimator.args, SUBNET_ARGS, f"{self.where}.{name}.args")
        trials = estimator.epochs * estimator.arch_update_batch
        self.notes.append(
            f"differs: {self.where}.{name}: its {estimator.epochs} epochs evaluate {trials} "
            f"architectures there: trials: {trials}"
        )
        if len(self.estimators) > 1 and self._subnet_epochs(estimator):
            raise ValueError(
                f"{self.where}.{name}.subnet_epochs: architectures of a supernet are not trained "
                "further; write 0"
            )
        return search | {"trials": trials}

    def _subnet_epochs(self, estimator: Estimator) -> int:
        own = estimator.subnet_epochs
        return int(own if own is not None else estimator.args.get("subnet_epochs", 0))

    def _search(self, *, options: Mapping[str, Any], epochs: int | None = None) -> dict[str, Any]:
        search: dict[str, Any] = {"algo": self.algorithm.algo}
        search |= {} if epochs is None else {"epochs": epochs}
        search |= {"options": dict(options)} if options else {}
        return search | ({"constraints": self.constraints} if self.constraints else {})

    def _plain(self) -> None:
        """Refuse arguments and losses of estimators that have none here."""
        for name, estimator in self.estimators.items():
            known = SUBNET_ARGS if self._kinds[name] == "subnets" else ()
            check_args(estimator.args, known, f"{self.where}.{name}.args")
            self._no_criterion(name, estimator)

    def _no_criterion(self, name: str, estimator: Estimator) -> None:
        for loss in estimator.criterion:
            if loss.type not in PLAIN_LOSSES:
                raise ValueError(
                    f"{self.where}.{name}.criterion: expected {' or '.join(PLAIN_LOSSES)}, got "
                    f"{loss.type!r}"
                )
