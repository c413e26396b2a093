"""Runs by URI: in an object store they leave, answer and refuse what they do in a local folder."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pyarrow import fs
from torch.utils.data import TensorDataset

import raynas
from raynas.cli import main
from raynas.cluster.connect import connected
from raynas.core.config import RayConfig
from raynas.core.errors import StoreMismatch
from raynas.core.locations import last_name, parent, under
from raynas.costs import LatencyTable
from raynas.results.run_list import RunList
from raynas.results.watch import watch
from raynas.storage import file_systems, local_copies, parquet, part_writer
from raynas.storage.file_systems import Keys, known_keys
from raynas.storage.local_copies import local_copy
from raynas.storage.run_folder import CONFIG, Folder, absolute
from raynas.storage.table_writers import TrialStore
from raynas.storage.tables import load_trials, read_history
from raynas.supernet.checkpoint import WEIGHTS, find_checkpoint, load_about, load_weights
from tests.inline import INLINE
from tests.object_store import BUCKET, KEYS, Server, serving
from tests.toynet import ToyNet

SPACE = raynas.ArchSpace.of(depth=[1, 2, 3, 4], width=[8, 16, 32], kernel=list(range(20)))
OF_ITS_OWN = ["started_utc", "finished_utc", "duration_s", "node", "worker"]  # when and where
KINDS = ["local", "file", "query", "environment"]
FULL = [pytest.param(kind, marks=pytest.mark.full) for kind in KINDS]
ONE_KIND = ["query", *(kind for kind in FULL if kind.values != ("query",))]
SECRET = "wJalr%2FXUtn"
IMAGES = TensorDataset(
    torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 10
)
TRAINING: dict[str, Any] = {"batch_size": 16}


@dataclass(frozen=True)
class Place:
    """Where runs go: a local folder, or one in a bucket."""

    root: str
    folder: Path
    server: Server | None = None

    def at(self, *names: str) -> str:
        """Return a path or URI in it."""
        return under(self.root, *names)

    def files(self, *names: str) -> list[str]:
        """Return the relative paths of all files below a folder, seen by another client."""
        if self.server is not None:
            return self.server.names("/".join([self.folder.name, *names]))
        top = self.folder.joinpath(*names)
        return sorted(str(p.relative_to(top)) for p in top.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that a test has named are forgotten after it."""
    monkeypatch.setattr(file_systems, "_KEYS", Keys())


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment, and no others."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in (KEYS | {"AWS_EC2_METADATA_DISABLED": "true"}).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place of the kind that the test is run with."""
    request.getfixturevalue("keys")
    kind = request.param
    if kind == "local":
        return Place(str(tmp_path), tmp_path)
    if kind == "file":
        return Place(tmp_path.as_uri(), tmp_path)
    server: Server = request.getfixturevalue("server")
    folder = Path(uuid.uuid4().hex)
    if kind == "query":
        return Place(server.uri(folder.name), folder, server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return Place(f"s3://{BUCKET}/{folder.name}", folder, server)


FAN = 8


@pytest.fixture
def few_in_a_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merges that come early, since every request takes milliseconds."""
    monkeypatch.setattr(part_writer, "FAN", FAN)


def over(kinds: list[Any]) -> pytest.MarkDecorator:
    """Run a test in places of several kinds."""
    return pytest.mark.parametrize("place", kinds, indirect=True)


def score(arch: raynas.Arch) -> dict[str, Any]:
    depth, width, kernel = (float(arch[name]) for name in ("depth", "width", "kernel"))  # type: ignore[arg-type]
    if kernel == 7:
        raise ArithmeticError("no kernel of seven here")
    return {"accuracy": depth * width - kernel, "note": f"of {depth}"}


def searched(out: str, trials: int = 6, **given: Any) -> raynas.Result:
    own: dict[str, Any] = {"evaluator": score, "seed": 3, "ray": INLINE}
    return raynas.search(SPACE, "random", out=out, trials=trials, **own | given)


def told(result: raynas.Result) -> pd.DataFrame:
    """Return what a run's trials say, but for their time and place."""
    return result.trials.drop(columns=OF_ITS_OWN)


# --- the law: a place is as good as another -------------------------------------------------------


@over(KINDS)
def test_a_search_leaves_the_same_rows_and_files_wherever_it_writes(
    place: Place, tmp_path: Path
) -> None:
    result = searched(place.at("run"))
    assert result.path == absolute(place.at("run"))
    with pytest.raises(FileExistsError, match="holds another run"):
        searched(place.at("run"))
    result = searched(place.at("run"), trials=9, resume=True)
    local = searched(str(tmp_path / "reference"))
    local = searched(str(tmp_path / "reference"), trials=9, resume=True)
    assert told(result).equals(told(local))
    assert place.files("run") == sorted(
        str(p.relative_to(local.path)) for p in Path(local.path).rglob("*") if p.is_file()
    )
    assert result.config.model_copy(update={"out": local.path}) == local.config
    read = pd.read_parquet(place.at("run", "trials"))  # by another program
    assert read["trial"].tolist() == result.trials["trial"].tolist()


@over(ONE_KIND)
def test_all_that_is_asked_of_a_run_is_answered_wherever_it_lies(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place.at("runs", "one")
    searched(out)
    result = raynas.load(out)
    assert result.best.metrics == result.query()["accuracy"].head(1).to_frame().iloc[0].to_dict()
    assert result.report() == under(result.path, "report.html")
    assert "<html" in result.folder.read("report.html")
    assert result.optuna_study().study_name == "one"
    assert result.dashboard() is not None
    result.plot.history(file=str(tmp_path / "history.json"))
    result.export(str(tmp_path / "best.json"))
    result.export(str(tmp_path / "study.journal"))
    assert watch(out, sleep=lambda _: pytest.fail("the run has ended")) == under(
        result.path, "report.html"
    )
    rows = RunList(place.at("runs")).rows()
    assert [(row.name, row.state, row.told) for row in rows] == [("one", "ended", 6)]
    assert RunList(out).rows()[0].name == "one"
    capsys.readouterr()
    assert main(["trials", out, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 6
    assert main(["export", out, str(tmp_path / "other.json")]) == 0
    assert main(["ui", place.at("runs"), "--json"]) == 0
    capsys.readouterr()
    assert main(["report", out, "--out", "s3://bucket/report.html"]) == 2
    assert "s3://bucket/report.html is a URI: expected a local file" in capsys.readouterr().err


@over(ONE_KIND)
def test_tables_latencies_and_earlier_runs_are_read_by_uri(place: Place, tmp_path: Path) -> None:
    folder = Folder(place.at("tables"))
    rows = [{"depth": d, "score": 10.0 - d} for d in (1, 2, 3)]
    pd.DataFrame(rows).to_parquet(tmp_path / "scores.parquet")
    pd.DataFrame(rows).to_csv(tmp_path / "scores.csv", index=False)
    LatencyTable.load(_latencies(tmp_path), DEPTHS).save(tmp_path / "latency.csv")
    for name in ("scores.parquet", "scores.csv", "latency.csv"):
        folder.put_file(tmp_path / name, name)
    runs = [
        raynas.search(
            DEPTHS,
            "grid",
            evaluator=["table", {"path": place.at("tables", name)}],
            objectives={"score": "max", "latency_ms": "min"},
            scalarize={"score": 1.0, "latency_ms": -1.0},
            latency=place.at("tables", "latency.csv"),
            out=place.at(f"run-{name}"),
            ray=INLINE,
        )
        for name in ("scores.parquet", "scores.csv")
    ]
    for run in runs:
        assert run.best.metrics == {"score": 9.0, "latency_ms": 1.5}
        assert Folder(run.path).has("latency_table.json")
    first = raynas.search(
        SPACE, "predictor", evaluator=score, trials=4, ray=INLINE, out=place.at("first")
    )
    second = raynas.search(
        SPACE,
        "predictor",
        evaluator=score,
        trials=4,
        options={"warm_start": first.path},
        out=place.at("second"),
        ray=INLINE,
    )
    assert first.trials["predicted"].isna().all()
    assert second.trials["predicted"].notna().any()  # by what the first has measured


DEPTHS = raynas.ArchSpace.of(depth=[1, 2, 3])


def _latencies(folder: Path) -> Path:
    file = folder / "own.csv"
    lines = ["layer,candidate,latency_ms", ",,0.5", *(f"depth,{d},{d}.0" for d in (1, 2, 3))]
    file.write_text("\n".join(lines) + "\n")
    return file


@over(ONE_KIND)
def test_supernets_are_trained_searched_verified_and_retrained_there(place: Place) -> None:
    given: dict[str, Any] = {"data": (IMAGES, IMAGES), "ray": INLINE}
    phase = {"algo": "spos", "epochs": 1, **TRAINING}
    path = raynas.train_supernet(ToyNet, [phase, phase], out=place.at("supernet"), **given)
    assert path == under(absolute(place.at("supernet")), "supernet")
    assert [row["epoch"] for row in read_history(parent(path)).to_pylist()] == [0, 1]
    assert {f.partition("/")[0] for f in place.files("supernet")} >= {
        "supernet",
        "supernet_phase1",
        "history",
        "logs",
    }
    again = raynas.train_supernet(
        ToyNet, [phase, phase], out=place.at("supernet"), resume=True, **given
    )
    assert again == path
    with pytest.raises(FileExistsError, match="holds a supernet"):
        raynas.train_supernet(ToyNet, [phase, phase], out=place.at("supernet"), **given)

    for supernet in (path, place.at("supernet")):  # the folder of checkpoints, and the run's
        result = raynas.search(
            ToyNet,
            "random",
            supernet=supernet,
            trials=3,
            out=place.at(f"search-of-{len(supernet)}"),
            **given,
        )
        assert result.trials["accuracy"].notna().all()
    assert isinstance(result.model(), torch.nn.Module)
    assert len(result.rescore(2)) == 2
    verified = result.verify(top=1, seeds=1, options={"epochs": 1, **TRAINING}, ray=INLINE)
    assert len(verified.table) == 2
    with pytest.raises(LookupError, match="expected at least 3"):
        result.rank_correlation()

    for inherit in (False, True):
        trained = raynas.retrain(result, epochs=1, inherit=inherit, options=TRAINING, **given)
        assert trained.finished
        assert last_name(trained.path) == str(1 + inherit)
        assert isinstance(result.trained, torch.nn.Module)
    further = raynas.retrain(result, epochs=1, resume=True, options=TRAINING, **given)
    assert further.path == trained.path
    assert json.loads(result.folder.read("verified.json"))["said"] == str(verified)


@over(FULL)
def test_a_search_by_gradients_and_one_that_trains_its_supernet_go_on_there(place: Place) -> None:
    given: dict[str, Any] = {"data": (IMAGES, IMAGES), "ray": INLINE, "epochs": 1}
    found = raynas.search(ToyNet, "gdas", options=TRAINING, out=place.at("gdas"), trials=2, **given)
    assert found.trials["accuracy"].notna().all()
    assert len(found.history) == 1
    shared = raynas.search(
        ToyNet, "random", supernet=TRAINING, out=place.at("shared"), trials=2, **given
    )
    before = load_about(find_checkpoint(local_copy(under(shared.path, "supernet"))))
    further = raynas.search(
        ToyNet, data=(IMAGES, IMAGES), out=place.at("shared"), trials=3, resume=True, ray=INLINE
    )
    assert len(further.trials) == 3
    assert len(further.history) == 1  # the supernet was there
    assert load_about(find_checkpoint(local_copy(under(shared.path, "supernet")))) == before


@over(FULL)
def test_weights_that_an_evaluator_returns_are_kept_there(place: Place) -> None:
    def trained(net: torch.nn.Module) -> Any:
        return {"accuracy": float(sum(p.numel() for p in net.parameters()))}, net.state_dict()

    result = raynas.search(
        ToyNet,
        "random",
        data=(IMAGES, IMAGES),
        evaluator=_of_modules(trained),
        trials=4,
        out=place.at("run"),
        ray=INLINE,
    )
    assert len(place.files("run", "weights")) == 1
    assert isinstance(result.model(), torch.nn.Module)


@over(FULL)
def test_weights_that_the_end_of_a_search_trains_are_kept_there(place: Place) -> None:
    result = raynas.search(
        ToyNet,
        "random",
        data=(IMAGES, IMAGES),
        evaluator=lambda arch: {"accuracy": len(str(dict(arch))) / 100},
        trials=4,
        final={"top": 2, "seeds": 2, "epochs": 1, "batch_size": 16},
        out=place.at("run"),
        ray=INLINE,
    )
    (kept,) = (name for name in place.files("run", "final") if name.endswith(WEIGHTS))
    assert Path(kept).parent.name == result.best.arch.key
    state = load_weights(local_copy(place.at("run", "final", *Path(kept).parent.parts)))
    trained = result.model().state_dict()
    assert all(torch.equal(trained[name], tensor) for name, tensor in state.items())


def _of_modules(function: Any) -> Any:
    function.__annotations__ = {"net": torch.nn.Module}
    return function


@over(FULL)
def test_the_steps_of_a_configuration_file_follow_each_other_there(place: Place) -> None:
    small = {"width": 0.1, "kernels": [3, 5], "depths": [1, 2], "dropout": 0.0}
    config = {
        "space": "ofa_mobilenet_v3",
        "space_options": small,
        "data": "digits",
        "ray": {"inline": True},
        "steps": [
            {"supernet": {"epochs": 1}},
            {"search": {"algo": "random", "trials": 2}},
            {"retrain": {"epochs": 1}},
        ],
    }
    supernet, found, trained = raynas.run(config, out=place.at("steps"))
    root = absolute(place.at("steps"))
    assert supernet == under(root, "1-supernet", "supernet")
    assert found.path == under(root, "2-search")
    assert trained.path == under(root, "3-retrain")
    assert "config.yaml" in place.files("steps")
    again = raynas.run(config, out=place.at("steps"), resume=True)
    assert told(again[1]).equals(told(found))
    with pytest.raises(FileExistsError, match="holds another pipeline"):
        raynas.run(config, out=place.at("steps"))


# --- doors that need a local folder ---------------------------------------------------------------


@over(["query"])
def test_what_needs_a_local_folder_says_so_before_it_starts(place: Place, tmp_path: Path) -> None:
    assert raynas.ask_tell(SPACE, out=(tmp_path / "run").as_uri()).path == str(tmp_path / "run")
    with pytest.raises(ValueError, match="asking and telling take a local folder"):
        raynas.ask_tell(SPACE, out=place.at("run"))
    with pytest.raises(ValueError, match="tensorboard writes to a local folder"):
        searched(place.at("run"), track="tensorboard")
    assert not [name for name in place.files() if "part-" in name]


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow")
@over(["query"])
def test_trackers_that_have_a_place_of_their_own_go_on_by_what_the_bucket_says(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow then keeps files
    with pytest.raises(ValueError, match=r"takes no mlflow\.db"):
        searched(place.at("other"), track="mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    searched(place.at("run"), trials=2, track=("mlflow", {"uri": uri}))
    identity = json.loads(Folder(place.at("run")).read("tracking.json"))["mlflow"]["id"]
    searched(place.at("run"), trials=4, resume=True)
    again = json.loads(Folder(place.at("run")).read("tracking.json"))["mlflow"]["id"]
    assert again == identity


# --- readers and writers at once ------------------------------------------------------------------


@pytest.mark.usefixtures("few_in_a_merge")
@over(["query"])
def test_a_reader_never_sees_a_torn_table_while_parts_are_merged(place: Place) -> None:
    out = place.at("run")
    trials = searched(place.at("other"), trials=3 * FAN)
    rows = load_trials(trials.path)
    store = TrialStore(out, SPACE)
    seen: list[int] = []
    failures: list[BaseException] = []
    over_ = threading.Event()

    def read() -> None:
        try:
            while not over_.is_set():
                seen.append(len(load_trials(out)))
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for row in rows:
            store.append([row])
    finally:
        over_.set()
        reader.join()
    assert not failures
    assert seen == sorted(seen)
    assert load_trials(out) == rows
    assert len(place.files("run", "trials")) < 2 * FAN


@pytest.mark.usefixtures("few_in_a_merge")
@over(["query"])
def test_what_a_killed_writer_has_left_is_taken_by_no_reader(place: Place) -> None:
    """A merge that was cut off, and a checkpoint without its last file."""
    assert place.server is not None
    out = place.at("run")
    rows = load_trials(searched(place.at("other"), trials=FAN).path)
    store = TrialStore(out, SPACE)
    for row in rows[:-1]:
        store.append([row])
    members = [name for name in place.files("run", "trials") if name.endswith(".parquet")]
    store.append(rows[-1:])
    whole = "part-000001-000008.parquet"
    assert whole in place.files("run", "trials")
    other = TrialStore(place.at("again"), SPACE)
    for row in rows[:-1]:
        other.append([row])
    files, root = place.server.files, f"{BUCKET}/{place.folder.name}"
    for name in members[:5]:  # those that the merge had not deleted yet
        files.copy_file(f"{root}/again/trials/{name}", f"{root}/run/trials/{name}")
    assert load_trials(out) == rows
    TrialStore(out, SPACE)
    assert not set(members[:5]) & set(place.files("run", "trials"))
    assert load_trials(out) == rows

    half = Folder(place.at("run", "supernet", "checkpoint_000001"))
    half.write("supernet.json", "{}")  # WEIGHTS comes last
    with pytest.raises(FileNotFoundError, match="no supernet in"):
        find_checkpoint(local_copies.local_checkpoint(place.at("run")))


@over(["query"])
def test_two_runs_in_one_folder_are_told_apart(place: Place) -> None:
    one, two = TrialStore(place.at("run"), SPACE), TrialStore(place.at("run"), SPACE)
    rows = load_trials(searched(place.at("other"), trials=2).path)
    one.append(rows[:1])
    with pytest.raises(StoreMismatch, match=r"part-000001\.parquet is there already"):
        two.append(rows[1:])
    assert load_trials(place.at("run")) == rows[:1]


@pytest.mark.usefixtures("few_in_a_merge")
@over(["query"])
def test_requests_grow_with_the_rows_and_nothing_is_listed_for_each(place: Place) -> None:
    assert place.server is not None
    counts = []
    for trials in (3 * FAN, 6 * FAN):
        searched(place.at(f"of-{trials}-rows"), trials=trials)
        counts.append(place.server.counts(f"of-{trials}-rows"))
        assert counts[-1]["LIST"] <= 20
        assert counts[-1]["GET"] <= trials / FAN + 6
        assert sum(counts[-1].values()) <= 6 * trials + 60
    assert sum(counts[1].values()) <= 2.2 * sum(counts[0].values())


@over(["query"])
def test_what_is_copied_is_copied_once_and_only_what_is_asked_for(place: Place) -> None:
    assert place.server is not None
    folder = Folder(place.at("run"))
    for name in ("supernet/checkpoint_000001", "retrained/1/best"):
        inside = Folder(place.at("run", *name.split("/")))
        inside.write("supernet.json", '{"epoch": 1}')
        inside.write(WEIGHTS, "weights")
    folder.write("report.html", "large")
    copy = local_copies.local_checkpoint(place.at("run"))
    assert sorted(p.name for p in copy.rglob("*") if p.is_file()) == [WEIGHTS, "supernet.json"]
    before = place.server.counts("run/supernet")["GET"]
    assert local_copies.local_checkpoint(place.at("run")) == copy
    assert place.server.counts("run/supernet")["GET"] == before
    Folder(place.at("run", "supernet", "checkpoint_000001")).write(WEIGHTS, "others")
    changed = local_copies.local_checkpoint(place.at("run"))
    assert (changed / "supernet/checkpoint_000001" / WEIGHTS).read_text() == "others"


@over(["query"])
def test_a_name_that_leads_out_of_a_copy_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place.server is not None
    root = f"{BUCKET}/{place.folder.name}"
    monkeypatch.setattr(fs, "copy_files", lambda *_, **__: pytest.fail("copied"))
    info = fs.FileInfo(f"{root}/../../evil", fs.FileType.File, size=1)
    with pytest.raises(StoreMismatch, match="which is no name of a file"):
        local_copies._kept("s3://x", place.server.files, root, [info])


# --- what is wrong is said in one sentence --------------------------------------------------------


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("foo://bucket/run", "no file system has URIs like foo://bucket/run (out=): expected a"),
        ("s3a://bucket/run", "did you mean 's3'?"),
        ("s3:/bucket/run", "did you mean 's3://bucket/run'?"),
        ("s3:///run", "names no bucket (out=)"),
        ("s3://runs/run?endpoint=x", "did you mean 'endpoint_override'?"),
        (f"s3://AKID:{SECRET}", "has no bucket behind its keys (out=)"),
    ],
)
def test_a_uri_that_is_none_is_refused_before_anything_starts(
    out: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        searched(out)
    assert SECRET not in str(refused.value)
    assert main(["trials", out]) == 2
    sentence = capsys.readouterr().err
    assert said in sentence
    assert sentence.startswith("error: ")
    assert len(sentence.splitlines()) == 1


@over(["query", pytest.param("environment", marks=pytest.mark.full)])
def test_a_bucket_that_is_not_there_and_a_file_are_named(place: Place) -> None:
    nowhere = place.at("run").replace(f"s3://{BUCKET}/", "s3://nowhere/")
    with pytest.raises(OSError, match=r"\(out=\): there is no bucket 'nowhere'; make it, or name"):
        searched(nowhere)
    with pytest.raises(OSError, match="there is no bucket 'nowhere'"):
        raynas.load(nowhere)
    Folder(place.at("things")).write("notes.txt", "a file")
    with pytest.raises(OSError, match=r"is a file \(out=\); expected the URI of a folder"):
        searched(place.at("things", "notes.txt"))
    with pytest.raises(FileNotFoundError, match="it is a file, and a run is a folder"):
        raynas.load(place.at("things", "notes.txt"))
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        raynas.load(place.at("nothing"))
    with pytest.raises(FileNotFoundError, match="no supernet in"):
        raynas.search(ToyNet, supernet=place.at("nothing"), data=(IMAGES, IMAGES), ray=INLINE)
    assert place.files("things") == ["notes.txt"]


@pytest.mark.usefixtures("keys")
def test_an_endpoint_where_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        out = f"s3://bucket/run?endpoint_override=127.0.0.1:{port}&scheme=http"
        with pytest.raises(OSError, match=rf"\(out=\): nobody answers at 127\.0\.0\.1:{port};"):
            searched(out)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        with pytest.raises(OSError, match=rf"nobody answers at http://127\.0\.0\.1:{port};"):
            raynas.load("s3://bucket/run")


@pytest.mark.full
@pytest.mark.usefixtures("keys")
def test_an_endpoint_that_is_silent_is_named_within_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        port = silent.getsockname()[1]
        began_s = time.monotonic()
        with pytest.raises(OSError, match="nobody answers"):
            searched(f"s3://bucket/run?endpoint_override=127.0.0.1:{port}&scheme=http")
        assert time.monotonic() - began_s < 60  # AWS' own patience is several times as long


@pytest.mark.full
@pytest.mark.usefixtures("keys")
def test_keys_that_open_nothing_are_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, {"INITIAL_NO_AUTH_ACTION_COUNT": "2"}) as strict:
        with pytest.raises(OSError, match=r"\(out=\): access is refused; expected credentials"):
            searched(strict.uri("run"))
        monkeypatch.setenv("AWS_ENDPOINT_URL", strict.endpoint)
        with pytest.raises(OSError, match="access is refused"):
            raynas.load(f"s3://{BUCKET}/run?region=us-east-1")


@pytest.mark.full
@pytest.mark.usefixtures("keys")
def test_google_storage_goes_the_same_way() -> None:
    """There is no server of its kind to test with; what opens its URIs is what opens the others."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        query = f"endpoint_override={host}&scheme=http&retry_limit_seconds=1"
        folder = Folder(f"gs://anonymous@bucket/run?{query}")
        assert folder.path == f"gs://anonymous@bucket/run?{query}"
        with pytest.raises(OSError, match=r"gs://anonymous@bucket/run\S* cannot be used \(out=\)"):
            folder.has(CONFIG)


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("keys")
def test_keys_in_a_uri_open_it_and_are_written_and_shown_nowhere(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    folder, secret = uuid.uuid4().hex, SECRET.replace("%2F", "/")
    first = server.uri(f"{folder}/first", keys=f"AKIDEXAMPLE:{SECRET}@")
    out = server.uri(f"{folder}/second", keys=f"AKIDEXAMPLE:{SECRET}@")
    monkeypatch.setattr(sys, "argv", ["raynas", "search", "--out", out])
    searched(first)
    given: dict[str, Any] = {"evaluator": score, "options": {"warm_start": first}, "ray": INLINE}
    result = raynas.search(SPACE, "predictor", out=out, trials=3, **given)
    result = raynas.search(SPACE, "predictor", out=out, trials=4, resume=True, **given)
    result.report()
    assert result.path == server.uri(f"{folder}/second")
    shown = repr(result) + repr(result.config) + repr(known_keys()) + str(result.folder.path)
    assert main(["trials", out]) == 0
    assert main(["trials", f"{out}&nonsense=1"]) == 2
    printed = capsys.readouterr()
    written = "".join(
        server.text(f"{folder}/{name}")
        for name in server.names(folder)
        if not name.endswith(".parquet")
    )
    assert "second" in written
    for text in (shown, printed.out, printed.err, written):
        assert SECRET not in text
        assert secret not in text
        assert "AKIDEXAMPLE" not in text
    with pytest.raises(FileNotFoundError) as missing:
        raynas.load(server.uri(f"{folder}/nothing", keys=f"AKIDEXAMPLE:{SECRET}@"))
    assert SECRET not in str(missing.value)


# --- processes ------------------------------------------------------------------------------------

DRIVER = """
import sys
from tests.test_object_store import searched, slowly

if __name__ == "__main__":
    searched(sys.argv[1], trials=200, resume=True, evaluator=slowly)
"""


def slowly(arch: raynas.Arch) -> dict[str, Any]:
    time.sleep(0.02)
    return score(arch)


@pytest.mark.full
@over(["query"])
def test_a_store_that_is_silent_for_a_while_is_waited_for(place: Place) -> None:
    server = place.server
    assert server is not None
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(searched, place.at("run"), trials=60, evaluator=slowly)
        while not server.requests(f"{place.folder.name}/run/trials/part-000005"):
            time.sleep(0.05)
        with server.stopped():
            time.sleep(9)  # longer than two tries
        result = running.result()
    assert told(result).equals(told(searched(place.at("other"), trials=60, evaluator=slowly)))


@pytest.mark.full
@over(["query"])
def test_a_driver_that_is_killed_while_it_writes_there_goes_on(place: Place) -> None:
    """Whatever it was doing: every told row stays, and none is there twice."""
    out, kept = place.at("run"), 0
    for told_before_kill in (3, part_writer.FAN - 2, part_writer.FAN + 30):
        process = subprocess.Popen([sys.executable, "-c", DRIVER, out], cwd=ROOT)
        try:
            _wait_until(lambda least=told_before_kill: _told(out) >= least, process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        rows = load_trials(out)
        assert len(rows) >= max(told_before_kill, kept)
        assert [row.number for row in rows] == list(range(len(rows)))
        kept = len(rows)
    ended = searched(out, trials=kept + 3, resume=True, evaluator=slowly)
    undisturbed = searched(place.at("undisturbed"), trials=kept + 3, evaluator=slowly)
    assert told(ended).equals(told(undisturbed))


TRAINER = """
import sys
from tests.test_object_store import supernet_trained
from raynas.supernet import job

if __name__ == "__main__":
    job.CHECKPOINT_S = -1.0  # one after every epoch
    supernet_trained(sys.argv[1])
"""


def supernet_trained(out: str) -> str:
    spos = {"algo": "spos", "epochs": 12, **TRAINING}
    return raynas.train_supernet(
        ToyNet, [spos], data=(IMAGES, IMAGES), out=out, resume=True, ray=INLINE
    )


@pytest.mark.full
@over(["query"])
def test_a_training_that_is_killed_while_it_writes_there_goes_on(place: Place) -> None:
    out = place.at("run")
    for least in (2, 5):
        process = subprocess.Popen([sys.executable, "-c", TRAINER, out], cwd=ROOT)
        try:
            _wait_until(lambda least=least: read_history(out).num_rows >= least, process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    paths = supernet_trained(out), supernet_trained(place.at("undisturbed"))
    assert [row["epoch"] for row in read_history(out).to_pylist()] == list(range(12))
    first, second = (load_weights(find_checkpoint(local_copy(path))) for path in paths)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert len([n for n in place.files("run", "supernet") if n.endswith(WEIGHTS)]) == 1


ROOT = Path(__file__).parent.parent
WAITS_S = 120.0


def _told(out: str) -> int:
    return sum(part.last - part.first + 1 for part in _parts(out))


def _parts(out: str) -> list[parquet.Part]:
    names = Folder(under(out, "trials")).names()
    parts = [part for name in names if (part := parquet.Part.parse(name))]
    return [p for p in parts if not any(o != p and o.first <= p.first <= o.last for o in parts)]


def _wait_until(holds: Any, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + WAITS_S
    while not holds():
        assert time.monotonic() < until_s
        assert process.poll() is None
        time.sleep(0.05)


COPIES = """
import os, signal, sys
import torch
import raynas
from tests.test_object_store import IMAGES, ToyNet

if __name__ == "__main__":
    result = raynas.load(sys.argv[1], space=ToyNet, data=(IMAGES, IMAGES))
    assert isinstance(result.model(), torch.nn.Module)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.full
@over(["query"])
def test_copies_are_removed_when_a_process_ends_or_the_next_one_begins(
    place: Place, tmp_path: Path
) -> None:
    raynas.search(ToyNet, "random", data=(IMAGES, IMAGES), supernet=TRAINING, epochs=1, trials=2,
                  out=place.at("run"), ray=INLINE)  # fmt: skip
    for end, left, code in (("killed", True, -signal.SIGKILL), ("ended", False, 0)):
        command = [sys.executable, "-c", COPIES, place.at("run"), end]
        process = subprocess.run(
            command, cwd=ROOT, check=False, env={**os.environ, "TMPDIR": str(tmp_path)}
        )
        assert process.returncode == code
        assert bool(list(tmp_path.glob("raynas-*"))) is left


# --- on Ray: other processes write there ----------------------------------------------------------


@pytest.fixture(scope="module")
def ray_without_keys(server: Server) -> Iterator[None]:
    """A Ray of two CPUs whose processes have no keys but those that a URI has named."""
    del server
    with pytest.MonkeyPatch.context() as patch:
        for name in KEYS:
            patch.delenv(name, raising=False)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with connected(RayConfig(num_cpus=4)):
            yield


@pytest.mark.full
@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("ray_without_keys")
def test_processes_on_ray_write_there_with_the_keys_of_the_uri(server: Server) -> None:
    folder = uuid.uuid4().hex

    def at(name: str) -> str:
        return server.uri(f"{folder}/{name}", keys=f"AKIDEXAMPLE:{SECRET}@")

    given: dict[str, Any] = {"data": (IMAGES, IMAGES)}
    ray = {"train_workers": 2, "cpus_per_train_worker": 1}
    spos = {"algo": "spos", "epochs": 2, "batch_size": 16}
    path = raynas.train_supernet(ToyNet, [spos, spos], out=at("supernet"), ray=ray, **given)
    assert [row["epoch"] for row in read_history(at("supernet")).to_pylist()] == [0, 1, 2, 3]
    found = raynas.search(
        ToyNet, "random", supernet=path, trials=4, out=at("search"), ray={"workers": 2}, **given
    )
    assert found.trials["accuracy"].notna().all()
    trained = raynas.retrain(found, epochs=2, inherit=True, options=TRAINING, ray=ray)
    assert trained.finished
    kept = raynas.search(
        ToyNet, "random", evaluator=_of_modules(_with_weights), trials=4, out=at("kept"),
        ray={"workers": 1}, **given,
    )  # fmt: skip
    assert isinstance(kept.model(), torch.nn.Module)
    alone = raynas.search(
        ToyNet, "random", evaluator=["standalone", {"epochs": 1, "batch_size": 16}], trials=2,
        out=at("alone"), ray=ray, **given,
    )  # fmt: skip
    assert alone.trials["accuracy"].notna().all()
    names = server.names(folder)
    assert not [name for name in names if "/jobs/" in name or name.endswith(".tmp")]
    written = "".join(server.text(f"{folder}/{n}") for n in names if n.endswith((".json", ".log")))
    assert SECRET not in written
    assert SECRET.replace("%2F", "/") not in written


def _with_weights(net: torch.nn.Module) -> Any:
    return {"accuracy": float(sum(p.numel() for p in net.parameters()))}, net.state_dict()
