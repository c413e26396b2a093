"""Going on with a run: its own settings hold where nothing else is said."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import raynas
from raynas.cli import main
from raynas.core.errors import StoreMismatch
from raynas.core.progress import Progress
from raynas.nn import LayerChoice
from tests.toynet import ToyNet

SPACE = raynas.ArchSpace.of(depth=[2, 3, 4, 5], width=[16, 32, 64])
INLINE = {"inline": True}
NOBODY = {"address": "127.0.0.1:1"}  # a Ray that cannot be reached


def score(arch: raynas.Arch) -> float:
    """Return a score that is larger for wider architectures."""
    depth, width = arch["depth"], arch["width"]
    assert isinstance(depth, int)
    assert isinstance(width, int)
    return float(depth * width)


class Sized(nn.Module):
    """A network whose width is an argument of its constructor.

    Args:
        width: of the hidden layer.
        act: class of the activation.
        drop: probability, which no shape shows.
    """

    def __init__(self, width: int, act: type[nn.Module] = nn.ReLU, drop: float = 0.0) -> None:
        super().__init__()
        self.act = LayerChoice([act(), nn.Identity()], label="act")
        self.stem, self.head = nn.Linear(256, width), nn.Linear(width, 10)
        self.drop = nn.Dropout(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of a batch of digits."""
        logits: torch.Tensor = self.head(self.drop(self.act(self.stem(x.flatten(1)))))
        return logits


class Heard(Progress):
    """Remembers what a run says of its phases."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def phase(self, text: str) -> None:
        """Remember a phase."""
        self.phases.append(text)


def begun(out: Path, **given: Any) -> raynas.Result:
    usual: dict[str, Any] = {"trials": 4, "seed": 3, "ray": INLINE}
    return raynas.search(SPACE, "random", evaluator=score, out=str(out), **usual | given)


def test_nothing_but_the_folder_must_be_said(tmp_path: Path) -> None:
    first = begun(tmp_path / "run")
    again = raynas.search(out=first.path, resume=True, trials=7)
    whole = begun(tmp_path / "whole", trials=7)
    assert again.trials["arch_key"].tolist() == whole.trials["arch_key"].tolist()
    for name in ("algo", "seed", "evaluator", "objectives", "ray"):
        assert getattr(again.config, name) == getattr(first.config, name)


def test_what_is_said_changes(tmp_path: Path) -> None:
    first = begun(tmp_path / "run")
    heard = Heard()
    again = raynas.search(
        out=first.path, resume=True, algo="regularized_evolution", trials=6, progress=heard
    )
    assert again.config.algo.name == "regularized_evolution"
    assert "going on with regularized_evolution where random has searched" in heard.phases


def test_a_run_that_is_over_is_not_begun_again(tmp_path: Path) -> None:
    first = begun(tmp_path / "run")
    heard = Heard()
    again = raynas.search(out=first.path, resume=True, ray=NOBODY, progress=heard)
    assert heard.phases == ["nothing is left to do: 4 of 4 trials are told"]
    assert again.trials.equals(first.trials)


def test_an_evaluator_that_cannot_be_imported_has_to_be_passed(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    given: dict[str, Any] = {"trials": 2, "ray": INLINE, "out": out}
    raynas.search(SPACE, "random", evaluator=lambda arch: arch["depth"], **given)
    with pytest.raises(LookupError, match=r"evaluator of this run was a user's own: .*evaluator="):
        raynas.search(out=out, resume=True, trials=3)


def test_options_of_a_training_are_those_of_the_run(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    options = {"lr": 0.02}
    first = raynas.search(ToyNet, "gdas", epochs=1, trials=2, out=out, ray=INLINE, options=options)
    again = raynas.search(out=out, resume=True, trials=4)
    assert again.config.supernet == first.config.supernet
    assert len(again.history) == 1, "the supernet is trained once"
    assert len(again.trials) == 4


def test_a_space_is_named_by_the_command_line_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    table = tmp_path / "table.csv"
    rows = [f"{d},{w},{d * w}" for d in (2, 3, 4, 5) for w in (16, 32, 64)]
    table.write_text("\n".join(["depth,width,accuracy", *rows]))
    raynas.search(
        SPACE, "random", evaluator=["table", {"path": str(table)}], trials=2, out=out, ray=INLINE
    )
    assert main(["search", "--resume", "--out", out, "--trials", "5"]) == 0
    assert "5 trials (5 completed)" in " ".join(capsys.readouterr().out.split())
    assert main(["search", "--trials", "5"]) == 2
    assert "space: name what is to be searched" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (partial(Sized, 32), "was run with space"),
        (partial(Sized, 16, nn.SiLU), "was run with space"),
        (partial(Sized, 16, drop=0.5), "was run with space"),
        (lambda: Sized(16), "was run with space"),
    ],
)
def test_a_factory_with_other_arguments_is_another_space(
    tmp_path: Path, other: Any, said: str
) -> None:
    given: dict[str, Any] = {"evaluator": len, "out": str(tmp_path / "run"), "ray": INLINE}
    first = raynas.search(partial(Sized, 16), "random", trials=1, **given)
    assert first.config.space.name == "tests.test_resume:Sized"
    assert raynas.search(partial(Sized, 16), "random", trials=2, resume=True, **given).path
    with pytest.raises(StoreMismatch, match=said):
        raynas.search(other, "random", trials=2, resume=True, **given)


def test_a_function_whose_network_has_changed_is_another_space(tmp_path: Path) -> None:
    given: dict[str, Any] = {"evaluator": len, "out": str(tmp_path / "run"), "ray": INLINE}
    width = 16
    raynas.search(lambda: Sized(width), "random", trials=1, **given)
    width = 32
    with pytest.raises(StoreMismatch, match="choices or shapes of weights differ"):
        raynas.search(lambda: Sized(width), "random", trials=2, resume=True, **given)


def test_the_arguments_of_a_factory_build_its_networks_again(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    given: dict[str, Any] = {"evaluator": len, "out": out, "ray": INLINE, "trials": 1}
    raynas.search(partial(Sized, 24, drop=0.5), "random", **given)
    assert raynas.load(out).model().get_parameter("head.weight").shape == (10, 24)


def test_data_are_only_taken_where_an_evaluator_looks_at_them(tmp_path: Path) -> None:
    given: dict[str, Any] = {"ray": INLINE, "trials": 1, "epochs": None}
    run = raynas.search(ToyNet, "random", evaluator=len, out=str(tmp_path / "none"), **given)
    assert run.config.data is None
    assert "<dt>Data</dt><dd>none</dd>" in Path(run.report()).read_text()
    taken = raynas.search(
        ToyNet,
        "random",
        evaluator="cost",
        objectives={"macs": "min"},
        out=str(tmp_path / "digits"),
        ray=INLINE,
        trials=1,
    )
    assert taken.config.data is not None
    assert taken.config.data.name == "digits"


def conv_net() -> nn.Module:
    """Return a network whose costs depend on the size of its images."""
    convs = {f"k{k}": nn.Conv2d(1, 8, k, padding=k // 2) for k in (1, 3)}
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(LayerChoice(convs, label="conv"), pool, nn.Flatten(), nn.Linear(8, 10))


def test_bounds_are_decided_at_the_size_that_the_space_is_of(tmp_path: Path) -> None:
    """Of k1, 8 * 128**2 + 80 by hand; of k3, nine times the first."""
    space = raynas.ModelSpace(conv_net, input_shape=(1, 128, 128))
    small, large = 8 * 128**2 + 80, 9 * 8 * 128**2 + 80
    given: dict[str, Any] = {"evaluator": len, "ray": INLINE, "trials": 4}
    run = raynas.search(
        space, "random", constraints={"macs": (None, small)}, out=str(tmp_path / "run"), **given
    )
    assert {row["conv"] for row in map(raynas.Arch.from_json, run.trials["arch"])} == {"k1"}
    assert run.trials["macs"].tolist() == [small] * len(run.trials)
    with pytest.raises(ValueError, match=f"the smallest macs is {small}"):
        raynas.search(space, "random", constraints={"macs": (None, small - 1)}, **given)
    assert raynas.cost(space, {"conv": "k3"}).macs == large


def test_options_without_a_name_are_those_of_the_run_or_refused(tmp_path: Path) -> None:
    """The same ones say nothing new; others would be ignored, and are refused."""
    out, options = str(tmp_path / "run"), {"size": 8}
    first = {"evaluator": "cost", "objectives": {"macs": "min"}, "trials": 2, "ray": INLINE}
    raynas.search("mlp", "random", data="digits", data_options=options, out=out, **first)  # type: ignore[arg-type]
    again = raynas.search(out=out, resume=True, data_options=options, trials=3)
    assert len(again.trials) == 3
    for name, given in (("data", {"size": 16}), ("space", {"layers": 9})):
        with pytest.raises(TypeError, match=f"{name}_options: those of the run stand; others go"):
            raynas.search(out=out, resume=True, **{f"{name}_options": given})  # type: ignore[arg-type]
