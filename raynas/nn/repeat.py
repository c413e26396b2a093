"""Elastic depth: the first so many of a row of blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.checks import whole
from raynas.core.decision import Choice, Decision
from raynas.core.errors import InvalidSpace
from raynas.nn.choice import one_label
from raynas.nn.expression import Expression, evaluate
from raynas.nn.logits import Logits, Probabilities, Rank
from raynas.nn.mutable import (
    Memo,
    Mutable,
    activate_unchecked,
    decide_together,
    derived,
    frozen,
    inner_space,
    logits_of,
    merged,
)
from raynas.nn.value import ValueChoice

DEPTHS = "or (smallest, largest) or a value choice of such, none below 0"
Blocks = nn.Module | Callable[[int], nn.Module] | Iterable[nn.Module]


class Repeat(Mutable):
    """Runs the first blocks of a row, as many as the architecture says.

    Args:
        blocks: a module, which is copied (choices in the copies decide together); a function of
            the index, whose choices are independent; or a list of modules.
        depth: how many run: a number, (smallest, largest), or a value choice or an expression of
            one. 0 blocks are the identity.
        label: name of the decision; None takes the module's path in the model.
        key: another word for ``label``.

    Raises:
        InvalidSpace: a negative or decreasing range, a depth or blocks of another form, or a list
            of fewer blocks than the depth.
    """

    holders = ("blocks",)

    def __init__(
        self,
        blocks: Blocks,
        depth: int | tuple[int, int] | Expression,
        label: str | None = None,
        *,
        key: str | None = None,
    ) -> None:
        super().__init__()
        self.label = one_label("Repeat", label, key)
        where = f"Repeat {self.label!r}" if self.label else "Repeat"
        self.depth = depth
        self.depths = _depths(depth, where)
        self.blocks = nn.ModuleList(_row(blocks, max(self.depths), where))
        self.route: int | Callable[..., Any] | None = None if self._leaf else self.depths[0]

    @property
    def _leaf(self) -> bool:
        return not isinstance(self.depth, int)

    def extra_repr(self) -> str:
        """Return the label and the depths."""
        if isinstance(self.depth, int | Expression):
            return f"label={self.label!r}, depth={self.depth!r}"
        return f"label={self.label!r}, depth={self.depths[0]} to {self.depths[-1]}"

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the first blocks one after the other; further arguments go to each."""
        if callable(self.route):
            return self.route(tuple(self.blocks), x, *args, **kwargs)
        if self.route is None:
            raise RuntimeError(
                f"choice {self.label!r} has no depth: call raynas.nn.activate(model, arch), or "
                "raynas.nn.freeze(model, arch) for a plain module"
            )
        for block in list(self.blocks)[: self.route]:
            x = block(x, *args, **kwargs)
        return x

    def name_values(self, path: str) -> None:
        """Label an unlabelled value choice that stands for the depth."""
        if isinstance(self.depth, Expression):
            self.depth.name(f"{path}.depth")

    def choices(self) -> tuple[Decision, ...]:
        """Return the depth's decision, whose options open the blocks that they run."""
        rows = [inner_space(block).choices for block in self.blocks]

        def first(depth: int) -> ArchSpace:
            return ArchSpace(merged(d for row in rows[:depth] for d in row))

        if isinstance(self.depth, int):
            return first(self.depth).choices
        if isinstance(self.depth, Expression):
            (leaf,) = self.depth.leaves()
            assert isinstance(leaf, ValueChoice)
            options, label = leaf.values, leaf.place
        else:
            options, label = self.depths, str(self.label)
        spaces = {o: first(self._depth_of({label: o})) for o in options}
        return (Choice(label, options, {o: s for o, s in spaces.items() if s.choices}),)

    def _depth_of(self, arch: Mapping[str, Value]) -> int:
        if isinstance(self.depth, int):
            return self.depth
        if isinstance(self.depth, Expression):
            return int(evaluate(self.depth, arch))
        depth = arch[str(self.label)]
        assert isinstance(depth, int)
        return depth

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Let ``forward`` run the first blocks, and their choices likewise."""
        self.route = depth = self._depth_of(arch)
        for block in list(self.blocks)[:depth]:
            activate_unchecked(block, arch)

    def picked(self, arch: Mapping[str, Value]) -> int:
        """Return how many blocks ``arch`` runs."""
        return self._depth_of(arch)

    def logits(self) -> tuple[Logits, ...]:
        """Return the vectors inside the blocks, if the depth is fixed."""
        if not isinstance(self.depth, int):
            return super().logits()
        return tuple(v for block in self.blocks for v in logits_of(block).values())

    def derive(self, p: Probabilities, rank: Rank) -> dict[str, Value]:
        """Return what is preferred inside the blocks."""
        return {k: v for block in self.blocks for k, v in derived(block, p, rank).items()}

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return the blocks that run, in a Sequential."""
        blocks = list(self.blocks)[: self._depth_of(arch)]
        row = Row(*(frozen(block, arch, memo) for block in blocks))
        row.training = self.training  # of the row alone: a block may be in another mode
        return row


class Row(nn.Sequential):
    """Blocks one after the other; further arguments go to each."""

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Run all blocks."""
        for block in self:
            x = block(x, *args, **kwargs)
        return x


def _depths(depth: int | tuple[int, int] | Expression, where: str) -> tuple[int, ...]:
    if isinstance(depth, Expression):
        leaves = depth.leaves()
        if len(leaves) != 1 or not isinstance(leaves[0], ValueChoice):
            raise InvalidSpace(f"{where}: depth must depend on exactly one value choice")
        depths = tuple(sorted(depth.options()))
    elif isinstance(depth, list | tuple) and len(depth) == 2 and {*map(type, depth)} == {int}:
        depths = tuple(range(depth[0], depth[1] + 1))
    else:
        depths = (whole(where, "depth", depth, 0, hint=DEPTHS),)
    if not depths or any(type(d) is not int or d < 0 for d in depths):
        raise InvalidSpace(f"{where}: depth is {depth!r}, expected a whole number {DEPTHS}")
    return depths


def _row(blocks: Blocks, count: int, where: str) -> list[nn.Module]:
    if isinstance(blocks, nn.Module):
        copies = [copy.deepcopy(blocks) for _ in range(count - 1)]
        for block in copies:
            decide_together(block, blocks)
        row: list[nn.Module] = [blocks, *copies][:count]
    elif isinstance(blocks, type):
        name = blocks.__name__
        raise InvalidSpace(
            f"{where}: blocks is the class {name}; pass an instance to copy, or a function of the "
            f"index such as lambda _: {name}(...)"
        )
    elif callable(blocks):
        row = [blocks(index) for index in range(count)]
    elif isinstance(blocks, Iterable):
        row = list(blocks)
    else:
        raise InvalidSpace(
            f"{where}: blocks must be a module, a function of the index, or a list of modules, got "
            f"{blocks!r}"
        )
    for index, block in enumerate(row):
        if not isinstance(block, nn.Module):
            kind = type(block).__name__
            raise InvalidSpace(f"{where}: block {index} must be an nn.Module, got a {kind}")
    if len(row) != count:
        raise InvalidSpace(f"{where}: expected {count} blocks for that depth, got {len(row)}")
    return row
