"""SGAS: its criteria by hand, a whole schedule of decisions, and what decided edges cost."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raynas.algorithms.sgas import SGAS, edge_scores, unit
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.nn import LayerChoice, freeze, space_of
from raynas.nn.cell import Cell
from raynas.nn.mutable import SKIP, activate
from raynas.supernet.training import SupernetTraining

P = [np.array(row) for row in ([0.2, 0.5, 0.3], [0.5, 0.25, 0.25], [0.1, 0.8, 0.1])]


def certainty(*q: float) -> float:
    return float(1 + sum(v * np.log(v) for v in q) / np.log(len(q)))


def test_scores_by_hand() -> None:
    """Three edges of which the first candidate gives zeros.

    Importance 0.8, 0.5, 0.9, normalised 0.75, 0, 1. Real distributions (5/8, 3/8), (1/2, 1/2) and
    (8/9, 1/9), of which the second has no certainty and the third the most.
    """
    score, q = edge_scores(P, [0, 0, 0], [], 1)
    for found, expected in zip(q, ([5 / 8, 3 / 8], [0.5, 0.5], [8 / 9, 1 / 9]), strict=True):
        np.testing.assert_allclose(found, expected)
    ratio = certainty(5 / 8, 3 / 8) / certainty(8 / 9, 1 / 9)
    np.testing.assert_allclose(score, [0.75 * ratio, 0.0, 1.0], atol=1e-15)


def test_stability_by_hand() -> None:
    """Intersections with (1/2, 1/2): 7/8, 1, 11/18; with (1, 0): 5/8, 1/2, 8/9.

    With the first alone, (7/8 - 11/18) over (1 - 11/18) is 19/28, and the third edge the least
    stable.
    """
    even, one = [np.array([0.5, 0.5])] * 3, [np.array([1.0, 0.0])] * 3
    first, _ = edge_scores(P, [0, 0, 0], [even], 2)
    plain, _ = edge_scores(P, [0, 0, 0], [], 1)
    np.testing.assert_allclose(first, [plain[0] * 19 / 28, 0.0, 0.0], atol=1e-15)
    three = [even, even, one]
    both, _ = edge_scores(P, [0, 0, 0], three, 2)
    stable = [(2 * 7 / 8 + 5 / 8) / 3, (2 + 1 / 2) / 3, (2 * 11 / 18 + 8 / 9) / 3]
    np.testing.assert_allclose(both, plain * unit(np.array(stable)), atol=1e-12)


def test_the_first_stability_is_zero() -> None:
    score, _ = edge_scores(P, [0, 0, 0], [], 2)
    assert score.tolist() == [0.0, 0.0, 0.0]


def test_the_scale_is_that_of_all_edges() -> None:
    """One more edge, decided or not, stretches the scale of the others."""
    p = [*P, np.array([0.9, 0.05, 0.05])]
    score, _ = edge_scores(p, [0, 0, 0, 0], [], 1)
    ratio = certainty(5 / 8, 3 / 8) / certainty(8 / 9, 1 / 9)
    np.testing.assert_allclose(score, [0.7 / 0.8 * ratio, 0.0, 1.0, 0.0], atol=1e-15)


def test_importance_is_left_out_where_nothing_gives_zeros() -> None:
    score, q = edge_scores(P, [None, None, None], [], 1)
    np.testing.assert_allclose(score, unit(np.array([certainty(*row) for row in P])))
    assert all(np.array_equal(a, b) for a, b in zip(q, P, strict=True))
    assert 0.0 < sorted(score)[1] < 1.0


def test_certainty_does_not_need_equally_many_candidates() -> None:
    score, _ = edge_scores([np.array([1.0]), np.array([0.5, 0.5])], [None, None], [], 1)
    assert score.tolist() == [1.0, 0.0]  # nothing is open on the first edge


def test_equal_values_are_scaled_to_zero() -> None:
    assert unit(np.array([0.3, 0.3])).tolist() == [0.0, 0.0]
    assert unit(np.array([1.0, 3.0, 2.0])).tolist() == [0.0, 1.0, 0.5]


class Nothing(nn.Module):
    """Gives zeros."""

    is_none = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


OPS = 7  # besides the zeros


class Cells(nn.Module):
    """Two cells of DARTS' shape, 14 edges of eight candidates each; no batch statistics."""

    def __init__(self, zeros: bool = True) -> None:
        super().__init__()
        real: dict[str, nn.Module] = {
            f"op{k}": nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for k in range(OPS)
        }
        ops: dict[str, nn.Module] = {"none": Nothing(), **real} if zeros else real
        self.cells = nn.ModuleList(
            Cell(ops, 4, 2, 2, label=label) for label in ("normal", "reduce")
        )
        self.between, self.head = nn.Linear(16, 4), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.between(self.cells[0](x, x))
        logits: Tensor = self.head(self.cells[1](x, y))
        return logits


def numbers(count: int) -> TensorData:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(count, 4, generator=rng, dtype=torch.float64)
    return TensorData((TensorDataset(x, torch.arange(count) % 3),) * 2)


def attached(
    net: nn.Module | None = None, batch: int = 64, **options: Any
) -> tuple[SGAS, SupernetTraining]:
    torch.manual_seed(0)
    net = Cells() if net is None else net
    algo = SGAS(seed=0, **options)
    settings = TrainSettings(epochs=50, batch_size=batch, lr=0.1, label_smoothing=0.0)
    return algo, SupernetTraining(net.double(), algo, numbers(2 * batch), settings)


def record(algo: SGAS, epoch: int, scale: float = 1.0) -> None:
    """Set the logits to recorded values: a walk that spreads from epoch to epoch."""
    for at, (label, vector) in enumerate(algo.relaxation.vectors.items()):
        if label not in algo.relaxation.fixed:
            steps = np.random.default_rng([at]).normal(size=(60, len(vector))) * scale
            vector.data = torch.from_numpy(steps[: epoch + 1].sum(0) * 0.1)


def edges(algo: SGAS) -> tuple[dict[str, int], set[str]]:
    """Return decided edges with their operations, and those left out."""
    fixed = algo.relaxation.fixed
    return {k: v for k, v in fixed.items() if v != SKIP}, {k for k, v in fixed.items() if v == SKIP}


@pytest.mark.parametrize("criterion", [1, 2])
def test_a_whole_schedule_from_recorded_logits(criterion: int) -> None:
    algo, run = attached(criterion=criterion)
    net, x, space = run.model, numbers(10).load().train[0], space_of(run.model)
    sizes, decided_at = [], []
    for epoch in range(50):
        run.epoch = epoch
        record(algo, epoch)
        p, before = algo.relaxation.softmaxes(), set(algo.relaxation.fixed)
        past = {group: list(rows) for group, rows in algo.past.items()}
        sizes.append(algo.batch_size(64))
        row = algo.epoch_end()
        if criterion == 2:
            assert all(len(rows) == min(epoch + 1, 4) for rows in algo.past.values())
        new = edges(algo)[0].keys() - before
        if new:
            decided_at.append(epoch)
            assert len(new) == 2
            assert {label.split("/")[0] for label in new} == {"normal", "reduce"}
        for group, specs in algo.groups.items():
            score, q = edge_scores(
                [p[s.label] for s in specs], [0] * 14, past.get(group, []), criterion
            )
            assert [row[f"score.{s.label}"] for s in specs] == score.tolist()
            for at in (k for k, s in enumerate(specs) if s.label in new):
                was_open = [k for k, s in enumerate(specs) if s.label not in before]
                assert at == max(was_open, key=lambda k: (score[k], -k))
                assert algo.relaxation.fixed[specs[at].label] == 1 + int(q[at].argmax())
        # an interim architecture holds every decided edge with its operation
        arch = algo.derive()
        space.check(arch)
        for label, at in edges(algo)[0].items():
            cell, node, _, source = label.split("/")
            assert source in arch[f"{cell}/{node}/from"]  # type: ignore[operator]
            assert arch[label] == f"op{at - 1}"
        assert row["decisions"] == len(decided_at)
        assert row["undecided"] == 28 - len(algo.relaxation.fixed)
    assert decided_at == [9, 14, 19, 24, 29, 34, 39, 44]
    assert sizes == [64 + 8 * sum(at < epoch for at in decided_at) for epoch in range(50)]
    assert algo.batch_size(64) == 128
    kept, pruned = edges(algo)
    assert (len(kept), len(pruned)) == (16, 12)
    assert algo.alphas == []
    for kind, place in itertools.product(("normal", "reduce"), range(4)):
        assert sum(label.startswith(f"{kind}/n{place}/") for label in kept) == 2
    arch = algo.derive()
    frozen, searched = freeze(net, arch)(x), net(x)  # the supernet as the search has routed it
    torch.testing.assert_close(searched, frozen, rtol=0, atol=1e-12)
    activate(net, arch)
    assert torch.equal(net(x), frozen)


def test_undecided_edges_alone_are_candidates_and_ties_go_to_the_first() -> None:
    algo, run = attached(first_decision=0, decide_every=1)
    for vector in algo.relaxation.vectors.values():
        vector.data.zero_()
    order = []
    for _ in range(4):
        held = set(algo.relaxation.fixed)
        algo.epoch_end()
        order += [k for k in algo.relaxation.fixed if k.startswith("normal/") and k not in held]
        run.epoch += 1
    # all scores are zero; a node that has its two edges closes at once
    assert order[:2] == ["normal/n0/op/s0", "normal/n0/op/s1"]
    assert order[2:] == ["normal/n1/op/s0", "normal/n1/op/s1", "normal/n1/op/n0"]
    assert algo.relaxation.fixed["normal/n1/op/n0"] == SKIP
    assert {algo.relaxation.fixed[label] for label in order[:4]} == {1}  # the first real one


@pytest.mark.parametrize("unrolled", [False, True])
def test_nothing_is_learned_or_kept_for_logits_and_candidates_that_are_out(unrolled: bool) -> None:
    """Three epochs decide half of a node each; then steps train weights alone."""
    torch.manual_seed(0)
    net = nn.Sequential(
        Pair(
            Cell(
                {"none": Nothing(), "a": nn.Linear(4, 4), "b": nn.Linear(4, 4)},
                2,
                1,
                2,
                label="cell",
            )
        ),
        nn.Linear(8, 3),
    )
    algo, run = attached(
        net, 16, first_decision=0, decide_every=1, batch_increase=0, unrolled=unrolled, alpha_lr=0.1
    )
    passes: list[int] = []
    run.model.register_forward_hook(lambda *_: passes.append(run.epoch))
    for _ in range(2):
        row = run.run_epoch()
        assert "valid_loss" in row
    assert (algo.alphas, row["undecided"], row["entropy"]) == ([], 0.0, 0.0)
    kept, pruned = edges(algo)
    assert (len(kept), len(pruned)) == (2, 3)
    running = set()
    for label, at in kept.items():
        node, source = label.split("/")[1], label.split("/")[3]
        layer = net[0].cell.edge(int(node[1]), source).layers()[at]  # type: ignore[union-attr, operator]
        running |= {id(p) for p in layer.parameters()}
    running |= {id(p) for p in net[1].parameters()}
    vectors = {k: v.detach().clone() for k, v in algo.relaxation.vectors.items()}
    weights = {name: w.detach().clone() for name, w in run.model.named_parameters()}
    for weight in run.model.parameters():
        if id(weight) not in running:
            assert weight.grad is None
            assert weight not in run.optimizer.state
            assert weight.untyped_storage().nbytes() == weight.element_size()
    assert algo.top_k(9) == [algo.derive()]
    passes.clear()
    row = run.run_epoch()
    assert "valid_loss" not in row
    assert len(passes) == run.steps // 50  # one pass a step
    assert all(torch.equal(v, vectors[k]) for k, v in algo.relaxation.vectors.items())
    moved = {n for n, w in run.model.named_parameters() if not torch.equal(w, weights[n])}
    assert moved == {n for n, w in run.model.named_parameters() if id(w) in running}
    assert {id(w) for w in run.optimizer.state} == running


class Pair(nn.Module):
    """Gives a cell its input twice."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cell(x, x)
        return out


def test_a_decided_vector_does_not_move() -> None:
    """Neither by gradients nor by the momentum and the decay of its optimizer."""
    algo, run = attached(batch=16, first_decision=0, decide_every=2, alpha_lr=0.1)
    run.run_epoch()
    fixed = {k: algo.relaxation.vectors[k].detach().clone() for k in algo.relaxation.fixed}
    live = {k: v.detach().clone() for k, v in algo.relaxation.vectors.items() if k not in fixed}
    assert len(fixed) == 2
    run.run_epoch()
    assert all(torch.equal(algo.relaxation.vectors[k], v) for k, v in fixed.items())
    assert not any(torch.equal(algo.relaxation.vectors[k], v) for k, v in live.items())


def test_cells_without_zeros_keep_their_decided_edges() -> None:
    algo, run = attached(Cells(zeros=False))
    assert all(spec.none is None for spec in algo.relaxation.specs.values())
    for epoch in range(50):
        run.epoch = epoch
        record(algo, epoch)
        algo.epoch_end()
        arch = algo.derive()
        for label, at in edges(algo)[0].items():
            cell, node, _, source = label.split("/")
            assert source in arch[f"{cell}/{node}/from"]  # type: ignore[operator]
            assert arch[label] == f"op{at}"
    kept, pruned = edges(algo)
    assert (len(kept), len(pruned)) == (16, 12)
    x = numbers(10).load().train[0]
    torch.testing.assert_close(
        run.model(x), freeze(run.model, algo.derive())(x), rtol=0, atol=1e-12
    )


def test_plain_choices_are_decided_one_by_one_with_what_they_hold() -> None:
    torch.manual_seed(0)
    inner = LayerChoice([nn.Linear(4, 4), nn.Tanh()], "inner")
    net = nn.Sequential(
        LayerChoice([nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), inner)], "outer"),
        LayerChoice([nn.Linear(4, 4), nn.Tanh()], "other"),
        nn.Linear(4, 3),
    )
    algo, run = attached(net, 16, first_decision=0, decide_every=1, batch_increase=0)
    vectors = algo.relaxation.vectors
    for label, values in (("outer", [3.0, 0.0]), ("inner", [0.1, 0.0]), ("other", [0.0, 2.0])):
        vectors[label].data = torch.tensor(values, dtype=torch.float64)
    algo.epoch_end()
    # the most certain; what only its other candidate held is out as well
    assert algo.relaxation.fixed == {"outer": 0, "inner": SKIP}
    run.epoch = 1
    row = algo.epoch_end()
    assert algo.relaxation.fixed["other"] == 1
    assert (row["undecided"], algo.alphas) == (0.0, [])
    assert algo.derive() == {"outer": 0, "other": 1}


def test_the_learning_rate_follows_epochs_however_many_steps_they_have() -> None:
    algo, run = attached()
    for epoch, expected in ((0, 1.0), (25, 0.52), (50, 0.04)):
        run.epoch = epoch
        assert algo.lr_scale(7, 100) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": 3}, "criterion is 1 or 2, got 3"),
        ({"history": 0}, "history of at least 1, got 9, 8, 5 and 0"),
        ({"decide_every": 0}, "decide_every and history of at least 1"),
        ({"first_decision": -1}, "expected first_decision and batch_increase of at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SGAS(**options)
