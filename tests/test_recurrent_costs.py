"""Multiply-accumulates of recurrent layers and of products with vectors, by hand."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raynas.costs import CostTable, cost_of
from raynas.costs.meter import MACS, UncountedOperation, _reported, aten
from raynas.nn import LayerChoice


class Last(nn.Module):
    """Returns the last output of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs at the last step."""
        last: Tensor = self.layer(x)[0][:, -1]
        return last


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.LSTM(8, 16, batch_first=True), 5 * (4 * 16 * 8 + 4 * 16 * 16)),  # 7,680
        (
            nn.LSTM(8, 16, batch_first=True, num_layers=2),
            5 * (4 * 16 * 8 + 3 * 4 * 16 * 16),
        ),
        (
            nn.LSTM(8, 16, batch_first=True, bidirectional=True),
            2 * 5 * (4 * 16 * 8 + 4 * 16 * 16),
        ),
        (nn.GRU(8, 16, batch_first=True), 5 * (3 * 16 * 8 + 3 * 16 * 16)),
        (nn.RNN(8, 16, batch_first=True), 5 * (16 * 8 + 16 * 16)),
    ],
    ids=["lstm", "two layers", "both ways", "gru", "rnn"],
)
def test_every_step_meets_all_matrices(layer: nn.Module, macs: int) -> None:
    assert cost_of(Last(layer), torch.zeros(1, 5, 8)).macs == macs


def test_a_choice_between_recurrent_layers_is_tabulated_exactly() -> None:
    layers = {"lstm": nn.LSTM(8, 16, batch_first=True), "gru": nn.GRU(8, 16, batch_first=True)}
    net = Last(LayerChoice(layers, label="kind"))
    table = CostTable(net, torch.zeros(1, 5, 8))
    assert table.cost({"kind": "lstm"}).macs == 7_680
    assert table.cost({"kind": "gru"}).macs == 5 * (3 * 16 * 8 + 3 * 16 * 16)


class Product(nn.Module):
    """Multiplies a matrix of weights by a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 7))

    def forward(self, x: Tensor) -> Tensor:
        """Return the product with the one example of a batch."""
        return self.weight @ x[0]


def test_a_matrix_times_a_vector_is_counted() -> None:
    assert cost_of(Product(), torch.zeros(1, 7)).macs == 21


def test_an_operation_that_no_rule_knows_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rules: dict[Any, Any] = {op: rule for op, rule in MACS.items() if op is not aten.mv}
    monkeypatch.setattr("raynas.costs.meter.MACS", rules)
    _reported.discard("aten.mv")
    with pytest.warns(UncountedOperation, match=r"of aten\.mv are not counted"):
        assert cost_of(Product(), torch.zeros(1, 7)).macs == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cost_of(Product(), torch.zeros(1, 7))
    _reported.discard("aten.mv")
