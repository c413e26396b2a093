"""Weights that a user's own evaluator returns: the best one's are kept and given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import raynas
from raynas.core.config import RayConfig
from raynas.evaluators.kept_weights import WEIGHTS
from tests.inline import INLINE

SCORES = {"a": 0.2, "b": 0.9, "c": 0.5}


class Net(nn.Sequential):
    def __init__(self) -> None:
        layers = {name: nn.Linear(2, 2) for name in SCORES}
        super().__init__(raynas.nn.LayerChoice(layers, label="layer"))


def of_arch(arch: raynas.Arch) -> Any:
    """Fill all weights with the score, as a training would leave them."""
    net = raynas.ModelSpace(Net).build(arch)
    for weight in net.parameters():
        nn.init.constant_(weight, SCORES[str(arch["layer"])])
    return {"accuracy": SCORES[str(arch["layer"])]}, net.state_dict()


def value_of(net: nn.Module) -> float:
    values = {float(value) for weight in net.parameters() for value in weight.detach().flatten()}
    assert len(values) == 1
    return values.pop()


def kept(path: Path) -> list[str]:
    return sorted(file.stem for file in (path / WEIGHTS).iterdir())


def test_the_best_one_s_weights_are_those_of_its_model(tmp_path: Path) -> None:
    run = raynas.search(Net, "grid", evaluator=of_arch, out=str(tmp_path), ray=INLINE)
    assert run.best.arch["layer"] == "b"
    assert kept(tmp_path) == [run.best.arch.key]
    assert value_of(run.model()) == pytest.approx(0.9)
    moved = tmp_path.rename(tmp_path.parent / "moved")
    again = raynas.load(str(moved))
    assert value_of(again.model()) == pytest.approx(0.9)
    again.export(moved / "best.pt")
    weights = torch.load(moved / "best.pt", weights_only=True)
    assert all(bool((tensor == torch.tensor(0.9)).all()) for tensor in weights.values())
    others = again.model({"layer": "a"})
    assert not torch.equal(others.state_dict()["0.weight"], torch.full((2, 2), 0.2)), "not kept"


def test_going_on_keeps_the_best_of_all_starts(tmp_path: Path) -> None:
    given: dict[str, Any] = {"evaluator": of_arch, "out": str(tmp_path), "ray": INLINE}
    first = raynas.search(Net, "grid", trials=1, **given)
    assert kept(tmp_path) == [first.best.arch.key]
    second = raynas.search(Net, "grid", trials=3, resume=True, **given)
    assert kept(tmp_path) == [second.best.arch.key]
    assert value_of(second.model()) == pytest.approx(0.9)


def test_bounds_and_other_goals_say_which_is_best(tmp_path: Path) -> None:
    run = raynas.search(
        Net,
        "grid",
        evaluator=of_arch,
        objectives={"accuracy": "min"},
        constraints=["accuracy>0.3"],
        out=str(tmp_path),
        ray=INLINE,
    )
    assert run.best.arch["layer"] == "c"
    assert kept(tmp_path) == [run.best.arch.key]


@pytest.mark.full
@pytest.mark.usefixtures("local_ray")
def test_workers_leave_the_best_one_s_weights_alone(tmp_path: Path) -> None:
    run = raynas.search(
        Net, "grid", evaluator=of_arch, out=str(tmp_path), ray=RayConfig(workers=2, batch=1)
    )
    assert kept(tmp_path) == [run.best.arch.key]
    assert value_of(run.model()) == pytest.approx(0.9)


def test_without_weights_there_is_no_folder(tmp_path: Path) -> None:
    raynas.search(Net, "grid", evaluator=lambda _: 0.5, out=str(tmp_path), ray=INLINE)
    assert not (tmp_path / WEIGHTS).exists()
