"""Choices decided by what the supernet loses without them.

DARTS-PT (Wang et al., 2021, arXiv:2108.04392): the size of a logit says little about how much its
candidate contributes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from raynas.gradient.decisions import release
from raynas.gradient.mixed.base import MixedOp
from raynas.gradient.mixed.binary_gate import BinaryGate
from raynas.gradient.mixed.reinmax import ReinMax
from raynas.gradient.quiet import by_batch_statistics
from raynas.gradient.relaxation import Relaxation
from raynas.nn.logits import Logits
from raynas.nn.mutable import SKIP
from raynas.supernet.protocol import Batch, Training

Selection = Literal["magnitude", "perturbation"]
Alternative = tuple[str, int | None]  # label, and position of a candidate or None for the edge

ORDER = 0xE  # the stream of the order in which choices are decided
STREAM = 2**20  # of what mixtures draw while they are judged, above those of training
DIGITS = 6  # of a reward that count
TUNING = 0.1  # learning rate while choices are decided, over that before (the authors' code)


def check_selection(selection: str, search_epochs: int | None, ops: Iterable[MixedOp]) -> None:
    """Raise ValueError where an algorithm cannot select so.

    Args:
        selection: the option.
        search_epochs: before the first decision.
        ops: how candidates combine.
    """
    if selection not in get_args(Selection):
        names = ", ".join(get_args(Selection))
        raise ValueError(f"selection is one of {names}, got {selection!r}")
    if selection == "magnitude":
        if search_epochs is not None:
            raise ValueError("search_epochs goes with selection='perturbation'")
        return
    if search_epochs is not None and search_epochs < 1:
        raise ValueError(f"search_epochs must be at least 1, got {search_epochs}")
    if not all(op.combines and not isinstance(op, BinaryGate | ReinMax) for op in ops):
        raise ValueError(
            "selection='perturbation' leaves candidates out of mixtures, and here one sampled "
            "candidate runs at a time: use selection='magnitude', or an algorithm that mixes, "
            "such as darts"
        )


def search_epochs_of(search_epochs: int | None, warmup_epochs: int, epochs: int) -> int:
    """Return how many epochs come before the first decision.

    Args:
        search_epochs: None is the warm-up and half of what follows it.
        warmup_epochs: in which weights alone are trained.
        epochs: in all.

    Raises:
        ValueError: there are fewer epochs in all.
    """
    half = max((warmup_epochs + epochs + 1) // 2, 1)
    chosen = min(half, epochs) if search_epochs is None else search_epochs
    if chosen > epochs:
        raise ValueError(
            f"search_epochs={chosen} come before the first decision, and there are {epochs} epochs "
            "in all: use fewer search_epochs, or more epochs"
        )
    return chosen


class Perturbation:
    """Decides one choice of each group at a time, in a random order, while training goes on.

    Of a choice, every candidate in turn gives zeros, the others' weights being as they are; the one
    without which the validation split's reward is least is kept. Once all operations of a group are
    decided, each node of a cell keeps the edges without which that is least. Decisions spread
    evenly over the epochs after ``search_epochs``, so that the weights are tuned after each; all
    fall together where no epochs come after.

    What is decided follows from what is fixed already and from the epoch: there is no other state.

    Differs: of equal rewards the smallest goes to the candidate of the largest probability.
    Stochastic mixtures are judged by one draw per batch, the same for all candidates.

    Args:
        relaxation: of the model.
        training: attached.
        seed: fixes the order.
        search_epochs: before the first decision.

    Attributes:
        search_epochs: before the first decision.
        rounds: of decisions.
    """

    def __init__(
        self, relaxation: Relaxation, training: Training, *, seed: int, search_epochs: int
    ) -> None:
        self._relaxation, self._training = relaxation, training
        self.search_epochs = search_epochs
        groups: dict[str, list[Logits]] = defaultdict(list)
        for spec in relaxation.specs.values():
            groups[spec.group].append(spec)
        rng = np.random.default_rng([seed, ORDER])
        self._choices = {g: [s[k] for k in rng.permutation(len(s))] for g, s in groups.items()}
        self._nodes: dict[str, list[list[Logits]]] = {}
        for group, specs in groups.items():
            nodes = [n for n in _by_node(specs) if len(n) > n[0].keep]
            self._nodes[group] = [nodes[k] for k in rng.permutation(len(nodes))]
        self.rounds = max(len(self._choices[g]) + len(self._nodes[g]) for g in groups)

    def due(self, epoch: int) -> int:
        """Return how many rounds of decisions come at the end of an epoch."""
        tuned = self._training.epochs - self.search_epochs
        at = [self.search_epochs - 1 + r * tuned // self.rounds for r in range(self.rounds)]
        return at.count(epoch)

    def share(self, share: float) -> tuple[float, float]:
        """Return the share, 0 to 1, of the search or of the tuning, and its learning rate's factor.

        Args:
            share: of the whole training.
        """
        search = self.search_epochs / self._training.epochs
        if share < search:
            return share / search, 1.0
        return (share - search) / (1 - search), TUNING

    def decide(self, valid: Iterator[Batch]) -> None:
        """Take the decisions that are due at the end of this epoch."""
        for _ in range(self.due(self._training.epoch)):
            for group in self._choices:
                self._round(group, valid)
            release(self._relaxation, self._training)

    def _round(self, group: str, valid: Iterator[Batch]) -> None:
        fixed = self._relaxation.fixed
        for spec in self._choices[group]:
            if spec.label not in fixed:
                self._relaxation.fix(spec.label, self._best(spec, valid))
                return
        for node in self._nodes[group]:
            left = [edge.label for edge in node if fixed[edge.label] != SKIP]
            if len(left) > node[0].keep:
                worth = self._worth_without([(label, None) for label in left], valid)
                for k in np.argsort(worth, kind="stable")[node[0].keep :]:
                    self._relaxation.fix(left[int(k)], SKIP)
                return

    def _best(self, spec: Logits, valid: Iterator[Batch]) -> int:
        """Return the position of the candidate that would be missed most."""
        kept = self._relaxation.kept.get(spec.label, range(len(spec.options)))
        at = [k for k in kept if spec.picks_none or k != spec.none]
        if len(at) == 1:
            return at[0]
        worth = self._worth_without([(spec.label, k) for k in at], valid)
        p = self._relaxation.probabilities()[spec.label]
        return at[int(np.lexsort((-p[at], worth))[0])]

    def _worth_without(
        self, alternatives: Sequence[Alternative], valid: Iterator[Batch]
    ) -> NDArray[np.float64]:
        """Return the mean reward over the validation split without each of them."""
        training, relaxation = self._training, self._relaxation
        totals: list[torch.Tensor] = []
        with by_batch_statistics(training.model):
            for number in range(training.valid_steps):
                batch = next(valid)
                relaxation.sample(training.step, STREAM + number)
                rewards = []
                for label, position in alternatives:
                    with relaxation.without(label, position):
                        rewards.append(training.reward(batch).detach().double())
                totals.append(torch.stack(rewards))
        mean = torch.stack(totals).mean(0)
        training.average([mean])
        worth: NDArray[np.float64] = mean.cpu().numpy()
        # rounded: accuracies that are equal must tie on any number of ranks. One that is undefined
        # without a candidate is not what is missed.
        return np.nan_to_num(worth.round(DIGITS), nan=np.inf)


def _by_node(specs: Sequence[Logits]) -> list[list[Logits]]:
    nodes: dict[str, list[Logits]] = defaultdict(list)
    for spec in specs:
        nodes[spec.node].append(spec)
    return list(nodes.values())
