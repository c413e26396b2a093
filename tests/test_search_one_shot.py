"""A search by gradients through Ray: training, derived architectures, history, pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.algorithms import SGAS
from raynas.core.errors import InvalidSpace, UnknownName
from raynas.data.digits import Digits
from raynas.nn import Linear, ValueChoice
from raynas.report.page import report_page
from raynas.report.pictures.alphas import alphas
from raynas.report.pictures.sgas import sgas as edge_scores
from raynas.supernet.checkpoint import find_checkpoint, load_found
from tests.inline import INLINE
from tests.toynet import ToyNet


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> raynas.Result:
    """DARTS on a user's own model."""
    return raynas.search(
        ToyNet,
        algo="darts",
        data="digits",
        epochs=4,
        options={"alpha_lr": 0.02, "lr": 0.1},
        out=str(tmp_path_factory.mktemp("darts")),
        ray=INLINE,
    )


def test_the_derived_architecture_is_the_first_of_ten_trials(run: raynas.Result) -> None:
    trials = run.trials.sort_values("trial")
    assert len(trials) == 10 == trials["arch_key"].nunique()
    assert set(trials["status"]) == {"completed"}
    assert set(trials["algo"]) == {"darts"}
    last = run.history.iloc[-1]
    space = raynas.ModelSpace(ToyNet).arch_space
    likely = {
        label: max(decision.options, key=lambda o: last[f"alpha.{label}.{o}"])
        for label, decision in space.decisions.items()
    }
    assert json.loads(trials["arch"].iloc[0]) == likely
    found = load_found(find_checkpoint(Path(run.path)))
    assert [arch.to_json() for arch in found] == list(trials["arch"])
    probable = [
        np.prod([last[f"alpha.{label}.{value}"] for label, value in arch.items()]) for arch in found
    ]
    assert probable == sorted(probable, reverse=True)


def test_the_history_tells_of_logits_and_of_the_derived_network(run: raynas.Result) -> None:
    history = run.history
    assert len(history) == 4
    for column in ("loss", "valid_loss", "accuracy", "lr", "entropy"):
        assert history[column].notna().all()
    for label, count in (("first", 2), ("second", 3), ("third", 3)):
        p = history.filter(regex=rf"^alpha\.{label}\.")
        assert p.shape == (4, count)
        np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-6)
    assert (history["entropy"].diff().dropna() != 0).all()  # alphas move


def test_the_model_inherits_the_weights(run: raynas.Result) -> None:
    net = run.model()
    x, y = Digits().load().valid
    with torch.no_grad():
        accuracy = float((net(x).argmax(1) == y).double().mean())
    # 10 classes; the search scored the same weights on these images
    assert abs(accuracy - run.best.metrics["accuracy"]) < 0.05
    assert raynas.load(run.path, space=ToyNet).best == run.best


def test_pictures(run: raynas.Result, tmp_path: Path) -> None:
    page = Path(run.report(str(tmp_path / "report.html"))).read_text()
    assert "What every choice came to prefer" in page
    assert "How edges were scored" not in page


def test_a_configured_algorithm_decides_and_is_drawn(tmp_path: Path) -> None:
    result = raynas.search(
        ToyNet,
        algo=SGAS(first_decision=0, decide_every=1),
        data="digits",
        epochs=4,
        trials=1,
        out=str(tmp_path / "sgas"),
        ray=INLINE,
    )
    assert result.config.algo.name == "sgas"
    assert result.config.algo.options["decide_every"] == 1
    assert list(result.history["undecided"]) == [2, 1, 0, 0]
    assert len(result.trials) == 1
    from raynas.report.findings import ReportData

    data = ReportData(trials=result.trials, history=result.history, config=result.config)
    scores, liked = edge_scores(data), alphas(data)
    assert liked.data[0].z.shape[1] == 4
    assert scores.data[0].z.shape == (3, 4)
    assert sorted(scores.data[1].x) == [1, 2, 3]  # one star per decision
    assert "How edges were scored" in report_page(data)


class Wide(nn.Module):
    """A width to choose, which gradients cannot mix."""

    def __init__(self) -> None:
        super().__init__()
        width = ValueChoice([4, 8], label="width")
        self.first, self.last = Linear(256, width), Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.first(x.flatten(1)).relu())
        return y


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"space": Wide, "algo": "darts"}, InvalidSpace, r"Linear 'width' cannot be relaxed"),
        ({"algo": "spos", "evaluator": "standalone"}, ValueError, "options of a supernet go with"),
        ({"algo": "dart"}, UnknownName, "did you mean 'darts'"),
        ({"algo": "darts", "supernet": "x"}, FileNotFoundError, "no supernet in"),
        ({"algo": "darts", "evaluator": len}, ValueError, "leave out evaluator="),
        ({"algo": 3}, TypeError, "got a int"),
        (
            {"algo": "darts", "options": {"unroled": True}},
            ValueError,
            "no option 'unroled'; did you mean 'unrolled'",
        ),
        (
            {"algo": "darts", "options": {"hardware": {"target": "mac"}}},
            ValueError,
            "hardware",
        ),
        ({"algo": "darts", "space": raynas.ArchSpace.of(a=[1, 2])}, ValueError, "plain ArchSpace"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    given: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    whole: dict[str, Any] = {"space": ToyNet, "out": str(tmp_path / "run")} | given
    with pytest.raises(error, match=said):
        raynas.search(whole.pop("space"), **whole)
    assert not (tmp_path / "run").exists()
