"""Templates of slots: said in ModularNAS' words, filled by constructors, searched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.errors import InvalidSpace
from raynas.nn import LayerChoice, Slot, space_of
from raynas.nn.construct import construct
from raynas.nn.mutable import mutables
from tests.inline import INLINE

PRIMITIVES = ["MB3E3", "MB5E3", "NIL"]


class Template(nn.Module):
    """Two slots, as ModularNAS' document shows them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Slot(_chn_in=1, _chn_out=8, _stride=2)
        self.second = Slot(_chn_in=8)
        self.classifier = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.second(self.first(x)).mean((2, 3)))
        return logits


def mixed(mixed_op: Any = None, **options: Any) -> list[Any]:
    args = {"primitives": PRIMITIVES, "mixed_op": mixed_op, **options}
    return [("DefaultMixedOpConstructor", args)]


def search(out: Path, algo: Any, construct: Any, space: Any = Template, **options: Any) -> Any:
    return raynas.search(
        space,
        algo,
        construct=construct,
        trials=2,
        epochs=1,
        ray=INLINE,
        out=str(out),
        options={"batch_size": 512} if algo != "EvolutionOptim" else None,
        **options,
    )


# --- what a slot is told --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "facts"),
    [
        ({"_chn_in": 16, "_chn_out": 24, "_stride": 2}, (16, 24, 2)),
        ({"_chn_in": 16}, (16, 16, 1)),
        ({"chn_in": 16, "_chn_in": 16, "_stride": 2}, (16, 16, 2)),
        ({"in_shape": (None, 16, None), "_chn_out": 24}, (16, 24, 1)),
        ({"in_shape": (None, 16, 32), "out_shape": (None, 24, 16)}, (16, 24, 2)),
        ({"in_shape": (8, 16, 33, 17), "out_shape": (8, 16, 17, 9)}, (16, 16, 2)),
        ({"_chn_in": [4, 6], "_chn_out": 8}, ([4, 6], 8, 1)),
        ({"in_shape": [(None, 4, 8), (None, 6, 8)], "_chn_out": 8}, ([4, 6], 8, 1)),
    ],
)
def test_a_slot_is_told_in_several_ways(said: dict[str, Any], facts: tuple[Any, ...]) -> None:
    slot = Slot(**said, name="a", expansion=6)
    assert (slot.chn_in, slot.chn_out, slot.stride) == facts
    assert slot.info == {"expansion": 6}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, "say the input's channels"),
        ({"_chn_in": 0}, "chn_in must be a positive whole number, got 0"),
        ({"chn_in": 4, "_chn_in": 5}, "chn_in is 4, and _chn_in says 5"),
        ({"_chn_in": 4, "_strides": 2}, "no fact is called '_strides'; did you mean '_stride'"),
        ({"in_shape": 16}, r"in_shape: expected \(batch, channels, size\)"),
        ({"in_shape": (1, 4, 9), "out_shape": (1, 4, 4)}, "no stride makes 4 pixels of 9"),
        ({"in_shape": (1, 4, 8, 8), "out_shape": (1, 4, 4, 8)}, "one stride for all directions"),
    ],
)
def test_a_slot_refuses_what_is_no_place(said: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSpace, match=told):
        Slot(**said)


# --- the constructor of mixed operators -----------------------------------------------------------


def test_primitives_are_candidates_and_share_their_arguments() -> None:
    args = {"primitives": ["NC3", "SS3"], "candidate_args": {"order": "weight_bn"}}
    net = construct(Slot(_chn_in=4), [("DefaultMixedOpConstructor", args)])
    (choice,) = (m for m in mutables(net) if isinstance(m, LayerChoice))
    assert choice.options == ("NC3", "SS3")
    assert choice.mixed_op is None
    for layer in choice.layers():
        assert not any(isinstance(m, nn.ReLU) for m in layer.modules())
    with pytest.raises(ValueError, match="candidates is said twice"):
        construct(Slot(4), mixed(candidates=["NC3"]))


def test_constructors_may_stand_by_names_of_ones_own() -> None:
    section = {"mixed_op": {"type": "DefaultMixedOpConstructor", "args": {"primitives": ["NC3"]}}}
    assert space_of(construct(nn.Sequential(Slot(4)), section)).labels == ("0",)


# --- searching a template -------------------------------------------------------------------------


def test_a_template_is_searched_with_the_mixed_operator_of_its_constructor(tmp_path: Path) -> None:
    op = {"type": "GumbelSum", "args": {"temperature": 2.0}}
    result = search(tmp_path / "run", "DirectGradOptim", mixed(op))
    assert result.config.algo.options["mixed_op"] == ["gumbel_sum", {"temperature": 2.0}]
    recorded = ["mixed_op", {"candidates": PRIMITIVES, "mixed_op": op}]
    assert result.config.space.options == {"construct": [recorded]}
    assert set(result.best.arch) == {"first", "second"}
    net = result.model()
    assert not list(mutables(net))
    again = raynas.load(result.path, space=Template).model()
    x = torch.zeros(2, 1, 16, 16)
    assert torch.equal(again(x), net(x))
    assert list(raynas.load(result.path).model().state_dict()) == list(net.state_dict())
    more = raynas.search(resume=True, out=result.path, ray=INLINE)
    assert len(more.trials) == len(result.trials)


def test_a_registered_backbone_is_a_template_too(tmp_path: Path) -> None:
    result = raynas.search(
        "CIFAR_MobileNetV2",
        "EvolutionOptim",
        construct=mixed("Index"),
        space_options={"width": 0.1, "depth": 0.3},
        evaluator=lambda arch: {"accuracy": float(arch["stage1_block1"] == "MB3E3")},
        trials=2,
        ray=INLINE,
        out=str(tmp_path / "run"),
    )
    assert result.config.space.options["slots"] is True
    assert len(result.best.arch) == 8  # the first block, too, is searched
    net = raynas.load(result.path).model()
    assert not list(mutables(net))


def test_a_supernet_of_a_template_is_trained_and_then_searched(tmp_path: Path) -> None:
    path = raynas.train_supernet(
        Template,
        construct=mixed(),
        epochs=1,
        ray=INLINE,
        out=str(tmp_path / "net"),
        options={"batch_size": 512, "warm_start_steps": 0},
    )
    result = raynas.search(
        supernet=path, algo="random", trials=2, ray=INLINE, out=str(tmp_path / "run")
    )
    assert set(result.best.arch) == {"first", "second"}


@pytest.mark.parametrize(
    ("algo", "op", "said"),
    [
        ("DARTSOptim", "GumbelSum", "darts goes with the mixed operator weighted_sum, and .* gumb"),
        ("EvolutionOptim", "WeightedSum", "evolution goes .*index.* weighted_sum, which goes with"),
        ("BinaryGateOptim", "WeightedSum", "proxyless does not take .*goes with darts, direct_gra"),
        ("DirectGradOptim", "Index", "direct_grad does not take .*gives the logits no gradient"),
        ("GumbelAnnealingOptim", "BinGate", "direct_grad_bilevel goes with .*gumbel_sum, and"),
        ("REINFORCEOptim", "BinGateUniform", "proxyless_rl goes with .*index or binary_gate"),
        ("spos", "WeightedSum", "goes with the mixed operator index"),
    ],
)
def test_an_algorithm_says_what_it_does_not_go_with(
    algo: str, op: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        search(tmp_path / "run", algo, mixed(op))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("construct", "error", "said"),
    [
        (mixed("Gumbl"), LookupError, "no mixed operator named 'Gumbl'; did you mean"),
        (3, TypeError, "construct: expected a constructor or a list of them"),
        (["MobileNetV2ElasticSpatialConstructor"], LookupError, "search space='ofa_mobilenet_v3'"),
        ([("DARTSSearchConstructor", {})], LookupError, "search space='darts_cifar'"),
        ([("mixed", {})], LookupError, "no constructor named 'mixed'; did you mean"),
        (None, InvalidSpace, r"no choices; .* or say what fills slot 'first' .*\(construct=\)"),
    ],
)
def test_a_template_that_cannot_be_searched(
    construct: Any, error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        search(tmp_path / "run", "DirectGradOptim", construct)


def test_an_alias_keeps_its_temperature_under_the_operator_that_is_asked_for(
    tmp_path: Path,
) -> None:
    result = search(tmp_path / "run", "GumbelAnnealingOptim", mixed("GumbelSum"))
    assert result.config.algo.options["mixed_op"] == ["gumbel_sum", {"temperature": 1e4}]


def test_a_gate_of_uniform_paths_is_proxyless_own_option(tmp_path: Path) -> None:
    result = search(tmp_path / "run", "BinaryGateOptim", mixed("BinGateUniform"))
    assert result.config.algo.options["mixed_op"] == "uniform_gate"
