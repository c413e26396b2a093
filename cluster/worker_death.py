"""How a worker process of a search ended, as its record and Ray say."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.experimental import internal_kv
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raynas.cluster.worker_record import AT, DESCRIPTORS, EXIT, MEMORY, SIGNAL, WORN

READ_S = 20.0  # in which another node has to show a file
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
        return WorkerDeath(why=said.strip().splitlines()[-1], brief="an error")
    about = internal_kv._internal_kv_get(place + (actor[1] or actor[2])) if actor else None
    if about is None:
        why, brief = _by_ray(said)
        return WorkerDeath(why=why, brief=brief)
    node, pid, file = (json.loads(about)[name] for name in ("node", "pid", "file"))
    alive = any(each["NodeID"] == node and each["Alive"] for each in ray.nodes())
    text = _read(file, node) if alive else None
    if text is None:
        return WorkerDeath(why="its node was lost", brief="node lost", pid=pid, node_lost=True)
    return _by_record(text, said, pid)


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


def _read(file: str, node: str) -> str | None:
    """Return a file of a node; None if the node does not answer."""
    if node == ray.get_runtime_context().get_node_id():
        return _text(file)
    near = NodeAffinitySchedulingStrategy(node, soft=False)
    remote: Any = ray.remote(_text)
    read = remote.options(num_cpus=0, max_retries=0, scheduling_strategy=near)
    with suppress(RayError):
        return str(ray.get(read.remote(file), timeout=READ_S))
    return None


def _text(file: str) -> str:
    with suppress(OSError):
        return Path(file).read_text(errors="replace")
    return ""
