"""Learning from a teacher's outputs besides the targets (Hinton et al., 2015, arXiv:1503.02531)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.nest import Nest, call, mapped
from raynas.core.train_settings import TrainSettings
from raynas.tasks import Task


class Distills(Protocol):
    """What adds a teacher's part to the loss of a batch.

    Attributes:
        parts: of the losses that were asked for, detached.
    """

    @property
    def parts(self) -> list[Tensor]:
        """The parts so far."""
        ...

    def loss(self, task: Task, out: Any) -> Tensor:
        """Return the part of the loss for what a student returns."""
        ...


@dataclass(frozen=True)
class Taught:
    """What a teacher gives for a batch.

    Where the task's outputs are logits of classes the loss is the cross-entropy between both
    softmax distributions at a temperature T, times T squared; of other outputs the squared error.

    Attributes:
        output: the teacher's, as the task takes it.
        weight: of the loss.
        temperature: by which logits are divided.
        parts: of the losses that were asked for, detached.
    """

    output: Any
    weight: float = 1.0
    temperature: float = 1.0
    parts: list[Tensor] = field(default_factory=list, compare=False, repr=False)

    def loss(self, task: Task, out: Any) -> Tensor:
        """Return the part of the loss that a teacher adds.

        Args:
            task: whose outputs both give.
            out: what the student returns.

        Raises:
            ValueError: the outputs are of different shapes.
            TypeError: what is learned of them is no lone tensor.
        """
        output, taught = task.distilled(task.output(out)), task.distilled(self.output)
        dim = task.class_dim
        if output.shape != taught.shape:
            raise ValueError(
                f"teacher: it gives outputs of shape {tuple(taught.shape)}, and the network that "
                f"learns of shape {tuple(output.shape)}"
            )
        if dim is None:
            loss = self.weight * functional.mse_loss(output, taught)
        else:
            t = self.temperature
            wanted = (taught / t).softmax(dim)
            cross = -(wanted * (output / t).log_softmax(dim)).sum(dim).mean()
            loss = self.weight * t**2 * cross
        self.parts.append(loss.detach())
        return loss


class InPlace:
    """Lets the first network of a step teach those after it (Yu & Huang, 2019, arXiv:1903.05134).

    Args:
        weight: of the loss.

    Attributes:
        parts: of the losses that were asked for, detached; that of the first network is 0.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.parts: list[Tensor] = []
        self._weight = weight
        self._taught: Taught | None = None

    def loss(self, task: Task, out: Any) -> Tensor:
        """Return nothing for the first network, whose outputs the others are drawn to."""
        if self._taught is None:
            output: Tensor = task.distilled(task.output(out))
            self._taught = Taught(
                mapped(Tensor.detach, task.output(out)), self._weight, parts=self.parts
            )
            nothing = output.new_zeros(())
            self.parts.append(nothing)
            return nothing
        return self._taught.loss(task, out)


class Teacher:
    """A trained network that a student's outputs are drawn to.

    Args:
        settings: whose ``teacher`` is a module, or the path of one that ``torch.export`` saved.
        task: whose outputs both give.
        device: to run it on.

    Raises:
        FileNotFoundError: there is no file of this path.
        TypeError: the teacher is neither a module nor a path.
    """

    def __init__(self, settings: TrainSettings, task: Task, device: torch.device) -> None:
        self._net = _loaded(settings.teacher).to(device)
        self._task, self._weight = task, settings.teacher_weight
        self._temperature = settings.teacher_temperature

    def loss(self, out: Any, inputs: Nest) -> Tensor:
        """Return the part of the loss that the teacher adds.

        Args:
            out: what the student returns.
            inputs: that it was called with, of a model that computes its loss with the targets.
        """
        with torch.no_grad():
            output = self._task.output(call(self._net, inputs))
        return Taught(output, self._weight, self._temperature).loss(self._task, out)


def _loaded(teacher: Any) -> nn.Module:
    if isinstance(teacher, str | Path):
        if not Path(teacher).is_file():
            raise FileNotFoundError(f"teacher: there is no file {teacher}")
        program = torch.export.load(teacher)
        return program.module()
    if not isinstance(teacher, nn.Module):
        raise TypeError(
            "teacher: expected a module, or the path of a file of torch.export, got a "
            f"{type(teacher).__name__}"
        )
    return copy.deepcopy(teacher).eval().requires_grad_(False)
