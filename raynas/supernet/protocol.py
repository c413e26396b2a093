"""The protocol between an algorithm that trains a supernet and the loop that lends it the means."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core.arch import Arch, Atom, Value
from raynas.core.capabilities import refuse_misspelt
from raynas.core.nest import Nest
from raynas.core.registry import Registry
from raynas.core.train_settings import TrainSettings
from raynas.supernet.distillation import Distills

if TYPE_CHECKING:
    from raynas.nn.modelspace import ModelSpace

Batch = tuple[Nest, Nest]  # inputs and targets
Metrics = dict[str, float | Tensor]
Distribution = dict[str, list[tuple[Atom, float]]]
Metric = str | Callable[[Any, Any], Any]  # a column of the task, or a function of its own


class Training(Protocol):
    """What the loop lends: it owns data, weights, weight optimizer, precision and ranks.

    Attributes:
        model: the supernet, unwrapped.
        optimizer: of the weights.
        epoch: from 0.
        step: from 0, over all epochs.
        inherited: whether the weights began as those of an earlier training.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int
    step: int
    inherited: bool

    @property
    def epochs(self) -> int:
        """How many epochs there will be."""
        ...

    @property
    def valid_steps(self) -> int:
        """How many batches the validation split holds, at least one."""
        ...

    @property
    def example(self) -> Nest:
        """The inputs of one training example, shape (1, ...)."""
        ...

    @property
    def steps(self) -> int:
        """How many steps there will be."""
        ...

    def reward(self, batch: Batch, metric: Metric | None = None) -> Tensor:
        """Return what the model is worth on a batch, shape (): the task's ``reward``.

        Args:
            batch: inputs and targets.
            metric: what it goes by in place of the task's objective: a column of the task, with or
                without ``:max`` or ``:min``, or a function of (outputs, targets) whose number is
                the reward itself.
        """
        ...

    def check_reward(self, metric: Metric | None) -> None:
        """Raise ValueError, naming the nearest, if the task measures no such metric."""
        ...

    def loss(
        self,
        batch: Batch,
        tensors: dict[str, Tensor] | None = None,
        *,
        smoothing: float | None = None,
        exact: bool = False,
        taught: Distills | None = None,
    ) -> Tensor:
        """Return the loss; with ``tensors``, of a model that has these instead.

        Args:
            batch: inputs and targets.
            tensors: by name, in place of the model's own.
            smoothing: of the labels; None takes the training's.
            exact: compute in float32 whatever the training's precision, for small differences.
            taught: what a teacher gives for the batch, which adds its part to the loss.
        """
        ...

    def outputs(self, net: nn.Module, batch: Batch) -> Any:
        """Return what a network of the task's outputs gives for a batch, without gradients."""
        ...

    def descend(self, loss: Tensor | Iterable[Tensor]) -> None:
        """Take one weight step: gradients afresh, averaged over ranks, clipped.

        Args:
            loss: shape (); or several, whose gradients are summed, not divided. Each goes backward
                before the next is asked for, so an iterator that computes them holds one graph.
        """
        ...

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the ranks."""
        ...

    def check(self, loss: Tensor) -> None:
        """Raise FloatingPointError, saying where, if a loss averaged over ranks is no number."""
        ...


ONE_PATH = ("index", "binary_gate", "uniform_gate")


class OneShot(ABC):
    """Trains a supernet and, if it learns one, a distribution over its architectures.

    Attributes:
        learns: whether it learns an architecture; the supernet of another is searched by a sampler.
        sampler: the registered one that does so where no other is named.
        defaults: fields of ``TrainSettings`` with which its paper trains weights.
        warmup_epochs: at first, which train weights alone.
        own_epochs: that its options ask for; None leaves that to the training's.
    """

    learns: ClassVar[bool] = True
    sampler: ClassVar[str] = "regularized_evolution"
    defaults: ClassVar[dict[str, Any]] = {}
    warmup_epochs: int = 0
    own_epochs: int | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        refuse_misspelt(cls.__name__, vars(cls), OneShot)

    @property
    def mixed_ops(self) -> tuple[str, ...]:
        """Names of the mixed operators that go with it; here, those that run one candidate."""
        return ONE_PATH

    def supernet_space(self, space: ModelSpace) -> ModelSpace:
        """Return the space that builds the supernet: of the same architectures, here the given one.

        It is asked before training, with the space's input shape known.

        Raises:
            InvalidSpace: the algorithm cannot make a supernet of the space.
        """
        return space

    def check(self, model: nn.Module, inputs: Nest) -> None:
        """Raise InvalidSpace where a supernet cannot be trained; asked before anything starts.

        Args:
            model: a supernet made for this question.
            inputs: an example of a batch.
        """
        return

    def check_settings(self, settings: TrainSettings) -> None:
        """Raise ValueError where weights cannot be trained so; asked before anything starts."""
        return

    @abstractmethod
    def attach(self, training: Training) -> None:
        """Take what the loop lends; called once, before the first step."""

    @abstractmethod
    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Do one step on a training batch; ``valid`` gives a batch only when asked."""

    @abstractmethod
    def epoch_end(self) -> Metrics:
        """Close an epoch; what is returned joins its row in the history."""

    def notes(self) -> list[str]:
        """Return lines on the epoch that ``epoch_end`` closed, for its row and the run's log."""
        return []

    def probes(self, rng: np.random.Generator) -> list[Arch]:
        """Return architectures that show how the training comes along; none takes random ones."""
        return []

    def batch_size(self, base: int) -> int:
        """Return the batch size of the coming epoch, here the base one."""
        return base

    @abstractmethod
    def lr_scale(self, step: int, steps: int) -> float:
        """Return by what the learning rate is multiplied at ``step``."""

    @abstractmethod
    def derive(self) -> dict[str, Value]:
        """Return the architecture that was found; raises LookupError if none is learned."""

    @abstractmethod
    def top_k(self, count: int) -> list[dict[str, Value]]:
        """Return that many architectures, the found one first; none where none is learned."""

    @abstractmethod
    def distribution(self) -> Distribution:
        """Return the probability of every option, by label; empty where none is learned."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return what must be kept to go on, besides weights and their optimizer."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave, after ``attach``."""


ONE_SHOTS: Registry[Callable[..., OneShot]] = Registry(
    "one-shot algorithm", "raynas.algorithms", group="raynas.one_shots", base=OneShot
)


def one_shot_class(name: str) -> type[OneShot]:
    """Return the class of a registered one-shot algorithm, which says what all of its kind can do.

    Raises:
        UnknownName: there is none of this name.
    """
    made: type[OneShot] = ONE_SHOTS.class_of(name)
    return made


def cosine(step: int, steps: int, warmup: float = 0.1) -> float:
    """Return a factor that rises linearly over the first share of steps, then falls as a cosine.

    >>> [round(cosine(step, 20), 2) for step in (0, 1, 2, 11, 19)]
    [0.5, 1.0, 1.0, 0.5, 0.01]
    """
    rise = int(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))
