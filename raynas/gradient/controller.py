"""A policy over the architectures of any space: an LSTM that decides one decision after the other.

Source: Pham et al., 2018, arXiv:1802.03268, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from torch.nn.utils import skip_init

from raynas.core.arch import Arch, Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset
from raynas.gradient.mixed.base import sampled

INITIAL = 0.1  # weights begin uniform in +-0.1, as the authors'
DTYPE = torch.float64
Vector = NDArray[np.float64]


class Chooser(Protocol):
    """Says what is decided, given probabilities."""

    def pick(self, decision: Decision, p: Vector, taken: Sequence[int]) -> int:
        """Return a position; those of ``taken`` have probability 0.

        Args:
            decision: a choice, or a set of which one more option is picked.
            p: shape (options,).
            taken: positions that were picked before.
        """
        ...

    def bits(self, decision: Decision, p: Vector) -> NDArray[np.bool_]:
        """Return which options are in a set of any number, given each one's probability."""
        ...


class Drawn:
    """Draws from the probabilities."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def pick(self, decision: Decision, p: Vector, taken: Sequence[int]) -> int:
        """Draw a position."""
        return sampled(p, self._rng)

    def bits(self, decision: Decision, p: Vector) -> NDArray[np.bool_]:
        """Draw every bit."""
        return self._rng.random(len(p)) < p


class Likeliest:
    """Takes what is most probable at every decision, ties going to the first."""

    def pick(self, decision: Decision, p: Vector, taken: Sequence[int]) -> int:
        """Return the arg max."""
        return int(np.argmax(p))

    def bits(self, decision: Decision, p: Vector) -> NDArray[np.bool_]:
        """Return which bits are more probable than not."""
        return p > 0.5


class Given:
    """Takes what an architecture says; of a set of k, its options in their order."""

    def __init__(self, arch: Arch) -> None:
        self._arch = arch

    def _positions(self, decision: Decision) -> list[int]:
        value = self._arch[decision.label]
        if isinstance(decision, Choice):
            return [decision.index(value)]
        assert isinstance(value, tuple)
        return [decision.options.index(option) for option in value]

    def pick(self, decision: Decision, p: Vector, taken: Sequence[int]) -> int:
        """Return the next of the architecture's positions."""
        return self._positions(decision)[len(taken)]

    def bits(self, decision: Decision, p: Vector) -> NDArray[np.bool_]:
        """Return the architecture's bits."""
        return np.isin(np.arange(len(p)), self._positions(decision))


@dataclass
class Path:
    """One walk of the controller through a space.

    Attributes:
        arch: that was decided.
        log_p: logarithm of the probability of what was decided, shape ().
        entropy: of the distributions on the way, summed, in nats, shape ().
        penalties: of every set of any number, the divergence of its bits from the target rate.
        p: by label, shape (options,): of a set of any number, every option's own probability; of
            one of k, the probabilities of the first pick.
    """

    arch: Arch = field(default_factory=lambda: Arch({}))
    log_p: Tensor = field(default_factory=lambda: torch.zeros((), dtype=DTYPE))
    entropy: Tensor = field(default_factory=lambda: torch.zeros((), dtype=DTYPE))
    penalties: list[Tensor] = field(default_factory=list)
    p: dict[str, Vector] = field(default_factory=dict)

    @property
    def penalty(self) -> Tensor:
        """The mean divergence of the sets of any number, 0 where there is none, shape ()."""
        return torch.stack(self.penalties).mean() if self.penalties else self.log_p.new_zeros(())


class Controller(nn.Module):
    """An LSTM whose output at every reached decision gives the logits of its options.

    A choice is a softmax; a set of k is k picks without replacement, one LSTM step each; a set of
    any number is one step with a coin for each option, p = sigmoid(2 l), which is the softmax of
    (-l, l). What was decided is the next input: the option's embedding; of coins, the sum of the
    picked ones' embeddings over 1 + their number. Logits are ``tanh_constant * tanh(l /
    temperature)``.

    It lives on the CPU in float64, and draws only from generators that are passed in, so that all
    ranks decide alike.

    Differs: every decision has a head and embeddings of its own, as in NNI; the authors share those
    of operations over nodes, and pick a node's inputs by attention over earlier states, for which
    an option of an arbitrary space stands for none.

    Args:
        space: of the architectures.
        seed: fixes the initial weights.
        hidden: size of the LSTM's state.
        layers: of the LSTM.
        tanh_constant: largest absolute logit; None does not bound them.
        temperature: by which logits are divided; None is 1.
        skip_target: rate of picked bits that ``Path.penalties`` measures from.
    """

    def __init__(
        self,
        space: ArchSpace,
        *,
        seed: int,
        hidden: int = 64,
        layers: int = 1,
        tanh_constant: float | None = None,
        temperature: float | None = None,
        skip_target: float = 0.4,
    ) -> None:
        super().__init__()
        self._space, self._hidden = space, hidden
        self._tanh, self._temperature, self._target = tanh_constant, temperature, skip_target
        # labels may have dots, which PyTorch refuses as names: decisions go by their number
        self._numbers = {label: str(at) for at, label in enumerate(space.labels)}
        self.start = nn.Parameter(torch.empty(hidden, dtype=DTYPE))
        self.cells = nn.ModuleList(
            skip_init(nn.LSTMCell, hidden, hidden, bias=False, dtype=DTYPE) for _ in range(layers)
        )
        self.heads, self.embeddings = nn.ParameterDict(), nn.ParameterDict()
        for label, decision in space.decisions.items():
            shape = (len(decision.options), hidden)
            for table in (self.heads, self.embeddings):
                table[self._numbers[label]] = nn.Parameter(torch.empty(shape, dtype=DTYPE))
        rng = np.random.default_rng([seed, 0, 0xE])
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.from_numpy(rng.uniform(-INITIAL, INITIAL, tuple(weight.shape))))

    def sample(self, rng: np.random.Generator) -> Path:
        """Draw an architecture."""
        return _Walk(self, Drawn(rng)).path()

    def likeliest(self) -> Path:
        """Take the most probable option at every decision, given those before."""
        return _Walk(self, Likeliest()).path()

    def follow(self, arch: Arch) -> Path:
        """Decide as a given architecture; a set of k is picked in the order of its options."""
        return _Walk(self, Given(arch)).path()

    @property
    def space(self) -> ArchSpace:
        """Of the architectures."""
        return self._space

    def logits(self, label: str, state: Tensor) -> Tensor:
        """Return the logits of a decision's options, shape (options,), from the LSTM's output."""
        raw: Tensor = self.heads[self._numbers[label]] @ state
        if self._temperature is not None:
            raw = raw / self._temperature
        return raw if self._tanh is None else self._tanh * torch.tanh(raw)

    def embedded(self, label: str) -> Tensor:
        """Return the embeddings of a decision's options, shape (options, hidden)."""
        embeddings: Tensor = self.embeddings[self._numbers[label]]
        return embeddings

    def divergence(self, log_on: Tensor, log_off: Tensor) -> Tensor:
        """Return the sum over bits of KL(Bernoulli(p) || Bernoulli(skip_target)), in nats."""
        target = torch.tensor([1 - self._target, self._target], dtype=DTYPE).log()
        return (log_on.exp() * (log_on - target[1]) + log_off.exp() * (log_off - target[0])).sum()


class _Walk:
    """The state of one walk."""

    def __init__(self, controller: Controller, chooser: Chooser) -> None:
        self._controller, self._chooser, self._path = controller, chooser, Path()
        zeros = torch.zeros(1, controller.start.numel(), dtype=DTYPE)
        self._states = [(zeros, zeros) for _ in controller.cells]
        self._input: Tensor = controller.start

    def path(self) -> Path:
        self._path.arch = self._controller.space.decided(self._decide)
        return self._path

    def _decide(self, decision: Decision) -> Value:
        if isinstance(decision, Choice):
            return decision.options[self._pick(decision, [])]
        if decision.k is None:
            return self._coins(decision)
        taken: list[int] = []
        for _ in range(decision.k):
            taken.append(self._pick(decision, taken))
        return tuple(decision.options[at] for at in sorted(taken))

    def _pick(self, decision: Decision, taken: Sequence[int]) -> int:
        logits = self._logits(decision.label)
        left = [at for at in range(len(decision.options)) if at not in taken]
        log_p = logits[left].log_softmax(-1)
        p = np.zeros(len(logits))
        p[left] = log_p.detach().exp().numpy()
        if not taken:
            self._path.p[decision.label] = p
        at = self._chooser.pick(decision, p, taken)
        self._path.log_p = self._path.log_p + log_p[left.index(at)]
        self._path.entropy = self._path.entropy - (log_p.exp() * log_p).sum()
        self._input = self._controller.embedded(decision.label)[at]
        return at

    def _coins(self, decision: Subset) -> tuple[Atom, ...]:
        logits = 2 * self._logits(decision.label)
        log_on, log_off = logsigmoid(logits), logsigmoid(-logits)
        p = log_on.detach().exp().numpy()
        self._path.p[decision.label] = p
        bits = self._chooser.bits(decision, p)
        on = torch.from_numpy(bits)
        path = self._path
        path.log_p = path.log_p + torch.where(on, log_on, log_off).sum()
        path.entropy = path.entropy - (log_on.exp() * log_on + log_off.exp() * log_off).sum()
        path.penalties.append(self._controller.divergence(log_on, log_off))
        picked = self._controller.embedded(decision.label)[on]
        self._input = picked.sum(0) / (1 + len(picked))
        return tuple(option for option, bit in zip(decision.options, bits, strict=True) if bit)

    def _logits(self, label: str) -> Tensor:
        x = self._input[None]
        for at, cell in enumerate(self._controller.cells):
            self._states[at] = cell(x, self._states[at])
            x = self._states[at][0]
        return self._controller.logits(label, x[0])
