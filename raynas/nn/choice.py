"""A choice between layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, get_args

import numpy as np
import torch
from torch import nn

from raynas.core.arch import Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision
from raynas.core.errors import InvalidArch, InvalidSpace, nearest
from raynas.core.fixed import agreed, read_arch
from raynas.core.plain_values import as_lists, plain_value
from raynas.nn.candidates import Candidates, by_name, check_candidates, stored_names
from raynas.nn.logits import Logits, Probabilities, Rank
from raynas.nn.mutable import (
    SKIP,
    Memo,
    Mutable,
    activate_unchecked,
    derived,
    frozen,
    inner_space,
    logits_of,
    outermost,
)
from raynas.nn.reduction import Reduction, checked_reduction, mask_of
from raynas.nn.several import SeveralLayers, outputs

Route = int | tuple[int, ...] | Callable[..., Any] | None


class Wrapper(Protocol):
    """What a choice does around the candidate, or the mixture, that it runs."""

    def __call__(self, run: Callable[..., Any], *inputs: Any, **keywords: Any) -> Any:
        """Return the choice's output; ``run`` is called with a part of the inputs."""
        ...

    def fixed(self, layer: nn.Module) -> nn.Module:
        """Return a plain module that does so around one layer."""
        ...


class LayerChoice(Mutable):
    """Picks one of several layers, all of which take the same input.

    ``len(choice)``, ``choice[0]``, ``choice["name"]`` and iteration give its candidates. Until an
    architecture is active one may be exchanged, ``choice[0] = nn.SiLU()``, or deleted,
    ``del choice["name"]``. A fixed architecture, but no search, may run several of them, or none,
    whose output is None, as NNI's.

    Args:
        candidates: layers by name, or a list of layers, whose decision is then an index. A name is
            text, or what else an option may be, such as a kernel's size or None.
        label: name of the decision; choices with equal labels decide together. None takes the
            module's path in the model.
        positional: as NNI has them: ``LayerChoice(candidates, reduction, return_mask, key)``, where
            at least three are given; the second alone is the label.
        reduction: ``none`` returns a list of the one output; the other three (sum, mean, concat)
            return the output itself, since a single one is its own sum.
        return_mask: return (output, mask) with a boolean mask of shape (candidates,).
        key: another word for ``label``; a number is taken as text, after a warning.
        op_candidates: another word for ``candidates``.

    Raises:
        InvalidSpace: no candidates, one that is not a module, a name that PyTorch cannot store, or
            an unknown reduction.

    Attributes:
        wrapper: what is done around a candidate or a mixture; None runs it as it is.
        mixed_op: how a search by gradients is to combine the candidates, the name of a mixed
            operator or a spec of one; None leaves it to the algorithm.
        prefers_none: whether a search by gradients may prefer the candidate that gives zeros; it
            may not where an ``InputChoice`` leaves out what contributes least.
    """

    wrapper: Wrapper | None = None
    mixed_op: Any = None
    prefers_none = True
    picks_several = True

    def __init__(
        self,
        candidates: Candidates | None = None,
        label: str | None = None,
        *positional: Any,
        reduction: str = "sum",
        return_mask: bool = False,
        key: str | int | None = None,
        op_candidates: Candidates | None = None,
    ) -> None:
        super().__init__()
        if positional:
            reduction, return_mask, key = _as_nni(label, positional, key)
            label = None
        elif label in get_args(Reduction):
            _warn_of_label(label)
        if candidates is None:
            candidates = op_candidates
        self.label = one_label("LayerChoice", label, key)
        where = f"LayerChoice {self.label!r}" if self.label else "LayerChoice"
        named = isinstance(candidates, Mapping | nn.ModuleDict)
        given = by_name(candidates, where)
        layers = dict(zip(stored_names(given, where), given.values(), strict=True))
        check_candidates(layers, where)
        self.candidates = nn.ModuleDict(layers)
        self.names = tuple(layers)
        own: Iterable[Any] = given if named else range(len(given))
        self.options: tuple[Atom, ...] = tuple(map(plain_value, own))
        self.named = named
        self.reduction = checked_reduction(reduction, where)
        self.return_mask = return_mask
        self.route: Route = None

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.candidates.values())

    def __getitem__(self, at: int | str) -> nn.Module:
        """Return a candidate by its position or name."""
        if not isinstance(at, str):
            return self.layers()[at]
        if at not in self.names:
            raise KeyError(f"{self.label!r} has no candidate {at!r}; {nearest(at, self.names)}")
        return self.candidates[at]

    def __setitem__(self, at: int | str, layer: nn.Module) -> None:
        """Exchange a candidate, which keeps its name and option.

        Raises:
            InvalidSpace: it is no module.
            RuntimeError: an architecture is active.
        """
        name = self._changed_name(at)
        check_candidates({name: layer}, f"LayerChoice {self.label!r}")
        self.candidates[name] = layer

    def __delitem__(self, at: int | str) -> None:
        """Delete a candidate; label, names and options stay, but those of a list are counted anew.

        Raises:
            InvalidSpace: it is the last one.
            RuntimeError: an architecture is active.
        """
        gone = self.names.index(self._changed_name(at))
        if len(self) == 1:
            raise InvalidSpace(f"LayerChoice {self.label!r} keeps one candidate at least")
        left = [k for k in range(len(self)) if k != gone]
        layers = [self.layers()[k] for k in left]
        self.options = tuple(self.options[k] if self.named else i for i, k in enumerate(left))
        self.names = tuple(self.names[k] for k in left) if self.named else self.names[:-1]
        self.candidates = nn.ModuleDict(dict(zip(self.names, layers, strict=True)))

    def _changed_name(self, at: int | str) -> str:
        """Return the name of a candidate that is to be changed; raise where that is too late."""
        if not isinstance(at, int | str):
            raise TypeError(f"{self.label!r}: expected a candidate's position or name, got {at!r}")
        if self.route is not None:
            raise RuntimeError(
                f"choice {self.label!r} runs an architecture or a search: change its candidates "
                "before, or build the model anew"
            )
        if isinstance(at, int):
            name: str = self.names[at]
            return name
        self[at]  # names the nearest
        return at

    @property
    def plain(self) -> bool:
        """Whether ``forward`` returns just what a candidate returns."""
        return self.reduction != "none" and not self.return_mask

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the active candidate, or mix them if a search is attached."""
        route = self.route
        if type(route) is int and route >= 0:
            run: Callable[..., Any] = self.runner(route)
            picked: Sequence[int] = (route,)
        elif type(route) is tuple:
            return self._several(route, *args, **kwargs)
        elif callable(route):
            run, picked = partial(route, self.layers()), range(len(self.names))
        else:
            raise RuntimeError(
                f"choice {self.label!r} has no active candidate: call raynas.nn.activate(model, "
                "arch), or raynas.nn.freeze(model, arch) for a plain module"
            )
        out = run(*args, **kwargs) if self.wrapper is None else self.wrapper(run, *args, **kwargs)
        if self.plain:
            return out
        mask = self._mask(picked)
        if mask is not None and isinstance(out, torch.Tensor):
            mask = mask.to(out.device)
        return _dressed(out, self.reduction, mask)

    def _several(self, route: tuple[int, ...], *args: Any, **kwargs: Any) -> Any:
        out = outputs([self.runner(at) for at in route], self.reduction, *args, **kwargs)
        mask = self._mask(route)
        return out if mask is None else (out, mask)

    def runner(self, route: int) -> Callable[..., Any]:
        """Return what runs one candidate, given its position."""
        return self.candidates[self.names[route]]

    def _mask(self, picked: Sequence[int]) -> torch.Tensor | None:
        return mask_of(len(self.names), picked) if self.return_mask else None

    def extra_repr(self) -> str:
        """Return what stands beside the candidates when the module is printed."""
        return f"label={self.label!r}"

    def layers(self) -> Sequence[nn.Module]:
        """Return the candidates in order."""
        return tuple(self.candidates.values())

    def choices(self) -> tuple[Decision, ...]:
        """Return the one decision, with the choices inside its candidates."""
        inner = {o: inner_space(m) for o, m in zip(self.options, self.layers(), strict=True)}
        opens = {option: space for option, space in inner.items() if space.choices}
        return (Choice(str(self.label), self.options, opens),)

    def picked(self, arch: Mapping[str, Value]) -> int:
        """Return the position of the candidate that ``arch`` picks, SKIP if it is not reached."""
        label = str(self.label)
        return self.options.index(arch[label]) if label in arch else SKIP

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Route ``forward`` to the picked candidate, and its choices likewise."""
        several = self._positions(arch)
        if several is not None:
            self.route = several
            for at in several:
                activate_unchecked(self.layers()[at], arch)
            return
        self.route = at = self.picked(arch)
        if at != SKIP:
            activate_unchecked(self.layers()[at], arch)

    def _positions(self, arch: Mapping[str, Value]) -> tuple[int, ...] | None:
        """Return what runs where ``arch`` picks none, or several; None where it picks one."""
        value = arch.get(str(self.label))
        if not isinstance(value, tuple) or value in self.options:
            return None
        return tuple(self.options.index(option) for option in value)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return a copy of the picked candidate, its own choices frozen."""
        several = self._positions(arch)
        if several is not None:
            layers = {self.names[at]: frozen(self.layers()[at], arch, memo) for at in several}
            together = SeveralLayers(layers, self.reduction, self._mask(several))
            together.training = self.training
            return together
        at = self.picked(arch)
        layer = frozen(self.layers()[at], arch, memo)
        if self.wrapper is not None:
            layer = self.wrapper.fixed(layer)
            layer.training = self.training
        if self.plain:
            return layer
        dressed = Dressed(layer, self.reduction, self._mask((at,)))
        dressed.training = self.training
        return dressed

    @property
    def none(self) -> int | None:
        """The position of the candidate that gives zeros, None if there is none."""
        at = [i for i, layer in enumerate(self.layers()) if getattr(layer, "is_none", False)]
        return at[0] if at else None

    def logits(self) -> tuple[Logits, ...]:
        """Return a vector over the candidates, and what stands inside them."""
        label = str(self.label)
        own = Logits(label, self.options, self.none, node=label, picks_none=self.prefers_none)
        return (own, *self.inner_logits())

    def inner_logits(self) -> tuple[Logits, ...]:
        """Return the vectors of choices inside the candidates."""
        return tuple(v for layer in self.layers() for v in logits_of(layer).values())

    def derive(self, p: Probabilities, rank: Rank) -> dict[str, Value]:
        """Return the candidate of the largest probability, and what is preferred inside it."""
        weights, none = p[str(self.label)], self.none
        if none is not None and not self.prefers_none and len(self.names) > 1:
            weights = weights.copy()
            weights[none] = -np.inf
        at = int(np.argmax(weights))
        return {str(self.label): self.options[at], **derived(self.layers()[at], p, rank)}

    def describe(self, arch: Mapping[str, Value]) -> Any:
        """Return ``[name]``, with the descriptions of the candidate's own choices behind."""
        at = self.picked(arch)
        inner = [mutable.describe(arch) for mutable in outermost(self.layers()[at])]
        return [as_lists(self.options[at]), *([inner] if inner else [])]

    def parsed(self, description: Any) -> dict[str, Value]:
        """Read what ``describe`` wrote; a bare name or index will do where nothing is nested."""
        bare = not isinstance(description, list | tuple) or plain_value(description) in self.options
        listed = [description] if bare else description
        if not 1 <= len(listed) <= 2:
            raise InvalidArch(f"{self.label!r}: expected [candidate], got {description!r}")
        label = str(self.label)
        own = ArchSpace((Choice(label, self.options),))
        picked = dict(read_arch(own, {label: listed[0]}))
        at = self.options.index(picked[label])
        places = list(outermost(self.layers()[at]))
        inner = listed[1] if len(listed) == 2 else []
        if not isinstance(inner, list | tuple) or len(inner) != len(places):
            raise InvalidArch(
                f"{label!r}: candidate {listed[0]!r} has {len(places)} choices of its own, got "
                f"{inner!r} for them"
            )
        pairs = zip(places, inner, strict=True)
        return agreed([picked, *(place.parsed(part) for place, part in pairs)])


class Dressed(nn.Module):
    """A picked layer whose output is returned in a list, with a mask, or both."""

    def __init__(self, layer: nn.Module, reduction: str, mask: torch.Tensor | None) -> None:
        super().__init__()
        self.layer, self.reduction = layer, reduction
        self.mask: torch.Tensor | None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the layer's output, dressed."""
        return _dressed(self.layer(*args, **kwargs), self.reduction, self.mask)


def _dressed(out: Any, reduction: str, mask: torch.Tensor | None) -> Any:
    listed = [out] if reduction == "none" else out
    return listed if mask is None else (listed, mask)


def _as_nni(reduction: Any, more: Sequence[Any], key: Any) -> tuple[Any, Any, Any]:
    """Return reduction, return_mask and key, given by position as NNI has them.

    Raises:
        TypeError: too many, or the key is given twice.
    """
    if len(more) > 2 or (len(more) == 2 and key is not None):
        raise TypeError(
            "LayerChoice(candidates, reduction, return_mask, key) takes four arguments by position "
            f"at most, got {2 + len(more)}" + ("" if key is None else " and key= besides")
        )
    return reduction, more[0], more[1] if len(more) == 2 else key


def _warn_of_label(label: str | None) -> None:
    text = (
        f"LayerChoice(candidates, {label!r}): the second argument is the label, and choices of one "
        f"label decide together; write reduction={label!r}, or label={label!r}"
    )
    warnings.warn(text, UserWarning, stacklevel=3)


def one_label(kind: str, label: str | None, key: str | int | None) -> str | None:
    """Return the label, which may be given as a key; raise InvalidSpace if both differ.

    A key that is a number is taken as text, after a warning.
    """
    if type(key) is int:
        text = f"{kind}: key {key} is no text; it is taken as {str(key)!r}"
        warnings.warn(text, UserWarning, stacklevel=3)
        key = str(key)
    if label is not None and key is not None and label != key:
        raise InvalidSpace(f"{kind}: label {label!r} and key {key!r} mean the same; give one")
    own: Any = label if key is None else key
    if own is not None and (not isinstance(own, str) or not own):
        raise InvalidSpace(f"{kind}: a label is a non-empty string, got {own!r}")
    named: str | None = own
    return named
