"""How laws are tried at conversion: what is tried together, on which weights, and how exactly."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.errors import InvalidSpace
from raynas.nn.conversion.laws import apart, holding
from raynas.nn.conversion.specimen import Specimen


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6, 7, 20, 71])
def test_each_of_two_parts_is_without_the_other_in_one_of_them(count: int) -> None:
    tried = [set(some) for some in apart(range(count))]
    for a in range(count):
        for b in range(count):
            assert a == b or any(a in some and b not in some for some in tried)
    assert len(tried) <= 9


def test_what_holds_was_tried_as_a_whole_by_all_laws() -> None:
    seen: list[tuple[str, frozenset[int]]] = []

    def law(name: str, wrong: set[int], enemies: set[int]) -> object:
        def holds(some: Sequence[int]) -> bool:
            seen.append((name, frozenset(some)))
            return wrong.isdisjoint(some) and not enemies <= set(some)

        return holds

    quick, slow = law("quick", {3, 11}, {5, 6}), law("slow", {0}, {1, 15})
    kept = holding(range(16), quick, slow)  # type: ignore[arg-type]
    assert kept == [1, 2, 4, 5, 7, 8, 9, 10, 12, 13, 14]
    assert {("quick", frozenset(kept)), ("slow", frozenset(kept))} <= set(seen)


def test_weights_are_as_they_were_once_a_law_was_tried() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    specimen = Specimen(model, torch.randn(2, 4))
    before = {name: t.clone() for name, t in specimen.model.state_dict().items()}
    units = {("0.weight", 0): torch.arange(6)[:, None], ("2.weight", 1): torch.arange(6)[:, None]}
    with specimen.changed(permuted=[({("0.weight", 1): torch.arange(4)[:, None]}, 4), (units, 6)]):
        now = specimen.model.state_dict()
        assert not torch.equal(now["0.weight"], before["0.weight"])
        assert torch.equal(
            now["0.weight"].flatten().sort()[0], before["0.weight"].flatten().sort()[0]
        )
    with specimen.changed(zeroed=[(units, 2)]):
        now = specimen.model.state_dict()
        assert int((now["0.weight"][2:] != 0).sum() + (now["2.weight"][:, 2:] != 0).sum()) == 0
        assert torch.equal(now["2.weight"][:, :2], before["2.weight"][:, :2])
    for name, tensor in specimen.model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(
    ("dtype", "why"),
    [(torch.float64, "depends on the order of its channels"), (torch.float32, "when it is cut")],
)
def test_laws_hold_as_exactly_as_a_model_computes(dtype: torch.dtype, why: str) -> None:
    class Nearly(nn.Module):
        """The order of its channels makes a difference that float32 takes for rounding."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            scales = 1 + 1e-6 * torch.arange(16, dtype=x.dtype)
            return self.second(self.first(x).relu() * scales)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    with pytest.raises(InvalidSpace, match=why):
        raynas.elastic(Nearly().to(dtype), torch.randn(4, 6).to(dtype), width=True)
