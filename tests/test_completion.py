"""Shell completion: what bash, zsh and fish are offered, and that torch does not wait for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm

from raynas.cli import main
from raynas.cli.completion import SOURCES, complete_any, complete_kind, names_in_files
from raynas.cli.model_completion import model_names
from raynas.nn.named import hf_models, torchvision_models
from raynas.setup.registries import available, registries

Complete = Callable[[str, str], list[str]]
SHELLS = ("bash", "zsh", "fish")


def asked(shell: str, line: str) -> dict[str, str]:
    """Return how a shell asks to complete the last word of a line: variables of the environment."""
    words = {"_RAYNAS_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        return words | {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    return words | {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}


def offered(shell: str, text: str) -> list[str]:
    """Return the words in an answer to a shell, without what is said of each."""
    if shell == "bash":
        return text.split()
    if shell == "fish":
        return [line.partition("\t")[0] for line in text.splitlines() if line]
    inner = text.partition("((")[2].rpartition("))")[0]  # lines of "word" or "word":"help"
    return [line.split('"')[1] for line in inner.splitlines() if line]


@pytest.fixture
def complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Complete:
    """Ask for what follows a line, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(shell: str, line: str) -> list[str]:
        with monkeypatch.context() as patch:
            for name, value in asked(shell, line).items():
                patch.setenv(name, value)
            assert main([]) == 0
        return offered(shell, capsys.readouterr().out)

    return run


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_flags_and_names_are_completed(complete: Complete, shell: str) -> None:
    assert complete(shell, "raynas sea") == ["search"]
    assert complete(shell, "raynas search --dat") == ["--data", "--data-option"]
    assert complete(shell, "raynas search m") == [
        name for name in available("spaces") if name.startswith("m")
    ]
    assert complete(shell, "raynas search mlp --algo regular") == ["regularized_evolution"]
    assert complete(shell, "raynas search mlp --data ") == available("data")
    assert complete(shell, "raynas search mlp --task se") == ["segmentation"]
    assert complete(shell, "raynas train-supernet mlp --algo spo") == ["spos"]
    assert complete(shell, "raynas describe digi") == ["digits"]
    assert complete(shell, "raynas list al") == ["algorithms"]
    assert complete(shell, "raynas search nothing_begins_so") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_folders_of_runs_are_completed(complete: Complete, shell: str, tmp_path: Path) -> None:
    for run in ("first", "second", "runs/mlp-spos-1", "more/deep", ".hidden"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "run.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "first.txt").write_text("")
    every = ["empty/", "first", "more/", "runs/", "runs/mlp-spos-1", "second"]
    assert complete(shell, "raynas trials ") == every
    assert complete(shell, "raynas trials f") == ["first"]
    assert complete(shell, "raynas report runs/") == ["runs/mlp-spos-1"]
    assert complete(shell, "raynas export more/d") == ["more/deep"]
    assert complete(shell, "raynas retrain nowhere/x") == []


@pytest.mark.parametrize("kind", SOURCES)
def test_names_read_from_files_are_those_that_are_registered(kind: str) -> None:
    assert names_in_files(kind) == available(kind)


def test_every_kind_is_completed() -> None:
    assert complete_kind("") == sorted(registries())
    assert complete_any("digits") == ["digits"]
    assert set(complete_any("")) >= {"spos", "random", "mlp", "digits", "classification"}


@pytest.mark.parametrize("shell", SHELLS)
def test_models_of_libraries_are_completed(complete: Complete, shell: str) -> None:
    words = complete(shell, "raynas search ")
    assert {"timm:", "torchvision:", "hf:"} <= {word.replace("\\", "") for word in words}
    line = "raynas profile timm:resnet1" if shell != "bash" else "raynas profile timm : resnet1"
    whole = sorted(timm.list_models("resnet1*"))
    before = "" if shell == "bash" else "timm:"  # which bash has already
    found = [word.replace("\\", "") for word in complete(shell, line)]
    assert found == [f"{before}{name}" for name in whole]


def test_bash_completes_names_with_colons_in_them(complete: Complete) -> None:
    assert complete("bash", "raynas describe torchvision : resnet18") == ["resnet18"]
    assert complete("bash", "raynas describe torchvision:resnet18") == ["torchvision:resnet18"]
    assert len(complete("bash", "raynas describe torchvision :")) == len(torchvision_models.names())
    assert complete("bash", "raynas search other : resnet18") == []


def test_names_of_models_read_from_files_are_those_of_the_libraries() -> None:
    assert model_names("timm") == sorted(timm.list_models())
    assert model_names("torchvision") == torchvision_models.names()
    classes = {name for name in hf_models.names() if not name.endswith("Config")}
    assert set(model_names("hf")) >= classes | {"LlamaConfig", "AutoformerConfig"}


SCRIPT = """
import json, sys
from raynas.cli import main
code = main([])
print(json.dumps([code, sorted({"torch", "ray", "pandas"} & set(sys.modules))]), file=sys.stderr)
"""


def test_the_shell_does_not_wait_for_torch(tmp_path: Path) -> None:
    """``describe`` completes names of all kinds."""
    environment = {
        **os.environ,
        **asked("bash", "raynas describe m"),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"mlp", "mnist", "mobilenet_v2_cifar"} <= set(ran.stdout.split())
    assert json.loads(ran.stderr.splitlines()[-1]) == [0, []]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_is_told_how_to_ask(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ``raynas --show-completion`` prints names the command and the variable."""
    monkeypatch.setenv("_RAYNAS_COMPLETE", f"source_{shell}")
    assert main([]) == 0
    script = capsys.readouterr().out
    assert "_RAYNAS_COMPLETE" in script
    assert "raynas" in script
