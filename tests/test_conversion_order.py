"""Units of a converted model are put in the order of their importance; the whole stays equal."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import raynas
from raynas.nn.conversion.elastic_model import ElasticModel
from raynas.nn.conversion.laws import outputs
from raynas.nn.conversion.ordering import unit_groups


def images(side: int = 32, seed: int = 1) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed)).double()


def gpt2() -> tuple[nn.Module, Any]:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=40, n_positions=16, n_embd=24, n_layer=2, n_head=4, use_cache=False
    )
    tokens = torch.randint(0, 40, (2, 12), generator=torch.Generator().manual_seed(2))
    return transformers.GPT2LMHeadModel(config), {"input_ids": tokens}


def llama() -> tuple[nn.Module, Any]:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        use_cache=False,
    )
    tokens = torch.randint(0, 40, (2, 12), generator=torch.Generator().manual_seed(2))
    return transformers.LlamaForCausalLM(config), {"input_ids": tokens}


def vit() -> tuple[nn.Module, Any]:
    timm = pytest.importorskip("timm")
    made = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 4}
    return timm.create_model("vit_tiny_patch16_224", num_classes=5, **made), images()


def vision(name: str) -> Callable[[], tuple[nn.Module, Any]]:
    def build() -> tuple[nn.Module, Any]:
        return torchvision.models.get_model(name, num_classes=5), images()

    return build


FAMILIES = {
    "resnet18": vision("resnet18"),
    "mobilenet_v3_small": vision("mobilenet_v3_small"),
    "shufflenet_v2_x0_5": vision("shufflenet_v2_x0_5"),
    "densenet": lambda: (torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5), images()),
    "vit": vit,
    "gpt2": gpt2,
    "llama": llama,
}


def batches(example: Any) -> list[Any]:
    """Return two batches of inputs such as the example."""
    if isinstance(example, Tensor):
        return [example, example.flip(0) * 0.5]
    return [example, {name: tokens.flip(1) for name, tokens in example.items()}]


QUICK = ("densenet", "vit")  # the others take seconds
CASES = [f if f in QUICK else pytest.param(f, marks=pytest.mark.full) for f in FAMILIES]


@pytest.mark.parametrize("family", CASES)
@torch.no_grad()
def test_sorting_leaves_what_the_whole_computes(family: str) -> None:
    torch.manual_seed(0)
    model, example = FAMILIES[family]()
    model = model.double().eval()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.dim() == 1 and tensor.is_floating_point() and "inv_freq" not in name:
            tensor.copy_(torch.rand(len(tensor)) + 0.5)  # norms that matter, in every place
    space = raynas.elastic(model, example, width=[0.5], heads=[0.5])
    before, expected = copy.deepcopy(model.state_dict()), outputs(model, example)
    for order, given in (("l1", None), ("activation", batches(example))):
        net = space.sorted(order, batches=given).supernet().eval()
        for ours, theirs in zip(outputs(net, example), expected, strict=True):
            scale = float(theirs.abs().max())
            # Llama's norms are of float32 in every precision of the model
            rounding = 1e-6 if family == "llama" else 1e-9
            assert float((ours - theirs).abs().max()) <= rounding * max(scale, 1.0)
        state = net.state_dict()
        moved = {name for name, weight in before.items() if not weight.equal(state[name])}
        axes = space.plan.axes.values()
        assert len(moved & {name for axis in axes for name, _ in axis.places}) > len(axes)
        if order == "l1":
            assert isinstance(net, ElasticModel)
            for group in unit_groups(net):
                importance = group.importance()
                assert importance is not None
                falls = importance.sort(descending=True).values
                torch.testing.assert_close(importance, falls, rtol=1e-12, atol=0)
    assert all(weight.equal(before[name]) for name, weight in model.state_dict().items())


class Planted(nn.Module):
    """Two axes, one under a LayerNorm, of which some channels do nearly all of the work."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, 3)."""
        x = self.second(self.norm(self.first(x)))
        logits: Tensor = self.last(torch.relu(x))
        return logits


KEEP = {"first.ffn": [2, 5, 7], "second.ffn": [1, 3, 6]}


@pytest.fixture
def planted() -> Planted:
    torch.manual_seed(0)
    net = Planted()
    with torch.no_grad():
        for weight, dim, label in (
            (net.first.weight, 0, "first.ffn"),
            (net.second.weight, 1, "first.ffn"),
            (net.second.weight, 0, "second.ffn"),
            (net.last.weight, 1, "second.ffn"),
            (net.norm.weight, 0, "first.ffn"),
        ):
            weak = torch.tensor([at for at in range(8) if at not in KEEP[label]])
            weight.index_fill_(dim, weak, 0.0)
            weight += 1e-3 * torch.randn(weight.shape)
        net.second.bias.zero_()
    return net.double()


@pytest.mark.parametrize("order", ["l1", "activation", "gradient"])
def test_planted_channels_come_first_also_under_a_norm(planted: Planted, order: str) -> None:
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(64, 6, generator=rng, dtype=torch.float64)
    pairs = [(part, torch.arange(len(part)) % 3) for part in x.split(16)]
    measured: dict[str, dict[str, Any]] = {
        "l1": {},
        "activation": {"batches": [part for part, _ in pairs]},
        "gradient": {"batches": pairs, "loss": cross_entropy},
    }
    given = measured[order]
    made: dict[str, Any] = {"width": [3 / 8], "order": order, **given}
    net = raynas.elastic(planted, x, **made).supernet().eval()
    assert isinstance(net, ElasticModel)
    axes = {group.axis.label: group.axis for group in unit_groups(net)}
    assert {label: axis.statistic for label, axis in axes.items()} == {
        "first.ffn": True,
        "second.ffn": False,
    }
    first, last = dict(net.named_parameters())["first.weight"], net.state_dict()["last.weight"]
    found = {tuple(row.tolist()) for row in first[:3]}
    assert found == {tuple(row.tolist()) for row in planted.first.weight[KEEP["first.ffn"]]}
    columns = {tuple(column.tolist()) for column in last[:, :3].T}
    assert columns == {tuple(c.tolist()) for c in planted.last.weight.T[KEEP["second.ffn"]]}
    raynas.nn.activate(net, {"first.ffn": 8, "second.ffn": 3})
    torch.testing.assert_close(net(x), planted(x), rtol=0, atol=0.02)


def test_gradients_of_the_model_are_left_as_they_were(planted: Planted) -> None:
    planted.first.bias.requires_grad_(False)
    x = torch.randn(4, 6, dtype=torch.float64)
    space = raynas.elastic(planted, x, width=[0.5])
    space = space.sorted("gradient", batches=[(x, torch.zeros(4).long())], loss=cross_entropy)
    net = space.supernet()
    assert all(weight.grad is None for weight in net.parameters())
    frozen = [name for name, weight in net.named_parameters() if not weight.requires_grad]
    assert frozen == ["first.bias"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"order": "l2"}, "order: no order is named 'l2'; known: activation, gradient, l1"),
        ({"order": "l1", "batches": []}, "the order 'l1' looks at weights alone"),
        ({"order": "activation"}, "the order 'activation' is measured on batches of inputs"),
        ({"order": "activation", "batches": []}, "expected at least one batch of inputs, got none"),
        (
            {"order": "gradient", "batches": [torch.zeros(2, 6)]},
            "needs pairs of inputs and targets",
        ),
        (
            {"order": "gradient", "batches": [(torch.zeros(2, 6), None)]},
            r"loss: .* needs a function of \(outputs, targets\)",
        ),
        ({"order": "l1", "loss": cross_entropy}, "the order 'l1' has no use for a loss"),
        ({"batches": []}, "batches and loss are for an order"),
    ],
)
def test_orders_that_cannot_be_are_refused(given: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        raynas.elastic(Planted(), torch.zeros(2, 6), width=[0.5], **given)
