"""Laws that every registered one-shot algorithm keeps."""

from __future__ import annotations

import inspect
import io
import itertools
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raynas.core.arch import Arch
from raynas.core.errors import InvalidSpace
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.gradient.base import Differentiable
from raynas.gradient.top_architectures import log_probability
from raynas.nn import InputChoice, LayerChoice, Repeat, ValueChoice, freeze, space_of
from raynas.nn.cell import Cell
from raynas.nn.elastic_linear import Linear
from raynas.nn.modelspace import ModelSpace
from raynas.nn.mutable import activate
from raynas.supernet.protocol import ONE_SHOTS, OneShot, one_shot_class
from raynas.supernet.training import SupernetTraining
from tests.elasticnets import STAGES, elastic, plain_elastic
from tests.hypernets import emitted
from tests.kernelnets import kernels, still_kernels
from tests.ranks import on_two_ranks

# What an algorithm needs to show itself within a few epochs of ten steps.
QUICK: dict[str, dict[str, Any]] = {
    "drnas": {"warmup_epochs": 0},
    "enas": {"controller_steps": 2, "samples": 3, "candidates": 4, "hidden": 8},
    "fbnet": {"warmup_epochs": 1},
    "one_shot": {"drop_rate": 0.5, "ghost_batches": 3},
    "pc_darts": {"warmup_epochs": 1, "partial": 2, "alpha_lr": 0.05},
    "proxyless": {"warmup_epochs": 1, "alpha_every": 1},
    "proxyless_rl": {"warmup_epochs": 1, "alpha_every": 1, "samples": 20, "alpha_lr": 0.03},
    "sgas": {"first_decision": 1, "decide_every": 1, "batch_increase": 2},
    "single_path_nas": {"runtime_weight": 0.5, "indicator_dropout": 0.3},
    "progressive_shrinking": {"stages": STAGES},
    "spos": {"warm_start_steps": 2},
}
# 12 epochs to find what is right, not 8
LONGER: dict[str, dict[str, Any]] = {"pc_darts": {}, "proxyless_rl": {"warmup_epochs": 2}}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "darts": [
        {},
        {"unrolled": True},
        {"perturb": "random"},
        {"perturb": "adversarial"},
        {"selection": "perturbation"},
    ],
    "direct_grad": [{}, {"mixed_op": "gumbel_sum"}],
    "direct_grad_bilevel": [{}, {"mixed_op": "uniform_gate"}],
    "drnas": [{}, {"anchor": "kl"}, {"keep": (2,)}, {"selection": "perturbation"}],
    "fbnet": [{}, {"selection": "perturbation"}],
    "gdas": [{}, {"estimator": "reinmax"}],
    "pc_darts": [{}, {"perturb": "random"}],
    "progressive_shrinking": [{}, {"sandwich": True}],
    "proxyless": [{"mode": "two"}, {"mode": "full"}, {"mode": "full_v2"}],
    "single_path_nas": [{}, {"masks": "kernel"}],
    "sgas": [{"criterion": 1}, {"criterion": 2}, {"criterion": 2, "unrolled": True}],
    "snas": [{}, {"estimator": "reinmax"}, {"selection": "perturbation"}],
    "spos": [{}, {"balance": "params", "balance_bins": 3}, {"fairness": "strict"}],
}
# The toys below lack what an algorithm's supernets may have to hold, such as a hypernetwork. It
# then gets nets of its own for the same data: by its name, that of the toy replaced, from the seed.
NETS: dict[str, dict[str, Callable[[int], nn.Module]]] = {
    "progressive_shrinking": {"small": elastic, "unnormed": plain_elastic},
    "single_path_nas": {"small": kernels, "unnormed": still_kernels},
    "smash": {
        "small": lambda seed: emitted(small(seed)),
        "unnormed": lambda seed: emitted(unnormed(seed)),
    },
}
CASES = [(name, more) for name in sorted(ONE_SHOTS) for more in VARIANTS.get(name, [{}])]


def named(case: tuple[str, dict[str, Any]]) -> str:
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


def learns(name: str) -> bool:
    """Whether the algorithm learns logits: its class says so, by being a differentiable search."""
    found = ONE_SHOTS[name]
    return isinstance(found, type) and issubclass(found, Differentiable)


every = pytest.mark.parametrize("case", CASES, ids=named)
learners = pytest.mark.parametrize("case", [c for c in CASES if learns(c[0])], ids=named)


def in_the_suite(cases: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Return the cases of a law that takes long: variants but an algorithm's first are ``full``."""
    first = {name: more for name, more in reversed(CASES)}
    marks = [() if more == first[name] else pytest.mark.full for name, more in cases]
    return [pytest.param(c, marks=m, id=named(c)) for c, m in zip(cases, marks, strict=True)]


def takes(name: str, option: str) -> bool:
    return option in inspect.signature(ONE_SHOTS[name]).parameters


def algorithm(case: tuple[str, dict[str, Any]], seed: int = 0, **more: Any) -> OneShot:
    name, variant = case
    fast = {"alpha_lr": 0.1} if takes(name, "alpha_lr") else {}
    return ONE_SHOTS[name](**{"seed": seed, **fast, **QUICK.get(name, {}), **variant, **more})


def ready(
    case: tuple[str, dict[str, Any]],
    build: Callable[[], nn.Module],
    *,
    seed: int = 0,
    features: int = 6,
) -> nn.Module:
    """Return the model that the algorithm trains: a supernet of its own, where it has one."""
    torch.manual_seed(seed)
    toy = build.func if isinstance(build, partial) else build
    if (net := NETS.get(case[0], {}).get(getattr(toy, "__name__", ""))) is not None:
        build = partial(net, seed)
    space = ModelSpace(build, input_shape=(features,))
    own = algorithm(case).supernet_space(space)
    return build() if own is space else own.supernet(seed)


def trained(
    net: nn.Module, algo: OneShot, data: TensorData, epochs: int, **settings: Any
) -> SupernetTraining:
    chosen = {"batch_size": 12, "lr": 0.1, "label_smoothing": 0.0, **settings}
    return SupernetTraining(net, algo, data, TrainSettings(epochs=epochs, **chosen), seed=3)


def logits(algo: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = algo.relaxation.vectors
    return found


def untimed(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "duration_s"}


class Rolled(nn.Module):
    """Gives every example the features of another one: nothing to learn from."""

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(self.by, 0)


class OneIsRight(nn.Module):
    """Three choices, each of which holds one candidate that does not mix up its batch."""

    def __init__(self) -> None:
        super().__init__()
        names = ["next", "right", "last"]
        layers: dict[str, Callable[[], nn.Module]] = {
            "next": lambda: Rolled(1),
            "right": lambda: nn.Linear(4, 4),
            "last": lambda: Rolled(-1),
        }
        self.choices = nn.ModuleList(
            LayerChoice({name: layers[name]() for name in names[at:] + names[:at]})
            for at in range(3)
        )
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = zip(self.choices, x.chunk(3, 1), strict=True)
        logits: Tensor = self.head(torch.cat([choice(part) for choice, part in parts], 1))
        return logits


def separable(seed: int) -> TensorData:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(320, 12, generator=rng)
    y = (x @ torch.randn(12, 3, generator=rng)).argmax(1)
    return TensorData((TensorDataset(x[:160], y[:160]), TensorDataset(x[160:], y[160:])))


@pytest.mark.parametrize("case", in_the_suite([c for c in CASES if learns(c[0])]))
def test_the_right_candidates_are_found(case: tuple[str, dict[str, Any]]) -> None:
    """All three, on each of 6 seeds, or else on at least 9 of 10; by chance with less than 27^-5.

    Of 40 other seeds every algorithm missed at most one: where the arithmetic differs from this
    machine's, the weakest miss two of ten with probability 0.025, and more seldom where six are
    enough.
    """
    longer = case[0] in LONGER or "selection" in case[1]  # the first half is search alone
    missed, epochs = 0, 12 if longer else 8
    for seed in range(10):
        if seed == 6 and not missed:
            return
        net = ready(case, OneIsRight, seed=seed, features=12)
        algo = algorithm(case, seed, **LONGER.get(case[0], {}))
        settings = TrainSettings(epochs=epochs, batch_size=20, lr=0.2, label_smoothing=0.0)
        run = SupernetTraining(net, algo, separable(seed), settings, seed=seed)
        for _ in range(epochs):
            run.run_epoch()
        missed += set(algo.derive().values()) != {"right"}
    assert missed <= 1


class Net(nn.Module):
    """A nested choice, two of one label, a cell, BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()

        def normed() -> nn.Module:
            return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU())

        inner = LayerChoice({"a": nn.Linear(6, 6), "b": nn.Tanh()})
        self.outer = LayerChoice({"plain": normed(), "deep": nn.Sequential(normed(), inner)})
        self.first = LayerChoice([nn.Linear(6, 6), nn.Identity()], "shared")
        self.second = LayerChoice([nn.Linear(6, 6), nn.Identity()], "shared")
        self.cell = Cell(
            {"none": Nothing(), "linear": nn.Linear(6, 6), "same": nn.Identity()}, 2, 1, 1
        )
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x) + self.outer(x))
        logits: Tensor = self.head(self.drop(self.cell(x)))
        return logits


class Nothing(nn.Module):
    """Gives zeros."""

    is_none = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def numbers(count: int = 48) -> TensorData:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(count + 30, 6, generator=rng, dtype=torch.float64)
    y = torch.arange(count + 30) % 3
    return TensorData((TensorDataset(x[:count], y[:count]), TensorDataset(x[count:], y[count:])))


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Net().double()


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal, bit for bit."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def saved(run: SupernetTraining) -> bytes:
    file = io.BytesIO()
    torch.save({"model": run.model.state_dict(), "training": run.state_dict()}, file)
    return file.getvalue()


@pytest.mark.parametrize("case", in_the_suite(CASES))
def test_going_on_from_any_epoch_equals_never_stopping(case: tuple[str, dict[str, Any]]) -> None:
    """Bit for bit: history, weights, and all that the algorithm and both optimizers remember."""
    more: dict[str, Any] = {"hardware": {"target": "params"}} if takes(case[0], "hardware") else {}
    straight = trained(ready(case, small), algorithm(case, **more), numbers(), epochs=4)
    states, rows = [], []
    for _ in range(4):
        states.append(saved(straight))
        rows.append(untimed(straight.run_epoch()))
    for stop in range(1, 4):
        other = ready(case, partial(small, 9), seed=9)
        again = trained(other, algorithm(case, **more), numbers(), epochs=4)
        torch.rand(5)  # whatever else happened meanwhile
        state = torch.load(io.BytesIO(states[stop]), weights_only=True)
        again.model.load_state_dict(state["model"])
        again.load_state_dict(state["training"])
        assert [untimed(again.run_epoch()) for _ in range(4 - stop)] == rows[stop:]
        assert same(again.model.state_dict(), straight.model.state_dict())
        assert same(again.state_dict(), straight.state_dict())
    assert states[1] != states[2]


@every
def test_a_run_is_a_function_of_its_seeds(case: tuple[str, dict[str, Any]]) -> None:
    found = []
    for seed in (1, 1, 2):
        run = trained(ready(case, small), algorithm(case, seed), numbers(), epochs=2)
        found.append(untimed(run.run_epoch()))
    assert found[0] == found[1] != found[2]


@every
def test_neither_keys_nor_parameters_of_the_model_change(
    case: tuple[str, dict[str, Any]],
) -> None:
    net = ready(case, small)
    keys, parameters = list(net.state_dict()), list(net.parameters())
    run = trained(net, algorithm(case), numbers(), epochs=2)
    run.run_epoch()
    assert list(net.state_dict()) == keys
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    if learns(case[0]):
        own = set(map(id, parameters))
        held = [p for group in run.optimizer.param_groups for p in group["params"]]
        for vector in logits(run._algo).values():
            assert id(vector) not in own
            assert all(vector is not p for p in held)


@learners
def test_nested_choices_shared_labels_and_cells_are_derived(
    case: tuple[str, dict[str, Any]],
) -> None:
    net, algo = ready(case, small), algorithm(case)
    run = trained(net, algo, numbers(), epochs=4)
    before = {label: vector.detach().clone() for label, vector in run_vectors(algo).items()}
    assert set(before) == {"outer", "outer.deep.1", "shared"} | {
        f"cell/{edge}" for edge in ("n0/op/s0", "n1/op/s0", "n1/op/n0")
    }
    rows = [run.run_epoch() for _ in range(4)]
    for label, vector in run_vectors(algo).items():
        assert not torch.equal(vector, before[label])
    assert all(row["entropy"] >= 0.0 for row in rows)
    arch = algo.derive()
    space = space_of(net)
    space.check(arch)
    assert arch["cell/n0/op/s0"] != "none"
    assert algo.derive() == arch
    activate(net.eval(), arch)
    x = numbers().load().valid[0]
    assert torch.equal(freeze(net, arch)(x), net(x))
    assert rows[-1]["accuracy"] == pytest.approx(run._probe())


def run_vectors(algo: Any) -> dict[str, Tensor]:
    return logits(algo)


class Inputs(nn.Module):
    """A choice of one input, and a node that reads two of three layer choices or all of them."""

    def __init__(self, count: int) -> None:
        super().__init__()
        keys = ["p0", "p1", "p2"]
        self.ops = nn.ModuleList(
            LayerChoice({"none": Nothing(), "linear": nn.Linear(6, 6), "same": nn.Tanh()}, key)
            for key in keys
        )
        self.read = InputChoice(choose_from=keys, n_chosen=count, key="read")
        self.skip = InputChoice(choose_from=[InputChoice.NO_KEY, "read"], n_chosen=1, key="skip")
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        read = self.read([op(x) for op in self.ops])
        logits: Tensor = self.head(self.drop(self.skip([x, read])))
        return logits


@learners
def test_inputs_are_picked_and_a_training_with_them_goes_on(
    case: tuple[str, dict[str, Any]],
) -> None:
    one_by_one = case[0] == "sgas" or case[1].get("selection") == "perturbation"

    def build() -> nn.Module:
        torch.manual_seed(0)
        return Inputs(3 if one_by_one else 2).double()

    net, algo = ready(case, build), algorithm(case)
    run = trained(net, algo, numbers(), epochs=2)
    run.run_epoch()
    state = saved(run)
    row = untimed(run.run_epoch())
    arch = algo.derive()
    space_of(net).check(arch)
    assert algo.top_k(1) == [arch]
    p: dict[str, Any] = {label: dict(pairs) for label, pairs in algo.distribution().items()}
    assert p["skip"][arch["skip"]] == max(p["skip"].values())
    if not one_by_one:
        strongest = sorted(p["read"], key=p["read"].__getitem__)[1:]
        assert set(arch["read"]) == set(strongest)  # type: ignore[arg-type]
        assert all(arch[key] != "none" for key in strongest)
    activate(net.eval(), arch)
    x = numbers().load().valid[0]
    assert torch.equal(freeze(net, arch)(x), net(x))

    other = ready(case, build, seed=9)
    again = trained(other, algorithm(case), numbers(), epochs=2)
    loaded = torch.load(io.BytesIO(state), weights_only=True)
    again.model.load_state_dict(loaded["model"])
    again.load_state_dict(loaded["training"])
    assert untimed(again.run_epoch()) == row


def plain() -> nn.Module:
    """Three choices of three, none of which holds another."""
    torch.manual_seed(0)
    layers = [LayerChoice([nn.Linear(6, 6), nn.Tanh(), nn.Identity()]) for _ in range(3)]
    return nn.Sequential(*layers, nn.Linear(6, 3)).double()


@learners
def test_the_arg_max_is_derived_and_the_likeliest_follow(
    case: tuple[str, dict[str, Any]],
) -> None:
    algo: Any = algorithm(case)
    net = ready(case, plain)
    run = trained(net, algo, numbers(), epochs=1)
    rng = torch.Generator().manual_seed(1)
    for vector in logits(algo).values():
        vector.data = torch.randn(3, generator=rng, dtype=torch.float64)
    assert algo.derive() == {label: int(v.argmax()) for label, v in logits(algo).items()}
    p, specs, space = algo.relaxation.probabilities(), algo.relaxation.specs, space_of(net)
    found = [Arch(arch) for arch in algo.top_k(27)]
    assert found[0] == Arch(algo.derive())
    assert found == sorted(space, key=lambda arch: -log_probability(arch, p, specs))
    assert algo.top_k(5) == found[:5]
    assert len(algo.top_k(1)) == 1
    assert len(algo.top_k(99)) == 27
    run.run_epoch()
    assert algo.top_k(1) == [algo.derive()]


@learners
def test_the_likeliest_of_a_structured_space_are_distinct_valid_and_not_lost(
    case: tuple[str, dict[str, Any]],
) -> None:
    algo: Any = algorithm(case)
    net = ready(case, small)
    run = trained(net, algo, numbers(), epochs=3)
    for _ in range(3):
        run.run_epoch()
    p, specs = algo.relaxation.probabilities(), algo.relaxation.specs
    possible = {
        arch
        for arch in space_of(net)
        if all(p[label][specs[label].options.index(arch[label])] for label in arch if label in p)
    }
    found = [Arch(arch) for arch in algo.top_k(20)]
    assert found[0] == algo.derive()
    assert set(found) <= possible
    assert len(set(found)) == len(found) == min(20, len(possible))


def dear_and_cheap() -> nn.Module:
    torch.manual_seed(0)
    dear = nn.Sequential(nn.Linear(6, 60), nn.Linear(60, 6))
    layers = [LayerChoice({"dear": dear, "cheap": nn.Linear(6, 6)}, "choice"), nn.Linear(6, 3)]
    return nn.Sequential(*layers).double()


def cheap_share(case: tuple[str, dict[str, Any]], **more: Any) -> float:
    algo: Any = algorithm(case, **more)
    run = trained(ready(case, dear_and_cheap), algo, numbers(), epochs=2)
    for _ in range(2):
        row = run.run_epoch()
    vector: Tensor = algo.relaxation.vectors["choice"]
    if "hardware" in more:
        p, whole = vector.detach().softmax(0), dear_and_cheap()
        decided = algo.relaxation.probabilities()["choice"]
        shares = decided if "choice" in algo.relaxation.fixed else p.numpy()
        choice, head = whole.children()
        assert isinstance(choice, LayerChoice)
        costs = [sum(w.numel() for w in part.parameters()) for part in choice.layers()]
        rest = sum(w.numel() for w in head.parameters())
        assert row["expected_params"] == pytest.approx(rest + float(shares @ costs))
    return float(vector.detach().softmax(0)[1])


@learners
def test_hardware_moves_the_logits_to_what_is_cheaper(case: tuple[str, dict[str, Any]]) -> None:
    if not takes(case[0], "hardware"):
        pytest.skip("takes no hardware")
    with_: dict[str, Any] = {"hardware": {"target": "params", "weight": 20.0}}
    without: dict[str, Any] = {"hardware": {"target": "params", "weight": 0.0}}
    if takes(case[0], "reward_power"):  # a reward instead of a loss
        with_ = {"hardware": {"target": "params"}, "reward_power": 3.0}
        without = {"hardware": {"target": "params"}, "reward_power": 0.0}
    free = cheap_share(case)
    assert cheap_share(case, **without) == free
    assert cheap_share(case, **with_) > max(free, 0.5)


def refused() -> dict[str, tuple[nn.Module, str]]:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pick = InputChoice(2, label="inputs")
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.pick([x, -x]))
            return logits

    width = ValueChoice([4, 6], label="width")
    elastic = nn.Sequential(Linear(6, width), Linear(width, 3))
    inside = nn.Sequential(
        LayerChoice([nn.Sequential(Linear(6, width), Linear(width, 6)), nn.Linear(6, 6)], "outer"),
        nn.Linear(6, 3),
    )
    deep = nn.Sequential(Repeat(nn.Linear(6, 6), (1, 3), label="depth"), nn.Linear(6, 3))
    return {
        "elastic": (elastic, "Linear 'width' cannot be relaxed"),
        "inside": (inside, "Linear 'width' cannot be relaxed"),
        "inputs": (Joined(), "InputChoice 'inputs' cannot be relaxed"),
        "depth": (deep, "Repeat 'depth' cannot be relaxed"),
        "none": (nn.Sequential(nn.Linear(6, 3)), "the model has no layer choices"),
    }


@learners
@pytest.mark.parametrize("kind", ["elastic", "inside", "inputs", "depth", "none"])
def test_what_cannot_be_relaxed_is_refused_before_training(
    case: tuple[str, dict[str, Any]], kind: str
) -> None:
    net, message = refused()[kind]
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    with pytest.raises(InvalidSpace, match=message):
        trained(ready(case, net.double), algorithm(case), numbers(), epochs=1)
    assert all(torch.equal(net.state_dict()[k].float(), v.float()) for k, v in before.items())


def unnormed(seed: int) -> nn.Module:
    """A net without batch statistics or dropout, whose halves of a batch do not meet."""
    torch.manual_seed(seed)

    def block() -> nn.Module:
        inner = LayerChoice([nn.Linear(6, 6), nn.Tanh()], "inner")
        layers = {"a": nn.Linear(6, 6), "b": nn.Sequential(nn.Tanh(), inner), "c": Nothing()}
        return LayerChoice(layers, "outer")

    cell = Cell(
        {"none": Nothing(), "one": nn.Linear(6, 6), "two": nn.Tanh()}, 2, 1, 1, label="cell"
    )
    return nn.Sequential(block(), cell, nn.Linear(12, 3)).double()


def outcome(case: tuple[str, dict[str, Any]], seed: int) -> dict[str, Any]:
    algo: Any = algorithm(case)
    net = ready(case, partial(unnormed, seed), seed=seed)
    run = trained(net, algo, numbers(), epochs=3, clip=1.0)
    rows = [untimed(run.run_epoch()) for _ in range(3)]
    vectors = {k: v.detach() for k, v in logits(algo).items()} if learns(case[0]) else {}
    return {"rows": rows, "weights": run.model.state_dict(), "logits": vectors}


def on_a_rank(names: set[str], rank: int) -> dict[str, dict[str, Any]]:
    """What each of two processes finds in the cases of these names."""
    return {named(case): outcome(case, seed=rank) for case in CASES if named(case) in names}


@pytest.fixture(scope="module")
def ranks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, dict[str, Any]]]:
    """What the algorithms did on two workers, of the cases that are run."""
    law = test_two_workers_equal_one.__name__
    functions = [item for item in request.session.items if isinstance(item, pytest.Function)]
    names = {item.callspec.id for item in functions if item.originalname == law}
    return on_two_ranks(partial(on_a_rank, names), tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", in_the_suite(CASES))
def test_two_workers_equal_one(
    case: tuple[str, dict[str, Any]], ranks: list[dict[str, dict[str, Any]]]
) -> None:
    """Each with half of every batch; the first one's weights hold for both at the start."""
    first, second = (by_name[named(case)] for by_name in ranks)
    alone = outcome(case, seed=0)
    assert same(first, second)
    for kind, tolerance in (("weights", 1e-9), ("logits", 1e-9)):
        for name, tensor in alone[kind].items():
            torch.testing.assert_close(first[kind][name], tensor, rtol=0, atol=tolerance)
    for row, expected in zip(first["rows"], alone["rows"], strict=True):
        assert row == pytest.approx(expected, abs=1e-6)


@cache
def _defaults() -> dict[str, Any]:
    return {name: one_shot_class(name).defaults for name in ONE_SHOTS}


@pytest.mark.parametrize("name", sorted(ONE_SHOTS))
def test_the_stated_defaults_are_settings_of_training(name: str) -> None:
    stated = _defaults()[name]
    settings = TrainSettings(**stated)
    assert {key: getattr(settings, key) for key in stated} == stated


def test_every_registered_algorithm_stands_in_the_list() -> None:
    assert {name for name, _ in CASES} == set(ONE_SHOTS)
    assert set(itertools.chain(QUICK, VARIANTS, NETS)) <= set(ONE_SHOTS)
