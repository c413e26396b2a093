"""``raynas.retrain``: one architecture, trained to the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raynas.core.config import RayConfig
from raynas.core.progress import Progress
from raynas.core.termination import terminable
from raynas.report.reporting import news_of
from raynas.results.retraining import retrained
from raynas.results.trained import Trained
from raynas.setup.retrain_request import RetrainRequest

Options = Mapping[str, Any]


@terminable()
def retrain(
    what: Any,
    *,
    arch: Any = None,
    space: Any = None,
    data: Any = None,
    task: Any = None,
    loss: Any = None,
    metrics: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    inherit: bool = False,
    seed: int | None = None,
    out: str | None = None,
    resume: bool = False,
    ray: RayConfig | Mapping[str, Any] | None = None,
    options: Options | None = None,
    space_options: Options | None = None,
    data_options: Options | None = None,
    track: Any = None,
    progress: Progress | bool | None = None,
) -> Trained:
    """Train an architecture to the end, as a Ray Train job on one worker or several.

    The weights of the best epoch on the validation split are kept besides the last ones, and tested
    once, after the last epoch, if there is a test split.

    Args:
        what: a Result, or the path of its run, whose best architecture is trained; or an
            architecture: a mapping from label to choice, its JSON or the path of a ``.json`` file,
            or a genotype.
        arch: another architecture of the run's space.
        space: of an architecture, as for ``search``; a run has its own.
        data: as for ``search``; by default the run's, of an architecture ``digits``.
        task: as for ``search``, and so are ``loss`` and ``metrics``; by default the run's.
        loss: likewise.
        metrics: likewise.
        epochs: passes over the training split; 100 by default.
        inherit: begin with the weights of the run's supernet; else from scratch.
        seed: fixes weights, batches and all that is drawn; by default the run's, or 0.
        out: local folder or ``pyarrow.fs`` URI; ``RUN/retrained/<n>`` by default, of an
            architecture ``runs/<space>-retrain-<n>``.
        resume: go on with the training in ``out``, or with the newest of the run, by its own
            settings where none are said.
        ray: how to use Ray; ``train_workers`` is how many processes train together.
        options: of the training (see ``raynas.core.train_settings.TrainSettings``), such as
            ``{"optimizer": "adamw", "lr": 1e-3, "mixup": 0.2, "drop_path": 0.2}``.
        space_options: that differ from the run's, such as ``{"channels": 36, "layers": 20}``; or
            those of ``space``.
        data_options: of a registered data set, likewise.
        track: where the numbers go besides, as for ``search``.
        progress: told of every epoch, as for ``search``.

    Raises:
        ValueError, LookupError, TypeError: an architecture, option or combination that does not
            exist, said before anything starts.
        FileExistsError: ``out`` holds another training and ``resume`` is off.
        FolderInUse: another process writes to ``out``.
        StoreMismatch: ``out`` holds a training of another configuration.
        RuntimeError: the training failed.
        Interrupted: Ctrl-C; the last checkpoint is in ``out``.
    """
    request = RetrainRequest(
        what=what,
        arch=arch,
        space=space,
        data=data,
        task=task,
        loss=loss,
        metrics=metrics,
        epochs=epochs,
        inherit=inherit,
        seed=seed,
        out=out,
        resume=resume,
        ray=ray,
        options=options,
        space_options=space_options,
        data_options=data_options,
    )
    return retrained(request, news_of(progress, track))
