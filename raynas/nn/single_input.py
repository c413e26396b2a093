"""Whether a network that is given one tensor takes no more than that."""

from __future__ import annotations

import inspect

from torch import Tensor, nn

from raynas.core.nest import Nest


def check_takes(net: nn.Module, example: Nest, hint: str = "") -> None:
    """Raise ValueError if a network needs several inputs, and an example is one tensor.

    Args:
        net: that the example is for.
        example: a batch of inputs; a tuple or dict of tensors is left to the network.
        hint: what to do.
    """
    if not isinstance(example, Tensor):
        return
    needed = [
        parameter.name
        for parameter in inspect.signature(net.forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        hint = hint or f"an example of it is a tuple, or a dict of {', '.join(needed)}: example="
        raise ValueError(
            f"{type(net).__name__}.forward takes {len(needed)} inputs ({', '.join(needed)}), and "
            f"the example is one tensor; {hint}"
        )
