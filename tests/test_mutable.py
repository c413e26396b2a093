"""Laws of models with choices: what is activated, frozen, copied and refused."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from raynas.core.arch import Arch, Value
from raynas.core.decision import Choice
from raynas.core.errors import InvalidArch, InvalidSpace
from raynas.nn import LayerChoice, Mutable, activate, freeze, name_labels, space_of
from raynas.nn.modelspace import ModelSpace
from raynas.nn.mutable import each_route, mutables

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Nested(nn.Module):
    """A nested choice with path labels, two choices that share a label, one tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 3)
        deep = nn.Sequential(nn.Linear(3, 3), LayerChoice([nn.Tanh(), nn.Linear(3, 3)]))
        self.first = LayerChoice({"flat": nn.Linear(3, 3), "deep": deep})
        self.norm = nn.BatchNorm1d(3)
        self.second = LayerChoice([nn.Linear(3, 3), nn.Sigmoid()], label="shared")
        self.third = LayerChoice([nn.Linear(3, 3), nn.Tanh()], label="shared")
        self.tail = nn.Linear(3, 3)
        self.tail.weight = self.stem.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.tail(self.third(self.second(self.norm(self.first(self.stem(x))))))
        return y


class Plain(nn.Module):
    """``Nested`` at first=deep, first.deep.1=1, shared=0, as one would write it by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 3)
        self.first = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        self.norm = nn.BatchNorm1d(3)
        self.second = nn.Linear(3, 3)
        self.third = nn.Linear(3, 3)
        self.tail = nn.Linear(3, 3)


PLAIN = Arch({"first": "deep", "first.deep.1": 1, "shared": 0})


def nested() -> Nested:
    torch.manual_seed(1)
    return Nested().double()


def routes(model: nn.Module) -> list[Any]:
    return [mutable.route for mutable in mutables(model)]


def linear_or(*layers: nn.Module) -> LayerChoice:
    return LayerChoice([nn.Linear(3, 3), *layers])


KINDS = ("linear", "chain", "names", "numbers", "shared")


@st.composite
def random_nets(draw: st.DrawFn, depth: int = 3) -> nn.Module:
    """Nested choices by name and by number among linear layers; some share one label."""
    torch.manual_seed(0)
    kind = draw(st.sampled_from(KINDS if depth else KINDS[:1]))
    if kind == "linear":
        return nn.Linear(3, 3)
    if kind == "shared":
        return LayerChoice({"a": nn.Linear(3, 3), "b": nn.Tanh()}, label="shared")
    inner = draw(st.lists(random_nets(depth - 1), min_size=1, max_size=3))
    if kind == "chain":
        return nn.Sequential(*inner)
    return LayerChoice({f"c{i}": m for i, m in enumerate(inner)} if kind == "names" else inner)


def assert_frozen_equals_active(net: nn.Module, arch: Mapping[str, Value]) -> None:
    """Outputs and weight gradients agree in both modes, and no other weight gets a gradient."""
    activate(net, arch)
    for mode in (True, False):
        net.train(mode)
        plain = freeze(net, arch)
        assert plain.training == mode
        assert not list(mutables(plain))
        net.zero_grad(set_to_none=True)
        ours, theirs = net(X), plain(X)
        assert torch.equal(ours, theirs)
        ours.sum().backward()
        theirs.sum().backward()
        active = [p.grad for p in net.parameters() if p.grad is not None]
        frozen = [p.grad for p in plain.parameters()]
        assert len(active) == len(frozen)
        assert all(b is not None and torch.equal(a, b) for a, b in zip(active, frozen, strict=True))


def test_every_arch_of_a_nested_space_freezes_to_what_it_computes() -> None:
    net = nested()
    archs = list(space_of(net))
    assert len(archs) == 3 * 2
    for arch in archs:
        assert_frozen_equals_active(net, arch)


@settings(max_examples=40, deadline=None)
@given(random_nets(), st.integers(0, 2**32 - 1))
def test_random_archs_of_random_nets_freeze_to_what_they_compute(net: nn.Module, seed: int) -> None:
    net = nn.Sequential(nn.Linear(3, 3), net).double()
    for arch in (space_of(net).sample(np.random.default_rng([seed, i])) for i in range(3)):
        assert_frozen_equals_active(net, arch)


def test_frozen_keys_are_those_of_a_model_without_choices() -> None:
    frozen = freeze(nested(), PLAIN)
    assert list(frozen.state_dict()) == list(Plain().state_dict())
    Plain().double().load_state_dict(frozen.state_dict())


def test_labels_are_paths_unless_given() -> None:
    assert space_of(nested()).labels == ("first", "first.deep.1", "shared")
    assert space_of(linear_or(nn.Tanh())).labels == ("LayerChoice",)


def test_a_label_leaves_out_only_what_a_choice_adds_to_the_path() -> None:
    inner = linear_or(nn.Tanh())
    assert space_of(LayerChoice({"a": nn.Sequential(inner)}, label="x")).labels == ("x", "a.0")
    own = nn.Module()  # a user's own folder of candidates, which is no choice
    own.candidates = nn.ModuleDict({"a": linear_or(nn.Tanh())})
    own.a = linear_or(nn.Tanh())
    space = space_of(nn.ModuleDict({"net": own}))
    assert space.labels == ("net.candidates.a", "net.a")
    assert space.size() == 4


def test_options_are_names_or_numbers() -> None:
    space = space_of(nested())
    assert space.decisions["first"].options == ("flat", "deep")
    assert space.decisions["shared"].options == (0, 1)
    assert isinstance(space.decisions["first"], Choice)


def test_a_choice_may_be_the_model_or_another_choice_s_candidate() -> None:
    inner = linear_or(nn.Linear(3, 3, bias=False))
    net = LayerChoice({"inner": inner, "flat": nn.Linear(3, 3)}, label="outer").double()
    archs = list(space_of(net))
    assert len(archs) == 3
    for arch in archs:
        assert_frozen_equals_active(net, arch)


def test_freezing_copies_the_weights() -> None:
    net = nested()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    frozen = freeze(net, PLAIN)
    shared = {t.data_ptr() for t in net.state_dict().values()}
    assert shared.isdisjoint(t.data_ptr() for t in frozen.state_dict().values())
    with torch.no_grad():
        for t in frozen.state_dict().values():
            t.add_(1)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_tied_weights_stay_tied() -> None:
    frozen = freeze(nested(), PLAIN)
    assert frozen.get_parameter("stem.weight") is frozen.get_parameter("tail.weight")


def test_weights_tied_across_candidates_stay_tied() -> None:
    one, other = nn.Linear(3, 3), nn.Linear(3, 3)
    other.weight = one.weight
    net = nn.Sequential(LayerChoice({"a": one, "b": nn.Tanh()}), LayerChoice({"a": other}))
    frozen = freeze(net, {"0": "a", "1": "a"})
    assert frozen.get_parameter("0.weight") is frozen.get_parameter("1.weight")
    assert frozen.get_parameter("0.weight") is not one.weight


def test_a_choice_that_stands_in_two_places_is_one_module_there() -> None:
    choice = linear_or(nn.Tanh())
    frozen = freeze(nn.Sequential(choice, nn.ReLU(), choice), {"0": 0})
    assert isinstance(frozen, nn.Sequential)
    assert frozen[0] is frozen[2]


class Uncopiable(nn.Linear):
    """Fails a test that copies it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Uncopiable:
        raise AssertionError("an unchosen candidate was copied")


def test_unchosen_candidates_are_not_copied() -> None:
    net = nn.Sequential(linear_or(Uncopiable(3, 3)))
    freeze(net, {"0": 0})
    with pytest.raises(AssertionError):
        freeze(net, {"0": 1})


def test_freezing_leaves_routes_alone() -> None:
    net = nested()
    activate(net, PLAIN)
    before = routes(net)
    freeze(net, {"first": "flat", "shared": 1})
    assert routes(net) == before == [1, 1, 0, 0]


def test_the_model_space_and_the_model_agree() -> None:
    space = ModelSpace(Nested)
    assert space.arch_space == space_of(Nested())
    assert space.arch_space.size() == len(list(space.arch_space)) == 6


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_keep_labels_space_and_active_path(again: Any) -> None:
    net = nested()
    activate(net, PLAIN)
    other = again(net)
    assert space_of(other) == space_of(net)
    assert routes(other) == routes(net)
    assert torch.equal(other.eval()(X), net.eval()(X))
    assert other.get_parameter("stem.weight") is other.get_parameter("tail.weight")


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_drop_a_mixer(again: Any) -> None:
    net = nested()
    for mutable in mutables(net):
        mutable.route = lambda ops, x: sum(op(x) for op in ops)  # no pickle could hold it
    assert routes(again(net)) == [None] * 4
    assert all(callable(route) for route in routes(net))


def test_a_callable_route_gets_the_candidates_and_the_inputs() -> None:
    choice = LayerChoice({"a": nn.Linear(3, 3), "b": nn.Tanh()}).double()

    def mean(ops: Sequence[nn.Module], x: Tensor) -> Tensor:
        return torch.stack([op(x) for op in ops]).mean(0)

    restore = each_route(choice, lambda _: mean)
    expected = (choice.candidates["a"](X) + X.tanh()) / 2
    assert torch.allclose(choice(X), expected, rtol=0, atol=1e-15)
    restore()
    assert choice.route is None


@pytest.mark.parametrize(
    "other",
    [
        {"a": nn.Linear(3, 3), "c": nn.Tanh()},
        {"b": nn.Linear(3, 3), "a": nn.Tanh()},
        [nn.Linear(3, 3), nn.Tanh()],
    ],
    ids=["names", "order", "numbers"],
)
def test_one_label_for_two_decisions_is_refused(other: Any) -> None:
    first = LayerChoice({"a": nn.Linear(3, 3), "b": nn.Tanh()}, label="kernel")
    net = nn.Sequential(first, nn.Sequential(LayerChoice(other, label="kernel")))
    with pytest.raises(InvalidSpace, match="'kernel'"):
        space_of(net)
    with pytest.raises(InvalidSpace, match="'kernel'"):
        ModelSpace(lambda: net).supernet()


def test_a_label_cannot_stand_inside_its_own_option() -> None:
    inner = LayerChoice([nn.Tanh(), nn.ReLU()], label="x")
    with pytest.raises(InvalidSpace, match="'x'"):
        space_of(LayerChoice([nn.Linear(3, 3), inner], label="x"))


def test_forward_without_activation_says_what_to_call() -> None:
    net = nn.Sequential(nn.Linear(3, 3), linear_or(nn.Tanh()))
    name_labels(net)
    with pytest.raises(RuntimeError, match=r"choice '1' has no active candidate.*activate\(model"):
        net(X.float())


@pytest.mark.parametrize(
    "name",
    [
        *("train", "training", "pop", "half", "forward", "_modules", "a.b", ""),
        *(b"x", math.nan, (3, b"x"), Plain),
    ],
)
def test_a_candidate_name_that_pytorch_cannot_store_is_refused(name: Any) -> None:
    with pytest.raises(InvalidSpace, match=r"'spot'.*cannot be stored") as caught:
        LayerChoice({"fine": nn.Tanh(), name: nn.ReLU()}, label="spot")
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("empty", [{}, []])
def test_a_choice_needs_a_candidate(empty: Any) -> None:
    with pytest.raises(InvalidSpace, match="at least one candidate"):
        LayerChoice(empty)


@pytest.mark.parametrize("candidate", [None, torch.relu, nn.ReLU, "conv"])
def test_a_candidate_must_be_a_module(candidate: Any) -> None:
    with pytest.raises(InvalidSpace, match=r"'spot'.*'b' must be an nn\.Module"):
        LayerChoice({"a": nn.ReLU(), "b": candidate}, label="spot")
    with pytest.raises(InvalidSpace, match=r"'1' must be an nn\.Module"):
        LayerChoice([nn.ReLU(), candidate])


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"frist": "deep"}, "frist"),
        ({"shared": None}, "shared"),
        ({"first": "flat"}, "first.deep.1"),
        ({"first.deep.1": None}, "first.deep.1"),
        ({"first": "wide"}, "first"),
        ({"shared": 2}, "shared"),
        ({"shared": True}, "shared"),
        ({"shared": "o"}, "shared"),
    ],
    ids=["unknown", "missing", "unreached", "opened", "value", "range", "bool", "text"],
)
def test_an_arch_of_another_space_is_refused_and_changes_nothing(
    change: dict[str, Any], label: str
) -> None:
    net = nested()
    activate(net, PLAIN)
    before, wrong = routes(net), {k: v for k, v in {**PLAIN, **change}.items() if v is not None}
    for use in (activate, freeze):
        with pytest.raises(InvalidArch, match=f"'{label}'"):
            use(net, wrong)
    assert routes(net) == before


def test_a_mutable_must_say_how() -> None:
    for call in (
        lambda: Mutable().choices(),
        lambda: Mutable().activate({}),
        lambda: Mutable().frozen({}, {}),
    ):
        with pytest.raises(TypeError, match="Mutable must define"):
            call()
