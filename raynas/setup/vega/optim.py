"""Search algorithms of theirs: registered under their names, with their arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raynas.core.options import checked
from raynas.core.registry import nearest_spelling, normalised
from raynas.core.sampler import SAMPLERS
from raynas.setup.algorithms import resolve_one_shot
from raynas.setup.vega.schema import Spec

WITH_ANY_OP = ("direct_grad", "direct_grad_bilevel")
ANNEALED = "GumbelAnnealingOptim"  # has its mixed operator by itself
GATES = ("binary_gate", "uniform_gate")
FITTING = {"darts": ("weighted_sum",), "proxyless": GATES, "proxyless_rl": GATES}
OF_SAMPLERS = ("index", *GATES)


@dataclass(frozen=True)
class Algorithm:
    """What searches.

    Attributes:
        algo: a registered name or alias, under which options mean what they mean there.
        name: the true name behind it.
        options: as the file has them.
        by_gradients: whether it learns by the supernet's training, and is no sampler.
    """

    algo: str
    name: str
    options: dict[str, Any]
    by_gradients: bool


def algorithm_of(spec: Spec, where: str, mixed_op: str | None) -> Algorithm:
    """Return what an optimizer of theirs is here.

    Args:
        spec: of the file.
        where: it stands, by key path.
        mixed_op: how candidates combine, by our name; None where the file does not say.

    Raises:
        LookupError: it is not known.
        ValueError: an argument is not known, or the optimizer does not go with the mixed operator.
    """
    from raynas.supernet.protocol import ONE_SHOTS

    if spec.type not in SAMPLERS and spec.type not in ONE_SHOTS:
        registries = (SAMPLERS, ONE_SHOTS)
        known = [name for registry in registries for name in registry]
        aliases = [a for registry in registries for n in registry for a in registry.aliases_of(n)]
        hint = nearest_spelling(spec.type, known, aliases)
        raise LookupError(f"{where}.type: no optimizer named {spec.type!r} is understood; {hint}")
    samples = spec.type in SAMPLERS
    name = SAMPLERS.name_of(spec.type) if samples else ONE_SHOTS.name_of(spec.type)
    options = dict(spec.args)
    if mixed_op is not None:
        options |= _with_mixed_op(spec.type, name, mixed_op, samples, f"{where}.type")
    try:
        if samples:
            fitted = SAMPLERS.options_under(spec.type, options)
            checked("algorithm", name, SAMPLERS[name], fitted, without=("seed",))
        else:
            resolve_one_shot(spec.type, options, None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}.args: {error}") from None
    return Algorithm(spec.type, name, options, not samples)


def without_repetition(
    algorithm: Algorithm, options: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return the algorithm's options but for those that the weights' training says already.

    Args:
        algorithm: of the file.
        options: of the training.

    Returns:
        The options, and those that were left out.
    """
    from raynas.supernet.protocol import ONE_SHOTS

    alias = ONE_SHOTS.alias_of(algorithm.algo)
    twice = [key for key in algorithm.options if alias.words.get(key) in options]
    kept = {key: value for key, value in algorithm.options.items() if key not in twice}
    return kept, twice


def _with_mixed_op(
    alias: str, name: str, mixed_op: str, samples: bool, where: str
) -> dict[str, Any]:
    """Return the option that says how candidates combine, where the algorithm takes several.

    Raises:
        ValueError: it does not take this one.
    """
    fitting = OF_SAMPLERS if samples else FITTING.get(name)
    annealed = normalised(alias) == normalised(ANNEALED)
    if annealed:
        fitting = ("gumbel_sum",)
    if fitting is not None and mixed_op not in fitting:
        raise ValueError(
            f"{where}: {alias} goes with the mixed operator {' or '.join(fitting)}, got {mixed_op}"
        )
    says = name in WITH_ANY_OP and not annealed
    return {"mixed_op": mixed_op} if says or (name, mixed_op) == ("proxyless", GATES[1]) else {}
