"""The README's code runs as it stands, and its table of what is supported is true."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import raynas
from raynas.supernet.protocol import ONE_SHOTS, one_shot_class

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.mark.usefixtures("local_ray")
def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "readme"}
    first, second, third, _, fourth = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(first, names)
    assert len(names["result"].trials) == 6
    assert names["result"].best.metrics["accuracy"] > 0.2  # chance is 0.1
    assert not any("candidates" in key for key in names["net"].state_dict())
    exec(second, names)
    assert names["result"].best.arch == {"depth": 4, "width": 16}
    exec(third, names)
    assert names["space"].size() == 8
    assert names["small"][0][0].weight.shape == (16, 3, 3, 3)
    with pytest.warns(UserWarning, match="split"):
        exec(fourth, names)
    assert names["result"].config.objectives == {"r2": "max"}
    assert names["trained"].metrics["valid_r2"] > -1


@pytest.mark.full
def test_the_example_of_a_model_that_exists_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: that Ray trains and searches alike is said elsewhere."""
    monkeypatch.chdir(tmp_path)
    for name in ("search", "train_supernet", "retrain"):
        monkeypatch.setattr(raynas, name, partial(getattr(raynas, name), ray={"inline": True}))
    names: dict[str, Any] = {"__name__": "readme", "raynas": raynas}
    (block,) = re.findall(r"```python\n([^`]*?\"timm:.*?)```", README, re.DOTALL)
    exec(block, names)
    assert names["result"].trials["macs"].max() <= 4e6
    assert (tmp_path / "digits.onnx").is_file()


@pytest.mark.usefixtures("local_ray")
def test_the_examples_of_tasks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "tasks"}
    text = (Path(__file__).parent.parent / "docs" / "tasks.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    told = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert told == set(raynas.available("tasks"))


def test_the_examples_of_supernets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: that Ray trains and searches alike is said elsewhere."""
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parent.parent / "docs" / "supernets.md").read_text()
    names: dict[str, Any] = {"__name__": "supernets"}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    for name in ("search", "train_supernet", "retrain"):
        monkeypatch.setattr(raynas, name, partial(getattr(raynas, name), ray={"inline": True}))
    for block in blocks:
        exec(block, names)
    small, large = names["small"].trials["macs"], names["large"].trials["macs"]
    assert small.max() < 60e3 < 150e3 < large.min()
    assert names["net"].size.size == names["small"].best.arch["size"]
    only = {name for name in ONE_SHOTS if not one_shot_class(name).learns}
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == only


def test_what_the_table_names_is_registered() -> None:
    table = dict(re.findall(r"^\| (\w[\w ]*) \| (.+) \|$", README, re.MULTILINE))

    def named(row: str) -> set[str]:
        return set(re.findall(r"`(\w+)`", table[row]))

    assert named("Samplers") | named("Supernet training") == set(raynas.available("algorithms"))
    assert named("Spaces") - {"ArchSpace"} == set(raynas.available("spaces"))
    assert named("Mutables") <= set(vars(raynas.nn))
    assert named("Evaluation") == set(raynas.available("evaluators"))
    assert named("Tasks") == set(raynas.available("tasks"))
    assert {*raynas.available("trackers")} <= named("Following")
    assert named("Data") == set(raynas.available("data"))
