"""Files of strangers behind every command: how each ends, and with which sentence, stands here.

Nothing that is planted runs, and nothing is written but where the command writes to.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from raynas.cli import main
from raynas.results.run_list import RunList
from raynas.results.ui_server import UiServer
from tests.planted import CONTENTS, Content, tarred, zipped

pytestmark = pytest.mark.full

ON_RAY = ("search", "train-supernet", "retrain", "verify")  # of our commands
INLINE = " --ray-option inline=true --ray-option workers=1 --ray-option batch=1"
BASE = (
    "search mlp --algo random --evaluator cost --objective params:min --trials 3 --out run "
    "--latency cpu",
    "train-supernet mlp --epochs 1 --out supernet",
    "search --supernet supernet --algo random --trials 2 --out shared",
    "retrain run --epochs 1",
    "verify run --top 1 --seeds 1 --option epochs=1",
)
CHECKPOINT = "supernet/supernet/checkpoint_000000"
TRAINED = "run/retrained/1"
NETWORK = f"{TRAINED}/network/checkpoint_000000"
PART = "trials/part-000001.parquet"

DECODED = r"'utf-8' codec can't decode byte 0x.. in position \d+: invalid start byte"
NO_JSON = (
    rf"({DECODED}|Expecting value: line 1 column 1 \(char 0\)|it is nested too deeply|"
    r"maximum recursion depth exceeded while decoding a JSON array from a unicode string)"
)
NO_CONFIG = (
    rf"({DECODED}|it is no JSON: expected value at line 1 column 1|"
    r"it is no JSON: recursion limit exceeded at line 1 column 202)"
)
NOT_A_RETRAININGS = rf"\S+/retrain\.json is not a retraining's: {NO_CONFIG}"
NOT_A_RUNS = rf"\S+/run\.json is not a run's configuration: {NO_CONFIG}"
NO_PARQUET = (
    r"\S+\.parquet is not a Parquet file: Parquet magic bytes not found in footer\. Either the "
    r"file is corrupted or this is not a parquet file; restore it from a copy"
)
DAMAGED = rf"\S+/{{}} is damaged: {NO_JSON}"
CHANGED = (
    r"\S+/{} is damaged: it is not as it was written; restore it from a copy, or, if you have "
    r"changed it yourself, take its line out of digests\.json"
)
NO_LATENCIES = "(" + "|".join(t.format(r"latency_cpu\.json") for t in (DAMAGED, CHANGED)) + ")"
NO_PICKLES = (
    r"\S+/{} is damaged(, or holds other things than tensors and plain values, which are not "
    r"read|: pop from empty list)"
)
NO_TENSORS = r"\S+/{} is damaged: Error while deserializing header: .+"
Outcome = tuple[int, str]
DONE: Outcome = (0, "")


@dataclass(frozen=True)
class Door:
    """A command, and how it ends for each file that is planted.

    Attributes:
        command: its line.
        writes: what it may write, as regular expression of paths.
        files: exit code and sentence by planted file; a file that it does not read changes nothing.
        before: files that are removed first.
    """

    command: str
    writes: str
    files: Mapping[str, Outcome]
    before: tuple[str, ...] = ()


def damaged(code: int, sentence: str, name: str) -> Outcome:
    return code, sentence.format(re.escape(name))


UNREAD = dict.fromkeys(
    (f"run/{name}" for name in ("best.json", "digests.json", "tracking.json", "latency_cpu.json")),
    DONE,
)
RUN = {"run/run.json": (2, NOT_A_RUNS), f"run/{PART}": (2, NO_PARQUET)}
VERIFIED = {"run/verified.json": damaged(2, DAMAGED, "verified.json")}
OF_WEIGHTS = {
    f"{CHECKPOINT}/digests.json": DAMAGED,
    f"{CHECKPOINT}/model.safetensors": CHANGED,
    f"{CHECKPOINT}/supernet.json": CHANGED,
    f"{CHECKPOINT}/attributes.pt": NO_PICKLES,
}


def of_weights(code: int) -> dict[str, Outcome]:
    return {path: damaged(code, text, Path(path).name) for path, text in OF_WEIGHTS.items()}


DOORS = {
    "trials": Door("trials run", "", UNREAD | RUN | {"run/verified.json": DONE}),
    "report": Door(
        "report run", r"run/report\.html", UNREAD | RUN | VERIFIED, ("run/report.html",)
    ),
    "plot": Door("plot run history a.html", r"a\.html", UNREAD | RUN | VERIFIED),
    "export": Door("export run a.json", r"a\.json", UNREAD | RUN | {"run/verified.json": DONE}),
    "resume": Door(
        "search --resume --out run --trials 4",
        r"run/.*",
        {
            **{"run/best.json": DONE, **RUN, **VERIFIED},
            **{f"run/{n}.json": damaged(2, DAMAGED, f"{n}.json") for n in ("digests", "tracking")},
            "run/latency_cpu.json": (
                2,
                rf"({DAMAGED}|{CHANGED})".format(*["latency_cpu.json"] * 2),
            ),
        },
    ),
    "resume of shared weights": Door(
        "search --resume --out shared --trials 3",
        r"shared/.*",
        {
            "shared/run.json": (2, NOT_A_RUNS),
            "shared/rescored.json": damaged(2, DAMAGED, "rescored.json"),
            "shared/tracking.json": damaged(2, DAMAGED, "tracking.json"),
            f"shared/{PART}": (2, NO_PARQUET),
        },
    ),
    "retrain": Door(
        "retrain run --epochs 1", r"run/retrained/2/.*", UNREAD | RUN | {"run/verified.json": DONE}
    ),
    "retrain --resume": Door(
        "retrain run --resume",
        rf"{TRAINED}/.*",
        {
            f"{TRAINED}/retrain.json": (
                2,
                rf"\S+/retrain\.json is not a retraining's: {NO_CONFIG}",
            ),
            f"{TRAINED}/metrics.json": damaged(2, DAMAGED, "metrics.json"),
            f"{TRAINED}/network/checkpoint_000000/network.json": damaged(
                2, CHANGED, "network.json"
            ),
            f"{TRAINED}/history/part-000001.parquet": (2, NO_PARQUET),
        },
        (f"{TRAINED}/metrics.json",),
    ),
    "verify": Door(
        "verify run --top 1 --seeds 1 --option epochs=1",
        r"run/(verified\.json|verify/.*|report\.html|logs/.*)",
        UNREAD | RUN | {"run/verified.json": DONE},
    ),
    "search --supernet": Door(
        "search --supernet supernet --algo random --trials 1 --out other",
        r"other/.*",
        of_weights(2) | {f"{CHECKPOINT}/training.pt": DONE},
    ),
    "search --supernet, without digests": Door(
        "search --supernet supernet --algo random --trials 1 --out other",
        r"other/.*",
        {
            f"{CHECKPOINT}/model.safetensors": damaged(2, NO_TENSORS, "model.safetensors"),
            f"{CHECKPOINT}/supernet.json": damaged(2, DAMAGED, "supernet.json"),
        },
        (f"{CHECKPOINT}/digests.json",),
    ),
    "train-supernet --resume": Door(
        "train-supernet mlp --epochs 2 --out supernet --resume",
        r"supernet/.*",
        {
            **of_weights(1),
            f"{CHECKPOINT}/training.pt": damaged(1, CHANGED, "training.pt"),
            "supernet/history/part-000001.parquet": (1, NO_PARQUET),
        },
    ),
    "train-supernet --resume, without digests": Door(
        "train-supernet mlp --epochs 2 --out supernet --resume",
        r"supernet/.*",
        {f"{CHECKPOINT}/training.pt": damaged(1, NO_PICKLES, "training.pt")},
        (f"{CHECKPOINT}/digests.json",),
    ),
}
PLANTED = [(door, file) for door, there in DOORS.items() for file in there.files]


def run(command: str) -> int:
    """Run a command without Ray."""
    return main((command + INLINE * (command.split()[0] in ON_RAY)).split())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of runs, each of which is sound."""
    place = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert [run(command) for command in BASE] == [0] * len(BASE)
        yield place


def contents(folder: Path) -> dict[str, str]:
    """Return what each file below a folder holds, as a digest."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in files}


def check_ends(
    command: Callable[[], int],
    outcome: Outcome,
    top: Path,
    writes: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Check exit code and sentence of a command, and that it wrote nowhere else.

    Args:
        command: to be run.
        outcome: expected.
        top: folder that holds all that it could reach by a name.
        writes: what it may write, as paths below the folder that it runs in.
        capsys: of the test.
    """
    before = contents(top)
    capsys.readouterr()
    code = command()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    after = contents(top)
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    assert [path for path in changed if not re.fullmatch(rf"here/({writes})", path)] == []
    assert not (top / "ran").exists()
    assert code == outcome[0], lines
    if outcome == DONE:
        assert lines == []
        return
    (line,) = lines
    assert re.fullmatch(f"error: {outcome[1]}", line)


@pytest.mark.parametrize("planted", CONTENTS)
@pytest.mark.parametrize(("door", "file"), PLANTED)
def test_a_command_ends_as_the_table_says(
    door: str,
    file: str,
    planted: Content,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, opened = tmp_path / "here", DOORS[door]
    shutil.copytree(base, here)
    monkeypatch.chdir(here)
    for name in opened.before:
        (here / name).unlink()
    (here / file).write_bytes(planted(tmp_path / "ran"))
    check_ends(lambda: run(opened.command), opened.files[file], tmp_path, opened.writes, capsys)


# --- the page of runs -----------------------------------------------------------------------------

PAGES: dict[str, tuple[str, Outcome]] = {  # state in the list, and how what is said begins
    "run.json": ("broken", (404, r"run: \S+/run\.json is not a run's configuration: ")),
    PART: ("broken", (404, r"run: \S+\.parquet is not a Parquet file: Parquet magic bytes not ")),
    "verified.json": ("ended", (500, VERIFIED["run/verified.json"][1])),
}


def answer(url: str) -> Outcome:
    """Return status and text of a page."""
    try:
        with urllib.request.urlopen(url) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("planted", CONTENTS)
@pytest.mark.parametrize("file", PAGES)
def test_the_page_of_runs_says_which_is_broken(
    file: str, planted: Content, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    shutil.copytree(base, here)
    (here / "run" / file).write_bytes(planted(tmp_path / "ran"))
    before, (state, (status, sentence)) = contents(tmp_path), PAGES[file]
    capsys.readouterr()
    assert main(["ui", str(here), "--json"]) == 0
    rows = {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)["runs"]}
    assert (rows["run"], rows["shared"]) == (state, "ended")
    with UiServer(RunList(str(here))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for page in ("report?run=run", "api/compare?run=run&run=shared"):
                code, text = answer(server.url + page)
                assert code == status
                assert re.match(sentence, text)
            assert answer(f"{server.url}report?run=shared")[0] == 200
            for name in ("../here/run", "/etc", "run/../run", "..%2f..%2fetc"):
                assert answer(f"{server.url}report?run={name}")[0] == 404
        finally:
            server.shutdown()
            thread.join()
    assert contents(tmp_path) == before


# --- data, tables and configurations --------------------------------------------------------------

SEARCH = "search mlp --algo random --evaluator cost --objective params:min --trials 1 --out out"
TABULAR = f"{SEARCH} --data tabular --data-option target=b --data-option path="
IMAGES = (
    "search mobilenet_v2_cifar --algo random --evaluator nwot --objective nwot:max --trials 1 "
    "--out out --data imagefolder --data-option size=32 --data-option path=images"
)
IMAGE_FILES = [f"images/{split}/{c}/0.png" for split in ("train", "val") for c in "xy"]
NOT_UTF8 = f"UnicodeDecodeError: {DECODED}"
NO_YAML = (
    rf"\S+: this is no configuration in YAML: ({DECODED}|it is nested too deeply|could not "
    r"determine a constructor for the tag 'tag:yaml\.org,2002:python/object/apply:os\.system', "
    r"line 1, column 1|aliases repeat values more than 100,000 times)"
)
NO_TABLE = r"\S+: expected a table of latencies: Could not open Parquet input source .+"
NO_ARCH = (
    r"expected a mapping from label to choice, its JSON text, or the path of a \.json file; "
    rf"'?a\.json'? is none: {NO_JSON}"
)
NO_DESCRIPTION = (
    rf"a\.yaml: (expected UTF-8: {DECODED}|expected JSON or YAML: (could not determine a "
    r"constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system' .+|a description "
    r"has no aliases \(\*name\)|maximum recursion depth exceeded.*))"
)


def unreadable(kind: str, *words: str) -> str:
    """Return what is said of a table of that kind, in any of these words."""
    return rf"tabular: \S+ cannot be read as {kind}: ({'|'.join(words)})"


NO_COLUMN = r"tabular: \S+/d\.csv has no column 'b'; known: .{1,130}"
FILES: dict[str, tuple[str, Outcome]] = {
    "d.csv": (TABULAR + "d.csv", (2, f"({unreadable('CSV', NOT_UTF8)}|{NO_COLUMN})")),
    "d.parquet": (
        TABULAR + "d.parquet",
        (
            2,
            unreadable(
                "Parquet", r"ArrowInvalid: Error creating dataset\. Could not read schema .+"
            ),
        ),
    ),
    "d.csv.gz": (
        TABULAR + "d.csv.gz",
        (2, unreadable("CSV", r"BadGzipFile: Not a gzipped file \(b'.+'\)")),
    ),
    "d.csv.bz2": (TABULAR + "d.csv.bz2", (2, unreadable("CSV", "OSError: Invalid data stream"))),
    "d.csv.xz": (
        TABULAR + "d.csv.xz",
        (2, unreadable("CSV", "LZMAError: Input format not supported by decoder")),
    ),
    "d.csv.zip": (
        TABULAR + "d.csv.zip",
        (
            2,
            unreadable("CSV", "BadZipFile: File is not a zip file", "ValueError: Multiple files.+"),
        ),
    ),
    "d.csv.tar": (
        TABULAR + "d.csv.tar",
        (2, unreadable("CSV", "ReadError: file could not be opened successfully.+")),
    ),
    "d.pkl": (
        TABULAR + "d.pkl",
        (2, r"tabular: expected a file \.parquet or \.csv, got \S+/d\.pkl"),
    ),
    "t.csv": (
        f"{SEARCH} --latency t.csv",
        (2, rf"\S+/t\.csv: expected (a list of entries: {DECODED}|columns layer, .{{1,300}})"),
    ),
    "t.json": (
        f"{SEARCH} --latency t.json",
        (2, rf"\S+/t\.json: expected a (list of entries|table of latencies): {NO_JSON}"),
    ),
    "t.parquet": (f"{SEARCH} --latency t.parquet", (2, NO_TABLE)),
    "s.csv": (
        f"{SEARCH} --evaluator table --evaluator-option path=s.csv",
        (2, r"\S+/s\.csv (cannot be read as CSV: .+|does not say which architectures .{1,400})"),
    ),
    "s.parquet": (
        f"{SEARCH} --evaluator table --evaluator-option path=s.parquet",
        (2, r"\S+/s\.parquet cannot be read as Parquet: Could not open Parquet input source .+"),
    ),
    "c.yml": ("convert c.yml o.yaml", (2, NO_YAML)),
    "c.yaml": ("run c.yaml --out out", (2, NO_YAML)),
    "a.json": ("retrain a.json --space mlp --epochs 1 --out out", (2, NO_ARCH)),
    "a.yaml": ("retrain a.yaml --space mlp --epochs 1 --out out", (2, NO_DESCRIPTION)),
}
NO_IMAGE = (
    r"the evaluator cannot be made: ReadError: data: valid\[0\] of imagefolder, \S+/x/0\.png, "
    r"raised UnidentifiedImageError: cannot identify image file .+"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which commands run."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("planted", CONTENTS)
@pytest.mark.parametrize("file", FILES)
def test_a_file_of_data_or_settings_is_refused_by_name(
    file: str, planted: Content, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, outcome = FILES[file]
    (here / file).write_bytes(planted(here.parent / "ran"))
    check_ends(lambda: run(command), outcome, here.parent, "", capsys)


@pytest.mark.parametrize("planted", CONTENTS)
def test_images_that_are_none_are_named(
    planted: Content, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in IMAGE_FILES:
        (here / name).parent.mkdir(parents=True)
        (here / name).write_bytes(planted(here.parent / "ran"))
    check_ends(lambda: run(IMAGES), (1, NO_IMAGE), here.parent, r"out/.*", capsys)


ROWS = "a,b\n" + "".join(f"{at},{at % 2}\n" for at in range(40))
LINK = unreadable("CSV", r"KeyError: .linkname '/etc/passwd' not found.")
ARCHIVES: dict[str, tuple[str, Callable[[Path], bytes], Outcome]] = {
    "a name above": ("d.csv.zip", lambda _: zipped("../evil.csv", ROWS), DONE),
    "a name elsewhere": ("d.csv.zip", lambda top: zipped(f"{top}/evil.csv", ROWS), DONE),
    "a name above in a tar": ("d.csv.tar.gz", lambda _: tarred("../evil.csv", ROWS), DONE),
    "a name elsewhere in a tar": (
        "d.csv.tar.gz",
        lambda top: tarred(f"{top}/evil.csv", ROWS),
        DONE,
    ),
    "a link in a tar": ("d.csv.tar.gz", lambda _: tarred("d.csv", link="/etc/passwd"), (2, LINK)),
}


@pytest.mark.parametrize("trick", ARCHIVES)
def test_archives_are_read_and_unpacked_nowhere(
    trick: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, made, outcome = ARCHIVES[trick]
    (here / name).write_bytes(made(here.parent))
    check_ends(lambda: run(TABULAR + name), outcome, here.parent, r"out/.*", capsys)


PIPELINE: dict[str, Any] = {"space": "mlp", "data": "digits", "ray": {"inline": True}}
PIPELINE |= {"steps": [{"search": {"algo": "random", "trials": 1}}]}
NOT_NAMED = r"(c\.yaml|steps\.0\.search): .+'(steps\.0\.)?\.\./\.\./evil'.*"
EVIL: tuple[dict[str, Any], ...] = (
    {"space": "../../evil"},
    {"data": "../../evil"},
    {"descriptions": {"../../evil": "DefaultSlotArchDescExporter"}},
    {"steps": [{"../../evil": {}}]},
    {"steps": [{"search": {"algo": "../../evil"}}]},
    {"steps": [{"search": {"evaluator": "../../evil"}}]},
)


@pytest.mark.parametrize("change", EVIL, ids=str)
def test_names_in_a_configuration_are_no_paths(
    change: dict[str, Any], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "c.yaml").write_text(json.dumps(PIPELINE | change))
    check_ends(lambda: run("run c.yaml --out out"), (2, NOT_NAMED), here.parent, r"out/.*", capsys)
