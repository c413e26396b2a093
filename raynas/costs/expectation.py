"""Expected costs: sums over the parts of a network, each times the probability that it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from raynas.core.errors import nearest
from raynas.costs.parts import Part, Path


@dataclass(frozen=True)
class Term:
    """An amount that is due whenever all conditions of a path hold."""

    path: Path
    amount: float


@dataclass(frozen=True)
class Vector:
    """What a label's probabilities are over.

    Attributes:
        length: number of options.
        none: position of the candidate that gives zeros and may be left out; None if there is none.
        needed: whether the vector must be given; else all its options are taken to be sure.
    """

    length: int
    none: int | None = None
    needed: bool = True


class Expectation:
    """A sum of products of probabilities, made ready for a handful of tensor operations.

    Args:
        vectors: what each label's probabilities are over.
        terms: by metric.
    """

    def __init__(self, vectors: Mapping[str, Vector], terms: Mapping[str, Iterable[Term]]) -> None:
        self.vectors = dict(vectors)
        starts, length = {}, 0
        for label, vector in self.vectors.items():
            starts[label] = length
            length += vector.length
        self._one = length  # stands behind all vectors
        self._compiled = {
            metric: self._compile(list(some), starts) for metric, some in terms.items()
        }
        self._placed: dict[tuple[str, torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def _compile(self, terms: list[Term], starts: Mapping[str, int]) -> tuple[Tensor, Tensor]:
        amounts: dict[Path, float] = {}
        for term in terms:
            path = tuple(sorted(term.path, key=lambda factor: (factor.label, factor.at)))
            amounts[path] = amounts.get(path, 0.0) + term.amount
        amounts = {path: amount for path, amount in amounts.items() if amount}
        depth = max(map(len, amounts), default=0)
        rows = [
            [starts[f.label] + f.at for f in path] + [self._one] * (depth - len(path))
            for path in amounts
        ]
        index_DT = torch.tensor(rows, dtype=torch.long).reshape(len(rows), depth).T.contiguous()
        return index_DT, torch.tensor(list(amounts.values()), dtype=torch.float64)

    def __call__(self, probabilities: Mapping[str, Tensor], metric: str) -> Tensor:
        """Return the expectation, a scalar that gradients go through.

        Raises:
            KeyError: no such metric.
            ValueError: a label has no vector, or one of another length.
        """
        if metric not in self._compiled:
            raise ValueError(f"no expected {metric!r}; {nearest(metric, self._compiled)}")
        like = next(iter(probabilities.values()), torch.ones((), dtype=torch.float64))
        p = torch.cat(
            [
                self._vector(label, vector, probabilities, like)
                for label, vector in self.vectors.items()
            ]
            + [like.new_ones(1)]
        )
        index_DT, amounts_T = self._at(metric, like)
        weights_T = torch.ones_like(amounts_T)
        for index_T in index_DT:
            weights_T = weights_T * p[index_T]
        return weights_T @ amounts_T

    def _at(self, metric: str, like: Tensor) -> tuple[Tensor, Tensor]:
        key = metric, like.device, like.dtype
        if key not in self._placed:
            index, amounts = self._compiled[metric]
            self._placed[key] = index.to(like.device), amounts.to(like.device, like.dtype)
        return self._placed[key]

    def _vector(
        self, label: str, vector: Vector, probabilities: Mapping[str, Tensor], like: Tensor
    ) -> Tensor:
        given = probabilities.get(label)
        if given is None:
            if vector.needed:
                raise ValueError(f"no probabilities for {label!r}; {nearest(label, probabilities)}")
            return like.new_ones(vector.length)
        if given.dim() == 1 and vector.none is not None and len(given) == vector.length - 1:
            before, after = given[: vector.none], given[vector.none :]
            return torch.cat([before, like.new_zeros(1), after])
        if given.shape != (vector.length,):
            raise ValueError(
                f"probabilities for {label!r}: expected shape ({vector.length},), got "
                f"{tuple(given.shape)}"
            )
        return given


def vectors_of(part: Part) -> dict[str, Vector]:
    """Return what the probabilities that a tree's expectation needs are over."""
    vectors: dict[str, Vector] = {}
    stack = [part]
    while stack:
        for switch in stack.pop().switches:
            rule = switch.rule
            for label, values in zip(rule.labels, rule.domains, strict=True):
                unpicked = [at for at, v in enumerate(values) if rule.gate and v not in rule.runs]
                vectors[label] = Vector(len(values), unpicked[0] if unpicked else None)
            if rule.gate is not None:
                needed = vectors.get(rule.gate.label, Vector(0, needed=False)).needed
                vectors[rule.gate.label] = Vector(len(rule.gate.sources), needed=needed)
            stack += switch.parts
    return vectors


def amounts_in(part: Part) -> list[Term]:
    """Return what adds up in a tree."""
    return [Term(path, inner.amount) for path, inner in part.walk()]


def params_in(part: Part) -> list[Term]:
    """Return the parameters in a tree; those of several parts count in each."""
    return [Term(path, sum(inner.params.values())) for path, inner in part.walk()]


def peaks_in(part: Part) -> list[Term]:
    """Return the bytes in a tree, of which the largest that is due counts."""
    return [Term(path, inner.peak_bytes) for path, inner in part.walk()]
