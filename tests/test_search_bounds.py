"""Constraints and several objectives through the whole of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import raynas
from raynas.core.errors import SearchFailed
from raynas.core.objectives import pareto_mask
from raynas.costs import CostTable
from tests.inline import INLINE
from tests.toynet import ToyNet


def params(net: nn.Module) -> dict[str, float]:
    return {"accuracy": float(sum(p.numel() for p in net.parameters()))}


def macs_table() -> dict[raynas.Arch, float]:
    supernet = raynas.ModelSpace(ToyNet).supernet()
    table = CostTable(supernet, torch.zeros(1, 1, 16, 16))
    return {arch: float(table.cost(arch).macs) for arch in raynas.ModelSpace(ToyNet).arch_space}


def only_what_keeps_a_bound_is_evaluated(algo: str, out: Path, ray: raynas.RayConfig) -> None:
    macs = macs_table()
    high = sorted(macs.values())[8]
    inside = [arch for arch, count in macs.items() if count <= high]
    assert len(inside) < 18
    result = raynas.search(
        ToyNet,
        algo=algo,
        evaluator=params,
        constraints={"macs": (None, high)},
        trials=18,
        out=str(out),
        ray=ray,
    )
    found = {raynas.Arch.from_json(str(text)) for text in result.trials["arch"]}
    assert found == set(inside)  # all that keep it, and no other
    assert set(result.trials["status"]) == {"completed"}
    assert result.config.constraints == {"macs": (None, high)}


@pytest.mark.parametrize("algo", ["random", "regularized_evolution"])
def test_no_architecture_beyond_a_bound_on_costs_is_evaluated(algo: str, tmp_path: Path) -> None:
    only_what_keeps_a_bound_is_evaluated(algo, tmp_path / "run", INLINE)


@pytest.mark.usefixtures("local_ray")
def test_no_worker_evaluates_an_architecture_beyond_a_bound(tmp_path: Path) -> None:
    only_what_keeps_a_bound_is_evaluated("random", tmp_path / "run", raynas.RayConfig(workers=1))


@pytest.mark.usefixtures("without_ray")
def test_an_unreachable_bound_is_said_at_once(tmp_path: Path) -> None:
    least = min(macs_table().values())
    with pytest.raises(ValueError, match=rf"macs <= 10: .* the smallest macs is {least:.0f}"):
        raynas.search(
            ToyNet,
            evaluator=params,
            constraints="macs<10",
            out=str(tmp_path / "run"),
            trials=3,
        )
    assert not (tmp_path / "run").exists()


def area(arch: Any) -> dict[str, float]:
    return {"accuracy": 1.0 - 1.0 / (arch["w"] * arch["d"]), "cost": float(arch["w"])}


WIDE = raynas.ArchSpace.of(w=[1, 2, 3, 4, 5, 6], d=[1, 2, 3])


def test_several_objectives_give_a_front(tmp_path: Path) -> None:
    result = raynas.search(
        WIDE,
        algo="nsga2",
        evaluator=area,
        objectives={"accuracy": "max", "cost": "min"},
        trials=18,
        out=str(tmp_path / "run"),
        ray=INLINE,
    )
    front = result.pareto()
    scores = result.trials[["accuracy", "cost"]].to_numpy() * [1, -1]
    assert len(front) == int(pareto_mask(scores).sum()) == 6
    assert set(front["cost"]) == {1, 2, 3, 4, 5, 6}


def test_a_weighted_sum_is_one_objective(tmp_path: Path) -> None:
    result = raynas.search(
        WIDE,
        evaluator=area,
        objectives={"accuracy": "max", "cost": "min"},
        scalarize={"accuracy": 1.0, "cost": -0.01},
        trials=18,
        out=str(tmp_path / "run"),
        ray=INLINE,
    )
    merged = result.trials["accuracy"] - 0.01 * result.trials["cost"]
    assert result.trials["objective"].to_numpy() == pytest.approx(merged.to_numpy())


def test_a_run_goes_on_under_other_weights(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "evaluator": area,
        "objectives": {"accuracy": "max", "cost": "min"},
        "out": str(tmp_path / "run"),
    }
    light = raynas.search(
        WIDE, scalarize={"accuracy": 1.0, "cost": -1e-6}, trials=12, **given, ray=INLINE
    )
    heavy = {"accuracy": 1.0, "cost": -1.0}
    result = raynas.search(WIDE, scalarize=heavy, trials=18, resume=True, **given, ray=INLINE)
    assert light.best.arch != result.best.arch
    assert (result.best.arch["w"], result.best.arch["d"]) == (1, 3)
    frame = result.judged
    merged = frame["accuracy"] - frame["cost"]
    assert frame["objective"].to_numpy() == pytest.approx(merged.to_numpy())
    assert result.best.objective == pytest.approx(merged.max())
    assert raynas.Arch.from_json(result.folder.read("best.json")) == result.best.arch


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"objectives": {"accuracy": "max", "cost": "min"}},
            "regularized_evolution optimises one objective, got accuracy, cost: use nsga2 or",
        ),
        ({"constraints": "cost<1<2<3"}, "expected METRIC<NUMBER"),
        ({"constraints": ["cost<1", "cost>2"]}, "no value is at least 2 and at most 1"),
        ({"constraints": {"cost": 3}}, r"expected \(low, high\), got 3"),
        ({"scalarize": {"cost": 1.0}}, "'cost' is no objective"),
    ],
)
def test_contradictions_are_said_before_anything_starts(
    given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        raynas.search(WIDE, evaluator=area, out=str(tmp_path / "run"), **given)
    assert not (tmp_path / "run").exists()


def test_a_training_free_measure_filters_what_is_evaluated(tmp_path: Path) -> None:
    space = raynas.ModelSpace(ToyNet)
    proxy = raynas.search(
        ToyNet,
        "grid",
        evaluator="synflow",
        objectives={"synflow": "max"},
        trials=18,
        out=str(tmp_path / "all"),
        seed=3,
        ray=INLINE,
    )
    flow = proxy.trials.set_index("arch_key")["synflow"]
    low = float(flow.sort_values().iloc[10])
    found = raynas.search(
        ToyNet,
        "random",
        evaluator=params,
        constraints={"synflow": (low, None)},
        trials=18,
        out=str(tmp_path / "run"),
        seed=3,
        ray=INLINE,
    )
    rows = found.trials.set_index("arch_key")
    assert len(flow) == 18 == space.arch_space.size()
    assert set(rows.index) == set(flow.index[flow >= low])
    assert set(rows["status"]) == {"completed"}
    assert rows["synflow"].to_dict() == flow[rows.index].to_dict()

    table = proxy.trials.filter(like="choice.").rename(columns=lambda name: name.split(".", 1)[1])
    table.assign(accuracy=0.5).to_csv(tmp_path / "table.csv", index=False)
    looked_up = raynas.search(
        ToyNet,
        "random",
        evaluator=("table", {"path": str(tmp_path / "table.csv")}),
        constraints={"synflow": (low, None)},
        trials=18,
        out=str(tmp_path / "looked up"),
        seed=3,
        ray=INLINE,
    )
    assert set(looked_up.trials["arch_key"]) == set(rows.index)
    assert set(looked_up.trials["status"]) == {"completed"}


@pytest.mark.usefixtures("without_ray")
def test_a_measure_that_nothing_reaches_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"synflow >= 1e\+06: none of 32 random .* theirs is"):
        raynas.search(
            ToyNet,
            evaluator=params,
            constraints="synflow>1e6",
            out=str(tmp_path / "run"),
        )
    assert not (tmp_path / "run").exists()


def test_bounds_that_none_keeps_together_are_said(tmp_path: Path) -> None:
    table = CostTable(raynas.ModelSpace(ToyNet).supernet(), torch.zeros(1, 1, 16, 16))
    costs = {arch: table.cost(arch).macs for arch in raynas.ModelSpace(ToyNet).arch_space}
    params_of = {arch: table.cost(arch).params for arch in costs}
    many = sorted(params_of.values())[-2]
    few = min(costs[a] for a, count in params_of.items() if count >= many)
    with pytest.raises(SearchFailed, match=r"no architecture was found that keeps .* and "):
        raynas.search(
            ToyNet,
            "random",
            evaluator=params,
            constraints={"params": (many, None), "macs": (None, few - 1)},
            out=str(tmp_path / "run"),
            ray=INLINE,
        )


def test_what_an_evaluator_says_of_a_cost_has_to_keep_its_bound_as_well(tmp_path: Path) -> None:
    """Its table may be of other images; the file of the best and the result agree."""

    def own(arch: raynas.Arch) -> dict[str, float]:
        large = arch["first"] == "k5"
        return {"accuracy": 0.9 if large else 0.5, "macs": 1e12 if large else 1.0}

    found = raynas.search(
        ToyNet,
        "random",
        evaluator=own,
        constraints="macs<1e9",
        trials=18,
        out=str(tmp_path),
        ray=INLINE,
    )
    large = found.trials["choice.first"] == "k5"
    assert set(found.trials.loc[large, "status"]) == {"infeasible"}
    assert set(found.trials.loc[~large, "status"]) == {"completed"}
    assert found.best.arch == raynas.Arch.from_json((tmp_path / "best.json").read_text())
