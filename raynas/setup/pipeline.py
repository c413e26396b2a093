"""Configuration files: read, and turned into what each step is called with."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from raynas.core.locations import under
from raynas.core.model_names import is_own_path
from raynas.core.pipeline import (
    CommonFields,
    PipelineConfig,
    RetrainStep,
    Step,
    pipeline_config,
)
from raynas.core.secret_options import without_secrets
from raynas.setup.objects import imported
from raynas.setup.vega import converted, is_vega
from raynas.setup.yaml_text import read_yaml_file
from raynas.storage.run_folder import Folder, absolute, fresh, without_keys

RESOLVED = "config.yaml"
NAMED = ("space", "data", "task")  # each with options beside it, which go with the name
OF_RUN = ("space", "space_options", "data", "data_options", "task", "task_options", "seed")


def read_pipeline(
    given: str | Path | Mapping[str, Any], *, smoke: bool = False, sets: Mapping[str, Any]
) -> PipelineConfig:
    """Return the configuration in a file, or in a dict that is like one, checked.

    Args:
        given: path of a YAML file, or a dict.
        smoke: whether its values for a short run hold.
        sets: further values by key path.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        ValueError: it is no YAML, holds tags, or a key or a value that is wrong.
        LookupError: a name that is not known.
    """
    if isinstance(given, Mapping):
        return _checked(given, Path(), smoke, sets)
    tree = read_yaml_file(given, "configuration file")
    try:
        return _checked(tree, Path(given).parent, smoke, sets)
    except (ValueError, LookupError) as error:
        kind = LookupError if isinstance(error, LookupError) else ValueError
        raise kind(f"{given}: {error}") from None


def _checked(tree: Any, folder: Path, smoke: bool, sets: Mapping[str, Any]) -> PipelineConfig:
    """Return the configuration that a file's keys and values are, converted if they are theirs."""
    from raynas.nn.export import EXPORTERS

    if is_vega(tree):
        conversion = converted(tree, folder)
        tree = conversion.config
        for note in conversion.notes:
            print(note, file=sys.stderr)
    config = pipeline_config(tree, smoke=smoke, sets=sets)
    for exporter in config.descriptions.values():
        EXPORTERS.name_of(exporter)
    return config


def claimed(config: PipelineConfig, out: str | None, resume: bool) -> tuple[PipelineConfig, str]:
    """Return a configuration with its folder, in which the resolved file stands.

    Raises:
        FileExistsError: there is another one, and ``resume`` is off.
        ValueError: another one is to be gone on with.
    """
    folder = out or config.out
    path = absolute(folder) if folder else fresh("pipeline")
    config = config.model_copy(update={"out": path})
    resolved = config.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    text = yaml.safe_dump(without_secrets(without_keys(resolved)), sort_keys=False)
    place = Folder(path)
    if place.has(RESOLVED):
        if not resume:
            raise FileExistsError(
                f"{path} holds another pipeline: go on with it (resume=True, --resume) or choose "
                "another folder (out=, --out)"
            )
        if place.read(RESOLVED) != text:
            raise ValueError(
                f"{path} was begun with another configuration: run its own {RESOLVED}, or choose "
                "another folder"
            )
    place.write(RESOLVED, text)
    return config, path


@contextmanager
def told_where(number: int, step: Step, out: str | None = None) -> Iterator[None]:
    """Begin what is wrong with a step's arguments by the step's place in the file.

    Args:
        number: of the step, from 0.
        step: itself.
        out: folder of the pipeline, which is given up if nothing has been left there yet; None
            before there is one.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError) as error:
        folder = None if out is None else Folder(out)
        if folder is not None and folder.names() == [RESOLVED]:
            folder.remove(RESOLVED)
        text = error.args[0] if error.args else error
        raise type(error)(f"steps.{number}.{step.kind}: {text}") from error


def folder_of(config: PipelineConfig, out: str, number: int) -> str:
    """Return where a step leaves what it does: of a lone step, the pipeline's own folder."""
    if len(config.steps) == 1:
        return out
    return under(out, f"{number + 1}-{config.steps[number].kind}")


def arguments(config: PipelineConfig, step: Step) -> dict[str, Any]:
    """Return what a step's function is called with, but for what earlier steps give.

    Of ``train_supernet``, that is all.
    """
    fields: CommonFields = step.fields
    own = {
        name: value
        for name in type(fields).model_fields
        if (value := getattr(fields, name)) is not None
    }
    inherited = ["seed", "ray", "track"]
    for name in NAMED:
        inherited += [] if name in own else [name, f"{name}_options"]
    for name in inherited:
        if name not in own and (value := getattr(config, name)) is not None:
            own[name] = value
    if "space" in own and is_own_path(own["space"]):
        own["space"] = imported(own["space"])
    if options := own.pop("task_options", None):
        own["task"] = [own.get("task") or "classification", options]
    if options := own.pop("evaluator_options", None):
        own["evaluator"] = [own.get("evaluator") or "shared", options]
    return own


def search_arguments(config: PipelineConfig, step: Step, supernet: str | None) -> dict[str, Any]:
    """Return the arguments of ``search``: of the supernet before it, unless it names another."""
    own = arguments(config, step)
    if supernet is not None and "evaluator" not in own:
        own.setdefault("supernet", supernet)
    return own


def retrain_arguments(config: PipelineConfig, step: Step, run: Any) -> dict[str, Any]:
    """Return the arguments of ``retrain``: of the run before it, unless it names another.

    Raises:
        ValueError: there is neither a run nor an architecture.
    """
    fields: RetrainStep = step.fields
    own = arguments(config, step)
    own.pop("run", None)
    run = fields.run or run
    if run is None and fields.arch is None:
        raise ValueError("retrain: name a run or an arch, or let a search come before it")
    if run is None:
        own["what"] = own.pop("arch")
    else:
        own["what"] = run
        # what holds for all steps is the run's own already
        others = {name for name in OF_RUN if getattr(fields, name) is None}
        own = {name: value for name, value in own.items() if name not in others}
    return own
