"""BatchNorm statistics for a sub-network: exact, read-only, and of the calibration rows alone."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from raynas.nn import LayerChoice, activate, freeze, space_of
from raynas.supernet.calibration import (
    CalibratedBatchNorm,
    Calibration,
    NeedsOwnPasses,
    calibrated,
    recalibrate,
)
from raynas.supernet.scoring import SubnetScorer
from tests.toynet import ToyNet

Layer = Callable[[], nn.Module]


class Twice(nn.Module):
    """Calls one BatchNorm twice, on different inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(functional.relu(self.norm(x))))
        return y


def repeated() -> nn.Module:
    """One BatchNorm under two names of one parent."""
    norm = nn.BatchNorm2d(3)
    return nn.Sequential(nn.Conv2d(3, 3, 1), norm, nn.ReLU(), nn.Conv2d(3, 3, 3), norm)


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(4, 6, 3, 2), nn.BatchNorm2d(6, affine=False), nn.ReLU()),
        nn.Dropout(0.5),
        nn.Conv2d(6, 6, 3, groups=2, bias=False),
        nn.BatchNorm2d(6, eps=1e-2),
    )


NETS: dict[str, tuple[Layer, tuple[int, ...]]] = {
    "conv": (convnet, (3, 9, 9)),
    "rows": (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh()), (5,)),
    "series": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4)), (2, 9)),
    "volume": (lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2)), (1, 4, 5, 6)),
    "stateless": (lambda: nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False)), (5,)),
}
SEVERAL = {"twice": (Twice, (3, 5, 5)), "repeated": (repeated, (3, 6, 6))}
every_net = pytest.mark.parametrize(("make", "shape"), NETS.values(), ids=NETS)
every_repeating_net = pytest.mark.parametrize(("make", "shape"), SEVERAL.values(), ids=SEVERAL)


def build(make: Layer) -> nn.Module:
    """A float64 net whose BatchNorm weights and statistics are not 1 and 0."""
    torch.manual_seed(0)
    net = make().double()
    for norm in norms(net):
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            if tensor is not None:
                nn.init.normal_(tensor)
        if norm.running_var is not None:
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return net.eval()


def norms(net: nn.Module) -> list[_BatchNorm]:
    return [m for m in net.modules() if isinstance(m, _BatchNorm)]


def rows(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn((count, *shape), generator=rng, dtype=torch.float64) * 2 + 1


@contextmanager
def normed(net: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what every BatchNorm call gives."""
    seen: list[Tensor] = []

    def note(_module: nn.Module, _inputs: object, out: Tensor) -> None:
        seen.append(out)

    kinds = (_BatchNorm, CalibratedBatchNorm)
    hooks = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        yield seen
    for hook in hooks:
        hook.remove()


def reference(net: nn.Module, calibration: Tensor, x: Tensor) -> list[Tensor]:
    """Every BatchNorm call's result on ``x``, normalised as training mode does ``calibration``."""
    net, moments = copy.deepcopy(net), list[tuple[Tensor, Tensor]]()

    def measure(_norm: nn.Module, inputs: tuple[Tensor]) -> None:
        dims = [d for d in range(inputs[0].dim()) if d != 1]
        moments.append((inputs[0].mean(dims), inputs[0].var(dims, correction=0)))

    def normalise(norm: nn.Module, inputs: tuple[Tensor], _out: Tensor) -> Tensor:
        assert isinstance(norm, _BatchNorm)
        mean, var = moments.pop(0)
        sizes = [1, -1] + [1] * (inputs[0].dim() - 2)
        y = (inputs[0] - mean.view(sizes)) / (var.view(sizes) + norm.eps).sqrt()
        return y if norm.weight is None else y * norm.weight.view(sizes) + norm.bias.view(sizes)

    hooks = [norm.train().register_forward_pre_hook(measure) for norm in norms(net)]
    net(calibration)
    for hook in hooks:
        hook.remove()
    for norm in norms(net):
        norm.register_forward_hook(normalise)
    with normed(net) as seen:
        net(x)
    assert not moments
    return seen


def checksum(net: nn.Module) -> str:
    state = hashlib.sha256()
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        state.update(name.encode() + tensor.detach().numpy().tobytes())
    return state.hexdigest()


@every_net
def test_the_fused_pass_has_exact_statistics_in_every_layer(
    make: Layer, shape: tuple[int, ...]
) -> None:
    net, calibration, x = build(make), rows(20, shape), rows(7, shape, 1)
    expected = reference(net, calibration, torch.cat([calibration, x]))
    control = calibrated(net)
    assert not norms(net)
    control.begin(20)
    with normed(net) as seen:
        net(torch.cat([calibration, x]))
    assert len(seen) == len(expected) == len(control.moments)
    for ours, exact in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours, exact, rtol=0, atol=1e-10)


@every_net
def test_training_mode_gives_the_calibration_rows_the_same(
    make: Layer, shape: tuple[int, ...]
) -> None:
    """The statistics are those of torch's own training mode, not only of our formula above."""
    net, calibration = build(make), rows(20, shape)
    trained = copy.deepcopy(net)
    for norm in norms(trained):
        norm.train()
    with normed(trained) as expected:
        trained(calibration)
    control = calibrated(net)
    control.begin(20)
    with normed(net) as seen:
        net(torch.cat([calibration, rows(7, shape, 1)]))
    for ours, exact in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours[:20], exact, rtol=0, atol=1e-10)


@every_net
def test_statistics_do_not_depend_on_the_other_rows(make: Layer, shape: tuple[int, ...]) -> None:
    net, calibration = build(make), rows(20, shape)
    control, found = calibrated(net), []
    for others in (rows(7, shape, 1), 1e3 * rows(9, shape, 2), rows(0, shape)):
        control.begin(20)
        with torch.no_grad():
            net(torch.cat([calibration, others]))
        found.append(list(control.moments.values()))
    for other in found[1:]:
        for first, second in zip(found[0], other, strict=True):
            torch.testing.assert_close(first, second, rtol=0, atol=1e-12)


@every_net
def test_rows_in_later_passes_are_scored_as_in_one(make: Layer, shape: tuple[int, ...]) -> None:
    net, calibration, x = build(make), rows(20, shape), rows(30, shape, 1)
    control = calibrated(net)
    control.begin(20)
    with torch.no_grad():
        whole = net(torch.cat([calibration, x]))[20:]
        control.begin(20)
        parts = [net(torch.cat([calibration, x[:3]]))[20:]]
        for chunk in (x[3:4], x[4:]):
            control.begin(0)
            parts.append(net(chunk))
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)


def test_the_control_keeps_one_pair_for_each_norm() -> None:
    control, norm = Calibration(), nn.BatchNorm1d(1)
    control.begin(2)
    first = control.of(norm, torch.tensor([[1.0], [3.0], [100.0]]))
    assert [t.item() for t in first] == [2.0, 1.0]
    control.begin(0)
    assert control.of(norm, torch.tensor([[7.0]])) is first
    assert control.of(norm, torch.tensor([[8.0]])) is first
    control.begin(2)
    control.of(norm, torch.tensor([[7.0]]))
    with pytest.raises(NeedsOwnPasses):
        control.of(norm, torch.tensor([[7.0]]))


@every_repeating_net
def test_a_norm_that_runs_twice_is_not_calibrated_in_passing(
    make: Layer, shape: tuple[int, ...]
) -> None:
    net = build(make)
    control = calibrated(net)
    control.begin(20)
    with pytest.raises(NeedsOwnPasses), torch.no_grad():
        net(torch.cat([rows(20, shape), rows(7, shape, 1)]))


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)


def normalised(x: Tensor, norm: nn.BatchNorm2d, mean: Tensor, var: Tensor) -> Tensor:
    weight, bias = norm.weight.view(-1, 1, 1), norm.bias.view(-1, 1, 1)
    return (x - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + norm.eps).sqrt() * weight + bias


@pytest.mark.parametrize("batch", [20, 7])
def test_a_norm_that_runs_twice_has_one_pair_over_both_calls(batch: int) -> None:
    """By hand: the mean and variance of all that it sees, each call normalised by its own."""
    net, images = build(Twice), rows(20, (3, 5, 5))
    norm, conv = net.norm, net.conv
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(conv, nn.Conv2d)
    means, variances = [], []
    with torch.no_grad():
        for part in images.chunk(math.ceil(20 / batch)):
            inner = conv(functional.relu(normalised(part, norm, *moments(part))))
            both = torch.cat([part, inner])
            means.append(len(part) * both.mean((0, 2, 3)))
            variances.append(len(part) * both.var((0, 2, 3), correction=0))
    recalibrate(net, images, batch)
    torch.testing.assert_close(norm.running_mean, sum(means) / 20, rtol=0, atol=1e-10)
    torch.testing.assert_close(norm.running_var, sum(variances) / 20, rtol=0, atol=1e-10)


def test_other_norms_are_calibrated_with_the_shared_pair_in_place() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Twice(), nn.BatchNorm2d(3)).double()
    images = rows(20, (3, 5, 5))
    recalibrate(net, images)
    with torch.no_grad():
        mean, var = moments(net[0].eval()(images))
    torch.testing.assert_close(net.get_buffer("1.running_mean"), mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(net.get_buffer("1.running_var"), var, rtol=0, atol=1e-10)


def test_replaced_norms_share_their_weights() -> None:
    net = build(convnet)
    pointers = [p.data_ptr() for p in net.parameters()]
    calibrated(net)
    assert [p.data_ptr() for p in net.parameters()] == pointers


@every_net
def test_recalibrating_on_one_batch_gives_its_exact_statistics(
    make: Layer, shape: tuple[int, ...]
) -> None:
    net, images, x = build(make), rows(20, shape), rows(7, shape, 1)
    if any(norm.running_mean is None for norm in norms(net)):
        x = images  # it has no buffers: in evaluation it normalises by what it gets
    expected = reference(net, images, x)
    recalibrate(net, images, 20)
    with normed(net) as seen:
        net(x)
    for ours, exact in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours, exact, rtol=0, atol=1e-10)


def test_several_batches_are_averaged_by_their_images() -> None:
    images = rows(10, (5,))
    net = nn.Sequential(nn.BatchNorm1d(5)).double()
    recalibrate(net, images, 4)
    parts = images.chunk(3)
    assert [len(part) for part in parts] == [4, 4, 2]
    mean = sum(len(part) * part.mean(0) for part in parts) / 10
    var = sum(len(part) * part.var(0, correction=0) for part in parts) / 10
    torch.testing.assert_close(net.get_buffer("0.running_mean"), mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(net.get_buffer("0.running_var"), var, rtol=0, atol=1e-12)


def test_no_lone_row_is_left_for_the_last_batch() -> None:
    images = rows(9, (5,))
    net = nn.Sequential(nn.BatchNorm1d(5)).double()
    recalibrate(net, images, 4)  # training mode refuses one row: 4 + 4 + 1 would raise
    torch.testing.assert_close(net.get_buffer("0.running_mean"), images.mean(0))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_recalibrating_keeps_modes_momentum_and_weights(momentum: float | None) -> None:
    net = build(convnet).train()
    first, second = norms(net)[:2]
    first.momentum = momentum
    second.eval()
    modes = [m.training for m in net.modules()]
    weights = [p.clone() for p in net.parameters()]
    rng = torch.get_rng_state()
    recalibrate(net, rows(8, (3, 9, 9)))
    assert [m.training for m in net.modules()] == modes
    assert [norm.momentum for norm in norms(net)] == [momentum, 0.1, 0.1]
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), weights, strict=True))
    assert torch.equal(torch.get_rng_state(), rng)  # dropout was off
    assert not any(m._forward_pre_hooks for m in net.modules())


def test_recalibrating_keeps_modes_when_the_model_fails() -> None:
    net = build(convnet).train()
    with pytest.raises(RuntimeError):
        recalibrate(net, rows(8, (4, 9, 9)))
    assert all(m.training for m in net.modules())
    assert [norm.momentum for norm in norms(net)] == [0.1] * 3
    assert not any(m._forward_pre_hooks for m in net.modules())


def test_it_is_no_moving_average() -> None:
    """After 8 batches a moving average still holds 0.9^8 = 43 % of its start, 0 and 1."""
    images = rows(16, (5,))
    moving, ours = (nn.Sequential(nn.BatchNorm1d(5)).double() for _ in range(2))
    for _ in range(8):
        moving(images)
    recalibrate(ours, images)
    exact = images.mean(0)
    kept = 1 - moving.get_buffer("0.running_mean") / exact
    torch.testing.assert_close(kept, torch.full_like(kept, 0.9**8), rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.get_buffer("0.running_mean"), exact, rtol=0, atol=1e-12)


def examples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn((count, 1, 6, 6), generator=rng), torch.randint(10, (count,), generator=rng)


TRAIN, VALID = examples(40, 0), examples(60, 1)


def supernet() -> ToyNet:
    torch.manual_seed(2)
    net = ToyNet()
    space_of(net)
    return net


ARCHS = [space_of(supernet()).sample(np.random.default_rng(seed)) for seed in range(5)]


def test_a_score_is_that_of_the_recalibrated_sub_network() -> None:
    net = supernet()
    scorer = SubnetScorer(net, TRAIN, VALID)
    for arch in ARCHS:
        plain = freeze(net, arch)
        recalibrate(plain, TRAIN[0])
        with torch.no_grad():
            logits = plain.eval()(VALID[0])
        score = scorer.score(arch)
        assert score["accuracy"] == (logits.argmax(1) == VALID[1]).double().mean().item()
        loss = functional.cross_entropy(logits, VALID[1]).item()
        assert math.isclose(score["loss"], loss, rel_tol=1e-5)
    assert len({scorer.score(arch)["loss"] for arch in ARCHS}) == len(set(ARCHS))


def test_scoring_writes_nothing() -> None:
    net = supernet().train()
    activate(net, ARCHS[0])
    before, modes = checksum(net), [m.training for m in net.modules()]
    scorer = SubnetScorer(net, TRAIN, VALID)
    for arch in ARCHS:
        scorer.score(arch)
    assert checksum(net) == before
    assert [m.training for m in net.modules()] == modes
    assert net.first.route == net.first.names.index(str(ARCHS[0]["first"]))
    assert len(norms(net)) == 8
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_scores_repeat_bit_for_bit_in_any_order() -> None:
    scorer = SubnetScorer(supernet(), TRAIN, VALID)
    first = [scorer.score(arch) for arch in ARCHS]
    assert [scorer.score(arch) for arch in ARCHS] == first
    assert [scorer.score(arch) for arch in reversed(ARCHS)] == first[::-1]
    assert [SubnetScorer(supernet(), TRAIN, VALID).score(arch) for arch in ARCHS] == first


def test_a_scorer_sees_the_weights_that_training_writes() -> None:
    net = supernet()
    scorer = SubnetScorer(net, TRAIN, VALID)
    before = scorer.score(ARCHS[0])
    activate(net, ARCHS[0])
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    functional.cross_entropy(net(TRAIN[0]), TRAIN[1]).backward()
    optimizer.step()
    after = scorer.score(ARCHS[0])
    assert after != before
    assert after == SubnetScorer(net, TRAIN, VALID).score(ARCHS[0])


def test_dropout_is_off() -> None:
    nets = nn.Sequential(supernet(), nn.Dropout(0.9)).train(), supernet().train()
    first, second = (SubnetScorer(net, TRAIN, VALID).score(ARCHS[0]) for net in nets)
    assert first == second


def test_a_search_may_be_attached_to_the_supernet() -> None:
    net, plain = supernet(), supernet()
    net.first.route = lambda ops, x: ops[0](x)
    scorer = SubnetScorer(net, TRAIN, VALID)
    assert scorer.score(ARCHS[0]) == SubnetScorer(plain, TRAIN, VALID).score(ARCHS[0])
    assert callable(net.first.route)


def test_many_validation_images_take_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SubnetScorer(supernet(), TRAIN, VALID)
    for size in (7, 41, 59):  # less than, about, and more than the calibration rows
        monkeypatch.setattr("raynas.supernet.scoring.ROWS", size)
        parts = SubnetScorer(supernet(), TRAIN, VALID)
        assert len(parts._passes) > len(whole._passes) == 1
        assert sum(map(len, parts._passes)) == 100
        for arch in ARCHS:
            first, second = whole.score(arch), parts.score(arch)
            assert first["accuracy"] == second["accuracy"]
            assert math.isclose(first["loss"], second["loss"], rel_tol=1e-5)


def test_the_images_are_limited_and_drawn_by_the_seed() -> None:
    few = [
        SubnetScorer(
            supernet(), TRAIN, VALID, calibration_images=9, validation_images=11, seed=seed
        )
        for seed in (0, 0, 1)
    ]
    assert [len(scorer._passes[0]) for scorer in few] == [20] * 3
    same, again, other = (scorer.score(ARCHS[0]) for scorer in few)
    assert same == again != other


def test_rows_of_numbers_are_scored_as_well() -> None:
    torch.manual_seed(0)
    head = LayerChoice({"narrow": nn.Linear(36, 10), "norm": nn.Sequential(nn.Linear(36, 10))})
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), head)
    space = space_of(net)
    flat = [(x.flatten(1), y) for x, y in (TRAIN, VALID)]
    scorers = SubnetScorer(net, TRAIN, VALID), SubnetScorer(net, flat[0], flat[1])
    for arch in space:
        first, second = (scorer.score(arch) for scorer in scorers)
        assert first["accuracy"] == second["accuracy"]
        assert math.isclose(first["loss"], second["loss"], rel_tol=1e-6)


class Scaled(nn.BatchNorm2d):
    """A BatchNorm with a computation of its own, as those of some libraries have an activation."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = functional.relu(super().forward(2 * x))
        return y


class Frozen(nn.BatchNorm2d):
    """Stays in evaluation mode."""

    def train(self, mode: bool = True) -> Frozen:
        super().train(False)
        return self


def hooked(channels: int) -> nn.Module:
    norm = nn.BatchNorm2d(channels)
    norm.register_forward_hook(lambda _, __, out: out * 3)
    return norm


class KeepsNorms(ToyNet):
    """Freezes all of its BatchNorms by a ``train`` of its own."""

    def train(self, mode: bool = True) -> KeepsNorms:
        super().train(mode)
        for norm in norms(self):
            norm.eval()
        return self


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "twice": nn.BatchNorm2d,
    "own": Scaled,
    "frozen": Frozen,
    "hooked": hooked,
    "untracked": lambda channels: nn.BatchNorm2d(channels, track_running_stats=False),
}


class Normed(nn.Module):
    """A choice between convolutions, and a norm of some kind that runs once or twice."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.choice = LayerChoice(
            {f"k{k}": nn.Conv2d(1, 4, k, padding=k // 2) for k in (1, 3)}, label="choice"
        )
        self.norm, self.twice = NORMS[kind](4), kind == "twice"
        self.inner, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 36, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(5 * self.choice(x) + 1)
        x = self.inner(x.relu())
        x = self.norm(x) if self.twice else x
        y: Tensor = self.head(self.last(x).flatten(1))
        return y


def losses(net: nn.Module) -> dict[str, tuple[float, float]]:
    """Return by architecture the score, and the loss of the network that is made of it."""
    scorer, losses = SubnetScorer(net, TRAIN, VALID), {}
    for arch in list(space_of(net))[:4]:
        plain = freeze(net, arch)
        recalibrate(plain, TRAIN[0])
        with torch.no_grad():
            loss = functional.cross_entropy(plain.eval()(VALID[0]), VALID[1]).item()
        losses[str(dict(arch))] = scorer.score(arch)["loss"], loss
    return losses


@pytest.mark.parametrize("kind", NORMS)
def test_any_norm_scores_as_the_network_that_is_made(kind: str) -> None:
    torch.manual_seed(0)
    net = Normed(kind)
    for norm in norms(net):
        if norm.running_mean is not None and norm.running_var is not None:
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    before = checksum(net)
    for score, loss in losses(net).values():
        assert math.isclose(score, loss, rel_tol=1e-5)
    assert checksum(net) == before


def test_norms_that_a_model_freezes_keep_their_statistics() -> None:
    torch.manual_seed(2)
    net = KeepsNorms()
    for norm in norms(net):
        nn.init.normal_(norm.running_mean)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    for arch in list(space_of(net))[:4]:
        scored = SubnetScorer(net, TRAIN, VALID).score(arch)["loss"]
        plain = freeze(net, arch).eval()
        with torch.no_grad():
            loss = functional.cross_entropy(plain(VALID[0]), VALID[1]).item()
        assert math.isclose(scored, loss, rel_tol=1e-5)
        recalibrate(plain, TRAIN[0])
        with torch.no_grad():
            assert functional.cross_entropy(plain(VALID[0]), VALID[1]).item() == loss


class Counts(nn.Module):
    """Its result depends on how often it has run, by a buffer, a tensor, or a number."""

    count: Tensor

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.number, self.kept = way, 1.0, torch.ones(())
        self.register_buffer("count", torch.ones(()))
        self.net = LayerChoice({"a": nn.Linear(36, 10), "b": nn.Linear(36, 10)}, label="net")

    def forward(self, x: Tensor) -> Tensor:
        match self.way:
            case "buffer":
                self.count += 1
            case "replaced":
                self.count = self.count + 1
            case "attribute":
                self.kept += 1
            case "number":
                self.number += 1
        y: Tensor = self.net(x.flatten(1)) * self.count * self.kept * self.number
        return y


@pytest.mark.parametrize("way", ["buffer", "replaced", "attribute", "number"])
def test_what_passes_count_is_followed_and_not_changed(way: str) -> None:
    torch.manual_seed(0)
    net = Counts(way)
    archs = list(space_of(net))
    scorer = SubnetScorer(net, TRAIN, VALID)

    def counted() -> list[float]:
        return [float(net.count), float(net.kept), net.number]

    before, first = counted(), [scorer.score(arch) for arch in archs]
    assert [scorer.score(arch) for arch in reversed(archs)] == first[::-1]
    assert counted() == before
    activate(net, archs[0])
    net.train()(TRAIN[0])
    assert scorer.score(archs[0]) != first[0]
    assert scorer.score(archs[0]) == SubnetScorer(net, TRAIN, VALID).score(archs[0])
