"""A run's folder from a stranger: to read it runs nothing that is in it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import raynas
from raynas.cli import main
from raynas.core.arch import Arch
from raynas.core.fixed import read_arch
from raynas.evaluators.kept_weights import WEIGHTS, kept_weights
from raynas.storage.run_folder import Folder
from raynas.supernet.checkpoint import load_shared, load_state, load_weights, save_checkpoint
from tests.runs_on_disk import SPACE, all_trials, gradient_history, write_run

FILES = (
    *("best.json", "verified.json", "rescored.json", "tracking.json", "digests.json"),
    *("trials/part-000001.parquet", "history/part-000001.parquet"),
)
PASSIVE = ("trials run", "trials run --json", "report run --force", "export run a.json --force")


class Payload:
    """What makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self._mark}",)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Return the file that a payload would make; it does where it is unpickled."""
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()
    mark.unlink()
    return mark


def checkpoint(folder: Path) -> Path:
    """Write a checkpoint with something in each of its files."""
    folder.mkdir()
    save_checkpoint(folder, torch.nn.Linear(2, 2), {"epoch": 1}, {"epoch": 1}, {"t": 0.5})
    (folder / "digests.json").unlink()  # a stranger's are sound
    return folder


def torch_file(payload: Payload, file: Path) -> None:
    torch.save({"state": payload, "metadata": {}, "attributes": {}}, file)


def plain_pickle(payload: Payload, file: Path) -> None:
    file.write_bytes(pickle.dumps(payload))


@pytest.mark.parametrize("written", [torch_file, plain_pickle])
@pytest.mark.parametrize("name", ["model.safetensors", "training.pt", "attributes.pt"])
def test_no_pickle_in_a_checkpoint_is_read(
    written: Callable[[Payload, Path], None], name: str, mark: Path, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path / "checkpoint")
    written(Payload(mark), folder / name)
    refused = []
    for read in (load_weights, load_shared, load_state):
        try:
            read(folder)
        except ValueError as error:
            refused.append(str(error))
    assert refused
    assert all(f"{name} is damaged" in text for text in refused)
    assert not mark.exists()


def test_no_pickle_among_kept_weights_is_read(mark: Path, tmp_path: Path) -> None:
    arch = Arch({"layer1/op": "conv"})
    (tmp_path / WEIGHTS).mkdir()
    plain_pickle(Payload(mark), tmp_path / WEIGHTS / f"{arch.key}.safetensors")
    with pytest.raises(ValueError, match=f"{arch.key}.safetensors is damaged"):
        kept_weights(str(tmp_path), arch)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    ["run.json", *(pytest.param(name, marks=pytest.mark.full) for name in FILES)],
)
def test_no_pickle_in_place_of_a_runs_file_is_read(
    name: str, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", all_trials(), history=gradient_history())
    plain_pickle(Payload(mark), tmp_path / "run" / name)
    assert all(main(command.split()) in (0, 1, 2) for command in PASSIVE)
    with suppress(ValueError, FileNotFoundError):
        read_arch(SPACE, Path("run/best.json"))
    assert not mark.exists()


def test_what_a_part_says_of_itself_is_not_unpickled(mark: Path, tmp_path: Path) -> None:
    write_run(tmp_path, all_trials())
    (part,) = (tmp_path / "trials").iterdir()
    table = pq.read_table(part)
    payload = pickle.dumps(Payload(mark))
    field = table.schema.field("arch").with_metadata(
        {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": payload}
    )
    fields = [field if f.name == "arch" else f for f in table.schema]
    schema = pa.schema(fields, {"pandas": payload, "raynas": payload})
    pq.write_table(pa.table(table.columns, schema=schema), part)
    assert len(raynas.load(str(tmp_path)).trials) == len(all_trials())
    assert not mark.exists()


# --- names of code --------------------------------------------------------------------------------


def name_code(run: Path, name: str, *arguments: str) -> None:
    """Let a run name a factory of its space."""
    fields = json.loads((run / "run.json").read_text())
    given = {str(at): value for at, value in enumerate(arguments)}
    fields["space"] = {"name": name, "options": {"arguments": given} if given else {}}
    fields["constraints"] = {"params": [None, 5.0]}  # which only the space could tell
    del fields["digest"]
    (run / "run.json").write_text(json.dumps(fields))


@pytest.mark.parametrize("name", ["os:system", "posix:system", "subprocess:getoutput"])
def test_no_function_that_a_folder_names_is_called(name: str, mark: Path, tmp_path: Path) -> None:
    result = write_run(tmp_path / "run", all_trials())
    name_code(tmp_path / "run", name, f"touch {mark}")
    result = raynas.load(str(tmp_path / "run"))
    result.report()
    assert len(result.judged) == len(all_trials())
    with pytest.raises(LookupError, match="no run's folder may call"):
        result.model(dict(all_trials()[0].arch))
    assert not mark.exists()


def test_a_librarys_function_is_not_called_with_a_folders_arguments(
    mark: Path, tmp_path: Path
) -> None:
    write_run(tmp_path / "run", all_trials())
    plain_pickle(Payload(mark), tmp_path / "run" / "table")
    name_code(tmp_path / "run", "pandas:read_pickle", str(tmp_path / "run" / "table"))
    with pytest.raises(LookupError, match=r"pandas:read_pickle is a library's function|no class"):
        raynas.load(str(tmp_path / "run")).model(dict(all_trials()[0].arch))
    assert not mark.exists()


def test_no_module_within_a_run_is_imported(
    mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working folder is on the path of the command line, and may be the stranger's."""
    write_run(tmp_path / "run", all_trials())
    name_code(tmp_path / "run", "planted:Net")
    (tmp_path / "run" / "planted.py").write_text(f"open({str(mark)!r}, 'w')\nclass Net: pass\n")
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.syspath_prepend(str(tmp_path / "run"))
    assert main(["report", "."]) == 0
    with pytest.raises(LookupError, match="a run's folder, from which no code is taken"):
        raynas.load(".").model(dict(all_trials()[0].arch))
    assert not mark.exists()


# --- names of files -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", "", "a\0b"])
def test_names_lead_nowhere_outside_a_folder(name: str, tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "out"))
    with pytest.raises(ValueError, match="no name of a file"):
        folder.write(name, "")
    with pytest.raises(ValueError, match="no name of a file"):
        folder.append(name, "")
    with pytest.raises(ValueError, match="no name of a file"):
        folder.remove(name)


def test_a_spaces_name_is_part_of_one_folders_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raynas.storage.run_folder import fresh

    monkeypatch.chdir(tmp_path)
    for stem in ("../../x", "/etc/x", "a\0b", "n" * 4000):
        assert Path(fresh(stem)).parent == tmp_path / "runs"


def test_nothing_is_written_through_planted_links(tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.write_text("mine")
    out.mkdir()
    for name in (".run.json.tmp", ".report.html.tmp", "run.log", "report.html"):
        (out / name).symlink_to(outside)
    folder = Folder(str(out))
    folder.write("run.json", "{}")
    folder.write("report.html", "new")
    with pytest.raises(OSError, match="is a link"):
        folder.append("run.log", "line")
    assert outside.read_text() == "mine"
    assert folder.read("run.json") == "{}"
    shutil.rmtree(out)
