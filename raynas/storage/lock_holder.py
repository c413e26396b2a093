"""Who writes to a folder, as its lock says to those who find it taken."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """A process that writes to a folder.

    Attributes:
        what: it does there, such as ``search``.
        pid: of the process.
        host: name of its machine.
        machine: tells machines and containers apart, whose names and pids may be the same; empty
            where the system does not say.
        began: when the process did, as its system counts; empty likewise.
    """

    what: str
    pid: int
    host: str
    machine: str = ""
    began: str = ""

    @classmethod
    def here(cls, what: str) -> Holder:
        """Return this process."""
        pid = os.getpid()
        return cls(what, pid, platform.node(), _machine(), _began(pid))

    @classmethod
    def read(cls, text: str) -> Holder | None:
        """Return whom ``to_json`` wrote; None where the text says nobody."""
        try:
            said = json.loads(text)
            texts = (str(said.get(name, "")) for name in ("host", "machine", "began"))
            return cls(str(said["what"]), int(said["pid"]), *texts)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def to_json(self) -> str:
        """Return it as a lock holds it."""
        return json.dumps(asdict(self))

    @property
    def lives(self) -> bool | None:
        """Whether the process is there; None where this machine cannot know."""
        if not self.machine or self.machine != _machine():
            return None
        return bool(self.began) and _began(self.pid) == self.began


def in_use(folder: str, holder: Holder | None) -> str:
    """Return what is said to who finds a folder taken.

    Args:
        folder: path or URI.
        holder: None where it is not known.
    """
    who = "another process"
    if holder is not None:
        who += f" ({holder.what}, pid {holder.pid} on {holder.host})"
    return (
        f"{folder} is being written to by {who}: wait for its end, stop it, or choose another "
        "folder (out=, --out)"
    )


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """Return when a process began; nothing if there is none, or one that has ended unreaped."""
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state in "ZX" else others[18]
