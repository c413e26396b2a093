"""The result of a run, read from its folder alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch, Value
from raynas.core.config import RayConfig, SearchConfig, ray_config
from raynas.core.constraints import Constraints, as_constraints
from raynas.core.errors import Unfinished
from raynas.core.feasible import Violation
from raynas.core.finalists import FinalScore
from raynas.core.fixed import write_arch
from raynas.core.locations import under
from raynas.core.model_names import is_model_name, is_own_path
from raynas.core.objectives import Objective, parse_goal
from raynas.core.progress import Progress
from raynas.core.recorded_objects import is_loaded, named_in
from raynas.core.trial import Trial
from raynas.report.order import best_first
from raynas.results import analysis
from raynas.results.final_columns import finals_of, with_finals
from raynas.results.judged import JudgedTrials
from raynas.setup.bounds import space_within
from raynas.setup.problem import Data, Space
from raynas.setup.resolve import PLAIN_SPACE, space_again
from raynas.storage.run_folder import Folder
from raynas.storage.tables import load_trials, read_history, read_trials

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from torch import nn

    from raynas.report.findings import ReportData
    from raynas.results.analysis import Interval
    from raynas.results.models import RunModels
    from raynas.results.optuna_study import RecordedRun
    from raynas.results.plots import Plots
    from raynas.results.verification import Verification

REPORT, VERIFIED = "report.html", "verified.json"


class Result:
    """A finished or stopped run.

    Args:
        path: its folder.
        space: the user's own space, where the run's cannot be imported.
        data: the user's own data, likewise; BatchNorm statistics of ``model`` come from it.
        task: the user's own task, likewise.
    """

    def __init__(self, path: str, *, space: Any = None, data: Any = None, task: Any = None) -> None:
        self.folder = Folder(path)
        self.path = self.folder.path
        self.config: SearchConfig = self.folder.read_config()
        self._own_space, self._own_data, self._own_task = space, data, task

    def __repr__(self) -> str:
        return f"Result({self.path!r}, {len(self.trials)} trials)"

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial, in the order of tells; columns as in docs/trials.md.

        Added is ``duplicates``: how often the row's architecture was asked again; and of a search
        that ended with evaluating its best again, what that gave: ``final_objective`` and others.
        """
        frame: pd.DataFrame = read_trials(self.path).to_pandas()
        asked = frame.groupby("arch_key", sort=False)["arch_key"].transform("size")
        return with_finals(frame.assign(duplicates=asked.astype("int64") - 1), self._finals)

    @cached_property
    def _finals(self) -> dict[str, FinalScore]:
        return finals_of(self.path, self.config)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per training epoch of the supernet, the last where one ran twice."""
        frame: pd.DataFrame = read_history(self.path).to_pandas()
        twice = ["algo", "epoch"]  # a job that was killed goes on from its last checkpoint
        return frame.drop_duplicates(twice, keep="last") if len(frame) else frame

    @cached_property
    def best(self) -> Trial:
        """The trial of the best objective; ties go to the lower loss, then to the earlier.

        Of a search with ``final``, it is the best of those that were evaluated again at its end.

        Counted are, as in all answers, trials that are known to keep the run's own bounds, those of
        its last resumption (see ``judged``): not one that was told before a metric was bounded,
        and without it.

        Raises:
            Unfinished: no trial was completed; the message quotes the first error.
        """
        best = self._judgement.best(self._finals)
        if best is None:
            why = self._judgement.why_none()
            raise Unfinished(f"{self.path} has no completed trial: {why}")
        return best

    def top(self, count: int = 10) -> pd.DataFrame:
        """Return the best trials, best first, by the order of ``best``."""
        frame = self.judged[self.judged["objective"].notna()]
        frame = frame[frame["status"] != "duplicate"]
        return best_first(frame).head(count)

    def pareto(self, objectives: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Return the trials that no other trial beats.

        Args:
            objectives: metric to "max" or "min"; None takes the run's own.

        Raises:
            KeyError: a metric that no trial has.
        """
        return analysis.front(self.judged, self._goals(objectives))

    def hypervolume(
        self,
        reference: Mapping[str, float] | None = None,
        objectives: Mapping[str, str] | None = None,
    ) -> float:
        """Return the volume of objectives that the completed trials dominate.

        Args:
            reference: the worst value of every objective that counts; None takes the worst
                measured, which makes volumes of different runs incomparable.
            objectives: metric to "max" or "min"; None takes the run's own.
        """
        return analysis.volume(self.judged, self._goals(objectives), reference)

    def knee(self, objectives: Mapping[str, str] | None = None) -> pd.Series:
        """Return the trial where the Pareto front bends most (Das, 1999).

        Args:
            objectives: metric to "max" or "min"; None takes the run's own.
        """
        return analysis.knee(self.judged, self._goals(objectives))

    def query(
        self,
        constraints: Constraints | None = None,
        objectives: Mapping[str, str] | None = None,
    ) -> pd.DataFrame:
        """Answer another question from the trials that are there, without evaluating any.

        Args:
            constraints: bounds in place of the run's own, as for ``raynas.search``; None takes the
                run's own, an empty list none.
            objectives: metric to "max" or "min"; None takes the run's own.

        Returns:
            The trials that keep the bounds: best first, or the front of several objectives.
        """
        goals = self._goals(objectives)
        if constraints is None:
            return analysis.query(self.judged[self.judged["status"] == "completed"], (), goals)
        return analysis.query(self.trials, as_constraints(constraints), goals)

    def importance(self, objective: str | None = None) -> pd.DataFrame:
        """Return how much each choice matters (see ``raynas.results.analysis.importance``).

        Args:
            objective: a metric, such as ``accuracy`` or ``macs:min``; None takes the run's first.
        """
        wanted = self.config.objectives if objective is None else dict([parse_goal(objective)])
        return analysis.importance(self.judged, self._goals(wanted)[0])

    def solve(self, constraints: Constraints | None = None, top: int = 10) -> pd.DataFrame:
        """Return what sums over blocks say is best under other bounds, without any evaluation.

        Of a run by ``block_library``, exactly, by integer programming. Columns: ``gain``, the sum
        of the differences to the parent by what the run went by, ``predicted``, the objective that
        this promises, ``objective`` where the run has measured it, costs, ``arch``, ``arch_key``.

        Args:
            constraints: bounds on costs in place of the run's own, as for ``raynas.search``; None
                takes the run's own, an empty list none.
            top: how many.

        Raises:
            ValueError: the run is of another algorithm, or a bound cannot be kept, or is on what
                only an evaluation tells.
            Unfinished: not all variants were scored.
        """
        from raynas.results.block_solutions import (
            RunLibrary,
            bounded_config,
            check_library,
            check_solvable,
        )

        if top < 1:
            raise ValueError(f"solve: expected top to be at least 1, got {top}")
        config = self.config
        wanted = as_constraints(config.constraints if constraints is None else constraints)
        config = bounded_config(config, wanted)
        check_library(config)
        if config.space.name == PLAIN_SPACE:
            space = space_again(config.space, self._own_space, None)
        else:
            models = self.rebuilt
            space = Space(config.space, models.space.arch_space, models.space)
            space = space_within(config, space, models.data_at_hand, self.folder)
        check_solvable(space, wanted)
        return RunLibrary(config, space, load_trials(self.path)).solve(top)

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
        from raynas.results.verification import Comparison, verify
        from raynas.setup.resolve_task import with_task

        if min(top, seeds) < 1:
            raise ValueError(
                f"verify needs at least one architecture and seed, got {top} and {seeds}"
            )
        if self._judgement.best() is None:
            why = self._judgement.why_none()
            raise Unfinished(f"{self.path} has no completed trial to verify: {why}")
        space, data = self._problem_parts()
        if (task, loss, metrics) != (None, None, None):
            data = with_task(data, task or data.module.task, loss, metrics)
        news = progress or Progress()
        space, sums = self._spanned(space_within(self.config, space, data, self.folder))
        comparison = Comparison(
            path=self.path,
            space=space,
            data=data,
            best=[Arch.from_json(text) for text in self.top(top)["arch"]],
            top=top,
            seed=self.config.seed,
            cheap_scores=self._cheap_scores,
            sums=sums,
        )
        try:
            verification = verify(
                comparison, seeds=seeds, options=options or {}, ray=ray_config(ray), progress=news
            )
        finally:
            news.close()
        self.folder.write(VERIFIED, verification.to_json())
        return verification

    def _spanned(self, space: Space) -> tuple[Space, Callable[[Arch], float | None] | None]:
        """Return the space that is verified, and what a library of blocks expects, if there is one.

        Sums rise where the stand-alone score does.
        """
        from raynas.results.block_solutions import ALGO, RunLibrary, within

        if self.config.algo.name != ALGO:
            return space, None
        library = RunLibrary(self.config, space, load_trials(self.path))
        _, goal = self.rebuilt.data.task.objective
        sign = 1.0 if goal == "max" else -1.0

        def expected(arch: Arch) -> float | None:
            total = library.total(arch)
            return None if total is None else sign * total

        return within(space, library), expected

    def _cheap_scores(self, archs: Sequence[Arch]) -> Mapping[str, float]:
        """Return the score that a search would go by, by architecture key."""
        if self.rebuilt.checkpoint is not None:
            rows = self.rebuilt.rescore(archs)
            metric, _ = self.rebuilt.data.task.objective
            return {a.key: row[f"valid_{metric}"] for a, row in zip(archs, rows, strict=True)}
        frame = self.judged.dropna(subset=["objective"])
        return dict(zip(frame["arch_key"], frame["objective"], strict=True))

    def rank_correlation(self, first: str = "shared", other: str = "standalone") -> Interval:
        """Return Kendall's tau between two evaluators' objectives of the same architectures.

        Counted are this run's trials, what its end evaluated again, and what ``verify`` trained.

        Args:
            first: name of an evaluator.
            other: name of another.

        Raises:
            LookupError: fewer than three architectures have both scores.
            UnknownName: no row is of an evaluator of this name.
        """
        from raynas.results.verification import scores_by

        return scores_by(self.path, self.judged, first, other)

    def _problem_parts(self) -> tuple[Space, Data]:
        """Return the run's space and data as a search takes them."""
        models = self.rebuilt
        space = Space(self.config.space, models.space.arch_space, models.space)
        return space, Data(self.config.data, models.data)

    @cached_property
    def judged(self) -> pd.DataFrame:
        """``trials``, with ``status`` and ``objective`` as the run judges them now.

        Bounds, and weights of several objectives, are those of its last start; an earlier one's may
        have been others, and the rows on disk say what was told then. All that a result answers,
        its report included, goes by this table.
        """
        return self._judgement.table(self.trials)

    @cached_property
    def _judgement(self) -> JudgedTrials:
        return JudgedTrials(load_trials(self.path), self.config, self._bounds)

    @property
    def _needs_no_import(self) -> bool:
        """Whether space and task can be made of what was given, and what this process has loaded.

        A folder may come from a stranger: to read it runs no code that it names.
        """
        config = self.config
        parts = [
            None if self._own_space is not None else config.space,
            None if self._own_task is not None else config.task,
        ]
        specs = [part.model_dump() for part in parts if part is not None]
        library = {name for name in (config.space.name,) if is_model_name(name)}
        return all(map(is_loaded, {*named_in(specs)} - library))

    def _bounds(self) -> Violation | None:
        """Return the run's bounds on costs; None where the space is not at hand, or builds none."""
        if not self._needs_no_import:
            return None
        try:
            within = space_within(self.config, *self._problem_parts(), self.folder)
        except (LookupError, TypeError):
            return None
        violation = within.arch_space.violation
        return violation if isinstance(violation, Violation) else None

    def _goals(self, objectives: Mapping[str, str] | None) -> list[Objective]:
        return analysis.objectives_of(self.trials, objectives or self.config.objectives)

    @cached_property
    def rebuilt(self) -> RunModels:
        """The run's space, data and supernet, made again."""
        from raynas.results.models import rebuild

        supernet = self.config.supernet
        place = None if supernet is None else self.folder.supernet(supernet)
        own = self._own_space, self._own_data, self._own_task
        return rebuild(self.config, self.path, place, *own)

    def model(self, arch: Mapping[str, Value] | None = None, *, whole: bool = False) -> nn.Module:
        """Return an architecture as a plain module in evaluation mode.

        With a supernet, it has the supernet's weights, and BatchNorm statistics of up to 2,000
        training images under this architecture; otherwise those that the evaluator returned for the
        best, if it did, else initial weights, by the run's seed. It is the network that was scored:
        after ``pc_darts`` a narrow one, which acts on a share of its channels (``rebuilt.narrow``
        tells).

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

        return newest_trained(self.path, self._own_space).model()

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
        from raynas.results.optuna_study import ENDINGS as STUDIES
        from raynas.results.optuna_study import write_study
        from raynas.results.program_files import ENDINGS, checked_file, write_network

        file = checked_file(file, (*ENDINGS, *STUDIES))
        if file.endswith(STUDIES):
            if arch is not None or whole:
                raise ValueError(f"export: {file} takes all trials: leave out arch and whole")
            write_study(self._recorded, file, force=force)
            return
        chosen = Arch(self.best.arch if arch is None else arch)
        if file.endswith(".json"):
            if whole:
                raise ValueError(
                    "export: whole goes with a network (.pt, .pt2, .onnx, .pte), not with .json"
                )
            Path(file).write_text(write_arch(chosen))
            return
        net = self.model(chosen, whole=whole)
        write_network(net, file, self._signature, self.config.task)

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
        from raynas.nn.named.save import save_network

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
        at_hand = self._needs_no_import
        space = space_at_hand(self.config, self._own_space, trials) if at_hand else None
        return RecordedRun(self.path, self.config, trials, space)

    def _signature(self) -> Any:
        """Return shapes and dtypes of an example's inputs."""
        if self.config.inputs is not None:
            return self.config.inputs
        if self.config.input_shape is not None:
            return {"shape": self.config.input_shape, "dtype": "float32"}
        if self.config.data is None and self.rebuilt.data_at_hand is None:
            raise LookupError(
                "export: the run used no data, so that the shape of an example is not known; pass "
                "raynas.load(path, data=...), or search a raynas.ModelSpace(..., input_shape=...) "
                "or (..., example=...)"
            )
        return self.rebuilt.data.signature

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
            self.folder, self.config, self.judged, self.history, self._option_names
        )

    def _option_names(self) -> Mapping[str, Sequence[str]]:
        """Return what candidates without names are, where the space is a user's and is at hand."""
        from raynas.results.option_names import option_names

        if self._own_space is None and not is_own_path(self.config.space.name):
            return {}
        if not self._needs_no_import:
            return {}
        try:
            return option_names(self.rebuilt.space.supernet(self.config.seed))
        except (LookupError, TypeError, ValueError, ImportError):
            return {}
