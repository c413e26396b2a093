"""Machines for tests of clusters: namespaces of one real machine, joined by a switch.

Each has a network address, processes, a home and a temporary folder of its own, as machines have;
what is installed outside of homes is the same on all. When the test's process ends, they do.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NETWORK = "10.97.0"
TOOLS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ip": "iproute2",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
}
NAMESPACES = ["--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child"]
DIES_WITH_THE_TEST = ["setpriv", "--pdeathsig", "KILL"]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def require_machines() -> None:
    """Skip the test, and say why, where no such machines can be made."""
    missing = {package for tool, package in TOOLS.items() if not shutil.which(tool, path=PATH)}
    if missing:
        pytest.skip(f"no machines of a test's own: install {', '.join(sorted(missing))}")
    bridge = "ip link add switch type bridge"
    tried = subprocess.run(
        [
            "unshare",
            *NAMESPACES,
            "--mount-proc",
            "sh",
            "-c",
            f"mount -t tmpfs none /mnt && {bridge}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        pytest.skip(f"no namespaces here, so no machines of a test's own: {tried.stderr.strip()}")


class Machine:
    """One of several on a network.

    Attributes:
        name: its host name.
        address: on the network.
        home: of its only user, root.
    """

    def __init__(self, folder: Path, switch: int, name: str, number: int) -> None:
        self.name, self.address = name, f"{NETWORK}.{number}"
        self.home, self._port = folder / name, f"port{number}"
        self._switch = switch
        (temporary := folder / "tmp" / name).mkdir(parents=True)
        self.home.mkdir()
        passwd = folder / f"passwd-{name}"
        root, _, others = Path("/etc/passwd").read_text(encoding="utf-8").partition("\n")
        assert root.startswith("root:")
        passwd.write_text(f"root:x:0:0::{self.home}:/bin/bash\n{others}", encoding="utf-8")
        begin = f"""
            set -e
            mount --make-rprivate /
            mount --bind {temporary} /tmp
            mount --bind {passwd} /etc/passwd
            mount -t tmpfs none /run && mkdir /run/sshd
            hostname {name}
            echo begun
            sleep infinity &
            wait  # as the first process does, of all that have lost their parents
        """
        command = [*DIES_WITH_THE_TEST, *_entered(switch, "--net"), "unshare", *NAMESPACES]
        self._holder = subprocess.Popen(
            [*command, "--mount-proc", "bash", "-c", begin], stdout=subprocess.PIPE, text=True
        )
        _wait_for(self._holder)
        self._pid = _child(self._holder.pid)
        self._plug_in()

    def _plug_in(self) -> None:
        own, peer = f"netns {self._pid}", self._port
        for words in (
            f"ip link add {peer} type veth peer name eth0 {own}",
            f"ip link set {peer} master switch up",
        ):
            subprocess.run(_entered(self._switch, "--net") + words.split(), check=True)
        for words in (
            "ip link set lo up",
            f"ip addr add {self.address}/24 dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {NETWORK}.254",
        ):
            subprocess.run(_entered(self._pid, "--net") + words.split(), check=True)

    def command(self, *words: str, **environment: str) -> list[str]:
        """Return a command that runs ``words`` here, with an environment of nothing else."""
        given = {"HOME": str(self.home), "PATH": PATH, "TERM": "dumb", "LANG": "C.UTF-8"}
        given |= environment
        variables = [f"{name}={value}" for name, value in given.items()]
        enter = _entered(self._pid, "--net", "--uts", "--ipc", "--mount", "--pid")
        return [*enter, "env", "-i", f"--chdir={self.home}", *variables, *words]

    def run(self, *words: str, **environment: str) -> str:
        """Run a command here, and return what it says."""
        done = subprocess.run(
            self.command(*words, **environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}"
        return done.stdout

    def processes(self) -> list[str]:
        """Return the names of all processes but those that make the machine."""
        lines = [
            line.split(maxsplit=1) for line in self.run("ps", "-eo", "pid=,comm=").splitlines()
        ]
        own = {"sleep", "sshd", "ps", "env"}
        return [name for pid, name in lines if pid != "1" and name not in own]

    def serve_ssh(self, public_key: str) -> None:
        """Let whoever has the key in, by SSH."""
        (ssh := self.home / ".ssh").mkdir(mode=0o700)
        (ssh / "authorized_keys").write_text(public_key, encoding="utf-8")
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(ssh / "host"))
        options = {
            "HostKey": ssh / "host",
            "AuthorizedKeysFile": ssh / "authorized_keys",
            "PermitRootLogin": "yes",
            "StrictModes": "no",
            "UsePAM": "no",
        }
        said = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        self.run("/usr/sbin/sshd", "-f", "/dev/null", *said)

    def connect(self, plugged_in: bool) -> None:
        """Pull the network cable, or plug it in again."""
        state = "up" if plugged_in else "down"
        enter = _entered(self._switch, "--net")
        subprocess.run([*enter, "ip", "link", "set", self._port, state], check=True)

    def end(self) -> None:
        """End every process here."""
        self._holder.kill()
        self._holder.wait()


@contextmanager
def machines(*names: str) -> Iterator[list[Machine]]:
    """Make machines of these names on one network, and end them afterwards."""
    begin = f"""
        set -e
        ip link add switch type bridge
        ip addr add {NETWORK}.254/24 dev switch
        ip link set switch up
        echo begun
        exec sleep infinity
    """
    holder = subprocess.Popen(
        [*DIES_WITH_THE_TEST, "unshare", "--net", "bash", "-c", begin],
        stdout=subprocess.PIPE,
        text=True,
    )
    # short, for the sockets of Ray; not in /tmp, where every machine has its own
    folder = Path(tempfile.mkdtemp(prefix="machines-", dir="/var/tmp"))
    begun: list[Machine] = []
    try:
        _wait_for(holder)
        for number, name in enumerate(names, start=1):
            begun.append(Machine(folder, holder.pid, name, number))
        yield begun
    finally:
        for machine in begun:
            machine.end()
        holder.kill()
        holder.wait()
        shutil.rmtree(folder)


def _wait_for(holder: subprocess.Popen[str]) -> None:
    assert holder.stdout is not None
    with holder.stdout as said:
        assert said.readline() == "begun\n"


def _entered(pid: int, *namespaces: str) -> list[str]:
    return ["nsenter", "--target", str(pid), *namespaces]


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
