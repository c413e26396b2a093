"""The data behind what a user gives: names, objects, options."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.config import ComponentSpec
from raynas.core.options import checked
from raynas.core.split_spec import split_spec
from raynas.setup.objects import own_options
from raynas.setup.problem import Data
from raynas.setup.resolve import Options, build

if TYPE_CHECKING:
    from raynas.data.tensor_data import TensorData

OWN = "own"
PATH = "path"  # option that stands behind a colon


def resolve_data(data: Any, options: Options) -> Data:
    """Return the data behind a name, datasets, or a DataModule.

    Args:
        data: a registered name, such as ``digits`` or ``imagefolder:PATH``; a name with options, as
            ``Registry.build`` takes it; a DataModule; ``(train, valid[, test])``, a dict of these,
            or one alone: torch datasets, DataLoaders, or datasets of Hugging Face or Ray Data.
        options: of the registered data set; or of ``TensorData``, for datasets.

    Raises:
        TypeError: ``data`` is none of these, or options are given for a DataModule.
        UnknownName, ValueError: there is no such data set or option, or the data do not fit.
    """
    from raynas.data.module import DATA, DataModule
    from raynas.data.tensor_data import TensorData

    if isinstance(data, ComponentSpec):
        recorded = rebuild_data(data)
        if recorded is None:
            raise LookupError("the data of this run were a user's own; pass data=")
        return recorded
    named = _named(data, options)
    if named is not None:
        module, spec = build(DATA, *named)
        return Data(spec, module)
    if not isinstance(data, DataModule):
        return Data(ComponentSpec(name=OWN), _from_datasets(data, options))
    if options:
        raise TypeError("data options go with a registered name; configure the object instead")
    builder = DATA.get(data.name)
    if type(data) in (builder, getattr(builder, "func", None)):
        own = own_options(type(data), data)
        return Data(ComponentSpec(name=data.name, options=_with_absolute_path(own)), data)
    return Data(ComponentSpec(name=OWN), _checked(data) if isinstance(data, TensorData) else data)


def rebuild_data(spec: ComponentSpec | None) -> Data | None:
    """Return the data that a run folder names; None if it was a user's own."""
    from raynas.data.module import DATA, DataWarning

    if spec is None or spec.name not in DATA:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # it was given when the run began
        return resolve_data(spec.name, spec.options)


def _named(data: Any, options: Options) -> tuple[str, dict[str, Any]] | None:
    """Return the name and options of a registered data set; None if datasets or objects are given.

    Raises:
        TypeError: there is something else than a dict of options behind the name.
        ValueError: an option is said twice.
    """
    data, own = split_spec(data)
    if not isinstance(data, str):
        return None
    if not isinstance(own, Mapping):
        raise TypeError(f"data {data!r}: expected a dict of options after the name, got {own!r}")
    name, colon, path = data.partition(":")
    said: list[Mapping[str, Any]] = [{PATH: path} if colon else {}, own, options]
    for key in (twice := [key for part in said for key in part]):
        if twice.count(key) > 1:
            raise ValueError(f"data {data!r}: the option {key!r} is given twice")
    return name, _with_absolute_path({**said[0], **said[1], **said[2]})


def _with_absolute_path(options: dict[str, Any]) -> dict[str, Any]:
    """Return options whose path leads there from everywhere, as a run folder must."""
    path = options.get(PATH)
    if not isinstance(path, str | Path) or "://" in str(path):
        return options
    return options | {PATH: str(Path(path).expanduser().absolute())}


def _from_datasets(data: Any, options: Options) -> TensorData:
    """Return the data of datasets.

    Raises:
        TypeError: there are none in what is given.
    """
    import torch

    from raynas.data.sources import is_dataset
    from raynas.data.tensor_data import TensorData
    from raynas.nn.random_state import own_random_state

    if not isinstance(data, tuple | list | Mapping) and not is_dataset(data):
        raise TypeError(
            "data: expected a registered name, a (train, valid[, test]) tuple of datasets, a "
            f"dataset, or a DataModule, got {type(data).__name__}"
        )
    fitted = checked("data", OWN, TensorData, options, without=("name",))
    with own_random_state(torch.device("cpu"), 0):  # splits that transforms draw, read once
        return _checked(TensorData(data, **fitted))


def _checked(data: TensorData) -> TensorData:
    data = data.in_float32()
    data.load().check_finite()
    return data
