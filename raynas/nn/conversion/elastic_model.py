"""A model that became elastic: its modules, weights and code are its own, cut as they are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import nn

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision
from raynas.core.errors import InvalidSpace
from raynas.nn.conversion.converted import CUTS, SWITCHES, converted
from raynas.nn.conversion.plain_copy import plain_copy
from raynas.nn.conversion.plan import Plan
from raynas.nn.conversion.readers import readers_of
from raynas.nn.conversion.switches import CutAttributes, Switches
from raynas.nn.labels import Labelled
from raynas.nn.mutable import Memo, Mutable


class ElasticModel(Mutable):
    """The root of an elastic model.

    Attributes:
        plan: what is elastic.
    """

    holders = ()
    plan: Plan

    @property
    def own_space(self) -> ArchSpace:  # type: ignore[override]
        """The plan's space."""
        return self.plan.space

    def choices(self) -> tuple[Decision, ...]:
        """Return the plan's decisions."""
        return self.plan.decisions

    @property
    def route(self) -> Any:
        """The active architecture; None is the whole model."""
        return vars(self).get("_active")

    @route.setter
    def route(self, arch: Mapping[str, Value] | None) -> None:
        held = vars(self)
        if SWITCHES not in held:  # in a copy
            held[SWITCHES] = Switches(readers_of(self, self.plan), self.plan)
        held["_active"] = arch
        held[SWITCHES](arch or {})

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let ``forward`` run with the architecture's part of every weight."""
        self.route = arch

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return a plain model of the original's classes, with its share of the weights."""
        before = self.route
        self.route = arch
        try:
            return plain_copy(self, self.plan, arch, memo)
        finally:
            self.route = before


def attach(model: nn.Module, plan: Plan) -> nn.Module:
    """Make a model elastic in place; its whole is active.

    Raises:
        InvalidSpace: the model's class uses a name for something else that a supernet needs.
    """
    taken = (set(vars(Mutable)) | set(vars(Labelled))) & _names(type(model))
    if taken:
        raise InvalidSpace(
            f"{type(model).__name__} has {', '.join(sorted(taken))} of its own, which the supernet "
            "of a converted model needs: wrap it in a module that calls it"
        )
    readers = readers_of(model, plan)
    names: dict[nn.Module, set[str]] = defaultdict(set, {model: set()})
    for reader in readers:
        names[reader.module].add(reader.name)
    for module, own in names.items():
        vars(module)[CUTS] = CutAttributes()
        root = ElasticModel if module is model else None
        module.__class__ = converted(type(module), frozenset(own), root)
    whole: Any = model
    whole.plan = plan
    vars(whole)[SWITCHES] = Switches(readers, plan)
    whole.route = None
    return model


def _names(kind: type[nn.Module]) -> set[str]:
    """Return the public attributes that classes above ``nn.Module`` define."""
    own = {name for base in kind.__mro__ for name in vars(base) if base not in nn.Module.__mro__}
    return {name for name in own if not name.startswith("_")}
