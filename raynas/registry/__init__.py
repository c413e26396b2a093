"""The registries as ModularNAS' document shows them: register, build and get_builder.

``search_space`` (or ``arch_space``), ``construct``, ``optim``, ``estim``, and ``mixed_op`` and
``export``: thin doors to raynas' own registries, so that whatever is registered by one of them is
found by its name everywhere else, in ``raynas.search`` too.
"""

from __future__ import annotations

import importlib
from types import ModuleType

NAMES = ("arch_space", "construct", "estim", "export", "mixed_op", "optim", "search_space")
__all__ = list(NAMES)  # each imported when it is first asked for


def __getattr__(name: str) -> ModuleType:
    if name not in NAMES:
        raise AttributeError(f"module 'raynas.registry' has no attribute {name!r}")
    return importlib.import_module(f"raynas.registry.{name}")
