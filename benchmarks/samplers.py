"""CPU time and peak memory of one ask and one tell of every sampler, after trials of history.

The history is random and told beforehand, and so are the sampler's first asks, which need no tell:
what is measured are asks that a model or a population decides. A space ``20x5`` has twenty choices
of five options; what is told is a sum of effects of all options and some noise. CPU times are the
mean over so many asks as ``--repeats`` says, fewer where these take longer than ``--seconds``;
memory is the largest that Python and NumPy held during an ask or a tell beyond what they held
before, of five further ones. A sampler that takes longer than ``--patience`` seconds to be told the
history has a dash.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.trial import Trial

SHAPES = ("20x5", "60x7", "300x4", "1000x3")
TRACED = 5  # asks whose memory is measured


class Surface:
    """A flat space, and a noisy sum of normal effects of its options.

    Args:
        shape: decisions and options, as ``20x5``.
    """

    def __init__(self, shape: str) -> None:
        decisions, options = map(int, shape.split("x"))
        self.space = ArchSpace.of(**{f"choice{i:04}": range(options) for i in range(decisions)})
        self.rng = np.random.default_rng(0)
        self._effects = self.rng.standard_normal((decisions, options))
        self._each = np.arange(decisions)

    def trial(self, arch: Arch) -> Trial:
        """Return what an architecture scores."""
        numbers = np.array(list(arch.values()), dtype=np.int64)
        noise = self.rng.standard_normal() * 0.1
        return Trial.completed(arch, float(self._effects[self._each, numbers].sum() + noise))


def prepared(name: str, surface: Surface, history: int, patience_s: float) -> Sampler | None:
    """Return a sampler that knows the history and is past its first asks; None if it takes long."""
    sampler = SAMPLERS[name](surface.space, seed=0)
    began = time.process_time()
    for _ in range(history):
        sampler.tell(surface.trial(surface.space.sample(surface.rng)))
        if time.process_time() - began > patience_s:
            return None
    for _ in range(sampler.startup or 0):
        sampler.tell(surface.trial(sampler.ask()))
    return sampler


def milliseconds(sampler: Sampler, surface: Surface, repeats: int, limit_s: float) -> float:
    """Return the mean CPU time of an ask and its tell."""
    spent, count = 0.0, 0
    while count < repeats and spent < limit_s:
        began = time.process_time()
        arch = sampler.ask()
        spent += time.process_time() - began
        told = surface.trial(arch)
        began = time.process_time()
        sampler.tell(told)
        spent += time.process_time() - began
        count += 1
    return spent / count * 1000


def megabytes(sampler: Sampler, surface: Surface) -> float:
    """Return by how much memory grows at most within an ask or a tell."""

    def growth(function: Callable[[], object]) -> int:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        function()
        return tracemalloc.get_traced_memory()[1] - before

    most = 0
    tracemalloc.start()
    for _ in range(TRACED):
        asked: list[Arch] = []
        most = max(most, growth(partial(_ask, sampler, asked)))
        told = surface.trial(asked[0])
        most = max(most, growth(partial(sampler.tell, told)))
    tracemalloc.stop()
    return most / 2**20


def _ask(sampler: Sampler, asked: list[Arch]) -> None:
    asked.append(sampler.ask())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samplers", nargs="+", default=sorted(SAMPLERS))
    parser.add_argument("--shapes", nargs="+", default=SHAPES)
    parser.add_argument("--history", type=int, nargs="+", default=[300])
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--patience", type=float, default=120)
    given = parser.parse_args()
    heads = "".join(f"{n:>11,} told{'':8}" for n in given.history)
    print(f"{'CPU ms and MB an ask and tell':32}{heads}")
    for shape in given.shapes:
        for name in given.samplers:
            print(f"{shape:8}{name:24}", end="", flush=True)
            for history in given.history:
                surface = Surface(shape)
                sampler = prepared(name, surface, history, given.patience)
                if sampler is None:
                    print(f"{'-':>11}{'-':>11}  ", end="", flush=True)
                    continue
                spent = milliseconds(sampler, surface, given.repeats, given.seconds)
                memory = megabytes(sampler, surface)
                print(f"{spent:11.3f}{memory:11.2f}  ", end="", flush=True)
            print()


if __name__ == "__main__":
    main()
