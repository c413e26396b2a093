"""Edge normalisation: the in-edges of a node are weighed against each other.

Xu et al., 2020, arXiv:1907.05737 (PC-DARTS), equation 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raynas.gradient.relaxation import new_vector
from raynas.nn.cell import Cell
from raynas.nn.inputs import InputChoice
from raynas.nn.logits import Logits
from raynas.nn.mutable import mutables


class EdgeWeights:
    """Multiplies what comes in by every edge of a cell by a softmax over the edges of its node.

    The logits (beta in the paper) stand outside the model, by the label of a node's sources: cells
    of one label share them. A node with a single in-edge has none, and takes it as it is. So are
    the inputs of an ``InputChoice`` that come from layer choices, by its own label.

    Args:
        model: a supernet; its cells and choices of inputs are weighed from now on.
        seed: fixes the initial logits.
        scale: standard deviation of the initial logits.
    """

    def __init__(self, model: nn.Module, *, seed: int, scale: float = 1e-3) -> None:
        cells = [m for m in mutables(model) if isinstance(m, Cell)]
        self.specs: dict[str, Logits] = {
            f"{cell.label}/n{node}/from": Logits(f"{cell.label}/n{node}/from", sources)
            for cell in cells
            for node, sources in enumerate(cell.sources)
            if len(sources) > 1
        }
        inputs = [m for m in mutables(model) if isinstance(m, InputChoice) and m.ranked]
        self.specs |= {str(m.label): Logits(str(m.label), m.options) for m in inputs}
        rng = np.random.default_rng([seed, 0xB])
        like = next(model.parameters(), torch.empty(0))
        self.vectors = {
            label: new_vector(scale * rng.standard_normal(len(spec.options)), like)
            for label, spec in self.specs.items()
        }
        self._learns = True
        for cell in cells:
            cell.edge_weights = self
        for choice in inputs:
            choice.edge_weights = self

    def __call__(self, label: str) -> Sequence[Tensor] | None:
        """Return a factor for every in-edge of a node, None for a single one."""
        vector = self.vectors.get(label)
        if vector is None:
            return None
        return (vector if self._learns else vector.detach()).softmax(-1).unbind()

    @contextmanager
    def frozen_alphas(self) -> Iterator[None]:
        """Keep the logits out of what is computed."""
        self._learns = False
        try:
            yield
        finally:
            self._learns = True

    def probabilities(self) -> dict[str, NDArray[np.float64]]:
        """Return softmaxes by label, shape (sources,)."""
        return {
            label: vector.detach().double().cpu().softmax(-1).numpy()
            for label, vector in self.vectors.items()
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Return the logits."""
        return {label: vector.detach().clone() for label, vector in self.vectors.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take what ``state_dict`` gave."""
        with torch.no_grad():
            for label, vector in self.vectors.items():
                vector.copy_(state[label])
