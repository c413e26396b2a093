"""A damaged file of a run gives the numbers of before, or is refused by its name: never others."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import raynas
from raynas.core.arch import Arch
from raynas.core.digests import DIGESTS
from raynas.core.errors import InvalidArch
from raynas.core.fixed import read_arch
from raynas.core.goals import goals_of
from raynas.core.study import Asked
from raynas.costs.latency_files import from_json, to_json
from raynas.evaluators.kept_weights import KeptWeights, kept_weights
from raynas.results.report_data import write_tested
from raynas.storage.json_files import read_text, write_text
from raynas.storage.pending import read_pending, write_pending
from raynas.storage.run_folder import Folder
from raynas.storage.sealed import is_intact
from raynas.supernet.checkpoint import (
    load_about,
    load_attributes,
    load_state,
    load_weights,
    save_checkpoint,
)
from tests.runs_on_disk import SPACE, all_trials, gradient_history, write_run

ARCH = Arch({"layer1/op": "conv", "layer2/op": "pool", "layer2/depth": 4})
LATENCIES = [
    {"layer": "layer1/op", "candidate": "conv", "latency_ms": 1.25},
    {"layer": "layer2/op", "candidate": "pool", "latency_ms": 0.5},
]


def run_is(folder: Path) -> object:
    """Return what a result answers, each number exactly."""
    result = raynas.load(str(folder))
    tables = (result.trials, result.history, result.top(5), result.pareto())
    named = result.report_data
    kept = (named.tested, named.retrained)
    return result.best.arch, result.config, kept, *(table.to_csv() for table in tables)


def checkpoint_is(folder: Path) -> object:
    """Return what is read of a checkpoint."""
    read = (load_weights(folder), load_attributes(folder), load_state(folder), load_about(folder))
    return repr(read)


def best_is(folder: Path) -> object:
    """Return the architecture that a file holds."""
    return dict(read_arch(SPACE, folder / "best.json"))


def pending_is(folder: Path) -> object:
    """Return what was asked."""
    return read_pending(Folder(str(folder)))


def latencies_are(folder: Path) -> object:
    """Return a run's table of latencies."""
    return from_json(read_text(Folder(str(folder)), "latency_cpu.json"), SPACE)


def kept_are(folder: Path) -> object:
    """Return the weights of the best."""
    return repr(kept_weights(str(folder), ARCH))


def write_small_run(folder: Path) -> None:
    """Write a run with all that its result reads."""
    result = write_run(folder, all_trials(), history=gradient_history())
    rows = {result.best.arch.key: {"test_accuracy": 0.5}}
    write_tested(Folder(str(folder)), len(result.history), rows)


def write_checkpoint(folder: Path) -> None:
    """Write a checkpoint with something in each of its files."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    state, about = {"epoch": 3, "rng": torch.arange(5)}, {"epoch": 3, "seed": 7, "found": []}
    save_checkpoint(folder, net, state, about, {"0.temperature": 0.25})


def write_kept(folder: Path) -> None:
    """Write the weights of a best architecture."""
    kept = KeptWeights(str(folder), goals_of({"accuracy": "max"}))
    weights = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.ones(())}
    kept.offer(ARCH, {"accuracy": 0.5}, weights, seed=0)


def write_asked(folder: Path) -> None:
    """Write two proposals."""
    write_pending(Folder(str(folder)), [Asked(0, ARCH, 0), Asked(1, ARCH, 1)])


KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], object]]] = {
    "run": (write_small_run, run_is),
    "checkpoint": (write_checkpoint, checkpoint_is),
    "best": (
        lambda folder: write_text(
            Folder(str(folder)), "best.json", json.dumps(dict(ARCH), indent=2)
        ),
        best_is,
    ),
    "asked": (write_asked, pending_is),
    "latencies": (
        lambda folder: write_text(
            Folder(str(folder)),
            "latency_cpu.json",
            to_json(from_json(json.dumps(LATENCIES), SPACE)),
        ),
        latencies_are,
    ),
    "kept": (write_kept, kept_are),
}


def damages(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield a file cut at its ends and within, and with single bits flipped all over it."""
    draw = random.Random(seed)
    yield b""
    yield data[:1]
    yield data[:-1]
    yield data[: len(data) // 2]
    yield data + b"\0"
    for _ in range(count):
        at = draw.randrange(len(data) * 8)
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        yield bytes(flipped)
    for _ in range(count // 10):
        at = draw.randrange(len(data))
        yield data[:at]
        yield data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]  # a block of zeros


def check(kind: str, place: Path, count: int) -> None:
    """Damage every file of a kind of folder, and read it."""
    write, read = KINDS[kind]
    place.mkdir()
    write(place)
    before = read(place)
    files = sorted(file for file in place.rglob("*") if file.is_file())
    refused = 0
    for number, file in enumerate(files):
        whole = file.read_bytes()
        for damaged in damages(whole, count, number):
            file.write_bytes(damaged)
            try:
                now = read(place)
            except (ValueError, LookupError, OSError) as error:
                sentence = str(error)
                assert file.name in sentence, f"{file.name} is not named: {sentence}"
                assert "\n" not in sentence.strip() or kind == "best", sentence
                refused += 1
            else:
                assert now == before, f"{file.name}: other numbers"
        file.write_bytes(whole)
    assert refused > len(files)
    assert read(place) == before


@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_becomes_a_number(kind: str, tmp_path: Path) -> None:
    check(kind, tmp_path / kind, 10 if kind == "run" else 60)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_of_many_becomes_a_number(kind: str, tmp_path: Path) -> None:
    check(kind, tmp_path / kind, 600)


def test_every_bit_of_a_part_is_covered(tmp_path: Path) -> None:
    write_run(tmp_path, all_trials()[:2])
    (part,) = (tmp_path / "trials").iterdir()
    whole = part.read_bytes()
    assert is_intact(whole)
    tag = range(whole.index(b"\0raynas.digest\0"), whole.index(b"\0raynas.digest\0") + 15)
    for at in (at for at in range(len(whole)) if at not in tag):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        assert not is_intact(bytes(flipped)), at


def test_a_file_that_its_user_has_edited_says_what_to_do(tmp_path: Path) -> None:
    """Digests are for damage: who edits a file takes its digest out, and is believed."""
    write_run(tmp_path, all_trials())
    fields = json.loads((tmp_path / "run.json").read_text())
    fields["seed"] = 8
    (tmp_path / "run.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=r"run\.json is not .*damaged, or edited .*'digest' out"):
        raynas.load(str(tmp_path))
    del fields["digest"]
    (tmp_path / "run.json").write_text(json.dumps(fields))
    assert raynas.load(str(tmp_path)).config.seed == 8
    write_text(Folder(str(tmp_path)), "best.json", json.dumps(dict(ARCH)))
    (tmp_path / "best.json").write_text(json.dumps({**ARCH, "layer2/depth": 2}))
    with pytest.raises(InvalidArch, match=rf"best\.json is damaged.* out of {DIGESTS}"):
        read_arch(SPACE, tmp_path / "best.json")
    (tmp_path / DIGESTS).unlink()
    assert read_arch(SPACE, tmp_path / "best.json")["layer2/depth"] == 2


def test_what_is_written_again_has_the_digest_of_now(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    for text in ("{}", '{"a": 1}', '{"a": 1}', "[]"):
        write_text(folder, "best.json", text)
        assert read_text(folder, "best.json") == text


def test_files_without_digests_are_those_of_earlier_releases(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    before = checkpoint_is(tmp_path)
    (tmp_path / DIGESTS).unlink()
    assert checkpoint_is(tmp_path) == before
    old = Path(__file__).parent / "fixtures" / "runs_0_1" / "one_shot"
    shutil.copytree(old, tmp_path / "old")
    for file in (tmp_path / "old").rglob("*.parquet"):
        for damaged in damages(file.read_bytes(), 20, 0):
            assert is_intact(damaged)  # Arrow's own checks are all that there are
