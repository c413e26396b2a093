"""Slots: what they hold, what they leave behind, and that models never know of each other."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor, nn

from raynas.core.errors import InvalidArch, InvalidSpace
from raynas.nn import LayerChoice, Repeat, activate, freeze, name_labels, space_of
from raynas.nn.mutable import mutables
from raynas.nn.slot import Slot, empty_slots, slots
from tests.laws import keeps_the_laws

X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def conv(kernel: int = 3) -> nn.Module:
    return nn.Conv2d(3, 3, kernel, padding=kernel // 2, dtype=torch.float64)


def choice(label: str | None = None) -> LayerChoice:
    return LayerChoice({"k1": conv(1), "k3": conv(3)}, label)


class Net(nn.Module):
    """A layer and a block of two slots."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv()
        self.block = nn.Sequential(Slot(3), Slot(3, name="last"))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(self.stem(x))
        return y

    def slot(self, at: int) -> Slot:
        slot = self.block[at]
        assert isinstance(slot, Slot)
        return slot


def filled() -> Net:
    net = Net()
    net.slot(0).fill(choice())
    net.slot(1).fill(nn.Sequential(conv(), choice("a"), choice("b")))
    return net


def test_a_slot_knows_its_place() -> None:
    slot = Slot([8, 16], stride=2, name="x", order="weight_bn")
    assert (slot.chn_in, slot.chn_out, slot.stride) == ([8, 16], [8, 16], 2)
    assert slot.info == {"order": "weight_bn"}
    assert str(slot) == "a slot ([8, 16] -> [8, 16] channels at stride 2)"
    assert Slot(8, 4).chn_out == 4
    net = Net()
    name_labels(net)
    assert [slot.label for slot in slots(net)] == ["block.0", "last"]
    assert str(net.slot(1)).startswith("slot 'block.1' (3 -> 3")


def test_an_empty_slot_has_nothing_to_decide_and_cannot_run() -> None:
    net = Net()
    with pytest.raises(RuntimeError, match=r"a slot \(3 -> 3 channels at stride 1\) is empty"):
        net(X)
    assert space_of(net).choices == ()
    assert [slot.path for slot in empty_slots(net)] == ["block.0", "block.1"]
    activate(net, {})
    with pytest.raises(RuntimeError, match=r"slot 'block\.0' .* is empty: fill it"):
        net(X)
    with pytest.raises(InvalidSpace, match=r"slot 'block\.0' .* is empty"):
        freeze(net, {})


def test_a_filled_slot_decides_what_its_layer_does() -> None:
    net = filled()
    assert space_of(net).labels == ("block.0", "a", "b")
    assert empty_slots(net) == []
    keeps_the_laws(net, X)


def test_nothing_of_a_slot_is_left_in_a_frozen_network() -> None:
    torch.manual_seed(0)
    net = filled()
    plain = nn.ModuleDict(
        {"stem": conv(), "block": nn.Sequential(conv(1), nn.Sequential(conv(), conv(), conv(1)))}
    )
    frozen = freeze(net, {"block.0": "k1", "a": "k3", "b": "k1"})
    assert list(frozen.state_dict()) == list(plain.state_dict())
    assert [type(m) for m in frozen.modules()][1:] == [type(m) for m in plain.modules()][1:]


def test_descriptions_of_slots() -> None:
    net = filled()
    arch = {"block.0": "k1", "a": "k3", "b": "k1"}
    space_of(net)
    assert net.slot(0).describe(arch) == ["k1"]
    assert net.slot(1).describe(arch) == [["k3"], ["k1"]]
    assert net.slot(1).parsed(["k3", ["k1"]]) == {"a": "k3", "b": "k1"}
    fixed = Slot(3)
    assert fixed.describe({}) is None
    fixed.fill(conv())
    assert fixed.describe({}) is None
    assert fixed.parsed(None) == {}
    for slot, bad, said in (
        (fixed, ["k1"], "no choices"),
        (Slot(3), [], "no choices"),
        (net.slot(1), [["k3"]], "2 choices: expected a list"),
        (net.slot(1), {"a": "k3"}, "expected a list"),
        (net.slot(1), None, "expected a list"),
        (net.slot(0), ["k5"], "'block.0'"),
    ):
        with pytest.raises(InvalidArch, match=said):
            slot.parsed(bad)


def test_places_of_one_label_must_be_described_alike() -> None:
    slot = Slot(3)
    slot.fill(nn.Sequential(choice("same"), choice("same")))
    assert slot.parsed([["k1"], ["k1"]]) == {"same": "k1"}
    with pytest.raises(InvalidArch, match="'same' is decided twice, as 'k1' and as 'k3'"):
        slot.parsed([["k1"], ["k3"]])


def test_a_slot_takes_one_layer() -> None:
    slot = Slot(3)
    with pytest.raises(TypeError, match=r"expected an nn\.Module, got a str"):
        slot.fill("MB3E3")  # type: ignore[arg-type]
    slot.fill(conv())
    with pytest.raises(ValueError, match="is filled already, with a Conv2d"):
        slot.fill(conv())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0,), "chn_in .* got 0"),
        ((3, -1), "chn_out .* got -1"),
        ((3, [4, 0]), "chn_out .* got 0"),
        (([],), r"chn_in .* got \[\]"),
        (("3",), "chn_in .* got '3'"),
        ((True,), "chn_in .* got True"),
        ((3, 3, 0), "stride .* got 0"),
    ],
)
def test_impossible_places_are_refused(arguments: tuple[int, ...], said: str) -> None:
    with pytest.raises(InvalidSpace, match=said):
        Slot(*arguments)


def test_a_slot_of_several_inputs_hands_them_on() -> None:
    class Add(nn.Module):
        def forward(self, a: Tensor, b: Tensor, *, scale: float) -> Tensor:
            return scale * (a + b)

    slot = Slot([3, 3], 3)
    slot.fill(Add())
    assert torch.equal(slot(X, X, scale=2.0), 4 * X)


def test_copies_in_a_repeat_decide_together() -> None:
    net = Repeat(nn.Sequential(Slot(3)), 3)
    name_labels(net)
    for slot in list(slots(net)):
        slot.fill(choice())
    assert space_of(net).labels == ("0.0",)
    keeps_the_laws(net, X)


def test_models_never_know_of_each_other() -> None:
    one, other = Net(), Net()
    one.slot(0).fill(choice())
    twin = copy.deepcopy(one)
    twin.slot(1).fill(choice())
    assert len(space_of(one).labels) == 1
    assert space_of(twin).labels == ("block.0", "block.1")
    assert space_of(other).labels == ()
    assert [slot.empty for slot in slots(other)] == [True, True]
    again = pickle.loads(pickle.dumps(twin))
    assert space_of(again) == space_of(twin)
    gone = [weakref.ref(module) for module in one.modules()]
    del one
    gc.collect()
    assert [ref() for ref in gone] == [None] * len(gone)


def test_weights_of_a_filled_slot_are_the_models() -> None:
    net = filled()
    assert "block.0.entity.candidates.k1.weight" in net.state_dict()
    assert sum(1 for _ in mutables(net)) == 5
