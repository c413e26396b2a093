"""A run's architecture, network or trials as a file, by its ending."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from raynas.core.arch import Arch, Value
from raynas.core.fixed import write_arch
from raynas.results.optuna_study import ENDINGS as STUDIES
from raynas.results.optuna_study import RecordedRun, write_study
from raynas.results.program_files import ENDINGS, checked_file, write_network
from raynas.results.run_parts import RunParts

if TYPE_CHECKING:
    from torch import nn


def export_trials(
    recorded: Callable[[], RecordedRun],
    file: str,
    arch: Mapping[str, Value] | None,
    whole: bool,
    force: bool,
) -> None:
    """Write all trials as a study of Optuna.

    Args:
        recorded: gives the run.
        file: local path, as ``file_of`` returns it.
        arch: that was asked for, which no study takes.
        whole: likewise.
        force: replace a study that is there.

    Raises:
        ValueError: an architecture is asked for.
        FileExistsError: there is such a study.
    """
    if arch is not None or whole:
        raise ValueError(f"export: {file} takes all trials: leave out arch and whole")
    write_study(recorded(), file, force=force)


def file_of(file: str | Path) -> tuple[str, bool]:
    """Return where something is to be written, and whether it is all trials.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: its ending says nothing that is written.
    """
    name = checked_file(file, (*ENDINGS, *STUDIES))
    return name, name.endswith(STUDIES)


def export_arch(
    run: RunParts, arch: Arch, file: str, whole: bool, model: Callable[[], nn.Module]
) -> None:
    """Write an architecture: its decisions, or its network.

    Args:
        run: that it is of.
        arch: the architecture.
        file: local path, as ``file_of`` returns it.
        whole: whether the untrained network at full width is asked for.
        model: gives the network.

    Raises:
        ValueError: ``whole`` with decisions.
        LookupError, ImportError: as ``Result.export``.
    """
    if not file.endswith(".json"):
        write_network(model(), file, run.signature, run.config.task)
        return
    if whole:
        raise ValueError(
            "export: whole goes with a network (.pt, .pt2, .onnx, .pte), not with .json"
        )
    Path(file).write_text(write_arch(arch))
