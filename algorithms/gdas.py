"""GDAS (Dong & Yang, 2019, arXiv:1910.04465)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from raynas.gradient.base import DARTS_TRAINING, Differentiable
from raynas.gradient.hardware import Hardware
from raynas.gradient.mixed.gumbel_sum import GumbelSum
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics


@ONE_SHOTS.register("gdas")
class GDAS(Differentiable):
    """Trains one sampled candidate per choice: weights first, then logits on a validation batch.

    The sample is the arg max of noisy log-probabilities; its weight is 1 in value and carries the
    softmax' gradient. Differs: the authors' code adds a term to the logits' gradient that does not
    depend on the candidates (see ``gumbel_sum``).

    Args:
        seed: fixes the initial logits and the noise.
        temperature: of the softmax at the start.
        final_temperature: reached linearly in the last epoch.
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained.
        hardware: cost that takes part in the logits' loss, such as ``{"target": "macs"}``.
    """

    defaults: ClassVar[dict[str, Any]] = DARTS_TRAINING | {
        "epochs": 250,
        "weight_decay": 5e-4,
        "nesterov": True,
    }

    def __init__(
        self,
        *,
        seed: int = 0,
        temperature: float = 10.0,
        final_temperature: float = 0.1,
        alpha_lr: float = 3e-4,
        alpha_betas: tuple[float, float] = (0.5, 0.999),
        alpha_weight_decay: float = 1e-3,
        warmup_epochs: int = 0,
        hardware: Hardware | Mapping[str, Any] | None = None,
    ) -> None:
        if min(temperature, final_temperature) <= 0:
            raise ValueError("temperatures must be positive")
        self.temperature, self.final_temperature = temperature, final_temperature
        self._mix = GumbelSum(temperature, hard=True)
        super().__init__(
            self._mix,
            seed=seed,
            alpha_lr=alpha_lr,
            alpha_betas=alpha_betas,
            alpha_weight_decay=alpha_weight_decay,
            warmup_epochs=warmup_epochs,
            hardware=hardware,
            floor=0.04,
        )

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Do the weights' step, then the logits'."""
        training = self.training
        share = training.epoch / max(training.epochs - 1, 1)
        self._mix.temperature = (1 - share) * self.temperature + share * self.final_temperature
        self.relaxation.sample(training.step, 0)
        found: Metrics = {"loss": self.weight_step(train)}
        if alphas := self.alphas:
            self.relaxation.sample(training.step, 1)
            found["valid_loss"] = self.alpha_step(next(valid), alphas)
        return found
