"""Run folders without a name: each search gets one of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import raynas
from raynas.storage.run_folder import fresh

SPACE = raynas.ArchSpace.of(depth=[2, 3])


def test_searches_that_begin_at_once_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: fresh("mlp-random"), range(200)))
    expected = {str(tmp_path / "runs" / f"mlp-random-{number}") for number in range(1, 201)}
    assert set(folders) == expected
    assert len(folders) == 200


def test_what_is_refused_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no option"):
        raynas.search(SPACE, "random", evaluator=len, options={"popsize": 3})
    assert not (tmp_path / "runs").exists()


def test_unnamed_searches_count_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "ArchSpace-random-1").mkdir(parents=True)
    paths = [
        raynas.search(
            SPACE, "random", evaluator=lambda arch: arch["depth"], ray={"inline": True}
        ).path
        for _ in range(2)
    ]
    assert [Path(path).name for path in paths] == ["ArchSpace-random-2", "ArchSpace-random-3"]
