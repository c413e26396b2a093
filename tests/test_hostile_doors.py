"""Files of strangers at every door that reads one: nothing in them runs, and errors name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from raynas.cli.exit_codes import FAILED, MISUSED, exit_code
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
from tests.planted import CONTENTS, Content, a_bomb, a_tag
from tests.runs_on_disk import SPACE

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


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("door", DOORS)
def test_what_is_planted_does_not_run(door: str, content: Content, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    name, read = DOORS[door]
    (tmp_path / name).write_bytes(content(mark))
    with pytest.raises((ValueError, LookupError, OSError, TypeError)) as refused:
        read(tmp_path)
    assert name in str(refused.value)
    assert not mark.exists()


@pytest.mark.parametrize("content", [a_tag, a_bomb])
def test_no_tag_or_bomb_of_yaml_is_read(content: Content, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"could not determine a constructor|aliases repeat"):
        read_yaml(content(tmp_path / "ran").decode())
    assert not (tmp_path / "ran").exists()


def test_an_error_that_is_its_own_cause_has_an_exit_code() -> None:
    error, other = RuntimeError("nobody can read it"), FileNotFoundError("nor find it")
    error.__cause__, other.__cause__ = other, error
    assert exit_code(error) == MISUSED
    error.__cause__ = error
    assert exit_code(error) == FAILED
