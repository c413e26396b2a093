"""The best architecture of a search, as exporters describe it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from raynas.core.arch import Arch
from raynas.core.file_names import file_name
from raynas.core.locations import under
from raynas.core.pipeline import PipelineConfig
from raynas.storage.run_folder import Folder

if TYPE_CHECKING:
    from raynas.nn.modelspace import ModelSpace

OUTPUTS = "outputs"


def describe_best(config: PipelineConfig, space: ModelSpace, arch: Arch, out: str) -> None:
    """Write the best architecture as the configuration's exporters describe it.

    Args:
        config: names them.
        space: that was searched.
        arch: the best.
        out: folder of the search.
    """
    from raynas.nn.export import export

    for name, exporter in config.descriptions.items():
        description = export(space.supernet(), arch, exporter)
        text = yaml.safe_dump(description, default_flow_style=None, sort_keys=False)
        Folder(under(out, OUTPUTS)).write(f"arch_{file_name(name)}_best.yaml", text)
