"""Shared weights of converted models: scored, calibrated, trained and stored as others are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, ResNet

import raynas
from raynas.core.nest import call
from raynas.nn import activate, freeze
from raynas.nn.conversion.converted import STATE
from raynas.nn.conversion.elastic_space import ElasticSpace
from raynas.supernet.attributes import hidden_attributes, read_attributes, write_attributes
from raynas.supernet.calibration import recalibrate
from raynas.supernet.checkpoint import find_checkpoint, load_weights
from raynas.supernet.rebuilding import check_rebuilding, check_rebuilt
from raynas.supernet.scoring import SubnetScorer
from tests import test_conversion_costs as costs
from tests.inline import INLINE

full = pytest.mark.full
DRAWN = 3


def resnet() -> nn.Module:
    net: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)
    return net


def densenet() -> nn.Module:
    """Its BatchNorms keep the first channels of each of several layers that were joined."""
    net: nn.Module = DenseNet(8, (2, 2), 16, bn_size=2, num_classes=5)
    return net


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


IMAGES, CLASSES = seeded(40, 3, 32, 32), torch.arange(40) % 5
HEAD = IMAGES[:24]
NETS = {"resnet": resnet, "densenet": densenet}
every_net = pytest.mark.parametrize("name", ["densenet", pytest.param("resnet", marks=full)])


@pytest.fixture(scope="module")
def spaces() -> dict[str, ElasticSpace]:
    class Spaces(dict[str, ElasticSpace]):
        def __missing__(self, name: str) -> ElasticSpace:
            torch.manual_seed(0)
            net = NETS[name]().double().eval()
            self[name] = raynas.elastic(net, IMAGES[:2], width=[0.5, 0.75], depth=True)
            return self[name]

    return Spaces()


def drawn(space: ElasticSpace) -> list[raynas.Arch]:
    rng = np.random.default_rng(5)
    smallest = space.arch_space.decided(lambda decision: decision.options[-1])
    return [smallest, *(space.arch_space.sample(rng) for _ in range(DRAWN))]


def norms(net: nn.Module) -> list[_BatchNorm]:
    return [module for module in net.modules() if isinstance(module, _BatchNorm)]


def whole_variance(norm: _BatchNorm) -> Tensor:
    """Return what is tracked of all channels, active or not."""
    variance = norm._buffers["running_var"]
    assert variance is not None
    return variance


@every_net
@pytest.mark.parametrize("channels_last", [False, True])
def test_scores_are_those_of_extracted_networks(
    name: str, channels_last: bool, spaces: dict[str, ElasticSpace]
) -> None:
    net = spaces[name].supernet().eval()
    valid = IMAGES[24:], CLASSES[24:]
    scorer = SubnetScorer(net, (HEAD, CLASSES[:24]), valid, channels_last=channels_last)
    assert scorer._fused is not None  # statistics come from the pass that scores
    for arch in drawn(spaces[name]):
        plain = freeze(net, arch).eval()
        recalibrate(plain, HEAD)
        with torch.no_grad():
            logits = plain(valid[0])
        scores = scorer.score(arch)
        assert scores["loss"] == pytest.approx(cross_entropy(logits, valid[1]).item(), abs=1e-10)
        assert scores["accuracy"] == float((logits.argmax(1) == valid[1]).double().mean())


@every_net
def test_statistics_are_written_where_active_channels_lie(
    name: str, spaces: dict[str, ElasticSpace]
) -> None:
    for arch in drawn(spaces[name]):
        net = spaces[name].supernet().eval()
        before = [whole_variance(norm).clone() for norm in norms(net)]
        activate(net, arch)
        plain = freeze(net, arch).eval()
        for one in (net, plain):
            recalibrate(one, HEAD)
        with torch.no_grad():
            assert float((net(IMAGES) - plain(IMAGES)).abs().max()) <= 1e-10
        for norm, old in zip(norms(net), before, strict=True):
            assert norm.running_var is not None
            untouched = int((whole_variance(norm) == old).sum())
            assert untouched in (len(old), len(old) - len(norm.running_var))


@pytest.mark.parametrize("momentum", [0.1, None])
@every_net
def test_training_tracks_statistics_of_active_channels(
    name: str, momentum: float | None, spaces: dict[str, ElasticSpace]
) -> None:
    net = spaces[name].supernet()
    for norm in norms(net):
        norm.momentum = momentum
    for arch in drawn(spaces[name]):
        activate(net, arch)
        plain = freeze(net, arch).train()
        with torch.no_grad():
            assert float((net.train()(HEAD) - plain(HEAD)).abs().max()) <= 1e-10
            assert float((net.eval()(HEAD) - plain.eval()(HEAD)).abs().max()) <= 1e-10


FAMILIES = ["llama", *(pytest.param(name, marks=full) for name in ("vit", "gpt2", "bert"))]


@pytest.mark.parametrize("name", FAMILIES)
def test_models_of_libraries_are_built_again_with_all_that_they_compute_with(name: str) -> None:
    space = costs.space_of(name)
    check_rebuilding(space, space.signature)
    net = space.supernet()
    attributes = read_attributes(net)
    hidden = [path.partition(" ")[0] for path in hidden_attributes(net)]
    assert STATE.isdisjoint(path.rpartition(".")[2] for path in (*attributes, *hidden))
    check_rebuilt(space, net, attributes, space.example_input(2))
    again = space.supernet().eval()
    write_attributes(again, attributes)
    arch = space.arch_space.sample(np.random.default_rng(1))
    outputs = []
    for one in (net.eval(), again):
        activate(one, arch)
        with torch.no_grad():
            outputs.append(leading(call(one, space.example_input(2))))
    assert torch.equal(*outputs)


def leading(out: Any) -> Tensor:
    logits: Tensor = out if isinstance(out, Tensor) else out.logits
    return logits


class Joined(nn.Module):
    """A small image classifier whose layers are joined, added and normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.more = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.norm = nn.BatchNorm2d(16)
        self.inner = nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norm(torch.cat([x, self.more(x)], 1))
        x = x + self.inner(x)
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def joined() -> ElasticSpace:
    torch.manual_seed(0)
    return raynas.elastic(Joined().eval(), torch.randn(2, 1, 16, 16), width=0.5, depth=True)


LAYOUTS = [("float32", True), pytest.param("bfloat16", False, marks=full)]


@pytest.mark.parametrize(("precision", "channels_last"), LAYOUTS)
def test_a_trained_supernet_is_stored_and_searched_again(
    precision: str, channels_last: bool, tmp_path: Path
) -> None:
    options = {"precision": precision, "channels_last": channels_last}
    space, folder = joined(), str(tmp_path / "trained")
    raynas.train_supernet(
        space, "spos", data="digits", epochs=1, out=folder, options=options, ray=INLINE
    )
    result = raynas.search(
        space, "random", data="digits", supernet=folder, trials=3, out=str(tmp_path / "r"),
        ray=INLINE,
    )  # fmt: skip
    trained = load_weights(find_checkpoint(Path(folder)))
    assert trained.keys() == Joined().state_dict().keys()
    net = space.supernet()
    net.load_state_dict(trained)
    plain = freeze(net, result.best.arch)
    found: dict[str, Tensor] = result.model().state_dict()
    assert found.keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        if "running" not in key and "tracked" not in key:  # these are calibrated
            assert torch.equal(found[key], value)


@full
@pytest.mark.cluster
def test_two_ranks_train_a_converted_model(tmp_path: Path) -> None:
    space, folder = joined(), str(tmp_path / "trained")
    ranks = {"train_workers": 2, "cpus_per_train_worker": 1}
    raynas.train_supernet(space, "spos", data="digits", epochs=1, out=folder, ray=ranks)
    trained, whole = load_weights(find_checkpoint(Path(folder))), space.supernet().state_dict()
    assert trained.keys() == whole.keys()
    assert not torch.equal(trained["head.weight"], whole["head.weight"])
    result = raynas.search(
        space, "random", data="digits", supernet=folder, trials=2, out=str(tmp_path / "r")
    )
    assert len(result.trials) == 2
