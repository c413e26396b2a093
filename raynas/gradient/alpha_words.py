"""ModularNAS' words for the options of algorithms by gradients (Lin et al., 2021, MLSys)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raynas.core.alias import Alias, Word
from raynas.core.errors import nearest

ADAM = {"lr": "alpha_lr", "betas": "alpha_betas", "weight_decay": "alpha_weight_decay"}
ADAM_OF_ALPHAS = {"alpha_lr": 3e-4, "alpha_betas": (0.5, 0.999), "alpha_weight_decay": 1e-3}


def a_optim(given: Any) -> Mapping[str, Any]:
    """Return our options in a specification of the logits' optimizer.

    >>> a_optim({"type": "Adam", "args": {"lr": 0.006}})
    {'alpha_lr': 0.006}

    Args:
        given: ``{"type": "Adam", "args": {...}}``; None leaves the alias' own.

    Raises:
        ValueError: another optimizer, or an argument that is not taken.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or str(given.get("type")).lower() != "adam":
        raise ValueError(
            "a_optim: logits learn by Adam, expected {'type': 'Adam', 'args': {'lr': ...}}, got "
            f"{given!r}"
        )
    args = given.get("args") or {}
    for name in args:
        if name not in ADAM:
            raise ValueError(f"a_optim.args has no option {name!r}; {nearest(str(name), ADAM)}")
    return {ADAM[name]: value for name, value in args.items()}


def modular(presets: Mapping[str, Any] | None = None, **words: Word) -> Alias:
    """Return an alias under which the logits' optimizer is called ``a_optim``."""
    return Alias(presets=presets or {}, words={"a_optim": a_optim, **words})
