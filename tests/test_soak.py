"""The short form of ``make soak``: nothing grows but what is named, and what grows is noticed."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

SOAK = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "soak.py"))


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux' /proc")
@pytest.mark.usefixtures("local_ray")
def test_a_short_soak_finds_nothing_that_grows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = SOAK["soak"](trials=2_000, epochs=5, ranks=1, folder=tmp_path)
    assert found == []
    said = capsys.readouterr().out
    assert "bytes a trial" in said
    assert "bytes an epoch" in said


@pytest.mark.parametrize(
    "name", ["driver_bytes", "worker_bytes", "descriptors", "threads", "out_files", "ray_files"]
)
def test_what_grows_is_named(name: str) -> None:
    first = SOAK["Reading"](100, 0, 0, 0, 0, 0, 0, 0)
    last = replace(first, done=1_000)
    assert SOAK["grown"]([first, last], 3_000) == []
    (text,) = SOAK["grown"]([first, replace(last, **{name: 10**9})], 3_000)
    assert text.startswith(f"{name} grew by 1,000,000,000 from 100 to 1,000, at most ")
