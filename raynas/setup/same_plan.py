"""Whether a converted model is the one that a folder was written with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.archspace import ArchSpace
from raynas.core.errors import InvalidArch, StoreMismatch
from raynas.core.model_names import is_model_name
from raynas.core.versions import MODELS, versions
from raynas.setup.resolve import GIVEN_MODELS

if TYPE_CHECKING:
    from raynas.core.arch import Arch
    from raynas.nn.modelspace import ModelSpace
    from raynas.setup.problem import Space

CHOICES = "choices"  # of a supernet's description: what its training drew from, by label


def check_same_plan(
    space: Space,
    where: str,
    digest: str | None,
    releases: Mapping[str, str],
    archs: Iterable[Arch] = (),
) -> None:
    """Raise StoreMismatch where a model is converted otherwise than when a run began.

    Args:
        space: of it, as it is converted now; one of no converted model passes.
        where: the run's folder.
        digest: of its choices and shapes of weights then; None where that was not written.
        releases: of packages then.
        archs: of the run; the first that the space does not hold says what is other.
    """
    if digest is None or not is_converted(space.model_space) or space.digest == digest:
        return
    difference = _first_refused(space.arch_space, archs)
    name = space.spec.name
    if not is_model_name(name):
        now = "the one that is given (space=)" if name in GIVEN_MODELS else f"{name} returns now"
        raise StoreMismatch(
            f"{where} is of another space than {now}: {difference}; expected the model and the "
            "arguments of raynas.elastic that it was run with"
        )
    here = versions()
    changed = [
        f"{package} {then} then, {here.get(package, 'none')} now"
        for package, then in releases.items()
        if package in (*MODELS, "raynas", "torch") and here.get(package) != then
    ]
    raise StoreMismatch(
        f"{name} is converted to other choices, or has other weights, than when the run "
        f"in {where} began: {difference} ({'; '.join(changed) or 'the same releases'}); name the "
        "same, with the releases that it was run with"
    )


def is_converted(space: ModelSpace | None) -> bool:
    """Return whether a space is of a model that exists already."""
    from raynas.nn.conversion.elastic_space import ElasticSpace

    return isinstance(space, ElasticSpace)


def _first_refused(space: ArchSpace, archs: Iterable[Arch]) -> str:
    for arch in archs:
        try:
            space.check(arch)
        except InvalidArch as error:
            return str(error)
    return "choices or shapes of weights differ"


def choices_of(space: Space) -> dict[str, Any]:
    """Return what a converted model's supernet is trained to be, for its description."""
    if not is_converted(space.model_space):
        return {}
    decisions = space.arch_space.decisions.values()
    return {CHOICES: {decision.label: list(decision.options) for decision in decisions}}


def check_trained_choices(space: Space, checkpoint: Path, path: str, *, same: bool = False) -> None:
    """Raise StoreMismatch where a trained supernet is asked for what its training never drew.

    Slices of one model's weights fit, whatever was trained. Fewer choices than then are well.

    Args:
        space: that is to be searched.
        checkpoint: of the supernet; releases before wrote no choices.
        path: how messages call it.
        same: whether its training is to go on, with neither more nor fewer choices.
    """
    from raynas.supernet.checkpoint import load_about

    there, here = load_about(checkpoint).get(CHOICES), choices_of(space).get(CHOICES)
    if not isinstance(there, dict) or here is None:
        return
    label = _first_beyond(here, there) or (_first_beyond(there, here) if same else None)
    if label is None:
        return
    advice = "search it without naming a space, or train one with these"
    if same:
        advice = "go on with the same, or choose another folder (out=, --out)"
    raise StoreMismatch(
        f"the supernet in {path} was trained with other choices: {label!r} chose among "
        f"{_listed(there.get(label))} then, and among {_listed(here.get(label))} now; {advice}"
    )


def _first_beyond(wanted: Mapping[str, list[Any]], held: Mapping[str, list[Any]]) -> str | None:
    """Return the first decision that has options which the other's lacks; None if all are held."""
    return next((k for k, options in wanted.items() if set(options) - set(held.get(k, []))), None)


def _listed(options: Iterable[Any] | None) -> str:
    return "nothing" if options is None else ", ".join(map(str, options))
