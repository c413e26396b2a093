"""Text: files as tokens, and models of language from a search to what is taken home."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import raynas
from raynas.core.config import ComponentSpec
from raynas.data.split import split_of
from raynas.data.text import Text
from raynas.setup.resolve_data import rebuild_data, resolve_data

TEXT = "".join(f"{n} and {n} are {2 * n}, as é is é. " for n in range(40))


def written(folder: Path) -> str:
    file = folder / "sums.txt"
    file.write_text(TEXT, encoding="utf-8")
    return str(file)


def test_every_byte_behind_the_first_is_a_target_once(tmp_path: Path) -> None:
    data = Text(path=written(tmp_path), context=7, valid=0.2, test=0.1)
    parts = [split_of(part).held() for part in data.load().parts()]
    whole = TEXT.encode()
    windows = (len(whole) - 1) // 7
    counts = [windows - round(0.2 * windows) - round(0.1 * windows)]
    counts += [round(0.2 * windows), round(0.1 * windows)]
    assert [len(part) for part in parts] == counts
    inputs = torch.cat([part.inputs for part in parts]).flatten()
    targets: Any = torch.cat([part.targets for part in parts]).flatten()
    assert bytes(inputs.tolist()) == whole[: 7 * windows]
    assert bytes(targets.tolist()) == whole[1 : 7 * windows + 1]
    assert (data.width, data.task.objective) == (256, ("perplexity", "min"))


def test_a_run_folder_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    monkeypatch.chdir(tmp_path)
    data = resolve_data("text:sums.txt", {"context": 9})
    assert data.spec == ComponentSpec(name="text", options={"path": path, "context": 9})
    again = rebuild_data(data.spec)
    assert again is not None
    assert again.module.signature == {"shape": [9], "dtype": "int64"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": "sum.txt"}, FileNotFoundError, "no file .*sum.txt; did you mean 'sums.txt'"),
        ({"path": "."}, ValueError, "is a folder; name one file"),
        ({"path": "sums.txt", "context": 0}, ValueError, "expected context > 0, .* got 0, 0.1"),
        ({"path": "sums.txt", "valid": 0.5, "test": 0.5}, ValueError, r"got 64, 0.5 and 0.5"),
        ({"path": "sums.txt", "context": 500}, ValueError, "too short: its .* bytes are 2 windows"),
    ],
)
def test_files_and_options_that_do_not_fit_are_told(
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        resolve_data("text", options)


def test_bytes_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected the task 'language_modeling', .* got 'regr"):
        raynas.search("mlp", data=f"text:{written(tmp_path)}", task="regression")
