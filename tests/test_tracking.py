"""Trackers: what a project's own client has kept of a run, read back by that project's reader."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import raynas
from raynas.cli import main
from raynas.core.errors import UnknownName
from raynas.core.pipeline import pipeline_config
from raynas.core.progress import Progress, RunInfo, RunSummary
from raynas.nn import space_of
from raynas.report.tracking import TRACKERS, Point, Tracker
from raynas.report.tracking import session as tracking_session
from raynas.setup.pipeline import arguments
from raynas.setup.registries import available, describe
from raynas.storage.tables import read_history
from tests.inline import INLINE
from tests.toynet import ToyNet

# MLflow's store asks SQLAlchemy for what its newest release deprecates
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow")

SPACE = raynas.ArchSpace.of(depth=[1, 2, 3, 4, 5, 6, 7, 8])
NAMES = sorted(TRACKERS)
HANGS_S = 60.0
FILES = {"mlflow", "wandb"}  # trackers that keep files


def score(arch: Mapping[str, Any]) -> dict[str, float]:
    """Score most depths, and go wrong with one."""
    if arch["depth"] == 3:
        raise ArithmeticError("three is no depth")
    return {"accuracy": abs(arch["depth"] - 4.5) / 5, "size": float(arch["depth"])}


@dataclass
class Kept:
    """What a tracker has kept of a run.

    Attributes:
        points: step and value by metric, in the order of steps.
        config: of the run.
        arch: the best architecture, as JSON.
        files: names of artifacts.
    """

    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    arch: str | None = None
    files: set[str] = field(default_factory=set)


def of_tensorboard(out: Path) -> Kept:
    """Read event files by TensorBoard's own reader."""
    reader = import_module("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    texts = {
        tag.removesuffix("/text_summary"): events.Tensors(tag)[-1].tensor_proto.string_val[0]
        for tag in tags["tensors"]
        if tag.endswith("/text_summary")
    }
    arch = texts.get("arch")
    return Kept(
        points={
            tag: sorted((one.step, one.value) for one in events.Scalars(tag))
            for tag in tags["scalars"]
        },
        config=json.loads(texts["config"]),
        arch=None if arch is None else arch.decode().strip(),
    )


def of_mlflow(out: Path) -> Kept:
    """Read a run by MLflow's client."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{out}/mlflow.db")
    number = json.loads((out / "tracking.json").read_text())["mlflow"]["id"]
    run = client.get_run(number)
    assert run.info.status == "FINISHED"
    assert run.data.params["versions.raynas"] == raynas.__version__
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    return Kept(
        points={
            name: sorted((one.step, one.value) for one in client.get_metric_history(number, name))
            for name in run.data.metrics
        },
        config=json.loads((folder / "config.json").read_text()),
        arch=(folder / "arch.json").read_text() if (folder / "arch.json").exists() else None,
        files={path.name for path in folder.iterdir()},
    )


def of_wandb(out: Path) -> Kept:
    """Read the records of all offline starts, as the client's own messages."""
    messages = import_module("wandb.proto.wandb_internal_pb2")
    kept, numbers = Kept(), set()
    for path in sorted((out / "wandb").glob("offline-run-*/run-*.wandb")):
        for record in ended_records(path, messages.Record):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                numbers.add(record.run.run_id)
                kept.config |= {
                    item.key: json.loads(item.value_json) for item in record.run.config.update
                }
            elif kind == "history":
                row = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                step = row.pop("epoch") if "epoch" in row else row.pop("trial/number")
                for name, value in row.items():
                    if not name.startswith("_"):
                        kept.points.setdefault(name, []).append((step, value))
            elif kind == "summary":
                for item in record.summary.update:
                    if item.key == "arch":
                        kept.arch = json.loads(item.value_json)
            elif kind == "files":
                kept.files |= {file.path for file in record.files.files}
    assert len(numbers) == 1, "all starts are one run"
    return kept


def ended_records(path: Path, record: Any) -> list[Any]:
    """Return the records of a start, once its last one says that it is over.

    The client's own service writes them, and may be behind on a busy machine.
    """
    deadline = time.monotonic() + HANGS_S
    while True:
        records = [record.FromString(data) for data in leveldb_records(path.read_bytes())]
        if any(found.WhichOneof("record_type") == "exit" for found in records):
            return records
        assert time.monotonic() < deadline, "the client did not end its start"
        time.sleep(0.2)


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """Yield what a log in LevelDB's format holds: blocks of 32 KiB, records in parts."""
    at, whole = 7, b""  # behind the header
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


READERS: dict[str, Callable[[Path], Kept]] = {
    "mlflow": of_mlflow,
    "tensorboard": of_tensorboard,
    "wandb": of_wandb,
}


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no client talk to a server."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def approximate(points: Sequence[tuple[int, float]]) -> list[tuple[int, Any]]:
    """Return points whose values, which event files hold in single precision, may differ so."""
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in points]


def test_every_tracker_is_read_here() -> None:
    assert READERS.keys() == set(NAMES) == set(available("trackers"))


@pytest.mark.parametrize("name", NAMES)
def test_searches_and_trainings_are_tracked_and_go_on(name: str, tmp_path: Path) -> None:
    """DARTS trains for two epochs, its best are scored, and more of them in a second start.

    What the tracker has is what the run's own tables hold.
    """
    given: dict[str, Any] = {"out": str(tmp_path), "ray": INLINE}
    raynas.search(
        ToyNet, "darts", epochs=2, trials=3, options={"batch_size": 256}, track=name, **given
    )
    result = raynas.search(out=str(tmp_path), resume=True, trials=6)  # which keeps its tracker
    kept = READERS[name](tmp_path)
    history = read_history(str(tmp_path)).to_pylist()
    assert len(history) == 2
    numbers = {k for k, v in history[0].items() if isinstance(v, int | float)} - {"epoch"}
    for column in numbers:
        points = [(at, float(row[column])) for at, row in enumerate(history)]
        assert kept.points.pop(column) == approximate(points), column
    trials = result.trials.sort_values("told_event")
    assert len(trials) == 6
    for metric in ("accuracy", "loss", "params", "macs", "activation_bytes"):
        points = list(zip(trials["trial"], trials[metric], strict=True))
        assert kept.points.pop(f"trial/{metric}") == approximate(points)
    best = list(zip(trials["trial"], trials["accuracy"].cummax(), strict=True))
    assert kept.points.pop("best/accuracy") == approximate(best)
    assert not kept.points
    assert kept.config["space"]["name"] == result.config.space.name
    assert kept.config["trials"] == 6
    assert kept.arch == result.best.arch.to_json()
    assert ({"best.json", "report.html"} <= kept.files) == (name in FILES)


def search(out: Path, **more: Any) -> raynas.Result:
    usual: dict[str, Any] = {"evaluator": score, "trials": 8, "ray": INLINE}
    return raynas.search(SPACE, "random", out=str(out), **usual | more)


def test_best_so_far_goes_on_from_the_start_before(tmp_path: Path) -> None:
    search(tmp_path, trials=4, track=("tensorboard", {}))
    result = search(tmp_path, resume=True, track="TensorBoard")
    points = of_tensorboard(tmp_path).points
    trials = result.trials.sort_values("told_event")
    best = list(zip(trials["trial"], trials["accuracy"].cummax().ffill(), strict=True))
    known = [point for point in best if point[1] == point[1]]
    assert points["best/accuracy"] == approximate(known)
    completed = trials.dropna(subset=["size"])
    sizes = list(zip(completed["trial"], completed["size"], strict=True))
    assert points["trial/size"] == approximate(sizes)
    assert len(sizes) == 7, "one failed"


def test_trainings_of_one_network_are_tracked(tmp_path: Path) -> None:
    track = [("tensorboard", {"folder": str(tmp_path / "tensorboard")})]
    run = raynas.train_supernet(
        ToyNet, epochs=2, out=str(tmp_path / "supernet"), ray=INLINE, track=track
    )
    history = read_history(str(tmp_path / "supernet")).to_pylist()
    points = of_tensorboard(tmp_path).points
    assert points["loss"] == approximate([(at, row["loss"]) for at, row in enumerate(history)])
    assert Path(run).is_dir()
    trained = raynas.retrain(
        {"first": "k3", **dict.fromkeys(other_labels(), 1)},
        space=ToyNet,
        epochs=2,
        out=str(tmp_path / "network"),
        ray=INLINE,
        track="tensorboard",
    )
    kept = of_tensorboard(tmp_path / "network")
    expected = list(enumerate(trained.history["accuracy"]))
    assert kept.points["accuracy"] == approximate(expected)
    assert kept.arch == trained.arch.to_json()
    assert kept.config["settings"]["epochs"] == 2


def other_labels() -> list[str]:
    return [label for label in space_of(ToyNet()).decisions if label != "first"]


@pytest.mark.parametrize(("name", "module"), [("mlflow", "mlflow"), ("wandb", "wandb")])
def test_a_missing_client_is_said_before_anything_starts(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'pip install "raynas\[{name}\]"') as caught:
        search(tmp_path / "run", track=name)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_tensorboard_is_said_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r'pip install "raynas\[tensorboard\]"'):
        TRACKERS.build("tensorboard")


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ("tensorbord", UnknownName, "did you mean 'tensorboard'"),
        (["mlflow", "wandbb"], UnknownName, "did you mean 'wandb'"),
        (("wandb", {"projekt": "x"}), ValueError, "did you mean 'project'"),
        ({"wandb": {"mode": "sleeping"}}, ValueError, "'online', 'offline' or 'disabled'"),
        (3, TypeError, "track: expected a name such as"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    given: Any, kind: type[Exception], text: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=text):
        search(tmp_path / "run", track=given)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_names_the_nearest_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["search", "mobilenet_v2", "--track", "tensorbord:folder=x"]
    assert main(arguments) == 2
    assert "did you mean 'tensorboard'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_steps_of_a_pipeline_take_what_stands_above_them() -> None:
    own = {"search": {"track": ["wandb", {"mlflow": {"experiment": "mine"}}]}}
    config = pipeline_config(
        {"track": "tensorboard", "steps": [{"search": {}}, own]}, sets={}, smoke=False
    )
    taken = [arguments(config, step)["track"] for step in config.steps]
    assert taken == ["tensorboard", own["search"]["track"]]


def test_descriptions_say_what_a_tracker_does() -> None:
    for name in NAMES:
        assert describe(name).startswith(f"{name} (tracker)")
    assert "experiment = 'raynas'" in describe("mlflow")


def test_clients_are_imported_where_they_are_asked_for_only() -> None:
    program = (
        "import sys, raynas.report.reporting; from raynas.report.tracking import TRACKERS\n"
        "clients = {'mlflow', 'wandb', 'tensorboard', 'torch'}\n"
        "print(list(TRACKERS), sorted(clients & {*sys.modules}))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.stdout.strip() == f"{NAMES} []", told.stderr


class Unsteady(Tracker):
    """Keeps points; a server that is away at first, or always."""

    last: Unsteady

    def __init__(self, *, failures: int = 0) -> None:
        self.failures, self.points, self.ended = failures, list[Point](), ""
        Unsteady.last = self

    def begin(self, run: RunInfo, before: str | None) -> str | None:
        """Begin."""
        return before

    def log(self, points: Sequence[Point]) -> None:
        """Take points, unless it is away."""
        if self.failures:
            self.failures -= 1
            raise ConnectionError("nobody answers")
        self.points += points

    def finish(self, summary: RunSummary) -> None:
        """Take the summary."""
        self.summary = summary

    def end(self, status: str) -> None:
        """Remember how it ended."""
        self.ended = status


@pytest.fixture
def unsteady(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracker ``unsteady`` is registered while a test runs; every number is sent at once."""
    for names in ("_entries", "_aliases", "_names"):
        monkeypatch.setattr(TRACKERS, names, dict(vars(TRACKERS)[names]))
    TRACKERS.register("unsteady", Unsteady)
    monkeypatch.setattr(tracking_session, "SEND_S", 0.0)
    monkeypatch.setattr(tracking_session, "RETRY_S", 0.0)


@pytest.mark.usefixtures("unsteady")
def test_what_a_server_did_not_take_is_sent_again(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match=r"unsteady took nothing \(ConnectionError: nobody"):
        search(tmp_path, track=("unsteady", {"failures": 3}))
    steps = [point.step for point in Unsteady.last.points]
    assert steps == sorted(steps) == list(dict.fromkeys(steps))
    assert len(steps) == 8
    assert Unsteady.last.ended == "finished"
    assert "unsteady took nothing" in (tmp_path / "logs" / "run.log").read_text()


@pytest.mark.usefixtures("unsteady")
def test_a_server_that_is_away_ends_no_search(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="unsteady took nothing") as shown:
        result = search(tmp_path, track=("unsteady", {"failures": 10**6}))
    assert str(shown[-1].message).endswith("8 epochs and trials were not sent")
    assert len(result.trials) == 8


@pytest.mark.usefixtures("unsteady")
@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "stopped"), (OSError("full"), "failed")]
)
def test_it_is_said_how_a_run_ended(error: BaseException, status: str, tmp_path: Path) -> None:
    class Ending(Progress):
        """Ends the run after a few trials."""

        def told(self, study: Any) -> None:
            if study.told == 3:
                raise error

    with pytest.raises(type(error)):
        search(tmp_path, track="unsteady", progress=Ending())
    assert Unsteady.last.ended == status
    assert [point.step for point in Unsteady.last.points] == [0, 1, 2]


@pytest.mark.usefixtures("unsteady")
def test_a_run_that_goes_on_without_its_tracker_says_so_with_an_empty_list(tmp_path: Path) -> None:
    search(tmp_path, trials=4, track="unsteady")
    first = Unsteady.last
    search(tmp_path, resume=True, trials=6, track=[])
    assert Unsteady.last is first
    search(tmp_path, resume=True, trials=8)
    assert [point.step for point in Unsteady.last.points] == [6, 7]
