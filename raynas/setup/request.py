"""What a user asks a search for, completed by defaults or by the run to go on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, RayConfig, SearchConfig
from raynas.core.constraints import Constraints, as_constraints
from raynas.core.metrics import COSTS, KV_CACHE, LATENCY
from raynas.nn.modelspace import ModelSpace
from raynas.setup.algorithms import name_of, own_words, spelled_out, trains
from raynas.setup.evaluation import FUNCTION, SHARED, uses_data
from raynas.setup.own_evaluator import evaluator_again
from raynas.setup.proxies import proxies
from raynas.setup.resolve import mapping
from raynas.setup.supernet_request import ALGO, phases_of
from raynas.setup.supernets import START, trained_on

DEFAULT_ALGO, DEFAULT_DATA, DEFAULT_TRIALS = "regularized_evolution", "digits", 100
Options = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """The arguments of ``raynas.search``; None is what was not said."""

    space: Any
    algo: Any
    data: Any
    task: Any
    loss: Any
    metrics: Any
    evaluator: Any
    supernet: Any
    objectives: Mapping[str, str] | None
    scalarize: Mapping[str, float] | None
    constraints: Constraints | None
    latency: str | Path | None
    trials: int | None
    epochs: int | None
    seed: int | None
    ray: RayConfig | Mapping[str, Any] | None
    options: Options | None
    space_options: Options | None
    data_options: Options | None
    construct: Any = None
    final: Any = None

    def with_defaults(self) -> SearchRequest:
        """Return the request with a default for whatever was not said.

        Raises:
            TypeError: no space was named.
        """
        if self.space is None and isinstance(self.supernet, str | Path):
            return self._as_trained().with_defaults()
        if self.space is None:
            raise TypeError(
                "space: name what is to be searched; only resume=True, or the path of a supernet, "
                "goes without"
            )
        algo = DEFAULT_ALGO if self.algo is None else self.algo
        evaluator = SHARED if self.evaluator is None else self.evaluator
        needed = not isinstance(self.space, ArchSpace) and (
            trains(algo) or uses_data(evaluator) or self._bounds_look_at_data()
        )
        return replace(
            self,
            algo=algo,
            evaluator=evaluator,
            data=DEFAULT_DATA if self.data is None and needed else self.data,
            trials=DEFAULT_TRIALS if self.trials is None else self.trials,
            seed=0 if self.seed is None else self.seed,
        )

    def _as_trained(self) -> SearchRequest:
        """Return the request with the space, data and task of its trained supernet.

        Raises:
            TypeError: a release that did not keep these has trained it.
        """
        kept = trained_on(self.supernet)
        if "space" not in kept:
            raise TypeError(f"space: name that of the supernet in {self.supernet}, which has none")
        if self.space_options is not None:
            raise TypeError("space_options: those of the supernet stand; name a space with others")
        request = replace(self, space=kept["space"])
        if self.data is not None:
            return request
        task = kept.get("task") if self.task is None else self.task
        return replace(request, data=kept.get("data"), task=task)

    def with_sampler(self) -> SearchRequest:
        """Return the request with an algorithm that trains weights only as the supernet's.

        Its supernet is then searched by the sampler that goes with it.
        """
        algo, own = spelled_out(self.algo)
        if algo is not self.algo:
            options = {**mapping("algo", own), **mapping("options", self.options)}
            return replace(self, algo=algo, options=options).with_sampler()
        if self.algo is None or not trains(self.algo):
            return self
        from raynas.supernet.protocol import one_shot_class

        kind = one_shot_class(self.algo) if isinstance(self.algo, str) else type(self.algo)
        if kind.learns:
            return self
        phase = {**mapping("options", self.options), "algo": self.algo}
        before = phases_of(self.supernet)
        supernet = [*before, phase] if before else phase
        return replace(self, algo=kind.sampler, supernet=supernet, options=None)

    def _bounds_look_at_data(self) -> bool:
        """Return whether a bound is on what is measured on data, or counted at their size."""
        metrics = {constraint.metric for constraint in as_constraints(self.constraints)}
        if metrics & proxies().keys():
            return True
        timed = self.latency is not None or LATENCY in {*metrics, *(self.objectives or {})}
        sized = isinstance(self.space, str | ComponentSpec) or (
            isinstance(self.space, ModelSpace) and self.space.signature is not None
        )
        return not sized and (timed or bool(metrics & {*COSTS, KV_CACHE}))

    def going_on(self, before: SearchConfig) -> SearchRequest:
        """Return the request with what an earlier start had for whatever was not said.

        Args:
            before: the configuration of that start.

        Raises:
            LookupError: the space, or an evaluator of the user's own, cannot be imported here.
        """
        same_algo = self.algo is None or name_of(self.algo) == before.algo.name
        options, began = self.options, None
        if same_algo:
            trained = before.supernet if trains(before.algo.name) else None
            kept = dict(before.algo.options if trained is None else trained.options)
            began = kept.pop(START, None)
            said = dict(self.options or {})
            options = kept | (own_words(self.algo, said) if isinstance(self.algo, str) else said)
        taken: dict[str, Any] = {
            "space": before.space,
            "data": before.data,
            "task": before.task,
            "algo": before.algo.name,
            "evaluator": self._evaluator_of(before.evaluator) if self.evaluator is None else None,
            "supernet": self._supernet_of(before, began),
            "objectives": before.objectives,
            "scalarize": before.scalarize or None,
            "constraints": before.constraints or None,
            "trials": None if trains(before.algo.name) else before.trials,
            "seed": before.seed,
            "ray": before.ray,
            "final": self._final_of(before),
        }
        fields = {name: old for name, old in taken.items() if getattr(self, name) is None}
        self._check_named(before)
        kept_space = self.space_options is None and self.construct is None
        if kept_space and self.space == before.space.name:
            fields["space"] = before.space  # with the options of then
        if self.data_options is None and before.data and self.data == before.data.name:
            fields["data"] = before.data
        if self.supernet == {ALGO: _supernet_name(before)}:
            fields["supernet"] = before.supernet  # with the options of then
        if self.evaluator == before.evaluator.name:
            fields["evaluator"] = self._evaluator_of(before.evaluator)
        return replace(self, **fields, options=options).with_defaults()

    def _final_of(self, before: SearchConfig) -> Any:
        """Return what ``raynas.search`` takes as the end of an earlier start."""
        final = before.final
        if final is None or self.final is not None:
            return None
        counts = {"top": final.top, "seeds": final.seeds}
        evaluator = _recorded_evaluator(final.evaluator, argument="final")
        return counts | {"evaluator": evaluator}

    def _check_named(self, before: SearchConfig) -> None:
        """Raise TypeError where a part is to differ from the earlier start's, and is not named."""
        if self.construct is not None and self.space is None:
            raise TypeError("construct: name the template as well (space=)")
        for name in ("space", "data"):
            given, old = getattr(self, f"{name}_options"), getattr(before, name)
            if not given or getattr(self, name) is not None:
                continue
            plain = json.loads(json.dumps(dict(given), default=str))  # as the folder holds them
            if old is None or any(old.options.get(key, ...) != plain[key] for key in plain):
                raise TypeError(
                    f"{name}_options: those of the run stand; others go with a name ({name}=)"
                )

    def _supernet_of(self, before: SearchConfig, began: Mapping[str, Any] | None) -> Any:
        """Return what ``raynas.search`` takes as the supernet of an earlier start."""
        if not trains(before.algo.name):
            return before.supernet
        return None if began is None else ComponentSpec(**began)

    def _evaluator_of(self, spec: ComponentSpec) -> Any:
        """Return what ``raynas.search`` takes as the evaluator that a run folder names."""
        said = () if self.epochs is None else ("epochs",)
        return _recorded_evaluator(spec, said, argument="evaluator")


def _recorded_evaluator(spec: ComponentSpec, said: tuple[str, ...] = (), *, argument: str) -> Any:
    """Return what ``raynas.search`` takes as an evaluator that a run folder names.

    Args:
        spec: of it.
        said: options that are said anew.
        argument: that names another.

    Raises:
        LookupError: it was a user's own and is not at hand.
    """
    if spec.name != FUNCTION:
        return [spec.name, {k: v for k, v in spec.options.items() if k not in said}]
    try:
        return evaluator_again(spec)
    except LookupError as error:
        which = "evaluator" if argument == "evaluator" else f"evaluator of {argument}"
        raise LookupError(
            f"the {which} of this run was a user's own: {error}; pass {argument}="
        ) from error


def _supernet_name(config: SearchConfig) -> str | None:
    """Return the algorithm that a run's supernet is trained by."""
    return None if config.supernet is None else config.supernet.name
