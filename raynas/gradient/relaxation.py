"""What a differentiable search adds to a model for as long as it lasts: logits, draws, decisions.

Logits stand outside the model, by label: choices of one label share one tensor, no weight optimizer
sees them, and ``state_dict`` keys stay those of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.gradient.mixed.base import Bound, Draw, DrawsByLogits, Dropped, MixedOp, Op
from raynas.gradient.read_inputs import Ranking, check_inputs, input_choices, reading
from raynas.nn.choice import LayerChoice
from raynas.nn.inputs import InputChoice
from raynas.nn.logits import Logits, Probabilities, Rank
from raynas.nn.mutable import SKIP, derived, logits_of, mutables


class Mixer:
    """The route of every choice with one label.

    Attributes:
        logits: shape (candidates,).
        op: how candidates combine.
        draw: of the coming passes.
        learns: whether logits take part in what is differentiated.
        kept: positions of the candidates that are still mixed; None is all.
        dropped: position of a candidate that gives zeros for a while, the others being as they are.
    """

    def __init__(self, logits: Tensor, op: MixedOp) -> None:
        self.logits, self.op = logits, op
        self.draw: Draw = None
        self.learns = True
        self.kept: tuple[int, ...] | None = None
        self.dropped: int | None = None

    def __call__(self, ops: Sequence[nn.Module], *inputs: Any, **keywords: Any) -> Any:
        """Return the mixture of the candidates."""
        logits = self.logits if self.learns else self.logits.detach()
        mixed = range(len(ops)) if self.kept is None else self.kept
        bound: list[Op] = [
            Dropped(Bound(ops[k], keywords)) if k == self.dropped else Bound(ops[k], keywords)
            for k in mixed
        ]
        return self.op(bound, inputs, self._mixed(logits), self.draw)

    def probabilities(self) -> Tensor:
        """Return the differentiable weights that expected costs are taken with."""
        p = self.op.probabilities(self._mixed(self.logits), self.draw)
        if self.kept is None:
            return p
        weights = [p.new_zeros(())] * len(self.logits)
        for k, value in zip(self.kept, p.unbind(), strict=True):
            weights[k] = value
        return torch.stack(weights)

    def _mixed(self, logits: Tensor) -> Tensor:
        """Return those of what is mixed; an index tensor would have to reach the device."""
        return logits if self.kept is None else torch.stack([logits[k] for k in self.kept])


class Relaxation:
    """Ties logits to the choices of one model.

    Args:
        model: a supernet; its routes are set until ``detach``.
        op: how candidates combine.
        seed: fixes initial logits and all draws.
        scale: standard deviation of the initial logits, or half the width of a uniform one.
        uniform: whether the initial logits are uniform instead of normal.

    Raises:
        InvalidSpace: the model has a mutable that cannot be relaxed.
    """

    def __init__(
        self,
        model: nn.Module,
        op: MixedOp,
        *,
        seed: int,
        scale: float = 1e-3,
        uniform: bool = False,
    ) -> None:
        self.model, self.seed = model, seed
        self.specs: dict[str, Logits] = logits_of(model)
        check_inputs(model, op)
        self.ranking = Ranking(model, self.specs)
        rng = np.random.default_rng([seed, 0xA])
        like = next(model.parameters(), torch.empty(0))
        self.vectors = {
            label: new_vector(
                rng.uniform(-scale, scale, len(spec.options))
                if uniform
                else scale * rng.standard_normal(len(spec.options)),
                like,
            )
            for label, spec in self.specs.items()
        }
        self.fixed: dict[str, int] = {}
        self.kept: dict[str, tuple[int, ...]] = {}
        self.mixers = {label: Mixer(vector, op) for label, vector in self.vectors.items()}
        self._choices = [
            m for m in mutables(model) if isinstance(m, LayerChoice) and m.label in self.mixers
        ]
        self._inputs = input_choices(model)
        self.attach()

    def use(self, op: MixedOp) -> None:
        """Combine candidates by another operator from now on."""
        for mixer in self.mixers.values():
            mixer.op = op

    def attach(self) -> None:
        """Route every choice through its mixer, or to what was decided."""
        for choice in self._choices:
            label = str(choice.label)
            choice.route = self.fixed.get(label, self.mixers[label])
        for inputs in self._inputs:
            label = str(inputs.label)
            at = self.fixed.get(label)
            inputs.route = reading(inputs, self.mixers.get(label)) if at is None else (at,)

    def detach(self) -> None:
        """Leave the model without routes."""
        for choice in (*self._choices, *self._inputs):
            choice.route = None

    def live(self) -> list[nn.Parameter]:
        """Return the logits that are still learned."""
        return [vector for vector in self.vectors.values() if vector.requires_grad]

    def fix(self, label: str, route: int) -> None:
        """Decide a choice for good: a candidate's position, or SKIP for an edge left out."""
        self.fixed[label] = route
        vector = self.vectors[label]
        vector.requires_grad_(False)
        vector.grad = None  # neither weight decay nor momentum moves it any more
        self.attach()

    def prune(self, label: str, kept: Sequence[int]) -> None:
        """Leave candidates out of a choice for good; the others are mixed as if alone.

        Args:
            label: of the choice.
            kept: positions of those that stay.
        """
        self.kept[label] = self.mixers[label].kept = tuple(sorted(kept))

    @contextmanager
    def without(self, label: str, position: int | None = None) -> Iterator[None]:
        """Let a candidate give zeros for a while, or a whole edge be left out."""
        mixer = self.mixers[label]
        choices = [choice for choice in self._choices if str(choice.label) == label]
        routes = [choice.route for choice in choices]
        mixer.dropped = position
        if position is None:
            for choice in choices:
                choice.route = SKIP
        try:
            yield
        finally:
            mixer.dropped = None
            for choice, route in zip(choices, routes, strict=True):
                choice.route = route

    @contextmanager
    def frozen_alphas(self) -> Iterator[None]:
        """Keep the logits out of what is computed: their gradients cost a pass over every map."""
        for mixer in self.mixers.values():
            mixer.learns = False
        try:
            yield
        finally:
            for mixer in self.mixers.values():
                mixer.learns = True

    def reachable(self) -> tuple[set[str], set[nn.Parameter]]:
        """Return labels and weights that a pass may still use, now that some are decided."""
        labels, weights, stack = set[str](), set[nn.Parameter](), [self.model]
        while stack:
            module = stack.pop()
            weights.update(module.parameters(recurse=False))
            if isinstance(module, LayerChoice) and module.label in self.mixers:
                label, layers = str(module.label), module.layers()
                labels.add(label)
                route = self.fixed.get(label)
                if route is None:
                    stack += [layers[k] for k in self.kept.get(label, range(len(layers)))]
                elif route != SKIP:
                    stack.append(layers[route])
            else:
                if isinstance(module, InputChoice) and module.label in self.mixers:
                    labels.add(str(module.label))
                stack += module.children()
        return labels, weights

    def sample(self, step: int, stream: int) -> None:
        """Draw what is random in the coming passes: a function of seed, step and stream alone.

        Raises:
            FloatingPointError: logits are no numbers.
        """
        rng = np.random.default_rng([self.seed, step, stream])
        logits = self._read()
        softmaxes = {label: self._softmax(label, vector) for label, vector in logits.items()}
        check_finite(softmaxes)
        for label, p in softmaxes.items():
            mixer = self.mixers[label]
            given = logits[label].numpy() if isinstance(mixer.op, DrawsByLogits) else p
            mixer.draw = mixer.op.draw(given if mixer.kept is None else given[[*mixer.kept]], rng)

    def softmaxes(self) -> dict[str, NDArray[np.float64]]:
        """Return softmaxes by label, shape (options,), by one read from the device."""
        return {label: self._softmax(label, vector) for label, vector in self._read().items()}

    def _read(self) -> dict[str, Tensor]:
        """Return the logits on the CPU in float64."""
        flat = torch.cat([vector.detach() for vector in self.vectors.values()]).double().cpu()
        parts = flat.split([vector.numel() for vector in self.vectors.values()])
        return dict(zip(self.vectors, parts, strict=True))

    def _softmax(self, label: str, logits: Tensor) -> NDArray[np.float64]:
        """Return the softmax over the candidates that are kept, zeros elsewhere."""
        kept = self.kept.get(label)
        if kept is not None:
            inside = torch.full_like(logits, -torch.inf)
            inside[[*kept]] = logits[[*kept]]
            logits = inside
        return logits.softmax(-1).numpy()

    def probabilities(self) -> dict[str, NDArray[np.float64]]:
        """Return the softmaxes by label, shape (options,); what is decided is certain.

        Where layer choices rank the inputs of an ``InputChoice``, what its vector holds are their
        strengths.
        """
        p = self.softmaxes()
        for label, route in self.fixed.items():
            none = self.specs[label].none
            # a pruned edge is surely `none`: zeros would rank it first where 1 - p_none counts
            at = none if route == SKIP and none is not None else route
            p[label] = np.zeros_like(p[label])
            if at != SKIP:
                p[label][at] = 1.0
        return p | self.ranking.strengths(p)

    def derive(self, rank: Rank) -> dict[str, Value]:
        """Return the architecture that the probabilities prefer."""
        return derived(self.model, self.probabilities(), rank)

    def weights(self) -> dict[str, Tensor]:
        """Return, by label, the differentiable weights that expected costs are taken with."""
        weights = {label: mixer.probabilities() for label, mixer in self.mixers.items()}
        for label, route in self.fixed.items():
            weights[label] = torch.zeros_like(self.vectors[label])
            if route != SKIP:
                weights[label][route] = 1.0
        return weights

    def entropy(self) -> float:
        """Return the mean entropy, in nats, of the vectors that are not decided."""
        p = [v for label, v in self.softmaxes().items() if label not in self.fixed]
        return float(np.mean([-(v * np.log(v + 1e-30)).sum() for v in p])) if p else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return logits and decisions."""
        vectors = {label: vector.detach().clone() for label, vector in self.vectors.items()}
        kept = {label: list(positions) for label, positions in self.kept.items()}
        return {"logits": vectors, "fixed": dict(self.fixed)} | ({"kept": kept} if kept else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
        with torch.no_grad():
            for label, vector in self.vectors.items():
                vector.copy_(state["logits"][label])
        for label, kept in state.get("kept", {}).items():
            self.prune(label, kept)
        for label, route in state["fixed"].items():
            self.fix(label, route)


def new_vector(values: NDArray[np.float64], like: Tensor) -> nn.Parameter:
    """Return logits on the weights' device, in float32 at least."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return nn.Parameter(torch.from_numpy(values).to(like.device, dtype))


def check_finite(probabilities: Probabilities) -> None:
    """Raise FloatingPointError if a vector holds what is no number, naming its label."""
    for label, p in probabilities.items():
        if not np.isfinite(p).all():
            raise FloatingPointError(
                f"the logits of {label!r} are no numbers any more; try a lower alpha_lr"
            )


def strongest(p: NDArray[np.float64], none: int | None) -> float:
    """Return the largest probability of a real operation: DARTS' strength of an edge."""
    return float(max(value for k, value in enumerate(p) if k != none))


def importance(p: NDArray[np.float64], none: int | None) -> float:
    """Return the probability of all real operations together: SGAS' strength of an edge.

    Where no candidate gives zeros that is always 1, and the largest one stands in for it.
    """
    return strongest(p, None) if none is None else 1.0 - float(p[none])
