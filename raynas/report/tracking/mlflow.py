"""MLflow, by its own client (mlflow or mlflow-skinny)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from raynas.core.locations import is_uri, last_name
from raynas.core.progress import RunInfo, RunSummary
from raynas.report.tracking.base import TRACKERS, Point, Status, Tracker, client, flat

BATCH = 1000  # metrics that one request takes
PARAMS = 100  # likewise
LONGEST_PARAM = 500  # characters that every server takes
_UNUSUAL = re.compile(r"[^\w\-. /]", re.ASCII)  # what names of metrics must not have
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


@TRACKERS.register("mlflow")
class MLflow(Tracker):
    """Logs metrics, parameters and artifacts to an MLflow server, or to a file in the run's folder.

    Args:
        experiment: name of the experiment, which is made if need be.
        run_name: of the run; None takes the name of its folder.
        uri: of the server or store; None takes ``MLFLOW_TRACKING_URI`` of the environment, else
            ``mlflow.db`` in the run's folder, with artifacts in ``mlruns/``.
        tags: of the run.
    """

    takes_files = True

    def __init__(
        self,
        *,
        experiment: str = "raynas",
        run_name: str | None = None,
        uri: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._module = client("mlflow", "mlflow")
        self._experiment, self._run_name, self._uri = experiment, run_name, uri
        self._tags = dict(tags or {})
        self._client: Any = None
        self._run = ""

    def begin(self, run: RunInfo, before: str | None) -> str:
        """Make a run, or go on with the one of an earlier start; return its id."""
        uri, artifacts = self._uri or os.environ.get("MLFLOW_TRACKING_URI"), None
        if uri is None:
            if is_uri(run.out):
                raise ValueError(
                    f"track: the run's folder {run.out} takes no mlflow.db: set "
                    'MLFLOW_TRACKING_URI, or name a store, track=("mlflow", {"uri": ...})'
                )
            uri, artifacts = f"sqlite:///{run.out}/mlflow.db", f"file://{run.out}/mlruns"
        self._client = self._module.MlflowClient(tracking_uri=uri)
        if before is None or not self._goes_on(before):
            name = self._run_name or last_name(run.out)
            where = self._experiment_id(artifacts)
            made = self._client.create_run(where, run_name=name, tags=self._tags)
            self._run = made.info.run_id
        self._log_config(run)
        return self._run

    def _goes_on(self, before: str) -> bool:
        """Go on with a run, if the store has it."""
        try:
            self._client.update_run(before, status="RUNNING")
        except self._module.exceptions.MlflowException:
            return False
        self._run = before
        return True

    def _experiment_id(self, artifacts: str | None) -> str:
        known = self._client.get_experiment_by_name(self._experiment)
        if known is not None:
            return str(known.experiment_id)
        return str(self._client.create_experiment(self._experiment, artifact_location=artifacts))

    def _log_config(self, run: RunInfo) -> None:
        """Log parameters that the run has not got yet: they never change; and all as a file."""
        there = self._client.get_run(self._run).data.params
        param = self._module.entities.Param
        params = [
            param(_UNUSUAL.sub("_", name), str(value)[:LONGEST_PARAM])
            for name, value in flat(run.config).items()
        ]
        new = [param for param in params if param.key not in there]
        for at in range(0, len(new), PARAMS):
            self._client.log_batch(self._run, params=new[at : at + PARAMS])
        self._client.log_dict(self._run, dict(run.config), "config.json")

    def log(self, points: Sequence[Point]) -> None:
        """Log metrics, as few requests as it takes."""
        metric = self._module.entities.Metric
        metrics = [
            metric(_UNUSUAL.sub("_", name), value, round(1000 * point.time_s), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for at in range(0, len(metrics), BATCH):
            self._client.log_batch(self._run, metrics=metrics[at : at + BATCH])

    def finish(self, summary: RunSummary) -> None:
        """Log the best architecture and the files as artifacts."""
        if summary.arch is not None:
            self._client.log_text(self._run, summary.arch, "arch.json")
        for file in summary.files:
            self._client.log_artifact(self._run, file)

    def end(self, status: Status) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._run, _STATUS[status])
