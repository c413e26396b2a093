"""A choice between inputs: which of several tensors to go on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core.arch import Atom, Value
from raynas.core.checks import whole
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidSpace
from raynas.nn.choice import LayerChoice, one_label
from raynas.nn.labels import Labelled
from raynas.nn.logits import Logits, Probabilities, Rank
from raynas.nn.mutable import Memo, Mutable
from raynas.nn.reduction import Reduction, checked_reduction, mask_of, reduce

NO_KEY = ""
Inputs = Sequence[Any] | Mapping[str, Any]


class InputChoice(Mutable):
    """Picks some of several inputs and joins them.

    Options are the keys of ``choose_from`` where no two are equal, ``NO_KEY`` included; else
    indices.

    While a search by gradients trains a supernet, all inputs are read. Where each comes from a
    ``LayerChoice`` that ``choose_from`` names, they are joined as they are, and those with the
    largest single probability of a real candidate are picked, as DARTS picks the edges of a node.
    Else the choice has logits of its own: one input is picked as a candidate is, and of several
    the mixture is that many times as large as the softmax' (``mean``: as large).

    Differs: NNI's returns None where nothing is picked; ours returns zeros like the first input.
    NNI's DARTS weighs inputs of no layer choice 0, and picks all where ``n_chosen`` is None; ours
    learns logits, and refuses.

    Args:
        n_candidates: how many inputs there are.
        choose_from: in place of the number, the labels of earlier mutables whose outputs these
            are, ``NO_KEY`` for an input that is no mutable's.
        n_chosen: how many are picked; None picks any subset, the empty one included.
        reduction: of the picked: ``sum``, ``mean``, ``concat`` along dimension 1, or ``none`` for
            the list of them.
        return_mask: return (output, mask) with a boolean mask of shape (n_candidates,).
        key: another word for ``label``; a number is taken as text, after a warning.
        label: name of the decision; None takes the module's path in the model.

    Attributes:
        by_layers: whether inputs are ranked by the layer choices that they come from.
        edge_weights: as of a ``Cell``, a factor for each input by this choice's label.

    Raises:
        InvalidSpace: neither or contradicting numbers of inputs, more chosen than there are, or
            what is no whole number.
    """

    NO_KEY = NO_KEY
    by_layers = False
    edge_weights: Callable[[str], Sequence[Tensor] | None] | None = None

    def __init__(
        self,
        n_candidates: int | None = None,
        choose_from: Sequence[str] | None = None,
        n_chosen: int | None = None,
        reduction: str = "sum",
        return_mask: bool = False,
        key: str | int | None = None,
        *,
        label: str | None = None,
    ) -> None:
        super().__init__()
        self.label = one_label("InputChoice", label, key)
        where = f"InputChoice {self.label!r}" if self.label else "InputChoice"
        self.n_candidates = _count(n_candidates, choose_from, where)
        if n_chosen is not None:
            whole(where, "n_chosen", n_chosen, 1, self.n_candidates, "or None for any subset")
        self.n_chosen, self.return_mask = n_chosen, return_mask
        self.keys = None if choose_from is None else tuple(choose_from)
        self.reduction: Reduction = checked_reduction(reduction, where)
        named = self.keys is not None and len({*self.keys}) == self.n_candidates
        self.options: tuple[Atom, ...] = (
            tuple(self.keys or ()) if named else tuple(range(self.n_candidates))
        )
        self.route: tuple[int, ...] | Callable[..., Any] | None = None

    def extra_repr(self) -> str:
        """Return the label and what is picked from."""
        picks = "any" if self.n_chosen is None else self.n_chosen
        return f"label={self.label!r}, {picks} of {list(self.options)}"

    @property
    def choose_from(self) -> list[str]:
        """The keys of the inputs, ``NO_KEY`` for each that has none."""
        return [NO_KEY] * self.n_candidates if self.keys is None else list(self.keys)

    @property
    def references(self) -> tuple[str, ...]:
        """Labels of the mutables that must stand earlier in the model."""
        return tuple(key for key in self.keys or () if key != NO_KEY)

    def forward(self, inputs: Inputs) -> Any:
        """Join the picked inputs, given in a list or, with ``choose_from``, in a dict by key."""
        tensors = listed(inputs, self.keys, self.n_candidates, f"InputChoice {self.label!r}")
        route = self.route
        if isinstance(route, tuple):
            return _joined(tensors, route, self.reduction, self.return_mask)
        if not callable(route):
            raise RuntimeError(
                f"choice {self.label!r} has no inputs picked: call raynas.nn.activate(model, "
                "arch), or raynas.nn.freeze(model, arch) for a plain module"
            )
        mixed = route([_nth(at) for at in range(len(tensors))], *tensors)
        if not self.return_mask:
            return mixed
        return mixed, mask_of(len(tensors), range(len(tensors)), tensors[0].device)

    def choices(self) -> tuple[Decision, ...]:
        """Return the one decision: a Choice where one is picked, else a Subset."""
        if self.n_chosen == 1:
            return (Choice(str(self.label), self.options),)
        return (Subset(str(self.label), self.options, self.n_chosen),)

    def resolve(self, labelled: Mapping[str, Sequence[Labelled]]) -> None:
        """Note whether all inputs come from layer choices, which then rank these."""
        modules = [module for key in self.choose_from for module in labelled.get(key, (self,))]
        self.by_layers = all(isinstance(module, LayerChoice) for module in modules)
        for module in modules if self.ranked else ():
            assert isinstance(module, LayerChoice)
            module.prefers_none = False

    @property
    def ranked(self) -> bool:
        """Whether a search by gradients ranks the inputs without logits of this choice's own."""
        return (
            self.by_layers
            and self.n_chosen is not None
            and self.n_chosen < self.n_candidates
            and self.reduction in ("sum", "mean")
        )

    def logits(self) -> tuple[Logits, ...]:
        """Return a vector over the inputs, none where they are ranked, or all are picked."""
        count, where = self.n_chosen, f"InputChoice {self.label!r} cannot be relaxed"
        if count is None:
            raise InvalidSpace(
                f"{where}: it picks any number of its {self.n_candidates} inputs; give n_chosen, "
                "or search it with enas or a sampler"
            )
        if count == self.n_candidates or self.ranked:
            return ()
        if count > 1 and self.reduction in ("concat", "none"):
            raise InvalidSpace(
                f"{where}: reduction {self.reduction!r} of {count} inputs has another shape than "
                f"of all {self.n_candidates}; use 'sum' or 'mean', or search it with a sampler"
            )
        return (Logits(str(self.label), self.options, node=str(self.label), picks=count),)

    def derive(self, p: Probabilities, rank: Rank) -> dict[str, Value]:
        """Return the inputs of the largest probability, ties going to the first."""
        weights = p.get(str(self.label))
        if weights is None:  # all are picked
            weights = np.ones(self.n_candidates)
        if self.n_chosen == 1:
            return {str(self.label): self.options[int(np.argmax(weights))]}
        best = np.argsort(-weights, kind="stable")[: self.n_chosen]
        return {str(self.label): tuple(self.options[at] for at in sorted(best))}

    def picked(self, arch: Mapping[str, Value]) -> tuple[int, ...]:
        """Return the positions that ``arch`` picks."""
        value = arch[str(self.label)]
        values = value if isinstance(value, tuple) else (value,)
        return tuple(self.options.index(value) for value in values)

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let ``forward`` join the picked inputs."""
        self.edge_weights = None
        self.route = self.picked(arch)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return a module that joins the picked inputs."""
        return PickedInputs(self.picked(arch), self)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"edge_weights": None}


class _Nth(nn.Module):
    """Returns one of its inputs: what a mixture of inputs has for a candidate."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def forward(self, *inputs: Any) -> Any:
        """Return the input."""
        return inputs[self.at]


@cache  # whether a candidate writes into its inputs is found once for each module
def _nth(at: int) -> _Nth:
    return _Nth(at)


class PickedInputs(nn.Module):
    """What an ``InputChoice`` becomes once it is decided."""

    def __init__(self, picked: tuple[int, ...], choice: InputChoice) -> None:
        super().__init__()
        self.picked, self.keys, self.count = picked, choice.keys, choice.n_candidates
        self.reduction, self.return_mask = choice.reduction, choice.return_mask
        self.training = choice.training

    def forward(self, inputs: Inputs) -> Any:
        """Join the picked inputs."""
        tensors = listed(inputs, self.keys, self.count, "picked inputs")
        return _joined(tensors, self.picked, self.reduction, self.return_mask)


def listed(inputs: Inputs, keys: tuple[str, ...] | None, count: int, where: str) -> list[Any]:
    """Return the inputs in order.

    Raises:
        ValueError: another number of inputs, a key that is missing, or a dict without keys.
    """
    if isinstance(inputs, Mapping):
        if keys is None:
            raise ValueError(f"{where}: got a dict, which needs choose_from to give it an order")
        if missing := [key for key in keys if key not in inputs]:
            raise ValueError(f"{where}: no input has key {missing[0]!r}; got {sorted(inputs)}")
        return [inputs[key] for key in keys]
    if len(inputs) != count:
        raise ValueError(f"{where}: expected {count} inputs, got {len(inputs)}")
    return list(inputs)


def _joined(
    tensors: Sequence[Any], picked: tuple[int, ...], reduction: Reduction, return_mask: bool
) -> Any:
    kept = [tensors[at] for at in picked]
    if kept or reduction == "none":
        out = reduce(kept, reduction) if kept else []
    else:
        out = torch.zeros_like(tensors[0])
    return (out, mask_of(len(tensors), picked, tensors[0].device)) if return_mask else out


def _count(n_candidates: int | None, choose_from: Sequence[str] | None, where: str) -> int:
    if choose_from is not None:
        listed = isinstance(choose_from, list | tuple)
        if not listed or any(not isinstance(key, str) for key in choose_from):
            number: Any = choose_from
            hint = "; how many are picked is n_chosen=" if type(number) is int else ""
            raise InvalidSpace(
                f"{where}: choose_from is a list of labels, got {choose_from!r}{hint}"
            )
        named = len(choose_from)
        if n_candidates not in (None, named):
            raise InvalidSpace(
                f"{where}: n_candidates is {n_candidates!r}, but choose_from names {named}"
            )
        n_candidates = named
    if n_candidates is None or (choose_from is not None and not n_candidates):
        raise InvalidSpace(f"{where} needs at least one candidate input, got none")
    return whole(where, "n_candidates", n_candidates, 1)
