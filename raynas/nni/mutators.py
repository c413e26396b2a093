"""What NNI's mutators say of a search; here they hold settings and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class DartsMutator:
    """NNI's DARTS mutator, which has no settings.

    Args:
        model: that is searched; the trainer has its own.
    """

    model: nn.Module | None = None


@dataclass(frozen=True)
class EnasMutator:
    """The controller of ``EnasTrainer``.

    Differs: decisions have no bias towards separable convolutions (``branch_bias``), and no step of
    the controller ends a cell (``cell_exit_extra_step``): what is no default is refused.

    Args:
        model: that is searched; the trainer has its own.
        lstm_size: of the controller's state.
        lstm_num_layers: of the controller.
        tanh_constant: largest absolute logit.
        cell_exit_extra_step: False.
        skip_target: share of an ``InputChoice``'s inputs that should be set.
        temperature: by which logits are divided; None is 1.
        branch_bias: 0.25, which is not used.
        entropy_reduction: ``sum``.

    Raises:
        ValueError: a setting that is not here.
    """

    model: nn.Module | None = None
    lstm_size: int = 64
    lstm_num_layers: int = 1
    tanh_constant: float | None = 1.5
    cell_exit_extra_step: bool = False
    skip_target: float = 0.4
    temperature: float | None = None
    branch_bias: float = 0.25
    entropy_reduction: str = "sum"

    def __post_init__(self) -> None:
        fixed: dict[str, tuple[Any, Any]] = {
            "cell_exit_extra_step": (self.cell_exit_extra_step, False),
            "branch_bias": (self.branch_bias, 0.25),
            "entropy_reduction": (self.entropy_reduction, "sum"),
        }
        for name, (came, only) in fixed.items():
            if came != only:
                raise ValueError(
                    f"EnasMutator: {name} is {only!r} here, got {came!r}: leave it out"
                )

    @property
    def options(self) -> dict[str, Any]:
        """Options of the algorithm ``enas``."""
        return {
            "hidden": self.lstm_size,
            "lstm_layers": self.lstm_num_layers,
            "tanh_constant": self.tanh_constant,
            "skip_target": self.skip_target,
            "temperature": self.temperature,
        }


@dataclass(frozen=True)
class SPOSSupernetTrainingMutator:
    """How ``SPOSSupernetTrainer`` draws paths: uniformly, or evenly over bins of a cost.

    Differs: costs are counted here: ``flops_func`` is their name, and no function.

    Args:
        model: that is searched; the trainer has its own.
        flops_func: ``macs``, ``params`` or ``activation_bytes``; None draws uniformly.
        flops_lb: least cost; None takes that of the space.
        flops_ub: largest cost, likewise.
        flops_bin_num: bins, each as probable as the others.
        flops_sample_timeout: paths drawn for one bin.

    Raises:
        TypeError: ``flops_func`` is a function.
        ValueError: one bound without the other, or bounds without a cost.
    """

    model: nn.Module | None = None
    flops_func: Any = None
    flops_lb: float | None = None
    flops_ub: float | None = None
    flops_bin_num: int = 7
    flops_sample_timeout: int = 500

    def __post_init__(self) -> None:
        if self.flops_func is not None and not isinstance(self.flops_func, str):
            raise TypeError(
                "SPOSSupernetTrainingMutator: costs are counted here: name one in place of the "
                "function, flops_func='macs'"
            )
        bounds = [bound is not None for bound in (self.flops_lb, self.flops_ub)]
        if any(bounds) and (self.flops_func is None or not all(bounds)):
            raise ValueError(
                "SPOSSupernetTrainingMutator: flops_lb and flops_ub go together, with flops_func"
            )

    @property
    def options(self) -> dict[str, Any]:
        """Options of the algorithm ``spos``."""
        if self.flops_func is None:
            return {}
        bounds = None if self.flops_lb is None else (self.flops_lb, self.flops_ub)
        return {
            "balance": self.flops_func,
            "balance_range": bounds,
            "balance_bins": self.flops_bin_num,
            "balance_tries": self.flops_sample_timeout,
        }


def checked_mutator(given: Any, kind: type[Any]) -> Any:
    """Return a trainer's mutator, a new one where none is given.

    Raises:
        TypeError: it is of another kind.
    """
    if given is None:
        return kind()
    if not isinstance(given, kind):
        raise TypeError(
            f"mutator: expected a raynas.nni.{kind.__name__}, got a {type(given).__name__}; leave "
            "it out for the usual one"
        )
    return given
