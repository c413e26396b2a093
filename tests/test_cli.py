"""The command line: what it prints, and one clear sentence for whatever goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from raynas.cli import main
from raynas.report.plugin import families, reflowed, without_arguments

REPO = Path(__file__).parent.parent
HANGS_S = 600  # after which a process of a test is taken to hang: a busy machine starts Ray slowly


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("search mobilenet_v2_cifra", "did you mean 'mobilenet_v2_cifar'?"),
        ("search mobilenet_v2_cifar --algo regularised_evolution", "'regularized_evolution'?"),
        ("search mobilenet_v2_cifar --algo spos --evaluator standalone", "supernet go with the"),
        ("search mobilenet_v2_cifar --data digit", "did you mean 'digits'?"),
        ("search mobilenet_v2_cifar --trials 0", "trials: input should be greater than 0, got 0"),
        ("search mobilenet_v2_cifar --trials=-3", "trials: input should be greater than 0"),
        ("search mobilenet_v2_cifar --trials many", "--trials"),
        ("search mobilenet_v2_cifar --trails 3", "--trails"),
        ("search mobilenet_v2_cifar --option populatoin=3", "did you mean 'population'?"),
        ("search mobilenet_v2_cifar --option population=few", "valid integer"),
        (
            "search mobilenet_v2_cifar --option population=5 --option tournament=10",
            "tournament 10 and population 5",
        ),
        ("search mobilenet_v2_cifar --option population", "expected key=value"),
        ("search mobilenet_v2_cifar --space-option widht=1", "did you mean 'width'?"),
        ("search mobilenet_v2_cifar --data-option size=4", "size must be at least 8, got 4"),
        ("search mobilenet_v2_cifar --supernet-option epoch=1", "did you mean 'epochs'?"),
        (
            "search mobilenet_v2_cifar --supernet-option lr=-1",
            "lr: input should be greater than 0, got -1",
        ),
        ("search mobilenet_v2_cifar --ray-option worker=1", "did you mean 'workers'?"),
        ("search mobilenet_v2_cifar --objective acuracy", "did you mean 'accuracy'?"),
        ("search mobilenet_v2_cifar --objective accuracy:most", "accuracy"),
        (
            "search mobilenet_v2_cifar --objective accuracy --objective macs:min",
            "optimises one objective",
        ),
        ("search mobilenet_v2_cifar --supernet nowhere", "no supernet in"),
        ("search mobilenet_v2_cifar --seed=-1", "seed"),
        (f"search mobilenet_v2_cifar --seed={2**63}", f"seed: input should be less than {2**63}"),
        (
            "search mobilenet_v2_cifar --space-option candidates=[MB3E3,MB4E3]",
            "no operator named 'MB4E3'",
        ),
        ("search mobilenet_v2_cifar --space-option width=0", "width must be positive, got 0"),
        ("search mobilenet_v2_cifar --resume", "name it (out=, --out)"),
        ("search nowhere:Net", "nowhere cannot be imported"),
        ("search tests.toynet:ToyNett", "did you mean 'ToyNet'?"),
        ("list algorithm", "did you mean 'algorithms'?"),
        ("describe sposs", "did you mean 'spos'?"),
        ("trials nowhere", "holds no run"),
        ("serach x", "serach"),
    ],
)
def test_bad_input_is_one_sentence_and_no_traceback(
    arguments: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(arguments.split())
    captured = capsys.readouterr()
    assert code == 2
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_debug_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LookupError, match="did you mean"):
        main(["describe", "sposs", "--debug"])


def test_list_and_describe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    for name in ("random", "regularized_evolution", "spos", "mobilenet_v2_cifar", "digits"):
        assert name in listed
    assert main(["list", "operators"]) == 0
    operators = capsys.readouterr().out
    assert "  AP3, AP5, AP7," in operators
    assert " MB{3,5,7,9}E{1,3,6,9}{,H,S,SH}," in operators
    assert main(["describe", "regularized_evolution"]) == 0
    described = capsys.readouterr().out
    assert "population = 20" in described
    assert "arXiv:1802.01548" in described
    assert main(["describe", "mobilenet_v2_cifar"]) == 0
    space = capsys.readouterr().out
    assert "the stem\nand the sixth stage keep the resolution.\n" in space
    assert "  net:" not in space
    assert "    zero: whether a block with a skip connection may also be left out" in space
    for text in (listed, operators, described, space):
        assert max(map(len, text.splitlines())) <= 80
    assert main(["describe", "darts_imagenet"]) == 0
    assert capsys.readouterr().out.count("Source:") == 1


def test_docstrings_are_reflowed_by_their_parts() -> None:
    doc = """One two
three.
Differs: four
five.

>>> six
7

Args:
    a: one two
        three four.
    b: five.
"""
    assert reflowed(doc, 22).splitlines() == [
        *("One two three.", "Differs: four five.", "", ">>> six", "7", "", "Args:"),
        *("    a: one two three", "        four.", "    b: five."),
    ]
    assert without_arguments(doc, {"b"}) == doc.replace("    a: one two\n        three four.\n", "")
    assert without_arguments(doc, ()).endswith("7")
    assert without_arguments("Does it.", ()) == "Does it."


def test_families_are_one_word_where_they_are_whole() -> None:
    whole = [f"MB{k}E{e}{s}" for k in (3, 5) for e in (1, 6) for s in ("", "S")]
    assert families([*whole, "AVG"]) == ["AVG", "MB{3,5}E{1,6}{,S}"]
    assert families(whole[1:]) == sorted(whole[1:])
    assert families(["MB3E1"]) == ["MB3E1"]


SCRIPT = """
import sys, time
import raynas

def slow(arch):
    time.sleep(0.1)
    return {"accuracy": float(arch["x"] + arch["y"])}

space = raynas.ArchSpace.of(x=list(range(30)), y=list(range(30)))
inline = "inline" in sys.argv
raynas.search(space, evaluator=slow, trials=int(sys.argv[2]), out=sys.argv[1],
              resume="resume" in sys.argv, ray={"inline": True} if inline else {"num_cpus": 2})
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(folder / "run"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_trials(folder: Path, count: int) -> None:
    deadline = time.monotonic() + HANGS_S
    while time.monotonic() < deadline:
        if (folder / "run" / "trials").exists() and len(told(folder)) >= count:
            return
        time.sleep(0.2)
    raise AssertionError(f"fewer than {count} trials after {HANGS_S} s")


def told(folder: Path) -> pd.DataFrame:
    parts = folder / "run" / "trials"
    return pd.read_parquet(parts) if any(parts.glob("part-*.parquet")) else pd.DataFrame()


@pytest.mark.full
@pytest.mark.xdist_group("ray")
def test_ctrl_c_keeps_what_was_told(tmp_path: Path) -> None:
    process = start(tmp_path, "800")
    wait_for_trials(tmp_path, 12)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=HANGS_S)
    assert process.returncode != 0
    assert "Interrupted: after " in err
    kept = told(tmp_path)
    assert 12 <= len(kept) < 800
    assert set(kept["status"]) == {"completed"}
    assert (tmp_path / "run" / "best.json").is_file()


@pytest.mark.full
def test_killed_and_resumed_repeats_nothing(tmp_path: Path) -> None:
    """What Ray goes on with: test_inline.py."""
    process = start(tmp_path, "800", "inline")
    wait_for_trials(tmp_path, 12)
    process.kill()
    process.communicate(timeout=HANGS_S)
    before = told(tmp_path)
    more = len(before) + 25
    process = start(tmp_path, str(more), "resume", "inline")
    _, err = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, err
    after = told(tmp_path)
    assert len(after) == more == after["arch_key"].nunique()
    merged = before.merge(after, on=["trial", "arch_key", "told_event"])
    assert len(merged) == len(before), "every trial told before the kill is kept"
