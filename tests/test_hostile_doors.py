"""Files of strangers at every door that reads one: nothing in them runs, and errors name them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from raynas.cli import main
from raynas.costs.latency_files import read_entries
from raynas.nn.construct.description import parsed
from raynas.nni import apply_fixed_architecture
from raynas.report.tracking.remembered import remembered
from raynas.results.report_data import read_tested
from raynas.setup.vega.file import convert
from raynas.setup.yaml_text import read_yaml
from raynas.storage.pending import read_pending
from raynas.storage.retrain_folder import read_metrics, read_retrain_config
from raynas.storage.run_folder import Folder
from raynas.supernet.checkpoint import load_about
from tests.runs_on_disk import SPACE, all_trials, write_run

DOORS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "retraining": ("retrain.json", lambda at: read_retrain_config(Folder(str(at)))),
    "metrics": ("metrics.json", lambda at: read_metrics(Folder(str(at)))),
    "supernet": ("supernet.json", load_about),
    "network": ("network.json", load_about),
    "asked": ("asked.jsonl", lambda at: read_pending(Folder(str(at)))),
    "trackers": ("tracking.json", lambda at: remembered(Folder(str(at)))),
    "tested": ("rescored.json", lambda at: read_tested(Folder(str(at)), 1)),
    "latencies": ("table.json", lambda at: read_entries(at / "table.json", SPACE)),
    "latencies.csv": ("table.csv", lambda at: read_entries(at / "table.csv", SPACE)),
    "nni": ("arc.json", lambda at: apply_fixed_architecture(nn.ReLU(), at / "arc.json")),
    "description": ("arch.yaml", lambda at: parsed(str(at / "arch.yaml"))),
    "vega": ("vega.yml", lambda at: convert(at / "vega.yml")),
}


class Payload:
    """What makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._mark}",)


def a_pickle(mark: Path) -> bytes:
    return pickle.dumps(Payload(mark))


def a_tag(mark: Path) -> bytes:
    return f"!!python/object/apply:os.system ['touch {mark}']\n".encode()


def a_bomb(mark: Path) -> bytes:
    """Return aliases that stand for a billion values."""
    lines = [f"a0: &a0 [{mark}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines).encode()


def a_depth(_: Path) -> bytes:
    return b"[" * 100_000


@pytest.mark.parametrize("content", [a_pickle, a_tag, a_bomb, a_depth])
@pytest.mark.parametrize("door", DOORS)
def test_what_is_planted_does_not_run(
    door: str, content: Callable[[Path], bytes], tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    name, read = DOORS[door]
    (tmp_path / name).write_bytes(content(mark))
    with pytest.raises((ValueError, LookupError, OSError, TypeError)) as refused:
        read(tmp_path)
    assert name in str(refused.value)
    assert not mark.exists()


@pytest.mark.parametrize("content", [a_tag, a_bomb])
def test_no_tag_or_bomb_of_yaml_is_read(content: Callable[[Path], bytes], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"could not determine a constructor|aliases repeat"):
        read_yaml(content(tmp_path / "ran").decode())
    assert not (tmp_path / "ran").exists()


@pytest.mark.full
@pytest.mark.parametrize("content", [a_pickle, a_tag, a_bomb, a_depth])
@pytest.mark.parametrize(
    "name", ["run.json", "verified.json", "rescored.json", "tracking.json", "latency_cpu.json"]
)
@pytest.mark.parametrize(
    "command", ["plot run history run.html --force", "ui . --json", "retrain run", "verify run"]
)
def test_no_command_runs_what_is_planted(
    command: str,
    name: str,
    content: Callable[[Path], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "ran"
    write_run(tmp_path / "run", all_trials())
    (tmp_path / "run" / name).write_bytes(content(mark))
    assert main(command.split()) in (0, 1, 2)
    assert not mark.exists()
