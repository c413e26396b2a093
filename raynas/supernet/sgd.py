"""SGD as torch has it, without the compiler that torch's own optimizers import on first use."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.optim import Optimizer


class SGD(torch.optim.SGD):
    """``torch.optim.SGD``, step by step the same.

    ``torch.compile`` must not look into an optimizer, so torch's methods import it (2.5 s) in order
    to say so, in every process that trains and even where nothing is ever compiled. These are the
    methods without that. Differs: a step must not stand inside a function that is compiled.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every parameter that has a gradient."""
        return inspect.unwrap(torch.optim.SGD.step)(self, closure)
