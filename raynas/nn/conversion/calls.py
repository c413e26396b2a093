"""Which modules run when, what they are given and return, and which tensors are added up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from raynas.nn.conversion.operation import tensors_in


@dataclass(frozen=True)
class Noted:
    """A tensor that was seen: its number, its shape, and its labels then."""

    number: int
    shape: tuple[int, ...]
    labels: Tensor | None


@dataclass
class ModuleCall:
    """One call of a module.

    Attributes:
        path: of the module.
        given: of its first tensor, the number and the labels; None without one.
        made: likewise of what it returned.
        structure: how that stands in what it returned (``structure_of``).
        adds: numbers of tensors that were added to others while it ran.
    """

    path: str
    given: Noted | None
    made: Noted | None = None
    structure: int | None = None
    adds: list[int] = field(default_factory=list)


class Calls(ABC):
    """Watches the modules of a model while it runs.

    Attributes:
        calls: of modules, in the order in which they ended.
        through: from a tensor's number to that of the one that it was made of, channel by channel.
        added: numbers of tensors that were added to others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[ModuleCall] = []
        self.through: dict[int, int] = {}
        self.added: set[int] = set()
        self._open: list[ModuleCall] = []

    @abstractmethod
    def number(self, tensor: Tensor) -> int:
        """Return the number of a tensor, by which it is known when it is gone."""

    @abstractmethod
    def of(self, tensor: Any) -> Tensor | None:
        """Return a tensor's labels, None if it has none."""

    @property
    def scope(self) -> str:
        """Path of the module that runs."""
        return self._open[-1].path if self._open else ""

    @property
    def scopes(self) -> tuple[str, ...]:
        """Paths of the modules that run, the outermost first."""
        return tuple(entry.path for entry in self._open)

    def passes(self, out: Any, source: Any) -> None:
        """Note that a tensor is made of another channel by channel, whose addition is its own."""
        if isinstance(out, Tensor) and isinstance(source, Tensor):
            made, given = self.number(out), self.number(source)
            if made != given:
                self.through[made] = given

    def add(self, *operands: Any) -> None:
        """Note that tensors were added up."""
        numbers = [self.number(operand) for operand in operands if isinstance(operand, Tensor)]
        if len(numbers) > 1:
            for number in numbers:
                for source in self.sources(number):
                    self.added.add(source)
                    for entry in self._open:
                        entry.adds.append(source)

    def sources(self, number: int) -> Iterator[int]:
        """Yield a tensor's number and those of the tensors that it was made of."""
        yield number
        while number in self.through:
            number = self.through[number]
            yield number

    @contextmanager
    def watched(self, model: nn.Module) -> Iterator[None]:
        """Note the calls of a model's modules for a while."""
        with ExitStack() as undo:
            for path, module in model.named_modules():
                before = partial(self._before, path)
                undo.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                undo.callback(module.register_forward_hook(self.closed).remove)
            yield

    def _before(self, path: str, _module: nn.Module, args: Any, kwargs: Any) -> None:
        self.opened(path, args, kwargs)

    def opened(self, path: str, args: Any, kwargs: Any) -> None:
        """Note that a module's call begins."""
        tensors = [*tensors_in(args), *tensors_in(kwargs)]
        floating = [x for x in tensors if x.is_floating_point()] or tensors
        self._open.append(ModuleCall(path, self._noted(floating[0]) if floating else None))

    def closed(self, _module: nn.Module, _args: Any, out: Any) -> None:
        """Note that the call of a module ends."""
        ended = self._open.pop()
        tensor = next(tensors_in(out), None)
        if tensor is not None:
            ended.made, ended.structure = self._noted(tensor), structure_of(out)
        self.calls.append(ended)

    def _noted(self, tensor: Tensor) -> Noted:
        return Noted(self.number(tensor), tuple(tensor.shape), self.of(tensor))


def structure_of(out: Any) -> int | None:
    """Return how a module's first tensor stands in what it returns.

    -1 where it is alone, else how many entries follow it in a tuple; None if it stands otherwise.
    """
    if isinstance(out, Tensor):
        return -1
    if type(out) in (tuple, list) and out and isinstance(out[0], Tensor):
        return len(out) - 1
    return None
