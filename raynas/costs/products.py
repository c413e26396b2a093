"""Costs that are sums of products of whole numbers, each of which one decision sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from raynas.core.arch import Value
from raynas.core.decision import Decision
from raynas.costs.expectation import Term
from raynas.costs.parts import Factor, Path, joined


@dataclass(frozen=True)
class Variable:
    """A whole number of at least 0 that one decision sets.

    Attributes:
        label: of the decision.
        values: by option.
        whole: where the decision is not reached.
    """

    label: str
    values: Mapping[Value, int]
    whole: int


@dataclass(frozen=True)
class Form:
    """A constant, and so many times each of several variables.

    Attributes:
        constant: what is there anyway.
        weights: positions of variables, and how often each counts.
    """

    constant: int
    weights: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Product:
    """A product of forms, times a factor."""

    factor: int
    forms: tuple[Form, ...]


class Values:
    """What all variables are under an architecture, as a vector that begins with 1.

    Args:
        variables: by position.
    """

    def __init__(self, variables: Sequence[Variable]) -> None:
        self.variables = tuple(variables)
        self._read = [(v.label, {**v.values, None: v.whole}) for v in variables]

    def at(self, arch: Mapping[str, Value]) -> NDArray[np.float64]:
        """Return the vector, shape (1 + variables,)."""
        get = arch.get
        return np.array([1.0, *[values[get(label)] for label, values in self._read]])


class Sums:
    """Several sums of products, made ready for a handful of operations on arrays.

    Whole numbers below 2**53 are exact.

    Args:
        products: that add up, by the name of the sum.
        variables: how many there are.
    """

    def __init__(self, products: Mapping[str, Sequence[Product]], variables: int) -> None:
        self.products = {name: tuple(some) for name, some in products.items()}
        every = [each for some in self.products.values() for each in some]
        forms = {Form(1): 0}
        for each in every:
            for form in each.forms:
                forms.setdefault(form, len(forms))
        self._forms = matrix_of(forms, variables)
        depth = max((len(each.forms) for each in every), default=0)
        rows = [[forms[form] for form in each.forms] for each in every]
        padded = [[*row, *[0] * (depth - len(row))] for row in rows]
        self._columns = np.array(padded, dtype=np.intp).reshape(len(padded), depth).T.copy()
        self._factors = np.zeros((len(products), len(every)))
        at = 0
        for row, some in zip(self._factors, self.products.values(), strict=True):
            row[at : at + len(some)] = [each.factor for each in some]
            at += len(some)

    def at(self, values: NDArray[np.float64]) -> list[int]:
        """Return the sums, in the order of their names, under what ``Values`` gives."""
        forms = self._forms @ values
        parts = np.ones(self._factors.shape[1])
        for column in self._columns:
            parts *= forms[column]
        return [int(each) for each in self._factors @ parts]


class Largest:
    """The largest of several forms, those left out that never are.

    Args:
        forms: that are compared.
        variables: of them.
    """

    def __init__(self, forms: Iterable[Form], variables: Sequence[Variable]) -> None:
        distinct = matrix_of(dict.fromkeys(forms), len(variables))
        low = np.array([1.0, *(min(v.values.values()) for v in variables)])
        high = np.array([1.0, *(max(v.values.values()) for v in variables)])
        order = np.argsort(-(distinct @ high), kind="stable")
        kept: list[NDArray[np.float64]] = []
        for row in distinct[order]:
            if kept:
                above = np.array(kept) - row
                least = np.where(above > 0, above * low, above * high).sum(1)
                if bool((least >= 0).any()):
                    continue
            kept.append(row)
        self._rows = np.array(kept).reshape(len(kept), len(variables) + 1)

    def at(self, values: NDArray[np.float64]) -> int:
        """Return the largest under what ``Values`` gives; 0 without forms."""
        return int((self._rows @ values).max(initial=0.0))


def matrix_of(forms: Iterable[Form], variables: int) -> NDArray[np.float64]:
    """Return forms as rows of coefficients, shape (forms, 1 + variables)."""
    listed = list(forms)
    matrix = np.zeros((len(listed), 1 + variables))
    for row, form in zip(matrix, listed, strict=True):
        row[0] = form.constant
        for at, weight in form.weights:
            row[1 + at] += weight
    return matrix


def terms_of(
    products: Iterable[Product],
    variables: Sequence[Variable],
    decisions: Mapping[str, Decision],
    above: Mapping[str, Path],
) -> list[Term]:
    """Return products as amounts that are due under options of the decisions.

    Args:
        products: that add up.
        variables: of their forms.
        decisions: by label.
        above: by label, what has to be picked for the decision to be reached.
    """
    amounts: dict[tuple[int, ...], float] = {}
    for each in products:
        for factor, picked in _expanded(each.factor, each.forms):
            amounts[picked] = amounts.get(picked, 0.0) + factor
    terms: dict[Path, float] = {}
    for picked, amount in amounts.items():
        for path, value in _under([variables[at] for at in picked], decisions, above):
            if value:
                terms[path] = terms.get(path, 0.0) + amount * value
    return [Term(path, amount) for path, amount in terms.items()]


def _expanded(factor: int, forms: Sequence[Form]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield a product as a sum of products of variables."""
    parts = [((None, form.constant), *form.weights) for form in forms]
    for picks in product(*parts):
        weight = factor
        for _, times in picks:
            weight *= times
        if weight:
            yield weight, tuple(sorted(at for at, _ in picks if at is not None))


def _under(
    variables: Sequence[Variable], decisions: Mapping[str, Decision], above: Mapping[str, Path]
) -> Iterator[tuple[Path, int]]:
    """Yield, for every choice of the variables' options, its conditions and their product."""
    labels = list(dict.fromkeys(variable.label for variable in variables))
    for options in product(*(list(enumerate(decisions[label].options)) for label in labels)):
        path: Path | None = ()
        for label, (at, option) in zip(labels, options, strict=True):
            conditions = (*above[label], Factor(label, at, option))
            path = None if path is None else joined(path, conditions)
        if path is not None:
            taken = dict(zip(labels, (option for _, option in options), strict=True))
            value = 1
            for variable in variables:
                value *= variable.values[taken[variable.label]]
            yield tuple(sorted(path)), value
