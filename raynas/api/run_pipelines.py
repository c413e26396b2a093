"""``raynas.run``: the steps of a configuration file, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raynas.api.search_architectures import search
from raynas.api.train_networks import retrain
from raynas.api.train_supernets import train_supernet
from raynas.core.progress import Progress
from raynas.core.termination import terminable
from raynas.results.result import Result
from raynas.setup.descriptions import describe_best
from raynas.setup.pipeline import (
    arguments,
    claimed,
    folder_of,
    read_pipeline,
    retrain_arguments,
    search_arguments,
    told_where,
)
from raynas.setup.step_algorithms import check_algorithms


@terminable()
def run(
    config: str | Path | Mapping[str, Any],
    *,
    sets: Mapping[str, Any] | None = None,
    smoke: bool = False,
    out: str | None = None,
    resume: bool = False,
    track: Any = None,
    progress: Progress | bool | None = None,
) -> list[Any]:
    """Run the steps of a configuration file, one after the other, and return what each gives.

    A supernet's step gives its folder, a search a Result, a retraining a Trained. A search takes
    the supernet of the step before it, a retraining the best of the search before it. What the file
    comes to stands in the run folder as ``config.yaml``, and runs again.

    Args:
        config: path of a YAML file (see docs/pipelines.md), or a dict that is like one; those of
            Vega and ModularNAS are converted, and what differs is said on stderr.
        sets: values in place of the file's, by key path, such as ``{"search.trials": 500}``.
        smoke: whether the file's own values for a short run hold.
        out: folder or URI, in place of the file's; ``runs/pipeline-<n>`` by default.
        resume: go on with what is in ``out``.
        track: where the numbers of each step go besides, in place of the file's.
        progress: told how each step comes along.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a key or a value is wrong: the sentence names its path, what came, what was
            expected and the nearest valid key.
        FileExistsError: ``out`` holds another pipeline.
    """
    own_sets = {} if track is None else {"track": track}
    plan = read_pipeline(config, smoke=smoke, sets={**(sets or {}), **own_sets})
    check_algorithms(plan)
    plan, folder = claimed(plan, out, resume)
    outcomes: list[Any] = []
    supernet: str | None = None
    found: Result | None = None
    for number, step in enumerate(plan.steps):
        own: dict[str, Any] = {"out": folder_of(plan, folder, number), "progress": progress}
        own["resume"] = resume
        with told_where(number, step, folder):
            if step.kind == "supernet":
                supernet = train_supernet(**arguments(plan, step), **own)
                outcomes.append(supernet)
            elif step.kind == "search":
                found = search(**search_arguments(plan, step, supernet), **own)
                outcomes.append(found)
                if plan.descriptions:
                    describe_best(plan, found.rebuilt.space, found.best.arch, found.path)
            else:
                outcomes.append(retrain(**retrain_arguments(plan, step, found), **own))
    return outcomes
