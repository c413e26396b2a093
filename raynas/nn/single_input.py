"""Whether a network takes one tensor, as the examples of a data set are."""

from __future__ import annotations

import inspect

from torch import nn


def check_single_input(net: nn.Module, hint: str = "") -> None:
    """Raise ValueError if a network needs several inputs.

    Args:
        net: an example is one tensor for it.
        hint: what to do instead.
    """
    needed = [
        parameter.name
        for parameter in inspect.signature(net.forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise ValueError(
            f"{type(net).__name__}.forward takes {len(needed)} inputs ({', '.join(needed)}), and "
            f"an example is one tensor here{f': {hint}' if hint else ''}"
        )
