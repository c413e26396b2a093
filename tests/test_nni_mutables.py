"""Mutables as users of NNI write them, and what becomes of them in place."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raynas.core.errors import InvalidSpace
from raynas.nn import Cell, Repeat, ValueChoice, activate, freeze, space_of
from raynas.nn import Linear as ElasticLinear
from raynas.nn.mutable import mutables
from raynas.nni import InputChoice, LayerChoice, MutableScope, apply_fixed_architecture

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def layers() -> dict[str, nn.Module]:
    return {"lin": nn.Linear(3, 3).double(), "tanh": nn.Tanh(), "relu": nn.ReLU()}


def test_candidates_are_read_by_position_and_name() -> None:
    given = layers()
    choice = LayerChoice(given, "c")
    assert len(choice) == 3
    assert [*choice] == [*given.values()]
    assert choice[0] is given["lin"] is choice["lin"]
    assert choice[-1] is given["relu"]
    assert [*choice.names] == ["lin", "tanh", "relu"]
    assert choice.key == "c"
    with pytest.raises(KeyError, match="did you mean 'lin'"):
        choice["line"]
    with pytest.raises(IndexError):
        choice[3]
    with pytest.raises(InvalidSpace, match="got one module"):
        LayerChoice(choice)


def test_a_candidate_is_exchanged_before_the_choice_is_used() -> None:
    choice = LayerChoice(layers(), "c")
    choice[1] = swish = nn.SiLU()
    choice["relu"] = nn.Sigmoid()
    choice[-3] = nn.Identity()
    assert [*map(type, choice)] == [nn.Identity, nn.SiLU, nn.Sigmoid]
    assert (choice.names, choice.options) == (("lin", "tanh", "relu"),) * 2
    activate(choice, {"c": "tanh"})
    assert torch.equal(choice(X), swish(X))
    with pytest.raises(RuntimeError, match=r"'c' runs an architecture .* change .* before"):
        choice[0] = nn.Tanh()
    fresh = LayerChoice(layers(), "c")
    with pytest.raises(InvalidSpace, match="'c': candidate 'lin' must be"):
        fresh[0] = 3  # type: ignore[assignment]
    with pytest.raises(KeyError, match="did you mean 'lin'"):
        fresh["line"] = nn.Tanh()
    with pytest.raises(IndexError):
        fresh[3] = nn.Tanh()
    with pytest.raises(TypeError, match="expected a candidate's position or name, got slice"):
        fresh[:2] = nn.Tanh()  # type: ignore[index]
    assert [*map(type, fresh)] == [nn.Linear, nn.Tanh, nn.ReLU]


def test_a_candidate_is_deleted_before_the_choice_is_used() -> None:
    given = layers()
    choice = LayerChoice(given, "c")
    del choice[0]
    assert (choice.names, choice.options) == (("tanh", "relu"),) * 2
    assert [*choice] == [given["tanh"], given["relu"]]
    assert not list(choice.parameters()), "the linear one is gone"
    assert [*space_of(choice).decisions["c"].options] == ["tanh", "relu"]
    del choice["tanh"]
    with pytest.raises(InvalidSpace, match="'c' keeps one candidate at least"):
        del choice[0]
    assert torch.equal(freeze(choice, {"c": "relu"})(X), X.relu())
    activate(choice, {"c": 0})
    with pytest.raises(RuntimeError, match="'c' runs an architecture"):
        del choice["relu"]


def test_a_list_is_numbered_anew_when_one_is_deleted() -> None:
    shorter, made = LayerChoice([*layers().values()], "c"), LayerChoice([nn.Tanh(), nn.ReLU()], "c")
    del shorter[0]
    assert (shorter.names, shorter.options) == (made.names, made.options) == (("0", "1"), (0, 1))
    activate(shorter, {"c": 1})
    assert torch.equal(shorter(X), X.relu())
    sizes = LayerChoice({0: nn.Tanh(), 1: nn.ReLU()}, "c")
    del sizes[0]
    assert (sizes.names, sizes.options) == (("1",), (1,)), "names that are numbers stay"
    cell = Cell({"tanh": nn.Tanh(), "relu": nn.ReLU()}, num_nodes=1, label="cell")
    edge = next(part for part in cell.modules() if isinstance(part, LayerChoice))
    with pytest.raises(TypeError, match="give the cell fewer of them"):
        del edge[0]


def test_positional_arguments_are_nni_s_where_three_are_given() -> None:
    choice = LayerChoice([*layers().values()], "mean", True, "key")
    assert (choice.reduction, choice.return_mask, choice.label) == ("mean", True, "key")
    choice = LayerChoice([*layers().values()], "none", True)
    assert (choice.reduction, choice.return_mask, choice.label) == ("none", True, None)
    assert LayerChoice(op_candidates=layers(), reduction="concat", key="k").label == "k"
    assert LayerChoice(layers(), "own").label == "own"
    with pytest.warns(UserWarning, match="the second argument is the label"):
        assert LayerChoice(layers(), "mean").label == "mean"
    with pytest.raises(TypeError, match="takes four arguments by position at most, got 5"):
        LayerChoice(layers(), "sum", False, "k", 3)
    with pytest.raises(TypeError, match="key= besides"):
        LayerChoice(layers(), "sum", False, "k", key="k")

    chosen = InputChoice(None, ["a", InputChoice.NO_KEY], 1, "concat", True, "key")
    assert (chosen.reduction, chosen.return_mask, chosen.label) == ("concat", True, "key")
    assert chosen.choose_from == ["a", ""]
    assert InputChoice(2).choose_from == [InputChoice.NO_KEY] * 2
    assert MutableScope("part").key == "part"
    with pytest.raises(InvalidSpace, match="how many are picked is n_chosen="):
        InputChoice(3, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda key: LayerChoice(layers(), key=key),
        lambda key: LayerChoice(layers(), "sum", False, key),
        lambda key: InputChoice(2, key=key),
        lambda key: MutableScope(key=key),
    ],
)
def test_a_key_that_is_a_number_is_text_after_a_warning(make: Any) -> None:
    with pytest.warns(UserWarning, match="key 7 is no text; it is taken as '7'"):
        assert make(7).label == "7"


@pytest.mark.parametrize("reduction", ["sum", "mean", "concat", "none"])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("picks", [[False, True, True], ["tanh", "relu"], [1, 2], [0.0, 1.0, 1.0]])
def test_several_candidates_are_joined(reduction: str, mask: bool, picks: Any) -> None:
    choice = LayerChoice(layers(), "c", reduction=reduction, return_mask=mask)
    activate(choice, {"c": picks})
    model = nn.Sequential(copy.deepcopy(choice))
    apply_fixed_architecture(model, {"c": picks})
    a, b = X.tanh(), X.relu()
    wanted: Any = {"sum": a + b, "mean": (a + b) / 2, "concat": torch.cat([a, b], 1)}
    for module in (choice, freeze(choice, {"c": picks}), model, copy.deepcopy(choice)):
        out = module(X)
        if mask:
            out, own = out
            assert own.tolist() == [False, True, True]
        if reduction == "none":
            assert torch.equal(torch.stack(out), torch.stack([a, b]))
        else:
            torch.testing.assert_close(out, wanted[reduction], rtol=0, atol=0)
    assert not list(model.parameters()), "what is not chosen is pruned"


@pytest.mark.parametrize(("reduction", "wanted"), [("sum", None), ("mean", None), ("none", [])])
def test_no_candidate_gives_what_nni_gives(reduction: str, wanted: Any) -> None:
    choice = LayerChoice(layers(), "c", reduction=reduction)
    for picks in ([], [False] * 3):
        activate(choice, {"c": picks})
        assert choice(X) == wanted
        assert freeze(choice, {"c": picks})(X) == wanted


def test_no_search_proposes_several() -> None:
    space = space_of(LayerChoice(layers(), "c"))
    assert space.size() == 3


def test_candidates_that_run_together_may_hold_choices() -> None:
    inner = LayerChoice(layers(), "inner")
    choice = LayerChoice({"deep": nn.Sequential(inner), "id": nn.Identity()}, "outer")
    net = freeze(choice, {"outer": ["deep", "id"], "inner": ["tanh", "relu"]})
    assert torch.equal(net(X), X.tanh() + X.relu() + X)
    assert not list(mutables(net))


def test_a_name_that_is_a_list_of_names_is_told_apart() -> None:
    choice = LayerChoice({3: nn.Tanh(), 5: nn.ReLU(), (3, 5): nn.Identity()}, "c")
    activate(choice, {"c": [3, 5]})
    assert choice.route == 2
    with pytest.raises(ValueError, match="several candidates and one's name"):
        activate(choice, {"c": [True, True, False]})


class Net(nn.Module):
    """One of each kind, one layer used twice, and one that stands outside of all choices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 3)
        shared = LayerChoice({"lin": nn.Linear(3, 3), "tied": self.stem}, key="first")
        self.first, self.again = shared, shared
        self.deep = LayerChoice(
            {
                "in": nn.Sequential(LayerChoice([nn.Tanh(), nn.Linear(3, 3)], key="in")),
                "id": nn.Identity(),
            },
            key="deep",
        )
        self.blocks = Repeat(lambda _: nn.Linear(3, 3), (1, 3), label="depth")
        self.wide = ElasticLinear(6, ValueChoice([2, 3], label="width"))
        self.cell = Cell({"tanh": nn.Tanh(), "relu": nn.ReLU()}, num_nodes=2, label="cell")
        self.pick = InputChoice(choose_from=["first", InputChoice.NO_KEY], n_chosen=1, key="pick")

    def forward(self, x: Tensor) -> Tensor:
        y = self.again(self.first(self.stem(x)))
        x = self.pick([y, x])
        x = self.blocks(self.deep(x))
        out: Tensor = self.wide(self.cell([x]))
        return out


def test_in_place_is_what_freeze_returns_and_weights_stay_the_same_objects() -> None:
    import numpy as np

    for seed in range(20):
        torch.manual_seed(seed)
        model = Net()
        arch = space_of(model).sample(np.random.default_rng(seed))
        frozen = freeze(model, arch)
        before = {id(weight) for weight in model.parameters()}
        stem, first, again = model.stem, model.first, model.again
        assert apply_fixed_architecture(model, dict(arch)) == arch
        assert not list(mutables(model))
        x = torch.randn(2, 3)
        assert torch.equal(model(x), frozen(x))
        assert [*model.state_dict()] == [*frozen.state_dict()]
        model.load_state_dict(frozen.state_dict())
        assert model.stem is stem
        assert model.first is model.again
        assert first is again
        if arch["first"] == "tied":
            assert id(model.first) == id(model.stem)
        kept = [w for name, w in model.named_parameters() if "wide" not in name]
        assert {id(weight) for weight in kept} <= before


def test_an_optimizer_goes_on_with_what_is_left() -> None:
    model = nn.Sequential(LayerChoice({"lin": nn.Linear(3, 3), "id": nn.Identity()}, key="c"))
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    apply_fixed_architecture(model, {"c": "lin"})
    before = model[0].weight.detach().clone()  # type: ignore[operator]
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, before)  # type: ignore[arg-type]


def test_a_choice_itself_cannot_be_replaced() -> None:
    choice = LayerChoice(layers(), "c")
    with pytest.raises(TypeError, match=r"itself is a LayerChoice.*freeze"):
        apply_fixed_architecture(choice, {"c": 0})
    assert choice.route is None
