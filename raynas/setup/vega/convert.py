"""A file of Vega's or ModularNAS', as a configuration of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raynas.setup.vega.build import pipeline_of
from raynas.setup.vega.modnas_file import modnas_step
from raynas.setup.vega.vega_file import PIPE_STEP, PIPELINE, vega_steps

OF_MODNAS = {"routine", "estim", "mixed_op", "construct", "desc_construct", "arch_desc", "optim"}
OURS = {"steps", "space"}


@dataclass(frozen=True)
class Converted:
    """What a file of theirs comes to.

    Attributes:
        config: as a file of ours holds it.
        notes: what means nothing here, and what differs, a sentence each.
    """

    config: dict[str, Any]
    notes: list[str]

    def text(self, source: str) -> str:
        """Return the file of ours, with the notes as comments before it.

        Args:
            source: what it was converted from.
        """
        head = [f"from {source}, which raynas reads as this", *self.notes]
        comments = "".join(f"# {' '.join(line.split())}\n" for line in head)
        return comments + yaml.safe_dump(
            self.config, sort_keys=False, default_flow_style=None, width=100
        )


def is_vega(tree: Any) -> bool:
    """Return whether a file is one of Vega's or ModularNAS'.

    >>> is_vega({"pipeline": ["nas"], "nas": {}}), is_vega({"search": {"space": "mlp"}})
    (True, False)
    """
    return isinstance(tree, Mapping) and (_of_vega(tree) or _of_modnas(tree))


def _of_vega(tree: Mapping[str, Any]) -> bool:
    sections = [value for value in tree.values() if isinstance(value, Mapping)]
    return PIPELINE in tree or any(PIPE_STEP in section for section in sections)


def _of_modnas(tree: Mapping[str, Any]) -> bool:
    return bool(OF_MODNAS & tree.keys()) and not OURS & tree.keys()


def converted(tree: Mapping[str, Any], folder: str | Path = ".") -> Converted:
    """Return the configuration of ours that a file of theirs stands for.

    Args:
        tree: what the file holds.
        folder: of the file, to which its paths are relative.

    Raises:
        ValueError, LookupError: a key, a name or a value is not understood: its key path and the
            nearest valid one are named.
        OSError: a description that it names cannot be read.
    """
    strange = [key for key in tree if not isinstance(key, str)]
    if strange:
        raise ValueError(f"expected names as keys, got {strange[0]!r}")
    notes: list[str] = []
    steps = vega_steps(tree, notes) if _of_vega(tree) else [modnas_step(tree, notes)]
    return Converted(pipeline_of(steps, Path(folder), notes), list(dict.fromkeys(notes)))
