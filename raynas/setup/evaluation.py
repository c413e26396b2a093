"""How a run evaluates: what each kind of evaluator needs before the first architecture."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from raynas.core.config import ComponentSpec
from raynas.core.errors import nearest
from raynas.core.evaluator import EVALUATORS, RESERVED
from raynas.core.metrics import LATENCY
from raynas.core.options import options_of
from raynas.core.progress import Progress
from raynas.core.split_spec import split_spec
from raynas.evaluators.external import External
from raynas.evaluators.functions import MakeFunctionEvaluator, wants_module
from raynas.evaluators.kept_weights import KeptWeights
from raynas.evaluators.networks import MakeNetworkEvaluator
from raynas.evaluators.protocols import declaration
from raynas.evaluators.shared import MakeSharedEvaluator, Shared
from raynas.evaluators.spec import EvaluatorSpec
from raynas.setup.fit import check_fit
from raynas.setup.objects import (
    import_path,
    is_plain,
    named_evaluator,
    own_options,
)
from raynas.setup.problem import Problem
from raynas.setup.supernet_request import supernet_of
from raynas.setup.supernets import Supernet

if TYPE_CHECKING:
    from raynas.data.module import DataModule
    from raynas.nn.modelspace import ModelSpace
    from raynas.setup.runner import Runner

SHARED, FUNCTION = "shared", "function"
NO_SHARED_WEIGHTS = (
    "an ArchSpace has no weights to share: pass evaluator=, a function from Arch to a dict of "
    "metrics"
)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How the architectures of a run are evaluated.

    Attributes:
        component: how the run folder names the evaluator.
        data: how it names the data; None if none are used.
        evaluator: what workers make; of shared weights, still without the weights.
        supernet: whose weights are shared; None if none are.
    """

    component: ComponentSpec
    data: ComponentSpec | None
    evaluator: EvaluatorSpec
    supernet: Supernet | None = None

    def prepared(self, out: str, seed: int, runner: Runner, progress: Progress) -> EvaluatorSpec:
        """Do what comes before the search, and return what workers make.

        Args:
            out: folder of the run.
            seed: of the run.
            runner: trains the supernet, if there is one to train.
            progress: told of it.
        """
        make = self.evaluator.make
        if isinstance(make, MakeFunctionEvaluator):
            keeper = None if make.goals is None else partial(KeptWeights, out, make.goals)
            return replace(self.evaluator, make=replace(make, keeper=keeper))
        if self.supernet is None:
            return self.evaluator
        from raynas.supernet.checkpoint import load_shared

        checkpoint = self.supernet.weights(out, seed, runner, progress)
        return replace(self.evaluator, weights=load_shared(checkpoint, seed))


def evaluation_of(
    evaluator: Any,
    problem: Problem,
    *,
    supernet: Any = None,
    epochs: int | None = None,
    timed: bool = False,
) -> Evaluation:
    """Return how a run evaluates, with all that can be checked beforehand checked.

    Args:
        evaluator: a registered name, alone or with options as ``Registry.build`` takes them, an
            object of ``raynas.evaluators.protocols``, or a function.
        problem: of the run; its metrics must be measured.
        supernet: as for ``raynas.search``.
        epochs: likewise.
        timed: whether latencies are looked up beside the evaluator.

    Raises:
        ValueError, TypeError, LookupError: the evaluator does not go with the space, the data, or
            the objectives.
    """
    metrics = problem.measured(timed)
    named = isinstance(evaluator, str | tuple | list | Mapping)
    built, spec = _registered(evaluator, epochs) if named else (evaluator, _own_spec(evaluator))
    if isinstance(built, External):
        outside = EvaluatorSpec(name=spec.name, metrics=metrics, make=built)
        return Evaluation(component=spec, data=_data_spec(problem), evaluator=outside)
    if isinstance(built, Shared):
        model_space, data = problem.networks(NO_SHARED_WEIGHTS)
        gives = _with_costs((*data.task.metrics, *built.beside), model_space)
        _check_metrics(metrics, gives, SHARED)
        trained = supernet_of(supernet, problem.space, problem.data, epochs)
        trained.check_choices()
        return shared_evaluation(built, problem, trained, timed=timed)
    if supernet is not None:
        raise ValueError(
            f"options of a supernet go with the evaluator {SHARED!r}, not with {_called(spec)}"
        )
    if epochs is not None and not named:
        raise ValueError(
            f"epochs go with the evaluator {SHARED!r}, or another that trains if it is named, not "
            f"with {_called(spec)}"
        )
    kind = declaration(built).kind
    if kind == "arch":
        evaluation = _arch_evaluation(built, spec, problem, metrics)
    elif kind == "function":
        evaluation = _function_evaluation(built, spec, problem, metrics)
    else:
        evaluation = _network_evaluation(built, spec, problem, metrics)
    if timed and LATENCY in evaluation.evaluator.metrics:
        raise ValueError(f"the evaluator {spec.name!r} gives {LATENCY}: leave out latency=")
    return evaluation


def shared_evaluation(
    scoring: Shared, problem: Problem, supernet: Supernet, *, timed: bool = False
) -> Evaluation:
    """Return the evaluation by a supernet's weights.

    Args:
        scoring: how they score.
        problem: of the run.
        supernet: whose weights they are.
        timed: whether latencies are looked up beside them.

    Raises:
        ValueError: a metric that shared weights do not give; the nearest that they do is named.
    """
    model_space, data = problem.networks(NO_SHARED_WEIGHTS)
    gives = _with_costs((*data.task.metrics, *scoring.beside), model_space)
    _check_metrics(problem.measured(timed), gives, SHARED)
    _check_beside(scoring, supernet.model_space, data)
    make = MakeSharedEvaluator(
        supernet_space=supernet.model_space,
        model_space=model_space,
        data=data.as_loaded(),
        seed=problem.seed,
        settings=scoring.settings,
        beside=scoring.beside,
    )
    return Evaluation(
        component=ComponentSpec(name=SHARED, options=scoring.chosen),
        data=_data_spec(problem),
        evaluator=EvaluatorSpec(
            name=SHARED, metrics=gives, make=make, deterministic=scoring.deterministic
        ),
        supernet=supernet,
    )


def _check_beside(scoring: Shared, model_space: ModelSpace, data: DataModule) -> None:
    """Raise ValueError for a comparison with the whole supernet that cannot be made."""
    if scoring.divergence and data.task.computes_loss_in_model:
        raise ValueError(
            f"divergence compares outputs, and with the task {data.task.name!r} the model returns "
            "a loss: leave it out"
        )
    from raynas.nn.conversion.elastic_space import ElasticSpace

    if scoring.influence and not (isinstance(model_space, ElasticSpace) and model_space.plan.skips):
        raise ValueError(
            "influence is of layers that a converted model may leave out (raynas.elastic(..., "
            f"depth=True)), and {model_space.name} has none: leave it out"
        )


def shared_of(evaluator: Any) -> Shared | None:
    """Return how a supernet's weights are to score; None if the evaluator is another."""
    if isinstance(evaluator, str | tuple | list | Mapping):
        evaluator, _ = _registered(evaluator, None)
    return evaluator if isinstance(evaluator, Shared) else None


def uses_data(evaluator: Any) -> bool:
    """Return whether an evaluator, in any form that a search takes, looks at data."""
    behind = named_evaluator(evaluator)
    if behind is Shared or isinstance(behind, Shared):
        return True
    return declaration(behind).kind in ("network", "training")


def _arch_evaluation(
    evaluator: Any, spec: ComponentSpec, problem: Problem, metrics: tuple[str, ...]
) -> Evaluation:
    """Return the evaluation by an object that knows architectures of the space."""
    travels = replace(problem.space.arch_space, violation=None)
    function = evaluator.bind(travels, metrics)
    gives = declaration(function).metrics or metrics
    _check_metrics(metrics, gives, spec.name)
    make = MakeFunctionEvaluator(function, gives)
    return Evaluation(
        component=spec,
        data=_data_spec(problem),
        evaluator=EvaluatorSpec(
            name=spec.name,
            metrics=gives,
            make=make,
            deterministic=declaration(evaluator).deterministic,
        ),
    )


def _function_evaluation(
    function: Callable[[Any], object],
    spec: ComponentSpec,
    problem: Problem,
    metrics: tuple[str, ...],
) -> Evaluation:
    """Return the evaluation by a function of an architecture, or of the built module."""
    if not callable(function):
        raise TypeError(
            "evaluator: expected a registered name, a function, or an object with a method bind, "
            f"measure or train_epochs, got a {type(function).__name__}"
        )
    takes_module = wants_module(function)
    if problem.space.model_space is None and takes_module:
        raise ValueError("the evaluator wants a module, and an ArchSpace builds none")
    for metric in metrics:
        if metric in RESERVED:
            raise ValueError(f"objective {metric!r} is named like a column of the trial table")
    model_space = problem.space.model_space if takes_module else None
    make = MakeFunctionEvaluator(function, metrics, model_space, problem.goals)
    return Evaluation(
        component=spec,
        data=_data_spec(problem),
        evaluator=EvaluatorSpec(
            name=FUNCTION,
            metrics=metrics,
            make=make,
            deterministic=declaration(function).deterministic,
        ),
    )


def _network_evaluation(
    evaluator: Any, spec: ComponentSpec, problem: Problem, metrics: tuple[str, ...]
) -> Evaluation:
    """Return the evaluation by an object that measures or trains built networks."""
    model_space, data = problem.networks(
        f"the evaluator {_called(spec)} measures networks, and an ArchSpace builds none"
    )
    declared = declaration(evaluator)
    of_task = data.task.metrics if declared.metrics_of_task else None
    own = declared.metrics if of_task is None else (*of_task, *(declared.metrics or ()))
    gives = tuple(dict.fromkeys((*model_space.costs, *(metrics if own is None else own))))
    _check_metrics(metrics, gives, spec.name)
    if declared.stopping is not None and problem.goals.several:
        raise ValueError(
            f"the evaluator {_called(spec)} stops weak architectures early by one score, and there "
            "are several objectives: turn it off (early_stopping=False), or merge them (scalarize=)"
        )
    check_fit(model_space, data, trains=declared.epochs > 0)
    make = MakeNetworkEvaluator(
        evaluator=evaluator, model_space=model_space, data=data, epochs=declared.epochs
    )
    return Evaluation(
        component=spec,
        data=_data_spec(problem),
        evaluator=EvaluatorSpec(
            name=spec.name,
            metrics=gives,
            make=make,
            epochs=declared.epochs,
            stopping=declared.stopping,
            deterministic=declared.deterministic,
        ),
    )


def _registered(given: Any, epochs: int | None) -> tuple[Any, ComponentSpec]:
    """Build a registered evaluator; return it, and its name with all of its options."""
    evaluator = EVALUATORS.build(given)
    word, own = split_spec(given)
    name = EVALUATORS.name_of(word)
    if epochs is not None and name != SHARED:  # there they are of the supernet's training
        if own.get("epochs", epochs) != epochs:
            raise ValueError(f"evaluator {name!r}: epochs is {own['epochs']} and {epochs} at once")
        own = {**own, "epochs": epochs}
        evaluator = EVALUATORS.build([name, own])
    builder = EVALUATORS[name]
    defaults = {key: option.default for key, option in options_of(builder).items()}
    return evaluator, ComponentSpec(
        name=name, options=defaults | own | own_options(builder, evaluator)
    )


def _own_spec(evaluator: Any) -> ComponentSpec:
    """Return how the run folder names an object: a registered one, or a user's own."""
    if isinstance(evaluator, Shared):
        return ComponentSpec(name=SHARED)
    own = ComponentSpec(name=FUNCTION, options={"path": import_path(evaluator)})
    if declaration(evaluator).kind == "function":
        return own
    if inspect.isclass(evaluator):
        name = evaluator.__name__
        raise TypeError(f"evaluator: expected an object, got the class {name}: call it")
    for name, builder in EVALUATORS.items():
        if builder is type(evaluator):
            return ComponentSpec(name=name, options=own_options(builder, evaluator))
    options = own_options(type(evaluator), evaluator)
    plain = {key: value for key, value in options.items() if is_plain(value)}
    return ComponentSpec(name=FUNCTION, options=own.options | plain)


def _called(spec: ComponentSpec) -> str:
    return "a function" if spec.name == FUNCTION else repr(spec.name)


def _with_costs(metrics: Sequence[str], space: ModelSpace) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*metrics, *space.costs)))


def _data_spec(problem: Problem) -> ComponentSpec | None:
    return None if problem.data is None else problem.data.spec


def _check_metrics(wanted: Sequence[str], gives: Sequence[str], name: str) -> None:
    for metric in wanted:
        if metric not in gives:
            hint = nearest(metric, dict.fromkeys((*gives, LATENCY)))
            raise ValueError(f"the evaluator {name!r} gives no metric {metric!r}; {hint}")
