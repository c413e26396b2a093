"""What a run found, read from its folder alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raynas.core.arch import Arch, Value
from raynas.core.config import SearchConfig
from raynas.core.objectives import Objective, pareto_mask
from raynas.core.study import rank
from raynas.core.trial import Trial
from raynas.folder import Folder
from raynas.store import load_trials, read_history, read_trials

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from raynas.rebuilt import Rebuilt

REPORT = "report.html"


class Result:
    """A finished or stopped run.

    Args:
        path: its folder.
        space: the user's own space, where the run's cannot be imported.
        data: the user's own data, likewise; BatchNorm statistics of ``model`` come from it.
    """

    def __init__(self, path: str, *, space: Any = None, data: Any = None) -> None:
        self.folder = Folder(path)
        self.path = self.folder.path
        self.config: SearchConfig = self.folder.read_config()
        self._own_space, self._own_data = space, data

    def __repr__(self) -> str:
        return f"Result({self.path!r}, {len(self.trials)} trials)"

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial, in the order of tells; columns as in docs/trials.md."""
        frame: pd.DataFrame = read_trials(self.path).to_pandas()
        return frame

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per training epoch of the supernet, the last where one ran twice."""
        frame: pd.DataFrame = read_history(self.path).to_pandas()
        twice = ["algo", "epoch"]  # a job that was killed goes on from its last checkpoint
        return frame.drop_duplicates(twice, keep="last") if len(frame) else frame

    @cached_property
    def best(self) -> Trial:
        """The trial of the best objective; ties go to the lower loss, then to the earlier.

        Raises:
            LookupError: no trial was completed; the message quotes the first error.
        """
        trials = load_trials(self.path)
        scored = [t for t in trials if t.objective is not None and math.isfinite(t.objective)]
        if not scored:
            errors = [t.error for t in trials if t.error]
            why = f"all {len(trials)} failed, the first with {errors[0]}" if errors else "none ran"
            raise LookupError(f"{self.path} has no completed trial: {why}")
        return max(scored, key=rank)

    def top(self, count: int = 10) -> pd.DataFrame:
        """Return the best trials, best first, by the order of ``best``."""
        frame = self.trials[self.trials["objective"].notna()]
        frame = frame[frame["status"] != "duplicate"]
        keys = ["objective", *(["loss"] if "loss" in frame else []), "trial"]
        return frame.sort_values(keys, ascending=[False] + [True] * (len(keys) - 1)).head(count)

    def pareto(self, objectives: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Return the trials that no other trial beats.

        Args:
            objectives: metric to "max" or "min"; None takes the run's own.

        Raises:
            KeyError: a metric that no trial has.
        """
        wanted = objectives or self.config.objectives
        goals = [Objective(metric, goal) for metric, goal in wanted.items()]  # type: ignore[arg-type]
        for goal in goals:
            if goal.metric not in self.trials:
                raise KeyError(f"no trial has a metric {goal.metric!r}")
        frame = self.trials.dropna(subset=[goal.metric for goal in goals])
        frame = frame[frame["status"] == "completed"]
        scores = np.column_stack([goal.sign * frame[goal.metric].to_numpy() for goal in goals])
        front = frame[pareto_mask(scores.astype(np.float64))]
        return front.sort_values(goals[0].metric, ascending=goals[0].goal == "min")

    @cached_property
    def _rebuilt(self) -> Rebuilt:
        from raynas.rebuilt import rebuild

        supernet = self.config.supernet
        path = None if supernet is None else self.folder.supernet(supernet)
        return rebuild(self.config, path, self._own_space, self._own_data)

    def model(self, arch: Mapping[str, Value] | None = None) -> nn.Module:
        """Return an architecture as a plain module in evaluation mode.

        With a supernet, it has the supernet's weights, and BatchNorm statistics of up to 2,000
        training images under this architecture; otherwise initial weights, by the run's seed.

        Args:
            arch: None takes the best.

        Raises:
            TypeError: the space is a plain ArchSpace, which builds no modules.
            LookupError: the space or the data were a user's own and are not at hand.
        """
        return self._rebuilt.model(self.best.arch if arch is None else arch)

    def rescore(self, count: int = 10) -> pd.DataFrame:
        """Return the best trials, measured again on more images than a search can afford.

        Added are ``valid_accuracy`` and ``valid_loss`` on the whole validation split, and
        ``test_accuracy`` and ``test_loss`` where there is a test split, with BatchNorm calibrated
        on up to 2,000 training images. The order stays the search's: test images choose nothing.

        Args:
            count: how many.

        Raises:
            LookupError: the run had no supernet, or its space or data are not at hand.
        """
        frame = self.top(count)
        scores = self._rebuilt.rescore([Arch.from_json(text) for text in frame["arch"]])
        return frame.assign(**{k: [row[k] for row in scores] for k in (scores or [{}])[0]})

    def export(self, file: str | Path, arch: Mapping[str, Value] | None = None) -> None:
        """Write an architecture: ``.json`` its decisions, ``.pt2`` its network by torch.export.

        Args:
            file: local path whose ending says what to write.
            arch: None takes the best.

        Raises:
            ValueError: another ending.
        """
        file = str(file)
        chosen = Arch(self.best.arch if arch is None else arch)
        if file.endswith(".json"):
            with open(file, "w") as out:
                out.write(arch_json(chosen))
        elif file.endswith(".pt2"):
            self._export_program(file, chosen)
        else:
            raise ValueError(f"export: expected a file ending in .json or .pt2, got {file!r}")

    def report(self, file: str | None = None) -> str:
        """Write pictures of the run as one HTML page that opens offline, and return its path.

        Args:
            file: local path; None writes ``report.html`` into the run's folder.
        """
        from raynas.report.findings import ReportData
        from raynas.report.page import report_page, write_report

        data = ReportData(trials=self.trials, history=self.history, config=self.config)
        if file is not None:
            write_report(data, file)
            return file
        self.folder.write(REPORT, report_page(data))
        return f"{self.path}/{REPORT}"

    def _export_program(self, file: str, arch: Arch) -> None:
        import torch

        example = torch.zeros(2, *self._rebuilt.data.input_shape)
        shapes = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(self.model(arch), (example,), dynamic_shapes=shapes)
        torch.export.save(program, file)


def arch_json(arch: Arch) -> str:
    """Return the fixed-architecture form: label to choice, one a line."""
    return json.dumps(dict(arch), indent=2) + "\n"
