"""Bad input is one sentence: exit code 2 before anything starts, 1 for what failed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.cli import main
from raynas.cli.exit_codes import exit_code
from raynas.core.errors import Unfinished, running
from raynas.nn import LayerChoice
from raynas.storage.run_folder import Folder

SPACE = raynas.ArchSpace.of(x=[1, 2, 3, 4])
READERS = ("trials R", "trials R --json", "report R", "verify R", "export R new.json", "retrain R")


class Branching(nn.Module):
    """A network whose path goes by the values of its input, which no exported program can."""

    def __init__(self) -> None:
        super().__init__()
        self.first = LayerChoice([nn.Linear(64, 10), nn.Linear(64, 10, bias=False)], label="first")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (batch, 10)."""
        logits: Tensor = self.first(x.flatten(1))
        if logits.sum() > 0:
            return logits
        return -logits


class OfTwo(Branching):
    """A network that computes otherwise for a batch of two."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (batch, 10)."""
        logits: Tensor = self.first(x.flatten(1))
        return -logits if len(x) == 2 else logits


def judge(arch: Any) -> dict[str, float]:
    return {"accuracy": arch["x"] / 4}


def half(_: Any) -> dict[str, float]:
    return {"accuracy": 0.5}


def broken(arch: Any) -> dict[str, float]:
    raise RuntimeError(f"no such card: {arch['x']}")


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of runs: one that is whole, one that only failed, one that ended before a trial."""
    path = tmp_path_factory.mktemp("errors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        ray = {"inline": True}
        raynas.search(SPACE, evaluator=judge, trials=3, out="good", ray=ray)
        raynas.search(SPACE, evaluator=broken, trials=3, out="failed", ray=ray)
        ended = Folder("begun")
        ended.begin(raynas.load("good").config, resume=False)
        (path / "empty").mkdir()
        (path / "file").write_text("not a run")
        yield path


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str]]:
    """Give a command that goes wrong; return its exit code and what it says.

    Whatever it is, it is one line without a traceback, nothing is on standard output, and no file
    is there that was not.
    """

    def run(command: str) -> tuple[int, str]:
        before = files(folder)
        capsys.readouterr()
        code = main(command.split())
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err
        assert "pydantic" not in captured.err
        assert files(folder) == before
        return code, captured.err

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


Refused = Callable[[str], tuple[int, str]]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("serach mlp", "serach"),
        ("trials good --srot x", "--sort"),
        ("trials", "'run'"),
        ("trials good good", "unexpected extra argument"),
        ("--json", "--json"),
        ("search mlp --json --nonsense", "--nonsense"),
        ("search mlpp", "did you mean 'mlp'?"),
        ("search mlp --algo randm", "did you mean 'random'?"),
        ("search mlp --data digit", "did you mean 'digits'?"),
        ("search mlp --task clasification", "did you mean 'classification'?"),
        ("search mlp --evaluator standalon", "did you mean 'standalone'?"),
        ("search mlp --track tensorbord", "did you mean 'tensorboard'?"),
        ("search mlp --objective acuracy", "did you mean 'accuracy'?"),
        ("search mlp --constraint macs~3", "macs~3"),
        ("search mlp --option population", "--option: expected key=value, got 'population'"),
        ("search mlp --option =3", "--option: expected key=value, got '=3'"),
        ("search mlp --option population=[1", "--option: 'population=[1': "),
        ("search mlp --option population=!!python/name:os.system", "python/name:os.system"),
        ("search mlp --option populaton=3", "did you mean 'population'?"),
        ("search mlp --space-option withds=[16]", "did you mean 'widths'?"),
        ("search mlp --data-option siez=8", "did you mean 'size'?"),
        ("search mlp --ray-option inlin=true", "did you mean 'inline'?"),
        ("search mlp --trials 1.5", "--trials"),
        ("search mlp --out file --ray-option inline=true", "it is a file"),
        ("search mlp --out good", "holds another run"),
        ("search mlp --supernet empty", "no supernet in"),
        ("search nowhere:Net", "nowhere cannot be imported"),
        ("train-supernet mlp --algo sposs", "did you mean 'spos'?"),
        ("profile mlp --constraint mac<3", "did you mean 'macs'?"),
        ("profile mlp --samples 0", "samples must be a whole number of at least 1, got 0"),
        ("profile mlp --latency nowhere.csv", "there is no file nowhere.csv"),
        ("describe sposs", "did you mean 'spos'?"),
        ("list algorithm", "did you mean 'algorithms'?"),
        ("run nowhere.yaml", "there is no configuration file nowhere.yaml"),
        ("run good", "good is a folder"),
        ("run file", "expected keys and values"),
        ("retrain nowhere.json --space mlp", "there is no file nowhere.json"),
        ("retrain good --trial 9", "has no trial 9; it has 0 to 2"),
        ("verify good --top 0", "at least one architecture"),
        ("trials good --sort acuracy", "did you mean 'accuracy'?"),
        ("trials good --json --csv", "--json and --csv are two forms of the same"),
        ("export good best.json --trial 9", "has no trial 9; it has 0 to 2"),
        ("export good best.xyz", "expected a file ending in one of .json, .pt, .pt2, .onnx, .pte"),
        ("export good best", "says what to write (raynas export --help); a folder for a"),
        ("export good best.pt", "plain ArchSpace, which builds no modules"),
        ("export good nowhere/best.json", "there is no folder"),
        ("export good empty", "empty is a folder; name a file"),
        ("export good study.db --trial 1", "leave out --trial and --whole"),
        ("report good --out nowhere/page.html", "there is no folder"),
        ("plot good histroy page.html", "did you mean 'history'?"),
        ("plot good history page.htm", "did you mean '.html'?"),
        ("ui nowhere", "there is no folder nowhere"),
        ("dashboard nowhere", "holds no run"),
    ],
)
def test_what_another_command_line_would_have_avoided(
    refused: Refused, command: str, said: str
) -> None:
    code, told = refused(command)
    assert said in told
    assert code == 2


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("nowhere", "nowhere holds no run: there is no such folder"),
        ("file", "file holds no run: it is a file, and a run is a folder"),
        ("empty", "empty holds no run: it has no run.json"),
    ],
)
def test_what_is_no_run(refused: Refused, command: str, run: str, said: str) -> None:
    code, told = refused(command.replace("R", run))
    assert said in told
    assert code == 2


@pytest.mark.parametrize(
    ("run", "said"),
    [("begun", "none ran"), ("failed", "all 3 failed, the first with RuntimeError")],
)
def test_a_run_that_found_nothing(refused: Refused, run: str, said: str) -> None:
    for command in ("verify R", "export R new.json", "export R new.pt"):
        code, told = refused(command.replace("R", run))
        assert said in told, command
        assert code == 1
    code, told = refused(f"plot {run} history new.json")
    assert "needs at least 2 trials" in told
    assert code == 1


@pytest.mark.parametrize(("run", "rows"), [("begun", 0), ("failed", 3)])
def test_its_trials_and_report_are_told_all_the_same(
    run: str, rows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trials", run]) == 0
    assert main(["trials", run, "--csv"]) == 0
    capsys.readouterr()
    assert main(["trials", run, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["trials"]) == rows
    page = tmp_path / "page.html"
    assert main(["report", run, "--out", str(page)]) == 0
    assert page.stat().st_size > 0


def test_a_search_in_which_all_fails_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What only a training finds wrong: it had begun, and what it told stays on disk."""
    monkeypatch.chdir(tmp_path)
    module = Path("always_fails.py")
    module.write_text(
        "from tests.toynet import ToyNet\n"
        "class Net(ToyNet):\n"
        "    def forward(self, x):\n"
        "        if self.training and len(x) > 2:\n"
        "            raise ValueError('the card is full')\n"
        "        return super().forward(x)\n"
    )
    judged = ["--evaluator", "standalone", "--evaluator-option", "epochs=1", "--trials", "2"]
    small = ["--ray-option", "inline=true", "--data-option", "size=8", "--out", "run"]
    flags = ["--algo", "random", *judged, *small, "--json"]
    assert main(["search", "always_fails:Net", *flags]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "the card is full" in captured.err
    assert "Traceback" not in captured.err
    assert len(raynas.load("run").trials) == 2


def written(change: Callable[[dict[str, Any]], object]) -> str:
    fields = json.loads(Path("good/run.json").read_text())
    change(fields)
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda f: f.update(sead=f.pop("seed")),
            "no setting is named 'sead'; did you mean 'seed'?",
        ),
        (lambda f: f.update(seed="x"), "seed: input should be a valid integer"),
        (lambda f: f.update(trials=0), "trials: input should be greater than 0, got 0"),
        (lambda f: f["algo"].update(optoins={}), "'algo.optoins'; did you mean 'options'?"),
        (lambda f: f.update(ray={"worker": 2}), "'ray.worker'; did you mean 'workers'?"),
        (lambda f: f.pop("algo"), "algo: field required"),
        (lambda f: f.update(seed="x", algo=3), "algo: input should be "),
    ],
)
def test_a_broken_configuration_names_its_key(
    refused: Refused, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    broken_file(written(change))
    code, told = refused("trials broken")
    assert "broken/run.json is not a run's configuration: " in told
    assert said in told
    assert code == 2


@pytest.mark.parametrize("text", ["", "{", "\x00", '{"space": '])
def test_a_configuration_that_is_no_json(refused: Refused, text: str) -> None:
    broken_file(text)
    code, told = refused("report broken")
    assert "is not a run's configuration: it is no JSON: " in told
    assert code == 2


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_a_configuration_that_is_no_object(refused: Refused, text: str) -> None:
    broken_file(text)
    _, told = refused("trials broken")
    assert "input should be an object" in told


def broken_file(text: str) -> None:
    Path("broken").mkdir(exist_ok=True)
    Path("broken/run.json").write_text(text)


def test_nothing_is_written_over_without_force(refused: Refused, folder: Path) -> None:
    commands = {
        "kept.json": "export good kept.json",
        "kept.db": "export good kept.db",
        "kept.html": "report good --out kept.html",
        "kept.picture.json": "plot good history kept.picture.json",
    }
    for name, command in commands.items():
        (folder / name).write_text("mine")
        code, told = refused(command)
        assert "is there already: name another file, or pass --force" in told
        assert code == 2
        assert main([*command.split(), "--force", "--json"]) == 0
        assert (folder / name).read_bytes() != b"mine"


@pytest.mark.parametrize("net", [Branching, OfTwo])
@pytest.mark.parametrize("ending", ["pt2", "onnx"])
def test_a_network_that_cannot_be_exported(
    refused: Refused, net: type[nn.Module], ending: str, ended: Callable[[type[nn.Module]], str]
) -> None:
    code, told = refused(f"export {ended(net)} net.{ending}")
    assert f"this network cannot be written as .{ending}, as torch cannot follow" in told
    assert ".pt takes its weights" in told
    assert len(told) < 700
    if net is Branching:
        assert "`if logits.sum() > 0:`" in told
        assert Path(__file__).name in told
    assert code == 1


@pytest.fixture(scope="module")
def ended(folder: Path) -> Callable[[type[nn.Module]], str]:
    """Return a run of a network, of one trial that cost nothing."""

    def run(net: type[nn.Module]) -> str:
        out = folder / net.__name__
        if not out.exists():
            raynas.search(
                net,
                "random",
                data="digits",
                data_options={"size": 8},
                evaluator=half,
                trials=1,
                out=str(out),
                ray={"inline": True},
            )
        return net.__name__

    return run


def test_a_retraining_of_a_run_that_found_nothing(
    refused: Refused, ended: Callable[[type[nn.Module]], str]
) -> None:
    config = raynas.load(ended(Branching)).config
    Folder("net_begun").begin(config, resume=False)
    code, told = refused("retrain net_begun --ray-option inline=true")
    assert "no completed trial: none ran" in told
    assert code == 1


def test_its_weights_can(ended: Callable[[type[nn.Module]], str], tmp_path: Path) -> None:
    assert main(["export", ended(Branching), str(tmp_path / "net.pt")]) == 0
    weights = torch.load(tmp_path / "net.pt")
    assert any(name.endswith("weight") for name in weights)


def test_exit_codes() -> None:
    assert exit_code(ValueError("a name")) == 2
    assert exit_code(FileNotFoundError("a path")) == 2
    assert exit_code(RuntimeError("a card")) == 1
    assert exit_code(Unfinished("no trial")) == 1
    with pytest.raises(ValueError, match="in a run") as caught, running():
        raise ValueError("in a run")
    assert exit_code(caught.value) == 1
    told = OSError("the folder cannot be made")
    told.__cause__ = NotADirectoryError("a file")
    assert exit_code(told) == 2
