"""CPU time of one ask and one tell of every sampler, after so many trials of history.

The space has twenty choices of five options; the history is random and told beforehand.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from raynas.core.archspace import ArchSpace
from raynas.core.sampler import SAMPLERS
from raynas.core.trial import Trial

NAMES = (
    "random", "grid", "regularized_evolution", "evolution", "local_search", "reinforce", "tpe",
    "nsga2", "predictor",
)  # fmt: skip
SPACE = ArchSpace.of(**{f"choice{i:02}": list(range(5)) for i in range(20)})


def milliseconds(name: str, history: int, repeats: int) -> float:
    """Return the mean CPU time of an ask and its tell."""
    rng = np.random.default_rng(0)
    effects = rng.standard_normal((20, 5))

    def trial(numbers: list[int]) -> float:
        return float(effects[np.arange(20), numbers].sum() + rng.standard_normal() * 0.1)

    sampler = SAMPLERS[name](SPACE, seed=0)
    for _ in range(history):
        arch = SPACE.sample(rng)
        sampler.tell(Trial.completed(arch, trial(list(arch.values()))))  # type: ignore[arg-type]
    spent = 0.0
    for _ in range(repeats):
        began = time.process_time()
        arch = sampler.ask()
        spent += time.process_time() - began
        told = Trial.completed(arch, trial(list(arch.values())))  # type: ignore[arg-type]
        began = time.process_time()
        sampler.tell(told)
        spent += time.process_time() - began
    return spent / repeats * 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samplers", nargs="+", default=NAMES)
    parser.add_argument("--history", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--repeats", type=int, default=100)
    given = parser.parse_args()
    print("CPU ms per ask and tell" + " " * 7 + "".join(f"{n:>10,}" for n in given.history))
    for name in given.samplers:
        found = [milliseconds(name, history, given.repeats) for history in given.history]
        print(f"{name:30}" + "".join(f"{ms:10.3f}" for ms in found), flush=True)


if __name__ == "__main__":
    main()
