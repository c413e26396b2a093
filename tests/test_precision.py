"""bfloat16 and memory layout: what is computed how, and that all who train take the settings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import raynas
from raynas.algorithms.darts import DARTS
from raynas.algorithms.spos import SPOS
from raynas.core.config import validated
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.evaluators import Standalone
from raynas.gradient.base import gradients
from raynas.gradient.mixed.base import gated
from raynas.gradient.mixed.binary_gate import BinaryGate, Mode
from raynas.gradient.unrolled import unrolled_gradients
from raynas.nn import LayerChoice
from raynas.setup.algorithms import resolve_one_shot
from raynas.supernet.network_training import NetworkTraining
from raynas.supernet.precision import PrecisionPolicy
from raynas.supernet.protocol import OneShot
from raynas.supernet.training import SupernetTraining

BF16 = TrainSettings(precision="bfloat16")
CPU = torch.device("cpu")


def conv(kernel: int, width: int = 4) -> nn.Module:
    layer = nn.Conv2d(width, width, kernel, padding=kernel // 2)
    return nn.Sequential(layer, nn.BatchNorm2d(width), nn.ReLU())


def convnet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4, affine=False))
    choices = [LayerChoice([conv(1), conv(3), nn.Identity()]) for _ in range(2)]
    return nn.Sequential(stem, *choices, nn.Flatten(), nn.Linear(64, 3))


def images(count: int = 24) -> TensorData:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(2 * count, 1, 4, 4, generator=rng), torch.arange(2 * count) % 3
    x += y[:, None, None, None]
    return TensorData((TensorDataset(x[:count], y[:count]), TensorDataset(x[count:], y[count:])))


def training(algo: OneShot, net: nn.Module | None = None, **settings: Any) -> SupernetTraining:
    chosen = TrainSettings(**{"epochs": 3, "batch_size": 8, **settings})
    return SupernetTraining(net or convnet(), algo, images(), chosen)


def watched(net: nn.Module) -> list[torch.dtype]:
    """Return the dtypes of the outputs of convolutions that train, as they come."""
    seen: list[torch.dtype] = []

    def look(layer: nn.Module, _inputs: object, out: Tensor) -> None:
        if layer.training:
            seen.append(out.dtype)

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(look)
    return seen


# --- bfloat16 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [SPOS, DARTS, lambda: DARTS(unrolled=True)], ids=["spos", "darts", "unrolled"]
)
def test_convolutions_are_in_bfloat16_and_all_that_is_kept_in_float32(make: Any) -> None:
    run = training(make(), precision="bfloat16")
    seen = watched(run.model)
    row = run.run_epoch()
    assert torch.bfloat16 in seen
    # the product with the Hessian is of differences that bfloat16 would round away
    expected = {torch.bfloat16, torch.float32} if getattr(run._algo, "unrolled", 0) else {seen[0]}
    assert set(seen) == expected
    assert all(t.dtype == torch.float32 for t in run.model.parameters())
    grads = [p.grad for p in run.model.parameters() if p.grad is not None]
    assert {g.dtype for g in grads} == {torch.float32}
    batch = images().load().train
    assert run.loss(batch).dtype == torch.float32
    relaxation: Any = getattr(run._algo, "relaxation", None)
    if relaxation is not None:
        assert {v.dtype for v in relaxation.vectors.values()} == {torch.float32}
    plain = training(make())
    expected_loss = plain.run_epoch()["loss"]
    assert row["loss"] == pytest.approx(expected_loss, rel=0.02)
    assert row["loss"] != expected_loss


def test_scores_are_of_float32_passes() -> None:
    run = training(SPOS(), precision="bfloat16")
    arch = run._space.sample(np.random.default_rng(0))
    expected = training(SPOS())._scorer.score(arch)
    assert run._scorer.score(arch) == expected


def alpha_gradients(precision: str, unrolled: bool) -> Tensor:
    algo = DARTS()
    run = training(algo, precision=precision, label_smoothing=0.0, lr=0.1)
    run.model.train()
    for label, vector in algo.relaxation.vectors.items():
        rng = torch.Generator().manual_seed(len(label))
        vector.data = torch.randn(vector.shape, generator=rng)
    splits = images().load()
    train, valid = splits.train, splits.valid
    if unrolled:
        return torch.cat(unrolled_gradients(algo, train, valid, algo.alphas)[1])
    return torch.cat(gradients(run.loss(valid, smoothing=0.0), algo.alphas))


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_the_logits_gradients_are_those_of_float32() -> None:
    """Also the second-order part, which shifted weights in bfloat16 would turn into noise."""
    first, second = (alpha_gradients("float32", unrolled) for unrolled in (False, True))
    rounded, unrolled = (alpha_gradients("bfloat16", u) for u in (False, True))
    assert 0.0 < far(rounded, first) < 0.05
    assert 0.0 < far(unrolled, second) < 0.1
    assert far(first, second) > 0.2  # so that the second-order part is seen at all


class Tied(nn.Module):
    """A choice whose first two candidates share a weight, one of which runs without gradients."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.Linear(6, 6)
        self.layers = nn.ModuleList([nn.Sequential(layer), nn.Sequential(layer, nn.Tanh())])
        self.head = nn.Linear(6, 3)


def gate_gradients(mode: Mode, settings: TrainSettings, at: int) -> list[Tensor]:
    """Gradients of inputs, logits and weights where candidate ``at`` of two was drawn."""
    torch.manual_seed(0)
    net, gate = Tied(), BinaryGate(mode)
    x, logits = torch.randn(16, 6, requires_grad=True), torch.tensor([0.3, -0.2]).requires_grad_()

    def run(x: Tensor) -> Tensor:
        # the candidate without gradients comes first
        with torch.no_grad():
            net.layers[1 - at](x)
        out: Tensor = net.head(gate(list(net.layers), [x.relu()], logits, (at, 1 - at)))
        return out

    loss = nn.functional.cross_entropy(
        PrecisionPolicy(settings, CPU).run(run, x), torch.arange(16) % 3
    )
    return list(torch.autograd.grad(loss, [x, logits, *net.parameters()]))


@pytest.mark.parametrize("mode", ["two", "full", "full_v2"])
@pytest.mark.parametrize("at", [0, 1])
def test_binary_gates_go_with_bfloat16(mode: Mode, at: int) -> None:
    """Whatever is computed in the backward pass, and weights used without gradients before."""
    exact = gate_gradients(mode, TrainSettings(), at)
    found = gate_gradients(mode, BF16, at)
    for a, b in zip(found, exact, strict=True):
        assert a.dtype == b.dtype == torch.float32
        assert far(a, b) < 0.05
    for a, b in zip(found, gate_gradients("full", BF16, at), strict=True):
        assert torch.equal(a, b)


def test_the_gradient_of_a_gate_is_summed_in_float32() -> None:
    """Summed in bfloat16, 4,000 ones would be 256 or the like; the total would be rounded."""
    y = torch.ones(4001, dtype=torch.bfloat16, requires_grad=True)
    gate = torch.ones((), requires_grad=True)
    gated(y, gate).sum(dtype=torch.float32).backward()
    assert gate.grad is not None
    assert gate.grad.item() == 4001.0


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("channels_last", [True, False])
def test_dilated_convolutions_learn_in_bfloat16(groups: int, channels_last: bool) -> None:
    """PyTorch's own gradient may be wrong by orders of magnitude (see ``supernet.dilated``)."""
    settings = TrainSettings(precision="bfloat16", channels_last=channels_last)
    passes = PrecisionPolicy(settings, CPU)
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=groups)
    x = passes.laid_out(torch.randn(4, 4, 32, 32))
    layer = passes.placed(conv, x)
    seen: list[torch.dtype] = []
    layer.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    found, exact = (
        torch.autograd.grad(one.run(layer, x).square().mean(), list(layer.parameters()))
        for one in (passes, PrecisionPolicy(TrainSettings(channels_last=channels_last), CPU))
    )
    assert seen == [torch.bfloat16, torch.float32]
    for a, b in zip(found, exact, strict=True):
        assert far(a, b) < 0.02


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_going_on_equals_never_stopping(precision: str, channels_last: bool) -> None:
    settings: dict[str, Any] = {"precision": precision, "channels_last": channels_last}
    straight = training(DARTS(alpha_lr=0.1), **settings)
    straight.run_epoch()
    file = io.BytesIO()
    torch.save((straight.model.state_dict(), straight.state_dict()), file)
    straight.run_epoch()
    file.seek(0)
    weights, state = torch.load(file)
    again = training(DARTS(alpha_lr=0.1), convnet(7), **settings)
    again.model.load_state_dict(weights)
    again.load_state_dict(state)
    again.run_epoch()
    ours, theirs = again.model.state_dict(), straight.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# --- memory layout --------------------------------------------------------------------------------


@pytest.mark.parametrize("channels_last", [True, False])
def test_weights_and_images_are_laid_out_as_asked(channels_last: bool) -> None:
    run = training(SPOS(), channels_last=channels_last)
    wide = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.LazyLinear(3))
    wide(torch.zeros(1, 3, 8, 8))

    class Shifted(TensorData):
        def augment(self, x: Tensor, rng: torch.Generator) -> Tensor:
            return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)

    rng = torch.Generator().manual_seed(0)
    half = TensorDataset(torch.randn(16, 3, 8, 8, generator=rng), torch.arange(16) % 3)
    settings = TrainSettings(epochs=1, batch_size=8, channels_last=channels_last)
    alone = NetworkTraining(wide, Shifted((half, half)), settings)
    seen: list[Tensor] = []
    for net in (run.model, wide):
        net.register_forward_pre_hook(lambda _net, inputs: seen.append(inputs[0]))
    run.run_epoch()
    alone.run_epoch()
    assert len(seen) > 3
    layout = torch.channels_last if channels_last else torch.contiguous_format
    own: Sequence[Tensor] = [*run.model.parameters(), *wide.parameters()]
    assert all(t.is_contiguous(memory_format=layout) for t in [*seen, *own] if t.dim() == 4)
    assert alone.model[0].weight.is_contiguous() != channels_last  # type: ignore[index]


def test_the_layout_changes_nothing_but_rounding() -> None:
    rows = [training(SPOS(), channels_last=last).run_epoch() for last in (True, False)]
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-4)


# --- who takes the settings -----------------------------------------------------------------------

OPTIONS = {"precision": "bfloat16", "channels_last": False, "sync_batch_norm": True}


def test_every_way_of_training_takes_them() -> None:
    for algo in ("spos", "darts", DARTS()):
        _, settings = resolve_one_shot(algo, OPTIONS, None)
        assert {name: getattr(settings, name) for name in OPTIONS} == OPTIONS
    alone = Standalone(precision="bfloat16", channels_last=False, sync_batch_norm=True)
    assert {name: getattr(alone.settings, name) for name in OPTIONS} == OPTIONS


def test_a_network_is_trained_alone_in_bfloat16_and_validated_in_float32() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    seen: list[tuple[bool, torch.dtype]] = []
    net[0].register_forward_hook(lambda m, _i, out: seen.append((m.training, out.dtype)))
    evaluator = Standalone(epochs=3, batch_size=8, lr=0.1, precision="bfloat16")
    rows = list(evaluator.train_epochs(net, images(), seed=0))
    assert set(seen) == {(True, torch.bfloat16), (False, torch.float32)}
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["accuracy"] > 0.5  # of three classes


@pytest.mark.parametrize("name", ["fp16", "bf16", "half", ""])
def test_other_precisions_are_refused(name: str) -> None:
    expected = f"precision: input should be 'float32', 'bfloat16' or 'float16', got {name!r}"
    with pytest.raises(ValueError, match=expected):
        validated(TrainSettings, {"precision": name})
    with pytest.raises(ValueError, match=expected):
        resolve_one_shot("spos", {"precision": name}, None)
    with pytest.raises(ValueError, match=expected):
        Standalone(precision=name)


def test_descriptions_list_them() -> None:
    for name, lr in (("spos", 0.05), ("darts", 0.025)):
        text = raynas.describe(name)
        assert "precision = 'float32'" in text
        assert "sync_batch_norm = False" in text
        assert f"\n  lr = {lr}\n" in text
    assert "precision = 'float32'" in raynas.describe("standalone")
    assert "precision" not in raynas.describe("random")


def test_float16_needs_a_gpu_and_says_so_before_the_first_step() -> None:
    with pytest.raises(ValueError, match="precision float16 needs a GPU; on a CPU use float32"):
        training(SPOS(), precision="float16")
