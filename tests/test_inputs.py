"""Choices between inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raynas.core.decision import Choice, Subset
from raynas.core.errors import InvalidSpace
from raynas.nn import NO_KEY, InputChoice, LayerChoice, MutableScope, activate, freeze, space_of
from tests.laws import keeps_the_laws

XS = list(torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("sum", XS[0] + XS[2]),
        ("mean", (XS[0] + XS[2]) / 2),
        ("concat", torch.cat([XS[0], XS[2]], 1)),
        ("none", [XS[0], XS[2]]),
    ],
)
@pytest.mark.parametrize("return_mask", [False, True])
def test_reductions(reduction: str, expected: Any, return_mask: bool) -> None:
    choice = InputChoice(3, n_chosen=2, reduction=reduction, return_mask=return_mask, label="c")
    activate(choice, {"c": (0, 2)})
    for module in (choice, freeze(choice, {"c": [True, False, True]})):
        out = module(XS)
        if return_mask:
            out, mask = out
            assert mask.tolist() == [True, False, True]
        torch.testing.assert_close(out, expected, rtol=0, atol=0)
    keeps_the_laws(choice, XS)


def test_decisions() -> None:
    assert InputChoice(3, n_chosen=1, label="c").choices() == (Choice("c", (0, 1, 2)),)
    assert InputChoice(3, n_chosen=2, label="c").choices() == (Subset("c", (0, 1, 2), 2),)
    assert InputChoice(3, key="c").choices() == (Subset("c", (0, 1, 2), None),)
    assert space_of(InputChoice(3)).size() == 8


@pytest.mark.parametrize("reduction", ["sum", "mean", "concat"])
def test_nothing_picked_is_zeros(reduction: str) -> None:
    choice = InputChoice(3, reduction=reduction, label="c")
    activate(choice, {"c": ()})
    assert torch.equal(choice(XS), torch.zeros_like(XS[0]))
    assert InputChoice(3, reduction="none", label="c").route is None
    keeps_the_laws(choice, XS)


class Branches(nn.Module):
    """Three named inputs, two of them outputs of earlier choices."""

    def __init__(self, choose_from: tuple[str, ...] = (NO_KEY, "left", "right")) -> None:
        super().__init__()
        self.left = LayerChoice([nn.Tanh(), nn.ReLU()], label="left")
        self.scope = MutableScope("right")
        self.pick = InputChoice(choose_from=choose_from, n_chosen=1, label="pick")

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(x)
        y: Tensor = self.pick({NO_KEY: x, "left": left, "right": left * 2})
        return y


def test_choose_from_takes_keys_of_earlier_mutables_and_scopes() -> None:
    net = Branches()
    assert space_of(net).decisions["pick"].options == (NO_KEY, "left", "right")
    assert Branches((NO_KEY, NO_KEY, "left")).pick.options == (0, 1, 2)
    assert Branches(("left", "right")).pick.options == ("left", "right")
    activate(net, {"left": 0, "pick": 2})
    assert torch.equal(net(XS[0]), XS[0].tanh() * 2)
    keeps_the_laws(net, XS[0])


@pytest.mark.parametrize(
    ("choose_from", "said"),
    [
        (("lef",), r"'pick'.*'lef'.*did you mean 'left'"),
        (("pick",), r"'pick'.*depend on itself"),
    ],
)
def test_what_is_not_there_or_comes_later_is_refused(
    choose_from: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InvalidSpace, match=said):
        space_of(Branches(choose_from))


def test_a_cycle_of_references_is_refused() -> None:
    first = InputChoice(choose_from=["b"], n_chosen=1, label="a")
    second = InputChoice(choose_from=["a"], n_chosen=1, label="b")
    with pytest.raises(InvalidSpace, match=r"'a'.*'b'.*depend on itself"):
        space_of(nn.Sequential(first, second))
    inside = LayerChoice({"x": InputChoice(choose_from=["outer"], n_chosen=1)}, label="outer")
    with pytest.raises(InvalidSpace, match=r"'outer'.*depend on itself"):
        space_of(inside)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "at least one candidate input, got none"),
        ({"n_candidates": 0}, "n_candidates is 0, expected a whole number of at least 1"),
        ({"choose_from": []}, "got none"),
        ({"n_candidates": "3", "label": "in"}, "InputChoice 'in': n_candidates is '3'"),
        ({"n_candidates": 3.0}, "n_candidates is 3.0"),
        ({"n_candidates": True}, "n_candidates is True"),
        ({"n_candidates": 3, "n_chosen": "1", "label": "in"}, "'in': n_chosen is '1'"),
        ({"n_candidates": 3, "n_chosen": True}, "n_chosen is True"),
        ({"n_candidates": 2, "choose_from": ["a"]}, "n_candidates is 2, but choose_from names 1"),
        ({"n_candidates": 2, "n_chosen": 3}, "n_chosen is 3, expected .* from 1 to 2, or None"),
        ({"n_candidates": 2, "n_chosen": 0}, "n_chosen is 0"),
        ({"choose_from": "abc"}, "a list of labels"),
        ({"choose_from": [1]}, "a list of labels"),
        ({"choose_from": 3}, "a list of labels"),
        ({"n_candidates": 2, "reduction": "max"}, "'max'"),
    ],
)
def test_contradictions_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSpace, match=said):
        InputChoice(**arguments)


def test_printing_and_mode() -> None:
    choice = InputChoice(3, n_chosen=1, return_mask=True, label="c")
    assert repr(choice) == "InputChoice(label='c', 1 of [0, 1, 2])"
    assert [freeze(choice.train(on), {"c": 1}).training for on in (True, False)] == [True, False]
    _, mask = freeze(choice, {"c": 1})([x.to("meta") for x in XS])
    assert mask.device.type == "meta"


def test_wrong_inputs_are_refused() -> None:
    choice = InputChoice(3, label="c")
    with pytest.raises(RuntimeError, match=r"'c'.*activate"):
        choice(XS)
    activate(choice, {"c": (1,)})
    with pytest.raises(ValueError, match=r"'c'.*expected 3 inputs, got 2"):
        choice(XS[:2])
    with pytest.raises(ValueError, match=r"'c'.*needs choose_from"):
        choice({"a": XS[0]})
    named = InputChoice(choose_from=["a", "b"], label="n")
    named.route = (0,)
    with pytest.raises(ValueError, match=r"'n'.*no input has key 'b'"):
        named({"a": XS[0]})
