"""A choice between layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from raynas.core.arch import Atom, Value
from raynas.core.decision import Choice, Decision
from raynas.core.errors import InvalidSpace
from raynas.nn.mutable import Memo, Mutable, _space, activate_unchecked, frozen

Route = int | Callable[..., Any] | None


class LayerChoice(Mutable):
    """Picks one of several layers, all of which take the same input.

    Args:
        candidates: layers by name, or a list of layers, whose decision is then an index.
        label: name of the decision; choices with equal labels decide together. None takes the
            module's path in the model.

    Raises:
        InvalidSpace: no candidates, one that is not a module, or a name that PyTorch cannot store.
    """

    def __init__(
        self,
        candidates: Mapping[str, nn.Module] | Iterable[nn.Module],
        label: str | None = None,
    ) -> None:
        super().__init__()
        self.label = label
        layers: dict[str, nn.Module] = (
            dict(candidates)
            if isinstance(candidates, Mapping)
            else {str(i): layer for i, layer in enumerate(candidates)}
        )
        _check_candidates(layers, label)
        self.candidates = nn.ModuleDict(layers)
        self.names = tuple(layers)
        self.options: tuple[Atom, ...] = (
            self.names if isinstance(candidates, Mapping) else tuple(range(len(layers)))
        )
        self.route: Route = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the active candidate, or mix them if a search is attached."""
        route = self.route
        if type(route) is int:
            return self.candidates[self.names[route]](*args, **kwargs)
        if not callable(route):
            raise RuntimeError(
                f"choice {self.label!r} has no active candidate: call raynas.nn.activate(model, "
                "arch), or raynas.nn.freeze(model, arch) for a plain module"
            )
        return route(self.layers(), *args, **kwargs)

    def layers(self) -> Sequence[nn.Module]:
        """Return the candidates in order."""
        return tuple(self.candidates.values())

    def choices(self) -> tuple[Decision, ...]:
        """Return the one decision, with the choices inside its candidates."""
        inner = {o: _space(m) for o, m in zip(self.options, self.layers(), strict=True)}
        opens = {option: space for option, space in inner.items() if space.choices}
        return (Choice(str(self.label), self.options, opens),)

    def picked(self, arch: Mapping[str, Value]) -> int:
        """Return the position of the candidate that ``arch`` picks."""
        return self.options.index(arch[str(self.label)])

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Route ``forward`` to the picked candidate, and its choices likewise."""
        self.route = self.picked(arch)
        activate_unchecked(self.layers()[self.route], arch)

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return a copy of the picked candidate, its own choices frozen."""
        return frozen(self.layers()[self.picked(arch)], arch, memo)


def _check_candidates(layers: Mapping[str, nn.Module], label: str | None) -> None:
    where = f"LayerChoice {label!r}" if label else "LayerChoice"
    if not layers:
        raise InvalidSpace(f"{where} needs at least one candidate, got none")
    taken = nn.ModuleDict()  # an instance: names such as 'training' are no attributes of the class
    for name, layer in layers.items():
        if not isinstance(layer, nn.Module):
            kind = type(layer).__name__
            raise InvalidSpace(f"{where}: candidate {name!r} must be an nn.Module, got a {kind}")
        if not isinstance(name, str) or not name or "." in name or hasattr(taken, name):
            raise InvalidSpace(
                f"{where}: candidate name {name!r} cannot be stored by PyTorch (empty, with a dot, "
                "or the name of a module's own attribute); rename it"
            )
