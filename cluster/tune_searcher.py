"""Our samplers as a searcher of Ray Tune, for anybody's trainable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray import cloudpickle
from ray.tune.search import Searcher

from raynas.cluster.tune_space import TuneSpace
from raynas.core.build_sampler import build_sampler, refuse_several, sampler_options
from raynas.core.errors import StoreMismatch, nearest
from raynas.core.evaluator import Measurement, sorted_out
from raynas.core.feasible import Violation
from raynas.core.goals import Goals
from raynas.core.objectives import MissingObjective, Objective
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.study import Asked, Study, StudyInfo
from raynas.core.trial import Trial
from raynas.supernet.protocol import ONE_SHOTS

REPEATS = 1000  # proposals in a row of what is known, after which a sampler has come to its end
OUTSIDE = "external"  # stands as the algorithm of what was evaluated elsewhere


class TuneSearcher(Searcher):
    """Proposes configs by a registered sampler, one a trial, and learns from last results.

    No config is proposed twice: where none is left, the run ends. A trial that failed, or whose
    metric is no finite number, is remembered as tried. What a scheduler stopped counts by its last
    result, as with Tune's own searchers. A saved or pickled searcher is brought to where it was by
    replay.

    Differs: a domain is the list of its values, each as likely as the others, so that a log scale
    and the steps of ``tune.qlograndint`` say nothing.

    >>> searcher = TuneSearcher("grid", {"model": {"width": [16]}}, metric="accuracy", mode="max")
    Traceback (most recent call last):
        ...
    raynas.core.errors.InvalidSpace: space: expected tune.choice, tune.grid_search, tune.randint \
or another of finitely many values somewhere in it, got {'model': {'width': [16]}}

    Args:
        algo: name of a sampler; ``raynas.available("algorithms")`` lists them.
        space: an ``ArchSpace``, of which a config has a value under each label; or a config of
            Tune's whose domains are finite: ``tune.choice``, ``tune.grid_search``,
            ``tune.randint``, quantised numbers. None takes the ``param_space`` of the run.
        metric: what a trial reports; several for a sampler that takes several. None takes that of
            the run's ``TuneConfig``.
        mode: ``"max"`` or ``"min"``, one for all metrics or one each; None likewise.
        seed: fixes what is proposed.
        options: of the sampler.

    Raises:
        UnknownName: no algorithm has this name.
        ValueError: an option is wrong, or the algorithm takes one metric.
        InvalidSpace: a domain has no finite list of values.
    """

    def __init__(
        self,
        algo: str,
        space: Any = None,
        *,
        metric: str | Sequence[str] | None = None,
        mode: str | Sequence[str] | None = None,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if algo in ONE_SHOTS and algo not in SAMPLERS:
            raise ValueError(f"{algo} trains a supernet and proposes no configs one by one")
        if seed < 0:
            raise ValueError(f"seed: expected at least 0, got {seed}")
        self._algo, self._seed = SAMPLERS.name_of(algo), seed
        self._options = sampler_options(algo, options or {})
        self._metric: Any = metric  # where Tune looks for both
        self._mode: Any = mode
        self._trials: list[Trial] = []
        self._flying: dict[str, Asked] = {}
        self._space = None if space is None else TuneSpace.of(space)
        self._study = self._begun([])

    def set_search_properties(
        self,
        metric: str | None,
        mode: str | None,
        config: dict[str, Any],
        **spec: Any,
    ) -> bool:
        """Take metric, mode and space of the run, those that were not given; as Tune asks."""
        if self._space is not None:
            return False
        self._metric, self._mode = metric or self._metric, mode or self._mode
        self._space = TuneSpace.of(config)
        self._study = self._begun([])
        return True

    def suggest(self, trial_id: str) -> Any:
        """Return the next config, or ``Searcher.FINISHED`` where none is left.

        Raises:
            ValueError: there is no space, or no metric.
        """
        asked = self._ask()
        if asked is None:
            return str(Searcher.FINISHED)
        self._flying[trial_id] = asked
        return self._require_space().config(asked.arch)

    def _ask(self) -> Asked | None:
        study = self._require_study()
        study.trials = study.asked + REPEATS
        return study.ask()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ignore: what counts is the last result, which comes with the trial's completion."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the sampler what came of a trial.

        Raises:
            MissingObjective: the result has no such metric; the nearest that it has is named.
        """
        if trial_id not in self._flying:  # begun before a restore that knows nothing of it
            return
        measurement = self._measured(None if error else result)
        self._require_study().tell([(self._flying.pop(trial_id), measurement)])

    def _measured(self, result: Mapping[str, Any] | None) -> Measurement:
        if not result:
            return Measurement(error="the trial failed")
        for metric in _listed(self._metric):
            if metric not in result:
                hint = nearest(metric, result)
                raise MissingObjective(f"the trial reports no metric {metric!r}; {hint}")
        return sorted_out({metric: result[metric] for metric in _listed(self._metric)})

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Tell the sampler a trial that was evaluated elsewhere.

        Args:
            parameters: its config.
            value: of the one metric.
            error: whether it failed.
            pruned: whether it was stopped early: then it is remembered as tried.
            intermediate_values: of no use here.

        Raises:
            ValueError: the space does not hold the config, or there are several metrics.
        """
        study, metrics = self._require_study(), _listed(self._metric)
        if len(metrics) != 1:
            raise ValueError(f"a point has one value, and the metrics are {', '.join(metrics)}")
        asked = study.propose(self._require_space().arch(parameters), OUTSIDE)
        said = None if error or pruned else {metrics[0]: value}
        study.tell([(asked, self._measured(said))])

    # --- the study ---

    def _require_space(self) -> TuneSpace:
        if self._space is None:
            raise ValueError(f"{self._algo} has no space: give it one, or the run a param_space")
        return self._space

    def _require_study(self) -> Study:
        self._require_space()
        if self._study is None:
            raise ValueError(
                f"{self._algo} has no metric and mode: say them here, or in the run's TuneConfig "
                "beside a param_space"
            )
        return self._study

    def _begun(self, history: list[Trial]) -> Study | None:
        """Return the study, brought to where its history ends, if all is known of it."""
        metrics = _listed(self._metric)
        if self._space is None or not metrics or self._mode is None:
            return None
        modes = [self._mode] * len(metrics) if isinstance(self._mode, str) else list(self._mode)
        if len(modes) != len(metrics):
            raise ValueError(f"mode: expected one, or one for each of {metrics}, got {modes}")
        goals = Goals(tuple(map(Objective, metrics, modes)))  # type: ignore[arg-type]
        refuse_several(self._algo, metrics)
        self._trials = list(history)
        violation = self._space.arch_space.violation
        return Study(
            self._sampler(),
            goals,
            trials=REPEATS,
            setting=StudyInfo(algo=self._algo, evaluator="tune", seed=self._seed),
            sink=self._trials.extend,
            bounds=violation if isinstance(violation, Violation) else None,
            history=history,
            make_sampler=self._sampler,
        )

    def _sampler(self) -> Sampler:
        return build_sampler(
            self._algo,
            self._require_space().arch_space,
            seed=self._seed,
            options=self._options,
            objectives=_listed(self._metric),
        )

    # --- saved and restored ---

    def save(self, checkpoint_path: str) -> None:
        """Save what was told and what is in flight."""
        with open(checkpoint_path, "wb") as file:
            cloudpickle.dump(self.__getstate__(), file)

    def restore(self, checkpoint_path: str) -> None:
        """Go on from what was saved.

        Raises:
            StoreMismatch: the sampler proposes otherwise now, as after an update.
        """
        with open(checkpoint_path, "rb") as file:
            self.__setstate__(cloudpickle.load(file))

    def __getstate__(self) -> dict[str, Any]:
        made_again = ("_study", "_flying")
        kept = {name: value for name, value in vars(self).items() if name not in made_again}
        return kept | {"_flying": {id_: asked.arch.key for id_, asked in self._flying.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _flying={})
        self._study = self._begun(state["_trials"])
        for trial_id, key in state["_flying"].items():
            asked = self._ask()
            if asked is None or asked.arch.key != key:
                raise StoreMismatch(
                    f"what was saved is of another search: {self._algo} proposes otherwise now"
                )
            self._flying[trial_id] = asked


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())
