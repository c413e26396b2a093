"""Ray Tune's search spaces as ours: domains of finitely many values, anywhere in a config."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.search.sample import Categorical, Domain, Float, Integer, Quantized
from ray.tune.search.variant_generator import assign_value, parse_spec_vars

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.errors import InvalidSpace
from raynas.core.listed_parameter import LISTABLE, ListedParameter

_EXPECTED = (
    "expected tune.choice, tune.grid_search, tune.randint or another of finitely many values"
)


@dataclass(frozen=True)
class TuneSpace:
    """An ``ArchSpace``, and how its architectures are written as configs of Tune's trials.

    Attributes:
        arch_space: what a sampler searches.
        parameters: of Tune's, by label; None where the space was no config: then a config has a
            value under each label.
        template: the config of Tune's, with domains where architectures differ.
    """

    arch_space: ArchSpace
    parameters: Mapping[str, tuple[tuple[Any, ...], ListedParameter]] | None = None
    template: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, space: Any) -> TuneSpace:
        """Return a space or a config with domains as a searcher needs it.

        Args:
            space: an ``ArchSpace``; or a config, whose labels are paths such as ``"model/width"``.

        Raises:
            TypeError: it is neither.
            InvalidSpace: a domain has no finite list of values, or there is no domain at all.
        """
        if isinstance(space, ArchSpace):
            return cls(space)
        if not isinstance(space, Mapping):
            hint = "; a model's is its arch_space" if hasattr(space, "arch_space") else ""
            kind = type(space).__name__
            raise TypeError(f"space: expected an ArchSpace or a dict of Tune's, got {kind}{hint}")
        _, domains, grids = parse_spec_vars(dict(space))
        parameters: dict[str, tuple[tuple[Any, ...], ListedParameter]] = {}
        for path, domain in sorted([*domains, *grids], key=lambda pair: list(map(str, pair[0]))):
            label = "/".join(map(str, path))
            if label in parameters:
                raise InvalidSpace(f"space: two domains are called {label!r}")
            parameters[label] = path, ListedParameter.of(label, _values(label, domain))
        if not parameters:
            raise InvalidSpace(f"space: {_EXPECTED} somewhere in it, got {dict(space)}")
        choices = tuple(parameter.choice for _, parameter in parameters.values())
        return cls(ArchSpace(choices), parameters, space)

    def config(self, arch: Arch) -> dict[str, Any]:
        """Return what a trial is given."""
        if self.parameters is None:
            return dict(arch)
        config = copy.deepcopy(dict(self.template or {}))
        for label, (path, parameter) in self.parameters.items():
            assign_value(config, path, parameter.value(arch[label]))
        return config

    def arch(self, config: Mapping[str, Any]) -> Arch:
        """Return the architecture of a trial's config.

        Raises:
            ValueError: the space does not hold it.
        """
        if self.parameters is None:
            labels = self.arch_space.decisions
            arch = Arch({label: value for label, value in config.items() if label in labels})
            self.arch_space.check(arch)
            return arch
        parameters = self.parameters.items()
        return Arch({label: p.option(_at(config, path, label)) for label, (path, p) in parameters})


def _at(config: Any, path: Sequence[Any], label: str) -> Any:
    for key in path:
        try:
            config = config[key]
        except (LookupError, TypeError):
            raise ValueError(f"a config has no {label!r}") from None
    return config


def _values(label: str, domain: Domain) -> Sequence[Any]:
    """Return all values of a domain, in order; that some are likelier is not kept."""
    values: Sequence[Any] | None = None
    if isinstance(domain, Categorical):
        values = domain.categories
        for value in values:
            _refuse_domains(label, value)
    elif isinstance(domain, Integer):
        values = _integers(domain)
    elif isinstance(domain, Float):
        values = _multiples(domain)
    if values is None:
        raise InvalidSpace(f"space: {label!r}: {_EXPECTED}, got {domain.domain_str}")
    if not 0 < len(values) <= LISTABLE:
        raise InvalidSpace(
            f"space: {label!r} has {len(values)} values, expected 1 to {LISTABLE}: list some "
            "(tune.choice) or take steps (tune.qrandint)"
        )
    return values


def _integers(domain: Integer) -> Sequence[int]:
    """Return a range without its upper end, or the multiples of a step with it."""
    sampler = domain.sampler
    step = int(sampler.q) if isinstance(sampler, Quantized) else 1
    if step == 1:
        return range(domain.lower, domain.upper)
    first, last = math.ceil(domain.lower / step), math.floor(domain.upper / step)
    return [number * step for number in range(first, last + 1)]


def _multiples(domain: Float) -> Sequence[float] | None:
    """Return the multiples of a step between two ends; None where these are not all there is."""
    low, high, sampler = domain.lower, domain.upper, domain.sampler
    if not isinstance(sampler, Quantized) or not math.isfinite(low) or not math.isfinite(high):
        return None
    step = sampler.q
    # an end that is a multiple but for rounding counts as one
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(number * step) for number in range(first, min(last, first + LISTABLE) + 1)]


def _refuse_domains(label: str, value: Any) -> None:
    """Raise InvalidSpace if an option is a config with domains of its own."""
    if isinstance(value, Domain) or (
        isinstance(value, dict | list | tuple) and any(map(len, parse_spec_vars({"": value})[1:]))
    ):
        raise InvalidSpace(
            f"space: {label!r}: an option has domains of its own; say it as an ArchSpace, whose "
            "options open further decisions"
        )
