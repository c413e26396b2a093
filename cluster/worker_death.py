"""How a worker process of a search ended, as its record and Ray say."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ray.experimental import internal_kv

from raynas.cluster.nodes import asked_on
from raynas.cluster.worker_record import AT, DESCRIPTORS, EXIT, MEMORY, SIGNAL, WORN

FATAL = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Floating point exception": "SIGFPE",
    "Bus error": "SIGBUS",
    "Illegal instruction": "SIGILL",
}
# two of Ray's exceptions; the second comes while Ray has not yet noticed that a node is gone
ACTOR = re.compile(
    r"^\s*actor_id: ([0-9a-f]+)$|^The actor ([0-9a-f]+) is unavailable", re.MULTILINE
)
RANK_LOST = "a training process was lost"  # what a process that ordered a training ends with
NODE_LOST = "a node of its training processes was lost"
KILLED = "the process was ended by SIGKILL, perhaps for want of memory"


@dataclass(frozen=True, kw_only=True)
class WorkerDeath:
    """How a process ended.

    Attributes:
        why: a sentence.
        brief: a word or two, such as the name of a signal.
        pid: of the process; None if it never ran.
        traceback: where Python was then; None if unknown.
        node_lost: whether its whole node went.
        over_memory: what was evaluated, if it alone took more memory than it may.
    """

    why: str
    brief: str
    pid: int | None = None
    traceback: str | None = None
    node_lost: bool = False
    over_memory: str | None = None


def death_of(said: str, place: str) -> WorkerDeath:
    """Return how the process of a failed Tune trial ended.

    Args:
        said: by Ray of the trial; empty if it says nothing.
        place: where records are (``WorkerRecords.place``).
    """
    actor = ACTOR.search(said)
    if actor is None and "ray::" in said:  # a traceback of a process that lives
        return _by_error(said.strip().splitlines()[-1])
    about = internal_kv._internal_kv_get(place + (actor[1] or actor[2])) if actor else None
    if about is None:
        why, brief = _by_ray(said)
        return WorkerDeath(why=why, brief=brief)
    node, pid, file = (json.loads(about)[name] for name in ("node", "pid", "file"))
    text = asked_on(node, _text, file)
    if text is None:
        return WorkerDeath(why="its node was lost", brief="node lost", pid=pid, node_lost=True)
    return _by_record(text, said, pid)


def _by_error(why: str) -> WorkerDeath:
    """Return what the last line of a traceback says, whose process lives."""
    if NODE_LOST in why:
        return WorkerDeath(why=NODE_LOST, brief="node lost", node_lost=True)
    return WorkerDeath(why=why, brief="a training process" if RANK_LOST in why else "an error")


def _by_record(text: str, said: str, pid: int) -> WorkerDeath:
    """Return what a record says, or Ray where that says nothing."""
    lines = text.splitlines()
    noted = {word: value for word, _, value in (line.partition(" ") for line in lines)}
    for reason, name in FATAL.items():
        if f"Fatal Python error: {reason}" in lines:
            trace = text[text.index("Fatal Python error") :].partition("\nExtension modules:")[0]
            place = re.search(r"line (\d+) in (\S+)", trace)
            where = f" (in {place[2]}, line {place[1]})" if place else ""
            why = f"the process was ended by {name}{where}"
            return WorkerDeath(why=why, brief=name, pid=pid, traceback=trace)
    if MEMORY in noted:
        why = "the process took more memory than an evaluation may"
        over = None if WORN in noted else noted.get(AT)
        return WorkerDeath(why=why, brief="memory", pid=pid, over_memory=over)
    if DESCRIPTORS in noted:
        why = "the process had no file descriptors left"
        return WorkerDeath(why=why, brief="file descriptors", pid=pid)
    if SIGNAL in noted:
        name = noted[SIGNAL]
        return WorkerDeath(why=f"the process was ended by {name}", brief=name, pid=pid)
    if EXIT in noted:
        why = f"the process ended itself with exit code {noted[EXIT]}"
        return WorkerDeath(why=why, brief=f"exit code {noted[EXIT]}", pid=pid)
    why, brief = _by_ray(said)
    return WorkerDeath(why=why, brief=brief, pid=pid)


def _by_ray(said: str) -> tuple[str, str]:
    """Return what Ray's own text gives away."""
    if "low on memory" in said:
        return "Ray ended the process, since its node ran out of memory", "no memory left"
    if code := re.search(r"exit code (-?\d+)", said):
        return f"the process ended with exit code {code[1]}", f"exit code {code[1]}"
    return KILLED, "SIGKILL"


def _text(file: str) -> str:
    with suppress(OSError):
        return Path(file).read_text(errors="replace")
    return ""
