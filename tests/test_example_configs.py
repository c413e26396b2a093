"""The shipped configuration files: valid as they stand, and in their short form all the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import raynas
from raynas.core.sampler import SAMPLERS
from raynas.setup.algorithms import resolve_one_shot, resolve_sampler
from raynas.setup.pipeline import arguments, read_pipeline

CONFIGS = sorted((Path(__file__).parent.parent / "examples" / "configs").glob("*.yaml"))


def test_the_files_are_those_of_modular_nas_and_of_the_papers() -> None:
    names = ["darts", "enas", "mbv2", "ps", "pxl", "sgas", "spos"]
    assert [file.stem for file in CONFIGS] == names


@pytest.mark.parametrize("smoke", [False, True])
@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_file_names_spaces_algorithms_and_options_that_there_are(file: Path, smoke: bool) -> None:
    config = read_pipeline(file, smoke=smoke, sets={})
    spaces: dict[str, Any] = {}
    for step in config.steps:
        own = arguments(config, step)
        options = dict(own.get("space_options") or {})
        space = spaces.setdefault(str(options), raynas.space(own["space"], **options))
        assert smoke is (own["data"] == "digits")
        algo, given = own.get("algo"), dict(own.get("options") or {})
        if step.kind == "retrain":
            if own.get("arch") is not None:
                space.arch_space.check(own["arch"])
        elif algo in SAMPLERS:
            resolve_sampler(algo, space.arch_space, 0, given)
        else:
            _, settings = resolve_one_shot(algo, given, own.get("epochs"))
            assert settings.epochs <= 5 or not smoke


@pytest.mark.full
@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_file_runs_in_its_short_form(file: Path, tmp_path: Path) -> None:
    inline = {"ray": {"inline": True}}
    outcomes = raynas.run(file, smoke=True, sets=inline, out=str(tmp_path / "run"))
    assert outcomes[-1].metrics["valid_accuracy"] >= 0
