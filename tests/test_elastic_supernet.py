"""An elastic supernet on disk: trained once, searched and inherited from, never written to."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import raynas
from raynas.data.digits import Digits
from raynas.data.split import split_of
from raynas.nn import activate, freeze
from raynas.supernet.calibration import recalibrate

SPACE = "ofa_mobilenet_v3"
OPTIONS: dict[str, Any] = {
    "width": 0.1,
    "depths": [1, 2],
    "kernels": [3, 5],
    "resolutions": [8, 12],
    "dropout": 0.2,
}
STAGES = [{"epochs": 2}, {"epochs": 2, "kernel": [3, 5], "depth": [1, 2], "width": [3, 4, 6]}]
INLINE = {"inline": True}


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> str:
    return raynas.train_supernet(
        SPACE,
        "progressive_shrinking",
        data="digits",
        out=str(tmp_path_factory.mktemp("supernet")),
        ray=INLINE,
        options={"stages": STAGES, "lr": 0.1},
        space_options=OPTIONS,
    )


def digest(path: str) -> dict[str, str]:
    files = [file for file in Path(path).rglob("*") if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.full
@pytest.mark.usefixtures("local_ray")
def test_workers_that_search_leave_the_supernet_as_it_is(supernet: str, tmp_path: Path) -> None:
    before = digest(supernet)
    given: dict[str, Any] = {"supernet": supernet, "ray": {"workers": 2}}
    small = raynas.search(
        algo="random", constraints=["macs<40e3"], trials=6, out=str(tmp_path / "a"), **given
    )
    large = raynas.search(
        algo="evolution", constraints=["macs>60e3"], trials=6, out=str(tmp_path / "b"), **given
    )
    assert small.trials["macs"].max() < 40e3 < 60e3 < large.trials["macs"].min()
    small_best, large_best = small.best, large.best
    assert small_best is not None
    assert large_best is not None
    assert small_best.arch != large_best.arch
    assert digest(supernet) == before


def test_the_plain_network_has_the_statistics_that_were_scored(
    supernet: str, tmp_path: Path
) -> None:
    """Same images, in other passes: what decides an image differs by rounding alone."""
    result = raynas.search(
        supernet=supernet,
        algo="random",
        evaluator=["shared", {"calibration_images": 2000}],
        trials=3,
        out=str(tmp_path / "run"),
        ray=INLINE,
    )
    best = result.best
    assert best is not None
    net = result.model().eval()
    x, y = split_of(Digits().load().valid).some(range(400))
    with torch.no_grad():
        right = float((net(x).argmax(1) == y).double().mean())
    assert right == pytest.approx(best.metrics["accuracy"], abs=1 / 400)
    tuned = raynas.retrain(
        result, inherit=True, epochs=1, options={"lr": 1e-6}, out=str(tmp_path / "t"), ray=INLINE
    )
    assert tuned.metrics["valid_accuracy"] == pytest.approx(right, abs=0.05)


def test_statistics_of_one_batch_are_exact_and_of_more_weighted_by_images() -> None:
    space = raynas.space(SPACE, num_classes=10, **OPTIONS, resolution=12)
    supernet = space.supernet().double()
    arch = space.arch_space.sample(np.random.default_rng(0))
    activate(supernet, arch)
    net: Any = freeze(supernet, arch)
    x = torch.randn(30, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    recalibrate(net, x, 30)
    seen: dict[str, torch.Tensor] = {}
    norms = {n: m for n, m in net.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    hooks = [
        m.register_forward_hook(lambda _, given, __, n=n: seen.__setitem__(n, given[0]))
        for n, m in norms.items()
    ]
    net.eval()(x)
    for name, norm in norms.items():
        inputs = seen[name]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        torch.testing.assert_close(norm.running_mean, inputs.mean((0, 2, 3)), rtol=0, atol=1e-12)
        var = inputs.var((0, 2, 3), correction=0)
        torch.testing.assert_close(norm.running_var, var, rtol=0, atol=1e-12)
    for hook in hooks:
        hook.remove()
    first = next(iter(norms.values()))
    recalibrate(net, x, 20)  # two passes of 15
    halves = [net[1].stem[0](net[0](part)) for part in x.chunk(2)]
    means = torch.stack([half.mean((0, 2, 3)) for half in halves]).mean(0)
    assert first.running_mean is not None
    torch.testing.assert_close(first.running_mean, means, rtol=0, atol=1e-12)


def test_no_architecture_within_bounds_is_said_before_anything_is_sampled(
    supernet: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"macs <= 100: .* the smallest macs is \d+"):
        raynas.search(
            supernet=supernet, constraints=["macs<100"], out=str(tmp_path / "r"), ray=INLINE
        )
    assert not (tmp_path / "r").exists()
