"""The data behind what a user gives: names, objects, options."""

from __future__ import annotations

from typing import Any

from raynas.core.config import ComponentSpec
from raynas.setup.objects import own_options
from raynas.setup.problem import Data
from raynas.setup.resolve import Options, build

OWN = "own"


def resolve_data(data: Any, options: Options) -> Data:
    """Return the data behind a name, a DataModule, or a tuple of datasets."""
    import torch

    from raynas.data.module import DATA, DataModule
    from raynas.data.tensor_data import TensorData
    from raynas.nn.random_state import own_random_state

    if isinstance(data, ComponentSpec):
        recorded = rebuild_data(data)
        if recorded is None:
            raise LookupError("the data of this run were a user's own; pass data=")
        return recorded
    if isinstance(data, str):
        module, spec = build(DATA, data, options)
        return Data(spec, module)
    if options:
        raise TypeError("data options go with a registered name; configure the object instead")
    if isinstance(data, DataModule):
        builder = DATA.get(data.name)
        if type(data) in (builder, getattr(builder, "func", None)):
            options = own_options(type(data), data)
            return Data(ComponentSpec(name=data.name, options=options), data)
        module = data.in_float32() if isinstance(data, TensorData) else data
        return Data(ComponentSpec(name=OWN), module)
    if isinstance(data, tuple | list):
        with own_random_state(torch.device("cpu"), 0):  # splits that transforms draw, read once
            return Data(ComponentSpec(name=OWN), TensorData(data).in_float32())
    raise TypeError(
        "data: expected a registered name, a (train, valid[, test]) tuple of datasets, or a "
        f"DataModule, got {type(data).__name__}"
    )


def rebuild_data(spec: ComponentSpec | None) -> Data | None:
    """Return the data that a run folder names; None if it was a user's own."""
    from raynas.data.module import DATA

    if spec is None or spec.name not in DATA:
        return None
    return resolve_data(spec.name, spec.options)
