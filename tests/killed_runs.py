"""Runs that are killed at chosen changes of their folder, and what they come to when they go on.

A program: ``python -m tests.killed_runs FOLDER NAME:FIRST:STEP ...`` with ``fixtures/kill_at.c``
loaded before everything else. Every life is a fork of this process, which has imported all that the
undisturbed life did; it prints a line of JSON for every scenario.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import shutil
import sys
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import torch

import raynas
from raynas.data.module import DataModule, Splits
from raynas.storage.tables import read_history, read_trials
from raynas.supernet import job, network_job
from raynas.supernet.checkpoint import find_checkpoint, load_weights
from tests.toynet import ToyNet

KILLED = -9
SOON = 12  # changes, while which a run that goes on tidies up and begins
SPACE = raynas.ArchSpace.of(depth=[2, 3, 4, 5], width=[16, 32, 64])
TIMES = ["started_utc", "finished_utc", "duration_s", "node", "worker"]
INLINE: dict[str, Any] = {"inline": True}
LIBRARY = ctypes.CDLL(None)


class Few(DataModule):
    """128 images to train on and 32 to validate: a life takes half a second."""

    name, input_shape, num_classes, batch_size = "few", (1, 8, 8), 10, 32

    def load(self) -> Splits:
        """Return the splits."""
        images = torch.randn(192, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        classes = torch.arange(192) % 10
        parts = zip(images.split([128, 32, 32]), classes.split([128, 32, 32]), strict=True)
        return Splits(*parts)


def same(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows without what differs from run to run."""
    kept = frame.drop(columns=[name for name in TIMES if name in frame.columns])
    rows: list[dict[str, Any]] = json.loads(kept.to_json(orient="records", double_precision=12))
    return rows


def told(out: Path) -> list[dict[str, Any]]:
    """Return the rows of a table of trials, none of which stands there twice."""
    frame = read_trials(str(out)).to_pandas()
    assert frame["trial"].is_unique
    plain = pd.concat([pd.read_parquet(part) for part in out.glob("trials/part-*.parquet")])
    assert sorted(plain["trial"]) == sorted(frame["trial"])
    return same(frame)


def epochs(out: Path) -> list[dict[str, Any]]:
    """Return the rows of the history, one an epoch."""
    frame = read_history(str(out)).to_pandas()
    assert frame["epoch"].is_unique
    return same(frame)


def sums(state: dict[str, Any]) -> dict[str, float]:
    """Return a number for the weights of every layer."""
    return {name: float(tensor.double().sum()) for name, tensor in state.items()}


def left(out: Path) -> list[str]:
    """Return what lies in a folder, but for what only comes of a kill and is swept later."""
    return sorted(file.name for file in out.iterdir() if not file.name.startswith("."))


def score(arch: raynas.Arch, place: Path) -> float:
    """Return a score, and note that it was asked for."""
    with (place / "evaluated.txt").open("a") as file:
        file.write(f"{arch.key}\n")
    return float(arch["depth"]) * float(arch["width"])  # type: ignore[arg-type]


# --- scenarios: each goes on with what is in its folder, and says what that holds -----------------


def search(place: Path) -> None:
    """Search with an evaluator that returns weights as well."""

    def evaluate(arch: raynas.Arch) -> Any:
        weights = {"w": torch.full((3,), float(arch["depth"]))}  # type: ignore[arg-type]
        return {"accuracy": score(arch, place)}, weights

    out, options = str(place / "run"), {"population": 3, "tournament": 2}
    raynas.search(
        SPACE,
        "regularized_evolution",
        evaluator=evaluate,
        trials=6,
        out=out,
        resume=True,
        ray=INLINE,
        options=options,
    )


def search_outcome(place: Path) -> Any:
    """Return table, best architecture and files of a search."""
    out = place / "run"
    return [told(out), (out / "best.json").read_text(), left(out), left(out / "weights")]


def ask_tell(place: Path) -> None:
    """Ask two at a time, and tell."""
    run = raynas.ask_tell(SPACE, "regularized_evolution", out=str(place / "run"), trials=6, seed=1)
    while not run.done:
        for proposal in run.pending() or run.ask(2):
            run.tell(proposal, score(proposal.arch, place))


def ask_tell_outcome(place: Path) -> Any:
    """Return table, best architecture and files."""
    out = place / "run"
    return [told(out), (out / "best.json").read_text(), left(out)]


def always_due(module: ModuleType) -> None:
    """Have a training save a checkpoint after every epoch; it is this process's alone."""
    assert vars(module)["CHECKPOINT_S"] > 0.0
    vars(module)["CHECKPOINT_S"] = 0.0


def supernet(place: Path) -> None:
    """Train two supernets one after the other, with a checkpoint for every epoch, and search."""
    always_due(job)
    phases = [{"algo": "spos", "epochs": 2}, {"algo": "spos", "epochs": 1}]
    raynas.search(
        ToyNet,
        "random",
        supernet=phases,
        data=Few(),
        trials=3,
        out=str(place / "run"),
        resume=True,
        ray=INLINE,
    )


def supernet_outcome(place: Path) -> Any:
    """Return history, weights, table and files."""
    out = place / "run"
    weights = sums(load_weights(find_checkpoint(out)))
    return [epochs(out), weights, told(out), (out / "best.json").read_text(), left(out)]


def retrain(place: Path) -> None:
    """Train one architecture, with a checkpoint for every epoch."""
    always_due(network_job)
    out = str(place / "run")
    arch = {"first": "k3", "second": 1, "third": 1}
    raynas.retrain(arch, space=ToyNet, data=Few(), epochs=3, out=out, resume=True, ray=INLINE)


def retrain_outcome(place: Path) -> Any:
    """Return history, weights, metrics and files."""
    out = place / "run"
    weights = sums(torch.load(out / "model.pt", weights_only=True))
    return [epochs(out), weights, (out / "metrics.json").read_text(), left(out)]


def verify(place: Path) -> None:
    """Verify a search."""
    result = raynas.load(str(place / "run"), data=Few())
    result.verify(1, 2, options={"epochs": 1}, ray=INLINE)


def verify_outcome(place: Path) -> Any:
    """Return the tables of both seeds, and the outcome."""
    out = place / "run"
    tables = [told(folder) for folder in sorted(out.glob("verify/*/seed-*"))]
    return [tables, (out / "verified.json").read_text(), left(out)]


def final(place: Path) -> None:
    """Search, and train the two best of it twice at the end."""
    raynas.search(
        ToyNet,
        "grid",
        data=Few(),
        evaluator=lambda arch: {"accuracy": len(str(dict(arch))) / 100},
        trials=3,
        final={"top": 2, "seeds": 2, "epochs": 1},
        out=str(place / "run"),
        resume=True,
        ray=INLINE,
    )


def final_outcome(place: Path) -> Any:
    """Return the tables of the search and of both seeds, the best, and the weights that it has."""
    out = place / "run"
    tables = [told(folder) for folder in (out, *sorted(out.glob("final/*/seed-*")))]
    weights = sorted(out.glob("final/*/seed-*/weights/*"))
    kept = [(str(f.relative_to(out)), left(f), sums(load_weights(f))) for f in weights]
    return [tables, (out / "best.json").read_text(), kept, left(out)]


# --- lives ----------------------------------------------------------------------------------------


class Lives:
    """The lives of one scenario.

    Args:
        name: of its functions.
        root: for its folders.

    Attributes:
        killed_again: how many runs were killed a second time; others had less to do by then.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.run, self.outcome = globals()[name], globals()[f"{name}_outcome"]
        self._root, self._begun = root, root / "begun"
        self.killed_again = 0
        if name == "verify":
            out = str(self._begun / "run")
            raynas.search(ToyNet, "gdas", data=Few(), epochs=1, trials=4, out=out, ray=INLINE)

    def place(self, name: str) -> Path:
        """Return a folder with what a scenario begins with."""
        place = self._root / name
        if self._begun.exists():
            shutil.copytree(self._begun, place)
        else:
            place.mkdir(parents=True)
        return place

    def live(self, place: Path, limit: int) -> int:
        """Run in a fork until the change of that number (0: to the end); return its exit code."""
        pid = os.fork()
        if pid == 0:
            self._child(place, limit)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _child(self, place: Path, limit: int) -> None:
        code = 1
        try:
            LIBRARY.kill_at(os.fsencode(f"{place}/run"), ctypes.c_long(limit))
            self.run(place)
            (place / "changes").write_text(str(LIBRARY.changes()))
            (place / "modules").write_text("\n".join(sys.modules))
            code = 0
        except BaseException:
            (place / "error").write_text(traceback.format_exc())
        finally:
            os._exit(code)

    def failure(self, limit: int, expected: Any) -> str | None:
        """Return what is wrong with a run that was killed, killed again, and has gone on.

        The second kill comes soon, at one of the changes by which a run that goes on begins.
        """
        place = self.place(str(limit))
        if (code := self.live(place, limit)) != KILLED:
            return f"{code} where it was to be killed"
        known = self._told(place)
        code = self.live(place, 1 + limit % SOON)
        self.killed_again += code == KILLED
        if code not in (KILLED, 0) or self.live(place, 0) != 0:
            return (place / "error").read_text()[-1500:]
        again = [key for key in known if self._evaluated(place)[key] > 1]
        if again:
            return f"evaluated again, though told: {again}"
        found = self.outcome(place)
        if found != expected:
            pairs = zip(found, expected, strict=True)
            return "; ".join(f"{a} where {b} was expected" for a, b in pairs if a != b)[:1500]
        shutil.rmtree(place)
        return None

    def _told(self, place: Path) -> list[str]:
        keys: list[str] = read_trials(str(place / "run"))["arch_key"].to_pylist()
        return keys

    def _evaluated(self, place: Path) -> Counter[str]:
        log = place / "evaluated.txt"
        return Counter(log.read_text().split() if log.exists() else [])


def main() -> None:
    """Run the scenarios that the command names."""
    torch.set_num_threads(1)
    for spec in sys.argv[2:]:
        name, first, step = spec.split(":")
        lives = Lives(name, Path(sys.argv[1], name))
        whole = lives.place("whole")
        assert lives.live(whole, 0) == 0, (whole / "error").read_text()
        for module in (whole / "modules").read_text().split():
            with suppress(ImportError):  # a name that stands for no file
                importlib.import_module(module)
        expected, changes = lives.outcome(whole), int((whole / "changes").read_text())
        limits = range(int(first), changes + 1, int(step))
        failures = {limit: lives.failure(limit, expected) for limit in limits}
        wrong = {limit: failure for limit, failure in failures.items() if failure is not None}
        counts = {"changes": changes, "kills": len(limits), "again": lives.killed_again}
        print(json.dumps({"name": name, **counts, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    LIBRARY.changes.restype = ctypes.c_long
    main()
