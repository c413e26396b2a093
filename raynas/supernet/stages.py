"""Models whose forward pass is a chain of modules, and where a chain may be cut.

A chain says so by a method ``stages()``: it returns the modules as (name, module), in the order
that they run. Running them one after the other must be all that ``forward`` does, and a stage may
depend on the architecture through the mutables inside it only. An ``nn.Sequential`` needs no such
method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from raynas.core.arch import Value
from raynas.core.errors import InvalidSpace
from raynas.nn.mutable import Mutable, inner_space

Stage = tuple[str, nn.Module]


def stages_of(model: nn.Module, name: str = "") -> list[Stage]:
    """Return the modules that a model runs in order, itself if it is no chain.

    Args:
        model: whose stages are looked up, and those of its stages in turn.
        name: of the model, before those of its stages.

    Raises:
        InvalidSpace: ``stages()`` returns something else than (name, module) pairs.
    """
    parts = _parts(model)
    if parts is None:
        return [(name, model)]
    return [
        stage for part, module in parts for stage in stages_of(module, f"{name}.{part}".strip("."))
    ]


def offers_stages(model: nn.Module) -> bool:
    """Return whether a model has a method ``stages``; a child of that name is none."""
    offered = getattr(model, "stages", None)
    return callable(offered) and not isinstance(offered, nn.Module)


def _parts(model: nn.Module) -> Iterable[Stage] | None:
    hooked = model._forward_hooks or model._forward_pre_hooks or "forward" in vars(model)
    if isinstance(model, Mutable) or hooked:
        return None
    if offers_stages(model):
        return _checked(model, model.stages())  # type: ignore[operator]
    if type(model).forward is nn.Sequential.forward:
        return model._modules.items()  # type: ignore[return-value]
    return None


def _checked(model: nn.Module, parts: object) -> list[Stage]:
    checked: list[Stage] = []
    for part in parts if isinstance(parts, Iterable) else [parts]:
        match part:
            case (str(name), nn.Module() as module):
                checked.append((name, module))
            case _:
                raise InvalidSpace(
                    f"{type(model).__name__}.stages(): expected (name, module) pairs in the order "
                    f"that they run, got {part!r}"
                )
    return checked


@dataclass(frozen=True)
class Span:
    """Consecutive stages; the first of them brings decisions that no earlier span has.

    Attributes:
        modules: that run one after the other.
        labels: of the decisions that it brings.
    """

    modules: tuple[nn.Module, ...]
    labels: tuple[str, ...] = ()

    def key(self, arch: Mapping[str, Value]) -> str:
        """Return its decisions; 1, 1.0 and True are different ones."""
        return repr([arch.get(label) for label in self.labels])


def spans_of(model: nn.Module) -> list[Span]:
    """Return a chain cut before each stage that brings decisions, the whole model if it is none.

    A decision that no stage holds counts as the first one's.

    Args:
        model: with labels.
    """
    spans: list[Span] = []
    known: set[str] = set()
    for _, module in stages_of(model):
        brought = tuple(label for label in inner_space(module).labels if label not in known)
        known.update(brought)
        if brought or not spans:
            spans.append(Span((module,), brought))
        else:
            spans[-1] = replace(spans[-1], modules=(*spans[-1].modules, module))
    stray = tuple(label for label in inner_space(model).labels if label not in known)
    return [replace(spans[0], labels=(*spans[0].labels, *stray)), *spans[1:]]
