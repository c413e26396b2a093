"""Thresholds on the norms of a super-kernel's parts: what Single-Path NAS learns.

Source: Stamoulis et al., 2019, arXiv:1904.02877, equations 3 to 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.core.errors import InvalidSpace
from raynas.nn.logits import Logits
from raynas.nn.mutable import outermost
from raynas.nn.super_kernel import FULL, HALF, LARGE, SIZES, SKIPPED, SMALL, SuperKernel, outer_ring

NAMES = ("kernel5", "block", "expand6")  # of the thresholds of a block, in the order of Indicators


class Indicators(NamedTuple):
    """Which parts of a block take part, each of shape ().

    Attributes:
        d5: the kernel's outer ring.
        d50: the block; 1 where it has no shortcut.
        d100: the second half of the channels.
    """

    d5: Tensor
    d50: Tensor
    d100: Tensor


class Thresholds:
    """Decides the super-kernels of one model by the norms of their parts.

    Blocks of one label decide together, by the mean of their squared norms.

    Args:
        model: a supernet; the routes of its super-kernels are set.
        on_kernel: whether channels are switched off on the kernel (``SuperKernel.masked``).

    Raises:
        InvalidSpace: there is no super-kernel, or a choice of another kind.
    """

    def __init__(self, model: nn.Module, *, on_kernel: bool) -> None:
        self.blocks = super_kernels(model)
        self._on_kernel = on_kernel
        like = next(iter(self.blocks.values()))[0].kernel
        dtype = torch.promote_types(like.dtype, torch.float32)
        self.values = {
            label: nn.Parameter(torch.zeros(len(NAMES), dtype=dtype, device=like.device))
            for label in self.blocks
        }
        self._kept: dict[str, tuple[float, ...]] = {}
        self.draw(0.0, np.random.default_rng(0))
        self.attach()

    def attach(self) -> None:
        """Route every block through its indicators."""
        for blocks in self.blocks.values():
            for block in blocks:
                block.route = self._run

    def _run(self, block: SuperKernel, x: Tensor) -> Tensor:
        d5, d50, d100 = self.indicators(str(block.label))
        return block.masked(x, d5, d50, d100, on_kernel=self._on_kernel)

    def draw(self, rate: float, rng: np.random.Generator) -> None:
        """Draw which indicators are set to 0 in the coming passes, each with a probability."""
        for label in self.blocks:
            self._kept[label] = tuple((rng.random(len(NAMES)) >= rate).astype(float))

    def margins(self, label: str, *, kept: bool = False) -> Tensor:
        """Return squared norm minus threshold of the three parts, shape (3,), as ``NAMES``.

        Args:
            label: of the decision.
            kept: whether the kernel's outer ring is left out where its indicator was dropped.
        """
        norms = [self._norms(label, block, kept=kept) for block in self.blocks[label]]
        return torch.stack(norms).mean(0) - self.values[label]

    def _norms(self, label: str, block: SuperKernel, *, kept: bool) -> Tensor:
        """Return the squared norms of the outer ring, and of the sized kernel's two halves."""
        kernel, threshold = block.kernel, self.values[label][0]
        ring = outer_ring(kernel)
        outer = ring.square().sum()
        # of blocks that decide together, all have the ring that their mean decides on
        mean = torch.stack([outer_ring(b.kernel).square().sum() for b in self.blocks[label]]).mean()
        d5 = indicator(mean - threshold)
        if kept:
            d5 = d5 * self._kept[label][0]
        first, second = (kernel - ring + d5 * ring).chunk(2)
        return torch.stack([outer, first.square().sum(), second.square().sum()])

    def indicators(self, label: str) -> Indicators:
        """Return which parts of a label's blocks take part in this pass."""
        return self._switches(label, self.margins(label, kept=True), self._kept[label])

    def _switches(self, label: str, margins: Tensor, kept: Sequence[float]) -> Indicators:
        d5, d50, d100 = indicator(margins) * margins.new_tensor(kept)
        if not self.blocks[label][0].shortcut:
            d50 = torch.ones_like(d50)
        return Indicators(d5, d50, d100)

    @torch.no_grad()
    def derive(self) -> dict[str, Value]:
        """Return the options that the indicators stand for."""
        return {label: self._option(label) for label in self.blocks}

    def _option(self, label: str) -> str:
        d5, d50, d100 = self._switches(label, self.margins(label), (1.0,) * len(NAMES))
        if not d50:
            return SKIPPED
        kernel, expand = (LARGE if d5 else SMALL), (FULL if d100 else HALF)
        return f"MB{kernel}E{expand}"

    def specs(self) -> dict[str, Logits]:
        """Return the options of every label."""
        return {
            label: Logits(label, blocks[0].options, node=label)
            for label, blocks in self.blocks.items()
        }

    @torch.no_grad()
    def probabilities(self) -> dict[str, NDArray[np.float64]]:
        """Return how near every option is to being decided, by label, shape (options,), sum 1.

        With s = sigmoid(margin) for the probability that a part takes part, an option's share is
        the product over its three indicators; a skipped block's other two are taken as they are
        most probable. So the largest is the derived one's.
        """
        return {label: self._shares(label) for label in self.blocks}

    def _shares(self, label: str) -> NDArray[np.float64]:
        s5, s50, s100 = self.margins(label).double().sigmoid().tolist()
        if not self.blocks[label][0].shortcut:
            s50 = 1.0
        shares = [
            s50 * (s5 if kernel == LARGE else 1 - s5) * (s100 if expand == FULL else 1 - s100)
            for kernel, expand in SIZES.values()
        ]
        if self.blocks[label][0].shortcut:
            shares.append((1 - s50) * max(s5, 1 - s5) * max(s100, 1 - s100))
        p = np.array(shares)
        return np.asarray(p / p.sum())

    def state_dict(self) -> dict[str, Any]:
        """Return the thresholds."""
        return {label: value.detach().clone() for label, value in self.values.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
        with torch.no_grad():
            for label, value in self.values.items():
                value.copy_(state[label])


def indicator(x: Tensor) -> Tensor:
    """Return 1 where x > 0, else 0; the gradient is that of sigmoid(x).

    Source: arXiv:1904.02877, section 3.2 (relaxing the indicator).
    """
    soft = torch.sigmoid(x)
    return (x > 0).to(x) + (soft - soft.detach())  # the last two cancel exactly


def super_kernels(model: nn.Module) -> dict[str, list[SuperKernel]]:
    """Return a model's super-kernels by label.

    Raises:
        InvalidSpace: there is none, or a choice of another kind.
    """
    blocks: dict[str, list[SuperKernel]] = {}
    for mutable in outermost(model):
        if isinstance(mutable, SuperKernel):
            blocks.setdefault(str(mutable.label), []).append(mutable)
        elif mutable.choices():
            raise InvalidSpace(
                f"single_path_nas decides super-kernels alone, and {type(mutable).__name__} "
                f"{mutable.label!r} is none: make it a raynas.nn.super_kernel.SuperKernel, or fix "
                "it"
            )
    if not blocks:
        raise InvalidSpace(
            "single_path_nas needs blocks that are super-kernels, and the model has none: use the "
            "space single_path_nas, or raynas.nn.super_kernel.SuperKernel"
        )
    return blocks
