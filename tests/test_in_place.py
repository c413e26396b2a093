"""Candidates that write into their input leave it to the others as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raynas.gradient.mixed import MIXED_OPS
from raynas.gradient.relaxation import Relaxation
from raynas.nn import Cell, LayerChoice, activate, freeze, space_of
from raynas.nn.in_place import called

INPUT = [-2.0, 4.0]


def choice(*, training_only: bool = False) -> nn.Module:
    """Return two candidates of which the first writes into its input."""
    first: nn.Module = nn.Dropout(1.0, inplace=True) if training_only else nn.ReLU(inplace=True)
    return nn.Sequential(LayerChoice({"act": first, "skip": nn.Identity()}, label="a"))


def mixed(model: nn.Module, name: str, **options: Any) -> Relaxation:
    """Return a relaxation of equal logits, with what is random drawn."""
    relaxation = Relaxation(model, MIXED_OPS.build([name, options]), seed=0, scale=0.0)
    relaxation.sample(0, 0)
    return relaxation


def test_the_mean_of_both_candidates_is_right_every_time() -> None:
    """(relu(x) + x) / 2 of -2 and 4, by hand."""
    model = choice()
    mixed(model, "weighted_sum")
    for _ in range(3):
        x = torch.tensor(INPUT)
        assert model(x).tolist() == [-1.0, 4.0]
        assert x.tolist() == INPUT


def test_what_writes_in_training_alone_is_found_there() -> None:
    model = choice(training_only=True).eval()
    mixed(model, "weighted_sum")
    assert model(torch.tensor(INPUT)).tolist() == INPUT
    model.train()
    for _ in range(2):
        x = torch.tensor(INPUT)
        assert model(x).tolist() == [-1.0, 2.0]  # half of (0, 0) and half of the input
        assert x.tolist() == INPUT


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("weighted_sum", {}),
        ("gumbel_sum", {}),
        ("gumbel_sum", {"hard": True}),
        ("binary_gate", {"mode": "two"}),
        ("binary_gate", {"mode": "full"}),
        ("binary_gate", {"mode": "full_v2"}),
        ("uniform_gate", {}),
        ("index", {}),
    ],
)
def test_every_mixed_operator_leaves_its_input_alone(name: str, options: dict[str, Any]) -> None:
    """Outputs and gradients equal those of candidates that do not write, whatever is drawn."""
    writing = choice()
    plain = nn.Sequential(LayerChoice({"act": nn.ReLU(), "skip": nn.Identity()}, label="a"))
    both = [mixed(model, name, **options) for model in (writing, plain)]
    for step in range(6):
        outcomes = []
        for model, relaxation in zip((writing, plain), both, strict=True):
            relaxation.sample(step, 0)
            leaf = torch.tensor(INPUT, requires_grad=True)
            x = 1.0 * leaf
            out: Tensor = model(x)
            (out * torch.tensor([1.0, 3.0])).sum().backward()
            assert x.tolist() == INPUT
            vector = relaxation.vectors["a"]
            outcomes.append((out.tolist(), leaf.grad, vector.grad))
            vector.grad = None
        for written, right in zip(*outcomes, strict=True):
            torch.testing.assert_close(written, right)


def test_edges_of_a_cell_read_the_same_state() -> None:
    def operations(*_: int) -> dict[str, nn.Module]:
        return {"act": nn.ReLU(inplace=True), "skip": nn.Identity()}

    cell = Cell(operations, num_nodes=2, num_ops_per_node=1, num_predecessors=1, label="c")
    space = space_of(nn.Sequential(cell))
    rng, seen = np.random.default_rng(0), set[tuple[float, ...]]()
    for _ in range(20):
        arch = space.sample(rng)
        model = nn.Sequential(cell)
        activate(model, arch)
        x = torch.tensor([INPUT])
        first = model(x)
        assert x.tolist() == [INPUT]
        torch.testing.assert_close(model(x), first)
        torch.testing.assert_close(freeze(model, arch)(x), first)
        seen.add(tuple(first[0].tolist()))
    assert len(seen) > 1


def test_a_layer_with_choices_is_never_taken_to_be_harmless() -> None:
    model = choice()
    activate(model, {"a": "skip"})
    x = torch.tensor(INPUT)
    assert called(model, x).tolist() == INPUT
    activate(model, {"a": "act"})
    assert called(model, x).tolist() == [0.0, 4.0]
    assert x.tolist() == INPUT


def test_tensors_of_inference_mode_are_compared_by_value() -> None:
    layer = nn.ReLU(inplace=True)
    with torch.inference_mode():
        x = torch.tensor(INPUT)
        for _ in range(2):
            assert called(layer, x).tolist() == [0.0, 4.0]
            assert x.tolist() == INPUT


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, 4, 3, 3)[:, :1],  # one channel of some: contiguous and channels last at once
        torch.zeros(2, 4, 3, 3).contiguous(memory_format=torch.channels_last)[:, 1:3],
        torch.zeros(2, 4, 3, 3)[:, :, ::2, ::2],
        torch.zeros(2, 4, 3, 3).transpose(2, 3),
    ],
)
def test_the_first_call_sees_the_strides_of_all_others(x: Tensor) -> None:
    """Convolutions choose their kernel by them, and so how they round."""
    seen = []

    class Noted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.stride())
            return x + 1

    layer = Noted()
    assert torch.equal(called(layer, x), called(layer, x))
    assert seen == [x.stride()] * 3, "of the probe, and of both calls"
    expanded = torch.zeros(2, 1).expand(2, 3)
    assert called(nn.ReLU(inplace=True), expanded).shape == (2, 3)
