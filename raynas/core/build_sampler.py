"""A registered sampler from its name and options, for any number of objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raynas.core.archspace import ArchSpace
from raynas.core.options import checked
from raynas.core.sampler import SAMPLERS, Sampler, sampler_class


def sampler_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sampler's options under its own names, of the types that it declares.

    Raises:
        UnknownName: no sampler has this name.
        ValueError: it has no such option, or of another type.
    """
    meant = SAMPLERS.options_under(name, options)
    return checked("algorithm", name, SAMPLERS[name], meant, without=("seed",))


def build_sampler(
    name: str,
    space: ArchSpace,
    *,
    seed: int,
    options: Mapping[str, Any],
    objectives: Sequence[str] = (),
) -> Sampler:
    """Return a fresh sampler.

    Args:
        name: registered, or an alias.
        space: of the architectures.
        seed: fixes what it proposes.
        options: its own.
        objectives: names of the scores; a sampler that takes several is told more than one.

    Raises:
        UnknownName: no sampler has this name.
        ValueError: an option is wrong.
        TypeError: a registered function returns no ``Sampler``.
    """
    fitted = sampler_options(name, options)
    if len(objectives) > 1 and sampler_class(name).multi_objective:
        fitted["objectives"] = tuple(objectives)
    sampler: Sampler = SAMPLERS.make(SAMPLERS.name_of(name), space, seed=seed, **fitted)
    return sampler


def refuse_several(name: str, objectives: Sequence[str], or_else: str = "") -> None:
    """Raise ValueError if a sampler that learns from one score would be told several.

    Args:
        name: of the sampler.
        objectives: names of the scores.
        or_else: what else can be done about it.
    """
    sampler = sampler_class(name)
    learns = sampler.startup is not None  # of the class: None says it never does
    if len(objectives) > 1 and learns and not sampler.multi_objective:
        capable = [other for other in SAMPLERS if sampler_class(other).multi_objective]
        raise ValueError(
            f"{name} optimises one objective, got {', '.join(objectives)}: use "
            f"{' or '.join(capable)}{or_else}"
        )
