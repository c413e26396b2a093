"""Ray Train's list of checkpoints is read only where it leads to checkpoints of the folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import ray

from raynas.cluster.train_snapshot import SNAPSHOT, drop_unsound_snapshot
from raynas.storage.run_folder import Folder


def written(folder: Path, **changes: Any) -> Path:
    """Write what Ray Train does for one checkpoint."""
    (folder / "checkpoint_2026-01-02_03-04-05.678").mkdir(parents=True)
    result = {"version": 0, "checkpoint_dir_name": "checkpoint_2026-01-02_03-04-05.678"}
    fields = {
        "ray_version": ray.__version__,
        "checkpoint_results": [result],
        "pending_training_results": [],
        "latest_checkpoint_result": result,
    }
    (folder / SNAPSHOT).write_text(json.dumps(fields | changes))
    return folder / SNAPSHOT


def test_a_sound_list_stays(tmp_path: Path) -> None:
    file = written(tmp_path)
    before = file.read_text()
    drop_unsound_snapshot(Folder(str(tmp_path)))
    assert file.read_text() == before


@pytest.mark.parametrize("name", ["../../home", "/home", "checkpoint_x/../../y", "checkpoint_no"])
@pytest.mark.parametrize("key", ["checkpoint_results", "pending_training_results"])
def test_names_that_lead_elsewhere_are_no_list(name: str, key: str, tmp_path: Path) -> None:
    """Ray deletes what it no longer keeps, by these names."""
    file = written(tmp_path / "supernet", **{key: [{"checkpoint_dir_name": name}]})
    drop_unsound_snapshot(Folder(str(tmp_path / "supernet")))
    assert not file.exists()


def test_a_damaged_list_or_another_releases_stops_no_training(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole").read_text()
    texts = [whole[:at] for at in range(0, len(whole), 40)]
    texts += ["[]", "null", '{"checkpoint_results": 3}', whole.replace(ray.__version__, "1.0")]
    for number, text in enumerate(texts):
        file = tmp_path / str(number) / SNAPSHOT
        file.parent.mkdir()
        file.write_text(text)
        drop_unsound_snapshot(Folder(str(file.parent)))
        assert not file.exists(), text
