"""A cluster of three machines, from ``ray up`` to ``ray down``, as docs/cluster.md has it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

import raynas
from tests.machines import Machine, machines, require_machines

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("ray")]

ROOT = Path(__file__).parent.parent
ENVIRONMENT = Path(sys.prefix)
RAY = str(ENVIRONMENT / "bin" / "ray")
CLUSTER = "cluster/local.yaml"
SEARCH = ["mlp", "--algo", "random", "--data", "digits", "--epochs", "1", "--trials", "6"]
TRIALS = 40
JOB = f"""
import time
import raynas

def slow(arch):
    time.sleep(1.0)
    return float(arch["x"])

if __name__ == "__main__":
    space = raynas.ArchSpace.of(x=list(range(1000)))
    ray = {{"batch": 1}}
    raynas.search(space, "random", evaluator=slow, trials={TRIALS}, out="~/runs/job", ray=ray)
"""
# The machines share the cores and the memory of one, and reach no package registry.
SMALL = "--num-cpus=1 --object-store-memory=100000000 --disable-usage-stats"
PREPARED = """
export PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=false OMP_NUM_THREADS=1
export RAY_raylet_start_wait_time_s=300
"""


@pytest.fixture(scope="module")
def network() -> Iterator[list[Machine]]:
    """A laptop with a checkout and a key, and three machines that let its key in."""
    require_machines()
    with machines("laptop", "head", "one", "two") as (laptop, *nodes):
        key = laptop.home / ".ssh" / "id_ed25519"
        key.parent.mkdir()
        laptop.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        for node in nodes:
            node.serve_ssh(key.with_suffix(".pub").read_text(encoding="utf-8"))
            prepare(node, shared=laptop.home.parent / "shared")
        check_out(laptop, nodes)
        yield [laptop, *nodes]


def prepare(node: Machine, shared: Path) -> None:
    """Give a machine what it had before: a shared folder, and the packages that raynas needs.

    Its environment sees those of this one, save raynas, which is installed by an editable link.
    """
    shared.mkdir(exist_ok=True)
    (node.home / "runs").symlink_to(shared)
    (node.home / ".bashrc").write_text(PREPARED, encoding="utf-8")
    environment = node.home / "raynas-env"
    node.run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    (site,) = environment.glob("lib/python3.*/site-packages")
    packages = ENVIRONMENT / site.relative_to(environment)
    (site / "shared.pth").write_text(f"{packages}\n", encoding="utf-8")
    script = Path(RAY).read_text(encoding="utf-8").splitlines()
    (ray := environment / "bin" / "ray").write_text(
        "\n".join([f"#!{environment}/bin/python", *script[1:]]), encoding="utf-8"
    )
    ray.chmod(0o755)


def check_out(laptop: Machine, nodes: list[Machine]) -> None:
    """Copy the project's files to the laptop, and fill in the cluster file as its reader does."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).exists():
            (to := laptop.home / "raynas" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to, follow_symlinks=False)
    file = laptop.home / "raynas" / CLUSTER
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    head, *workers = (node.address for node in nodes)
    config["provider"] |= {"head_ip": head, "worker_ips": workers}
    config["auth"]["ssh_user"] = "root"
    for role in "head", "worker":
        *before, start = config[f"{role}_start_ray_commands"]
        config[f"{role}_start_ray_commands"] = [*before, f"{start} {SMALL}"]
    file.write_text(yaml.safe_dump(config), encoding="utf-8")


def on(laptop: Machine, *words: str) -> str:
    """Run a command in the laptop's checkout."""
    return laptop.run("env", f"--chdir={laptop.home}/raynas", *words, RAY_AUTH_MODE="token")


def test_a_search_from_ray_up_to_ray_down(network: list[Machine]) -> None:
    laptop, *nodes = network
    on(laptop, RAY, "get-auth-token", "--generate")
    on(laptop, RAY, "up", "-y", CLUSTER)
    wait_for_nodes(laptop, nodes)
    assert all(node.processes().count("raylet") == 1 for node in nodes)

    on(laptop, RAY, "submit", CLUSTER, "run.py", "--", *SEARCH, "--out", "runs/submitted")
    (laptop.home / "raynas" / "job.py").write_text(JOB, encoding="utf-8")
    with tunnel(laptop) as address:
        submit = ["job", "submit", "--address", address, "--working-dir", "."]
        on(laptop, RAY, *submit, "--", "python", "job.py")

    on(laptop, RAY, "rsync-down", CLUSTER, "~/runs/", "runs/")
    for folder, count in ("submitted", 6), ("job", TRIALS):
        trials = raynas.load(str(laptop.home / "raynas" / "runs" / folder)).trials
        assert len(trials) == count
        assert trials["error"].isna().all()
        assert set(trials["node"]) <= {node.name for node in nodes}
    assert set(trials["node"]) == {node.name for node in nodes}

    on(laptop, RAY, "down", "-y", CLUSTER)
    for worker in nodes[1:]:  # the launcher's local provider stops the head alone
        worker.run(f"{worker.home}/raynas-env/bin/ray", "stop")
    assert left(nodes) == [[], [], []]


def left(nodes: list[Machine], within_s: float = 300.0) -> list[list[str]]:
    """Return what runs on the machines yet, when nothing does or some time is over."""
    deadline = time.monotonic() + within_s
    while any(running := [node.processes() for node in nodes]) and time.monotonic() < deadline:
        time.sleep(2)
    return running


@contextmanager
def tunnel(laptop: Machine) -> Iterator[str]:
    """Reach the cluster's job server, which listens on the head alone, through SSH."""
    command = laptop.command(RAY, "dashboard", f"raynas/{CLUSTER}")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = "http://127.0.0.1:8265"
    ask = ["curl", "--silent", "--retry", "60", "--retry-connrefused", "--retry-delay", "1"]
    try:
        laptop.run(*ask, address)
        yield address
    finally:
        laptop.run("pkill", "-f", "ray dashboard|:8265")
        process.wait()


def wait_for_nodes(laptop: Machine, nodes: list[Machine], within_s: float = 900.0) -> None:
    """Return when all have joined: the head sets up the others after ``ray up`` has returned."""
    deadline = time.monotonic() + within_s
    count = "import ray; ray.init(log_to_driver=False); print('nodes:', len(ray.nodes()))"
    while f"nodes: {len(nodes)}" not in (
        text := on(laptop, RAY, "exec", CLUSTER, f'python -c "{count}"')
    ):
        assert time.monotonic() < deadline, text
        time.sleep(2)
