"""What a choice between layers returns, and how choices of one label go together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raynas.core.errors import InvalidArch, InvalidSpace
from raynas.nn import LayerChoice, activate, freeze, space_of
from tests.laws import keeps_the_laws

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def layers() -> dict[str, nn.Module]:
    return {"lin": nn.Linear(3, 3).double(), "tanh": nn.Tanh(), "relu": nn.ReLU()}


@pytest.mark.parametrize("reduction", ["sum", "mean", "concat", "none"])
@pytest.mark.parametrize("return_mask", [False, True])
def test_reductions_and_mask(reduction: str, return_mask: bool) -> None:
    choice = LayerChoice(layers(), "c", reduction=reduction, return_mask=return_mask)
    activate(choice, {"c": "tanh"})
    for module in (choice, freeze(choice, {"c": "tanh"})):
        out = module(X)
        if return_mask:
            out, mask = out
            assert mask.tolist() == [False, True, False]
        if reduction == "none":
            (out,) = out
        assert torch.equal(out, X.tanh())
    keeps_the_laws(choice, X)


def test_a_mixture_is_dressed_alike() -> None:
    choice = LayerChoice(layers(), "c", reduction="none", return_mask=True)
    choice.route = lambda ops, x: ops[1](x) + ops[2](x)
    (out,), mask = choice(X)
    assert torch.equal(out, X.tanh() + X.relu())
    assert mask.tolist() == [True, True, True]


def test_an_unknown_reduction_names_the_nearest() -> None:
    with pytest.raises(InvalidSpace, match=r"'c'.*'concatenate'; did you mean 'concat'"):
        LayerChoice(layers(), "c", reduction="concatenate")


@pytest.mark.parametrize(
    ("candidates", "label", "said"),
    [
        (None, None, "in a dict or a list, got a NoneType"),
        (nn.Tanh(), None, "in a dict or a list, got one module"),
        ("ab", None, "in a dict or a list, got a str"),
        ([nn.Tanh()], 3, "a label is a non-empty string, got 3"),
        ([nn.Tanh()], "", "a label is a non-empty string, got ''"),
        ([3], None, "candidate '0' must be an nn.Module, got a int"),
    ],
)
def test_wrong_types_are_refused(candidates: Any, label: Any, said: str) -> None:
    with pytest.raises(InvalidSpace, match=said):
        LayerChoice(candidates, label)


def test_torch_s_own_containers_hold_candidates() -> None:
    named = LayerChoice(nn.ModuleDict({"a": nn.Tanh(), "b": nn.ReLU()}), "c")
    assert named.options == ("a", "b")
    assert LayerChoice(nn.ModuleList([nn.Tanh(), nn.ReLU()]), "c").options == (0, 1)
    keeps_the_laws(named, X)


def test_key_is_another_word_for_label() -> None:
    assert LayerChoice(layers(), key="k").label == "k"
    assert LayerChoice(layers(), "k", key="k").label == "k"
    with pytest.raises(InvalidSpace, match="'a' and key 'b'"):
        LayerChoice(layers(), "a", key="b")


class Twice(nn.Module):
    """Two choices of one label; different choices stand inside their candidates."""

    def __init__(self) -> None:
        super().__init__()
        self.a = LayerChoice({"deep": LayerChoice(layers(), "left"), "id": nn.Identity()}, "both")
        self.b = LayerChoice({"deep": LayerChoice(layers(), "right"), "id": nn.Identity()}, "both")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.a(x))
        return y


def test_one_label_opens_what_all_its_places_open() -> None:
    net = Twice()
    space = space_of(net)
    assert space.size() == 3 * 3 + 1
    (both,) = space.choices
    labels = [choice.label for choice in both.opens["deep"].choices]
    assert labels == ["left", "right"]
    keeps_the_laws(net, X)


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ({"both": "id"}, None),
        ({"both": 1}, None),
        ({"both": [False, True]}, None),
        ({"both": ["deep"], "left": 0, "right": ["relu"]}, None),
        ({"both": [True]}, r"'both'.*2"),
        ({"both": 2}, r"'both'"),
        ({"both": "deep", "left": "lin"}, r"'right'"),
        ({"both": "id", "left": "lin"}, r"'left'.*not reached"),
        ({"both": "ids"}, r"'both'.*did you mean 'id'"),
        ({"bot": "id"}, r"'bot'.*did you mean 'both'"),
        ({"both": 1.5}, r"'both'"),
        ({"both": None}, r"'both'"),
        ([["id"]], r"expected"),
    ],
)
def test_architectures_in_every_form(arch: Any, said: str | None) -> None:
    net = Twice()
    if said is None:
        activate(net, arch)
        assert torch.equal(freeze(net, arch)(X), net(X))
    else:
        for act in (activate, freeze):
            with pytest.raises(InvalidArch, match=said):
                act(net, arch)
        with pytest.raises(RuntimeError, match="no active candidate"):
            net(X)  # nothing was activated by half


def deep(levels: int) -> nn.Module:
    inner: nn.Module = nn.Identity()
    for _ in range(levels):
        inner = LayerChoice({"in": nn.Sequential(inner), "out": nn.Tanh()})
    return inner


def test_nesting_is_deep_enough_and_has_an_end() -> None:
    import copy
    import pickle

    net = deep(32)
    arch = space_of(net).sample(np.random.default_rng(0))
    assert space_of(net).size() == 33
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert space_of(twin) == space_of(net)
    keeps_the_laws(net, X)
    assert isinstance(freeze(net, arch), nn.Module)
    for levels in (33, 100, 600):
        with pytest.raises(
            InvalidSpace, match=r"^choices are nested 33 deep.*candidates\.in"
        ) as told:
            space_of(deep(levels))
        assert len(str(told.value)) < 150


def test_plain_modules_too_deep_to_copy_are_told() -> None:
    net: nn.Module = LayerChoice(layers(), "c")
    for _ in range(500):
        net = nn.Sequential(net)
    with pytest.raises(InvalidSpace, match=r"Sequential: modules stand in each other too deeply"):
        freeze(net, {"c": "tanh"})


@pytest.mark.parametrize("model", [3, nn.Tanh, "net", None])
def test_what_is_no_model_is_refused(model: Any) -> None:
    said = "nn.Module, got " + ("the class Tanh" if model is nn.Tanh else repr(model))
    for act in (space_of, lambda m: activate(m, {}), lambda m: freeze(m, {})):
        with pytest.raises(TypeError, match=said):
            act(model)
