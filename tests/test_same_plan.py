"""Converted models and what was written with them: another model or other choices are refused."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import raynas
from raynas.cli import main
from raynas.core.errors import StoreMismatch
from raynas.nn.conversion.elastic_space import ElasticSpace
from tests.inline import INLINE


def space_of(*widths: float, hidden: int = 8) -> ElasticSpace:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    rng = torch.Generator().manual_seed(0)
    return raynas.elastic(model, torch.randn(4, 1, 16, 16, generator=rng), width=widths)


def halves() -> ElasticSpace:
    return space_of(0.5)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a supernet, a search of it and a retraining; of a model that was given as an object."""
    folder = tmp_path_factory.mktemp("runs")
    raynas.train_supernet(halves(), epochs=1, out=str(folder / "supernet"), ray=INLINE)
    raynas.search(
        halves(),
        "random",
        supernet=str(folder / "supernet"),
        trials=1,
        constraints={"macs": (None, 1e9)},
        out=str(folder / "run"),
        ray=INLINE,
    )
    result = raynas.load(str(folder / "run"), space=halves())
    raynas.retrain(result, epochs=1, out=str(folder / "trained"), ray=INLINE)
    return folder


@pytest.mark.parametrize("other", [(0.25,), (0.5, 0.25)])
def test_a_supernet_is_not_asked_for_what_it_was_not_trained_as(
    place: Path, other: tuple[float, ...]
) -> None:
    with pytest.raises(StoreMismatch, match=r"'1\.ffn' chose among 8, 4 then, and among 8, .*2"):
        raynas.search(space_of(*other), supernet=str(place / "supernet"), trials=1, ray=INLINE)


def test_another_model_is_told_by_its_weights(place: Path) -> None:
    with pytest.raises(ValueError, match=r"'1\.bias' has shape \(8,\) there, \(12,\) here"):
        raynas.search(
            space_of(0.5, hidden=12), supernet=str(place / "supernet"), trials=1, ray=INLINE
        )


def test_fewer_choices_are_searched_and_no_training_goes_on_with_them(tmp_path: Path) -> None:
    supernet, both = str(tmp_path / "supernet"), space_of(0.5, 0.25)
    raynas.train_supernet(both, epochs=1, out=supernet, ray=INLINE)
    run = str(tmp_path / "run")
    result = raynas.search(halves(), supernet=supernet, trials=1, out=run, ray=INLINE)
    assert len(result.trials) == 1
    with pytest.raises(StoreMismatch, match="8, 4, 2 then, and among 8, 4 now; go on with"):
        raynas.train_supernet(halves(), epochs=1, out=supernet, resume=True, ray=INLINE)


def test_a_run_or_training_is_not_read_with_another_model(place: Path) -> None:
    with pytest.raises(StoreMismatch, match=r"another space .*: '1\.ffn' is 4, not one"):
        raynas.load(str(place / "run"), space=space_of(0.1)).model()
    with pytest.raises(StoreMismatch, match=r"than the one that is given .*raynas\.elastic"):
        raynas.Trained(str(place / "trained"), space=space_of(0.25)).model()
    with pytest.raises(StoreMismatch, match="choices or shapes of weights differ"):
        raynas.load(str(place / "run"), space=space_of(0.5, 0.25)).model()
    assert raynas.load(str(place / "run"), space=halves()).model() is not None


@pytest.mark.parametrize("command", ["export {}/run {}/net.onnx", "search --resume --out {}/run"])
def test_commands_say_what_to_do_about_a_model_that_was_an_object(
    place: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.replace("{}", str(place)).split()) != 0
    said = capsys.readouterr().err
    assert "pass it again" in said
    assert "search module:function" in said


def test_commands_find_a_model_that_a_function_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"from {__name__} import space_of\n\n\ndef mine():\n    return space_of(0.5)\n"
    (tmp_path / "its_models.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    options = "--algo random --trials 1 --supernet-option epochs=1 --ray-option inline=true"
    assert main(f"search its_models:mine {options} --out run".split()) == 0
    del sys.modules["its_models"]
    assert main(["export", "run", "small.pt"]) == 0
    assert (tmp_path / "small.pt").is_file()
    (tmp_path / "its_models.py").write_text(text.replace("0.5", "0.25"))
    del sys.modules["its_models"]
    importlib.invalidate_caches()
    assert main(["export", "run", "other.pt"]) != 0
    assert "of another space than its_models:mine returns now" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["space", "data"])
def test_options_of_a_run_that_goes_on_need_a_name(place: Path, part: str) -> None:
    options: dict[str, Any] = {f"{part}_options": {"width": 0.5}}
    with pytest.raises(TypeError, match=f"others go with a name \\({part}=\\)"):
        raynas.search(out=str(place / "run"), resume=True, **options)
