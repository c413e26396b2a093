"""Costs of converted models: by look-up exactly what the extracted networks cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import raynas
from raynas.core.nest import Nest, call
from raynas.costs import CostTable, cost_bound, cost_of
from raynas.costs.cost_table import Additive
from raynas.nn import freeze

DRAWN = 4
transformers = pytest.importorskip("transformers")
timm = pytest.importorskip("timm")
TINY = dict(vocab_size=48, hidden_size=32, num_hidden_layers=2, intermediate_size=48)


def images(size: int) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def words(length: int = 7) -> dict[str, Tensor]:
    return {"input_ids": torch.arange(length)[None] % 48}


def llama(**options: Any) -> nn.Module:
    config = transformers.LlamaConfig(
        **TINY, num_attention_heads=8, num_key_value_heads=4, pad_token_id=0, **options
    )
    return unreturned(transformers.LlamaForCausalLM(config))


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=48,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    return unreturned(transformers.GPT2LMHeadModel(config))


def bert() -> nn.Module:
    config = transformers.BertConfig(**TINY, num_attention_heads=4, max_position_embeddings=16)
    return unreturned(transformers.BertForSequenceClassification(config))


def convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    net: nn.Module = ConvNeXt([CNBlockConfig(16, 32, 2), CNBlockConfig(32, None, 2)], num_classes=5)
    return net


def vit() -> nn.Module:
    net: nn.Module = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, embed_dim=48, depth=2, num_classes=5
    )
    return net


def unreturned(model: Any) -> nn.Module:
    """Let a decoder return no cache."""
    model.config.use_cache = False
    net: nn.Module = model
    return net


FAMILIES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Nest]]] = {
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=5), lambda: images(32)),
    "mobilenet": (lambda: torchvision.models.mobilenet_v3_small(), lambda: images(32)),
    "convnext": (convnext, lambda: images(32)),
    "vit": (vit, lambda: images(32)),
    "llama": (llama, words),
    "llama_eager": (lambda: llama(attn_implementation="eager"), words),
    "gpt2": (gpt2, words),
    "bert": (bert, words),
}
QUICK = ("mobilenet", "llama", "gpt2")
full = pytest.mark.full
every_family = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=full) for name in FAMILIES]
)


@cache
def space_of(name: str) -> raynas.ModelSpace:
    make, example = FAMILIES[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return raynas.elastic(
            make().eval(), example(), width=[0.5, 0.75], heads=0.5, ffn=0.5, depth=True, kernel=3
        )


@cache
def table_of(name: str) -> tuple[nn.Module, CostTable, Nest]:
    space, example = space_of(name), FAMILIES[name][1]()
    net = space.supernet().eval()
    return net, CostTable(net, example), example


def drawn(name: str) -> Iterator[raynas.core.arch.Arch]:
    space, rng = space_of(name).arch_space, np.random.default_rng(7)
    yield space.decided(lambda decision: decision.options[0])
    yield space.decided(lambda decision: decision.options[-1])
    for _ in range(DRAWN):
        yield space.sample(rng)


@every_family
def test_look_ups_equal_what_extracted_networks_cost(name: str) -> None:
    net, table, example = table_of(name)
    assert table.exact_per_arch is None
    for arch in drawn(name):
        plain = freeze(net, arch)
        ours, measured = table.cost(arch), cost_of(plain, example)
        assert (ours.params, ours.macs) == (measured.params, measured.macs)
        assert measured.activation_bytes <= ours.activation_bytes <= 2 * measured.activation_bytes
    whole = space_of(name).arch_space.decided(lambda decision: decision.options[0])
    measured = cost_of(freeze(net, whole), example)
    assert table.cost(whole).activation_bytes == measured.activation_bytes


@every_family
def test_products_are_those_that_pytorch_counts(name: str) -> None:
    net, table, example = table_of(name)
    for arch in drawn(name):
        plain = freeze(net, arch).eval()
        apart = sdpa_kernel(SDPBackend.MATH)  # the fused one of the CPU is none that it counts
        with torch.no_grad(), apart, FlopCounterMode(display=False) as counter:
            call(plain, example)
        assert table.cost(arch).macs == counter.get_total_flops() / 2


@every_family
def test_terms_add_up_and_ends_are_the_least_and_the_most(name: str) -> None:
    _, table, _ = table_of(name)
    space = space_of(name).arch_space
    for metric in ("macs", "params", "kv_cache_bytes"):
        terms = table.terms(metric)
        assert terms is not None
        for arch in drawn(name):
            total = sum(
                term.amount
                for term in terms
                if all(f.label in arch and f.holds(arch[f.label]) for f in term.path)
            )
            assert total == table.cost(arch).as_metrics().get(metric, 0.0)
    costs = [table.cost(space.sample(np.random.default_rng(seed))).macs for seed in range(30)]
    least, most = (cost_bound(space, table, "macs", goal) for goal in ("min", "max"))
    assert least.exact
    assert most.exact
    assert least.value <= min(costs) <= max(costs) <= most.value


@pytest.mark.parametrize("name", ["mobilenet", "llama"])
def test_expectations_are_means_over_architectures(name: str) -> None:
    """Sure picks cost what they cost, and an even choice the mean of its options."""
    _, table, _ = table_of(name)
    space = space_of(name).arch_space
    decisions = space.decisions
    arch = space.sample(np.random.default_rng(3))

    def sure(taken: raynas.core.arch.Arch) -> dict[str, Tensor]:
        vectors = {}
        for label, decision in decisions.items():
            at = decision.options.index(taken.get(label, decision.options[0]))
            vectors[label] = torch.eye(len(decision.options), dtype=torch.float64)[at]
        return vectors

    assert float(table.expected(sure(arch))) == table.cost(arch).macs
    label = next(label for label in arch if not label.endswith(".depth"))
    options = decisions[label].options
    even = sure(arch)
    even[label] = torch.full((len(options),), 1 / len(options), dtype=torch.float64)
    even[label].requires_grad_()
    expected = table.expected(even)
    costs = [table.cost({**arch, label: option}).macs for option in options]
    assert expected.item() == pytest.approx(float(np.mean(costs)), rel=1e-12)
    expected.backward()
    gradient = even[label].grad
    assert gradient is not None
    rises = gradient.numpy() - float(gradient[0])  # what does not depend on the label has no part
    assert rises == pytest.approx(np.array(costs, dtype=float) - costs[0], rel=1e-12)


@pytest.mark.parametrize("name", ["llama", "gpt2", pytest.param("llama_eager", marks=full)])
def test_the_cache_of_a_token_is_as_large_as_it_is(name: str) -> None:
    net, table, example = table_of(name)
    for arch in drawn(name):
        plain: Any = freeze(net, arch)
        with torch.no_grad():
            kept = plain(**example, use_cache=True).past_key_values
        layers = [layer for layer in kept.layers if getattr(layer, "keys", None) is not None]
        real = sum(t.nbytes for layer in layers for t in (layer.keys, layer.values))
        assert table.cost(arch).kv_cache_bytes == real / example["input_ids"].shape[1]


@pytest.mark.parametrize(
    "name", ["mobilenet", *(pytest.param(name, marks=full) for name in ("vit", "bert"))]
)
def test_what_sees_all_words_at_once_has_no_cache(name: str) -> None:
    _, table, _ = table_of(name)
    assert all("kv_cache_bytes" not in table.cost(arch).as_metrics() for arch in drawn(name))


def test_half_precision_halves_the_cache() -> None:
    _, table, example = table_of("llama")
    halved = CostTable(space_of("llama").supernet().eval().to(torch.bfloat16), example)
    arch = next(drawn("llama"))
    whole = table.cost(arch).kv_cache_bytes
    assert whole == 2 * 2 * 4 * 4 * 4  # layers, keys and values, groups, channels, bytes
    assert halved.cost(arch).kv_cache_bytes == whole / 2


def test_other_inputs_than_those_of_the_conversion_cost_other_amounts() -> None:
    net, _, _ = table_of("mobilenet")
    table = CostTable(net, images(48))
    assert table.exact_per_arch is None
    for arch in drawn("mobilenet"):
        measured = cost_of(freeze(net, arch), images(48))
        assert (table.cost(arch).params, table.cost(arch).macs) == (measured.params, measured.macs)


class Shared(nn.Module):
    """One weight in a layer that may be left out and in one that stays; one layer in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8))
        self.again = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8))
        self.again[0].weight = self.inside[0].weight
        self.inner = nn.Sequential(self.inside[0], nn.Tanh(), nn.Linear(12, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.inside(x)
        x = x + self.again(x)
        y: Tensor = self.head(x + self.inner(x))
        return y


def test_what_is_shared_counts_while_one_of_its_holders_is_there() -> None:
    torch.manual_seed(0)
    example = torch.randn(2, 8)
    space = raynas.elastic(Shared().eval(), example, width=0.5, ffn=0.5, depth=True)
    net = space.supernet().eval()
    table = CostTable(net, example[:1])
    assert table.exact_per_arch is None
    assert {"again.depth", "inner.depth"} < space.arch_space.decisions.keys()
    for arch in space.arch_space:
        measured = cost_of(freeze(net, arch), example[:1])
        assert (table.cost(arch).params, table.cost(arch).macs) == (measured.params, measured.macs)


class Recurrent(nn.Module):
    """A product that the trace does not know beside one that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 4)
        self.mix = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu())
        return torch.einsum("nc,cd->nd", y, self.mix)


def test_what_cannot_be_counted_is_measured() -> None:
    torch.manual_seed(0)
    example = torch.randn(2, 6)
    space = raynas.elastic(Recurrent().eval(), example, width=0.5)
    net = space.supernet().eval()
    table: Additive = CostTable(net, example[:1])
    assert isinstance(table, CostTable)
    assert table.exact_per_arch is not None
    assert table.exact_per_arch.startswith("of 96 multiply-accumulates, 80 have channels")
    assert table.terms("macs") is None
    for arch in space.arch_space:
        measured = cost_of(freeze(net, arch), example[:1])
        assert table.cost(arch) == measured
