"""How long ``import raynas`` takes, and whether it brings torch or ray with it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 9


def seconds(code: str) -> float:
    """Return how long a fresh interpreter takes for ``code``."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the medians, interpreter start left out."""
    rows = [
        (seconds("pass"), seconds("import raynas"), seconds("import torch")) for _ in range(RUNS)
    ]
    bare, ours, torch = (statistics.median(column) for column in zip(*rows, strict=True))
    heavy = "import sys, raynas; print(sorted({'torch', 'ray', 'pandas'} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", heavy], check=True, text=True, capture_output=True
    )
    print(f"import raynas: {ours - bare:.3f} s (goal 0.3), brings {found.stdout.strip()}")
    print(f"ratio to import torch: {(ours - bare) / (torch - bare):.3f}")


if __name__ == "__main__":
    main()
