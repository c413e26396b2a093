"""Text: files as tokens, and models of language from a search to what is taken home."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import raynas
from raynas.cli import main
from raynas.core.config import ComponentSpec
from raynas.data.split import split_of
from raynas.data.text import Text
from raynas.nn.named.load_network import load_network
from raynas.setup.resolve_data import rebuild_data, resolve_data
from tests.inline import INLINE

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


LLAMA = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
LLAMA |= {"num_attention_heads": 2, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("name", "options", "metric", "inputs"),
    [
        (
            "hf:LlamaForCausalLM",
            LLAMA | {"elastic": {"heads": [0.5]}},
            "perplexity",
            torch.arange(16)[None],
        ),
        pytest.param(
            "timm:test_resnet",
            {"elastic": {"width": [0.5]}},
            "accuracy",
            torch.ones(1, 1, 8, 8),
            marks=pytest.mark.full,
        ),
    ],
)
def test_a_named_model_goes_on_and_is_verified_retrained_and_taken_home(
    name: str, options: dict[str, Any], metric: str, inputs: torch.Tensor, tmp_path: Path
) -> None:
    """Everything behind the search reads the model, the data and the task from the run's folder."""
    out, text = str(tmp_path / "run"), metric == "perplexity"
    begun = raynas.search(
        name,
        "random",
        space_options=options,
        data="text" if text else "digits",
        data_options={"path": written(tmp_path), "context": 16} if text else {"size": 8},
        epochs=1,
        trials=1,
        out=out,
        ray=INLINE,
    )
    first = begun.trials["arch"].tolist()
    result = raynas.search(out=out, resume=True, trials=2, ray=INLINE)
    assert result.trials["arch"].tolist()[:1] == first
    assert np.isfinite(result.trials[metric]).tolist() == [True] * 2
    verified = result.verify(top=1, seeds=1, options={"epochs": 1}, ray=INLINE)
    assert (verified.metric, verified.table["group"].tolist()) == (metric, ["best", "random"])
    trained = raynas.retrain(out, epochs=1, ray=INLINE)
    assert np.isfinite(trained.metrics[f"valid_{metric}"])
    for home, saved in (("found", result), ("trained", trained)):
        assert main(["export", saved.path, f"{tmp_path / home}/"]) == 0
        net, again = saved.model(), taken_home(tmp_path / home)
        torch.testing.assert_close(logits(again, inputs), logits(net, inputs))
    assert main(["export", trained.path, str(tmp_path / "study.db")]) == 2


def taken_home(folder: Path) -> nn.Module:
    if (folder / "load_network.py").exists():
        return load_network(folder)
    net: nn.Module = transformers.LlamaForCausalLM.from_pretrained(folder)
    return net.eval()


@torch.no_grad()
def logits(net: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    outputs = net(inputs)
    made: torch.Tensor = outputs["logits"] if isinstance(outputs, dict) else outputs
    return made
