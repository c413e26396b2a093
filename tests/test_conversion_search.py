"""Searches of a converted space: every sampler keeps every bound; latencies are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.sampler import SAMPLERS
from raynas.costs import CostTable, latency_table
from raynas.nn.conversion.elastic_space import ElasticSpace
from raynas.supernet.protocol import ONE_SHOTS
from tests.inline import INLINE

TRIALS = 10


class Block(nn.Module):
    """Causal attention of two heads, and an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = 4
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 24), nn.GELU())
        self.down = nn.Linear(24, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        rows = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, -1).transpose(1, 3)
        q, k, v = rows.unbind(2)
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        y: Tensor = x + self.down(self.mlp(x))
        return y


class Decoder(nn.Module):
    """A tiny language model of rows of digits as words."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 16)
        self.blocks = nn.ModuleList(Block(16) for _ in range(2))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1).view(-1, 16, 16))
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.head(x[:, -1])
        return y


@pytest.fixture(scope="module")
def space() -> ElasticSpace:
    torch.manual_seed(0)
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return raynas.elastic(Decoder().eval(), images, width=[0.5], heads=0.5, ffn=0.5, depth=True)


def middle(space: ElasticSpace, metric: str) -> float:
    """A bound that some architectures keep and some do not."""
    found = raynas.profile(space, samples=1)
    return (found.archs[0].metrics[metric] + found.archs[2].metrics[metric]) / 2


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_sampler_keeps_every_bound(sampler: str, space: ElasticSpace, tmp_path: Path) -> None:
    bounds = {m: (None, middle(space, m)) for m in ("params", "macs", "kv_cache_bytes")}
    goals = {"macs": "max"} | ({"kv_cache_bytes": "min"} if sampler == "nsga2" else {})
    result = raynas.search(
        space,
        sampler,
        data="digits",
        evaluator="cost",
        objectives=goals,
        constraints=bounds,
        trials=TRIALS,
        out=str(tmp_path),
        ray=INLINE,
    )
    table = CostTable(space.supernet().eval(), space.example_input())
    kept = [
        all(costs[metric] <= high for metric, (_, high) in bounds.items())
        for text in result.trials["arch"]
        for costs in [table.cost(raynas.Arch.from_json(str(text))).as_metrics()]
    ]
    if sampler == "block_library":  # it scores variants of blocks in the whole model, beyond bounds
        kept = [kept[result.best.number]]
    assert all(kept)
    assert len(result.trials) == TRIALS


def mixing() -> list[str]:
    """Names of the algorithms that mix candidates, or parts of a kernel."""
    kinds: dict[str, Any] = dict(ONE_SHOTS.items())
    return [name for name in sorted(kinds) if kinds[name].learns and name != "enas"]


@pytest.mark.parametrize("name", mixing())
def test_who_mixes_candidates_says_that_there_are_none(
    name: str, space: ElasticSpace, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"cannot be relaxed: a |super-kernels alone") as caught:
        raynas.search(space, name, data="digits", epochs=60, out=str(tmp_path), ray=INLINE)
    text = str(caught.value)
    assert "Decoder" in text
    assert "\n" not in text
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_a_controller_decides_about_widths_too(space: ElasticSpace, tmp_path: Path) -> None:
    options = {"data": "digits", "epochs": 1, "trials": 2, "ray": INLINE}
    result = raynas.search(space, "enas", out=str(tmp_path), **options)  # type: ignore[arg-type]
    assert result.best.status == "completed"


def test_latencies_are_measured_network_by_network(space: ElasticSpace, tmp_path: Path) -> None:
    result = raynas.search(
        space,
        "random",
        data="digits",
        evaluator="cost",
        objectives={"macs": "max"},
        constraints={"latency_ms": (None, 1e6)},
        trials=4,
        out=str(tmp_path),
        ray=INLINE,
    )
    assert (result.trials["latency_ms"] > 0).all()
    assert result.trials["latency_ms"].nunique() > 1
    assert not list(tmp_path.glob("latency_*"))  # nothing that another run could look up
    with pytest.raises(ValueError, match=r"latencies of Decoder, a converted model, do not add up"):
        latency_table(space)


def test_bounds_go_by_the_data_and_not_by_the_example_of_the_conversion(tmp_path: Path) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )
    space = raynas.elastic(net, torch.randn(4, 1, 8, 8), width=[0.25, 0.5, 0.75])
    whole = raynas.cost(space, space.arch_space.decided(lambda decision: decision.options[0]))
    result = raynas.search(
        space,
        "random",
        data="digits",  # of 16 x 16 pixels: four times as many multiply-accumulates
        supernet={"epochs": 0},
        constraints={"macs": (None, 2.0 * whole.macs)},
        trials=5,
        out=str(tmp_path),
        ray={"inline": True},
    )
    assert set(result.trials["status"]) == {"completed"}
    assert result.trials["macs"].max() <= 2.0 * whole.macs
    assert result.trials["macs"].max() > 0.25 * whole.macs
