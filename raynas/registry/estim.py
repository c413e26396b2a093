"""Estimators by name: how architectures are evaluated, as arguments of ``raynas.search``.

``raynas.search(space, "EvolutionOptim", **build("SubNetEstimator", epochs=300))``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from raynas.core.evaluator import EVALUATORS
from raynas.core.registry import Registry
from raynas.core.split_spec import split_spec
from raynas.registry.registering import registered_by

Arguments = dict[str, Any]
ESTIMATORS: Registry[Callable[..., Arguments]] = Registry("estimator")


@ESTIMATORS.register("DefaultEstimator", aliases=("DefaultEstim",))
def default(*, epochs: int = 1, options: Mapping[str, Any] | None = None) -> Arguments:
    """Train every architecture on its own, from new weights, and validate it.

    What only warms up weights before architectures are learned is the ``warmup_epochs`` of
    SuperNetEstimator.

    Args:
        epochs: of each training.
        options: of the evaluator ``standalone``, such as ``{"lr": 0.025}``.
    """
    own = {"early_stopping": False, **(options or {}), "epochs": epochs}
    return {"evaluator": ["standalone", own]}


@ESTIMATORS.register("SuperNetEstimator", aliases=("SuperNetEstim",))
def supernet(
    *, epochs: int = 1, arch_update_epoch_start: int = 0, options: Mapping[str, Any] | None = None
) -> Arguments:
    """Train a supernet's weights and the architecture's parameters in turn.

    Args:
        epochs: of the training.
        arch_update_epoch_start: epochs at first that train weights alone.
        options: of the algorithm and its training.
    """
    warmup = {"warmup_epochs": arch_update_epoch_start} if arch_update_epoch_start else {}
    return {"epochs": epochs, "options": {**warmup, **(options or {})}}


@ESTIMATORS.register("SubNetEstimator", aliases=("SubNetEstim",))
def subnet(
    *,
    epochs: int = 1,
    arch_update_batch: int = 1,
    subnet_epochs: int = 0,
    num_bn_batch: int = 100,
    batch_size: int = 64,
) -> Arguments:
    """Evaluate candidates one by one: with a supernet's weights, or each trained on its own.

    Args:
        epochs: of the estimator, each of which evaluates one batch of candidates.
        arch_update_batch: candidates in such a batch.
        subnet_epochs: of each candidate's own training; 0 takes the supernet's weights.
        num_bn_batch: batches that BatchNorm is recalibrated with.
        batch_size: images in such a batch.
    """
    trials = epochs * arch_update_batch
    if subnet_epochs:
        return {**default(epochs=subnet_epochs), "trials": trials}
    images = {"calibration_images": num_bn_batch * batch_size}
    return {"evaluator": ["shared", images], "trials": trials}


@ESTIMATORS.register("RandomSamplingEstimator", aliases=("RandomSamplingEstim",))
def random_sampling(*, epochs: int = 1, options: Mapping[str, Any] | None = None) -> Arguments:
    """Train a supernet by uniformly random single paths, before a sampler searches it.

    Args:
        epochs: of the training.
        options: of ``spos`` and its training.
    """
    own = {"algo": "spos", "epochs": epochs, "warm_start_steps": 0}
    return {"supernet": {**own, **(options or {})}}


@ESTIMATORS.register(
    "ProgressiveShrinkingEstimator",
    aliases=("ProgressiveShrinkingEstim", "progressive_shrinking"),
)
def progressive_shrinking(
    *,
    stages: Sequence[Mapping[str, Any]] | None = None,
    epochs: int = 1,
    n_subnet_batch: int = 1,
    use_ratio: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Arguments:
    """Train a supernet by progressive shrinking, before it is searched.

    Args:
        stages: what is elastic from when on; None takes those of the paper.
        epochs: of each stage that does not say its own.
        n_subnet_batch: subnets in each step of a stage that does not say its own.
        use_ratio: whether stages list ratios of the largest size.
        options: of the algorithm and its training.
    """
    own: dict[str, Any] = {"algo": "progressive_shrinking", "use_ratio": use_ratio}
    if stages is not None:
        defaults = {"epochs": epochs, "subnets": n_subnet_batch}
        own["stages"] = [{**defaults, **stage} for stage in stages]
    return {"supernet": {**own, **(options or {})}}


def register(evaluator: Any = None, name: str | None = None) -> Any:
    """Register an evaluator: ``@register``, ``@register("name")`` or ``register(it, "name")``.

    Args:
        evaluator: a class with one of the methods of ``raynas.evaluators.protocols``.
        name: None takes its own.

    Raises:
        ValueError: the name is another's.
    """
    return registered_by(_enter, evaluator, name)


def _enter(name: str, evaluator: Any) -> None:
    if name in ESTIMATORS:
        raise ValueError(f"estimator {name!r} is one of raynas' own: choose another name")
    EVALUATORS.register(name, evaluator)


def build(spec: Any, /, **options: Any) -> Arguments:
    """Return the arguments of ``raynas.search`` that an estimator, or an evaluator, stands for.

    >>> build("SubNetEstimator", epochs=3, num_bn_batch=2)
    {'evaluator': ['shared', {'calibration_images': 128}], 'trials': 3}

    Args:
        spec: a name, ``[name, {option: value}]``, or ``{"type": name, "args": {...}}``.
        options: those of the spec override them.

    Raises:
        UnknownName: neither has the name.
        ValueError: an option that it does not have.
    """
    given, _ = split_spec(spec)
    if given not in ESTIMATORS and given in EVALUATORS:
        name, settled = EVALUATORS.resolved(spec, **options)
        return {"evaluator": [name, settled]}
    arguments: Arguments = ESTIMATORS.build(spec, **options)
    return arguments


def get_builder(name: str) -> Callable[..., Arguments]:
    """Return what takes an estimator's options and gives arguments of ``raynas.search``."""
    if name not in EVALUATORS:
        ESTIMATORS.name_of(name)
    return partial(build, name)
