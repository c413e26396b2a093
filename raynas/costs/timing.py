"""Measured latency: of a network, and of every candidate of a supernet in its place."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path as File
from typing import Any

import numpy as np
import torch
from torch import nn

from raynas.core.arch import Value
from raynas.core.decision import Choice
from raynas.core.metrics import DEVICES, LATENCY
from raynas.core.nest import Nest, call, first, moved
from raynas.costs.latency import LatencyTable
from raynas.costs.latency_files import ANY, Entry
from raynas.costs.meter import evaluating
from raynas.costs.parts import Part, Path
from raynas.costs.plain import PlainLayers, Varies
from raynas.costs.regions import Regions
from raynas.costs.walk import Run, Walk
from raynas.nn.conversion.elastic_model import ElasticModel
from raynas.nn.modelspace import ModelSpace
from raynas.nn.mutable import frozen, inner_space, name_labels, space_of
from raynas.nn.threads import torch_threads

BASES = 3


@dataclass(frozen=True)
class LatencyResult:
    """Measured times of one forward pass.

    Attributes:
        median_ms: half of the passes were faster.
        min_ms: of the fastest pass.
        mean_ms: of all passes.
        repeats: how many were timed.
        device: that ran them.
    """

    median_ms: float
    min_ms: float
    mean_ms: float
    repeats: int
    device: str

    def as_metrics(self) -> dict[str, float]:
        """Return the median as a column of the trial table."""
        return {LATENCY: self.median_ms}


def measure_latency(
    net: nn.Module,
    example: Nest,
    *,
    warmup: int = 10,
    repeats: int = 50,
    device: torch.device | str | None = None,
    threads: int | None = None,
) -> LatencyResult:
    """Return how long a network takes, in evaluation and inference mode.

    Args:
        net: with choices (if any) activated; its mode is kept.
        example: inputs of shape (batch, ...).
        warmup: passes that are not timed.
        repeats: passes that are, each on its own, the device idle before and behind.
        device: to run on; a network that is elsewhere is copied. None takes the example's.
        threads: of torch, during the measurement; None leaves them as they are.

    Raises:
        ValueError: no passes to time, or no threads.
    """
    _check_counts(warmup, repeats)
    place = first(example).device if device is None else torch.device(device)
    if any(t.device != place for t in (*net.parameters(), *net.buffers())):
        net = copy.deepcopy(net).to(place)
    example = moved(example, place)
    with torch_threads(threads), evaluating(net, fused=True), torch.inference_mode():
        times = timed(lambda: call(net, example), warmup, repeats, place)
    return LatencyResult(
        statistics.median(times), min(times), statistics.fmean(times), repeats, str(place)
    )


def latency_table(
    space: ModelSpace | nn.Module,
    example: Nest | None = None,
    *,
    warmup: int = 3,
    repeats: int = 20,
    threads: int | None = None,
) -> LatencyTable:
    """Return the measured latency of every candidate, each alone on the input that it gets.

    One pass over the supernet; a candidate is timed in its place, without choices inside of it,
    which have entries of their own. The fixed part is what whole networks take longer than their
    entries say, the median over three.

    Args:
        space: a ModelSpace, or a supernet, which is kept as it is.
        example: inputs of shape (batch, ...); None takes a batch of one from the ModelSpace.
        warmup: passes of a candidate that are not timed.
        repeats: passes that are.
        threads: of torch, during the measurement; None leaves them as they are.

    Raises:
        ValueError: no example, or no passes to time; or the latencies of parts depend on each other
            because values change shapes all over the model, as those of a converted one do.
    """
    _check_counts(warmup, repeats)
    if isinstance(space, ModelSpace):
        example = space.example_input() if example is None else example
        model = space.supernet().to(first(example).device)
    else:
        model = space
    if isinstance(model, ElasticModel):
        raise ValueError(
            f"latencies of {type(model).__name__}, a converted model, do not add up over its "
            "decisions: a search with latency='cpu' measures every network that it evaluates, "
            "measure_latency(freeze(model, arch), example) one"
        )
    if example is None:
        raise ValueError("pass example=, a batch for the supernet")
    name_labels(model)
    gauge = _Clock(warmup, repeats, first(example).device)
    with torch_threads(threads), evaluating(model, fused=True):
        try:
            plain = PlainLayers(model, remember=True)
            regions = Regions(model, plain).find(example)
            walk = Walk(model, plain, gauge, regions)
            with walk.attached():
                call(model, example)
        except Varies as reason:
            raise ValueError(f"latency does not add up over parts: {reason}") from None
        entries = _entries(walk.root, model)
        base = _base(
            model, example, LatencyTable([Entry((), (), 0.0), *entries], space_of(model)), gauge
        )
    return LatencyTable([Entry((), (), base), *entries], model)


def latency_from(
    source: str | File, model: nn.Module, example: Nest, *, threads: int | None = None
) -> LatencyTable:
    """Return the latencies of a supernet's candidates, measured here or read.

    Args:
        source: ``cpu`` or ``gpu``, on which they are measured; or the path of a table.
        model: the supernet; it is kept as it is.
        example: a batch of one.
        threads: of torch, while they are measured; None leaves them as they are.

    Raises:
        ValueError: there is no GPU, a file does not fit, or latencies do not add up.
        FileNotFoundError: there is no such file.
    """
    if source not in DEVICES:
        if "://" not in str(source) and not File(source).is_file():
            raise FileNotFoundError(
                f"latency: expected 'cpu', 'gpu' or a table's path, and there is no file {source}"
            )
        return LatencyTable.load(str(source), model)
    check_device(source)
    device = torch.device("cpu" if source == "cpu" else "cuda")
    if first(example).device.type != device.type:
        model = copy.deepcopy(model).to(device)
    return latency_table(model, moved(example, device), threads=threads)


def check_device(source: str | File) -> None:
    """Raise ValueError for a device to measure on that is not here."""
    if source == "gpu" and not torch.cuda.is_available():
        raise ValueError("latency 'gpu' needs a GPU here, or a table of latencies")


class _Clock:
    """Times parts, without those inside of them."""

    def __init__(self, warmup: int, repeats: int, device: torch.device) -> None:
        self.warmup, self.repeats, self.device = warmup, repeats, device
        self._totals: dict[int, float] = {}

    def part(self, run: Run, part: Part, walk: Walk) -> Any:
        """Run once to find the parts inside, and again, with their defaults, to time the whole."""
        out = run()
        walk.quiet = True
        total = self._totals[id(part)] = self.time(run)
        walk.quiet = False
        defaults = (switch.parts[at] for switch in part.switches for at in switch.default)
        part.amount = max(0.0, total - sum(self._totals[id(inner)] for inner in defaults))
        return out

    def aside(self) -> AbstractContextManager[None]:
        """Let everything happen: elastic layers are made plain once, before they are timed."""
        return nullcontext()

    def time(self, run: Callable[[], Any]) -> float:
        """Return the median time in milliseconds."""
        return statistics.median(timed(run, self.warmup, self.repeats, self.device))


def timed(run: Callable[[], Any], warmup: int, repeats: int, device: torch.device) -> list[float]:
    """Return the milliseconds of each of several runs, the device idle before and behind."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda _: None
    times = []
    for at in range(warmup + repeats):
        wait(device)
        started = time.perf_counter()
        run()
        wait(device)
        if at >= warmup:
            times.append(1e3 * (time.perf_counter() - started))
    return times


def _entries(root: Part, model: nn.Module) -> list[Entry]:
    amounts: dict[Path, float] = {}
    for path, part in root.walk():
        if path:
            amounts[path] = amounts.get(path, 0.0) + part.amount
    entries = [
        Entry(tuple(f.label for f in path), tuple(f.value for f in path), ms)
        for path, ms in amounts.items()
    ]
    covered: set[tuple[str, Value]] = {(f.label, f.value) for path in amounts for f in path}
    for label, decision in space_of(model).decisions.items():
        if isinstance(decision, Choice) and any(
            (label, o) not in covered for o in decision.options
        ):
            entries.append(Entry((label,), (ANY,), 0.0))  # an option that runs nothing of its own
    return entries


def _base(model: nn.Module, example: Nest, table: LatencyTable, gauge: _Clock) -> float:
    rng, space, rests = np.random.default_rng(0), inner_space(model), []
    for _ in range(BASES):
        arch = space.sample(rng)
        with torch.random.fork_rng(devices=[]):
            net = frozen(model, arch, {})
        with evaluating(net, fused=True):
            rests.append(gauge.time(partial(call, net, example)) - table.cost(arch).latency_ms)
    return max(0.0, statistics.median(rests))


def _check_counts(warmup: int, repeats: int) -> None:
    if warmup < 0 or repeats < 1:
        raise ValueError(
            f"latency: expected warmup of at least 0 and repeats of at least 1, got {warmup} and "
            f"{repeats}"
        )
