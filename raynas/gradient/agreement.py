"""Whether all ranks learned the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raynas.supernet.protocol import Training


def check_ranks_agree(training: Training, learned: Sequence[Tensor], what: str) -> None:
    """Raise RuntimeError if ranks hold different values of what was learned.

    Args:
        training: knows the ranks.
        learned: tensors that must be equal on all.
        what: they are, for the message.
    """
    own = torch.stack([tensor.detach().double().sum() for tensor in learned])
    mean = own.clone()
    training.average([mean])
    if not torch.allclose(own, mean, rtol=1e-12, atol=1e-12):
        raise RuntimeError(
            f"the training workers hold different {what} after epoch {training.epoch}: did a data "
            "loader or a model draw random numbers of its own?"
        )
