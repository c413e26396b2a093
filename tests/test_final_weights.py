"""The weights of what the end of a search has trained: those of the best, with its best seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import raynas
from raynas.core.arch import Arch
from raynas.core.config import RayConfig
from raynas.core.errors import Interrupted
from raynas.core.progress import Progress
from raynas.core.study import Study
from raynas.nn import Linear, ValueChoice
from raynas.storage.tables import read_trials
from tests.inline import INLINE

# by width, and by the seeds 1 and 2 of the end: means are 0.7, 0.72 and 0.1
WORTH = {1: (0.9, 0.5), 2: (0.6, 0.84), 3: (0.1, 0.1)}
BEST, OTHER = {"width": 2}, {"width": 1}


class Wide(nn.Module):
    """One layer of an elastic width, and one of two classes."""

    def __init__(self) -> None:
        super().__init__()
        width = ValueChoice([1, 2, 3], "width")
        self.body, self.head = Linear(4, width), Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        out: Tensor = self.head(self.body(x))
        return out


def filled(net: nn.Module, value: float) -> None:
    """Set all weights to one value."""
    for weight in net.parameters():
        nn.init.constant_(weight, value)


def value_of(net: nn.Module) -> float:
    """Return what all weights are; nan if they differ."""
    values = {float(value) for weight in net.parameters() for value in weight.detach().flatten()}
    return values.pop() if len(values) == 1 else float("nan")


class Filling:
    """Trains for two epochs, after which all weights are the seed."""

    epochs, metrics = 2, ("accuracy",)

    def train_epochs(self, net: nn.Module, data: Any, seed: int) -> Iterator[Mapping[str, float]]:
        """Set the weights to ten times as much first; and the epoch's to nothing afterwards."""
        width = net.state_dict()["body.bias"].numel()
        for factor in (10, 1):
            filled(net, factor * seed)
            yield {"accuracy": WORTH[width][seed - 1] / factor}
            filled(net, -1)


def by_width(arch: Arch) -> dict[str, float]:
    """Rank the widths by their number."""
    return {"accuracy": float(arch["width"])}  # type: ignore[arg-type]


def searched(out: Path, **more: Any) -> raynas.Result:
    """Return a search whose end fills weights, of the second best at last."""
    generator = torch.Generator().manual_seed(0)
    rows = TensorDataset(torch.randn(32, 4, generator=generator), torch.arange(32) % 2)
    given: dict[str, Any] = {
        "data": (rows, rows),
        "evaluator": by_width,
        "trials": 3,
        "final": {"top": 3, "seeds": 2, "evaluator": Filling()},
        "ray": INLINE,
    }
    return raynas.search(Wide, "grid", out=str(out), **given | more)


def kept(out: Path) -> list[str]:
    """Return the seed and the architecture of what is kept."""
    return sorted(f"{f.parts[-4]} {f.parts[-2]}" for f in out.glob("final/*/*/*/*/*.safetensors"))


def test_the_best_has_the_weights_of_its_best_seed(tmp_path: Path) -> None:
    """As they were when it was measured; of the others, none are left."""
    run = searched(tmp_path / "run")
    assert run.best.arch == BEST
    assert value_of(run.model()) == 2.0
    assert run.rebuilt.is_trained(run.best.arch)
    assert not run.rebuilt.is_trained(Arch(OTHER))
    assert kept(tmp_path / "run") == [f"seed-2 {run.best.arch.key}"]
    assert not value_of(run.model(OTHER)) > 0
    assert not value_of(run.model(whole=True)) > 0
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    again = raynas.load(str(moved), space=Wide)
    again.export(tmp_path / "best.pt")
    weights = torch.load(tmp_path / "best.pt", weights_only=True)
    assert all(bool((tensor == 2.0).all()) for tensor in weights.values())


class StoppedAt(Progress):
    """Stops a run once so much of a study is told."""

    def __init__(self, purpose: str, told: int) -> None:
        self.place = purpose, told

    def told(self, study: Study) -> None:
        """Be Ctrl-C."""
        if (study.purpose, study.told) == self.place:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("seed", "told"), [(1, 2), (2, 1), (2, 3)])
def test_going_on_keeps_what_was_trained_before(tmp_path: Path, seed: int, told: int) -> None:
    """A run stopped in the midst of its end, or after it, has its best seed's weights."""
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        searched(out, progress=StoppedAt(f"final, seed {seed}", told))
    run = searched(out, resume=True)
    assert run.best.arch == BEST
    assert value_of(run.model()) == 2.0
    assert kept(out) == [f"seed-2 {run.best.arch.key}"]
    assert value_of(searched(out, resume=True).model()) == 2.0


def test_newcomers_and_leaving_the_end_out_have_their_own(tmp_path: Path) -> None:
    """Of one the weights are the seed's, of the other those that the search returned."""

    def returning(arch: Arch) -> Any:
        net = raynas.ModelSpace(Wide).build(arch)
        filled(net, 7.0)
        return by_width(arch), net.state_dict()

    out, worse = tmp_path / "run", Arch({"width": 3})
    final = {"top": 1, "seeds": 2, "evaluator": Filling()}
    first = searched(out, evaluator=returning, final=final)
    assert first.best.arch == worse
    assert value_of(first.model()) == 1.0, "the first where seeds tie"
    more = searched(out, evaluator=returning, final=final | {"top": 2}, resume=True)
    assert more.best.arch == BEST
    assert value_of(more.model()) == 2.0
    assert len(kept(out)) == 1
    without = searched(out, evaluator=returning, final=0, resume=True)
    assert without.best.arch == worse
    assert value_of(without.model()) == 7.0


def test_weights_that_a_function_returns_at_the_end_are_kept(tmp_path: Path) -> None:
    """Those of its best, whatever the search returned of it."""
    calls: list[int] = []

    def returning(value: float) -> Any:
        def evaluate(arch: Arch) -> Any:
            calls.append(1)
            net = raynas.ModelSpace(Wide).build(arch)
            filled(net, value + len(calls))
            return {"accuracy": by_width(arch)["accuracy"] + len(calls) / 100}, net.state_dict()

        return evaluate

    final = {"top": 2, "seeds": 2, "evaluator": returning(10.0)}
    run = searched(tmp_path / "run", evaluator=returning(0.0), final=final)
    assert run.best.arch == {"width": 3}
    assert value_of(run.model()) == 16.0, "the sixth call, the first of the second seed"
    assert (tmp_path / "run" / "weights").is_dir(), "those of the search stay"


def trained_at_the_end(out: Path, ray: Any, **options: Any) -> raynas.Result:
    """Return a search whose end trains both of its networks by ``standalone``, with two seeds."""
    return raynas.search(
        "mlp",
        "random",
        data="digits",
        evaluator=lambda arch: {"accuracy": len(str(dict(arch))) / 100},
        trials=2,
        final={"top": 2, "seeds": 2, "epochs": 1, **options},
        out=str(out),
        ray=ray,
    )


def test_a_trained_network_measures_what_it_did(tmp_path: Path) -> None:
    """By ``standalone`` and an average of weights, which are those that were measured."""
    run = trained_at_the_end(tmp_path / "run", INLINE, ema=0.9)
    assert accuracy_of(run) == pytest.approx(best_of_seeds(tmp_path / "run", run))


def accuracy_of(run: raynas.Result) -> float:
    """Return the best network's accuracy on the validation split."""
    x, y = run.rebuilt.data.load().valid
    with torch.no_grad():
        return float((run.model()(x).argmax(1) == y).double().mean())


def best_of_seeds(out: Path, run: raynas.Result) -> float:
    """Return the best accuracy that the best has had at the end."""
    tables = [read_trials(str(f)).to_pandas() for f in out.glob("final/*/seed-*")]
    return max(float(t.set_index("arch_key")["accuracy"][run.best.arch.key]) for t in tables)


@pytest.mark.full
def test_with_a_supernet_the_best_is_what_its_end_has_trained(tmp_path: Path) -> None:
    """Others have the supernet's weights, and so has what a retraining inherits."""
    run = raynas.search(
        "mlp",
        "random",
        data="digits",
        trials=4,
        epochs=1,
        final={"top": 2, "seeds": 1, "epochs": 2},
        out=str(tmp_path / "run"),
        ray=INLINE,
    )
    assert accuracy_of(run) == pytest.approx(best_of_seeds(tmp_path / "run", run))
    trained, inherited = (
        net.state_dict() for net in (run.model(), run.rebuilt.inherited(run.best.arch))
    )
    assert any(not torch.equal(trained[name], inherited[name]) for name in trained)


@pytest.mark.full
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("ray", [RayConfig(workers=2), RayConfig(workers=1, train_workers=2)])
def test_workers_leave_the_best_ones_weights(tmp_path: Path, ray: RayConfig) -> None:
    """Whether each trains by itself, or several together."""
    run = trained_at_the_end(tmp_path / "run", ray)
    assert accuracy_of(run) == pytest.approx(best_of_seeds(tmp_path / "run", run), abs=1e-3)
    assert len(kept(tmp_path / "run")) == 1
