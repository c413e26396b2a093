"""How long README's ten-line program takes from process start to printed table, and where it goes.

Beside it, a bare loop of PyTorch and scikit-learn that does the same work in one process: the same
steps of the same supernet by uniform sampling, the same probes after every epoch, and as many
sub-networks scored in the end, each with batch statistics of its own. Both run in fresh processes,
in turn; imports count.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

README = Path(__file__).parent.parent / "README.md"
EPOCHS, TRIALS, PROBES, BATCH, SIZE = 5, 6, 4, 64, 16
TRAIN, VALID, CALIBRATION = 1000, 400, 512
GOAL_RATIO, GOAL_S = 2.0, 20.0
STARTED = "FIRST_MINUTE_STARTED_S"  # environment variable: when the process was started


def main() -> None:
    """Print the phases' medians, and the ratio over the bare loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=["ours", "bare"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only is not None:
        print(json.dumps(ours() if given.only == "ours" else bare()))
        return
    runs = [(measured("bare"), measured("ours")) for _ in range(given.runs)]
    for name in runs[0][1]:
        if name != "whole":
            seconds = statistics.median(ours.get(name, 0.0) for _, ours in runs)
            print(f"{name:<20} {seconds:6.2f} s")
    bare_s = statistics.median(bare["whole"] for bare, _ in runs)
    ours_s = statistics.median(ours["whole"] for _, ours in runs)
    print(f"{'whole':<20} {ours_s:6.2f} s (goal {GOAL_S:g} on two idle cores)")
    print(f"{'bare loop':<20} {bare_s:6.2f} s")
    ratio = statistics.median(ours["whole"] / bare["whole"] for bare, ours in runs)
    print(f"ratio: {ratio:.2f} (goal {GOAL_RATIO:g})")


def measured(kind: str) -> dict[str, float]:
    """Return how many seconds each phase of a fresh process takes, and the whole."""
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), "--only", kind],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            cwd=folder,
            env=os.environ | {STARTED: repr(time.time())},
        )
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def ours() -> dict[str, float]:
    """Run README's first example, and return the seconds of its phases."""
    import raynas

    program = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert program is not None
    code, table, rest = program.group(1).partition("print(")
    code += table + rest.split("\n", 1)[0]  # what follows the table is not measured
    progress = _marks()
    search = raynas.search
    raynas.search = lambda *args, **options: search(*args, **options, progress=progress)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(code, names)
    printed_s = time.time()
    trials = names["result"].trials
    started_s = float(os.environ[STARTED])
    begun = [
        (started_s, "imports and checks"),
        *progress.begun,
        (trials["started_utc"].min().timestamp(), "scoring"),
        (trials["finished_utc"].max().timestamp(), "end and table"),
    ]
    begun.sort()
    found: dict[str, float] = {}
    for (since_s, name), (until_s, _) in zip(begun, [*begun[1:], (printed_s, "")], strict=True):
        found[name] = found.get(name, 0.0) + until_s - since_s
    return found | {"whole": printed_s - started_s}


def _marks() -> Any:
    from raynas.core.progress import Progress

    class Marks(Progress):
        """Notes when what a run says it does has begun."""

        def __init__(self) -> None:
            self.begun: list[tuple[float, str]] = []

        def phase(self, text: str) -> None:
            self.begun.append((time.time(), text))

        def trained(self, row: Any, epochs: int) -> None:
            self.begun.append((time.time() - row["duration_s"], "epochs"))

    return Marks()


def bare() -> dict[str, float]:
    """Do the same with PyTorch alone, and return the seconds of the whole."""
    import torch
    from sklearn.datasets import load_digits
    from torch import nn
    from torch.nn import functional

    class Supernet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = [nn.BatchNorm2d(16) for _ in range(3)]
            self.convs = nn.ModuleList(
                nn.Sequential(nn.Conv2d(1, 16, k, padding=k // 2), norm)
                for k, norm in zip((3, 5, 7), self.norms, strict=True)
            )
            self.acts = nn.ModuleList([nn.ReLU(), nn.SiLU()])
            self.head = nn.Linear(16, 10)
            self.path = (0, 0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            conv, act = self.convs[self.path[0]], self.acts[self.path[1]]
            logits: torch.Tensor = self.head(act(conv(x)).amax((2, 3)))
            return logits

    rng = torch.Generator().manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None]
    images = functional.interpolate((images - images.mean()) / images.std(), (SIZE, SIZE))
    classes, order = torch.tensor(digits.target), torch.randperm(len(images), generator=rng)
    train, valid = order[:TRAIN], order[TRAIN : TRAIN + VALID]
    net = Supernet()
    optimizer = torch.optim.SGD(net.parameters(), 0.05, 0.9, weight_decay=4e-5, nesterov=True)
    steps = EPOCHS * (TRAIN // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def sampled() -> tuple[int, int]:
        return int(torch.randint(3, (), generator=rng)), int(torch.randint(2, (), generator=rng))

    def batches() -> Iterator[torch.Tensor]:
        return iter(train[torch.randperm(TRAIN, generator=rng)].split(BATCH)[: TRAIN // BATCH])

    def augmented(x: torch.Tensor) -> torch.Tensor:
        padded = functional.pad(x, [1] * 4)
        moves = torch.randint(3, (len(x), 2), generator=rng).tolist()
        return torch.stack(
            [one[:, i : i + SIZE, j : j + SIZE] for one, (i, j) in zip(padded, moves, strict=True)]
        )

    @torch.no_grad()
    def scored(path: tuple[int, int]) -> tuple[float, float]:
        net.path = path
        norm = net.norms[path[0]]
        kept = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
        norm.reset_running_stats()
        norm.momentum = 1.0
        net.train()(images[train[:CALIBRATION]])
        logits = net.eval()(images[valid])
        norm.momentum = 0.1
        norm.load_state_dict(kept)
        right = (logits.argmax(1) == classes[valid]).float().mean()
        return float(right), float(functional.cross_entropy(logits, classes[valid]))

    for _ in range(EPOCHS):
        net.train()
        for batch in batches():
            net.path = sampled()
            out = net(augmented(images[batch]))
            loss = functional.cross_entropy(out, classes[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            schedule.step()
        for _ in range(PROBES):
            scored(sampled())
    table = [(*scored((conv, act)), conv, act) for conv in range(3) for act in range(2)]
    for row in sorted(table, reverse=True)[:3]:
        print(*row)
    return {"whole": time.time() - float(os.environ[STARTED])}


if __name__ == "__main__":
    main()
