"""SGAS: Sequential Greedy Architecture Search (Li et al., 2020, arXiv:1912.00195)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from raynas.core.arch import Value
from raynas.gradient.base import DARTS_TRAINING, Differentiable
from raynas.gradient.bilevel import bilevel_step
from raynas.gradient.decisions import full, release
from raynas.gradient.relaxation import importance
from raynas.nn.logits import Logits
from raynas.nn.mutable import SKIP
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics, Training

Vector = NDArray[np.float64]


@ONE_SHOTS.register("sgas")
@dataclass(kw_only=True, eq=False)
class SGAS(Differentiable):
    """Decides one edge of each kind of cell at a time, while DARTS goes on with the others.

    Differs: where no choice of a group has a candidate that gives zeros, importance is the same
    for all, would be normalised to 0 and make every score 0; it is left out. Once all is decided,
    the logits' step is left out as well. What has lost an edge is out of the search: where all is
    decided, only bounds that the decided architecture keeps can be met, so put costs in the loss.

    Args:
        seed: fixes the initial logits.
        criterion: 1 scores importance and certainty, 2 stability as well.
        first_decision: epoch of the first decision, from 0 (9 epochs of DARTS come before it).
        decide_every: epochs between decisions.
        history: epochs that stability looks back.
        batch_increase: images that the batch grows by with every epoch that decided.
        unrolled: take the logits' gradient after one virtual step of the weights (second order).
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained.
        hardware: cost that takes part in the logits' loss, such as ``{"target": "macs"}``.
        selection: how the architecture is derived: ``magnitude``, the largest probabilities;
            ``perturbation`` is for algorithms that mix candidates.
        search_epochs: goes with ``perturbation``.
    """

    defaults: ClassVar[dict[str, Any]] = DARTS_TRAINING
    final_lr_share: ClassVar[float] = 0.04

    criterion: Literal[1, 2] = 1
    first_decision: int = 9
    decide_every: int = 5
    history: int = 4
    batch_increase: int = 8
    unrolled: bool = False
    decisions: int = field(init=False, repr=False, default=0)
    past: dict[str, list[list[Vector]]] = field(init=False, repr=False, default_factory=dict)
    said: list[str] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.selection != "magnitude":
            raise ValueError(
                "sgas decides edges by a criterion of its own: use selection='magnitude', or darts "
                "with selection='perturbation'"
            )
        if self.criterion not in (1, 2):
            raise ValueError(f"criterion is 1 or 2, got {self.criterion!r}")
        at_least_0 = self.first_decision, self.batch_increase
        at_least_1 = self.decide_every, self.history
        if min(at_least_0) < 0 or min(at_least_1) < 1:
            raise ValueError(
                "expected first_decision and batch_increase of at least 0, decide_every and "
                f"history of at least 1, got {self.first_decision}, {self.batch_increase}, "
                f"{self.decide_every} and {self.history}"
            )
        super().__post_init__()

    @property
    def one_by_one(self) -> bool:
        """Always: that is what it does."""
        return True

    def attach(self, training: Training) -> None:
        """Sort the logits into the groups that are normalised together."""
        super().attach(training)
        self.groups: dict[str, list[Logits]] = defaultdict(list)
        for spec in self.relaxation.specs.values():
            self.groups[spec.group].append(spec)

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Do DARTS' step, without its logits' part once all is decided."""
        return bilevel_step(self, train, valid, unrolled=self.unrolled)

    def epoch_end(self) -> Metrics:
        """Score the edges, decide where it is time to, and return both."""
        row: Metrics = {}
        self.said = []
        decided = False
        due = (self.training.epoch - self.first_decision) % self.decide_every == 0
        due = due and self.training.epoch >= self.first_decision
        for group, edges in self.groups.items():
            p = self.relaxation.softmaxes()
            past = self.past.setdefault(group, [])
            vectors, nones = [p[e.label] for e in edges], [e.none for e in edges]
            score, q = edge_scores(vectors, nones, past, self.criterion)
            row |= {f"score.{e.label}": float(s) for e, s in zip(edges, score, strict=True)}
            if self.criterion == 2:
                self.past[group] = [*past, q][-self.history :]  # joins after it was used
            open_ = [k for k, e in enumerate(edges) if e.label not in self.relaxation.fixed]
            if due and open_:
                self._decide(edges, max(open_, key=lambda k: score[k]), q, score)
                decided = True
            self.said.append(self._candidate_flags(group, edges))
        if decided:
            self.decisions += 1
            release(self.relaxation, self.training)
        left = sum(1 for label in self.relaxation.specs if label not in self.relaxation.fixed)
        counts = {"decisions": float(self.decisions), "undecided": float(left)}
        return super().epoch_end() | row | counts

    def notes(self) -> list[str]:
        """Return the epoch's decisions with their scores, and the candidate flags of each group."""
        return list(self.said)

    def _candidate_flags(self, group: str, edges: Sequence[Logits]) -> str:
        """Return which edges are still undecided: a 1 for each that is, in the edges' order."""
        flags = [int(edge.label not in self.relaxation.fixed) for edge in edges]
        shown = " ".join(map(str, flags))
        return f"{_of(group)}candidate flags {shown} ({sum(flags)} of {len(flags)} undecided)"

    def _decide(self, edges: Sequence[Logits], at: int, q: Sequence[Vector], score: Vector) -> None:
        """Fix an edge's best operation; once its node is full, leave its other edges out."""
        fixed, chosen = self.relaxation.fixed, edges[at]
        best = int(np.argmax(q[at]))
        past_none = chosen.none is not None and best >= chosen.none
        self.relaxation.fix(chosen.label, best + past_none)
        scores = " ".join(f"{value:.3f}" for value in score)
        self.said.append(
            f"{_of(chosen.group)}decided {chosen.label} = {chosen.options[best + past_none]}, of "
            f"score {score[at]:.3f} among {scores}"
        )
        rivals = [edge for edge in edges if edge.node == chosen.node]
        left = [edge.label for edge in rivals if edge.label not in fixed]
        if left and full(self.relaxation, rivals):
            self.said.append(f"{_of(chosen.group)}node full, left out {', '.join(left)}")
            for label in left:
                self.relaxation.fix(label, SKIP)

    def batch_size(self, base: int) -> int:
        """Return the base batch size and what the decisions added."""
        return base + self.batch_increase * self.decisions

    def lr_scale(self, step: int, steps: int) -> float:
        """Return a cosine over epochs, as the authors': growing batches make fewer steps."""
        return self.cosine(self.training.epoch / self.training.epochs)

    def derive(self) -> dict[str, Value]:
        """Return what was decided; open places go to the edges of the largest importance."""
        return self.relaxation.derive(importance)

    def state_dict(self) -> dict[str, Any]:
        """Return DARTS' state, the decisions and the history of distributions."""
        past = {g: [[v.tolist() for v in q] for q in rows] for g, rows in self.past.items()}
        return super().state_dict() | {"decisions": self.decisions, "past": past}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
        super().load_state_dict(state)
        self.decisions = state["decisions"]
        self.past = {
            group: [[np.asarray(v, dtype=np.float64) for v in q] for q in rows]
            for group, rows in state["past"].items()
        }


def edge_scores(
    p: Sequence[Vector],
    nones: Sequence[int | None],
    past: Sequence[Sequence[Vector]],
    criterion: int,
) -> tuple[Vector, list[Vector]]:
    """Return every edge's score, and its distribution over real operations.

    Importance is the probability of real operations (equation 3), certainty one minus their
    normalised entropy (equation 4), stability the mean intersection with earlier distributions
    (equation 6); each is normalised over all edges, decided ones included.

    Args:
        p: by edge, shape (options,).
        nones: by edge, the position of the candidate that gives zeros.
        past: earlier distributions over real operations, oldest first.
        criterion: 1 or 2.
    """
    real = [v if k is None else np.delete(v, k) for v, k in zip(p, nones, strict=True)]
    q = [v / v.sum() for v in real]
    score = unit(np.array([_certainty(v) for v in q]))
    if any(none is not None for none in nones):
        score = score * unit(np.array([v.sum() for v in real]))
    if criterion == 2:
        stable = [
            np.mean([np.minimum(rows[e], v).sum() for rows in past]) if past else 0.0
            for e, v in enumerate(q)
        ]
        score = score * unit(np.array(stable, dtype=np.float64))
    return score, q


def _of(group: str) -> str:
    """Return what a line on a kind of cell begins with; places outside of cells have none."""
    return f"{group}: " if group else ""


def _certainty(q: Vector) -> float:
    if len(q) < 2:
        return 1.0
    return float(1 + (q * np.log(np.maximum(q, 1e-300))).sum() / np.log(len(q)))


def unit(values: Vector) -> Vector:
    """Return values scaled to 0 … 1, zeros where all are equal."""
    span = float(np.ptp(values))
    return np.zeros_like(values) if span == 0 else (values - values.min()) / span
