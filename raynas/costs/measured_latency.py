"""Latency of networks whose parts have none of their own: each is extracted and measured."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from raynas.core.arch import Arch, Value
from raynas.costs.latency import Latency
from raynas.costs.plain import kept
from raynas.costs.timing import measure_latency
from raynas.nn.modelspace import ModelSpace
from raynas.nn.mutable import frozen

REMEMBERED = 10_000
WARMUP, REPEATS = 3, 20


class MeasuredLatency:
    """Latency of a converted model's networks, measured in the process that asks.

    Widths that many layers share leave no parts whose latencies would add up. A network is measured
    once in a process, and the last 10,000 are remembered; what runs beside it disturbs it, other
    workers among that. Copies and pickles forget what was measured.

    Args:
        space: builds the networks.
        device: that they run on.
        threads: of torch, while they are measured; None leaves them as they are.
    """

    def __init__(self, space: ModelSpace, device: str, threads: int | None = None) -> None:
        self._space, self._device, self._threads = space, device, threads
        self._model: nn.Module | None = None
        self._remembered: OrderedDict[str, Latency] = OrderedDict()

    def cost(self, arch: Mapping[str, Value]) -> Latency:
        """Return the latency of an architecture known to be in the space: the median of passes."""
        key = (arch if isinstance(arch, Arch) else Arch(arch)).key
        if key not in self._remembered:
            self._remembered[key] = self._measured(arch)
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return self._remembered[key]

    def _measured(self, arch: Mapping[str, Value]) -> Latency:
        if self._model is None:
            self._model = self._space.supernet().eval()
        with torch.random.fork_rng(devices=[]):
            net = frozen(self._model, arch, dict(kept(self._model)))
        result = measure_latency(
            net,
            self._space.example_input(),
            warmup=WARMUP,
            repeats=REPEATS,
            device=self._device,
            threads=self._threads,
        )
        return Latency(result.median_ms)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_model": None, "_remembered": OrderedDict()}
