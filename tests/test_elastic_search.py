"""An elastic supernet of digits: trained by shrinking, seen at random, searched under limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import raynas
from tests.inline import INLINE

SPACE: dict[str, Any] = {
    "width": 0.1,
    "dropout": 0.0,
    "kernels": [3, 5],
    "depths": [1, 2],
    "resolutions": [12, 16],
}


STAGES = [{"kernel": [3, 5]}, {"depth": [1, 2], "width": [3, 4, 6]}]


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Train an elastic supernet of digits by progressive shrinking, and return its path."""
    return raynas.train_supernet(
        "ofa_mobilenet_v3",
        "progressive_shrinking",
        options={"epochs": 5, "lr": 0.1, "stages": STAGES},
        data="digits",
        out=str(tmp_path_factory.mktemp("supernet") / "net"),
        ray=INLINE,
        space_options=SPACE,
    )


def elastic_search(supernet: str, algo: str, out: Path, trials: int, **given: Any) -> raynas.Result:
    return raynas.search(
        "ofa_mobilenet_v3",
        algo,
        supernet=supernet,
        evaluator=("shared", {"calibration_images": 128}),
        space_options=SPACE,
        trials=trials,
        out=str(out),
        ray=INLINE,
        **given,
    )


@pytest.mark.full
def test_a_supernet_is_searched_with_what_random_search_has_seen(
    supernet: str, tmp_path: Path
) -> None:
    """Under a limit, what is asked first is better than most of the random ones that keep it.

    Ten draws that know nothing are above the random ones' median at least nine times with
    probability 11 / 1024 = 1.1 %.
    """
    random = elastic_search(supernet, "random", tmp_path / "random", 50)
    limit = float(random.trials["macs"].median())
    inside = random.trials[random.trials["macs"] <= limit]
    given: dict[str, Any] = {"constraints": {"macs": (None, limit)}}
    for model in ("quadratic", "mlp"):
        options = {"model": model, "warm_start": random.path}
        result = elastic_search(
            supernet, "predictor", tmp_path / model, 10, options=options, **given
        )
        frame = result.trials
        assert set(frame["status"]) == {"completed"}
        assert frame["macs"].max() <= limit
        first = inside.sort_values("accuracy", ascending=False, kind="stable").iloc[0]
        assert frame["arch_key"].iloc[0] == first["arch_key"]
        assert frame["accuracy"].iloc[0] == first["accuracy"]  # the same weights and images
        assert (frame["accuracy"] > inside["accuracy"].median()).sum() >= 9


# what every sampler does under bounds is tests/test_feasible.py's
@pytest.mark.parametrize("algo", [pytest.param("evolution", marks=pytest.mark.full), "nsga2"])
def test_it_is_searched_under_several_constraints(supernet: str, algo: str, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"macs": (None, 60_000.0), "params": (None, 36_000.0)}
    result = elastic_search(supernet, algo, tmp_path / "run", 8, constraints=limits)
    assert len(result.trials) == 8
    assert set(result.trials["status"]) == {"completed"}
    assert (result.trials["macs"] <= 60_000).all()
    assert (result.trials["params"] <= 36_000).all()
