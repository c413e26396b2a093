"""Ways to score: the registry, tables, and training-free measures against numbers by hand."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.cli import main
from raynas.core.config import ComponentSpec
from raynas.core.decision import Choice, Subset
from raynas.core.errors import StoreMismatch, UnknownName
from raynas.core.evaluator import EVALUATORS, Budget, Measurement, measure
from raynas.core.goals import Goals
from raynas.core.objectives import Objective
from raynas.core.train_settings import TrainSettings
from raynas.costs import cost_of
from raynas.data.digits import Digits
from raynas.data.tensor_data import TensorData
from raynas.evaluators import NWOT, GradNorm, Standalone, SynFlow, Table
from raynas.evaluators.loaded import Loaded
from raynas.evaluators.networks import NetworkMeasurer, NetworkTrainer
from raynas.evaluators.sample import training_batch
from raynas.setup.evaluation import Evaluation, evaluation_of
from raynas.setup.problem import Problem
from raynas.setup.resolve import resolve_space
from raynas.setup.resolve_data import resolve_data
from tests.inline import INLINE
from tests.toynet import ToyNet

SPACE = raynas.ArchSpace.of(depth=[1, 2], op=["conv", "skip"])
CPU = torch.device("cpu")


def vectors(*rows: list[float]) -> TensorData:
    """Return data of these inputs, each split the same, of two classes in turn."""
    x = torch.tensor(rows)
    split = torch.utils.data.TensorDataset(x, torch.arange(len(rows)) % 2)
    return TensorData((split, split), batch_size=2)


# --- registry -------------------------------------------------------------------------------------


def planned(
    evaluator: Any,
    space: Any = SPACE,
    objectives: tuple[str, ...] = ("accuracy",),
    **given: Any,
) -> Evaluation:
    """Return the evaluation by an evaluator, without Ray."""
    data = None if space is SPACE else resolve_data("digits", {})
    goals = Goals(tuple(Objective(metric) for metric in objectives))
    problem = Problem(space=resolve_space(space, {}, data), data=data, goals=goals)
    return evaluation_of(evaluator, problem, **given)


def test_the_built_in_evaluators_are_registered() -> None:
    built_in = {"shared", "standalone", "table", "cost", "synflow", "nwot", "grad_norm"}
    assert built_in <= set(raynas.available("evaluators"))
    assert "reduction_factor = 4.0" in raynas.describe("standalone")
    assert EVALUATORS.name_of("naswot") == "nwot"


@pytest.mark.parametrize(
    "given",
    [
        ("standalone", {"lr": 0.1, "epochs": 3}),
        ["standalone", {"lr": 0.1, "epochs": 3}],
        {"type": "Standalone", "args": {"lr": 0.1, "epochs": 3}},
        Standalone(lr=0.1, epochs=3),
    ],
    ids=["tuple", "list", "dict", "object"],
)
def test_every_way_to_name_an_evaluator_leaves_all_its_options(given: Any) -> None:
    spec = planned(given, ToyNet).component
    assert spec.name == "standalone"
    assert spec.options == {
        **TrainSettings().model_dump(),
        **{"epochs": 3, "lr": 0.1, "early_stopping": True},
        **{"grace_epochs": 1, "reduction_factor": 4.0},
    }


def test_epochs_of_the_search_are_those_of_the_evaluator_that_trains() -> None:
    assert planned("standalone", ToyNet, epochs=7).component.options["epochs"] == 7
    assert planned(("standalone", {"epochs": 7}), ToyNet, epochs=7).component.options["epochs"] == 7
    with pytest.raises(ValueError, match="epochs is 8 and 7 at once"):
        planned(("standalone", {"epochs": 8}), ToyNet, epochs=7)
    assert planned("shared", ToyNet, epochs=7).component.options == {}


class Depth:
    """A user's own measure of a network."""

    metrics = ("layers",)

    def __init__(self, *, scale: float = 1.0) -> None:
        self.scale = scale

    def measure(self, net: nn.Module, data: Any, seed: int) -> dict[str, float]:
        """Count convolutions."""
        return {"layers": self.scale * sum(isinstance(m, nn.Conv2d) for m in net.modules())}


def test_an_object_of_ones_own_is_named_with_its_options() -> None:
    spec = planned(Depth(scale=2.0), ToyNet, objectives=("layers",)).component
    assert spec.name == "function"
    assert spec.options == {"path": f"{__name__}:Depth", "scale": 2.0}


@pytest.mark.parametrize(
    ("evaluator", "given", "error", "said"),
    [
        ("standalon", {}, UnknownName, "no evaluator named 'standalon'; did you mean 'standalone'"),
        (("cost", {"lr": 1}), {}, ValueError, "evaluator 'cost' has no option 'lr'"),
        ("cost", {"epochs": 2}, ValueError, "evaluator 'cost' has no option 'epochs'"),
        (("nwot", {"batch_size": "x"}), {}, ValueError, "option 'batch_size': .* got 'x'"),
        (("nwot", {"batch_size": 0}), {}, ValueError, "batch_size: expected at least 1, got 0"),
        ("synflow", {}, ValueError, r"'synflow' gives no metric 'accuracy'; known: .*synflow"),
        ("cost", {"supernet": "x"}, ValueError, "go with the evaluator 'shared', not with 'cost'"),
        (Standalone(), {"epochs": 2}, ValueError, "if it is named, not with 'standalone'"),
        (Depth, {}, TypeError, "expected an object, got the class Depth: call it"),
        (3, {}, TypeError, "expected a registered name, a function, or an object .* got a int"),
        (("cost",), {}, TypeError, r"evaluator: expected a name, \[name, \{option: value\}\]"),
        (
            "standalone",
            {"objectives": ("accuracy", "loss")},
            ValueError,
            r"early_stopping=False\), or merge them",
        ),
        (("standalone", {"epochs": 0}), {}, ValueError, "epochs: input should be greater than 0"),
        (("standalone", {"epochs": 2, "grace_epochs": 3}), {}, ValueError, "expected 1 to 2"),
        (("standalone", {"reduction_factor": 1}), {}, ValueError, "expected more than 1, got 1"),
    ],
)
def test_what_does_not_fit_is_said(
    evaluator: Any, given: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        planned(evaluator, ToyNet, **given)


def test_networks_need_a_space_that_builds_some() -> None:
    with pytest.raises(ValueError, match="'cost' measures networks, and an ArchSpace builds none"):
        planned("cost", objectives=("macs",))


# --- tables ---------------------------------------------------------------------------------------

ROWS = [
    {"depth": depth, "op": op, "accuracy": depth + 0.5 * (op == "conv"), "seconds": 10 * depth}
    for depth in (1, 2)
    for op in ("conv", "skip")
]


def saved(rows: list[dict[str, Any]], path: Path) -> str:
    """Write rows as the ending of ``path`` says."""
    frame = pd.DataFrame(rows)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return str(path)


def as_key(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row named by its key."""
    arch = raynas.Arch({"depth": row["depth"], "op": row["op"]})
    return {"arch_key": arch.key, "accuracy": row["accuracy"]}


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row named by canonical JSON."""
    arch = raynas.Arch({"depth": row["depth"], "op": row["op"]})
    return {"arch": arch.to_json(), "accuracy": row["accuracy"]}


def as_choices(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as a run's own table has it."""
    choices = {f"choice.{label}": row[label] for label in ("depth", "op")}
    return choices | {"accuracy": row["accuracy"], "trial": 3, "algo": "random"}


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("form", [dict, as_key, as_json, as_choices], ids=lambda f: f.__name__)
def test_a_table_says_in_four_ways_what_its_rows_are_of(
    form: Any, ending: str, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [form(row) for row in ROWS]
    path = saved(rows, tmp_path / f"t.{ending}")
    look_up = Table(path=path).bind(SPACE, ("accuracy",))
    for row in ROWS:
        arch = raynas.Arch({"depth": row["depth"], "op": row["op"]})
        assert look_up(arch)["accuracy"] == row["accuracy"]
    assert look_up.metrics == (("accuracy", "seconds") if form is dict else ("accuracy",))


def test_a_table_of_a_tree_leaves_empty_what_is_not_reached(tmp_path: Path) -> None:
    inner = raynas.ArchSpace((Choice("kernel", (3, 5)),))
    op = Choice("op", ("conv", "skip"), opens={"conv": inner})
    space = raynas.ArchSpace((op, Subset("from", ("a", "b"), 1)))
    rows: list[dict[str, Any]] = [
        {"op": "conv", "kernel": 3, "from": ["a"], "score": 1.0},
        {"op": "conv", "kernel": 5, "from": ["a"], "score": 2.0},
        {"op": "skip", "kernel": None, "from": ["b"], "score": 3.0},
        {"op": "pool", "kernel": None, "from": ["b"], "score": 4.0},  # of a larger space
    ]
    look_up = Table(path=saved(rows, tmp_path / "t.parquet")).bind(space, ("score",))
    assert look_up(raynas.Arch({"op": "conv", "kernel": 5, "from": ("a",)})) == {"score": 2.0}
    assert look_up(raynas.Arch({"op": "skip", "from": ("b",)})) == {"score": 3.0}
    with pytest.raises(LookupError, match=r"t\.parquet has no row for architecture [0-9a-f]{16}: "):
        look_up(raynas.Arch({"op": "skip", "from": ("a",)}))


def test_an_isomorphic_row_is_found(tmp_path: Path) -> None:
    space = raynas.ArchSpace(
        SPACE.choices, isomorphism=lambda arch: raynas.Arch({**arch, "depth": 1})
    )
    rows = [row for row in ROWS if row["depth"] == 1]
    look_up = Table(path=saved(rows, tmp_path / "t.csv")).bind(space, ("accuracy",))
    assert look_up(raynas.Arch({"depth": 2, "op": "conv"}))["accuracy"] == 1.5


def test_a_missing_number_fails_only_where_it_is_searched_for(tmp_path: Path) -> None:
    rows = [{**row, "seconds": math.nan} if row["depth"] == 1 else row for row in ROWS]
    path = saved(rows, tmp_path / "t.parquet")
    arch = raynas.Arch({"depth": 1, "op": "skip"})
    assert Table(path=path).bind(SPACE, ("accuracy",))(arch) == {"accuracy": 1.0}
    found = measure(lambda: Table(path=path).bind(SPACE, ("seconds",))(arch))
    assert found.error is not None
    assert f"t.parquet: 'seconds' is nan in row 1 (from 0), architecture {arch.key}" in found.error


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        ([*ROWS, ROWS[1]], ValueError, r"rows 1 and 4 \(from 0\) are of the same architecture"),
        (
            [{"depht": 1, "op": "conv", "accuracy": 1.0}],
            ValueError,
            "neither 'choice.depth' nor 'depth' .* did you mean 'depht'",
        ),
        (
            [{"depth": 9, "op": "conv", "accuracy": 1.0}],
            ValueError,
            r"'depth' holds no option of 'depth': expected \[1, 2\], got 9",
        ),
        (
            [{"depth": 1, "op": "pool"}, {"depth": 9, "op": "conv"}],
            ValueError,
            "has no row of an architecture of this space",
        ),
        ([{"arch": "0120", "accuracy": 1.0}], ValueError, r"row 0 \(from 0\), 'arch': expected"),
    ],
    ids=["twice", "column", "option", "space", "json"],
)
def test_a_table_that_does_not_fit_is_refused_at_once(
    rows: list[dict[str, Any]], error: type[Exception], said: str, tmp_path: Path
) -> None:
    path = saved(rows, tmp_path / "t.parquet")
    with pytest.raises(error, match=said):
        planned(("table", {"path": path}))


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.csv"):
        planned(("table", {"path": str(tmp_path / "none.csv")}))
    (tmp_path / "t.parquet").write_text("accuracy\n0.5\n")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        planned(("table", {"path": str(tmp_path / "t.parquet")}))
    path = saved(ROWS, tmp_path / "t.csv")
    with pytest.raises(ValueError, match="no metric 'acuracy'; did you mean 'accuracy'"):
        planned(("table", {"path": path}), objectives=("acuracy",))


def test_a_table_is_searched_and_what_it_lacks_fails_alone(tmp_path: Path) -> None:
    path = saved(ROWS[:3], tmp_path / "t.csv")
    evaluator = ("table", {"path": path})
    out = str(tmp_path / "run")
    table = raynas.search(
        SPACE, "random", evaluator=evaluator, trials=4, out=out, ray=INLINE
    ).trials
    lacking = raynas.Arch({"depth": 2, "op": "skip"}).key
    failed = table[table["status"] == "failed"]
    assert list(failed["arch_key"]) == [lacking]
    assert f"t.csv has no row for architecture {lacking}" in failed["error"].iloc[0]
    assert sorted(table["accuracy"].dropna()) == [1.0, 1.5, 2.5]
    assert set(table["evaluator"]) == {"table"}
    assert raynas.load(out).config.evaluator.options == {"path": path}
    other = ("table", {"path": saved(ROWS, tmp_path / "other.csv")})
    with pytest.raises(StoreMismatch, match=r"was run with evaluator table .*t\.csv"):
        raynas.search(SPACE, "random", evaluator=other, trials=4, out=out, resume=True, ray=INLINE)


# --- training-free measures -----------------------------------------------------------------------


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    """Return a linear layer of these weights."""
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    layer.weight.data = torch.tensor(weight)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


FIRST, SECOND = [[1.0, -2.0], [-3.0, 0.5]], [[2.0, -1.0]]
# all-ones input through |weights|: hidden (1 + 2, 3 + 0.5) = (3, 3.5), output 2 * 3 + 3.5 = 9.5;
# each layer's sum of |w * dR/dw| is the output itself: together 19
FLOW = math.log(19.0)


@pytest.mark.parametrize(
    "between",
    [[], [nn.ReLU()], [nn.BatchNorm1d(2), nn.ReLU6(inplace=True)]],
    ids=["linear", "relu", "batch norm"],
)
def test_synflow_by_hand(between: list[nn.Module]) -> None:
    net = nn.Sequential(linear(FIRST), *between, linear(SECOND))
    before = copy.deepcopy(net.state_dict())
    found = SynFlow().measure(net, vectors([1.0, 2.0], [3.0, 4.0]), 0)
    assert found == {"synflow": pytest.approx(FLOW, rel=1e-12)}
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert net.training


def test_synflow_counts_the_flow_of_biases_but_not_the_biases() -> None:
    net = nn.Sequential(linear(FIRST, [-1.0, 0.0]), linear(SECOND))
    # hidden (4, 3.5), output 11.5; the first layer's weights carry 9.5 of it
    found = SynFlow().measure(net, vectors([0.0, 0.0], [1.0, 1.0]), 0)
    assert found["synflow"] == pytest.approx(math.log(11.5 + 9.5), rel=1e-12)


def test_synflow_of_deep_or_cut_networks_is_finite() -> None:
    ones = vectors([1.0, 1.0], [1.0, 1.0])
    deep = nn.Sequential(*(linear([[1e4, 1e4], [1e4, 1e4]]) for _ in range(40)))
    found = SynFlow().measure(deep, ones, 0)["synflow"]
    # every layer multiplies by 2e4; two outputs; forty layers carry the whole flow each
    assert found == pytest.approx(40 * math.log(2e4) + math.log(2 * 40), rel=1e-12)
    cut = nn.Sequential(linear(FIRST), linear([[0.0, 0.0]]), linear([[1.0]]))
    assert SynFlow().measure(cut, ones, 0)["synflow"] == pytest.approx(-708.396, abs=1e-3)


# three inputs; the codes of the four units (first layer's two, then the second's two) are by hand
#   (1, 0): 1.0, -1.0 -> 10; relu (1, 0): 1.0, -1.0 -> 10
#   (0, 1): -1.0, 1.0 -> 01; relu (0, 1): -1.0, 1.0 -> 01
#   (1, 1): 0.0, 0.0 -> 00; relu (0, 0): 0.0, 0.0 -> 00
# agreements: of each with itself 4; first and second 0; first and third 2, second and third 2
# determinant of [[4, 0, 2], [0, 4, 2], [2, 2, 4]] = 4 * (16 - 4) + 2 * (0 - 8) = 32
CROSS = [[1.0, -1.0], [-1.0, 1.0]]


class Functional(nn.Module):
    """Calls ReLUs as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = linear(CROSS), linear(CROSS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the second layer's activations."""
        return nn.functional.relu6(self.two(self.one(x).relu()))


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(linear(CROSS), nn.ReLU(), linear(CROSS), nn.ReLU(inplace=True)),
        Functional(),
    ],
    ids=["modules", "functions"],
)
def test_nwot_by_hand(net: nn.Module) -> None:
    data = vectors([1.0, 0.0], [0.0, 1.0], [1.0, 1.0])
    found = NWOT(batch_size=3).measure(net, data, 0)
    assert found == {"nwot": pytest.approx(math.log(32.0), rel=1e-12)}


def test_nwot_says_why_there_is_no_number() -> None:
    net = nn.Sequential(linear(CROSS), nn.ReLU())
    with pytest.raises(ValueError, match="activations of 2 examples are not independent"):
        NWOT(batch_size=2).measure(net, vectors([1.0, 0.0], [2.0, 0.0]), 0)
    with pytest.raises(ValueError, match="needs a network with ReLUs"):
        NWOT().measure(linear(CROSS), vectors([1.0, 0.0], [2.0, 1.0]), 0)


def test_grad_norm_by_hand() -> None:
    data = vectors([1.0, 2.0], [-1.0, 0.5])
    net = nn.Sequential(linear([[0.5, 0.0], [0.0, -0.5]], [0.1, 0.0]))
    (x, y), total = data.load().train, np.zeros((2, 3))
    for row, target in zip(x.double().numpy(), y.numpy(), strict=True):
        logits = np.array([0.5 * row[0] + 0.1, -0.5 * row[1]])
        share = np.exp(logits) / np.exp(logits).sum() - np.eye(2)[target]
        total += np.outer(share, [*row, 1.0]) / 2  # weights and bias; the mean of two images
    found = GradNorm(batch_size=2).measure(net, data, 0)
    assert found == {"grad_norm": pytest.approx(float(np.linalg.norm(total)), rel=1e-6)}
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("proxy", [SynFlow(), NWOT(batch_size=8), GradNorm(batch_size=8)])
def test_a_measure_leaves_everything_as_it_was(proxy: Any) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(4 * 14 * 14, 10),
    )  # fmt: skip
    data = Loaded(Digits(), CPU)
    weights, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    first = proxy.measure(net, data, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())
    torch.rand(3)  # what was drawn before changes nothing
    assert proxy.measure(net, data, 1) == first
    if not isinstance(proxy, SynFlow):
        assert proxy.measure(net, data, 2) != first, "another seed takes another batch"


def test_the_batch_is_the_seeds() -> None:
    data = Loaded(Digits(), CPU)
    (a, _), (b, _), (c, _) = (training_batch(data, 16, seed) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert len(training_batch(data, 10**6, 0)[1]) == len(data.load().train[1])


@pytest.mark.full
@pytest.mark.usefixtures("local_ray")
def test_an_evaluator_is_named_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    asked = ["search", "tests.toynet:ToyNet", "--trials", "3", "--out", out]
    chosen = ["--evaluator", "naswot", "--evaluator-option", "batch_size=4"]
    goals = ["--objective", "nwot:max", "--algo", "random"]
    given = [*asked, *chosen, *goals, "--ray-option", "workers=1"]
    assert main(given) == 0, capsys.readouterr().err
    result = raynas.load(out)
    assert result.config.evaluator == ComponentSpec(name="nwot", options={"batch_size": 4})
    data, space = Loaded(Digits(), CPU), raynas.ModelSpace(ToyNet)
    for text, found in zip(result.trials["arch"], result.trials["nwot"], strict=True):
        net = space.build(raynas.Arch.from_json(str(text)), seed=0)
        assert found == pytest.approx(NWOT(batch_size=4).measure(net, data, 0)["nwot"], rel=1e-6)
    assert result.trials["params"].gt(0).all()
    assert main([*asked, "--evaluator", "cost", "--evaluator-option", "x=1"]) == 2
    assert "evaluator 'cost' has no option 'x'" in capsys.readouterr().err


# --- networks in a worker -------------------------------------------------------------------------


def test_networks_are_those_of_the_space_and_rows_have_costs() -> None:
    class Sum:
        def measure(self, net: nn.Module, data: Any, seed: int) -> dict[str, float]:
            assert net.training
            return {"sum": sum(float(p.detach().double().sum()) for p in net.parameters())}

    space = raynas.ModelSpace(ToyNet)
    measurer = NetworkMeasurer(Sum(), space, Loaded(Digits(), CPU))
    archs = list(space.arch_space)[::5]
    for arch, found in zip(archs, measurer(archs, Budget(), 3), strict=True):
        net = space.build(arch, seed=3)
        assert found.metrics["sum"] == sum(
            float(p.detach().double().sum()) for p in net.parameters()
        )
        assert found.metrics["macs"] == cost_of(net, torch.zeros(1, 1, 16, 16)).macs


def test_a_training_is_told_by_epoch_until_it_fails() -> None:
    class Wavering:
        def train_epochs(self, net: nn.Module, data: Any, seed: int) -> Any:
            yield {"accuracy": 0.1}
            yield {"accuracy": 0.2}
            raise ArithmeticError("lost")

    def told(epochs: int) -> list[Measurement]:
        space = raynas.ModelSpace(ToyNet)
        trainer = NetworkTrainer(Wavering(), space, Loaded(Digits(), CPU), epochs)
        arch = next(iter(space.arch_space))
        rows = list(trainer.by_epoch(arch, 0))
        (last,) = trainer([arch], Budget(), 0)
        assert (last.metrics, last.epochs) == (rows[-1].metrics, rows[-1].epochs)
        return rows

    assert [(m.epochs, m.metrics["accuracy"]) for m in told(2)] == [(1, 0.1), (2, 0.2)]
    whole = told(4)
    assert [m.epochs for m in whole] == [1, 2, 2]
    assert "ArithmeticError: lost" in str(whole[-1].error)
    assert whole[0].duration_s < whole[-1].duration_s
