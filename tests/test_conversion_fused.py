"""Whole attentions and groups of experts that are one operation of torch become elastic too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.nest import Nest, taken
from raynas.costs import cost_of
from raynas.costs.elastic_costs import ElasticCosts
from raynas.nn import activate, freeze
from raynas.nn.conversion.elastic_model import ElasticModel
from raynas.nn.conversion.elastic_space import ElasticSpace
from raynas.nn.conversion.laws import outputs
from tests.families import Family, _hugging


class Encoder(nn.Module):
    """Layers as PyTorch ships them."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
        self.embed, self.layers = nn.Linear(6, 32), nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(x)).mean(1))  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_heads_of_torch_go_with_the_width_that_they_read() -> None:
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)).double()
    model = Family(Encoder, lambda: x).build()
    space = raynas.elastic(model, x, width=True, heads=True, ffn=True, depth=True)
    assert space.plan.largest == {"embed.width": 32, "layers.layers.0.ffn": 48} | {
        "layers.layers.1.ffn": 48
    }
    small = _smallest(space, x)
    attention = small.get_submodule("layers.layers.0.self_attn")
    assert isinstance(attention, nn.MultiheadAttention)
    assert (attention.num_heads, attention.embed_dim) == (2, 16)
    assert space.coverage > 0.99


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["MixtralForCausalLM", "Qwen3MoeForCausalLM"])
def test_experts_become_narrower(kind: str) -> None:
    sizes = {"vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
    own = {"num_local_experts": 3} if kind.startswith("Mixtral") else {"num_experts": 3}
    own |= {} if kind.startswith("Mixtral") else {"moe_intermediate_size": 64, "head_dim": 8}
    torch.manual_seed(0)
    model = _hugging(
        kind, **sizes, **own, num_experts_per_tok=2, experts_implementation="grouped_mm"
    ).eval()
    words = torch.randint(2, 48, (4, 7), generator=torch.Generator().manual_seed(0))
    example = {"input_ids": words}
    space = raynas.elastic(model, example, width=0.5, ffn=0.5, heads=0.5)
    assert space.plan.largest["model.layers.0.mlp.experts.ffn"] == 64
    assert space.coverage > 0.99
    _smallest(space, example)


def _smallest(space: ElasticSpace, example: Nest) -> nn.Module:
    """Return the smallest network, which computes what is active, at the costs looked up."""
    net = space.supernet().eval()
    assert isinstance(net, ElasticModel)
    arch = space.arch_space.decided(lambda decision: decision.options[-1])
    activate(net, arch)
    small = freeze(net, arch)
    for active, plain in zip(outputs(net, example), outputs(small, example), strict=True):
        assert float((active - plain).abs().max()) <= 1e-6 * float(active.abs().max())
    one = taken(example, slice(1))
    assert ElasticCosts(net, one).cost(arch).macs == cost_of(small, one).macs
    return small
