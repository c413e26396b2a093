"""The result of a run, read from its folder alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch, Value
from raynas.core.config import RayConfig, ray_config
from raynas.core.errors import Unfinished
from raynas.core.locations import under
from raynas.core.progress import Progress
from raynas.results.run_trials import RunTrials

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from torch import nn

    from raynas.report.findings import ReportData
    from raynas.results.models import RunModels
    from raynas.results.optuna_study import RecordedRun
    from raynas.results.plots import Plots
    from raynas.results.verification import Verification

REPORT, VERIFIED = "report.html", "verified.json"


class Result(RunTrials):
    """A finished or stopped run.

    Args:
        path: its folder.
        space: the user's own space, where the run's cannot be imported.
        data: the user's own data, likewise; BatchNorm statistics of ``model`` come from it.
        task: the user's own task, likewise.
    """

    def verify(
        self,
        top: int = 5,
        seeds: int = 3,
        *,
        task: Any = None,
        loss: Any = None,
        metrics: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        ray: RayConfig | Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Verification:
        """Retrain the best architectures on their own, and as many random ones, over several seeds.

        Says whether the search's cheap score can be trusted: how much better its best are than
        chance, and how well both scores agree. Of a run by ``block_library``, random ones are of
        what its blocks span, and it is told how well sums over blocks order what shared weights
        score, and what training leaves of that order. Trainings are kept in ``verify/``, the
        outcome in ``verified.json``, and the report shows it.

        Args:
            top: how many of the best.
            seeds: trainings of each architecture.
            task: that trains and compares them, as for ``raynas.search``; None takes the run's.
            loss: in place of the task's.
            metrics: besides the task's.
            options: of the evaluator ``standalone``, such as ``{"epochs": 10}``.
            ray: how to use Ray.
            progress: told how it comes along.

        Raises:
            FolderInUse: another process verifies the run.
            ValueError: no other architecture is left to compare with.
            Unfinished: no trial was completed.
        """
        from raynas.results.comparing import comparison_of
        from raynas.results.verification import verify

        if min(top, seeds) < 1:
            raise ValueError(
                f"verify needs at least one architecture and seed, got {top} and {seeds}"
            )
        if self._judgement.best() is None:
            why = self._judgement.why_none()
            raise Unfinished(f"{self.path} has no completed trial to verify: {why}")
        asked = {"task": task, "loss": loss, "metrics": metrics}
        news = progress or Progress()
        try:
            verification = verify(
                comparison_of(self._parts, self.top(top), top, self.judged, **asked),
                seeds=seeds,
                options=options or {},
                ray=ray_config(ray),
                progress=news,
            )
        finally:
            news.close()
        self.folder.write(VERIFIED, verification.to_json())
        return verification

    @property
    def rebuilt(self) -> RunModels:
        """The run's space, data and supernet, made again."""
        return self._parts.rebuilt

    def model(self, arch: Mapping[str, Value] | None = None, *, whole: bool = False) -> nn.Module:
        """Return an architecture as a plain module in evaluation mode.

        The best of a run whose end (``final``) has trained it has the weights of its best seed
        there. Others have, with a supernet, the supernet's weights, and BatchNorm statistics of up
        to 2,000 training images under this architecture; otherwise those that the evaluator
        returned for the best of the search, if it did, else initial weights, by the run's seed. It
        is the network that was scored: after ``pc_darts`` a narrow one, which acts on a share of
        its channels (``rebuilt.narrow`` tells).

        Args:
            arch: None takes the best.
            whole: instead the network as the space builds it, at full width and with initial
                weights by the run's seed: untrained, to be trained from scratch. After algorithms
                that train the space's own supernet it differs in its weights alone.

        Raises:
            TypeError: the space is a plain ArchSpace, which builds no modules.
            LookupError: the space or the data were a user's own and are not at hand.
        """
        return self.rebuilt.model(self.best.arch if arch is None else arch, whole=whole)

    @property
    def trained(self) -> nn.Module:
        """The network that ``raynas.retrain`` has trained to the end, with its best weights.

        It is that of the newest finished retraining in the run's folder.

        Raises:
            LookupError: there is none, or the space was a user's own and is not at hand.
        """
        from raynas.results.trained import newest_trained

        return newest_trained(self.path, self._parts.own_space).model()

    def rescore(self, count: int = 10) -> pd.DataFrame:
        """Return the best trials, measured again on more images than a search can afford.

        Added are the task's metrics, such as ``valid_accuracy`` and ``valid_loss``, on the whole
        validation split, and ``test_accuracy`` and ``test_loss`` where there is a test split, with
        BatchNorm calibrated on up to 2,000 training images. The order stays the search's: test
        images choose nothing. They are kept in ``rescored.json``, and the report shows them.

        Args:
            count: how many.

        Raises:
            LookupError: the run had no supernet, or its space or data are not at hand.
        """
        from raynas.results.report_data import write_tested

        frame = self.top(count)
        scores = self.rebuilt.rescore([Arch.from_json(text) for text in frame["arch"]])
        rows = dict(zip(frame["arch_key"], scores, strict=True))
        write_tested(self.folder, len(self.history), rows)
        return frame.assign(**{k: [row[k] for row in scores] for k in (scores or [{}])[0]})

    def export(
        self,
        file: str | Path,
        arch: Mapping[str, Value] | None = None,
        *,
        whole: bool = False,
        force: bool = False,
    ) -> None:
        """Write an architecture: its decisions, or its network for a batch of any size.

        The network is that of ``model``: after ``pc_darts`` the narrow one that was scored. Or
        write all trials as a study of Optuna (see ``optuna_study``).

        Args:
            file: local path; ``.json`` takes the decisions, ``.pt2`` the network by torch.export,
                ``.onnx`` the network as ONNX, from ``input`` to ``logits`` (or what a dict's or
                tuple's inputs and another task's outputs are), ``.pte`` the network for ExecuTorch
                and batches of one, ``.pt`` its weights, a state_dict;
                ``.db`` (``.sqlite``, ``.sqlite3``) takes the study as SQLite, ``.journal``
                (``.log``) as a journal.
            arch: None takes the best.
            whole: write the untrained network at full width instead, as for ``model``.
            force: replace a study that is there.

        Raises:
            ValueError: another ending, ``whole`` with decisions, which have no width, or an
                architecture with a study, which holds all.
            LookupError: the shape of an example is not known, or the space is not at hand.
            FileNotFoundError: there is no such folder.
            FileExistsError: there is such a study.
            ImportError: ExecuTorch is not installed.
        """
        from raynas.results.exporting import export_arch, export_trials, file_of

        name, of_trials = file_of(file)
        if of_trials:
            export_trials(lambda: self._recorded, name, arch, whole, force)
            return
        chosen = Arch(self.best.arch if arch is None else arch)
        export_arch(self._parts, chosen, name, whole, lambda: self.model(chosen, whole=whole))

    def save(
        self,
        folder: str | Path,
        arch: Mapping[str, Value] | None = None,
        *,
        whole: bool = False,
        force: bool = False,
    ) -> str:
        """Write a network of a converted model into a folder, from which it loads without raynas.

        The network is that of ``model``. See ``raynas.nn.named.save.save_network``.

        Args:
            folder: local path; it must hold no network.
            arch: None takes the best.
            whole: with initial weights instead, as for ``model``.
            force: replace a network that is there.

        Returns:
            What loads it, as a line of Python.

        Raises:
            TypeError: the space is of no model that was converted.
            ValueError: no library builds its model by a name.
            FileExistsError: the folder holds a network.
            LookupError: the space or the data were a user's own and are not at hand.
        """
        from raynas.nn.named.save import files_there, save_network

        files_there(folder, force=force)  # said before the network is made, which takes a while
        chosen = Arch(self.best.arch if arch is None else arch)
        net = self.model(chosen, whole=whole)
        return save_network(net, self.rebuilt.space, chosen, folder, force=force)

    def optuna_study(self, storage: Any = None) -> optuna.Study:
        """Return the run's trials as a study of Optuna, named like the run's folder.

        Every label is a categorical parameter, values are as measured, and bounds are constraints
        (see ``raynas.results.optuna_study.fill_study``).

        Args:
            storage: of Optuna, which must hold no study of this name; None keeps it in memory.
        """
        from raynas.results.optuna_study import fill_study

        return fill_study(self._recorded, storage)

    def dashboard(self) -> Any:
        """Return optuna-dashboard on the run, with the report's pictures, as a WSGI application.

        It shows the trials that are there now: the study is in memory, and the run is only read.

        Raises:
            ModuleNotFoundError: optuna-dashboard is not installed (``raynas[dashboard]``).
        """
        from raynas.report.page_pictures import drawn_pictures
        from raynas.results.dashboard import dashboard_app

        return dashboard_app(self.optuna_study(), drawn_pictures(self.report_data))

    @property
    def _recorded(self) -> RecordedRun:
        """What a study of Optuna is made of."""
        from raynas.results.optuna_study import RecordedRun, space_at_hand

        trials = self._judgement.trials
        own, at_hand = self._parts.own_space, self._parts.needs_no_import
        space = space_at_hand(self.config, own, trials) if at_hand else None
        return RecordedRun(self.path, self.config, trials, space)

    def report(self, file: str | None = None, *, refresh_s: float | None = None) -> str:
        """Write pictures of the run as one HTML page that opens offline, and return its path.

        Args:
            file: local path; None writes ``report.html`` into the run's folder.
            refresh_s: seconds after which the page loads itself again, for a run that goes on.
        """
        from raynas.report.page import report_page

        page = report_page(self.report_data, refresh_s=refresh_s)
        if file is not None:
            Path(file).write_text(page, encoding="utf-8")
            return file
        self.folder.write(REPORT, page)
        return under(self.path, REPORT)

    @property
    def plot(self) -> Plots:
        """The run's pictures, one method each, such as ``result.plot.history()``."""
        from raynas.results.plots import Plots

        return Plots(lambda: self.report_data)

    @property
    def report_data(self) -> ReportData:
        """What the pictures of the run are drawn from."""
        from raynas.results.report_data import read_report_data

        return read_report_data(
            self.folder, self.config, self.judged, self.history, self._parts.option_names
        )
